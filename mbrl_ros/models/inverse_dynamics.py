"""The effort that a motion takes, linear in what a data sheet may have wrong.

    u + d = tau_0(q, qd, qdd) + Y(q, qd, qdd) theta,   d a disturbance

theta holds the mass of every moving link [kg] (its inertia scales along; geometry is known), the damping
[N m s/rad or N s/m] and the dry friction [N m or N] of every joint, and a payload [kg] in the hand. Rigid-body dynamics
are linear in them (Atkeson, An & Hollerbach 1986), so a column of Y is the difference of two inverse dynamics that
differ in one parameter. Gravity compensation of the model file is part of the inverse dynamics: the robot adds the true
weight of what it compensates, whatever that is, and gravity then says nothing about those masses.
"""
from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from jaxtyping import Float

from mbrl_ros.robot import PAYLOAD as HAND
from mbrl_ros.robot import Robot, set_payload
from mbrl_ros.types import Array

WEIGHTLESS = 1e-6  # [kg]; MuJoCo needs a mass in every moving body, so what is below is no link
KINDS = MASS, DAMPING, FRICTION, PAYLOAD = ("mass", "damping", "friction", "payload")
UNITS = {MASS: "kg", DAMPING: "N m s/rad", FRICTION: "N m", PAYLOAD: "kg"}


@dataclass(frozen=True)
class Parameters:
    """theta (p,) by name, in the order masses, damping, friction, payload."""

    bodies: tuple[str, ...]
    joints: tuple[str, ...]
    theta: Array  # (p,)

    @classmethod
    def of(cls, robot: Robot, model: mujoco.MjModel) -> Parameters:
        """Those of a model."""
        links = [b for b in range(1, model.nbody) if _moves(robot, model, b)]
        payload = model.body(HAND).mass
        theta = np.concatenate([model.body_mass[links], model.dof_damping[robot.dofs],
                                model.dof_frictionloss[robot.dofs], np.where(payload > WEIGHTLESS, payload, 0.0)])
        return cls(tuple(model.body(b).name for b in links), robot.joints, theta)

    @property
    def names(self) -> list[tuple[str, str]]:
        """(kind, of what) of every parameter."""
        return [*((MASS, b) for b in self.bodies), *((DAMPING, j) for j in self.joints),
                *((FRICTION, j) for j in self.joints), (PAYLOAD, "hand")]

    def rows(self, kind: str) -> Array:
        """Which entries of theta are of a kind."""
        return np.flatnonzero([name == kind for name, _ in self.names])

    def with_theta(self, theta: Float[Array, " p"]) -> Parameters:
        """The same parameters with other values."""
        return replace(self, theta=theta)

    def apply(self, robot: Robot, model: mujoco.MjModel) -> None:
        """Give `model` these parameters, cut off where they would be negative."""
        theta = np.maximum(self.theta, 0.0)
        for name, mass in zip(self.bodies, theta[self.rows(MASS)], strict=True):
            _set_mass(model, model.body(name).id, max(mass, 1e-3))  # the mass matrix has to stay invertible
        model.dof_damping[robot.dofs] = theta[self.rows(DAMPING)]
        model.dof_frictionloss[robot.dofs] = theta[self.rows(FRICTION)]
        set_payload(model, float(theta[-1]))


def regressor(robot: Robot, model: mujoco.MjModel, q: Float[Array, "T m"], qd: Float[Array, "T m"],
              qdd: Float[Array, "T m"], direction: Float[Array, "T m"]) -> tuple[Float[Array, "T m"],
              Float[Array, "T m p"]]:
    """tau_0 (T, m) and Y (T, m, p) along a motion q, qd, qdd (T, m); direction (T, m) is the sign of the speed.

    The columns are in the order of Parameters.of(robot, model); their values do not depend on those of the parameters.
    """
    bodies, m = Parameters.of(robot, model).bodies, robot.m
    model = _bare(model, robot)
    effort = inverse(robot, model, q, qd, qdd)
    Y = np.zeros((*q.shape, len(bodies) + 2 * m + 1))
    masses = np.array([model.body(name).mass[0] for name in bodies])
    for column, (name, mass) in enumerate(zip(bodies, masses, strict=True)):
        body = model.body(name).id
        _set_mass(model, body, 2 * mass)
        Y[..., column] = (inverse(robot, model, q, qd, qdd) - effort) / mass
        _set_mass(model, body, mass)
    joints, first = np.arange(m), len(bodies)
    Y[:, joints, first + joints], Y[:, joints, first + m + joints] = qd, direction
    set_payload(model, 1.0)
    Y[..., -1] = inverse(robot, model, q, qd, qdd) - effort
    return effort - Y[..., :first] @ masses, Y


def inverse(robot: Robot, model: mujoco.MjModel, q: Float[Array, "T m"], qd: Float[Array, "T m"],
            qdd: Float[Array, "T m"]) -> Float[Array, "T m"]:
    """The effort (T, m) that makes qdd at q, qd (T, m); joints that are not the robot's rest."""
    data, effort = mujoco.MjData(model), np.empty(q.shape)
    for t in range(len(q)):
        data.qpos[robot.qpos], data.qvel[robot.dofs], data.qacc[robot.dofs] = q[t], qd[t], qdd[t]
        mujoco.mj_inverse(model, data)
        effort[t] = data.qfrc_inverse[robot.dofs]
    return effort


def _bare(model: mujoco.MjModel, robot: Robot) -> mujoco.MjModel:
    """A copy without payload, damping and friction of the robot's joints, contacts and limits."""
    bare = copy.copy(model)
    bare.dof_damping[robot.dofs] = bare.dof_frictionloss[robot.dofs] = 0.0
    bare.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)
    set_payload(bare, 0.0)
    return bare


def _set_mass(model: mujoco.MjModel, body: int, mass: float) -> None:
    model.body_inertia[body] *= mass / model.body_mass[body]
    model.body_mass[body] = mass


def _moves(robot: Robot, model: mujoco.MjModel, body: int) -> bool:
    """Whether a body has a mass, is not the payload, and hangs on a joint of the robot."""
    if model.body_mass[body] <= WEIGHTLESS or model.body(body).name == HAND:
        return False
    while body:
        first = model.body_dofadr[body]
        if set(range(first, first + model.body_dofnum[body])) & set(robot.dofs.tolist()):
            return True
        body = model.body_parentid[body]
    return False
