"""Frames that targets may be in: the robot's base, and whatever of its model does not move against that."""
from __future__ import annotations

import mujoco
import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

WORLD = "world"  # of the model file, in which the ring works


class UnknownFrame(ConfigError):
    """A frame that is not known, or moves."""


class Frames:
    """Poses of frames by name."""

    def __init__(self, robot: Robot):
        model, data = robot.model, mujoco.MjData(robot.model)
        mujoco.mj_kinematics(model, data)
        self._known: dict[str, tuple[Array, Array]] = {}
        for count, of, body, p, R in (
                (model.nbody, model.body, lambda i: i, data.xpos, data.xmat),
                (model.nsite, model.site, lambda i: model.site_bodyid[i], data.site_xpos, data.site_xmat)):
            for i in range(count):
                if of(i).name and model.body_weldid[body(i)] == 0:
                    self._known[of(i).name] = p[i].copy(), R[i].reshape(3, 3).copy()
        for name in ("", WORLD, robot.base_frame):
            self._known[name] = np.zeros(3), np.eye(3)
        self._base = robot.base_frame

    def of(self, name: str, what: str = "target") -> tuple[Array, Array]:
        """Position (3,) [m] and rotation (3, 3) of a frame. Raises UnknownFrame."""
        if name not in self._known:
            rest = ", ".join(sorted(set(self._known) - {"", self._base}))
            raise UnknownFrame(f"{what}: frame {name!r}; expected {self._base!r} (robot.base_frame), none, or one that "
                               f"does not move: {rest}")
        return self._known[name]
