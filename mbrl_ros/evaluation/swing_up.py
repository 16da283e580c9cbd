"""Swing-ups of three mechanisms with known dynamics, as problems for any planner.

Angles are zero upright, so every one begins about pi. x = [q; qd]; steps are semi-implicit Euler, which are the
dynamics here and no approximation of others. Masses are points at the ends of rods without weight.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.types import Gaussian, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

GRAVITY = 9.81  # [m/s2]
NEAR = 0.2  # [rad]


@dataclass(frozen=True)
class Mechanism:
    """A DynamicsModel without noise from accelerations; differentiable as often as wanted, over any leading axes."""

    period: float = 0.05  # [s]

    def acceleration(self, q: Float[Tensor, "*b k"], qd: Float[Tensor, "*b k"], u: Float[Tensor, "*b m"]
                     ) -> Float[Tensor, "*b k"]:
        """qdd [rad/s2 or m/s2]."""
        raise NotImplementedError

    def mean(self, x: Float[Tensor, "*b n"], u: Float[Tensor, "*b m"]) -> Float[Tensor, "*b n"]:
        """x'."""
        q, qd = x.chunk(2, -1)
        qd = qd + self.period * self.acceleration(q, qd, u)
        return torch.cat([q + self.period * qd, qd], -1)

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """x' with covariance zero."""
        mean = self.mean(x, u)
        return Gaussian(mean, mean.new_zeros(*mean.shape, mean.shape[-1]))


@dataclass(frozen=True)
class Pendulum(Mechanism):
    """1 kg on a rod of 1 m; u is the torque [N m]."""

    damping: float = 0.1  # [N m s]

    def acceleration(self, q: Tensor, qd: Tensor, u: Tensor) -> Tensor:
        return GRAVITY * torch.sin(q) + u - self.damping * qd


@dataclass(frozen=True)
class CartPole(Mechanism):
    """q = [place of the cart, angle]; u is the force on the cart [N], whose pole is free."""

    cart: float = 1.0  # [kg]
    pole: float = 0.3  # [kg]
    length: float = 0.5  # [m]

    def acceleration(self, q: Tensor, qd: Tensor, u: Tensor) -> Tensor:
        sin, cos, rate = torch.sin(q[..., 1:]), torch.cos(q[..., 1:]), qd[..., 1:]
        pushed = u + self.pole * sin * (self.length * rate**2 - GRAVITY * cos)
        cart = pushed / (self.cart + self.pole * sin**2)
        return torch.cat([cart, (GRAVITY * sin - cart * cos) / self.length], -1)


@dataclass(frozen=True)
class TwoLinks(Mechanism):
    """Two rods, a motor in either joint, q2 from the line of the first; u are the torques [N m]."""

    mass: float = 1.0  # [kg], each
    length: float = 0.5  # [m], each
    damping: float = 0.05  # [N m s], each

    def acceleration(self, q: Tensor, qd: Tensor, u: Tensor) -> Tensor:
        (q1, q2), (w1, w2) = q.unbind(-1), qd.unbind(-1)
        unit, weight = self.mass * self.length**2, self.mass * GRAVITY * self.length
        sin, cos, outer = torch.sin(q2), torch.cos(q2), weight * torch.sin(q1 + q2)
        M11, M12, M22 = unit * (3 + 2 * cos), unit * (1 + cos), unit
        t1 = u[..., 0] - self.damping * w1 + unit * sin * w2 * (2 * w1 + w2) + 2 * weight * torch.sin(q1) + outer
        t2 = u[..., 1] - self.damping * w2 - unit * sin * w1**2 + outer
        det = M11 * M22 - M12**2
        return torch.stack([M22 * t1 - M12 * t2, M11 * t2 - M12 * t1], -1) / det.unsqueeze(-1)


@dataclass(frozen=True)
class SwingUp:
    """From hanging to upright at x = 0: quadratic costs 1/2 w x^2 of running and last states, and of efforts."""

    model: Any
    hanging: tuple[float, ...]  # x
    running: tuple[float, ...]  # weights of x, per second
    effort: tuple[float, ...]  # weights of u, per second
    terminal: tuple[float, ...]  # weights of the last x
    limit: tuple[float, ...]  # [N m or N] of efforts
    steps: int
    angles: tuple[int, ...]  # which of q are angles
    spread: float = 0.1  # standard deviation of starts about hanging, in every coordinate

    def upright(self, x: Float[Tensor, "*b n"]) -> Bool[Tensor, " *b"]:
        """Whether all angles are within NEAR of upright, whole turns not counted, and turn slower than 1 rad/s."""
        k = x.shape[-1] // 2
        q, qd = x[..., self.angles], x[..., [k + i for i in self.angles]]
        return ((torch.cos(q) > math.cos(NEAR)) & (qd.abs() < 1.0)).all(-1)

    def start(self, seed: int) -> Float[Tensor, " n"]:
        """About hanging; the same seed, the same start."""
        noise = torch.randn(len(self.hanging), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.tensor(self.hanging, dtype=torch.float64) + self.spread * noise

    def cost(self, steps: int | None = None) -> Quadratic:
        """Of so many steps."""
        T, n, period = steps or self.steps, len(self.hanging), self.model.period
        C = torch.zeros(T + 1, n + len(self.effort), n + len(self.effort), dtype=torch.float64)
        C[:-1] = period * torch.diag(torch.tensor(self.running + self.effort, dtype=torch.float64))
        C[-1, :n, :n] = torch.diag(torch.tensor(self.terminal, dtype=torch.float64))
        return Quadratic(QuadraticCost(C, C.new_zeros(C.shape[:2]), C.new_zeros(T + 1)))

    def problem(self, seed: int = 0, steps: int | None = None) -> Problem:
        """From the start of this seed, over all steps or so many."""
        upper = torch.tensor(self.limit, dtype=torch.float64).expand(steps or self.steps, -1)
        return Problem(self.start(seed), self.model, self.cost(steps), -upper, upper, seed)


SWING_UPS = {
    "pendulum": SwingUp(Pendulum(), (math.pi, 0.0), running=(0.1, 0.01), effort=(0.1,), terminal=(100.0, 10.0),
                        limit=(5.0,), steps=60, angles=(0,)),
    "cart_pole": SwingUp(CartPole(), (0.0, math.pi, 0.0, 0.0), running=(1.0, 1.0, 0.1, 0.1), effort=(0.02,),
                         terminal=(100.0, 100.0, 10.0, 10.0), limit=(20.0,), steps=40, angles=(1,)),
    "two_links": SwingUp(TwoLinks(), (math.pi, 0.0, 0.0, 0.0), running=(1.0, 1.0, 0.1, 0.1), effort=(0.1, 0.1),
                         terminal=(100.0, 100.0, 10.0, 10.0), limit=(6.0, 3.0), steps=60, angles=(0, 1))}
