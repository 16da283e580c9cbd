"""Swing a pole up that hangs from a cart, after the task of PETS (Chua et al. 2018): 200 steps of 0.04 s.

x = [position of the cart, angle of the pole, their velocities], upright at 0, hanging at pi. A point mass at the end of
a rod without mass, viscous friction of the cart; the action is its force. The reward is exp(-|tip - goal|^2 / l^2) -
0.01 a^2 for a in [-1, 1]; it ends where the rail does. Steps are of the fourth order (Runge-Kutta).
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.environments.environment import Observed, Step
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

CART, POLE, LENGTH, FORCE, GRAVITY = 1.0, 0.3, 0.6, 10.0, 9.81  # [kg], [kg], [m], [N], [m/s^2]
RAIL = 3.0  # [m] from the middle to an end
PERIOD, SUBSTEP = 0.04, 0.01  # [s]
SPREAD = 0.1  # deviation of the first state
EFFORT = 0.01  # price of a^2


class CartPole(Observed):
    """An Environment; `steps` is its time limit, `friction` [N s/m], `period` of an action [s]."""

    TIP = torch.tensor([[1.0, 0, 0, 0, LENGTH, 0], [0, 0, 0, 0, 0, LENGTH]]).double()  # of [x; sin; cos of the angle]
    GOAL = torch.tensor([0.0, LENGTH]).double()  # [m], of the tip

    def __init__(self, steps: int = 200, friction: float = 0.1, period: float = PERIOD):
        super().__init__(4, np.array([-1.0]), np.array([1.0]), angles=(1,))
        self.steps, self.friction, self.period = steps, friction, period
        self._x, self._step = np.zeros(4), 0

    def reset(self, seed: int) -> Float[Array, " n"]:
        """Hanging, nearly at rest."""
        self._x = np.array([0.0, np.pi, 0.0, 0.0]) + SPREAD * np.random.default_rng(seed).standard_normal(4)
        self._step = 0
        return self._x.copy()

    def step(self, a: Float[Array, " m"]) -> Step:
        """See Environment."""
        self._x = self.after(self._x, np.clip(a, self.low, self.high))
        self._step += 1
        x = torch.as_tensor(self._x)
        reward = float(self.reward(x, torch.as_tensor(np.clip(a, self.low, self.high))))
        return Step(self._x.copy(), reward, bool(self.terminated(x)), self._step >= self.steps)

    def after(self, x: Float[Array, "*b n"], a: Float[Array, "*b m"]) -> Float[Array, "*b n"]:
        """The state one period later."""
        substeps = round(self.period / SUBSTEP)
        h = self.period / substeps
        for _ in range(substeps):
            k1 = self._derivative(x, a)
            k2 = self._derivative(x + 0.5 * h * k1, a)
            k3 = self._derivative(x + 0.5 * h * k2, a)
            k4 = self._derivative(x + h * k3, a)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x

    def _derivative(self, x: Array, a: Array) -> Array:
        """(M + m sin^2) p'' = F - b p' + m sin (l w^2 - g cos),  l w' = g sin - p'' cos."""
        _, angle, speed, rate = np.moveaxis(x, -1, 0)
        s, c = np.sin(angle), np.cos(angle)
        push = FORCE * a[..., 0] - self.friction * speed
        acceleration = (push + POLE * s * (LENGTH * rate**2 - GRAVITY * c)) / (CART + POLE * s**2)
        return np.stack([speed, rate, acceleration, (GRAVITY * s - acceleration * c) / LENGTH], -1)

    def away(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b 2"]:
        """The tip from where it is to be, above the middle of the rail [m]."""
        return torch.cat([x, x[..., 1:2].sin(), x[..., 1:2].cos()], -1) @ self.TIP.mT - self.GOAL

    def distance(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, " *b"]:
        """Of the tip from there [m]."""
        return torch.linalg.vector_norm(self.away(x), dim=-1)

    def reward(self, x_next: Float[Tensor, "*b n"], a: Float[Tensor, "*b m"]) -> Float[Tensor, " *b"]:
        """See Known."""
        return (-self.away(x_next).square().sum(-1) / LENGTH**2).exp() - EFFORT * a.square().sum(-1)

    def terminated(self, x_next: Float[Tensor, "*b n"]) -> Tensor:
        """At an end of the rail."""
        return x_next[..., 0].abs() > RAIL
