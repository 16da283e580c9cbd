"""The mode `policy`: a policy that was made elsewhere is played from the moment the mode is entered.

What is asked of a policy is `Policy`; LinearPolicy (linear_policy.py) is the one that is linear in the state and
changes with time, NetworkPolicy (network_policy.py) one without a clock that sees the target, which may move meanwhile,
LatentPolicy (latent_policy.py) one that goes by what a camera sees. A policy is left,
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
from mbrl_ros.messages.fields import MessageError, as_array, expect, sane
from mbrl_ros.models.prior import read_arrays, write_arrays
from mbrl_ros.ring import linear_policy, network_policy
from mbrl_ros.ring.actor_policy import ActorPolicy
from mbrl_ros.ring.joint_policy import JointPolicy
from mbrl_ros.ring.latent_policy import LatentPolicy
from mbrl_ros.ring.linear_policy import LinearPolicy, timed_of
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

    def look(self, time: int, pixels: Array) -> None:
        """What a camera saw (rows, columns, channels), 0 to 255, at `time` [ns], for a policy that sees. Raises
        MessageError for what is no picture."""
        for of in self._seeing():
            of.look(time, pixels)

    def observe(self, state: StateEstimate) -> None:
        """The newest state, whether or not a policy is played."""
        for of in self._seeing():
            of.observe(state)

    def _seeing(self) -> list[LatentPolicy]:
        """Those that see, of the one that is played and the one that is next."""
        return [of for of in {self.policy, self._playing} if isinstance(of, LatentPolicy)]

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
    if isinstance(policy, LatentPolicy) and policy.blind:
        return f"the policy is left: {policy.blind}"
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


def save(policy: TimedPolicy | NetworkPolicy | JointPolicy | LatentPolicy, path: str | os.PathLike[str]) -> None:
    """Write a policy as numbers and names (.npz)."""
    write(linear_policy.numbers(policy) if isinstance(policy, TimedPolicy) else policy.numbers(), path)


def write(numbers: Mapping[str, Array], path: str | os.PathLike[str]) -> None:
    """Likewise what a policy is made from."""
    write_arrays(path, {"policy_format": np.array(FORMAT), **numbers})


def read(path: str | os.PathLike[str]) -> TimedPolicy:
    """The inverse of `save`, for whatever robot. Raises ConfigError for a file that is not a linear policy."""
    timed: TimedPolicy = _of_file(path, timed_of)
    return timed


def load(path: str | os.PathLike[str], robot: Robot) -> Policy:
    """A policy from a file, for this robot. Raises ConfigError for one that cannot be played on it."""
    def made(arrays: Mapping[str, Array]) -> Policy:
        kind = str(arrays.get("kind", linear_policy.KIND))  # files of the first versions do not say it
        if kind not in KINDS:
            raise ConfigError(f"expected a policy of kind {', '.join(KINDS)}, got {kind!r}")
        return KINDS[kind](arrays, robot)
    policy: Policy = _of_file(path, made)
    return policy


KINDS: dict[str, Callable[[Mapping[str, Array], Robot], Policy]] = {  # by the kind that files say
    linear_policy.KIND: lambda arrays, robot: LinearPolicy(timed_of(arrays), robot), network_policy.KIND: NetworkPolicy,
    **{kind.KIND: kind for kind in (RadialPolicyOfRing, ActorPolicy, LatentPolicy)}}


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
