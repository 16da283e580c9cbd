"""Learning after every step of an environment, and the base of those that imagine: SAC on what was lived through.

Learners see what policies see (`Known.seen`) and act in [-1, 1]; here that is scaled to the limits of the environment.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.environments.environment import Environment, Known, Step, scaled
from mbrl_ros.trainers import checkpoints
from mbrl_ros.trainers.compared import Curve
from mbrl_ros.trainers.replay import Batch, Replay
from mbrl_ros.trainers.sac import Sac, Settings
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float


class Learner(Protocol):
    """What `train` asks of a learner."""

    figures: dict[str, float]  # what it has to say in the end

    def act(self, x: Float[Array, " n"], noise: bool = True) -> Float[Array, " m"]:
        """The action in [-1, 1] at an observation; without noise, the one to be judged by."""

    def observe(self, x: Float[Array, " n"], a: Float[Array, " m"], step: Step) -> None:
        """What came of an action in [-1, 1]."""

    def improve(self) -> None:
        """Learn, after every step."""


class Free:
    """SAC without a model. A Learner."""

    def __init__(self, known: Known, config: Settings, seed: int):
        self.known, self.config, self.seed = known, config, seed
        width = self.seen(np.zeros(known.n)).shape[-1]
        self.agent = Sac(width, known.m, config, seed)
        self.replay = Replay(width, known.m, config.capacity)
        self.updates, self.count = config.updates, 0  # after every step; steps so far
        self.figures: dict[str, float] = {}
        self._rng = np.random.default_rng(seed)

    def seen(self, x: Float[Array, "*b n"]) -> Float[Tensor, "*b s"]:
        """What the policy sees of observations."""
        return self.known.seen(self.known.inner(torch.as_tensor(x)))

    def act(self, x: Float[Array, " n"], noise: bool = True) -> Float[Array, " m"]:
        """See Learner; at first, anything."""
        if noise and self.count < self.config.start:
            return self._rng.uniform(-1.0, 1.0, self.known.m)
        return self.agent.act(self.seen(x).numpy(), noise)

    def observe(self, x: Float[Array, " n"], a: Float[Array, " m"], step: Step) -> None:
        """See Learner. That time was over is no end."""
        self.count += 1
        one = (self.seen(x), a, step.reward, self.seen(step.observation), float(step.terminated))
        self.replay.add(Batch(*(torch.as_tensor(part, dtype=torch.float32)[None] for part in one)))

    def improve(self) -> None:
        """See Learner; not before the first `start` steps are done."""
        if self.count >= self.config.start:
            for _ in range(self.updates):
                self.update()

    def update(self) -> None:
        """One step of actor and critics."""
        self.agent.update(self.batch())

    def batch(self) -> Batch:
        """What they learn from."""
        return self.replay.draw(self.config.batch, self.agent.generator)


@dataclass
class Progress:
    """Where a run is."""

    learner: Learner
    curve: Curve
    steps: int = 0
    episodes: int = 0


def train(environment: Environment, learner: Learner, seed: int, steps: int, every: int, limit: int,
          goal: float = np.inf, judge: Callable[[Learner], float] | None = None, keep: Path | None = None) -> Curve:
    """So many steps of the environment, with a test after each `every` of them, and no more once one has the goal. A
    test is the return of an episode without noise, or what `judge` says. No episode is longer than `limit`. Goes on
    from the file `keep`, where it is there, with the learner in it, and keeps it."""
    p = checkpoints.load(keep, environment) if keep and keep.exists() else Progress(learner, Curve())
    learner, curve, played = p.learner, p.curve, 0
    written = time.monotonic()
    began = written - curve.seconds
    x = environment.reset(_episode(seed, p.episodes))
    for i in range(p.steps + 1, steps + 1):
        a = learner.act(x)
        step = _play(environment, a)
        learner.observe(x, a, step)
        x, played = step.observation, played + 1
        learner.improve()
        test = i % every == 0
        if test:
            curve.steps.append(i)
            curve.returns.append(judge(learner) if judge else
                                 _test(environment, learner, _episode(seed, -1 - i // every), limit))
            if curve.returns[-1] >= goal:
                break
        if test or step.terminated or step.truncated or played >= limit:
            p.steps, p.episodes, played = i, p.episodes + 1, 0
            x = environment.reset(_episode(seed, p.episodes))
            if keep and time.monotonic() >= written + checkpoints.EVERY:
                written = time.monotonic()
                curve.seconds = written - began
                checkpoints.save(keep, p, environment)
    curve.seconds, curve.figures = time.monotonic() - began, learner.figures
    return curve


def _test(environment: Environment, learner: Learner, seed: int, limit: int) -> float:
    """The return of an episode without noise."""
    x, earned = environment.reset(seed), 0.0
    for _ in range(limit):
        tried = _play(environment, learner.act(x, noise=False))
        x, earned = tried.observation, earned + tried.reward
        if tried.terminated or tried.truncated:
            break
    return earned


def _play(environment: Environment, a: Float[Array, " m"]) -> Step:
    return environment.step(scaled(environment, torch.as_tensor(a)).numpy())


def _episode(seed: int, i: int) -> int:
    """The seed of an episode, those of tests from i = -1 down."""
    return int(np.random.SeedSequence([seed, i < 0, abs(i)]).generate_state(1)[0])
