"""Learners of steps as trainers of the robot of the ring: SAC, MBPO, AMPO and MAAC.

What a trial brought is gone through step by step once it is over, with as many updates as a learner beside the arm
would make. What is played is the actor, in the mode `policy` with its noise; before the first update it is noise alone.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mbrl_ros.config import from_mapping, section
from mbrl_ros.environments.environment import Step
from mbrl_ros.models.features import scale_of
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.ring.actor_policy import ActorPolicy
from mbrl_ros.ring.network_policy import names_of
from mbrl_ros.trainers import ampo, maac, mbpo, sac
from mbrl_ros.trainers.network import whitening
from mbrl_ros.trainers.pets import OnRobot
from mbrl_ros.trainers.steps import Free
from mbrl_ros.types import Array, Trial


class OnSteps(OnRobot):
    """A Trainer."""

    SETTINGS: Mapping[str, Any] = {"controller": {"policy_noise": 1.0}, "learner": {"adapt": False}}  # of the others

    LEARNER: Any  # made of SAC's settings and its own, `Config`

    def agent_of(self, config: Any, settings: Mapping[str, Any], seed: int) -> Free:
        """See OnRobot."""
        if isinstance(config, sac.Settings):
            return Free(self.known, config, seed)
        base, model = (from_mapping(kind, section(settings, name), name) for name, kind in (
            ("sac", sac.Settings), ("pe", ProbabilisticEnsemble.Config)))
        learner: Free = self.LEARNER(self.known, base, config, seed, model)
        return learner

    def policy(self) -> ActorPolicy:
        """What it has learned, or noise."""
        return self.learned()

    def learned(self) -> ActorPolicy:
        """The actor as a policy of the ring."""
        learner, robot, k = self.agent, self.robot, 2 * self.robot.m + 3
        mean, scale, whiten = np.zeros(k), np.ones(k), np.zeros((k, k))
        if len(learner.replay):
            seen = learner.replay.states().double().numpy()
            mean, scale = scale_of(seen)
            whiten = whitening((seen - mean) / scale)
        layers: dict[str, Array] = {}
        for i, (W, b) in enumerate(zip(learner.agent.actor.W, learner.agent.actor.b, strict=True)):
            layers |= {f"W{i}": W[0].detach().double().numpy(), f"b{i}": b[0, 0].detach().double().numpy()}
        return ActorPolicy({**names_of(robot), "every": np.array(robot.stride), "unit": self.known.scale, "mean": mean,
                            "scale": scale, "whiten": whiten, **layers}, robot)

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Observe and improve, step by step. `reward` is the mean of these trials."""
        known, learner = self.known, self.agent
        rewards: list[float] = []
        for trial in trials:
            of = trial.transitions(self.robot.stride)
            x, after = (known.observe(states, self.target) for states in (of.x, of.x_next))
            z, a = known.inner(torch.as_tensor(after)), np.clip(of.u / known.scale, -1.0, 1.0)
            earned, over = known.reward(z, torch.as_tensor(a)).tolist(), known.terminated(z).tolist()
            for i, reward in enumerate(earned):
                learner.observe(x[i], a[i], Step(after[i], reward, over[i], False))
                learner.improve()
            rewards += earned
        return {"transitions": float(learner.count), "reward": float(np.mean(rewards)), **learner.figures}

    def model(self) -> None:
        """None: rollouts of a model that the policy is to find its way in are no prior for the ring."""


class SacOnRobot(OnSteps):
    """A Trainer."""

    Config = sac.Settings


class MbpoOnRobot(OnSteps):
    """A Trainer."""

    Config, LEARNER = mbpo.Settings, mbpo.Mbpo


class AmpoOnRobot(OnSteps):
    """A Trainer."""

    Config, LEARNER = ampo.Settings, ampo.Ampo


class MaacOnRobot(OnSteps):
    """A Trainer."""

    Config, LEARNER = maac.Settings, maac.Maac
