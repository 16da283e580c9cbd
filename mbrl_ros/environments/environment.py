"""What is asked of an environment, what is known of one, and an episode in it.

A time limit is not an end: `terminated` says that nothing comes after a state, `truncated` that nobody looked further.
What ends an episode is a function of the state, so that rollouts of a model end there too.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import ConfigError
from mbrl_ros.models.angles import AngleModel
from mbrl_ros.models.dynamics import DynamicsModel
from mbrl_ros.models.features import Data, Features
from mbrl_ros.types import Array, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Float


class Known(Protocol):
    """What is known of an environment without its dynamics: x is the observation, z what a model of it steps."""

    n: int  # dim x
    m: int  # dim a, the action
    low: Float[Array, " m"]
    high: Float[Array, " m"]
    learned: list[int]  # the coordinates of z that the regression of a model is about

    def inner(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b k"]:
        """z of an observation."""

    def seen(self, z: Float[Tensor, "*b k"]) -> Float[Tensor, "*b s"]:
        """What a policy sees of z, without angles that jump."""

    def reward(self, z_next: Float[Tensor, "*b k"], a: Float[Tensor, "*b m"]) -> Float[Tensor, " *b"]:
        """Of an action that led to z_next. Raises ConfigError where only the environment itself knows it."""

    def terminated(self, z_next: Float[Tensor, "*b k"]) -> Tensor:
        """Whether it ends there (*b,) bool."""

    def model(self, regression: Any) -> DynamicsModel:
        """A fitted regression as a model of z' by z and a, with `w` and `next_state` for rollouts."""

    def acted(self, x_next: Float[Array, "N n"], a: Float[Array, "N m"]) -> Float[Array, "N m"]:
        """The actions that acted, in numpy, where limits made others of a."""

    def data(self, x: Float[Array, "N n"], a: Float[Array, "N m"], x_next: Float[Array, "N n"]) -> Data:
        """Transitions under what acted, for the fit of a regression."""


def scaled(known: Known, a: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
    """Actions in [-1, 1] in the units of an environment."""
    low, high = torch.as_tensor(known.low).to(a), torch.as_tensor(known.high).to(a)
    return 0.5 * (low + high) + 0.5 * (high - low) * a


class Step(NamedTuple):
    """What comes of an action."""

    observation: Float[Array, " n"]
    reward: float
    terminated: bool
    truncated: bool


class Environment(Known, Protocol):
    """One that steps."""

    def reset(self, seed: int) -> Float[Array, " n"]:
        """The first observation; the same seed gives the same episode for the same actions."""

    def step(self, a: Float[Array, " m"]) -> Step:
        """What comes of an action, which is clipped to its limits."""


class Observed:
    """Known where z is x and all of it is learned, with angles [rad] at some rows, and actions act as they are."""

    def __init__(self, n: int, low: Array, high: Array, angles: tuple[int, ...] = ()):
        self.n, self.m, self.low, self.high = n, len(low), np.asarray(low, float), np.asarray(high, float)
        self.learned, self.angles = list(range(n)), angles
        self._features = Features(tuple(range(n)), tuple(range(n)), n, self.m)

    def inner(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """See Known."""
        return x

    def seen(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b s"]:
        """See Known."""
        return self.model(None).w(x, x[..., :0])

    def model(self, regression: Any) -> AngleModel:
        """See Known."""
        return AngleModel(self._features, regression, self.angles)

    def acted(self, x_next: Float[Array, "N n"], a: Float[Array, "N m"]) -> Float[Array, "N m"]:
        """See Known."""
        return a

    def data(self, x: Float[Array, "N n"], a: Float[Array, "N m"], x_next: Float[Array, "N n"]) -> Data:
        """See Known."""
        w = self.model(None).w(torch.as_tensor(x), torch.as_tensor(a)).numpy()
        return Data(self._features, w, x_next - x)


@dataclass(frozen=True)
class Return:
    """Minus the sum of rewards, until an end, as the Cost of a Problem over z."""

    known: Known

    def evaluate(self, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]) -> Float[Tensor, " *b"]:
        """See Cost."""
        after = x[..., 1:, :]
        ended = self.known.terminated(after).cumsum(-1)
        before = torch.cat([torch.zeros_like(ended[..., :1]), ended[..., :-1]], -1) > 0
        return -torch.where(before, 0.0, self.known.reward(after, u)).sum(-1)

    def quadratize(self, x: Tensor, u: Tensor) -> QuadraticCost:
        """Refused: a reward is any function."""
        raise ConfigError("reward: expected a planner that draws candidates (random, cem, icem, mppi), since the "
                          "return of an environment has no quadratic expansion")


class Episode(NamedTuple):
    """One run of an environment from a reset on."""

    x: Float[Array, "T+1 n"]
    a: Float[Array, "T m"]
    reward: Float[Array, " T"]
    terminated: bool  # else its time was over


def episode(environment: Environment, act: Callable[[Array], Array], seed: int, steps: int) -> Episode:
    """At most so many steps of a policy, x (n,) -> a (m,)."""
    x, a, rewards = [environment.reset(seed)], [], []
    for _ in range(steps):
        a.append(np.clip(act(x[-1]), environment.low, environment.high))
        step = environment.step(a[-1])
        x.append(step.observation)
        rewards.append(step.reward)
        if step.terminated or step.truncated:
            return Episode(np.array(x), np.array(a), np.array(rewards), step.terminated)
    return Episode(np.array(x), np.array(a), np.array(rewards), False)
