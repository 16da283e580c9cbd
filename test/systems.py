"""Plants and problems with known answers, shared by the tests of planners."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import is_dataclass, replace

import pytest
import torch
from torch import Tensor

from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, QuadraticCost

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def random_dynamics(n: int, m: int, seed: int, steps: tuple[int, ...] = (), radius: float = 1.0,
                    dtype: torch.dtype = torch.float64) -> LinearGaussianDynamics:
    """Random linear dynamics of leading shape `steps`, A scaled to the spectral radius `radius`."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(*steps, n, n, generator=generator, dtype=torch.float64)
    A = radius * A / torch.linalg.eigvals(A).abs().amax(-1)[..., None, None]
    B = torch.randn(*steps, n, m, generator=generator, dtype=torch.float64)
    f = 0.1 * torch.randn(*steps, n, generator=generator, dtype=torch.float64)
    W = 0.1 * torch.randn(*steps, n, n, generator=generator, dtype=torch.float64)
    return LinearGaussianDynamics(torch.cat([A, B], -1).to(dtype), f.to(dtype), (W @ W.mT).to(dtype))


def random_cost(n: int, m: int, T: int, seed: int, batch: tuple[int, ...] = ()) -> QuadraticCost:
    """A random convex cost with cross terms, strongly convex in the efforts."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(*batch, T + 1, n + m, n + m, generator=generator, dtype=torch.float64) / (n + m) ** 0.5
    C = W @ W.mT
    C[..., n:, n:] += 0.1 * torch.eye(m, dtype=torch.float64)
    c = torch.randn(*batch, T + 1, n + m, generator=generator, dtype=torch.float64)
    c[..., -1, n:] = 0.0
    const = torch.randn(*batch, T + 1, generator=generator, dtype=torch.float64)
    return QuadraticCost(C, c, const)


def random_leverage(n: int, m: int, seed: int) -> Tensor:
    """(1 + n + m, 1 + n + m): a squared distance from some point, less a constant."""
    generator = torch.Generator().manual_seed(seed)
    W = 0.3 * torch.randn(1 + n + m, n + m, generator=generator, dtype=torch.float64)
    L = W @ W.mT
    L[0, 0] -= 0.5
    return L


def cautious(problem: Problem, seed: int, factor: float = 1.0) -> Problem:
    """The problem with a random leverage times a factor."""
    n, p = problem.model.F.shape[-2:]
    return replace(problem, model=replace(problem.model, leverage=factor * random_leverage(n, p - n, seed)))


def lq_problem(n: int, m: int, T: int, seed: int, limit: float = float("inf"), radius: float = 1.0,
               batch: tuple[int, ...] = ()) -> Problem:
    """Time-invariant dynamics, random quadratic cost, symmetric effort limits."""
    generator = torch.Generator().manual_seed(seed + 1000)
    x0 = torch.randn(*batch, n, generator=generator, dtype=torch.float64)
    bound = torch.full((T, m), limit, dtype=torch.float64)
    return Problem(x0, random_dynamics(n, m, seed, radius=radius), Quadratic(random_cost(n, m, T, seed)),
                   -bound, bound)


class Pendulum:
    """A point mass on a rod: x = [angle from upright, rate], u = [torque]; semi-implicit Euler steps."""

    def __init__(self, period: float = 0.1, damping: float = 0.1) -> None:
        self.period, self.damping = period, damping

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """See DynamicsModel."""
        angle, rate = x[..., 0], x[..., 1]
        rate = rate + self.period * (9.81 * torch.sin(angle) + u[..., 0] - self.damping * rate)
        mean = torch.stack([angle + self.period * rate, rate], -1)
        return Gaussian(mean, torch.zeros(*mean.shape, 2, dtype=x.dtype, device=x.device))


class Unicycle:
    """A planar car: x = [px, py, heading, speed], u = [acceleration, turning rate]."""

    def __init__(self, period: float = 0.2) -> None:
        self.period = period

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """See DynamicsModel."""
        heading, speed = x[..., 2], x[..., 3]
        rate = torch.stack([speed * torch.cos(heading), speed * torch.sin(heading), u[..., 1], u[..., 0]], -1)
        mean = x + self.period * rate
        return Gaussian(mean, torch.zeros(*mean.shape, 4, dtype=x.dtype, device=x.device))


def quadratic_task(running: list[float], effort: list[float], terminal: list[float], target: list[float],
                   T: int) -> Quadratic:
    """Diagonal weights on x - target and on u; the same target throughout."""
    n, m = len(running), len(effort)
    C = torch.zeros(T + 1, n + m, n + m, dtype=torch.float64)
    C[:-1] = torch.diag(torch.tensor(running + effort, dtype=torch.float64))
    C[-1, :n, :n] = torch.diag(torch.tensor(terminal, dtype=torch.float64))
    goal = torch.tensor(target + [0.0] * m, dtype=torch.float64)
    return Quadratic(QuadraticCost(C, -C @ goal, 0.5 * (C @ goal) @ goal))


def swing_up(T: int = 30, limit: float = 5.0) -> Problem:
    """The pendulum from hanging to upright, with less torque than would lift it at once."""
    bound = torch.full((T, 1), limit, dtype=torch.float64)
    task = quadratic_task([0.1, 0.01], [0.01], [100.0, 10.0], [0.0, 0.0], T)
    return Problem(torch.tensor([torch.pi, 0.0], dtype=torch.float64), Pendulum(), task, -bound, bound)


def parking(T: int = 20, limit: float = 1.0) -> Problem:
    """The car to a place beside it, facing where it faced before."""
    bound = torch.full((T, 2), limit, dtype=torch.float64)
    task = quadratic_task([0.01, 0.01, 0.01, 0.01], [0.1, 0.1], [50.0, 50.0, 10.0, 10.0], [1.0, 1.0, 0.0, 0.0], T)
    return Problem(torch.zeros(4, dtype=torch.float64), Unicycle(), task, -bound, bound)


def residual_problem(n: int, m: int, T: int, seed: int, limit: float = 1.0, radius: float = 1.0,
                     varying: bool = False) -> Problem:
    """Linear dynamics and a cost like a task's: all norms, on 3 n rows of one or two entries, and efforts.

    The last states act on nothing, as a tool and past efforts do.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    steps = (T,) if varying else ()
    dynamics = random_dynamics(n, m, seed, steps, radius)
    dynamics.F[..., n - n // 3 : n] = 0.0
    k = 3 * n + m
    R = torch.zeros(k, n + m, dtype=torch.float64)
    R[torch.arange(k), torch.arange(k) % n] = draw(k)
    R[3 * n:] = torch.cat([torch.zeros(m, n), torch.eye(m)], -1)
    R[2 * n : 2 * n + min(n, m), n:] += torch.eye(min(n, m), m)
    width = torch.tensor([torch.inf] * n + [0.3] * (2 * n) + [torch.inf] * m, dtype=torch.float64)
    width[2 * n : 3 * n : 2] *= -1.0  # a dead zone on one side only
    dead = torch.tensor([False] * (2 * n) + [True] * n + [False] * m)
    scale = draw(T + 1, k).abs() + 0.05
    scale[-1, 2 * n:] = 0.0
    bound = torch.full((T, m), limit, dtype=torch.float64)
    return Problem(draw(n), dynamics, ResidualCost(R, draw(T + 1, k), scale, width, dead), -bound, bound)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "lq": lambda: lq_problem(4, 2, 12, seed=0),
    "lq_limited": lambda: lq_problem(4, 2, 12, seed=0, limit=0.4),
    "lq_unstable": lambda: lq_problem(3, 3, 10, seed=1, limit=1.0, radius=1.3),
    "residuals": lambda: residual_problem(5, 2, 12, seed=0, limit=math.inf),
    "residuals_limited": lambda: residual_problem(5, 2, 12, seed=1, limit=0.3),
    "swing_up": swing_up,
    "parking": parking,
}


def to(problem: Problem, device: str) -> Problem:
    """The problem on another device."""
    def move(value: object) -> object:
        if isinstance(value, Tensor):
            return value.to(device)
        return type(value)(*(move(part) for part in vars(value).values())) if is_dataclass(value) else value
    moved = move(problem)
    assert isinstance(moved, Problem)
    return moved
