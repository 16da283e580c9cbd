"""What the robot's effort readings are, beside what was commanded and acted, joint by joint.

    reading = acted + offset + (gain - 1) acted + weight g(q) + friction sign(qd) + noise,

least squares over the last MEMORY seconds, with g(q) the weight of the arm at q by the masses of its model file (zero
where it has none). A drive that reports a measured torque has an offset and a gain, one that compensates gravity may
report the weight it carries, one that compensates friction reports that. The learner reads none of this: it takes what
was commanded. It is for whoever has to mend a drive, and for whoever sets `estimator.effort_source` to `joint_states`,
where each of these is an error of the model. What is named is larger than FAULTY and than SURE standard errors.
"""
from __future__ import annotations

import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

MEMORY = 20.0  # [s]
WEIGHED = 0.1  # [s] after which the weight is worked out again
FEW = 5.0  # [s] of readings before anything is said about them
FAULTY = 0.01  # [effort limit] that a part of the reading must have at most, root mean square over the memory
GAIN_FAULTY = 0.04  # from 1
SURE = 5.0  # standard errors; those of regression with errors that last for a while are too small
RIDGE = np.diag([0.0, 1e-4, 1e-4, 1e-4])  # of the sums: what motion has not told apart from an offset is one
MOVING = 0.02  # [velocity limit] beyond which friction has its full size
PARTS = OFFSET, GAIN, WEIGHT, FRICTION = ("offset", "gain", "weight", "friction")


class EffortReading:
    """`update` it once a period; `faults` says what is wrong with the readings, in words."""

    def __init__(self, robot: Robot):
        self.robot = robot
        k = len(PARTS)
        self._keep = 1 - robot.period / MEMORY
        self._periods, self._every = 0, max(1, round(WEIGHED / robot.period))
        self._z = np.ones((robot.m, k + 1))  # [regressors of PARTS; error of the reading], in units of the limits
        self._sums = np.zeros((robot.m, k + 1, k + 1))  # of zz', forgotten
        self._count = 0.0  # periods, forgotten likewise

    def update(self, reported: Array, acted: Array, q: Array, qd: Array) -> None:
        """One period: the mean efforts that were reported and that acted, and where the joints are, (m,) each."""
        robot, limit, z = self.robot, self.robot.effort_limit, self._z
        if self._periods % self._every == 0:
            z[:, 2] = robot.weight(q) / limit
        self._periods += 1
        z[:, 1] = acted / limit
        z[:, 3] = np.minimum(np.maximum(qd / (MOVING * robot.velocity_limit), -1.0), 1.0)
        z[:, 4] = (reported - acted) / limit
        self._sums = self._keep * self._sums + z[:, :, None] * z[:, None, :]
        self._count = self._keep * self._count + 1.0

    def parts(self) -> tuple[Array, Array, Array]:
        """Coefficients (m, 4) of PARTS (that of the gain is its difference from 1), their standard errors, and the
        standard deviation (m,) of the noise; in units of the effort limit, but for gain and weight."""
        k, count = len(PARTS), max(self._count, 1.0)
        A = self._sums[:, :k, :k] + RIDGE
        b, yy = self._sums[:, :k, k], self._sums[:, k, k]
        inverse = np.linalg.inv(A)
        found = np.einsum("mij,mj->mi", inverse, b)
        left = np.maximum(yy - np.einsum("mi,mi->m", found, b), 0.0) / count
        error = np.sqrt(left[:, None] * np.diagonal(inverse, axis1=1, axis2=2))
        return found, error, np.sqrt(left)

    def faults(self) -> list[str]:
        """One line for each joint whose readings are not what acted; none before there are a few seconds of them."""
        if self._periods * self.robot.period < FEW:
            return []
        found, error, noise = self.parts()
        size = np.abs(found) * np.sqrt(np.diagonal(self._sums, axis1=1, axis2=2)[:, : len(PARTS)] / self._count)
        named = (size > FAULTY) & (np.abs(found) > SURE * error)
        named[:, 1] = (np.abs(found[:, 1]) > GAIN_FAULTY) & (np.abs(found[:, 1]) > SURE * error[:, 1])
        lines = []
        for j, name in enumerate(self.robot.joints):
            offset, gain, weight, friction = found[j]
            said = [text for text, is_there in zip((
                f"offset {100 * offset:.1f} % of the limit", f"gain {1 + gain:.2f}",
                f"{weight:.2f} of the weight of the links", f"friction {100 * friction:.1f} % of the limit"),
                named[j], strict=True) if is_there]
            if noise[j] > FAULTY:
                said.append(f"noise {100 * noise[j]:.1f} % of the limit")
            if said:
                lines.append(f"{name}: {', '.join(said)}")
        return lines
