"""What the tool shall stay out of: spheres, boxes and planes. Each is a residual, and a distance for paths (bypass.py).

A residual is how deep the tool is within `margin` of the shape [m]; with the norm `hinge` nothing is paid outside. It
is expanded about the path, where that is outside, and about where the tool is, where the path leads through: the shape
is then on one side of a plane that turns as the tool moves.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from mbrl_ros.config import ConfigError, param
from mbrl_ros.robot import Robot
from mbrl_ros.task.residuals import Rows, Tangent, Window
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

NEAR = 0.1  # [m] from the margin from which on a step of the horizon counts
MARGIN = "How far the tool shall stay away from it [m]"


class KeepOut(Protocol):
    """A shape."""

    margin: float

    def distance(self, p: Float[Array, "*b 3"]) -> tuple[Float[Array, " *b"], Float[Array, "*b 3"]]:
        """Of points to its surface [m], negative inside, and the derivative of that, of length 1."""

    def on(self, robot: Robot) -> Tangent:
        """The residual: margin - distance, a row for every step that is near."""
        tool = np.eye(robot.n, robot.n + robot.m)[robot.slice(f"site/{robot.sites[0]}/position")]

        def rows(window: Window) -> Rows | None:
            at = window.position
            d, normal = self.distance(at)
            through = np.flatnonzero(d < 0.0)
            if len(through):
                d[through], normal[through] = self.distance(window.tool)
                at = at.copy()
                at[through] = window.tool
            near = np.flatnonzero(d < self.margin + NEAR)
            if len(near) == 0:
                return None
            # row j is the plane of step near_j, and counts there alone
            active = np.zeros((len(at), len(near)))
            active[near, np.arange(len(near))] = 1.0
            offset = (normal[near] * at[near]).sum(1) - d[near] + self.margin
            return Rows(-normal[near] @ tool, np.tile(-offset, (len(at), 1)), active)

        return Tangent(rows)


def _three(name: str, values: tuple[float, ...], what: str) -> None:
    if len(values) != 3:
        raise ConfigError(f"{name}: expected {what}, got {len(values)} numbers")


@dataclass(frozen=True)
class KeepOutSphere(KeepOut):
    """How deep the tool is in a sphere [m]."""

    center: tuple[float, ...] = param((0.0, 0.0, 0.0), "Centre in the base frame [m]", live=True)
    radius: float = param(0.1, "Radius of the sphere [m]", 0.0, 10.0, live=True)
    margin: float = param(0.01, MARGIN, 0.0, 1.0, live=True)

    def __post_init__(self) -> None:
        _three("center", self.center, "3 coordinates [m]")

    def distance(self, p: Array) -> tuple[Array, Array]:
        """See KeepOut."""
        away = p - np.array(self.center)
        length = np.linalg.norm(away, axis=-1, keepdims=True)
        up = np.array([0.0, 0.0, 1.0])
        return length[..., 0] - self.radius, np.where(length > 1e-9, away / np.maximum(length, 1e-9), up)


@dataclass(frozen=True)
class KeepOutBox(KeepOut):
    """How deep the tool is in a box [m]."""

    center: tuple[float, ...] = param((0.0, 0.0, 0.0), "Centre in the base frame [m]", live=True)
    size: tuple[float, ...] = param((0.1, 0.1, 0.1), "Lengths of its edges along its own axes [m]", 0.0, live=True)
    tilt: tuple[float, ...] = param((0.0, 0.0, 0.0), "Roll, pitch and yaw of its axes [rad]", live=True)
    margin: float = param(0.01, MARGIN, 0.0, 1.0, live=True)

    def __post_init__(self) -> None:
        _three("center", self.center, "3 coordinates [m]")
        _three("size", self.size, "3 lengths [m]")
        _three("tilt", self.tilt, "3 angles [rad]")

    def distance(self, p: Array) -> tuple[Array, Array]:
        """See KeepOut."""
        axes = Rotation.from_euler("xyz", self.tilt).as_matrix()
        local = (p - np.array(self.center)) @ axes
        over = np.abs(local) - 0.5 * np.array(self.size)  # beyond the faces
        outside = np.maximum(over, 0.0)
        length = np.linalg.norm(outside, axis=-1, keepdims=True)
        nearest = np.eye(3)[over.argmax(-1)]  # the face that is left first from within
        normal = np.where(length > 1e-9, outside / np.maximum(length, 1e-9), nearest)
        d = np.where(length[..., 0] > 1e-9, length[..., 0], over.max(-1))
        return d, (normal * np.where(local < 0, -1.0, 1.0)) @ axes.T


@dataclass(frozen=True)
class KeepOutPlane(KeepOut):
    """How deep the tool is behind a plane [m]."""

    point: tuple[float, ...] = param((0.0, 0.0, 0.0), "On the plane, in the base frame [m]", live=True)
    normal: tuple[float, ...] = param((0.0, 0.0, 1.0), "To the side where the tool shall be", live=True)
    margin: float = param(0.01, MARGIN, 0.0, 1.0, live=True)

    def __post_init__(self) -> None:
        _three("point", self.point, "3 coordinates [m]")
        _three("normal", self.normal, "a direction of 3 numbers")
        if not any(self.normal):
            raise ConfigError("normal: expected a direction, got zero")

    def distance(self, p: Array) -> tuple[Array, Array]:
        """See KeepOut."""
        normal = np.array(self.normal) / np.linalg.norm(self.normal)
        return (p - np.array(self.point)) @ normal, np.broadcast_to(normal, np.shape(p)).copy()
