"""What lies between a command and a link: friction that depends on speed, cogging, an elastic joint, encoders.
"""
from __future__ import annotations

import mujoco
import numpy as np

from mbrl_ros.robot import Robot, addresses
from mbrl_ros.simulation.rotors import ROTOR
from mbrl_ros.simulation.world import World
from mbrl_ros.types import Array

GEAR_DAMPING = 0.05  # damping ratio of a rotor on its spring, the link held
HARD = 0.9999  # impedance of friction: at MuJoCo's 0.9 a joint that sticks creeps by some mrad/s


class Drive:
    """The drives of a robot in a world, for one model of `build`."""

    def __init__(self, robot: Robot, world: World, model: mujoco.MjModel):
        self._model, self._world = model, world
        self.elastic = world.windup > 0
        link = addresses(model, robot.joints)
        rotor = addresses(model, [name + ROTOR for name in robot.joints]) if self.elastic else link
        self._link, self.dofs = link[1], rotor[1]
        self.sensed = rotor[0] if world.motor_encoders else link[0]  # addresses in qpos
        self._qpos, self._link_qpos = rotor[0], link[0]
        self.stiffness = robot.effort_limit / world.windup if self.elastic else np.full(robot.m, np.inf)
        # Of the gear [N m s/rad]; as damping of the tendon it would be inertia to MuJoCo, whose implicitfast leaves out
        # what goes from one kinematic tree to another.
        self.gear = 2 * GEAR_DAMPING * np.sqrt(self.stiffness * model.dof_armature[self.dofs]) if self.elastic else None
        self._friction = model.dof_frictionloss[self.dofs].copy()
        self._slow = np.maximum(world.stribeck * robot.velocity_limit, 1e-9)
        self._ripple = world.cogging * robot.effort_limit
        if world.stiction > 1:
            model.dof_solimp[self.dofs, :2] = HARD

    def act(self, data: mujoco.MjData, effort: Array) -> None:
        """Let efforts (m,) act during the next timestep."""
        world = self._world
        if self._ripple.any():
            effort = effort + self._ripple * np.sin(world.cogging_periods * data.qpos[self._qpos])
        if world.stiction > 1:
            stuck = np.exp(-((data.qvel[self.dofs] / self._slow) ** 2))
            self._model.dof_frictionloss[self.dofs] = self._friction * (1 + (world.stiction - 1) * stuck)
        if self.elastic:  # the motors carry what MuJoCo carries at the links
            passed = data.qfrc_gravcomp[self._link] - self.gear * (data.qvel[self.dofs] - data.qvel[self._link])
            data.qfrc_applied[self._link] = -passed
            effort = effort + passed
        data.qfrc_applied[self.dofs] = effort

    def carried(self, data: mujoco.MjData) -> Array:
        """The effort (m,) that holds the links at rest where they are; the springs of elastic joints are no part of it,
        nor need they be wound yet."""
        passive = data.qfrc_gravcomp if self.elastic else data.qfrc_passive
        carried: Array = (data.qfrc_bias - passive)[self._link]
        return carried

    def settle(self, data: mujoco.MjData) -> None:
        """Turn the rotors to where the springs carry what the motors compensate, and let them move with their links."""
        if self.elastic:
            data.qpos[self._qpos] = data.qpos[self._link_qpos] + data.qfrc_gravcomp[self._link] / self.stiffness
            data.qvel[self.dofs] = data.qvel[self._link]

    def transmitted(self, data: mujoco.MjData) -> Array:
        """The effort (m,) that the springs pass on, beside the weight that is compensated."""
        wound: Array = self.stiffness * (data.qpos[self._qpos] - data.qpos[self._link_qpos])
        return wound - data.qfrc_gravcomp[self._link]
