"""Linear dynamical systems: filter and smoother through Gaussian potentials, and what is believed about the dynamics.

    z_0 ~ N(mu, S),    z_{t+1} ~ N(F [z_t; u_t; 1], Sigma),    q(z) ~ p(z) prod_t psi_t(z_t)

A potential psi(z) = N(m | first coordinates of z, diag v) is what an encoder says of one picture (Johnson et al. 2016),
of speeds nothing: q is then the posterior of a linear-Gaussian system that was measured, and everything about it is
exact. F and Sigma are not known; belief about them is matrix-normal inverse-Wishart (Murphy 2012, section 4.6.3), and
q(z) is the optimum of variational inference given that: by the expected natural parameters E[Sigma^-1], E[Sigma^-1 F]
and E[F' Sigma^-1 F], of which the last is larger than by the mean of F and acts as one more potential on [z_t; u_t; 1].
All in torch, differentiable by the potentials, over any batch of trials.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mbrl_ros.types import Gaussian

if TYPE_CHECKING:
    from jaxtyping import Float

LOG_2PI = math.log(2 * math.pi)


class Potentials(NamedTuple):
    """N(m | z_1..z_k, diag v) at each of T + 1 steps, k at most d."""

    m: Tensor  # (*b, T + 1, k)
    v: Tensor  # (*b, T + 1, k)

    def expected(self, z: Gaussian) -> Float[Tensor, " *b"]:
        """E[sum_t log psi_t] over z with mean (*b, T + 1, d)."""
        return -0.5 * (LOG_2PI + self.v.log() + self.spread(z) / self.v).sum((-2, -1))

    def spread(self, z: Gaussian) -> Float[Tensor, "*b steps k"]:
        """E[(m - z)^2]."""
        k = self.m.shape[-1]
        return z.cov.diagonal(dim1=-2, dim2=-1)[..., :k] + (self.m - z.mean[..., :k]).square()


class Dynamics(NamedTuple):
    """z' ~ N(F w, Sigma) for w = [z; u; 1], as far as it is known: `doubt` is E[F' Sigma^-1 F] beyond that of the mean
    F, `log_det` E[log |Sigma^-1|]. Where F differs from step to step, all have an axis of T steps in front."""

    F: Tensor  # (d, d + m + 1)
    Sigma: Tensor  # (d, d)
    doubt: Tensor  # (d + m + 1, d + m + 1)
    log_det: Tensor  # ()

    @classmethod
    def known(cls, F: Tensor, Sigma: Tensor) -> Dynamics:
        """Without doubt."""
        return cls(F, Sigma, F.new_zeros(F.shape[-1], F.shape[-1]), -torch.logdet(Sigma))


class Smoothed(NamedTuple):
    """q(z) of T + 1 steps."""

    z: Gaussian  # mean (*b, T + 1, d)
    cross: Tensor  # (*b, T, d, d), Cov(z_{t+1}, z_t)
    log_Z: Tensor  # (*b,), of p(z) prod psi: the log evidence where psi are measurements and the dynamics are known


@dataclass(frozen=True)
class MatrixNormalInverseWishart:
    """F | Sigma ~ MN(M, Sigma, L^-1), Sigma ~ IW(Psi, nu)."""

    M: Tensor  # (d, p)
    L: Tensor  # (p, p), precision of the columns
    Psi: Tensor  # (d, d)
    nu: Tensor  # ()

    def posterior(self, yy: Float[Tensor, "d d"], yw: Float[Tensor, "d p"], ww: Float[Tensor, "p p"],
                  count: float | Tensor) -> MatrixNormalInverseWishart:
        """Given sums of y y', y w' and w w' over so many pairs, or of their expectations."""
        L = self.L + ww
        M = torch.linalg.solve(L, (self.M @ self.L + yw).mT).mT
        Psi = self.Psi + yy + self.M @ self.L @ self.M.mT - M @ L @ M.mT
        return MatrixNormalInverseWishart(M, 0.5 * (L + L.mT), 0.5 * (Psi + Psi.mT), self.nu + count)

    def worth(self, count: float) -> MatrixNormalInverseWishart:
        """The same means as if from `count` pairs: a prior for what is like this and not the same."""
        part = count / self.nu
        return MatrixNormalInverseWishart(self.M, part * self.L, part * self.Psi, part * self.nu)

    @property
    def expected(self) -> Dynamics:
        """What smoothing goes by."""
        d = len(self.Psi)
        i = torch.arange(d, dtype=self.Psi.dtype)
        log_det = torch.digamma(0.5 * (self.nu - i)).sum() + d * math.log(2) - torch.logdet(self.Psi)
        return Dynamics(self.M, self.Psi / self.nu, d * torch.linalg.inv(self.L), log_det)

    def kl(self, prior: MatrixNormalInverseWishart) -> Tensor:
        """KL(self || prior) [nats]."""
        d, p = self.M.shape
        known, gap = self.expected, self.M - prior.M
        precision = torch.linalg.inv(known.Sigma)  # E[Sigma^-1]
        of_F = 0.5 * (d * (torch.linalg.solve(self.L, prior.L).trace() - p + torch.logdet(self.L)
                           - torch.logdet(prior.L)) + (precision @ gap @ prior.L * gap).sum())
        of_Sigma = (0.5 * (self.nu - prior.nu) * known.log_det + 0.5 * (precision * prior.Psi).sum()
                    - 0.5 * self.nu * d + _log_norm(prior.Psi, prior.nu) - _log_norm(self.Psi, self.nu))
        return of_F + of_Sigma


def _log_norm(Psi: Tensor, nu: Tensor) -> Tensor:
    """log of the integral of |Sigma|^-(nu + d + 1)/2 exp(-tr(Psi Sigma^-1) / 2)."""
    d = len(Psi)
    return 0.5 * nu * (d * math.log(2) - torch.logdet(Psi)) + torch.special.multigammaln(0.5 * nu, d)


def absorb(z: Gaussian, J: Float[Tensor, "*b d d"], h: Float[Tensor, "*b d"]) -> tuple[Gaussian, Float[Tensor, " *b"]]:
    """The product of a Gaussian with exp(-z'Jz / 2 + h'z), normalised, and the log of what it was divided by."""
    P, eye = z.cov, torch.eye(J.shape[-1], dtype=J.dtype)
    grown = eye + J @ P
    cov = torch.linalg.solve(grown, P, left=False)  # P (I + J P)^-1
    cov = 0.5 * (cov + cov.mT)
    slope = h - _times(J, z.mean)
    mean = z.mean + _times(cov, slope)
    log_Z = (-0.5 * torch.logdet(grown) + (slope * _times(cov, slope)).sum(-1) / 2
             - (z.mean * _times(J, z.mean)).sum(-1) / 2 + (h * z.mean).sum(-1))
    return Gaussian(mean, cov), log_Z


def measured(z: Gaussian, m: Float[Tensor, "*b k"], v: Float[Tensor, "*b k"]
             ) -> tuple[Gaussian, Float[Tensor, " *b"]]:
    """After one potential, and the log density of what it says."""
    rest = (0, z.mean.shape[-1] - m.shape[-1])
    J, h = torch.diag_embed(nn.functional.pad(1 / v, rest)), nn.functional.pad(m / v, rest)
    after, log_Z = absorb(z, J, h)
    return after, log_Z - 0.5 * (LOG_2PI + v.log() + m.square() / v).sum(-1)


def predicted(z: Gaussian, u: Float[Tensor, "*b m"], dynamics: Dynamics) -> Gaussian:
    """One step later, F as its mean is."""
    A, rest = dynamics.F[..., : z.mean.shape[-1]], dynamics.F[..., z.mean.shape[-1] :]
    mean = _times(A, z.mean) + _times(rest, _with_one(u))
    return Gaussian(mean, A @ z.cov @ A.mT + dynamics.Sigma)


def smooth(start: Gaussian, dynamics: Dynamics, u: Float[Tensor, "*b T m"], psi: Potentials) -> Smoothed:
    """q(z) given everything that was seen before and after (Rauch, Tung & Striebel 1965). `start` is over z_0 (d,)."""
    d, T = start.mean.shape[-1], u.shape[-2]
    batch = psi.m.shape[:-2]
    z = Gaussian(start.mean.expand(*batch, d), start.cov.expand(*batch, d, d))
    each = [Dynamics(*(part[t] for part in dynamics)) if dynamics.F.ndim == 3 else dynamics for t in range(T)]
    # What each step lacks to E[log p]: the mean of log |Sigma^-1| is below its value at the mean of Sigma^-1.
    log_Z = sum((0.5 * (of.log_det + torch.logdet(of.Sigma)) for of in each), psi.m.new_zeros(batch))
    filtered = []
    for t in range(T + 1):
        z, more = measured(z, psi.m[..., t, :], psi.v[..., t, :])
        log_Z = log_Z + more
        if t < T:
            w, V = _with_one(u[..., t, :]), each[t].doubt
            J, cross, of_u = V[:d, :d], V[:d, d:], V[d:, d:]
            z, more = absorb(z, J.expand_as(z.cov), -_times(cross, w))
            log_Z = log_Z + more - 0.5 * (w * _times(of_u, w)).sum(-1)
        filtered.append(z)
        if t < T:
            z = predicted(z, u[..., t, :], each[t])
    means, covs, crosses = [z.mean], [z.cov], []
    for t in range(T - 1, -1, -1):
        before, after = filtered[t], predicted(filtered[t], u[..., t, :], each[t])
        gain = torch.linalg.solve(after.cov, each[t].F[:, :d] @ before.cov).mT
        crosses.append(covs[-1] @ gain.mT)
        mean = before.mean + _times(gain, means[-1] - after.mean)
        cov = before.cov + gain @ (covs[-1] - after.cov) @ gain.mT
        means.append(mean)
        covs.append(0.5 * (cov + cov.mT))
    return Smoothed(Gaussian(torch.stack(means[::-1], -2), torch.stack(covs[::-1], -3)),
                    torch.stack(crosses[::-1], -3) if crosses else psi.m.new_zeros(*batch, 0, d, d), log_Z)


def divergence(q: Smoothed, psi: Potentials) -> Float[Tensor, " *b"]:
    """KL(q(z) || p(z)) [nats], p by the expected log density where the dynamics are in doubt: what a variational bound
    subtracts from E_q[log p(o | z)]."""
    return psi.expected(q.z) - q.log_Z


def moments(q: Smoothed, u: Float[Tensor, "*b T m"]) -> tuple[Tensor, Tensor, Tensor]:
    """E[z' z''], E[z' w'] and E[w w'] of every step (*b, T, ...), z' the next state and w = [z; u; 1]."""
    w = torch.cat([q.z.mean[..., :-1, :], _with_one(u)], -1)
    y, d = q.z.mean[..., 1:, :], q.z.mean.shape[-1]
    p = w.shape[-1]
    ww = w.unsqueeze(-1) * w.unsqueeze(-2) + nn.functional.pad(q.z.cov[..., :-1, :, :], (0, p - d, 0, p - d))
    yw = y.unsqueeze(-1) * w.unsqueeze(-2) + nn.functional.pad(q.cross, (0, p - d))
    return y.unsqueeze(-1) * y.unsqueeze(-2) + q.z.cov[..., 1:, :, :], yw, ww


def _with_one(u: Tensor) -> Tensor:
    return torch.cat([u, torch.ones_like(u[..., :1])], -1)


def _times(A: Tensor, x: Tensor) -> Tensor:
    return (A @ x.unsqueeze(-1)).squeeze(-1)
