"""Smoothing against one dense Gaussian, and belief about dynamics against its limits, quadrature and derivatives."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import invgamma, norm

from mbrl_ros.models.lds import (
    Dynamics,
    MatrixNormalInverseWishart,
    Potentials,
    _log_norm,
    divergence,
    measured,
    moments,
    predicted,
    smooth,
)
from mbrl_ros.types import Gaussian

D, M, T, P = 2, 1, 4, 4  # dim z, dim u, steps, dim [z; u; 1]


def definite(rng, n, size=1.0):
    root = rng.standard_normal((n, n + 2))
    return torch.as_tensor(size * root @ root.T / n)


def some(seed, doubt=0.0, per_step=False, k=D):
    """A system, efforts and potentials of k coordinates."""
    rng = np.random.default_rng(seed)
    one = lambda: (torch.as_tensor(0.5 * rng.standard_normal((D, P))), definite(rng, D, 0.3),  # noqa: E731
                   doubt * definite(rng, P), torch.as_tensor(rng.standard_normal()))
    parts = zip(*(one() for _ in range(T)), strict=True) if per_step else ((part,) for part in one())
    dynamics = Dynamics(*(torch.stack(part) if per_step else part[0] for part in parts))
    start = Gaussian(torch.as_tensor(rng.standard_normal(D)), definite(rng, D))
    u, m = (torch.as_tensor(rng.standard_normal(shape)) for shape in ((T, M), (T + 1, k)))
    return start, dynamics, u, Potentials(m, torch.as_tensor(rng.uniform(0.2, 2.0, (T + 1, k))))


def dense(start, dynamics, u, psi):
    """Precision, linear part and constant of log p(z) + log psi over all of z at once."""
    n = (T + 1) * D
    J, h, c = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64), 0.0

    def add(rows, G, g, weight, log_det):
        """-1/2 (G z + g)' weight (G z + g) + 1/2 log_det - k/2 log 2 pi, over z at rows."""
        nonlocal c
        J[np.ix_(rows, rows)] += G.T @ weight @ G
        h[rows] -= G.T @ weight @ g
        c += -0.5 * g @ weight @ g + 0.5 * log_det - 0.5 * len(weight) * np.log(2 * np.pi)

    at = lambda t: list(range(t * D, (t + 1) * D))  # noqa: E731
    eye = torch.eye(D, dtype=torch.float64)
    add(at(0), eye, -start.mean, torch.linalg.inv(start.cov), -torch.logdet(start.cov))
    for t in range(T + 1):
        add(at(t), eye[: psi.m.shape[1]], -psi.m[t], torch.diag(1 / psi.v[t]), -psi.v[t].log().sum())
    for t in range(T):
        F, Sigma, doubt, log_det = (part[t] if dynamics.F.ndim == 3 else part for part in dynamics)
        known = torch.cat([u[t], torch.ones(1, dtype=torch.float64)])
        add(at(t) + at(t + 1), torch.cat([-F[:, :D], eye], 1), -F[:, D:] @ known, torch.linalg.inv(Sigma), log_det)
        rest = torch.cat([torch.zeros(D, dtype=torch.float64), known])
        add(at(t), torch.cat([eye, torch.zeros(P - D, D, dtype=torch.float64)]), rest, doubt, 0.0)
        c += 0.5 * P * np.log(2 * np.pi)  # the doubt is no density
    return J, h, c


@pytest.mark.parametrize("k", [1, D])
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("doubt", [0.0, 0.3])
def test_smoothing_is_one_dense_gaussian(doubt, per_step, k):
    case = some(3, doubt, per_step, k)
    q = smooth(*case)
    J, h, c = dense(*case)
    mean, cov = torch.linalg.solve(J, h), torch.linalg.inv(J)
    assert torch.allclose(q.z.mean.reshape(-1), mean, atol=1e-9)
    for t in range(T + 1):
        here = slice(t * D, (t + 1) * D)
        assert torch.allclose(q.z.cov[t], cov[here, here], atol=1e-9)
        if t < T:
            assert torch.allclose(q.cross[t], cov[(t + 1) * D : (t + 2) * D, here], atol=1e-9)
    log_Z = c + 0.5 * h @ mean - 0.5 * torch.logdet(J) + 0.5 * len(h) * np.log(2 * np.pi)
    assert float(q.log_Z) == pytest.approx(float(log_Z), abs=1e-9)


def test_where_pictures_are_measurements_the_bound_is_the_evidence():
    """p(o | z) = psi: E_q[log p(o | z)] - KL(q || p) is log p(o), which the filter gives as well."""
    start, dynamics, u, psi = some(5)
    dynamics = Dynamics.known(dynamics.F, dynamics.Sigma)
    q = smooth(start, dynamics, u, psi)
    z, evidence = start, 0.0
    for t in range(T + 1):
        z, more = measured(z, psi.m[t], psi.v[t])
        evidence += float(more)
        z = predicted(z, u[t], dynamics) if t < T else z
    assert float(psi.expected(q.z) - divergence(q, psi)) == pytest.approx(evidence, abs=1e-9)
    assert torch.allclose(z.mean, q.z.mean[-1]) and torch.allclose(z.cov, q.z.cov[-1])
    assert float(divergence(q, psi)) > 0


def test_derivatives_and_batches():
    start, dynamics, u, psi = some(7, 0.2)
    m, v = psi.m.clone().requires_grad_(), psi.v.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, v: smooth(start, dynamics, u, Potentials(m, v)).log_Z, (m, v))
    two = smooth(start, dynamics, torch.stack([u, -u]), Potentials(*(torch.stack([a, a]) for a in psi)))
    alone = smooth(start, dynamics, -u, psi)
    assert torch.allclose(two.z.mean[1], alone.z.mean) and torch.allclose(two.log_Z[1], alone.log_Z)


def test_moments_are_those_of_draws():
    start, dynamics, u, psi = some(11)
    q = smooth(start, dynamics, u, psi)
    pair = torch.cat([torch.cat([q.z.cov[0], q.cross[0].mT], 1), torch.cat([q.cross[0], q.z.cov[1]], 1)])
    root, generator = torch.linalg.cholesky(pair), torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, 2 * D, generator=generator, dtype=torch.float64)
    both = q.z.mean[:2].reshape(-1) + noise @ root.T
    w = torch.cat([both[:, :D], u[0].expand(len(both), M), torch.ones(len(both), 1)], 1)
    for found, drawn in zip(moments(q, u), (both[:, D:].T @ both[:, D:], both[:, D:].T @ w, w.T @ w), strict=True):
        assert torch.allclose(found[0], drawn / len(both), atol=0.02)


def belief(seed, nu=6.0):
    rng = np.random.default_rng(seed)
    return MatrixNormalInverseWishart(torch.as_tensor(rng.standard_normal((D, P))), definite(rng, P), definite(rng, D),
                                      torch.tensor(nu, dtype=torch.float64))


def sums(y, w):
    return y.T @ y, y.T @ w, w.T @ w, len(y)


def test_belief_is_the_prior_without_data_and_least_squares_with_many():
    prior, rng = belief(0), np.random.default_rng(1)
    w = torch.as_tensor(rng.standard_normal((20_000, P)))
    F, root = torch.as_tensor(rng.standard_normal((D, P))), torch.tensor([[0.3, 0.0], [0.1, 0.2]], dtype=torch.float64)
    y = w @ F.T + torch.as_tensor(rng.standard_normal((len(w), D))) @ root.T
    none = prior.posterior(*sums(y[:0], w[:0]))
    assert all(torch.allclose(a, b) for a, b in zip(vars(none).values(), vars(prior).values(), strict=True))
    much = prior.posterior(*sums(y, w)).expected
    assert torch.allclose(much.F, torch.linalg.lstsq(w, y).solution.T, atol=1e-3)
    assert torch.allclose(much.Sigma, root @ root.T, atol=3e-3)
    assert float(much.log_det) == pytest.approx(-float(torch.logdet(much.Sigma)), abs=1e-3)
    halves = prior.posterior(*sums(y[:7], w[:7])).posterior(*sums(y[7:20], w[7:20]))
    whole = prior.posterior(*sums(y[:20], w[:20]))
    assert all(torch.allclose(a, b) for a, b in zip(vars(halves).values(), vars(whole).values(), strict=True))
    assert torch.allclose(whole.worth(5.0).expected.Sigma, whole.expected.Sigma)


def test_expected_numbers_are_those_that_exponential_families_have():
    """The derivative of the log normaliser by nu is half the mean of log |Sigma^-1|."""
    of = belief(2)
    nu = of.nu.clone().requires_grad_()
    _log_norm(of.Psi, nu).backward()
    assert float(nu.grad) == pytest.approx(0.5 * float(of.expected.log_det))


def test_divergence_of_beliefs_is_that_of_quadrature():
    a, b = (MatrixNormalInverseWishart(*(torch.tensor(x, dtype=torch.float64) for x in parts)) for parts in
            (([[0.5]], [[2.0]], [[3.0]], 5.0), ([[-0.3]], [[1.0]], [[1.5]], 4.0)))
    s2 = np.exp(np.linspace(-6, 6, 1201))[:, None]
    f = np.linspace(-12, 12, 4001)

    def log_density(of):
        M, L, Psi, nu = (float(x) for x in vars(of).values())
        return invgamma.logpdf(s2, nu / 2, scale=Psi / 2) + norm.logpdf(f, M, np.sqrt(s2 / L))

    p = np.exp(log_density(a))
    inner = np.trapezoid(p * (log_density(a) - log_density(b)), f, axis=1)
    assert float(a.kl(b)) == pytest.approx(np.trapezoid(inner, s2[:, 0]), rel=1e-3)
    assert float(a.kl(a)) == pytest.approx(0.0, abs=1e-12)
    assert float(belief(3).kl(belief(4))) > 0
