"""A plant without MuJoCo: rigid bodies by Pinocchio, semi-implicit Euler at 1 kHz, its own friction, sensors and clock.

Kinematics, masses and integration are Pinocchio's. Of an MJCF file it reads neither the masses of shapes, nor gravity
compensation, nor where a base without joint stands: numbers of the compiled file are put in. Efforts arrive `delay`
seconds after they were sent, give or take `jitter`, and the newest one that has arrived acts.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pinocchio as pin

from mbrl_ros.simulation.world import World
from mbrl_ros.types import Observation

CASES = {  # what the plant is given; what the hand is, half-way [kg]; within what all targets are reached [mm]
    "nominal": ({}, 0.0, 5),
    "masses 40 % off": ({"masses": 1.4}, 0.0, 5),
    "1 kg in mid-run": ({}, 1.0, 5),
    "20 ms and 4 ms of jitter": ({"delay": 0.02, "jitter": 0.004}, 0.0, 20),
    "without gravity compensation": ({"gravity_compensation": False}, 0.0, 5),
}
STEP = 1e-3  # [s]
SMOOTH = 0.02  # [rad/s] in which dry friction turns round
NOISE = 5e-5, 5e-3  # [rad], [rad/s]
DISTURBANCE = 0.005  # of the effort limit, 2 Hz


def model_of(robot):
    """A Pinocchio model of the controlled joints of a robot's file."""
    path = Path(robot.config.model).expanduser()
    if path.suffix == ".urdf":
        whole = pin.buildModelFromUrdf(str(path))
    else:
        whole = pin.buildModelFromMJCF(str(path))
        _masses_of(whole, robot.model)
    others = [whole.getJointId(name) for name in whole.names[1:] if name not in robot.joints]
    return pin.buildReducedModel(whole, others, pin.neutral(whole)) if others else whole


def _masses_of(model, compiled):
    """Put the inertia of every body of a compiled MuJoCo model onto the joint that carries it."""
    at, data = mujoco.MjData(compiled), model.createData()
    at.qpos[:] = 0.0
    mujoco.mj_kinematics(compiled, at)
    for joint in range(1, model.njoints):
        model.inertias[joint] = pin.Inertia.Zero()
        root = compiled.jnt_bodyid[compiled.joint(model.names[joint]).id]
        while compiled.body_parentid[root]:
            root = compiled.body_parentid[root]
        if model.parents[joint] == 0 and compiled.body_jntnum[root] == 0:  # Pinocchio leaves out where that one stands
            base = pin.XYZQUATToSE3(np.r_[compiled.body_pos[root], np.roll(compiled.body_quat[root], -1)])
            model.jointPlacements[joint] = base * model.jointPlacements[joint]
    pin.forwardKinematics(model, data, pin.neutral(model))
    for body in range(1, compiled.nbody):
        carrier = body
        while carrier and compiled.body_jntnum[carrier] == 0:
            carrier = compiled.body_parentid[carrier]
        if carrier == 0:
            continue
        joint = model.getJointId(compiled.joint(compiled.body_jntadr[carrier]).name)
        frame = pin.SE3(at.ximat[body].reshape(3, 3), at.xipos[body])
        own = pin.Inertia(compiled.body_mass[body], np.zeros(3), np.diag(compiled.body_inertia[body]))
        model.inertias[joint] += data.oMi[joint].actInv(frame).act(own)


class PinocchioPlant:
    """In place of MujocoPlant, in the plain loop or behind topics. Of a World it knows payload and gravity
    compensation; `masses` is a factor on those of the links, of which what compensates gravity knows nothing."""

    def __init__(self, robot, masses=1.0, delay=0.0, jitter=0.0, gravity_compensation=True, config=None):
        self.robot, self.delay, self.jitter, self.config = robot, delay, jitter, config
        self.sheet = model_of(robot)
        self.order = [self.sheet.joints[self.sheet.getJointId(name)].idx_v for name in robot.joints]
        self.frame = self.sheet.getFrameId(robot.sites[0])
        self.masses, self._time = masses, 0
        self.change(World(gravity_compensation=gravity_compensation))
        self.reset(0)

    def change(self, world):
        self.world, self.model = world, self.sheet.copy()
        for joint in range(1, self.model.njoints):
            inertia = self.model.inertias[joint]
            self.model.inertias[joint] = pin.Inertia(self.masses * inertia.mass, inertia.lever,
                                                     self.masses * inertia.inertia)
        if world.payload > 0:
            tool = self.model.frames[self.frame]
            ball = pin.Inertia.FromSphere(world.payload, 0.03)
            self.model.inertias[tool.parentJoint] += tool.placement.act(ball)
        self.data, self._sheet_data = self.model.createData(), self.sheet.createData()

    def set_payload(self, mass):
        self.change(replace(self.world, payload=mass))

    def reset(self, seed):
        robot, model = self.robot, self.model
        self._rng = np.random.default_rng([seed, 7])
        self.q, self.v = np.zeros(model.nq), np.zeros(model.nv)
        self.q[self.order] = robot.home
        self._sent = [(-1.0, np.zeros(robot.m))]  # when efforts arrive [s], and which
        self._now = 0.0
        self._disturbance = DISTURBANCE * robot.effort_limit * self._rng.standard_normal(robot.m)
        self._time += round(2e9 * robot.period)
        return self._observe(np.zeros(robot.m))

    def step(self, effort, *_late):
        """One control period with the effort (m,) sent at its beginning."""
        robot, mean = self.robot, np.zeros(self.robot.m)
        arrives = self._now + max(0.0, self.delay + self.jitter * self._rng.uniform(-1, 1))
        self._sent.append((arrives, np.clip(effort, -robot.effort_limit, robot.effort_limit)))
        steps = round(robot.period / STEP)
        for _ in range(steps):
            arrived = [i for i, (at, _) in enumerate(self._sent) if at <= self._now + 1e-9]
            self._sent = self._sent[arrived[-1]:]
            acting = self._sent[0][1]
            mean += acting / steps
            self._integrate(acting + self._disturbance)
            keep = np.exp(-2 * np.pi * 2.0 * STEP)
            self._disturbance = keep * self._disturbance + np.sqrt(1 - keep**2) * (
                DISTURBANCE * robot.effort_limit * self._rng.standard_normal(robot.m))
            self._now += STEP
        self._time += round(robot.period * 1e9)
        return self._observe(mean)

    def _integrate(self, effort):
        model, tau = self.model, np.zeros(self.model.nv)
        tau[self.order] = effort
        if self.world.gravity_compensation:
            tau += pin.computeGeneralizedGravity(self.sheet, self._sheet_data, self.q)
        tau -= model.upperDryFrictionLimit * np.tanh(self.v / SMOOTH)
        # damping is implicit, (M + h D) a = tau - D v, by way of the armature
        model.armature += STEP * model.damping
        self.v = self.v + STEP * pin.aba(model, self.data, self.q, self.v, tau - model.damping * self.v)
        model.armature -= STEP * model.damping
        self.q = pin.integrate(model, self.q, STEP * self.v)

    def _observe(self, effort):
        q, v = self.q[self.order], self.v[self.order]
        noise = self._rng.standard_normal((2, self.robot.m))
        return Observation(self._time, q + NOISE[0] * noise[0], v + NOISE[1] * noise[1], effort)

    def true_state(self):
        return self.q[self.order], self.v[self.order]

    def true_tool(self):
        pin.framesForwardKinematics(self.model, self.data, self.q)
        return self.data.oMf[self.frame].translation.copy()
