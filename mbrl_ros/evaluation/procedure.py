"""The ring driven by hand in the plain loop: rest, excite, fit, and whatever an evaluation asks for next."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import merge
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.prior import prior_of
from mbrl_ros.ring.controller import EXCITE, FAULT, HOLD
from mbrl_ros.ring.learner import OnlineLearner
from mbrl_ros.ring.loop import Ring
from mbrl_ros.types import StateEstimate

Settings = Mapping[str, Any]
RESTING = 1.0  # [s] of hold before and after an excitation


class Stopped(RuntimeError):
    """The controller has faulted; the message is its reason."""


class Drive:
    """A ring after rest and excitation, and the states it has gone through."""

    def __init__(self, settings: Settings, seconds: float, seed: int):
        self.settings = assembly.with_seed(settings, seed)
        parts = assembly.make_parts(merge(self.settings, {"excitation": {"duration": seconds}}), seed)
        self.robot, self.plant, self.learner, self.controller = (parts.robot, parts.plant, parts.learner,
                                                                 parts.controller)
        self.ring = Ring(parts.plant, parts.estimator, parts.learner, parts.controller, parts.plant.reset(seed))
        self.states: list[StateEstimate] = []
        self.run(HOLD, RESTING)
        begin = len(self.states)
        self.run(EXCITE, seconds)
        self.data = data_of(self.learner, self.states[begin:])

    def run(self, mode: str, seconds: float, keep: bool = True) -> None:
        """So much time in a mode; `keep` the states. Raises Stopped where the controller faults."""
        self.controller.request(mode)
        for _ in range(round(seconds / self.robot.period)):
            state, _ = self.ring.tick()
            if keep:
                self.states.append(state)
            if self.controller.mode == FAULT:
                raise Stopped(self.controller.reason)

    def use(self, model: Any) -> None:
        """Put a model, fitted to the excitation, behind the learner, and rest."""
        set_prior(self.learner, model, self.data, self.settings)
        self.run(HOLD, RESTING)


def data_of(learner: OnlineLearner, states: list[StateEstimate]) -> Data:
    """The transitions between states of one episode."""
    rows, features = learner.robot.joint_rows, learner.features
    z, u = np.array([s.belief.mean[rows] for s in states]), np.array([s.effort for s in states[1:]])
    return Data(features, features.w(z[:-1], u), features.y(z[:-1], z[1:]), learner.robot)


def set_prior(learner: OnlineLearner, model: Any, data: Data, settings: Settings) -> None:
    """Put a model that was fitted to these data behind a learner."""
    learner.set_prior(prior_of(model, settings), scale_of(np.hstack([data.w, data.y]))[1])
