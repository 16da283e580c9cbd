"""Probabilistic ensembles with trajectory sampling (PETS; Chua et al. 2018).

The first trial is random. After each the model `pe` is fitted to all transitions so far, from the weights before, and
in the next CEM looks at every step for the actions whose return is best in the mean over particles, each of which
follows a member of the ensemble and its noise. The mean of the elites is played; shifted, it is where the next plan
begins, with the first deviation again.

`Agent` learns in any environment; `Pets` is that on the robot of the ring, whose x it plays in the mode `policy`.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mbrl_ros.config import ConfigError, from_mapping, param, section
from mbrl_ros.environments.environment import Known, Return
from mbrl_ros.environments.ring import Reaching
from mbrl_ros.evaluation.procedure import data_of
from mbrl_ros.models.features import Data
from mbrl_ros.models.prior import residuals
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import MEAN, MEMBER, RESAMPLE
from mbrl_ros.planners.plan import shifted
from mbrl_ros.planners.problem import Problem
from mbrl_ros.planners.sampling import LIMITS, Cem
from mbrl_ros.ring.policy import Policy
from mbrl_ros.robot import Robot
from mbrl_ros.trainers import trainer
from mbrl_ros.types import Array, Plan, Trial

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Settings:
    """Parameters `pets.*`: of CEM, for one core; the paper has 25, 400, 5, 25, 40, 0.5, member, 20. Those of the model
    are `pe.*`."""

    horizon: int = param(15, "Steps that are planned", 1, 1000)
    samples: int = param(64, "Candidates of an iteration", 2, 100_000)
    iterations: int = param(3, "How often candidates are drawn", 1, 100)
    knots: int = param(3, "Times over the horizon at which actions are drawn, with straight lines between", 1, 1000)
    elites: int = param(7, "Best candidates of an iteration, by which the next is drawn", 1, 100_000)
    noise: float = param(0.3, "Deviation of the first candidates, as a part of half the range of an action", 0.0, 10.0)
    follow: str = param(MEMBER, "mean: no noise and no doubt; member: a particle stays with one (TS-inf); resample: "
                        "another at every step (TS-1)", choices=(MEAN, MEMBER, RESAMPLE))
    particles: int = param(5, "Worlds for each candidate, unless it follows the mean", 1, 10_000)

    def __post_init__(self) -> None:
        if self.elites > self.samples:
            raise ConfigError(f"elites: expected at most as many as samples, {self.samples}, got {self.elites}")


class Agent:
    """Learns from transitions of an environment, and acts in it: at random, as long as there is no model."""

    def __init__(self, known: Known, config: Settings, model: ProbabilisticEnsemble.Config, seed: int):
        self.known, self.config, self.model_config, self.seed = known, config, model, seed
        self.regression: ProbabilisticEnsemble | None = None
        self.data: Data | None = None
        self._rng = np.random.default_rng(seed)
        self._planner = Cem(Cem.Config(
            horizon=float(config.horizon), samples=config.samples, iterations=config.iterations, knots=config.knots,
            noise=config.noise, metric=LIMITS, feedback=False, follow=config.follow, particles=config.particles,
            elites=config.elites))
        bounds = (torch.as_tensor(np.tile(of, (config.horizon, 1))) for of in (known.low, known.high))
        self._lower, self._upper = bounds
        self.begin()

    def begin(self) -> None:
        """An episode, without a plan before."""
        self._previous: Plan | None = None
        self._step = 0

    def act(self, x: Float[Array, " n"]) -> Float[Array, " m"]:
        """The action at x. Raises ConfigError where no reward is known."""
        if self.regression is None:
            return self._rng.uniform(self.known.low, self.known.high)
        seed = (1_000_003 * self.seed + self._step) % 2**32
        known = self.known
        problem = Problem(known.inner(torch.as_tensor(x)), known.model(self.regression), Return(known), self._lower,
                          self._upper, seed)
        plan = self._planner.plan(problem, self._previous)
        self._previous = shifted(plan)
        self._step += 1
        a: Array = plan.efforts[0].numpy()
        return a

    def learn(self, new: Data) -> dict[str, float]:
        """Fit to these, too. Of the figures, `surprise_nats` is the mean negative log-likelihood of a new one."""
        figures = {}
        if self.regression is not None:
            figures["surprise_nats"] = residuals(self.regression, new.w, new.y)[2]
        old = self.data
        self.data = new if old is None else replace(new, w=np.concatenate([old.w, new.w]),
                                                    y=np.concatenate([old.y, new.y]))
        self.regression = ProbabilisticEnsemble.fit(self.data, self.model_config, self.seed, self.regression)
        return {"transitions": float(len(self.data.w)), **figures}


class OnRobot:
    """A Trainer by an agent that learns in any environment, made of its own settings and those of its model."""

    AGENT: Any
    MODEL: tuple[str, Any] = ("pe", ProbabilisticEnsemble)

    def __init__(self, config: Any, robot: Robot, settings: Mapping[str, Any], seed: int):
        self.robot, self.known = robot, Reaching(robot, settings)
        trials = from_mapping(trainer.Config, section(settings, "trainer"), "trainer")
        self.target = trainer.target_of(trials, robot, settings, seed)
        self.agent = self.agent_of(config, settings, seed)

    def agent_of(self, config: Any, settings: Mapping[str, Any], seed: int) -> Any:
        """The agent, which has seen nothing."""
        name, kind = self.MODEL
        return self.AGENT(self.known, config, from_mapping(kind.Config, section(settings, name), name), seed)

    def policy(self) -> Policy:
        """Random actions at first, then those of the agent."""
        return Planned(self)

    def observed(self, trials: Sequence[Trial]) -> Float[Array, "N k"]:
        """z of the states before each action."""
        x = np.concatenate([self.known.observe(trial.x[:-1], self.target) for trial in trials])
        return self.known.inner(torch.as_tensor(x)).numpy()

    def model(self) -> tuple[Any, Data] | None:
        """What the agent has learned."""
        agent = self.agent
        return None if agent.regression is None or agent.data is None else (agent.regression, agent.data)


class Pets(OnRobot):
    """A Trainer."""

    Config, AGENT = Settings, Agent

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """See Agent.learn."""
        figures: dict[str, float] = self.agent.learn(data_of(self.robot, trials))
        return figures


class Planned:
    """An agent as a Policy of the ring: an action lasts for a step of its model."""

    horizon = None

    def __init__(self, of: Any):  # a trainer with `robot`, `known`, `agent` and `target`
        self._of, self._effort = of, np.zeros(of.robot.m)

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], None]:
        """See Policy; what gets the arm close to the limits of the guard is braked."""
        known, agent = self._of.known, self._of.agent
        if step == 0:
            agent.begin()
        if step % self._of.robot.stride == 0:
            self._effort = known.scale * agent.act(known.observe(x, self._of.target))
        return known.braked(x, self._effort), None

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy: it does not know."""
        return 0.0
