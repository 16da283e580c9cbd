"""Swing a pendulum up whose motor is too weak to lift it: gymnasium's Pendulum, with a reward of where it comes to.

x = [angle, its velocity], upright at 0: a rod of 1 kg and 1 m, half-implicit Euler steps of 0.05 s, velocities cut off
at 8 rad/s, actions in [-1, 1] of 2 N m. The reward is -(angle^2 + velocity^2 / 10 + torque^2 / 1000) behind the step.
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

GRAVITY, TORQUE, PERIOD, FASTEST = 10.0, 2.0, 0.05, 8.0  # [m/s^2], [N m], [s], [rad/s]


class Pendulum(Observed):
    """An Environment that begins anywhere; `steps` is its time limit."""

    def __init__(self, steps: int = 200):
        super().__init__(2, np.array([-1.0]), np.array([1.0]), angles=(0,))
        self.steps, self._x, self._step = steps, torch.zeros(2).double(), 0

    def reset(self, seed: int) -> Float[Array, " n"]:
        """At any angle, slowly."""
        angle, speed = np.random.default_rng(seed).uniform([-np.pi, -1.0], [np.pi, 1.0])
        self._x, self._step = torch.tensor([angle, speed]).double(), 0
        return self._x.numpy().copy()

    def step(self, a: Float[Array, " m"]) -> Step:
        """See Environment."""
        action = torch.as_tensor(np.clip(a, self.low, self.high))
        self._x, self._step = self.after(self._x, action), self._step + 1
        return Step(self._x.numpy().copy(), float(self.reward(self._x, action)), False, self._step >= self.steps)

    def after(self, x: Float[Tensor, "*b n"], a: Float[Tensor, "*b m"]) -> Float[Tensor, "*b n"]:
        """The state one period later."""
        angle, speed = x.unbind(-1)
        speed = speed + PERIOD * (1.5 * GRAVITY * angle.sin() + 3.0 * TORQUE * a[..., 0])
        speed = speed.clamp(-FASTEST, FASTEST)
        return torch.stack([angle + PERIOD * speed, speed], -1)

    def reward(self, x_next: Float[Tensor, "*b n"], a: Float[Tensor, "*b m"]) -> Float[Tensor, " *b"]:
        """See Known."""
        angle = torch.atan2(x_next[..., 0].sin(), x_next[..., 0].cos())
        return -(angle.square() + 0.1 * x_next[..., 1].square() + 0.001 * (TORQUE * a[..., 0]).square())

    def terminated(self, x_next: Float[Tensor, "*b n"]) -> Tensor:
        """Nowhere."""
        return torch.zeros(x_next.shape[:-1], dtype=torch.bool, device=x_next.device)
