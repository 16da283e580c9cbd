"""The parameters `task.*` of the controller: weights, speed and target, which may change while the robot runs."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mbrl_ros import config
from mbrl_ros.nodes import options
from mbrl_ros.nodes.parameters import PartNode
from mbrl_ros.ring.controller import Controller
from mbrl_ros.task.terms import Task


class TaskParameters:
    """Declares the terms that the task names, and gives the controller a new Task when one of them changes."""

    def __init__(self, node: PartNode, controller: Controller, settings: Mapping[str, Any]):
        self._controller = controller
        task = controller.mpc.task
        self._groups: dict[str, Any] = {**task.terms, "path": task.path}
        for name, value in self._groups.items():
            node.declare(f"task.{name}", value, partial(self._change, name))
        own = {"terms": list(task.terms), "target": settings.get("target", [])}
        self._aim(node.declare("task", config.from_mapping(options.Task, own, "task"), self._aim))

    def _aim(self, own: options.Task) -> None:
        if own.target:
            self._controller.set_target(np.array(own.target))

    def _change(self, name: str, value: Any) -> None:
        self._groups[name] = value
        groups = {key: dataclasses.asdict(group) for key, group in self._groups.items()}
        terms = [key for key in groups if key != "path"]
        self._controller.mpc.task = Task({"terms": terms, **groups}, self._controller.robot)
