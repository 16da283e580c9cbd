"""Excite once, then plan with a global model that is fitted anew to all motion so far, after every trial.

This is model-based reinforcement learning in its plain form (Deisenroth & Rasmussen 2011 and Nagabandi et al. 2018 have
this loop; how they plan differs). With `learner.adapt: false` nothing else learns.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbrl_ros.config import from_mapping, section
from mbrl_ros.evaluation.procedure import data_of
from mbrl_ros.models.features import Data
from mbrl_ros.models.prior import fit, residuals
from mbrl_ros.ring import learner
from mbrl_ros.ring.controller import EXCITE, REACH
from mbrl_ros.robot import Robot
from mbrl_ros.types import Trial


class Refit:
    """A Trainer of the model `learner.prior`."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `refit.*`: there are none."""

    def __init__(self, config: Config, robot: Robot, settings: Mapping[str, Any], seed: int):
        self.robot, self.settings, self.seed = robot, settings, seed
        self.kind = from_mapping(learner.Config, section(settings, "learner"), "learner").prior
        self._trials: list[Trial] = []
        self._fitted: tuple[Any, Data] | None = None

    def policy(self) -> str:
        """Planning, once there is a model."""
        return EXCITE if self._fitted is None else REACH

    def model(self) -> tuple[Any, Data] | None:
        """That of the last update."""
        return self._fitted

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Of the figures, `surprise` is the mean negative log-likelihood of a new transition by the model before."""
        figures, new = {}, data_of(self.robot, trials)
        if self._fitted is not None:
            figures["surprise_nats"] = residuals(self._fitted[0], new.w, new.y)[2]
        self._trials += trials
        data = data_of(self.robot, self._trials)
        self._fitted = fit(self.kind, data, self.settings, self.seed), data
        return {"transitions": float(len(data.w)), **figures}
