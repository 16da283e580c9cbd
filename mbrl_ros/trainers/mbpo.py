"""Model-based policy optimisation (Janner et al. 2019): SAC on short rollouts of a learned model.

Every `every` steps a probabilistic ensemble is fitted to all that was lived through, and the policy is followed in it
for k steps from states that were visited, each step by a member drawn anew. Batches of SAC are part real, part such
transitions. k grows along a schedule; k = 1 is Dyna.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import param
from mbrl_ros.environments.environment import Known, Step, scaled
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import RESAMPLE, stepper
from mbrl_ros.models.rollout import Step as Rollout
from mbrl_ros.trainers import sac
from mbrl_ros.trainers.replay import Batch, Replay
from mbrl_ros.trainers.steps import Free
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

MODEL = ProbabilisticEnsemble.Config(epochs=60, patience=5, batch=256)  # fits are many, and each goes on from the last


@dataclass(frozen=True)
class Settings:
    """Parameters `mbpo.*`."""

    every: int = param(250, "Steps of the environment from one fit to the next", 1, 1_000_000)
    rollouts: int = param(10_000, "States from which the policy is followed after a fit", 1, 10_000_000)
    shortest: int = param(1, "Steps of a rollout, up to the step `first`", 1, 1000)
    longest: int = param(1, "Steps of a rollout, from the step `last` on", 1, 1000)
    first: int = param(0, "Step of the environment from which rollouts get longer", 0, 100_000_000)
    last: int = param(1, "Step of the environment from which they are the longest", 1, 100_000_000)
    real: float = param(0.05, "Part of a batch that was lived through", 0.0, 1.0)
    retain: int = param(1, "Fits whose rollouts are kept", 1, 1000)


class Rolled(NamedTuple):
    """A step of rollouts."""

    z: Tensor  # (B, k)
    a: Tensor  # (B, m) in [-1, 1]
    acted: Tensor  # (B, m) in the units of the environment
    after: Tensor  # (B, k)


class Mbpo(Free):
    """A Learner."""

    def __init__(self, known: Known, config: sac.Settings, own: Settings, seed: int,
                 model: ProbabilisticEnsemble.Config = MODEL):
        super().__init__(known, config, seed)
        self.own, self.model_config = own, model
        self.real, self.retrains = own.real, True  # part of a batch; whether fits are made
        self.regression: ProbabilisticEnsemble | None = None
        self.fits, self.surprises = 0, list[float]()
        width = self.seen(np.zeros(known.n)).shape[-1]
        self.imagined = Replay(width, known.m, own.rollouts * own.longest * own.retain)
        self._lived: list[tuple[Array, Array, Array]] = []  # x, a in its units, x'

    @property
    def length(self) -> int:
        """Steps of a rollout now."""
        own = self.own
        part = np.clip((self.count - own.first) / max(1, own.last - own.first), 0.0, 1.0)
        return round(own.shortest + float(part) * (own.longest - own.shortest))

    def lived(self) -> tuple[Array, Array, Array]:
        """All that was lived through: x (N, n), a (N, m) in its units, x' (N, n)."""
        x, a, after = (np.array(part) for part in zip(*self._lived, strict=True))
        return x, a, after

    def observe(self, x: Float[Array, " n"], a: Float[Array, " m"], step: Step) -> None:
        """See Learner."""
        super().observe(x, a, step)
        self._lived.append((x, scaled(self.known, torch.as_tensor(a)).numpy(), step.observation))

    def improve(self) -> None:
        """See Learner."""
        since = self.count - self.config.start
        if since >= 0 and since % self.own.every == 0:
            if self.retrains or self.regression is None:
                self.fit()
            self.imagine()
        super().improve()

    def fit(self) -> None:
        """The model, to all that was lived through, from its weights on. `surprise` is how wrong it was before on what
        has come since: mean distance of what the mean predicts from x', in deviations of the changes."""
        data = self.known.data(*self.lived())
        if self.regression is not None:
            w, y = (torch.as_tensor(of[-self.own.every :]) for of in (data.w, data.y))
            off = (self.regression.mean(w) - y) / torch.as_tensor(data.y.std(0))
            self.surprises.append(float(torch.linalg.vector_norm(off, dim=-1).mean()))
            self.figures["surprise"] = float(np.mean(self.surprises))
        self.regression = ProbabilisticEnsemble.fit(data, self.model_config, self.seed + self.fits, self.regression)
        self.fits += 1

    def starts(self) -> Float[Tensor, "B k"]:
        """z from which rollouts begin: any that were visited, each as likely."""
        rows = self._rng.integers(len(self._lived), size=self.own.rollouts)
        return self.known.inner(torch.as_tensor(np.array([self._lived[i][0] for i in rows])))

    @torch.no_grad()
    def imagine(self) -> None:
        """Follow the policy in the model."""
        self.follow(stepper(self.known.model(self.regression), RESAMPLE, self.seed + self.count), self.starts(),
                    self.length)

    def follow(self, step: Rollout, z: Float[Tensor, "B k"], length: int) -> None:
        """Keep what the policy comes to from z; rollouts end where episodes do."""
        known = self.known
        for of in self.rolled(step, z, length):
            reward = known.reward(of.after, of.acted)
            self.imagined.add(Batch(known.seen(of.z), of.a, reward, known.seen(of.after), known.terminated(of.after)))

    def rolled(self, step: Rollout, z: Float[Tensor, "B k"], length: int) -> Iterator[Rolled]:
        """The steps of the policy in a model, of those that are not over."""
        for _ in range(length):
            a, _ = self.agent.draw(self.known.seen(z))
            acted = scaled(self.known, a.double())
            after = step(z, acted)
            yield Rolled(z, a, acted, after)
            z = after[~self.known.terminated(after)]
            if not len(z):
                break

    def batch(self) -> Batch:
        """See Free: part real, part imagined."""
        real = round(self.real * self.config.batch)
        if real == self.config.batch or not len(self.imagined):
            return super().batch()
        generator = self.agent.generator
        drawn = self.imagined.draw(self.config.batch - real, generator)
        return self.replay.draw(real, generator).joined(drawn) if real else drawn
