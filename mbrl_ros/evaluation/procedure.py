"""What is done with a ring: hold, excite, fit, follow; and trials of a policy, again and again from the same start.

The order of the steps is `learn` and `follow_all`. They are done in the plain loop by Run, and over ROS by
nodes/experiment.py; both take the lengths of time from here.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import merge
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.measures import FAILED, TargetResult
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.prior import fit, prior_of
from mbrl_ros.ring.controller import EXCITE, EXPLORED, FAULT, HOLD, HOME, IDLE, POLICY, REACH
from mbrl_ros.ring.learner import OnlineLearner, features_of
from mbrl_ros.ring.loop import Ring
from mbrl_ros.ring.policy import Policy
from mbrl_ros.robot import Robot
from mbrl_ros.simulation.oracle import Oracle, yardstick
from mbrl_ros.simulation.world import World, before_wall
from mbrl_ros.types import Array, StateEstimate, Transitions, Trial

Settings = Mapping[str, Any]
Listener = Callable[[StateEstimate], object]
RESTING = 1.0  # [s] of hold before an excitation and after a fit
RESET, BY_ITSELF = BACK = ("reset", "home")  # how the arm gets back to its start: put there, or moved by the ring
HOMING = 20.0  # [s] that the way back may take
NEAR, SLOW, CALM = 0.02, 0.02, 0.3  # [rad or m] from home, part of the velocity limit, [s] for which that must last


class Stopped(RuntimeError):
    """The controller has faulted, or does not get where it should; the message is the reason."""


class Driver(Protocol):
    """Whoever can do the steps with a ring. Times are in seconds."""

    def hold(self, seconds: float) -> None: ...
    def excite(self, seconds: float) -> None: ...
    def fit(self, seconds: float) -> None: ...  # a global model to the latest motion, put behind the learner
    def disturb(self) -> None: ...  # what is other from half-way on
    def follow(self, target: Array) -> TargetResult: ...  # FAILED after a fault


def learning(data_seconds: float) -> dict[str, Any]:
    """Settings for an excitation of so many seconds; for none, exploration on the way to the first targets."""
    if data_seconds > 0:
        return {"excitation": {"duration": data_seconds}, "learner": {"fit_seconds": data_seconds}}
    return {"controller": {"explore": True}, "learner": {"fit_after": EXPLORED}}


def learn(driver: Driver, data_seconds: float) -> None:
    """Rest, excite, fit, rest; nothing where it learns on the way."""
    if data_seconds > 0:
        driver.hold(RESTING)
        driver.excite(data_seconds)
        driver.fit(data_seconds)
        driver.hold(RESTING)


def follow_all(driver: Driver, config: measures.Config, targets: Sequence[Array]) -> list[TargetResult]:
    """One result for each target, half of them with what `disturb` does; after a failure the remaining have failed."""
    results: list[TargetResult] = []
    for i, target in enumerate(targets):
        if i == (config.targets + 1) // 2:
            driver.disturb()
        results.append(driver.follow(target) if FAILED not in results else FAILED)
    return results


class Run:
    """A ring in the plain loop, and the steps that are done with it: a Driver, for one seed.

    `start` is the world at first (the settings' where None), `change` the one after half of the targets (a payload
    where None). A task whose path has no end, a figure-eight, is followed for one cycle in place of each target, and
    one before. `listen` is called with every state. Steps but `follow` raise Stopped where the controller faults.
    """

    def __init__(self, settings: Settings, config: measures.Config, seed: int, oracle: bool = False,
                 start: World | None = None, change: World | None = None, listen: Listener | None = None):
        settings = yardstick(settings) if oracle else settings
        self.settings, self.config, self.seed, self.listen = settings, config, seed, listen
        parts = assembly.make_parts(merge(settings, learning(config.data_seconds)), seed)
        self.robot, self.plant, self.controller = parts.robot, parts.plant, parts.controller
        self.learner: OnlineLearner | Oracle = Oracle(parts.plant) if oracle else parts.learner
        self.start = start or self.plant.world
        self.change = change or replace(self.start, payload=config.payload)
        if oracle and config.data_seconds == 0:
            self.fit(0.0)
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
        """One for each target or cycle, after learning; after a divergence the remaining ones have failed."""
        try:
            learn(self, self.config.data_seconds)
        except Stopped as stopped:
            self.fault = str(stopped)
            return [FAILED] * self.config.targets
        targets = self._targets()
        if self.tracking and self.follow(targets[0]) is FAILED:
            return [FAILED] * len(targets)
        self.error.clear()
        return follow_all(self, self.config, targets)

    # --- the steps

    def tick(self) -> tuple[StateEstimate, Array]:
        """One period; the state acted on, and the effort (m,) that was commanded."""
        state, effort = self.ring.tick()
        if self.listen is not None:
            self.listen(state)
        if self.controller.mode == FAULT:
            raise Stopped(self.controller.reason)
        return state, effort

    def let(self, mode: str, seconds: float) -> None:
        """So much time in a mode."""
        self.controller.request(mode)
        for _ in range(round(seconds / self.robot.period)):
            self.tick()

    def hold(self, seconds: float = RESTING) -> None:
        """Rest."""
        self.let(HOLD, seconds)

    def excite(self, seconds: float) -> None:
        """Move all joints."""
        self.let(EXCITE, seconds)

    def data(self, seconds: float) -> Data:
        """What the learner has kept of the latest motion. Raises TypeError for the oracle, which keeps nothing."""
        learner = self.learner
        if isinstance(learner, Oracle):
            raise TypeError("the oracle learns from nothing")
        return Data.of(learner.transitions(seconds), learner.features, self.robot)

    def fit(self, seconds: float) -> None:
        """See Driver."""
        if isinstance(self.learner, Oracle):
            self.learner.active = self.controller.has_model = True
            return
        self.fit_to(self.data(seconds))

    def fit_to(self, data: Data) -> None:
        """Fit the global model of the settings to these data, and put it behind the learner."""
        assert isinstance(self.learner, OnlineLearner)
        config = self.learner.config
        self.use(fit(config.prior, data, self.settings, config.seed), data)

    def use(self, model: Any, data: Data) -> None:
        """Put a model that was fitted to these data behind the learner."""
        assert isinstance(self.learner, OnlineLearner)
        set_prior(self.learner, model, data, self.settings)
        self.controller.has_model = True

    def disturb(self) -> None:
        """See Driver; it is `config.change_after` later that the world changes."""
        self.changed = len(self.error) + round(self.config.change_after / self.robot.period)

    def follow(self, target: Array, mode: str = REACH) -> TargetResult:
        """One target, or one cycle about it; in the mode `policy` the path is the target."""
        said = self.controller.set_target(target)
        if said and self.config.beyond > 0:
            target = self.controller.mpc.target
        self.controller.request(mode)
        seconds = self.controller.mpc.task.path.cycle or self.config.seconds_per_target
        tool, reference, efforts = [], [], []
        for _ in range(round(seconds / self.robot.period)):
            if len(self.error) == self.changed:
                self._enter(self.change)
            tool.append(self.plant.true_tool())
            began = time.perf_counter()
            try:
                efforts.append(self.tick()[1])
            except Stopped as stopped:
                self.fault = str(stopped)
                self.error.append(np.inf)
                return FAILED
            self.tick_ms.append(1e3 * (time.perf_counter() - began))
            if isinstance(self.learner, OnlineLearner) and self.learner.fit_due():
                self.fit(EXPLORED)
            reference.append(target if mode == POLICY else self.controller.mpc.reference)
            self.error.append(float(np.linalg.norm(tool[-1] - reference[-1])))
        moved, path, acted = np.array(tool), np.array(reference), np.array(efforts)
        if self.tracking:
            return measures.score_cycle(self.robot, moved, path, acted)
        return measures.score(self.robot, moved, path, target, acted)

    def back(self, how: str, seed: int) -> None:
        """To the start posture, at rest: how is one of BACK; `seed` is for the noise of a plant that is reset."""
        if how == RESET:
            self.controller.stop(IDLE, "back at the start")  # so that whatever comes next begins anew
            self.ring.begin(self.plant.reset(seed))
            return
        robot, calm = self.robot, 0
        self.controller.request(HOME)
        for _ in range(round(HOMING / robot.period)):
            x = self.tick()[0].belief.mean
            speed = np.abs(x[robot.slice("joint/velocity")]) / robot.velocity_limit
            there = np.abs(x[robot.slice("joint/position")] - robot.home).max() < NEAR and speed.max() < SLOW
            calm = calm + 1 if there else 0
            if calm * robot.period >= CALM:
                return
        raise Stopped(f"the start posture is not reached within {HOMING:g} s")

    # --- figures

    def recovery(self) -> float | None:
        """Seconds from the change until the path is followed as before; None where nothing changed."""
        return self._after_change(measures.recovery_time)

    def peak_mm(self) -> float | None:
        """Largest error in the second after the change; None where nothing changed."""
        return self._after_change(measures.peak_mm)

    def _after_change(self, figure: Callable[[Array, int, float], float]) -> float | None:
        if self.change == self.start:
            return None
        if not 0 < self.changed < len(self.error):
            return float("inf")  # diverged before
        return figure(np.array(self.error), self.changed, self.robot.period)

    def rms_mm(self) -> float | None:
        """Root mean square of the error to a path without end; None for targets."""
        if not self.tracking:
            return None
        return float("inf") if self.fault else 1e3 * float(np.sqrt(np.mean(np.square(self.error))))

    def _enter(self, world: World) -> None:
        if world != self.plant.world:
            self.plant.change(world)
        if isinstance(self.learner, Oracle):
            self.controller.mpc.delay.given = float(world.delay)

    def _targets(self) -> list[Array]:
        if self.tracking:
            return [self.robot.tool_position(self.robot.home)] * self.config.targets
        drawn = measures.draw_targets(self.robot, self.config)
        # A wall must not appear behind the tool: targets before the change respect it, too.
        return [before_wall(self.robot, self.change, target) for target in drawn]


def excited(settings: Settings, seconds: float, seed: int, listen: Listener | None = None) -> tuple[Run, Data]:
    """A run after rest and excitation, and the transitions within the excitation. Raises Stopped."""
    run = Run(settings, measures.Config(data_seconds=seconds), seed, listen=listen)
    run.hold()
    run.excite(seconds)
    return run, run.data(seconds - run.robot.period)  # the first transition led into it


def collect(run: Run, policy: Policy | str, n: int, steps: int, seed: int, back: str = RESET) -> list[Trial]:
    """n trials of at most `steps` periods, each from the start posture (`back`, one of BACK); trial i has seed + i.

    `policy` is what to play, or a mode of the controller, such as REACH for planning towards its target. A trial is
    shorter where its policy ends or is left, and where the controller faults: that is data, too.
    """
    mode, outer, trials = policy if isinstance(policy, str) else POLICY, run.listen, []
    if not isinstance(policy, str):
        run.controller.set_policy(policy)
    for i in range(n):
        run.back(back, seed + i)
        run.controller.player.seed(seed + i)
        states: list[StateEstimate] = []
        run.listen = states.append
        run.controller.request(mode)
        try:
            run.tick()
            while run.controller.mode == mode and len(states) <= steps:  # the last state is where the trial has led
                run.tick()
        except Stopped:
            pass  # the state at which it was is in the list
        finally:
            run.listen = outer
        trials.append(trial_of(run.robot, states))
    return trials


def trial_of(robot: Robot, states: Sequence[StateEstimate]) -> Trial:
    """States of one episode, without a gap; u[t] led from x[t] to x[t + 1], so it is the effort of the later one."""
    efforts = np.array([s.effort for s in states[1:]]).reshape(-1, robot.m)
    return Trial(np.array([s.belief.mean for s in states]), efforts, np.array([s.time for s in states]),
                 robot.state_names, robot.joints)


def transitions_of(robot: Robot, trials: Sequence[Trial]) -> Transitions:
    """Those of the joint rows of all trials."""
    rows, parts = robot.joint_rows, [trial.transitions(robot.stride) for trial in trials]
    x, x_next = (np.concatenate([getattr(p, key)[:, rows] for p in parts]) for key in ("x", "x_next"))
    return Transitions(x, np.concatenate([p.u for p in parts]), x_next)


def data_of(robot: Robot, trials: Sequence[Trial]) -> Data:
    """The transitions of all trials."""
    return Data.of(transitions_of(robot, trials), features_of(robot), robot)


def set_prior(learner: OnlineLearner, model: Any, data: Data, settings: Settings) -> None:
    """Put a model that was fitted to these data behind a learner."""
    learner.set_prior(prior_of(model, settings), scale_of(np.hstack([data.w, data.y]))[1])
