"""A global model as a model of the ring's x: joints by the regression, tools by kinematics, past efforts shifted."""
from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mbrl_ros.config import ConfigError
from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.models.features import FeatureModel, Features
from mbrl_ros.models.kinematics import Kinematics
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Gaussian, LinearGaussianDynamics


class RobotModel:
    """x' = lift(z'), z = x[robot.joint_rows]: what Robot.lift is to local dynamics. A DynamicsModel.

    Raises ConfigError for a regression of other sizes than the robot's. Where commands come `late`, what acts is
    (1 - late) u + late (the command before), as in ring/delay.py. What `corrected` has found is added.
    """

    def __init__(self, robot: Robot, features: Features, regression: Any):
        if len(regression.w_scale) != features.dw:
            raise ConfigError(f"model: expected {features.dw} regressors for this robot, got {len(regression.w_scale)}")
        self.robot, self.late = robot, 0.0
        self._correction: tuple[Tensor, Tensor] | None = None  # offset (dy,) and slope (dy, dw) of y
        self._joints = FeatureModel(features, regression)
        self._kinematics = Kinematics(robot)
        self._newest = robot.slice("effort/1")
        self._rows = robot.joint_rows.tolist()

    @property
    def regression(self) -> Any:
        """y = g(w), what was fitted."""
        return self._joints.regression

    def delayed(self, late: float) -> RobotModel:
        """The same with commands that come late by this part of a period."""
        it = copy.copy(self)
        it.late = late
        return it

    def corrected(self, local: LinearGaussianDynamics, x: Tensor, u: Tensor) -> RobotModel:
        """The same plus what the `local` dynamics, about x (n,) and the u (m,) that acts there, have beside the tangent
        of this: a load that came later, say. An offset of the joints' change, and its slope by w."""
        it, features = copy.copy(self), self._joints.features
        z, z_next = (of[self._rows] for of in (x, predict_mean(local, x, u)))
        w = features.w(z, u)
        y, J = self.regression.jacobian(w)
        n, m = self.robot.n, self.robot.m
        slope = features.lower_matrix(local.F[self._rows][:, [*self._rows, *range(n, n + m)]]) - J
        it._correction = features.y(z, z_next) - y - slope @ w, slope
        return it

    def w(self, x: Tensor, u: Tensor) -> Tensor:
        """The regressors (*b, dw)."""
        return self._joints.w(x[..., self._rows], self._acting(x, u))

    def next_state(self, x: Tensor, u: Tensor, y: Tensor) -> Tensor:
        """x' (*b, n) where the joints change by y (*b, dy), and what corrects it."""
        if self._correction is not None:
            offset, slope = self._correction
            y = y + offset + self.w(x, u) @ slope.mT
        z, m = self._joints.next_state(x[..., self._rows], u, y), self.robot.m
        sites = self._kinematics(z[..., :m], z[..., m : 2 * m])
        return torch.cat([z[..., : 2 * m], sites, z[..., 2 * m :]], -1)

    def mean(self, x: Tensor, u: Tensor) -> Tensor:
        """x' of the mean change (*b, n)."""
        return self.next_state(x, u, self.regression.mean(self.w(x, u)))

    def jacobian(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """x' (*b, n) and F = dx'/d[x; u] (*b, n, n + m); tools do not act on anything, so their columns are zero."""
        features, n, m = self._joints.features, self.robot.n, self.robot.m
        y, J = self.regression.jacobian(self.w(x, u))
        if self._correction is not None:
            J = J + self._correction[1]
        x_next, by_z = self.next_state(x, u, y), features.lift_matrix(J)  # (*b, k, k + m), k joint rows
        if self.late > 0:
            acting = by_z[..., features.fit, features.n :]
            at = self._rows.index(self._newest.start)
            by_z[..., features.fit, at : at + m] += self.late * acting
            by_z[..., features.fit, features.n :] = (1 - self.late) * acting
        F = x.new_zeros(*x.shape[:-1], n, n + m)
        F[..., [*self._rows, *range(n, n + m)]] = self._tangent(x_next) @ by_z
        return x_next, F

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """Gaussian over x'; of the tools to first order."""
        y = self.regression.predict(self.w(x, u))
        x_next = self.next_state(x, u, y.mean)
        T = self._tangent(x_next)
        return Gaussian(x_next, T @ self._joints.features.lift_covariance(y.cov) @ T.mT)

    def _acting(self, x: Tensor, u: Tensor) -> Tensor:
        return u if self.late == 0.0 else (1 - self.late) * u + self.late * x[..., self._newest]

    def _tangent(self, x: Tensor) -> Tensor:
        """dx/dz (*b, n, k) at x (*b, n)."""
        m, n = self.robot.m, self.robot.n
        points: Array = x.detach().cpu().numpy().reshape(-1, n)
        G = torch.stack([torch.as_tensor(self.robot.kinematics(p[:m], p[m : 2 * m])[1]) for p in points])
        T = torch.eye(n, dtype=x.dtype, device=x.device)[:, self._rows].repeat(len(points), 1, 1)
        T[:, 2 * m : 2 * m + G.shape[1], : 2 * m] = G.to(T)
        return T.reshape(*x.shape[:-1], n, -1)
