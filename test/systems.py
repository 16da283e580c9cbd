"""Plants and problems with known answers, shared by the tests of planners."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_ros.planners import Problem
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, QuadraticCost


@dataclass(frozen=True)
class QuadraticTask:
    """A Cost that is a QuadraticCost: its own expansion. Fields as there, batch axes allowed."""

    quadratic: QuadraticCost

    def evaluate(self, x: Tensor, u: Tensor) -> Tensor:
        """x (*b, T + 1, n), u (*b, T, m) -> (*b,)."""
        z = torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)
        q = self.quadratic
        C = q.C.clone()
        n = x.shape[-1]
        C[..., -1, n:, :], C[..., -1, :, n:] = 0.0, 0.0
        steps = 0.5 * (z * (C @ z.unsqueeze(-1)).squeeze(-1)).sum(-1) + (q.c * z).sum(-1) + q.const
        return steps.sum(-1)

    def quadratize(self, x: Tensor, u: Tensor) -> QuadraticCost:
        """The same everywhere, with the batch of x."""
        q, batch = self.quadratic, x.shape[:-2]
        return QuadraticCost(q.C.expand(*batch, *q.C.shape[-3:]), q.c.expand(*batch, *q.c.shape[-2:]),
                             q.const.expand(*batch, *q.const.shape[-1:]))


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


def lq_problem(n: int, m: int, T: int, seed: int, limit: float = float("inf"), radius: float = 1.0,
               batch: tuple[int, ...] = ()) -> Problem:
    """Time-invariant dynamics, random quadratic cost, symmetric effort limits."""
    generator = torch.Generator().manual_seed(seed + 1000)
    x0 = torch.randn(*batch, n, generator=generator, dtype=torch.float64)
    bound = torch.full((T, m), limit, dtype=torch.float64)
    return Problem(x0, random_dynamics(n, m, seed, radius=radius), QuadraticTask(random_cost(n, m, T, seed)),
                   -bound, bound)
