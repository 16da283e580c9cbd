"""The mode `policy`: a policy that was made elsewhere is played from the moment the mode is entered.

What is asked of a policy is `Policy`; LinearPolicy is the one that is linear in the state and changes with time,
NetworkPolicy (network_policy.py) one without a clock that sees the target, which may move meanwhile. A policy is left,
into hold, where it ends, where it fails, and where the state is not one it was made for: what was worked out or trained
near other states says nothing here.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mbrl_ros.config import LOGARITHMIC, ConfigError, param
from mbrl_ros.gaussian import symmetrize
from mbrl_ros.messages.fields import MessageError, as_array, expect, same, sane
from mbrl_ros.models.prior import read_arrays, write_arrays
from mbrl_ros.ring import network_policy
from mbrl_ros.ring.actor_policy import ActorPolicy
from mbrl_ros.ring.joint_policy import JointPolicy
from mbrl_ros.ring.network_policy import NetworkPolicy
from mbrl_ros.ring.radial_policy import RadialPolicyOfRing
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
                                "made for, in the deviations that come with it", 0.1, 1e6, live=True, scale=LOGARITHMIC)


class Policy(Protocol):
    """What to do at a state, `step` periods after the mode was entered. One that has a field `target` (3,) [m] is told
    there where the tool shall go."""

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
        self.timed = timed
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
        self._stay = robot.tool_position(robot.home)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """From now on the same noise for the same seed."""
        self._rng = np.random.default_rng(seed)

    def start(self, state: StateEstimate) -> None:
        """Its first step is at this state; where no target is asked for, the tool stays where it is."""
        self._playing, self._began, self._stay = self.policy, state.time, self._tool(state)

    def refusal(self, state: StateEstimate | None, config: Config, target: Array | None = None) -> str:
        """Why a policy could not be played from this state on; empty where it could."""
        if self.policy is None:
            return NO_POLICY
        try:
            if state is None:
                return ""
            _aim(self.policy, self._tool(state) if target is None else target)
            return _left(self.policy, state.belief.mean, 0, config)
        except Exception as error:
            return _failed(error)

    def act(self, state: StateEstimate, config: Config, target: Array | None = None
            ) -> tuple[Float[Array, " m"] | None, str]:
        """The effort, not yet clamped, for a tool that shall go to `target` (3,) [m]; or None, and why the policy is
        over. Raises nothing."""
        policy, x = self._playing, state.belief.mean
        step = round((state.time - self._began) * 1e-9 / self.robot.period)
        try:
            if policy is None or (policy.horizon is not None and step >= policy.horizon):
                return None, "the policy is over"
            _aim(policy, self._stay if target is None else target)
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

    def _tool(self, state: StateEstimate) -> Array:
        return state.belief.mean[self.robot.slice(f"site/{self.robot.sites[0]}/position")]


def _aim(policy: Any, target: Array) -> None:
    if hasattr(policy, "target"):
        policy.target = target


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


def save(policy: TimedPolicy | NetworkPolicy | JointPolicy, path: str | os.PathLike[str]) -> None:
    """Write a policy as numbers and names (.npz)."""
    if not isinstance(policy, TimedPolicy):
        write_arrays(path, {"policy_format": np.array(FORMAT), **policy.numbers()})
        return
    arrays = {name: as_array(value) for name, value in vars(policy.policy).items()}
    if policy.spread is not None:
        arrays["spread"] = as_array(policy.spread)
    write_arrays(path, {"policy_format": np.array(FORMAT), "kind": np.array(LINEAR), "period": np.array(policy.period),
                        "state_names": np.array(policy.state_names), "joint_names": np.array(policy.joint_names),
                        **arrays})


def read(path: str | os.PathLike[str]) -> TimedPolicy:
    """The inverse of `save`, for whatever robot. Raises ConfigError for a file that is not a linear policy."""
    timed: TimedPolicy = _of_file(path, _timed)
    return timed


def load(path: str | os.PathLike[str], robot: Robot) -> Policy:
    """A policy from a file, for this robot. Raises ConfigError for one that cannot be played on it."""
    def made(arrays: Mapping[str, Array]) -> Policy:
        kind = str(arrays.get("kind", LINEAR))  # files of the first versions do not say it
        if kind not in KINDS:
            raise ConfigError(f"expected a policy of kind {', '.join(KINDS)}, got {kind!r}")
        return KINDS[kind](arrays, robot)
    policy: Policy = _of_file(path, made)
    return policy


def _timed(arrays: Mapping[str, Array]) -> TimedPolicy:
    names = [tuple(str(name) for name in arrays[key]) for key in ("state_names", "joint_names")]
    policy = LinearGaussianPolicy(*(arrays[name] for name in ("x_hat", "u_hat", "K", "k", "Sigma")))
    return TimedPolicy(policy, float(arrays["period"]), names[0], names[1], arrays.get("spread"))


LINEAR = "linear"
KINDS: dict[str, Callable[[Mapping[str, Array], Robot], Policy]] = {  # by the kind that files say
    LINEAR: lambda arrays, robot: LinearPolicy(_timed(arrays), robot), network_policy.KIND: NetworkPolicy,
    **{kind.KIND: kind for kind in (RadialPolicyOfRing, ActorPolicy)}}


def _of_file(path: str | os.PathLike[str], make: Callable[[Mapping[str, Array]], Any]) -> Any:
    """What `make` makes from the numbers in a file. Raises ConfigError that names the file."""
    arrays = read_arrays(path, "policy")
    try:
        version = int(arrays["policy_format"])
        if version != FORMAT:
            raise ConfigError(f"expected a policy of format {FORMAT}, got format {version}")
        return make(arrays)
    except (ConfigError, MessageError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a policy file: {error}") from error
