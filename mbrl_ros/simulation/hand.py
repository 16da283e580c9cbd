"""What is put into the hand for a contact task, and the axes in which such a task is laid out before the arm."""
from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

CONTACT = [0.004, 1.0]  # [s], 1: time constant and damping ratio, as hard as the step of the simulation allows
BIT = 8  # of contype and conaffinity: only what is held meets what stands about
ROD, ABOVE, BELOW = 0.01, 0.02, 0.06  # [m] radius of a rod, and how far it sticks out above and below the tool


def frame(robot: Robot) -> tuple[Array, Array]:
    """The tool at home (3,), and the axes (3, 3) away from the base, across, and up, as columns."""
    home = robot.tool_position(robot.home)
    away = np.array([home[0], home[1], 0.0]) / np.linalg.norm(home[:2])
    return home, np.column_stack([away, np.cross([0.0, 0.0, 1.0], away), [0.0, 0.0, 1.0]])


def quaternion(R: Array) -> Array:
    """Of a rotation (3, 3), as MuJoCo has it."""
    made = np.empty(4)
    mujoco.mju_mat2Quat(made, np.ascontiguousarray(R).ravel())
    return made


def hold(spec: mujoco.MjSpec, robot: Robot, name: str, kind: mujoco.mjtGeom, size: Sequence[float], up: float) -> None:
    """Put a weightless thing into the hand that is upright at home, its middle so far above the tool [m]."""
    axes = frame(robot)[1]
    site, own = spec.site(robot.sites[0]), np.empty(9)
    mujoco.mju_quat2Mat(own, robot.model.site(robot.sites[0]).quat)
    body = robot.tool(robot.home)[1] @ own.reshape(3, 3).T
    site.parent.add_geom(name=name, type=kind, size=list(size), mass=0, contype=0, conaffinity=BIT,
                         pos=np.asarray(site.pos) + body.T @ np.array([0.0, 0.0, up]), quat=quaternion(body.T @ axes),
                         rgba=[0.9, 0.2, 0.1, 1])


def hold_rod(spec: mujoco.MjSpec, robot: Robot) -> None:
    """Put a rod into the hand that points down at home."""
    half = 0.5 * (ABOVE + BELOW)
    hold(spec, robot, "rod", mujoco.mjtGeom.mjGEOM_CYLINDER, [ROD, half, 0.0], ABOVE - half)


def meets(friction: float) -> dict[str, object]:
    """How a shape meets what is held: keywords of a geom."""
    return {"contype": BIT, "conaffinity": 0, "priority": 1, "solref": CONTACT,
            "friction": [friction, 0.005, 0.0001]}
