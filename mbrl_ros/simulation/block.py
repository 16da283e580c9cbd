"""A block on a table, and a rod in the hand that pushes it to a place: where they are, and how they touch.

The block is a cube that slides and turns on the table, and cannot tip. It begins before the rod, on the line from the
base to the tool at home. Its coordinates count from its place: away from the base [m], across [m], and how far it is
turned [rad] (JOINTS); where it lifts off the table is for MuJoCo alone. Only the rod meets it, with the friction that
it has on the table. Contact is always the same (hand.py), and so is all that is here.
"""
from __future__ import annotations

import mujoco
import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.simulation import hand
from mbrl_ros.types import Array

PLACED = ("block_away", "block_across")
JOINTS = (*PLACED, "block_turn")
LIFT = "block_lift"
SIDE, MASS = 0.08, 0.5  # [m] and [kg]
BEFORE = 0.005  # [m] from the rod to the block at home
OVER = 0.015  # [m] of the end of the rod over the table
TABLE = 0.25, 0.25, 0.02  # [m] half of it away and across, and how thick it is
ON = 4  # of contype and conaffinity: the block and its table


def goal(robot: Robot, beyond: float, beside: float) -> Array:
    """Where the tool is when the rod has pushed the block to its place, which is so far beyond where the block begins,
    and beside (3,) [m]."""
    home, axes = hand.frame(robot)
    where: Array = home + (BEFORE + beyond) * axes[:, 0] + beside * axes[:, 1]
    return where


def furnish(spec: mujoco.MjSpec, robot: Robot, friction: float, beyond: float, beside: float) -> None:
    """Put both into a model."""
    hand.hold_rod(spec, robot)
    home, axes = hand.frame(robot)
    facing, top = hand.quaternion(axes), home - (hand.BELOW + OVER) * axes[:, 2]
    start = top + (hand.ROD + BEFORE + SIDE / 2) * axes[:, 0] + SIDE / 2 * axes[:, 2]
    meets = {**hand.meets(friction), "contype": hand.BIT | ON}
    middle = start + 0.5 * beyond * axes[:, 0] - (SIDE / 2 + TABLE[2] / 2) * axes[:, 2]
    spec.worldbody.add_geom(name="block_table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=middle, quat=facing,
                            size=[TABLE[0], TABLE[1], TABLE[2] / 2], rgba=[0.55, 0.57, 0.6, 1], **meets)
    body = spec.worldbody.add_body(name="block", pos=start, quat=facing)
    for name, axis, ref in zip((*PLACED, LIFT), np.eye(3), (-beyond, -beside, 0.0), strict=True):
        body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis, ref=ref)
    body.add_joint(name=JOINTS[-1], type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1])
    body.add_geom(name="block", type=mujoco.mjtGeom.mjGEOM_BOX, size=np.full(3, SIDE / 2), mass=MASS,
                  rgba=[0.2, 0.45, 0.75, 1], **{**meets, "conaffinity": ON})
