"""The mode `policy`: a policy that was made elsewhere is played from the moment the mode is entered.

What is asked of a policy is `Policy`; LinearPolicy is the one that is linear in the state and changes with time. A
policy is left, into hold, where it ends, where it fails, and where the state is not one it was made for: feedback
that was worked out near other states says nothing here.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mbrl_ros.config import ConfigError, param
from mbrl_ros.gaussian import symmetrize
from mbrl_ros.messages.fields import as_array, expect, same, sane
from mbrl_ros.models.prior import read_arrays, write_arrays
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, LinearGaussianPolicy, Plan, StateEstimate, TimedPolicy

if TYPE_CHECKING:
    from jaxtyping import Float

FORMAT = 1  # of policy files
NO_POLICY = "there is no policy to play: publish one on the topic policy, or name a file in controller.policy"


@dataclass(frozen=True)
class Config:
    """Parameters `controller.*` of the mode policy."""

    policy: str = param("", "Policy file to begin with; empty: none until one is published")
    policy_noise: float = param(0.0, "How much of a policy's own deviation is added as noise; 1: as it was made", 0.0,
                                10.0, live=True)
    policy_reach: float = param(10.0, "A policy is left where a coordinate of the state is further from those it was "
                                "made for, in the deviations that come with it", 0.1, 1e6, live=True)


class Policy(Protocol):
    """What to do at a state, `step` periods after the mode was entered."""

    @property
    def horizon(self) -> int | None: ...  # how many steps; None: without end

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], Float[Array, "m m"] | None]:
        """Mean [N m or N] and covariance of the effort at x; None where it has no noise."""

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """How far x is from the states it was made for, in deviations; 0 where it does not know."""


class LinearPolicy:
    """A LinearGaussianPolicy of this robot. Raises ConfigError or MessageError for one of another robot or period, for
    wrong shapes and for what is not finite."""

    def __init__(self, timed: TimedPolicy, robot: Robot):
        same("policy: state", timed.state_names, robot.state_names)
        same("policy: joints", timed.joint_names, robot.joints)
        if abs(timed.period - robot.period) > 1e-6 * robot.period:
            raise ConfigError(f"policy: made for a period of {timed.period:g} s; expected robot.period, "
                              f"{robot.period:g} s")
        p, (n, m) = timed.policy, (robot.n, robot.m)
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


class PolicyPlayer:
    """Plays a policy step by step; noise comes from a generator of its own, that `seed` sets."""

    def __init__(self, robot: Robot, seed: int):
        self.robot = robot
        self.policy: Policy | None = None  # to be played when the mode is entered the next time
        self._playing: Policy | None = None
        self._began = 0  # [ns]
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """From now on the same noise for the same seed."""
        self._rng = np.random.default_rng(seed)

    def start(self, state: StateEstimate) -> None:
        """Its first step is at this state."""
        self._playing, self._began = self.policy, state.time

    def refusal(self, state: StateEstimate | None, config: Config) -> str:
        """Why a policy could not be played from this state on; empty where it could."""
        if self.policy is None:
            return NO_POLICY
        try:
            return "" if state is None else _left(self.policy, state.belief.mean, 0, config)
        except Exception as error:
            return _failed(error)

    def act(self, state: StateEstimate, config: Config) -> tuple[Float[Array, " m"] | None, str]:
        """The effort, not yet clamped; or None, and why the policy is over. Raises nothing."""
        policy, x = self._playing, state.belief.mean
        step = round((state.time - self._began) * 1e-9 / self.robot.period)
        try:
            if policy is None or (policy.horizon is not None and step >= policy.horizon):
                return None, "the policy is over"
            left = _left(policy, x, step, config)
            if left:
                return None, left
            effort, Sigma = policy.act(x, step)
            if Sigma is not None and config.policy_noise > 0:
                values, vectors = np.linalg.eigh(symmetrize(Sigma))
                noise = np.sqrt(np.maximum(values, 0.0)) * self._rng.standard_normal(self.robot.m)
                effort = effort + config.policy_noise * vectors @ noise
            return sane("its effort", expect("its effort", effort, (self.robot.m,)), self.robot.joints), ""
        except Exception as error:  # no policy may stop the arm from being controlled
            return None, _failed(error)


def _left(policy: Policy, x: Array, step: int, config: Config) -> str:
    distance = policy.distance(x, step)
    return "" if distance <= config.policy_reach else (
        f"the policy is left: at step {step} the state is {distance:.1f} deviations from those it was made for")


def _failed(error: Exception) -> str:
    return f"the policy failed: {' '.join(str(error).split()) or type(error).__name__}"


def policy_of(plan: Plan, robot: Robot, spread: Float[Array, "T n"] | None = None) -> TimedPolicy:
    """The feedback of a plan about its own states, with deviations from them that it may be played at."""
    p, states, efforts = plan.policy, as_array(plan.states), as_array(plan.efforts)
    policy = LinearGaussianPolicy(states[:-1], efforts, as_array(p.K), np.zeros(efforts.shape), as_array(p.Sigma))
    return TimedPolicy(policy, robot.step, robot.state_names, robot.joints, spread)


def save(timed: TimedPolicy, path: str | os.PathLike[str]) -> None:
    """Write a policy as numbers and names (.npz)."""
    arrays = {name: as_array(value) for name, value in vars(timed.policy).items()}
    if timed.spread is not None:
        arrays["spread"] = as_array(timed.spread)
    write_arrays(path, {"policy_format": np.array(FORMAT), "period": np.array(timed.period),
                        "state_names": np.array(timed.state_names), "joint_names": np.array(timed.joint_names),
                        **arrays})


def read(path: str | os.PathLike[str]) -> TimedPolicy:
    """The inverse of `save`, for whatever robot. Raises ConfigError for a file that is not a policy."""
    arrays = read_arrays(path, "policy")
    try:
        version = int(arrays["policy_format"])
        names = [tuple(str(name) for name in arrays[key]) for key in ("state_names", "joint_names")]
        policy = LinearGaussianPolicy(*(arrays[name] for name in ("x_hat", "u_hat", "K", "k", "Sigma")))
        timed = TimedPolicy(policy, float(arrays["period"]), names[0], names[1], arrays.get("spread"))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a policy file: {error}") from error
    if version != FORMAT:
        raise ConfigError(f"{path}: expected a policy of format {FORMAT}, got format {version}")
    return timed


def load(path: str | os.PathLike[str], robot: Robot) -> LinearPolicy:
    """A policy from a file, for this robot. Raises ConfigError for one that cannot be played on it."""
    try:
        return LinearPolicy(read(path), robot)
    except ValueError as error:  # MessageError is one too
        raise ConfigError(f"{path}: {error}") from error
