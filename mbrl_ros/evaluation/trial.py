"""One seed of a scenario in the plain loop, and the oracle it is measured against."""
from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import merge
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.measures import FAILED, TargetResult
from mbrl_ros.evaluation.procedure import set_prior
from mbrl_ros.models.features import Data
from mbrl_ros.models.prior import fit
from mbrl_ros.ring.controller import EXCITE, EXPLORED, FAULT, HOLD, REACH
from mbrl_ros.ring.loop import Ring
from mbrl_ros.simulation.oracle import Oracle, yardstick
from mbrl_ros.simulation.world import World, before_wall
from mbrl_ros.types import Array

Settings = Mapping[str, Any]
RESTING = 50  # periods of hold before the excitation and after the fit


def _learning(data_seconds: float) -> dict[str, Any]:
    """Settings for an excitation of so many seconds; for none, exploration on the way to the first targets."""
    if data_seconds > 0:
        return {"excitation": {"duration": data_seconds}}
    return {"controller": {"explore": True}, "learner": {"fit_after": EXPLORED}}


class Run:
    """One seed: excite, fit, follow the task, with another world from half-way on.

    `start` is the world at first (the settings' where None), `change` the one after (a payload where None). A task
    whose path has no end, a figure-eight, is followed for one cycle in place of each target, and one before.
    """

    def __init__(self, settings: Settings, config: measures.Config, seed: int, oracle: bool = False,
                 start: World | None = None, change: World | None = None):
        settings = yardstick(settings) if oracle else settings
        self.settings, self.config, self.seed = settings, config, seed
        parts = assembly.make_parts(merge(settings, _learning(config.data_seconds)), seed)
        self.robot, self.plant, self.controller = parts.robot, parts.plant, parts.controller
        self.learner = Oracle(parts.plant) if oracle else parts.learner
        self.start = start or self.plant.world
        self.change = change or replace(self.start, payload=config.payload)
        if oracle and config.data_seconds == 0:
            self._fit(0.0)
        self._enter(self.start)
        self.ring = Ring(parts.plant, parts.estimator, self.learner, parts.controller, parts.plant.reset(seed))
        self.tick_ms: list[float] = []
        self.error: list[float] = []  # [m] to the path, in every period of the results
        self.changed = -1  # the index in `error` of the first period after the change
        self.fault = ""

    @property
    def tracking(self) -> bool:
        """Whether the path has no end."""
        return self.controller.mpc.task.path.cycle is not None

    def results(self) -> list[TargetResult]:
        """One for each target or cycle; after a divergence the remaining ones have failed."""
        if self.config.data_seconds > 0:
            self.excite()
            self._fit(self.config.data_seconds)
            self._run(HOLD, RESTING)
        targets = self._targets()
        if self.tracking and not self.fault:
            self._follow(targets[0])
            self.error.clear()
        results: list[TargetResult] = []
        for i, target in enumerate(targets):
            if i == (self.config.targets + 1) // 2:
                self.changed = len(self.error) + round(self.config.change_after / self.robot.period)
            results.append(self._follow(target) if not self.fault else FAILED)
        return results

    def excite(self) -> None:
        """Rest, then move all joints."""
        self._run(HOLD, RESTING)
        self._run(EXCITE, round(self.config.data_seconds / self.robot.period))

    def recovery(self) -> float | None:
        """Seconds from the change until the path is followed as before; None where nothing changed."""
        if self.change == self.start:
            return None
        if not 0 < self.changed < len(self.error):
            return float("inf")  # diverged before
        return measures.recovery_time(np.array(self.error), self.changed, self.robot.period)

    def peak_mm(self) -> float | None:
        """Largest error in the second after the change; None where nothing changed."""
        if self.change == self.start:
            return None
        if not 0 < self.changed < len(self.error):
            return float("inf")
        return measures.peak_mm(np.array(self.error), self.changed, self.robot.period)

    def rms_mm(self) -> float | None:
        """Root mean square of the error to a path without end; None for targets."""
        if not self.tracking:
            return None
        return float("inf") if self.fault else 1e3 * float(np.sqrt(np.mean(np.square(self.error))))

    def _enter(self, world: World) -> None:
        if world != self.plant.world:
            self.plant.change(world)
        if isinstance(self.learner, Oracle):
            self.controller.mpc.latency.given = float(world.delay)

    def _targets(self) -> list[Array]:
        if self.tracking:
            return [self.robot.tool_position(self.robot.home)] * self.config.targets
        drawn = measures.draw_targets(self.robot, self.config)
        # A wall must not appear behind the tool: targets before the change respect it, too.
        return [before_wall(self.robot, self.change, target) for target in drawn]

    def _run(self, mode: str, periods: int) -> None:
        self.controller.request(mode)
        for _ in range(periods):
            self.ring.tick()
            if self.controller.mode == FAULT:
                self.fault = self.fault or self.controller.reason

    def _fit(self, seconds: float) -> None:
        learner = self.learner
        self.controller.has_model = True
        if isinstance(learner, Oracle):
            learner.active = True
            return
        data = Data.of(learner.transitions(seconds), learner.features, self.robot)
        set_prior(learner, fit(learner.config.prior, data, self.settings, learner.config.seed), data, self.settings)

    def _follow(self, target: Array) -> TargetResult:
        """One target, or one cycle about it."""
        self.controller.set_target(target)
        self.controller.request(REACH)
        seconds = self.controller.mpc.task.path.cycle or self.config.seconds_per_target
        tool, reference, efforts = [], [], []
        for _ in range(round(seconds / self.robot.period)):
            if len(self.error) == self.changed:
                self._enter(self.change)
            tool.append(self.plant.true_tool())
            began = time.perf_counter()
            _, effort = self.ring.tick()
            self.tick_ms.append(1e3 * (time.perf_counter() - began))
            if not isinstance(self.learner, Oracle) and self.learner.fit_due():
                self._fit(EXPLORED)
            if self.controller.mode == FAULT:
                self.fault = self.controller.reason
                self.error.append(np.inf)
                return FAILED
            reference.append(self.controller.mpc.reference)
            efforts.append(effort)
            self.error.append(float(np.linalg.norm(tool[-1] - reference[-1])))
        moved, path, acted = np.array(tool), np.array(reference), np.array(efforts)
        if self.tracking:
            return measures.score_cycle(self.robot, moved, path, acted)
        return measures.score(self.robot, moved, path, target, acted)
