"""A peg in the hand and a slot in the table for it: where they are, how they fit, and how they touch.

The peg is square, and points down at home with its end at the tool. The slot is an upright gap between two blocks over
a floor, wider than the peg by the clearance in the direction from the base to the tool, and open across it. Only the
peg meets the blocks. Contact is as hard as the step of the simulation allows and always the same, so that figures can
be compared: CONTACT, and the friction of the world.
"""
from __future__ import annotations

import mujoco
import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

PEG, LENGTH = 0.02, 0.1  # [m] width and length
DEPTH, GAP = 0.06, 0.01  # [m] of the slot, and of that how much is left below the end of the peg at the goal
BLOCK, ACROSS, FLOOR = 0.12, 0.06, 0.02  # [m] a block is wide, half of it across, and the floor thick
CONTACT = [0.004, 1.0]  # [s], 1: time constant and damping ratio
BIT = 8  # of contype and conaffinity


def goal(robot: Robot, beside: float, below: float) -> Array:
    """Where the tool is when the peg is in (3,) [m]: so far beyond and below its home."""
    home, axes = _frame(robot)
    where: Array = home + beside * axes[:, 0] - below * axes[:, 2]
    return where


def furnish(spec: mujoco.MjSpec, robot: Robot, clearance: float, friction: float, beside: float, below: float) -> None:
    """Put both into a model."""
    axes = _frame(robot)[1]
    site, own = spec.site(robot.sites[0]), np.empty(9)
    mujoco.mju_quat2Mat(own, robot.model.site(robot.sites[0]).quat)
    body = robot.tool(robot.home)[1] @ own.reshape(3, 3).T
    turned = _quaternion(body.T @ axes)
    site.parent.add_geom(name="peg", type=mujoco.mjtGeom.mjGEOM_BOX, size=[PEG / 2, PEG / 2, LENGTH / 2], mass=0,
                         pos=np.asarray(site.pos) + body.T @ np.array([0.0, 0.0, LENGTH / 2]), quat=turned, contype=0,
                         conaffinity=BIT, rgba=[0.9, 0.2, 0.1, 1])
    bottom, facing = goal(robot, beside, below) - GAP * axes[:, 2], _quaternion(axes)
    half = 0.5 * (PEG + clearance)
    for name, along, up, size in (("near", -half - BLOCK / 2, DEPTH / 2, [BLOCK / 2, ACROSS, DEPTH / 2]),
                                  ("far", half + BLOCK / 2, DEPTH / 2, [BLOCK / 2, ACROSS, DEPTH / 2]),
                                  ("floor", 0.0, -FLOOR / 2, [half + BLOCK, ACROSS, FLOOR / 2])):
        spec.worldbody.add_geom(name=f"slot_{name}", type=mujoco.mjtGeom.mjGEOM_BOX, size=size, quat=facing,
                                pos=bottom + along * axes[:, 0] + up * axes[:, 2], contype=BIT, conaffinity=0,
                                priority=1, solref=CONTACT, friction=[friction, 0.005, 0.0001],
                                rgba=[0.55, 0.57, 0.6, 1])


def _frame(robot: Robot) -> tuple[Array, Array]:
    """The tool at home (3,), and the axes (3, 3) away from the base, across, and up, as columns."""
    home = robot.tool_position(robot.home)
    away = np.array([home[0], home[1], 0.0]) / np.linalg.norm(home[:2])
    return home, np.column_stack([away, np.cross([0.0, 0.0, 1.0], away), [0.0, 0.0, 1.0]])


def _quaternion(R: Array) -> Array:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(R).ravel())
    return quaternion
