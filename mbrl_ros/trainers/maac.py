"""Model-augmented actor-critic (Clavera et al. 2020; SAC-SVG, Amos et al. 2021): the policy's gradient by H steps of a
model and the value behind them,

    J = E sum_{t<H} gamma^t (r_t + alpha H(pi)) + gamma^H Q(x_H, a_H),

in which every step is reparameterised. Critics learn from what was lived through, by their TD error. With H = 0 it is
SAC, whose gradient is that of the critics alone; the longer H, the more is the model's.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.environments.environment import Known, scaled
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import MEMBER, Step, stepper
from mbrl_ros.trainers import mbpo, sac
from mbrl_ros.trainers.steps import Free

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Settings:
    """Parameters `maac.*`."""

    horizon: int = param(3, "Steps of the model before the value; 0: SAC", 0, 100)
    every: int = param(250, "Steps of the environment from one fit to the next", 1, 1_000_000)
    clip: float = param(1.0, "Largest norm of a gradient of the policy", 1e-6, 1e6, scale=LOGARITHMIC)


class Maac(mbpo.Mbpo):
    """A Learner."""

    def __init__(self, known: Known, config: sac.Settings, own: Settings, seed: int,
                 model: ProbabilisticEnsemble.Config = mbpo.MODEL):
        super().__init__(known, config, mbpo.Settings(every=own.every, rollouts=config.batch, real=1.0), seed, model)
        self.settings = own

    def imagine(self) -> None:
        """Nothing that is kept."""

    def update(self) -> None:
        """A step of the critics on what was lived through, and of the actor through the model."""
        if self.regression is None or self.settings.horizon == 0:
            Free.update(self)
            return
        self.agent.evaluate(self.batch())
        z = self.starts()
        step = stepper(self.known.model(self.regression), MEMBER, int(self._rng.integers(2**31)))
        self.agent.improve(lambda: self.promise(step, z), self.settings.clip)

    def promise(self, step: Step, z: Float[Tensor, "B k"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """J from z, over H, and the log-probability of the first actions."""
        known, agent, gamma = self.known, self.agent, self.config.gamma
        total, weight, first = z.new_zeros(len(z)), z.new_ones(len(z)), None
        for _ in range(self.settings.horizon):
            a, log_p = agent.draw(known.seen(z))
            acted = scaled(known, a.double())
            after = step(z, acted)
            total = total + weight * (known.reward(after, acted) - agent.temperature * log_p)
            weight, z = weight * gamma * ~known.terminated(after), after
            first = log_p if first is None else first
        assert first is not None
        last, _ = agent.worth(known.seen(z))
        return (total + weight * last) / self.settings.horizon, first
