"""Learning and planning over finitely many states and actions: Q-learning, Q-planning, Dyna-Q.

A real step teaches the values Q and a model of counts; n backups follow, steps of Q-learning at pairs (s, a) whose
outcome the model says (Sutton 1990; Sutton & Barto, Reinforcement Learning, section 8.2). Without real steps, from a
model that was learned beforehand, that is Q-planning. Ends are remembered as such, pairs are drawn without regard to
how often they were tried, and of actions that are equally good one is taken at random.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbrl_ros.config import param
from mbrl_ros.kernels import tabular as kernels
from mbrl_ros.types import Array

PAIRS = {"buffer": kernels.BUFFER, "policy": kernels.POLICY, "random": kernels.RANDOM}
BACKUPS = SAMPLE, EXPECTATION = ("sample", "expectation")
ROOM = 1024  # outcomes for which there is room at first


@dataclass(frozen=True)
class Settings:
    """Parameters of learning with tables; those of the book's maze where nothing else is said."""

    alpha: float = param(0.1, "Part of the way that a value goes to its target", 0.0, 1.0)
    gamma: float = param(0.95, "What a reward one step later is worth", 0.0, 1.0)
    epsilon: float = param(0.1, "Probability of an action at random", 0.0, 1.0)
    backups: int = param(5, "Backups after every step (of the ring: in every period); 0: Q-learning", 0, 1_000_000)
    pairs: str = param("buffer", "Where they are made; buffer: at pairs that were tried, each as likely; policy: at "
                       "states that were, with an action of the policy; random: at any pair. What the model does not "
                       "know is left out", choices=PAIRS)
    backup: str = param(SAMPLE, "sample: towards one outcome of the model; expectation: towards the mean over all",
                        choices=BACKUPS)


class World(Protocol):
    """Finitely many states and actions."""

    states: int
    actions: int

    def reset(self, seed: int) -> int:
        """The state at which an episode begins."""

    def step(self, a: int) -> tuple[int, float, bool]:
        """The state after an action, the reward, and whether the episode ends there."""


class Tabular:
    """Values Q and a model of one world. What acts only reads Q, so that one other thread may do the rest."""

    def __init__(self, states: int, actions: int, config: Settings, seed: int):
        self.config = config
        self.Q: Array = np.zeros((states, actions))
        self._acting, self._imagining = (np.random.default_rng([seed, i]) for i in range(2))
        self._first = np.full((states, actions), -1)
        self._links, self._sums = np.empty((ROOM, 3), np.int64), np.empty((ROOM, 2))
        self._pairs, self._states = np.empty(states * actions, np.int64), np.empty(states, np.int64)
        self._sizes = np.zeros(3, np.int64)

    @property
    def known(self) -> int:
        """How many pairs were tried."""
        return int(self._sizes[1])

    def act(self, s: int) -> int:
        """Epsilon-greedy."""
        return int(kernels.choose(self.Q, s, self.config.epsilon, *self._acting.random(2)))

    def greedy(self, s: int) -> int:
        """A best action."""
        return int(np.argmax(self.Q[s]))

    def real(self, s: int, a: int, r: float, after: int, end: bool) -> None:
        """A step of Q-learning, and of the model."""
        kernels.real_step(self.Q, s, a, r, after, end, self.config.alpha, self.config.gamma)
        self.remember(s, a, r, after, end)

    def remember(self, s: int, a: int, r: float, after: int, end: bool) -> None:
        """A step of the model."""
        if self._sizes[0] == len(self._sums):
            self._links, self._sums = (np.concatenate([of, np.empty_like(of)]) for of in (self._links, self._sums))
        kernels.remember(self._first, self._links, self._sums, self._pairs, self._states, self._sizes, s, a, r, after,
                         end)

    def imagine(self, n: int) -> int:
        """n backups; how many of them the model knew an outcome for."""
        c = self.config
        return int(kernels.backups(
            self.Q, self._first, self._links, self._sums, self._pairs, self._states, self._sizes,
            self._imagining.random((n, 3)), PAIRS[c.pairs], c.backup == EXPECTATION, c.alpha, c.gamma, c.epsilon))


def episode(world: World, learner: Tabular, seed: int, steps: int) -> int:
    """One episode of Dyna-Q of at most so many steps; how many there were."""
    s = world.reset(seed)
    for i in range(steps):
        a = learner.act(s)
        after, r, end = world.step(a)
        learner.real(s, a, r, after, end)
        learner.imagine(learner.config.backups)
        s = after
        if end:
            return i + 1
    return steps


def explore(world: World, learner: Tabular, seed: int, steps: int) -> None:
    """Teach the model alone, by actions at random."""
    rng, s = np.random.default_rng([seed, 2]), world.reset(seed)
    for i in range(steps):
        a = int(rng.integers(world.actions))
        after, r, end = world.step(a)
        learner.remember(s, a, r, after, end)
        s = world.reset(seed + i + 1) if end else after


def greedy_path(world: World, learner: Tabular, seed: int, steps: int) -> int:
    """Steps of an episode without exploration or learning, at most so many."""
    s = world.reset(seed)
    for i in range(steps):
        s, _, end = world.step(learner.greedy(s))
        if end:
            return i + 1
    return steps
