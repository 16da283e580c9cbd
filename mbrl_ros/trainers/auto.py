"""AutoMBPO (Lai et al. 2021): what MBPO is set to while it learns is chosen by a policy that was itself learned.

A run of MBPO is an episode of a larger problem. Every `decide` steps its state (how far the run is, how wrong the model
was, the loss of the critics, how far the policy moved, the last return, and the settings themselves, each about in
[-1, 1]) gives four discrete choices: whether the next fit is made, the real part of batches times or over 1.2, one
update more or less, rollouts one step longer or shorter. The reward of a choice is what the episodes until the next one
earned over a baseline, that of the same MBPO with fixed settings. The policy learns by clipped policy gradient
(Schulman et al. 2017) from the rewards to go of whole runs.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.environments.environment import Known, Step
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers import mbpo, sac
from mbrl_ros.trainers.sac import Networks
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

CHOICES = (2, 3, 3, 3)  # fit or not; real part, updates, length: less, as it is, more
FACTOR = 1.2  # of the real part
SEEN = 8  # numbers in a state
REAL, UPDATES, LENGTHS = (0.02, 0.98), (1, 20), (1, 30)  # between which settings stay


@dataclass(frozen=True)
class Settings(mbpo.Settings):
    """Parameters `auto.*` beside those of mbpo, with which a run begins."""

    decide: int = param(125, "Steps of the environment from one choice to the next", 1, 1_000_000)
    steps: int = param(5000, "Of a whole run", 1, 100_000_000)
    scale: float = param(300.0, "Return over the baseline that is a reward of one", 1e-6, 1e9)
    thrift: float = param(0.05, "Reward of leaving a fit out, price of making one", 0.0, 10.0)


class Choice(NamedTuple):
    """One decision, and what came of it."""

    seen: Float[Array, " s"]
    chosen: tuple[int, ...]
    log_p: float
    reward: float


class Schedule:
    """The policy that chooses; `random` is how likely it is that it does so by chance."""

    @dataclass(frozen=True)
    class Config:
        """Of its own learning; batches and steps are those of the paper."""

        hidden: int = param(64, "Units of its hidden layer", 1, 4096)
        learning_rate: float = param(3e-4, "Of Adam", 0.0, 1.0, scale=LOGARITHMIC)
        steps: int = param(300, "Of Adam after a stage", 0, 100_000)
        batch: int = param(64, "Choices of a step", 1, 100_000)
        clip: float = param(0.2, "How far the probability of a choice may move", 0.0, 1.0)

    def __init__(self, config: Config, seed: int):
        self.config, self.random = config, 0.0
        self.generator = torch.Generator().manual_seed(seed)
        self.network = Networks(1, [SEEN, config.hidden, sum(CHOICES)], self.generator)
        self._adam = torch.optim.Adam(self.network.parameters(), config.learning_rate)

    def log_probabilities(self, seen: Float[Tensor, "B s"]) -> list[Tensor]:
        """Of the choices of each kind, (B, c) for each."""
        return [of.log_softmax(-1) for of in self.network(seen[None])[0].split(CHOICES, -1)]

    @torch.no_grad()
    def choose(self, seen: Float[Array, " s"]) -> tuple[tuple[int, ...], float]:
        """One of each kind, drawn, and their log-probability by the policy."""
        of = self.log_probabilities(torch.as_tensor(seen)[None])
        by_chance = float(torch.rand((), generator=self.generator)) < self.random
        weights = [torch.ones_like(p[0]) if by_chance else p[0].exp() for p in of]
        chosen = tuple(int(torch.multinomial(w, 1, generator=self.generator)) for w in weights)
        return chosen, float(sum(p[0, c] for p, c in zip(of, chosen, strict=True)))

    def learn(self, runs: Sequence[Sequence[Choice]]) -> None:
        """From the choices of whole runs: those with more reward to go become more likely, within the clip."""
        if not any(runs):
            return
        to_go = torch.as_tensor(np.concatenate([np.cumsum([c.reward for c in run][::-1])[::-1] for run in runs if run]))
        advantage = ((to_go - to_go.mean()) / to_go.std(correction=0).clamp(min=1e-6)).float()
        made = [choice for run in runs for choice in run]
        seen = torch.as_tensor(np.array([c.seen for c in made]))
        chosen = torch.tensor([c.chosen for c in made])
        old = torch.tensor([c.log_p for c in made])
        for _ in range(self.config.steps):
            i = torch.randint(len(made), (self.config.batch,), generator=self.generator)
            of = self.log_probabilities(seen[i])
            now = torch.stack([p.gather(1, chosen[i, k, None])[:, 0] for k, p in enumerate(of)]).sum(0)
            ratio, clip = (now - old[i]).exp(), self.config.clip
            gain = torch.minimum(ratio * advantage[i], ratio.clamp(1 - clip, 1 + clip) * advantage[i])
            self._adam.zero_grad()
            (-gain.mean()).backward()
            self._adam.step()


class Auto(mbpo.Mbpo):
    """MBPO under a schedule. A Learner; `choices` are those it has made. `baseline` gives the return by the step."""

    own: Settings

    def __init__(self, known: Known, config: sac.Settings, own: Settings, schedule: Schedule,
                 baseline: Callable[[int], float], seed: int, model: ProbabilisticEnsemble.Config = mbpo.MODEL):
        super().__init__(known, config, replace(own, longest=LENGTHS[1]), seed, model)  # room for any length
        self.schedule, self.baseline = schedule, baseline
        self.choices: list[Choice] = []
        self._length, self._earned, self._returns, self._last = own.shortest, 0.0, list[float](), 0.0
        self._open: tuple[Array, tuple[int, ...], float] | None = None
        self._policy, self._loss = self._weights(), 0.0

    @property
    def length(self) -> int:
        """See Mbpo: as it was chosen."""
        return self._length

    def observe(self, x: Float[Array, " n"], a: Float[Array, " m"], step: Step) -> None:
        """See Learner. An episode that nobody ended counts to where the next one begins."""
        if self._lived and not np.array_equal(self._lived[-1][2], x):
            self._close_episode()
        super().observe(x, a, step)
        self._earned += step.reward

    def improve(self) -> None:
        """See Learner: choices, then as ever."""
        if self.count >= self.config.start and self.count % self.own.decide == 0:
            self.settle()
            self.decide()
        super().improve()

    def update(self) -> None:
        """See Free; remembers the loss of the critics."""
        self._loss = float(self.agent.update(self.batch())["critic_loss"])

    def decide(self) -> None:
        """Choose, and set what was chosen."""
        seen = self.state()
        chosen, log_p = self.schedule.choose(seen)
        fit, real, updates, length = chosen
        self.retrains = fit == 1
        self.real = float(np.clip(self.real * FACTOR ** (real - 1), *REAL))
        self.updates = int(np.clip(self.updates + updates - 1, *UPDATES))
        self._length = int(np.clip(self._length + length - 1, *LENGTHS))
        self._open, self._policy = (seen, chosen, log_p), self._weights()

    def settle(self) -> None:
        """The reward of the last choice, if there is one."""
        if self._open is None:
            return
        seen, chosen, log_p = self._open
        s = self.own
        earned = float(np.mean(self._returns)) if self._returns else self._last
        reward = (earned - self.baseline(self.count)) / s.scale + (s.thrift if chosen[0] == 0 else -s.thrift)
        self.choices.append(Choice(seen, chosen, log_p, reward))
        self._returns, self._open = [], None

    def state(self) -> Float[Array, " s"]:
        """What the schedule sees, each about in [-1, 1]."""
        s = self.own
        surprise = self.surprises[-1] if self.surprises else 1.0
        moved = float((self._weights() - self._policy).norm() / self._policy.norm().clamp(min=1e-6))
        within = [_within(np.log(self.real), *np.log(REAL)), _within(self.updates, *UPDATES),
                  _within(self._length, *LENGTHS)]
        seen: Array = np.array([_within(self.count, 0, s.steps), np.tanh(np.log(surprise + 1e-6)),
                                np.tanh(np.log(self._loss + 1e-6) / 4.0), np.tanh(10.0 * moved) * 2.0 - 1.0,
                                np.tanh(self._last / s.scale), *within], dtype=np.float32)
        return seen

    def _close_episode(self) -> None:
        self._returns.append(self._earned)
        self._last, self._earned = self._earned, 0.0

    def _weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.agent.actor.parameters()])


def _within(value: float, low: float, high: float) -> float:
    """-1 at the low end, 1 at the high one."""
    return 2.0 * (float(value) - float(low)) / (float(high) - float(low)) - 1.0


def learn_schedule(play: Callable[[Schedule, Sequence[int]], list[tuple[Sequence[Choice], float]]],
                   config: Schedule.Config, stages: int, runs: int, seed: int) -> tuple[Schedule, list[float]]:
    """The schedule of the best stage, and the mean score of each. `play` does the runs of a stage, of these seeds, and
    gives choices and score of each. Choices by chance become fewer over the first half of the stages."""
    schedule, scores = Schedule(config, seed), list[float]()
    best, kept = -np.inf, schedule.network.state_dict()
    for stage in range(stages):
        schedule.random = max(0.0, 1.0 - stage / max(1.0, 0.5 * stages))
        played = play(schedule, [1000 * seed + runs * stage + i for i in range(runs)])
        scores.append(float(np.mean([score for _, score in played])))
        if scores[-1] > best:
            best, kept = scores[-1], {name: value.clone() for name, value in schedule.network.state_dict().items()}
        schedule.learn([choices for choices, _ in played])
    schedule.network.load_state_dict(kept)
    schedule.random = 0.0
    return schedule, scores
