"""Feed the controller what was recorded again: its events, and at every tick the dynamics that the learner gives."""
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from mbrl_ros import config
from mbrl_ros.config import ConfigError, section
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.messages.ring import Command, LocalModel
from mbrl_ros.models.prior import load
from mbrl_ros.models.robot_model import RobotModel
from mbrl_ros.recordings.compared import Compared, Event, changes, fork, model_path
from mbrl_ros.recordings.run import Run, Said
from mbrl_ros.ring.asked import Asked
from mbrl_ros.ring.controller import EXCITE, FAULT, IDLE, Controller
from mbrl_ros.ring.guard import ARMED
from mbrl_ros.ring.learner import features_of
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.mpc import GLOBAL
from mbrl_ros.robot import Robot
from mbrl_ros.task.frames import Frames
from mbrl_ros.task.task import Task
from mbrl_ros.types import Array

EVENTS = ("mode", "target", "parameters", "guard", "model", "policy")


class _Player:
    """A controller and the settings that change while it runs."""

    def __init__(self, part: Controller, settings: Mapping[str, Any], robot: Robot, run: Run):
        self.part, self.task, self.robot, self.run = part, dict(section(settings, "task")), robot, run
        self.model: RobotModel | None = None
        self.frames = Frames(robot)
        part.acts = bool(section(settings, "guard").get("arm_at_start"))
        part.mpc.budget = np.inf

    def copy(self) -> _Player:
        """One that goes on by itself."""
        other = copy.copy(self)
        mpc = self.part.mpc
        other.part = fork(self.part, self.robot, self.part.config, self.part.excitation, mpc.planner, mpc.task,
                          mpc.device, mpc._limit, self.part.player.policy)
        return other

    def take(self, event: Event) -> None:
        """What a node does with it."""
        what, value = event
        part = self.part
        if what == "guard":
            part.acts = value.text == ARMED
        elif what == "mode" and value.text != part.mode:
            if value.text in (IDLE, FAULT):
                part.stop(value.text, "as recorded")
            else:
                part.request(value.text)
        elif what == "target":
            self._ask(value.kind, value.value.message)
        elif what == "policy":
            part.set_policy(LinearPolicy(value.timed, self.robot))
        elif what == "model":
            if part.config.model == GLOBAL:
                path = model_path(self.run, value)
                self.model = RobotModel(self.robot, features_of(self.robot), load(path, self.robot))
            part.has_model = True
        elif what == "parameters":
            for name, new in changes(value, "controller"):
                self._set(name, new)

    def _ask(self, kind: str, message: Any) -> None:
        """A message of a topic whose last part is `kind`."""
        try:
            getattr(Asked(self.part, self.frames), kind)(message)
        except (MessageError, ConfigError):
            return  # it was not taken then, either

    def _aim(self, position: Array) -> None:
        try:
            self.part.set_target(np.asarray(position, float))
        except ConfigError:
            return  # it was not taken then, either

    def _set(self, name: str, value: Any) -> None:
        group, _, key = name.partition(".")
        part = self.part
        if name == "task.target":
            if len(value) == 3:
                self._aim(value)
        elif group == "task":
            self.task = config.merge(self.task, config.unflatten({key: value}))
            part.mpc.task = Task({k: v for k, v in self.task.items() if k != "target"}, self.robot)
        elif group == "controller" and hasattr(part.config, key):
            part.config = part.mpc.config = config.changed(part.config, {key: value}, group)
        elif group == "excitation":
            part.excitation = part.base.config = config.changed(part.excitation, {key: value}, group)


def control(run: Run, part: Controller, settings: Mapping[str, Any], robot: Robot, dynamics: dict[int, LocalModel],
            found: Compared) -> int:
    """Compare every effort that was asked for; how many plans were late."""
    said: dict[int, Command] = {}
    between: list[list[Event]] = [[]]  # the events before every tick, by when its command was recorded
    ticks: list[int] = []
    for what, value in run.order:
        if what == "asked" and value[1].answers and value[1].answers not in said:
            said[value[1].answers] = value[1]
            ticks.append(value[1].answers)
            between.append([])
        elif what in EVENTS and not (what == "parameters" and value[0]):
            between[-1].append((what, value))
    player, left = _Player(part, settings, robot, run), list[Event]()
    target = section(settings, "task").get("target", [])
    if len(target) == 3:
        player._aim(target)
    late = 0
    for k, time in enumerate(ticks):
        if time not in dynamics:
            continue
        here = [*left, *between[k]]
        player, left, taken_early, was_late = _acted(player, dynamics[time], here, between[k + 1], said[time].effort,
                                                     found)
        between[k + 1] = between[k + 1][taken_early:]
        late += was_late
    return late


def _acted(player: _Player, model: LocalModel, events: list[Event], next_events: list[Event], said: Array | None,
           found: Compared) -> tuple[_Player, list[Event], int, int]:
    """One tick: the player after it, the events that it has not taken yet, how many it took before their time, and
    whether its plan was late."""
    again = [("mode", Said(0, "mode", EXCITE))]
    ways: list[tuple[list[Event], list[Event], int, bool]] = [
        (events, [], 0, False), (events, [], 0, True), *(
            (events[:i], events[i:], 0, False) for i in reversed(range(len(events)))), *(
            (events + next_events[:i], [], i, False) for i in range(1, len(next_events) + 1))]
    expected = np.full(len(model.state.effort), np.nan) if said is None else said
    backup = player.copy()
    first = _tick(player, model, events, False)
    chosen = player, first, list[Event](), 0, False
    if not np.array_equal(first, expected, equal_nan=True):
        for taken, left, early, late in [*ways[1:], (events + again, [], 0, False)]:
            other = backup.copy()
            if taken is not events and taken[len(events):] == again:
                other.part.request(EXCITE)
            effort = _tick(other, model, taken, late)
            if np.array_equal(effort, expected, equal_nan=True):
                chosen = other, effort, left, early, late
                break
    player, effort, left, early, late = chosen
    found.add(model.state.time, [(effort, expected)])
    return player, left, early, int(late)


def _tick(player: _Player, model: LocalModel, events: list[Event], late: bool) -> Array:
    for event in events:
        player.take(event)
    part = player.part
    part.mpc.budget = -1.0 if late else np.inf
    effort = part.act(model.state, model.dynamics, model.trust, player.model)
    return np.full(player.robot.m, np.nan) if effort is None else effort
