"""Bidirectional model-based policy optimisation (Lai et al. 2020): rollouts forwards and backwards from one state.

At the same length each way is half as long, so less of the model's error adds up. Its five parts are settings of their
own: a backward model q(x | x', a); a backward policy, by likelihood or against a discriminator; start states drawn by
their value; backward rollouts beside forward ones; actions in the environment refined by the model and the value.

Backwards a transition is determined only where the past is: not after an impact, and not where the state holds efforts
that were given before. So the state has to be what is observed, all of it learned (`environment.Observed`).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from mbrl_ros.config import ConfigError, param
from mbrl_ros.environments.environment import Known, Observed, scaled
from mbrl_ros.models.features import Data
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import MEAN, RESAMPLE, stepper
from mbrl_ros.trainers import mbpo, sac
from mbrl_ros.trainers.replay import Batch
from mbrl_ros.trainers.sac import Networks
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

WAYS = LIKELIHOOD, ADVERSARIAL = ("likelihood", "adversarial")
SPREAD = 0.1  # deviation of the backward policy, which is fixed; what it draws is cut off at the limits
STEPS, BATCH, RATE = 300, 256, 1e-3  # of Adam after each fit
STEEP = 10.0  # the largest beta, over the range of values in what is drawn from


@dataclass(frozen=True)
class Settings(mbpo.Settings):
    """Parameters `bmpo.*` beside those of mbpo; `shortest` and `longest` are those of both ways together."""

    backward: bool = param(True, "Half of each rollout is backwards")
    way: str = param(LIKELIHOOD, "What trains the backward policy", choices=WAYS)
    by_value: float = param(1.0, "Where rollouts begin: states with probability ~ exp(beta V), beta from this times 10 "
                            "over the range of V down to 0 over the run; 0: each as likely", 0.0, 10.0)
    annealed: int = param(5000, "Steps of the environment until it is 0", 1, 100_000_000)
    refined: int = param(1000, "Actions that the policy draws, of which the model and the value choose; 0: one, as it "
                         "is", 0, 100_000)
    ahead: int = param(2, "Steps of the model for that", 0, 100)


class Bmpo(mbpo.Mbpo):
    """A Learner."""

    own: Settings

    def __init__(self, known: Known, config: sac.Settings, own: Settings, seed: int,
                 model: ProbabilisticEnsemble.Config = mbpo.MODEL):
        if not isinstance(known, Observed):
            raise ConfigError("bmpo: expected an environment whose state is what is observed, all of it learned: past "
                              "efforts in it would have to be guessed backwards")
        super().__init__(known, config, own, seed, model)
        self.before: ProbabilisticEnsemble | None = None  # of x - x' by (x', a)
        generator = torch.Generator().manual_seed(seed)
        width = self.seen(np.zeros(known.n)).shape[-1]
        self.backward_policy = Networks(1, [width, 64, 64, known.m], generator)
        self.critic = Networks(1, [width + known.m, 64, 64, 1], generator)
        self._adam = [torch.optim.Adam(of.parameters(), RATE) for of in (self.backward_policy, self.critic)]
        self._generator = torch.Generator().manual_seed(seed)

    def fit(self) -> None:
        """Both models and the backward policy."""
        super().fit()
        if self.own.backward:
            self.before = ProbabilisticEnsemble.fit(backwards(self.known, *self.lived()), self.model_config,
                                                    self.seed + self.fits, self.before)
            for _ in range(STEPS):
                self._train_backward(self.replay.draw(BATCH, self._generator))

    def came_by(self, seen: Float[Tensor, "B s"]) -> Float[Tensor, "B m"]:
        """Actions, drawn, that may have led to what is seen."""
        mean = self.backward_policy(seen[None])[0]
        return (mean + SPREAD * torch.randn(mean.shape, generator=self._generator)).clamp(-1.0, 1.0)

    def starts(self) -> Float[Tensor, "B k"]:
        """States from which rollouts begin, by their value."""
        s = self.own
        beta = s.by_value * STEEP * max(0.0, 1.0 - self.count / s.annealed)
        if beta == 0:
            return super().starts()
        x = torch.as_tensor(self.lived()[0])
        value = self.value(self.known.seen(x))
        scaled = value / (value.max() - value.min()).clamp(min=1e-6)
        rows = torch.multinomial((beta * scaled).softmax(0), s.rollouts, replacement=True, generator=self._generator)
        return self.known.inner(x[rows])

    @torch.no_grad()
    def value(self, seen: Float[Tensor, "B s"]) -> Float[Tensor, " B"]:
        """Of the policy's middle action, by the more careful critic."""
        return self.agent.values(self.agent.critics, seen, self.agent.gaussian(seen)[0].tanh()).amin(0)

    @torch.no_grad()
    def imagine(self) -> None:
        """Forwards and backwards from the same states."""
        if not self.own.backward:
            super().imagine()
            return
        known, z = self.known, self.starts()
        forwards = -(-self.length // 2)
        self.follow(stepper(known.model(self.regression), RESAMPLE, self.seed + self.count), z, forwards)
        step = stepper(known.model(self.before), RESAMPLE, self.seed + self.count)
        for _ in range(self.length - forwards):
            a = self.came_by(known.seen(z))
            acted = scaled(known, a.double())
            earlier = step(z, acted)
            lives = ~known.terminated(earlier)  # an episode does not go on from where it ends
            of = Batch(known.seen(earlier), a, known.reward(z, acted), known.seen(z), known.terminated(z))
            self.imagined.add(Batch(*(part[lives] for part in of)))
            z = earlier[lives]
            if not len(z):
                break

    def act(self, x: Float[Array, " n"], noise: bool = True) -> Float[Array, " m"]:
        """See Learner; the best of many first actions where it explores."""
        s = self.own
        if not noise or not s.refined or self.regression is None or self.count < self.config.start:
            return super().act(x, noise)
        with torch.no_grad():
            z = self.known.inner(torch.as_tensor(x)).expand(s.refined, -1)
            first, _ = self.agent.draw(self.known.seen(z))
            best: Array = first[self.worth(z, first).argmax()].double().numpy()
        return best

    def worth(self, z: Float[Tensor, "B k"], a: Float[Tensor, "B m"]) -> Float[Tensor, " B"]:
        """What the mean of the model and then the value promise of actions, followed by the middle of the policy."""
        known, gamma = self.known, self.config.gamma
        step = stepper(known.model(self.regression), MEAN)
        total, weight = z.new_zeros(len(z)), z.new_ones(len(z))
        for _ in range(self.own.ahead):
            acted = scaled(known, a.double())
            z = step(z, acted)
            total = total + weight * known.reward(z, acted)
            weight = weight * gamma * ~known.terminated(z)
            a = self.agent.gaussian(known.seen(z))[0].tanh()
        seen = known.seen(z)
        return total + weight * self.agent.values(self.agent.critics, seen, a).amin(0)

    def _train_backward(self, batch: Batch) -> None:
        """A step of the backward policy: towards actions that were taken, or what the discriminator takes for them."""
        policy, critic = self._adam
        if self.own.way == LIKELIHOOD:
            loss = (self.backward_policy(batch.x_next[None])[0] - batch.a).square().sum(-1).mean()
        else:
            made = self.came_by(batch.x_next)
            false, true = self._genuine(batch.x_next, made.detach()), self._genuine(batch.x_next, batch.a)
            critic.zero_grad()
            (softplus(false) + softplus(-true)).mean().backward()
            critic.step()
            loss = softplus(-self._genuine(batch.x_next, made)).mean()
        policy.zero_grad()
        loss.backward()
        policy.step()

    def _genuine(self, seen: Tensor, a: Tensor) -> Tensor:
        """The log-odds that an action was taken before a state."""
        odds: Tensor = self.critic(torch.cat([seen, a], -1)[None])[0]
        return odds


def backwards(known: Known, x: Float[Array, "N n"], a: Float[Array, "N m"], x_next: Float[Array, "N n"]) -> Data:
    """Transitions the other way round, for the fit of a regression that is a backward model of x by x' and a."""
    return known.data(x_next, a, x)
