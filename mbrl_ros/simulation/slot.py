"""A peg in the hand and a slot in the table for it: where they are, how they fit, and how they touch.

The peg is square, and points down at home with its end at the tool. The slot is an upright gap between two blocks over
a floor, wider than the peg by the clearance in the direction from the base to the tool, and open across it. Only the
peg meets the blocks. Contact is always the same (hand.py), so that figures can be compared, and so is the friction of
the world.
"""
from __future__ import annotations

import mujoco

from mbrl_ros.robot import Robot
from mbrl_ros.simulation import hand
from mbrl_ros.types import Array

PEG, LENGTH = 0.02, 0.1  # [m] width and length
DEPTH, GAP = 0.06, 0.01  # [m] of the slot, and of that how much is left below the end of the peg at the goal
BLOCK, ACROSS, FLOOR = 0.12, 0.06, 0.02  # [m] a block is wide, half of it across, and the floor thick


def goal(robot: Robot, beside: float, below: float) -> Array:
    """Where the tool is when the peg is in (3,) [m]: so far beyond and below its home."""
    home, axes = hand.frame(robot)
    where: Array = home + beside * axes[:, 0] - below * axes[:, 2]
    return where


def furnish(spec: mujoco.MjSpec, robot: Robot, clearance: float, friction: float, beside: float, below: float) -> None:
    """Put both into a model."""
    hand.hold(spec, robot, "peg", mujoco.mjtGeom.mjGEOM_BOX, [PEG / 2, PEG / 2, LENGTH / 2], LENGTH / 2)
    axes = hand.frame(robot)[1]
    bottom, facing = goal(robot, beside, below) - GAP * axes[:, 2], hand.quaternion(axes)
    half = 0.5 * (PEG + clearance)
    for name, along, up, size in (("near", -half - BLOCK / 2, DEPTH / 2, [BLOCK / 2, ACROSS, DEPTH / 2]),
                                  ("far", half + BLOCK / 2, DEPTH / 2, [BLOCK / 2, ACROSS, DEPTH / 2]),
                                  ("floor", 0.0, -FLOOR / 2, [half + BLOCK, ACROSS, FLOOR / 2])):
        spec.worldbody.add_geom(name=f"slot_{name}", type=mujoco.mjtGeom.mjGEOM_BOX, size=size, quat=facing,
                                pos=bottom + along * axes[:, 0] + up * axes[:, 2], rgba=[0.55, 0.57, 0.6, 1],
                                **hand.meets(friction))
