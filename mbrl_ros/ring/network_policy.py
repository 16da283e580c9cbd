"""A policy that is a network: without a clock, and with its target as an input.

    o = [positions and velocities of joints and tool; newest effort; target - tool],   z = (o - mean) / scale
    u = unit (A z + b + W3 tanh(W2 tanh(W1 z + b1) + b2)),   noise of covariance Sigma

The statistics of what it was trained on, mean and scale and `whiten`, travel with the weights. Whitened, an observation
is in deviations of the training data along their own axes, where redundant coordinates disagree little and a state that
cannot be told by one coordinate stands out; none of the training data was further than TRAINED of these.
It is trained in torch (trainers/network.py) and evaluated here without.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.kernels import models as kernel
from mbrl_ros.messages.fields import as_array, expect, same, sane
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

KIND = "network"  # of policy files
TRAINED = 5.0  # the largest distance of an observation that it was trained on


class View:
    """What such a policy sees of a state of the ring."""

    def __init__(self, robot: Robot):
        motion, newest = robot.slice("motion"), robot.slice("effort/1")
        self.rows = np.array([*range(motion.start, motion.stop), *range(newest.start, newest.stop)])
        self.tool, self._n = robot.slice(f"site/{robot.sites[0]}/position"), robot.n
        size = len(self.rows) + 3
        self.own = np.array([*range(2 * robot.m), *range(size - 3, size)])  # of o: joints, and the way of the tool
        self.names = (*(robot.state_names[i] for i in self.rows), *(f"target/{axis}" for axis in "xyz"))

    @property
    def size(self) -> int:
        """dim o."""
        return len(self.names)

    def __call__(self, x: Float[Array, "*b n"], target: Float[Array, "*#b 3"]) -> Float[Array, "*b k"]:
        """o in numpy, on the way of `target` (3,) [m]."""
        return np.concatenate([x[..., self.rows], target - x[..., self.tool]], -1)

    def by_state(self, by_observation: Float[Array, "*b m k"]) -> Float[Array, "*b m n"]:
        """A derivative by x from one by o, the target being where it is."""
        by_x = np.zeros((*by_observation.shape[:-1], self._n))
        by_x[..., self.rows] = by_observation[..., :-3]
        by_x[..., self.tool] -= by_observation[..., -3:]
        return by_x


class NetworkPolicy:
    """A Policy of this robot; `target` (3,) [m] is set by whoever plays it. Raises ConfigError or MessageError for
    arrays of another robot or period, of wrong shapes, or not finite."""

    horizon = None

    def __init__(self, arrays: Mapping[str, Array], robot: Robot):
        self.view, self.robot, m = View(robot), robot, robot.m
        check_names(arrays, robot)
        k, h = self.view.size, np.size(arrays["b1"])
        shapes = {"mean": (k,), "scale": (k,), "whiten": (k, k), "unit": (m,), "A": (m, k), "b": (m,), "W1": (h, k),
                  "b1": (h,), "W2": (h, h), "b2": (h,), "W3": (m, h), "Sigma": (m, m)}
        self.arrays = {name: sane(f"policy: {name}", expect(f"policy: {name}", as_array(arrays[name]), shape),
                                  largest=np.inf) for name, shape in shapes.items()}
        if not (self.arrays["scale"] > 0).all():
            raise ConfigError("policy: expected positive scales")
        self.target: Array | None = None
        a, unit = self.arrays, self.arrays["unit"][:, None]
        wide = [kernel.widened(np.ascontiguousarray(a[name][None])) for name in ("W1", "W2")]
        self._layers = ((unit * a["A"])[None], (unit[:, 0] * a["b"])[None], wide[0], a["b1"][None], wide[1],
                        a["b2"][None], (unit * a["W3"])[None])
        self._sigma = a["Sigma"] if a["Sigma"].any() else None

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], Float[Array, "m m"] | None]:
        """See Policy."""
        return kernel.ensemble(self._scaled(x), *self._layers)[0], self._sigma

    def slope(self, x: Float[Array, " n"]) -> tuple[Float[Array, " m"], Float[Array, "m n"]]:
        """The mean effort at x and its derivative, by the chain of the network."""
        u, _, J, _ = kernel.ensemble(self._scaled(x), *self._layers)
        return u, self.view.by_state(J / self.arrays["scale"])

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy; of the axis of the training data along which it is furthest."""
        return float(np.abs(self.arrays["whiten"] @ self._scaled(x)).max())

    def numbers(self) -> dict[str, Array]:
        """What a file holds."""
        return {"kind": np.array(KIND), **names_of(self.robot), **self.arrays}

    def _scaled(self, x: Array) -> Array:
        if self.target is None:
            raise ConfigError("it has no target")
        return (self.view(x, self.target) - self.arrays["mean"]) / self.arrays["scale"]


def check_names(arrays: Mapping[str, Array], robot: Robot) -> None:
    """Raises ConfigError or MessageError where a file is not for this robot; see `names_of`."""
    same("policy: observation", tuple(str(name) for name in arrays["observation"]), View(robot).names)
    same("policy: joints", tuple(str(name) for name in arrays["joint_names"]), robot.joints)
    if abs(float(arrays["period"]) - robot.period) > 1e-6 * robot.period:
        raise ConfigError(f"policy: made for a period of {float(arrays['period']):g} s; expected robot.period, "
                          f"{robot.period:g} s")


def names_of(robot: Robot) -> dict[str, Array]:
    """The entries of a file that say for whom it is."""
    return {"period": np.array(robot.period), "observation": np.array(View(robot).names),
            "joint_names": np.array(robot.joints)}
