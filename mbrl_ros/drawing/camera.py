"""The camera that sees the simulated robot: small pictures from a fixed place, drawn by the ray caster.

Sixteen rays meet in a pixel, so that a link which moves by a part of a pixel is seen to move: of a picture 32 pixels
wide, an arm of 0.75 m has one for every 30 mm.
"""
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from mbrl_ros.config import ConfigError, param
from mbrl_ros.drawing.raycast import Shape, corners, frame_all, render
from mbrl_ros.drawing.scene import RED, SKY, TARGET_RADIUS, Scene
from mbrl_ros.messages.camera import BRIGHT
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

FINE = 4  # rays through a pixel, each way
STILL = 1e-6  # [m] that a shape moves which does not: stands and feet need not be in view
SEEN = 12  # postures that the view is framed about, besides home


@dataclass(frozen=True)
class Config:
    """Parameters `camera.*`."""

    width: int = param(0, "Width and height of the pictures of the simulated robot [px]; 0: no camera", 0, 1024)
    color: bool = param(True, "Whether they are in color")
    spread: float = param(0.6, "What moves is in view at home +- this much on every joint [rad or m]", 0.0, 3.0)
    goal: tuple[float, ...] = param((), "Where a red ball is in them: x, y, z [m]; empty: none")

    def __post_init__(self) -> None:
        if len(self.goal) not in (0, 3):
            raise ConfigError(f"camera.goal: expected 3 coordinates [m], got {len(self.goal)}")

    @property
    def channels(self) -> int:
        """Of a picture."""
        return 3 if self.color else 1


class RobotCamera:
    """Looks at a robot, and at the world that it is in where `model` is that. Raises ConfigError without a width."""

    def __init__(self, robot: Robot, config: Config, model: mujoco.MjModel | None = None):
        if config.width == 0:
            raise ConfigError("camera.width: expected a width above 0 of a camera that is to be looked through")
        self.config, rng = config, np.random.default_rng(0)
        q = robot.home + config.spread * np.vstack([np.zeros(robot.m), rng.uniform(-1, 1, (SEEN, robot.m))])
        q = np.clip(q, robot.position_low, robot.position_high)
        size = (config.width, config.width)
        self._scene = Scene(robot.config, q, np.zeros((0, 3)), size, model)
        goal = np.reshape(config.goal, (-1, 3))
        self._goal = [Shape("sphere", np.full(3, TARGET_RADIUS), at, np.eye(3), RED, 1.0) for at in goal]
        points = [goal]
        for same in zip(*(self._scene.shapes(row) for row in q), strict=True):
            if np.ptp([shape.position for shape in same], axis=0).max() > STILL:
                for centers, radius in map(corners, same):
                    points += [centers - radius, centers + radius]
        self.view = frame_all(np.concatenate(points), self._scene.viewpoint(), size)

    def picture(self, q: Array) -> Array:
        """What it sees of joints at q (m,): (rows, columns, 3 or 1), 0 to 255, of whole numbers."""
        colors, depth = render([*self._goal, *self._scene.shapes(q)], self.view.scaled(FINE))
        fine = np.where(np.isfinite(depth)[..., None], colors, SKY.astype(np.uint8))
        width = self.config.width
        mean = fine.reshape(width, FINE, width, FINE, 3).mean((1, 3))
        return np.round(mean if self.config.color else mean @ BRIGHT[:, None]).astype(np.uint8)
