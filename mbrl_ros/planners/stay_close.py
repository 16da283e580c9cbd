"""A cheaper linear-Gaussian policy that stays close to another (Levine & Abbeel 2014; docs/design.md, "Skills").

    min_p E_p[sum_t c_t]   subject to   KL(p(tau) || p_bar(tau)) <= bound

under fitted dynamics, which both have in common, so that the divergence is that of the efforts alone, in the mean over
the states of p. For a multiplier eta the minimiser is the maximum-entropy solution of the LQ problem with the cost
c / eta - log p_bar(u | x): gains by the recursion, covariance Q_uu^-1. The divergence falls with eta, which is looked
for in its logarithm, on a grid that closes in: a grid is one batch, and costs little more than one solution.
"""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mbrl_ros.planners.lqr import backward, marginals
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, LinearGaussianPolicy, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Float

LEAST, MOST = 1e-8, 1e16  # of eta
GRID = 13  # values of it at once
CLOSE = 0.9  # of the bound, from which on the divergence is near enough to it
PASSES = 12  # at most: by then the grid is finer than a number


class Improved(NamedTuple):
    """What came of it."""

    policy: LinearGaussianPolicy  # about its own mean states
    eta: float  # infinite where nothing but the policy before was within the bound
    kl: float  # [nats] of the whole trajectory, under the fitted dynamics
    cost: float  # expected, by the expansion


def improve(dynamics: LinearGaussianDynamics, cost: QuadraticCost, near: LinearGaussianPolicy, start: Gaussian,
            bound: float) -> Improved:
    """The best policy within `bound` [nats] of `near`, which may be any policy of T steps with definite Sigma: that
    which the cost was expanded about, or one fitted to a network.

    dynamics (T, n, n + m), cost with T + 1 steps in absolute coordinates, positive semidefinite. Torch, on the CPU.
    """
    x, u = _means(dynamics, near, start)
    moved = _about(cost, x, u)
    P = torch.linalg.inv(near.Sigma)
    closeness = _log_density(near, P, x, u)
    low, high = math.log(LEAST), math.log(MOST)
    best: Improved | None = None
    for _ in range(PASSES):
        grid = torch.linspace(low, high, GRID, dtype=x.dtype)
        policy, success = _solve(dynamics, moved, closeness, grid.exp(), x, u)
        states = marginals(dynamics, policy, Gaussian(start.mean.expand(GRID, -1), start.cov.expand(GRID, -1, -1)))
        kl = divergence(policy, near, Gaussian(states.mean[..., :-1, :], states.cov[..., :-1, :, :]))
        inside = success & torch.isfinite(kl) & (kl <= bound)
        if not bool(inside[-1]):
            break
        first = int((~inside).nonzero().max()) + 1 if not bool(inside.all()) else 0
        mine = LinearGaussianPolicy(*(part[first] for part in vars(policy).values()))
        best = Improved(mine, float(grid[first].exp()), float(kl[first]), expected(dynamics, cost, mine, start))
        if first == 0 or best.kl >= CLOSE * bound:
            break
        low, high = float(grid[first - 1]), float(grid[first])
    return best or Improved(near, math.inf, 0.0, expected(dynamics, cost, near, start))


def divergence(p: LinearGaussianPolicy, q: LinearGaussianPolicy, states: Gaussian) -> Float[Tensor, " *b"]:
    """sum_t E KL(p(u | x_t) || q(u | x_t)) [nats] over states of T steps, mean (*b, T, n); the first policy may have
    the batch axes, too."""
    P = torch.linalg.inv(q.Sigma)
    gap = _mean(p, states.mean) - _mean(q, states.mean)
    dK = p.K - q.K
    spread = p.Sigma + dK @ states.cov @ dK.mT
    m = P.shape[-1]
    each = 0.5 * ((P * spread).sum((-2, -1)) + (gap * (P @ gap.unsqueeze(-1)).squeeze(-1)).sum(-1) - m
                  + torch.logdet(q.Sigma) - torch.logdet(p.Sigma))
    return each.sum(-1)


def expected(dynamics: LinearGaussianDynamics, cost: QuadraticCost, policy: LinearGaussianPolicy, start: Gaussian
             ) -> float:
    """E[cost] of a policy from `start`, exact for the quadratic cost and linear dynamics."""
    states = marginals(dynamics, policy, start)
    mean, S = states.mean[:-1], states.cov[:-1]
    u, KS = _mean(policy, mean), policy.K @ S
    joint = torch.cat([torch.cat([S, KS.mT], -1), torch.cat([KS, KS @ policy.K.mT + policy.Sigma], -1)], -2)
    z = torch.cat([mean, u], -1)
    n = mean.shape[-1]
    total = (0.5 * (cost.C[:-1] * (joint + z.unsqueeze(-1) * z.unsqueeze(-2))).sum() + (cost.c[:-1] * z).sum())
    last, C, c = states.mean[-1], cost.C[-1, :n, :n], cost.c[-1, :n]
    total = total + 0.5 * (C * (states.cov[-1] + last.outer(last))).sum() + c @ last
    return float(total + cost.const.sum())


def _mean(policy: LinearGaussianPolicy, x: Float[Tensor, "*b T n"]) -> Float[Tensor, "*b T m"]:
    """The mean effort at states."""
    deviation = (x - policy.x_hat).unsqueeze(-1)
    return policy.u_hat + policy.k + (policy.K @ deviation).squeeze(-1)


def _means(dynamics: LinearGaussianDynamics, policy: LinearGaussianPolicy, start: Gaussian) -> tuple[Tensor, Tensor]:
    """Mean states (T + 1, n) and efforts (T, m)."""
    x = marginals(dynamics, policy, start).mean
    return x, _mean(policy, x[:-1])


def _about(cost: QuadraticCost, x: Tensor, u: Tensor) -> QuadraticCost:
    """In deviations from states and efforts, without the constant."""
    z = torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)
    return QuadraticCost(cost.C, cost.c + (cost.C @ z.unsqueeze(-1)).squeeze(-1), torch.zeros_like(cost.const))


def _log_density(near: LinearGaussianPolicy, P: Tensor, x: Tensor, u: Tensor) -> QuadraticCost:
    """-log p_bar(u | x) in deviations, without constants, at T + 1 steps."""
    b = _mean(near, x[:-1]) - u  # zero but for rounding
    G = torch.cat([-near.K, torch.eye(u.shape[-1], dtype=u.dtype).expand(len(u), -1, -1)], -1)  # u - K x - b = G z - b
    C, c = G.mT @ P @ G, -(G.mT @ P @ b.unsqueeze(-1)).squeeze(-1)
    return QuadraticCost(torch.cat([C, torch.zeros_like(C[:1])]), torch.cat([c, torch.zeros_like(c[:1])]),
                         torch.zeros(len(x), dtype=x.dtype))


def _solve(dynamics: LinearGaussianDynamics, cost: QuadraticCost, closeness: QuadraticCost, eta: Float[Tensor, " E"],
           x: Tensor, u: Tensor) -> tuple[LinearGaussianPolicy, Tensor]:
    """The solutions for all eta as a batch, about x and u, and which of them there are."""
    weight = 1.0 / eta
    total = QuadraticCost(weight[:, None, None, None] * cost.C + closeness.C,
                          weight[:, None, None] * cost.c + closeness.c, torch.zeros(len(eta), len(x), dtype=x.dtype))
    step = backward(dynamics.F, None, total)
    Sigma = torch.cholesky_inverse(step.L)
    return LinearGaussianPolicy(x[:-1].expand(len(eta), -1, -1), u + step.k, step.K, torch.zeros_like(step.k),
                                Sigma), step.success
