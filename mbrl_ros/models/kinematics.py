"""Forward kinematics in torch: what Robot.kinematics says at one posture, for batches, differentiable, on any device.

A site hangs on a chain of joints, its pose is prod_i (B_i J_i(q_i)) B in homogeneous transforms: B_i fixed, J_i a turn
1 + sin q K + (1 - cos q) K^2, K = [axis x] (Rodrigues), or a shift. Joints that are not the robot's stay where they are
in the model file.
"""
from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np
import torch
from torch import Tensor

from mbrl_ros.robot import Robot
from mbrl_ros.types import Array


class Chain(NamedTuple):
    """The J joints of a robot between base and a site: B_i J_i(q) = C_0 + s C_1 + c C_2, with s = sin q, c = 1 - cos q
    of a hinge and s = q, c = 0 of a slide, q from the zero of the model file."""

    index: Array  # (J,) in q
    zero: Array  # (J,)
    hinge: Array  # (J,) bool
    axis: Array  # (J, 3)
    C: Array  # (3, J, 4, 4)
    tip: Array  # (4, 4), from the last joint to the site


class Kinematics:
    """Position and velocity of the sites of a robot."""

    def __init__(self, robot: Robot):
        self._chains = [chain_of(robot, name) for name in robot.sites]

    def __call__(self, q: Tensor, qd: Tensor) -> Tensor:
        """q, qd (*b, m) -> [position, velocity] of every site (*b, 6 S) [m, m/s]."""
        return torch.cat([_site(chain, q, qd) for chain in self._chains], -1)

    def tool(self, q: Tensor) -> Tensor:
        """Position (*b, 3) [m] of the first site alone, at q (*b, m): from the tip to the base, a vector at a time."""
        chain = self._chains[0]
        zero, C, tip = (torch.as_tensor(a, dtype=q.dtype, device=q.device) for a in (chain.zero, chain.C, chain.tip))
        angle, p = q[..., chain.index] - zero, tip[:, 3].expand(*q.shape[:-1], 4)
        for i in reversed(range(len(zero))):
            at, hinge = angle[..., i : i + 1], chain.hinge[i]
            p = (p @ C[0, i].mT + (at.sin() if hinge else at) * (p @ C[1, i].mT)
                 + ((1 - at.cos()) * (p @ C[2, i].mT) if hinge else 0.0))
        return p[..., :3]


def _site(chain: Chain, q: Tensor, qd: Tensor) -> Tensor:
    """v = sum_i a_i x (p - o_i) qd_i over hinges about a_i through o_i, a_i qd_i over slides."""
    zero, axis, C, tip = (torch.as_tensor(a, dtype=q.dtype, device=q.device)
                          for a in (chain.zero, chain.axis, chain.C, chain.tip))
    hinge, angle = torch.as_tensor(chain.hinge, device=q.device), q[..., chain.index] - zero
    s = torch.where(hinge, angle.sin(), angle)[..., None, None]
    c = torch.where(hinge, 1 - angle.cos(), 0.0)[..., None, None]
    poses = list((C[0] + s * C[1] + c * C[2]).unbind(-3))
    for i in range(1, len(poses)):
        poses[i] = poses[i - 1] @ poses[i]
    pose = torch.stack(poses, -3)  # (*b, J, 4, 4); a joint moves neither its axis nor its origin
    position = (poses[-1] @ tip[:, 3:])[..., :3, 0]
    a = (pose[..., :3, :3] @ axis.unsqueeze(-1)).squeeze(-1)
    moved = torch.linalg.cross(a, position.unsqueeze(-2) - pose[..., :3, 3])
    velocity = (torch.where(hinge[:, None], moved, a) * qd[..., chain.index, None]).sum(-2)
    return torch.cat([position, velocity], -1)


def chain_of(robot: Robot, name: str) -> Chain:
    """The joints of a robot between base and the site of that name."""
    model, indices = robot.model, {int(dof): i for i, dof in enumerate(robot.dofs)}
    site = model.site(name)
    bodies = [int(site.bodyid[0])]
    while bodies[-1] != 0:
        bodies.append(int(model.body_parentid[bodies[-1]]))
    found, fixed = [], np.eye(4)
    for body in reversed(bodies):
        fixed = fixed @ transform(model.body_pos[body], model.body_quat[body])
        first = int(model.body_jntadr[body])
        for j in range(first, first + int(model.body_jntnum[body])):
            if int(model.jnt_dofadr[j]) in indices:
                centre, axis = transform(model.jnt_pos[j]), model.jnt_axis[j].copy()
                hinge, M = int(model.jnt_type[j]) == mujoco.mjtJoint.mjJNT_HINGE, np.zeros((4, 4))
                if hinge:
                    M[:3, :3] = np.cross(axis, np.eye(3)).T
                else:
                    M[:3, 3] = axis
                before = fixed @ centre
                found.append((indices[int(model.jnt_dofadr[j])], float(model.qpos0[model.jnt_qposadr[j]]), hinge, axis,
                              np.stack([before, before @ M, before @ M @ M])))
                fixed = np.linalg.inv(centre)
    if not found:  # a site that does not move hangs on a joint that does nothing
        found.append((0, 0.0, False, np.zeros(3), np.stack([fixed, np.zeros((4, 4)), np.zeros((4, 4))])))
        fixed = np.eye(4)
    index, zero, hinges, axes, C = (np.array(column) for column in zip(*found, strict=True))
    return Chain(index, zero, hinges, axes, C.swapaxes(0, 1), fixed @ transform(site.pos, site.quat))


def transform(position: Array, quaternion: Array | None = None) -> Array:
    """(4, 4) of a position (3,) [m] and a unit quaternion (4,), w first; without one it is not turned."""
    matrix, turned = np.eye(4), np.eye(3).ravel()
    if quaternion is not None:
        mujoco.mju_quat2Mat(turned, quaternion)
    matrix[:3, :3], matrix[:3, 3] = turned.reshape(3, 3), position
    return matrix
