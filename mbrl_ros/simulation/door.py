"""A door on a hinge, and a rod in the hand that is within its handle and pulls it open: where they are, and how they
touch.

Closed, the panel stands along the line from the base to the tool at home, with its hinge, an upright axis, at the far
end. The handle is a bar on posts at the near end; the rod is between bar and panel, where it has SLACK to all sides.
The coordinate of the hinge (JOINTS) counts from where the door shall be: 0 [rad] is open, as far as the world says, and
it stops where it is closed. Only the rod meets door and handle. Contact is always the same (hand.py); friction and
damping of the hinge are settings.
"""
from __future__ import annotations

import mujoco
import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.simulation import hand
from mbrl_ros.types import Array

JOINTS = ("door",)
RADIUS = 0.35  # [m] from the hinge to the middle of the handle
SLACK = 0.005  # [m] of the rod in the handle towards panel and bar; twice as much towards the posts
THICK, HEIGHT, MASS = 0.02, 0.4, 2.0  # [m] the panel is thick and high, and [kg]
BAR, TALL = 0.01, 0.03  # [m] the bar is thick and high
BELOW = 0.03  # [m] from the tool down to the top of panel and handle: the hand stays above
WIDEST = 1.5  # [rad]


def handle(robot: Robot, angle: float) -> Array:
    """The middle of the handle, at the height of the tool, with the door open by `angle` [rad] (3,) [m]."""
    home, axes = hand.frame(robot)
    where: Array = home + RADIUS * ((1 - np.cos(angle)) * axes[:, 0] + np.sin(angle) * axes[:, 1])
    return where


def furnish(spec: mujoco.MjSpec, robot: Robot, opening: float, friction: float, damping: float, grip: float) -> None:
    """Put both into a model."""
    hand.hold_rod(spec, robot)
    home, axes = hand.frame(robot)
    body = spec.worldbody.add_body(name="door", pos=home + RADIUS * axes[:, 0] - BELOW * axes[:, 2],
                                   quat=hand.quaternion(axes))
    body.add_joint(name=JOINTS[0], type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, -1], ref=-opening,
                   limited=mujoco.mjtLimited.mjLIMITED_TRUE, range=[-opening, WIDEST - opening],
                   solref_limit=hand.CONTACT, frictionloss=friction, damping=[damping, 0, 0])
    gap, ends = hand.ROD + SLACK, hand.ROD + 2 * SLACK
    bar, post = [ends + BAR, BAR / 2, TALL / 2], [BAR / 2, gap + BAR / 2, TALL / 2]
    near = -RADIUS - ends - BAR
    shapes = (("panel", [near / 2, -gap - THICK / 2, -HEIGHT / 2], [-near / 2, THICK / 2, HEIGHT / 2], MASS),
              ("bar", [-RADIUS, gap + BAR / 2, -TALL / 2], bar, 0.0),
              ("near", [-RADIUS - ends - BAR / 2, 0.0, -TALL / 2], post, 0.0),
              ("far", [-RADIUS + ends + BAR / 2, 0.0, -TALL / 2], post, 0.0))
    for name, middle, size, mass in shapes:
        body.add_geom(name=f"door_{name}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=middle, size=size, mass=mass,
                      rgba=[0.7, 0.6, 0.45, 1] if name == "panel" else [0.3, 0.32, 0.35, 1], **hand.meets(grip))
