"""The parameters `task.*` of the controller: weights, speed and target, which may change while the robot runs."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mbrl_ros import config, options
from mbrl_ros.nodes.parts import PartNode
from mbrl_ros.ring.controller import Controller
from mbrl_ros.task.task import Task


class TaskParameters:
    """Declares the terms that the task names, and gives the controller a new Task when one of them changes."""

    def __init__(self, node: PartNode, controller: Controller, settings: Mapping[str, Any]):
        self._node, self._controller = node, controller
        task = controller.mpc.task
        self._groups = {name: list(parts) for name, parts in task.groups.items()}
        for name, parts in task.groups.items():
            for i, part in enumerate(parts):
                node.declare(f"task.{name}", part, partial(self._change, name, i), partial(self._changed, name, i))
        own = {"terms": list(task.terms), "target": settings.get("target", [])}
        self._aim(node.declare("task", config.from_mapping(options.Task, own, "task"), self._aim))

    def _aim(self, own: options.Task) -> None:
        said = self._controller.set_target(np.array(own.target)) if own.target else ""
        if said:
            self._node.get_logger().warning(f"{said}, and the tool goes there")

    def _change(self, name: str, i: int, value: Any) -> None:
        self._controller.mpc.task = self._changed(name, i, value)
        self._groups[name][i] = value

    def _changed(self, name: str, i: int, value: Any) -> Task:
        """The task with other settings as part i of a group. Raises ConfigError where the robot does not fit them."""
        parts = {**self._groups, name: [*self._groups[name][:i], value, *self._groups[name][i + 1 :]]}
        groups = {key: {k: v for part in of for k, v in dataclasses.asdict(part).items()} for key, of in parts.items()}
        return Task({"terms": [key for key in groups if key != "path"], **groups}, self._controller.robot)
