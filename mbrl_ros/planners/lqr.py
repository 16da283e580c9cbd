"""Linear-quadratic control: the recursions under every planner that expands its model.

Minimise sum_t 1/2 z_t' C_t z_t + c_t' z_t + const_t, z = [x; u], subject to x_{t+1} = F_t z_t + f_t from x_0; of step T
only the x part counts. The solution u_t = K_t x_t + k_t comes from the recursion on V_t, v_t in docs/design.md,
section 2 (Tassa, Erez & Todorov 2012, section II, for the regularisation mu).

Where the covariance of x' is (1 + h'Lh) Sigma, h = [1; x; u] (LinearGaussianDynamics.leverage), the expected value of
x' grows by 1/2 p_t h'Lh at the price p_t = tr(V_{t+1} Sigma), which the recursion knows when it comes to step t. That
is optimal for one step, and for an F drawn anew at every step: cautious control (Wieslander & Wittenmark 1971).

Inside, everything is homogeneous: with a = [1; x] and h = [1; x; u] the affine terms are one more row and column, so
that a step is few calls: small matrices cost their calls, not their arithmetic. A time axis is the last batch axis; an
F without any batch axis is time-invariant.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mbrl_ros.models.dynamics import linearize, predict_mean
from mbrl_ros.models.rollout import per_step as _per_step
from mbrl_ros.planners import fused
from mbrl_ros.planners.graphed import Graphed
from mbrl_ros.planners.problem import Cost, Problem
from mbrl_ros.types import (
    Gaussian,
    LinearGaussianDynamics,
    LinearGaussianPolicy,
    QuadraticCost,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# gain(t, Q_uu, Q_ua) -> H = -[k K] (*b, m, 1 + n), the Cholesky factor of Q_uu, and 0 where that exists (*b,)
Gain = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
# curvature(t, gradient of the value at the nominal x_{t+1} (*b, n)) -> what Q_t has beside it (*b, n + m, n + m)
Bend = Callable[[int, Tensor], Tensor]


class Spread(NamedTuple):
    """How the covariance of x' grows with h = [1; x; u]: (1 + h' leverage h) Sigma."""

    Sigma: Tensor  # (*b, T or 1, n, n) or (n, n)
    leverage: Tensor  # (*b, T or 1, 1 + n + m, 1 + n + m) or (1 + n + m, 1 + n + m)

    def about(self, z: Float[Tensor, "*b T p"]) -> Spread:
        """The same with h = [1; deviations from z]."""
        moved = self.leverage @ torch.cat([torch.ones_like(z[..., :1]), z], -1).unsqueeze(-1)  # (*b, T, 1 + n + m, 1)
        constant = moved[..., :1, :] + z.unsqueeze(-2) @ moved[..., 1:, :]
        first = torch.cat([constant, moved[..., 1:, :].mT], -1)
        L = self.leverage[..., 1:, 1:].expand(*z.shape, z.shape[-1])
        return Spread(self.Sigma, torch.cat([first, torch.cat([moved[..., 1:, :], L], -1)], -2))

    def cost(self, price: Float[Tensor, "*b T"], x: Float[Tensor, "*s T+1 n"], u: Float[Tensor, "*s T m"]
             ) -> Float[Tensor, " *s"]:
        """sum_t 1/2 price_t h'Lh of states x and efforts u, *s being (..., *b)."""
        h = torch.cat([torch.ones_like(u[..., :1]), x[..., :-1, :], u], -1)
        return 0.5 * (price * (h * (self.leverage @ h.unsqueeze(-1)).squeeze(-1)).sum(-1)).sum(-1)


class Backward(NamedTuple):
    """Solution of an LQ problem. A step of length a (a k instead of k) costs a * linear + a^2 / 2 * quadratic more."""

    K: Tensor  # (*b, T, m, n)
    k: Tensor  # (*b, T, m)
    L: Tensor  # (*b, T, m, m), Cholesky factor of the (regularised) Q_uu
    Quu: Tensor  # (*b, T, m, m), without regularisation
    values: list[Tensor]  # T + 1 of (*b, 1 + n, 1 + n): the value at x is 1/4 a' values[t] a, symmetric; [] unasked
    linear: Tensor  # (*b,), sum k' q_u
    quadratic: Tensor  # (*b,), sum k' Q_uu k
    success: Tensor  # (*b,), Q_uu was positive definite at every step
    price: Tensor | None  # (*b, T), tr(V_{t+1} Sigma): twice what a leverage of one costs; None without a spread

    @property
    def V(self) -> Float[Tensor, "*b steps n n"]:
        """Quadratic term of the values, at T + 1 steps."""
        return 0.5 * torch.stack([value[..., 1:, 1:] for value in self.values], -3)

    @property
    def v(self) -> Float[Tensor, "*b steps n"]:
        """Linear term of the values, at T + 1 steps."""
        return 0.5 * torch.stack([value[..., 1:, 0] for value in self.values], -2)


def newton(t: int, Quu: Float[Tensor, "*b m m"], Qua: Float[Tensor, "*b m a"]
           ) -> tuple[Float[Tensor, "*b m a"], Float[Tensor, "*b m m"], Int[Tensor, " *b"]]:
    """The unconstrained minimiser, as a Gain."""
    L, info = torch.linalg.cholesky_ex(Quu)
    return torch.cholesky_solve(Qua, L), L, info


def backward(F: Float[Tensor, "*#t n p"], f: Float[Tensor, "*#t n"] | None, cost: QuadraticCost,
             mu: Float[Tensor, " *b"] | None = None, gain: Gain = newton, spread: Spread | None = None,
             curvature: Bend | None = None) -> Backward:
    """Gains and values for F (*b, T or 1, n, n + m) or (n, n + m), f alike without the last axis, mu (*b,).

    f = None is zero. mu / 2 |x'|^2 is added where the gains are computed, not to the values: with mu, x should be a
    deviation. Never raises: see `success`. On a GPU the unconstrained problem is one kernel, or one CUDA graph.
    With `curvature`, x must be a deviation from the nominal states; where Q_uu with it is not positive definite, that
    step goes without.
    """
    if curvature is not None:
        return _in_torch(F, f, cost, mu, gain, spread, curvature)
    if gain is newton and fused.applies(F):
        return from_fused(fused.backward(F, f, cost, mu, spread))
    if gain is newton and F.is_cuda:
        recorded: tuple[Any, ...] = _graphed(F, f, cost.C, cost.c, cost.const, mu, *(spread or (None, None)))
        return _assemble(*recorded)
    return _in_torch(F, f, cost, mu, gain, spread)


def from_fused(step: fused.Fused) -> Backward:
    """What the fused kernel found; no values where it was not asked for them."""
    return _assemble(*step[:-1])


def _assemble(K: Tensor, k: Tensor, L: Tensor, Quu: Tensor, values: Tensor | None, *others: Any) -> Backward:
    """From tensors in the order of the fields, values (*b, T + 1, 1 + n, 1 + n)."""
    return Backward(K, k, L, Quu, [] if values is None else list(values.unbind(-3)), *others)


def _flat(F: Tensor, f: Tensor | None, C: Tensor, c: Tensor, const: Tensor, mu: Tensor | None, Sigma: Tensor | None,
          leverage: Tensor | None) -> tuple[Tensor | None, ...]:
    """_in_torch with tensors for everything, as a recorded function has it; see _assemble."""
    spread = None if Sigma is None or leverage is None else Spread(Sigma, leverage)
    step = _in_torch(F, f, QuadraticCost(C, c, const), mu, newton, spread)
    return (*step[:4], torch.stack(step.values, -3), *step[5:])


_graphed = Graphed(_flat)


def _in_torch(F: Tensor, f: Tensor | None, cost: QuadraticCost, mu: Tensor | None, gain: Gain,
              spread: Spread | None, curvature: Bend | None = None) -> Backward:
    """`backward` step by step."""
    n, m, T = F.shape[-2], F.shape[-1] - F.shape[-2], cost.c.shape[-2] - 1
    a = 1 + n
    C = _homogeneous_cost(cost).unbind(-3)  # T + 1 of (*b, 1 + n + m, 1 + n + m)
    G = _homogeneous_dynamics(F, torch.zeros_like(F[..., 0]) if f is None else f)
    Gs, GTs = _per_step(G, T), _per_step(G.mT, T)
    ridges = None if mu is None else _per_step(mu[..., None, None, None] * (F[..., n:].mT @ G[..., 1:, :]), T)
    single = Gs[0].ndim == C[0].ndim == 2 and (ridges is None or ridges[0].ndim == 2)
    fma = torch.addmm if single else _fma
    Sigmas, Ls = ([], []) if spread is None else (_per_step(part, T) for part in spread)
    prices: list[Tensor] = []
    values, solved = [2 * C[T][..., :a, :a]], []  # twice the matrix, so that symmetrising is one addition
    for t in range(T - 1, -1, -1):
        C_t = C[t]
        if spread is not None:
            prices.append(0.5 * (values[-1][..., 1:, 1:] * Sigmas[t]).sum((-2, -1)))
            C_t = C_t + prices[-1][..., None, None] * Ls[t]
        Q = fma(C_t, GTs[t], values[-1] @ Gs[t], alpha=0.5)
        if curvature is not None:
            Q = _bent(Q, curvature(t, 0.5 * values[-1][..., 1:, 0]), None if ridges is None else ridges[t], m)
        Qu = Q.narrow(-2, a, m)  # [Q_ua Q_uu]
        ridged = Qu if ridges is None else Qu + ridges[t]
        H, L, info = gain(t, ridged.narrow(-1, a, m), ridged.narrow(-1, 0, a))
        # 2 V = S + S' with S = Q_aa + 2 Q_au G + G' Q_uu G for any gain G = -H, optimal or not. Without this the
        # antisymmetric rounding error would grow with the open-loop dynamics, A' E A per step.
        half = fma(Qu.narrow(-1, 0, a), Qu.narrow(-1, a, m), H, beta=2.0, alpha=-1.0)
        S = fma(Q.narrow(-2, 0, a).narrow(-1, 0, a), half.mT, H, alpha=-1.0)
        values.append(S + S.mT)
        solved.append((H, L, Qu, info))
    H, L, Qu = (torch.stack(steps[::-1], -3) for steps in list(zip(*solved, strict=True))[:3])
    k, Quu = -H[..., 0], Qu[..., a:]
    linear = (k * Qu[..., 0]).sum((-2, -1))
    quadratic = (k * (Quu @ k.unsqueeze(-1)).squeeze(-1)).sum((-2, -1))
    failures = torch.stack([info for *_, info in solved], -1)
    success = (failures == 0).all(-1) & torch.isfinite(linear + quadratic)
    price = torch.stack(prices[::-1], -1) if prices else None
    return Backward(-H[..., 1:], k, L, Quu, values[::-1], linear, quadratic, success, price)


def _bent(Q: Tensor, H: Tensor, ridge: Tensor | None, m: int) -> Tensor:
    """Q (*b, 1 + n + m, 1 + n + m) plus H of [x; u] where that leaves Q_uu and its ridge positive definite."""
    bent = Q + torch.nn.functional.pad(H, (1, 0, 1, 0))
    Quu = bent[..., -m:, -m:] if ridge is None else bent[..., -m:, -m:] + ridge[..., -m:]
    convex = torch.linalg.cholesky_ex(Quu)[1] == 0
    return torch.where(convex[..., None, None], bent, Q)


def _fma(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """torch.addmm with broadcasting batch axes."""
    return torch.add(c if beta == 1.0 else beta * c, a @ b, alpha=alpha)


def _homogeneous_cost(cost: QuadraticCost) -> Tensor:
    """[2 const, c'; c, C] (*b, T + 1, 1 + n + m, 1 + n + m): a step costs half of h' (.) h."""
    first = torch.cat([2 * cost.const.unsqueeze(-1), cost.c], -1).unsqueeze(-2)
    return torch.cat([first, torch.cat([cost.c.unsqueeze(-1), cost.C], -1)], -2)


def _homogeneous_dynamics(F: Tensor, f: Tensor) -> Tensor:
    """[1 0 0; f A B] (..., 1 + n, 1 + n + m): a' = (.) h."""
    G = torch.cat([f.unsqueeze(-1), F], -1)
    first = torch.zeros_like(G[..., :1, :])
    first[..., 0] = 1.0
    return torch.cat([first, G], -2)


def forward(problem: Problem, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"], step: Backward,
            lengths: Float[Tensor, " S"]) -> tuple[Float[Tensor, "S *b T+1 n"], Float[Tensor, "S *b T m"]]:
    """Rollouts of u_t + K_t (. - x_t) + a k_t, clamped, for all step lengths a in `lengths` as one batch."""
    model = problem.model
    if isinstance(model, LinearGaussianDynamics):
        if fused.applies(model.F):
            return fused.forward(model.F, model.f, step.K, step.k, x, u, (problem.lower, problem.upper), problem.x0,
                                 lengths)
        return _forward_linear(problem, x, u, step, lengths)
    bounds = zip(problem.lower.unbind(0), problem.upper.unbind(0), strict=True)
    parts = zip(x.unbind(-2), u.unbind(-2), step.K.unbind(-3), step.k.unbind(-2), bounds, strict=False)
    states, efforts = [problem.x0.expand(len(lengths), *problem.x0.shape)], []
    scale = lengths.reshape(-1, *[1] * problem.x0.ndim)  # (S, *b, 1)
    for x_t, u_t, K, k, (low, high) in parts:
        feedback = (K @ (states[-1] - x_t).unsqueeze(-1)).squeeze(-1)
        efforts.append((u_t + feedback + scale * k).clamp(low, high))
        states.append(predict_mean(problem.model, states[-1], efforts[-1]))
    return torch.stack(states, -2), torch.stack(efforts, -2)


def _forward_linear(problem: Problem, x: Tensor, u: Tensor, step: Backward,
                    lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The same for linear dynamics in rows d = [1 x a] (*b, S, n + 2): u = d R_t, d' = d P + u N."""
    F, f, T, n, S = problem.model.F, problem.model.f, u.shape[-2], x.shape[-1], len(lengths)
    K = step.K
    nominal = u - (K @ x[..., :-1, :].unsqueeze(-1)).squeeze(-1)
    R = torch.cat([nominal.unsqueeze(-1), K, step.k.unsqueeze(-1)], -1).mT  # (*b, T, n + 2, m)
    G = _homogeneous_dynamics(F, f)
    G = torch.nn.functional.pad(G, (0, 0, 0, 1))  # (..., n + 2, 1 + n + m)
    P = torch.nn.functional.pad(G[..., : n + 1], (0, 1))
    P[..., -1, -1] = 1.0
    d = torch.cat([torch.ones_like(x[..., :1, :1]).expand(*x.shape[:-2], S, 1),
                   problem.x0.unsqueeze(-2).expand(*x.shape[:-2], S, n),
                   lengths.unsqueeze(-1).expand(*x.shape[:-2], S, 1)], -1)
    fma = torch.addmm if R.ndim == 3 and F.ndim < 4 else _fma
    rows, efforts = [d], []
    for R_t, P_t, N_t, low, high in zip(R.unbind(-3), _per_step(P.mT, T), _per_step(G[..., n + 1:].mT, T),
                                        problem.lower.unbind(0), problem.upper.unbind(0), strict=True):
        d = rows[-1]
        efforts.append((d @ R_t).clamp(low, high))
        rows.append(fma(d @ P_t, efforts[-1], N_t))
    states = torch.stack(rows, -2)[..., 1: n + 1]  # (*b, S, T + 1, n)
    return states.movedim(-3, 0), torch.stack(efforts, -2).movedim(-3, 0)


def expand(model: Any, cost: Cost, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]
           ) -> tuple[Float[Tensor, "*t n p"], QuadraticCost, Spread | None]:
    """F, cost and spread in deviations from the rollout x, u, where f = 0 and const = 0."""
    with torch.enable_grad():  # models and residuals may differentiate themselves
        F = linearize(model, x[..., :-1, :], u).F.detach()
        quadratic = cost.quadratize(x, u)
    C = quadratic.C.detach()
    z = torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)  # (*b, T + 1, n + m)
    c = quadratic.c.detach() + (C @ z.unsqueeze(-1)).squeeze(-1)
    spread = spread_of(model)
    return F, QuadraticCost(C, c, torch.zeros_like(c[..., 0])), None if spread is None else spread.about(z[..., :-1, :])


def spread_of(model: Any) -> Spread | None:
    """How the covariance of a linear model grows, if it says so."""
    leverage = getattr(model, "leverage", None)
    return None if leverage is None else Spread(model.Sigma, leverage)


def is_finite(F: Float[Tensor, "*t n p"], cost: QuadraticCost, spread: Spread | None) -> Bool[Tensor, " *b"]:
    """Whether an expansion is finite."""
    finite = torch.isfinite(cost.C.sum((-2, -1)) + cost.c.sum(-1)).all(-1)
    for part in (F, *(spread or ())):
        each = torch.isfinite(part.sum((-2, -1)))
        finite = finite & (each if each.ndim == 0 else each.all(-1))
    return finite


def spread_cost(model: Any, step: Backward, x: Float[Tensor, "*s T+1 n"], u: Float[Tensor, "*s T m"]
                ) -> Float[Tensor, " *s"]:
    """What the spread of the model costs on x, u at the prices of `step`, *s being (..., *b)."""
    spread = spread_of(model)
    if spread is None or step.price is None:
        return x.new_zeros(x.shape[:-2])
    return spread.cost(step.price, x, u)


def marginals(dynamics: LinearGaussianDynamics, policy: LinearGaussianPolicy, start: Gaussian) -> Gaussian:
    """Marginals over x_0..x_T, mean (*b, T + 1, n), under the policy; dynamics as in `backward`, leverage left out."""
    T, means, covs = policy.K.shape[-3], [start.mean], [start.cov]
    A, B, Sigma = (_per_step(part, T) for part in (dynamics.A, dynamics.B, dynamics.Sigma))
    f = _per_step(dynamics.f.unsqueeze(-1), T)
    for t in range(T):
        K, deviation = policy.K[..., t, :, :], (means[-1] - policy.x_hat[..., t, :]).unsqueeze(-1)
        u = K @ deviation + (policy.u_hat + policy.k)[..., t, :].unsqueeze(-1)
        closed = A[t] + B[t] @ K
        cov = closed @ covs[-1] @ closed.mT + B[t] @ policy.Sigma[..., t, :, :] @ B[t].mT + Sigma[t]
        means.append((A[t] @ means[-1].unsqueeze(-1) + B[t] @ u + f[t]).squeeze(-1))
        covs.append(0.5 * (cov + cov.mT))
    return Gaussian(torch.stack(means, -2), torch.stack(covs, -3))


def expected_cost(step: Backward, start: Gaussian, Sigma: Float[Tensor, "... n n"],
                  noise: Float[Tensor, "... m m"] | None = None) -> Float[Tensor, " *b"]:
    """E[cost] of u = K x + k + N(0, noise_t) from x_0 ~ `start` with process noise Sigma (*b, T or 1, n, n).

    The noises enter by 1/2 tr(V_{t+1} Sigma_t) and 1/2 tr(Q_uu,t noise_t); exact for the LQ problem solved.
    """
    mean = torch.cat([torch.ones_like(start.mean[..., :1]), start.mean], -1)
    V = step.V
    cost = 0.25 * (mean * (step.values[0] @ mean.unsqueeze(-1)).squeeze(-1)).sum(-1)
    cost = cost + 0.5 * (V[..., 0, :, :] * start.cov).sum((-2, -1))
    cost = cost + 0.5 * (V[..., 1:, :, :] * Sigma).sum((-3, -2, -1))
    return cost if noise is None else cost + 0.5 * (step.Quu * noise).sum((-3, -2, -1))
