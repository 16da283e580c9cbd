"""Elastic joints: a rotor between every motor and its link.

The rotor of inertia B is coupled to the link by gear and spring of stiffness K (Spong 1987):

    B theta'' + friction(theta') = u + K (q - theta),     M(q) q'' + ... = K (theta - q).

It is a body of the simulated model and the spring a tendon, so that payloads, walls and all else stay as they are. The
rotor inertia of the model file (`armature`) and the friction of its joint are then the rotor's.
"""
from __future__ import annotations

import mujoco
import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

ROTOR = "/rotor"  # what the name of its joint ends with
STIFF = 0.5  # [rad] of the fastest swing that the simulation takes in a timestep


def add_rotors(spec: mujoco.MjSpec, robot: Robot, windup: float) -> None:
    """A rotor on a spring for every joint of the robot, which its effort limit winds up by `windup` [rad or m]."""
    M = _inertia(robot)
    own = np.diag(M)[robot.dofs]
    rotor = robot.model.dof_armature[robot.dofs]
    rotor = np.where(rotor > 0, rotor, own)  # a file without rotors has motors all the same
    stiffness = robot.effort_limit / windup
    for name, B, K in zip(robot.joints, rotor, stiffness, strict=True):
        joint = spec.joint(name)
        body = spec.worldbody.add_body(name=name + ROTOR, mass=1e-9, inertia=[1e-12] * 3, explicitinertial=True,
                                       gravcomp=1.0)
        body.add_joint(name=name + ROTOR, type=joint.type, axis=joint.axis, armature=B, damping=joint.damping,
                       frictionloss=joint.frictionloss)
        joint.armature = joint.frictionloss = 0.0
        joint.damping = 0 * joint.damping
        spring = spec.add_tendon(name=name + ROTOR, stiffness=K)
        spring.wrap_joint(name, 1.0)
        spring.wrap_joint(name + ROTOR, -1.0)
    # M without rotors is what swings at the other end of the springs.
    link = M[np.ix_(robot.dofs, robot.dofs)] - np.diag(robot.model.dof_armature[robot.dofs])
    root = np.sqrt(stiffness)
    fastest = np.sqrt(np.linalg.eigvalsh(root[:, None] * (np.diag(1 / rotor) + np.linalg.inv(link)) * root).max())
    steps = np.ceil(robot.period / min(spec.option.timestep, STIFF / fastest) - 1e-9)
    spec.option.timestep = robot.period / steps


def _inertia(robot: Robot) -> Array:
    """M (nv, nv) at home."""
    data, M = mujoco.MjData(robot.model), np.empty((robot.model.nv, robot.model.nv))
    data.qpos[robot.qpos] = robot.home
    mujoco.mj_forward(robot.model, data)
    mujoco.mj_fullM(robot.model, data, M)
    return M


def own_inertia(robot: Robot) -> Array:
    """Of every joint at home (m,) [kg m^2 or kg], the others at rest."""
    own: Array = np.diag(_inertia(robot))[robot.dofs]
    return own
