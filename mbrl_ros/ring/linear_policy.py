"""The policy that is linear in the state and changes with time, for the ring to play."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import as_array, expect, same, sane
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, LinearGaussianPolicy, TimedPolicy

if TYPE_CHECKING:
    from jaxtyping import Float

KIND = "linear"


class LinearPolicy:
    """A LinearGaussianPolicy of this robot, or of what it sees, by the names of that state. Raises ConfigError or
    MessageError for one of another robot or period, for wrong shapes and for what is not finite."""

    def __init__(self, timed: TimedPolicy, robot: Robot, state_names: tuple[str, ...] | None = None):
        names = robot.state_names if state_names is None else state_names
        same("policy: state", timed.state_names, names)
        same("policy: joints", timed.joint_names, robot.joints)
        if abs(timed.period - robot.period) > 1e-6 * robot.period:
            raise ConfigError(f"policy: made for a period of {timed.period:g} s; expected robot.period, "
                              f"{robot.period:g} s")
        self.timed = timed
        p, (n, m) = timed.policy, (len(names), robot.m)
        self.horizon = T = len(p.u_hat)
        shapes = {"x_hat": (T, n), "u_hat": (T, m), "K": (T, m, n), "k": (T, m), "Sigma": (T, m, m)}
        if T == 0:
            raise ConfigError("policy: expected at least one step")
        self.policy = LinearGaussianPolicy(*(
            sane(f"policy: {name}", expect(f"policy: {name}", as_array(getattr(p, name)), shape), largest=np.inf)
            for name, shape in shapes.items()))
        spread = np.zeros((T, n)) if timed.spread is None else as_array(timed.spread)
        spread = sane("policy: spread", expect("policy: spread", spread, (T, n)))
        self._per_deviation = np.divide(1.0, spread, out=np.zeros((T, n)), where=spread > 0)  # what has none is free

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], Float[Array, "m m"] | None]:
        """See Policy."""
        p = self.policy
        return p.u_hat[step] + p.K[step] @ (x - p.x_hat[step]) + p.k[step], p.Sigma[step]

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy; of the coordinate that is furthest."""
        return float((np.abs(x - self.policy.x_hat[step]) * self._per_deviation[step]).max())


def numbers(policy: TimedPolicy) -> dict[str, Array]:
    """What a file has of it."""
    arrays = {name: as_array(value) for name, value in vars(policy.policy).items()}
    if policy.spread is not None:
        arrays["spread"] = as_array(policy.spread)
    return {"kind": np.array(KIND), "period": np.array(policy.period), "state_names": np.array(policy.state_names),
            "joint_names": np.array(policy.joint_names), **arrays}


def timed_of(arrays: Mapping[str, Array]) -> TimedPolicy:
    """The inverse of `numbers`."""
    names = [tuple(str(name) for name in arrays[key]) for key in ("state_names", "joint_names")]
    policy = LinearGaussianPolicy(*(arrays[name] for name in ("x_hat", "u_hat", "K", "k", "Sigma")))
    return TimedPolicy(policy, float(arrays["period"]), names[0], names[1], arrays.get("spread"))
