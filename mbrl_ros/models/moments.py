"""What becomes of a Gaussian: exact means and covariances of functions of x ~ N(m, S) (Deisenroth & Rasmussen 2011).

Every function answers its mean, its covariance, and its mean slope J = E[df/dx], with which Cov[f, x] = J S (Stein),
so that nothing is divided by S, which may be singular. A chain of functions is Gaussian by agreement: what is exact is
each link (`append`). In double precision torch, and differentiable throughout.

For kernels k_i(x) = exp(-1/2 |r x - z_i|^2), r and z_i in units of the lengthscales, with B = r S r + 1 and
T = (S^-1 + r_a^2 + r_b^2)^-1, v_i = z_i - r m,

    E[k_i] = |B|^-1/2 exp(-1/2 v_i' B^-1 v_i),         E[dk_i/dx] = r B^-1 v_i E[k_i],
    E[k_i k_j] = |S (r_a^2 + r_b^2) + 1|^-1/2 exp(-1/2 (|v_i|^2 + |v_j|^2) + 1/2 g' T g),   g = r_a v_i + r_b v_j.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mbrl_ros.models.gp import GaussianProcess
from mbrl_ros.types import Gaussian


class Moments(NamedTuple):
    """Of y = f(x), where x is Gaussian."""

    mean: Float[Tensor, " dy"]
    cov: Float[Tensor, "dy dy"]
    slope: Float[Tensor, "dy dx"]  # Cov[y, x] = slope Cov[x]


class Kernels(NamedTuple):
    """f_d(x) = A_d x + b_d + sum_i alpha_di exp(-1/2 |rate_d x - Z_di|^2), d = 1..dy."""

    A: Float[Tensor, "dy dx"]
    b: Float[Tensor, " dy"]
    alpha: Float[Tensor, "dy M"]
    Z: Float[Tensor, "dy M dx"]
    rate: Float[Tensor, "dy dx"]

    def __call__(self, x: Float[Tensor, "*b dx"]) -> Float[Tensor, "*b dy"]:
        """The function itself."""
        away = (x[..., None, :] * self.rate)[..., None, :] - self.Z
        k = (-0.5 * away.square().sum(-1)).exp()
        return x @ self.A.mT + self.b + (k * self.alpha).sum(-1)

    def moments(self, x: Gaussian, Q: Float[Tensor, "dy p p"] | None = None) -> Moments:
        """Exact. With Q, E[psi' Q psi] is added to the variances, psi = [x; 1; kernels]."""
        m, S = x.mean, x.cov
        dy = len(self.alpha)
        v = self.Z - (self.rate * m)[:, None]  # (dy, M, dx)
        B = self.rate[:, :, None] * S * self.rate[:, None] + torch.eye(len(m), dtype=S.dtype)
        pull = torch.linalg.solve(B, v.mT).mT  # (dy, M, dx), B^-1 v
        q = (-0.5 * (v * pull).sum(-1) - 0.5 * torch.logdet(B)[:, None]).exp()  # (dy, M), E[k]
        dk = self.rate[:, None] * pull * q[..., None]  # (dy, M, dx), E[dk/dx]
        bent = (self.alpha[..., None] * dk).sum(1)  # (dy, dx), the kernels' part of the slope
        mean = self.A @ m + self.b + (self.alpha * q).sum(-1)
        a, b = torch.triu_indices(dy, dy)
        kk = self._products(S, v, a, b)  # (pairs, M, M)
        both = torch.einsum("pi,pij,pj->p", self.alpha[a], kk, self.alpha[b])
        both = both - (self.alpha * q).sum(-1)[a] * (self.alpha * q).sum(-1)[b]
        linear = self.A @ S @ self.A.mT + self.A @ S @ bent.mT + bent @ S @ self.A.mT
        kernels = torch.zeros(dy, dy, dtype=S.dtype).index_put((a, b), both)
        cov = linear + kernels + kernels.triu(1).mT
        if Q is not None:
            diagonal = a == b
            cov = cov + torch.diag_embed(_expected(Q, m, S, q, dk, kk[diagonal]))
        return Moments(mean, 0.5 * (cov + cov.mT), self.A + bent)

    def _products(self, S: Tensor, v: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """E[k_ai k_bj] (pairs, M, M)."""
        square = self.rate.square()
        R = S * (square[a] + square[b])[:, None] + torch.eye(len(S), dtype=S.dtype)
        T = torch.linalg.solve(R, S.expand_as(R))
        g = self.rate[:, None] * v  # (dy, M, dx)
        half = -0.5 * v.square().sum(-1)  # (dy, M)
        left = g[a] @ T  # (pairs, M, dx)
        one, other = half[a] + 0.5 * (left * g[a]).sum(-1), half[b] + 0.5 * ((g[b] @ T) * g[b]).sum(-1)
        log = left @ g[b].mT + one[:, :, None] + other[:, None] - 0.5 * torch.logdet(R)[:, None, None]
        return log.exp()


def _expected(Q: Tensor, m: Tensor, S: Tensor, q: Tensor, dk: Tensor, kk: Tensor) -> Tensor:
    """E[psi' Q psi] (dy,) = tr Q E[psi psi'] of psi = [x; 1; k]."""
    n = len(m)
    xx, xk = S + torch.outer(m, m), dk @ S + m * q[..., None]  # (n, n), (dy, M, n)
    return ((Q[:, :n, :n] * xx).sum((1, 2)) + 2 * (Q[:, :n, n] @ m) + Q[:, n, n]
            + 2 * (Q[:, n + 1:, :n] * xk).sum((1, 2)) + 2 * (Q[:, n + 1:, n] * q).sum(1)
            + (Q[:, n + 1:, n + 1:] * kk).sum((1, 2)))


def kernels_of(gp: GaussianProcess) -> Kernels:
    """The mean of Gaussian processes, as a function of s = (w - w_mean) / w_scale."""
    dw = gp.rate.shape[-1]
    weights = gp.mean_weights
    return Kernels(weights[:, :dw], weights[:, dw], weights[:, dw + 1:], gp.Z, gp.rate)


def processes(gp: GaussianProcess, w: Gaussian) -> Moments:
    """Of y, noise and doubt included, for w ~ N; the outputs are independent but for their noise, given w."""
    s = Gaussian((w.mean - gp.w_mean) / gp.w_scale, w.cov / torch.outer(gp.w_scale, gp.w_scale))
    y = kernels_of(gp).moments(s, gp.Q)
    return Moments(y.mean, y.cov + gp.R + torch.diag_embed(gp.amplitude), y.slope / gp.w_scale)


def sines(x: Gaussian) -> Moments:
    """Of [sin x; cos x] (2 d) for angles x (d) [rad]."""
    m, S = x.mean, x.cov
    v = S.diagonal()
    shrunk = (-0.5 * v).exp()
    s, c = shrunk * m.sin(), shrunk * m.cos()
    half = 0.5 * (v[:, None] + v)
    less = 0.5 * ((S - half).exp() - (-half).exp())  # of the difference of two angles; both are exact at S = 0
    more = 0.5 * ((-S - half).exp() - (-half).exp())  # of their sum
    apart, together = m[:, None] - m, m[:, None] + m
    ss, cc = less * apart.cos() - more * together.cos(), less * apart.cos() + more * together.cos()
    sc = less * apart.sin() + more * together.sin()
    cov = torch.cat([torch.cat([ss, sc], 1), torch.cat([sc.mT, cc], 1)])
    return Moments(torch.cat([s, c]), cov, torch.cat([torch.diag(c), torch.diag(-s)]))


def squash(z: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
    """(9 sin z + sin 3z) / 8, within [-1, 1], with moments in closed form."""
    return (9 * z.sin() + (3 * z).sin()) / 8


def squashed(z: Gaussian) -> Moments:
    """Of `squash`."""
    m = len(z.mean)
    eye = torch.eye(m, dtype=z.cov.dtype)
    once_and_thrice = torch.cat([eye, 3 * eye])
    weights = torch.cat([9 / 8 * eye, eye / 8, 0 * eye, 0 * eye], 1)  # of sines, then of cosines
    y = sines(Gaussian(once_and_thrice @ z.mean, once_and_thrice @ z.cov @ once_and_thrice.mT))
    return Moments(weights @ y.mean, weights @ y.cov @ weights.mT, weights @ y.slope @ once_and_thrice)


def saturating(x: Gaussian, goal: Float[Tensor, " d"], W: Float[Tensor, "d d"]) -> Tensor:
    """E[1 - exp(-1/2 (x - goal)' W (x - goal))]."""
    away = x.mean - goal
    B = torch.eye(len(W), dtype=W.dtype) + x.cov @ W
    return 1 - (-0.5 * away @ W @ torch.linalg.solve(B, away) - 0.5 * torch.logdet(B)).exp()


def append(joint: Gaussian, rows: list[int], f: Callable[[Gaussian], Moments]) -> Gaussian:
    """The joint Gaussian of v and f(v[rows]), where all of v meets f through those rows."""
    at = torch.tensor(rows, dtype=torch.long)
    across = joint.cov.index_select(0, at)
    y = f(Gaussian(joint.mean.index_select(0, at), across.index_select(1, at)))
    cross = y.slope @ across  # (dy, n)
    cov = torch.cat([torch.cat([joint.cov, cross.mT], 1), torch.cat([cross, y.cov], 1)])
    return Gaussian(torch.cat([joint.mean, y.mean]), cov)
