"""Strength of the prior by evidence: the closed form, what it finds where the strength is known, what it changes."""
from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from regressions import linear

from mbrl_ros.config import ConfigError
from mbrl_ros.models.evidence import LEAST, MOST, Strength, log_evidence
from mbrl_ros.models.prior import Config, LinearizedPrior, fit, prior_of
from mbrl_ros.types import Moments

torch.set_num_threads(1)
DW, DY, N = 6, 4, 40
D = np.array([1.0, 4.0, 0.25, 9.0, 1.0, 1e-4])
PSI, NU = 0.1 * np.eye(DY), 10.0


def moments(w, r):
    """Of rows [w; r] that have mean zero."""
    z = np.hstack([w, r])
    return Moments(np.zeros(z.shape[1]), z.T @ z / len(z), float(len(z)))


def drawn(rng, n0):
    """Moments of N rows of a system drawn from the prior, its noise included; n0 infinite: the global model is true."""
    w = rng.standard_normal((N, DW)) * np.sqrt(D)
    L = np.linalg.cholesky(scipy.stats.invwishart.rvs(NU, PSI, random_state=rng))
    dF = L @ rng.standard_normal((DY, DW)) / np.sqrt(n0 * D)
    return moments(w, w @ dF.T + rng.standard_normal((N, DY)) @ L.T)


def test_closed_form_is_the_integral_over_jacobian_and_noise():
    """In one dimension, by quadrature. The constants do not depend on n0, so differences must agree."""
    rng, D1, Psi, nu = np.random.default_rng(0), 0.7, 0.4, 5.0
    w = 0.9 * rng.standard_normal(8)
    r = 0.6 * w + 0.25 * rng.standard_normal(8)
    dF, log_v = np.linspace(-3, 3, 2001), np.linspace(-7, 4, 1001)[:, None]  # negligible outside, smooth inside
    v = np.exp(log_v)
    likelihood = np.exp(-0.5 * np.square(r[:, None] - np.outer(w, dF)).sum(0) / v) * v ** (-len(r) / 2)
    likelihood *= scipy.stats.invgamma.pdf(v, nu / 2, scale=Psi / 2) * v
    n0 = np.array([3.0, 20.0, 150.0])
    expected = np.log([(likelihood * scipy.stats.norm.pdf(dF, 0, np.sqrt(v / (one * D1)))).sum() for one in n0])
    found = log_evidence(n0, moments(w[:, None], r[:, None]), np.array([D1]), np.array([[Psi]]), nu)
    assert np.allclose(np.diff(found), np.diff(expected), atol=1e-6)
    assert np.abs(np.diff(expected)).min() > 0.3


@pytest.mark.parametrize("n0", [5.0, 30.0, 200.0])
def test_systems_drawn_from_a_prior_are_likeliest_at_its_strength(n0):
    rng, factors = np.random.default_rng(1), np.array([0.4, 0.7, 1.0, 1.4, 2.5])
    total = sum(log_evidence(factors * n0, drawn(rng, n0), D, PSI, NU) for _ in range(600))
    assert factors[total.argmax()] == 1.0


def followed(n0, recent):
    strength = Strength(n0)
    return [strength.update(one, D, PSI, NU) for one in recent][-1]


def test_strength_rises_where_the_model_is_true_and_falls_where_it_is_not():
    rng = np.random.default_rng(2)
    true, little, much = (followed(10.0, [drawn(rng, n0) for _ in range(300)]) for n0 in (np.inf, 20.0, 0.2))
    assert LEAST < much < 5.0 and 10.0 < little < true < MOST


def test_units_do_not_matter():
    rng, n0 = np.random.default_rng(3), np.array([3.0, 30.0, 300.0])
    recent, units = drawn(rng, 10.0), 10.0 ** rng.uniform(-3, 3, DW + DY)
    scaled = Moments(recent.mean, recent.cov * np.outer(units, units), recent.count)
    s_r = units[DW:]
    a = log_evidence(n0, recent, D, PSI, NU)
    b = log_evidence(n0, scaled, D * np.square(units[:DW]), PSI * np.outer(s_r, s_r), NU)
    assert np.allclose(np.diff(a), np.diff(b), atol=1e-6)


def test_without_data_and_without_excitation_strength_stays():
    still = Moments(np.zeros(DW + DY), np.diag([0.0] * DW + [0.01] * DY), float(N))
    empty = Moments(np.zeros(DW + DY), np.zeros((DW + DY,) * 2), 0.0)
    assert followed(10.0, [empty] * 100) == pytest.approx(10.0)
    # Nothing moved, so all n0 are as likely: what is left is the hyperprior, cut at LEAST and MOST.
    assert 10.0 <= followed(10.0, [still] * 1000) < 12.0


def test_only_the_jacobian_changes_its_strength():
    data = linear(300, 5, 3, seed=4)[0]
    model = fit("gaussian", data, {}, 0)
    fixed, w = LinearizedPrior(model, Config()), np.zeros(data.w.shape[1])
    free = prior_of(model, {"prior": {"strength": "evidence"}})
    dw, dy = len(w), data.y.shape[1]
    recent = Moments(np.zeros(dw + dy), np.diag(np.r_[model.w_scale.numpy() ** 2, np.full(dy, 1e-9)]), float(N))
    for _ in range(200):
        local = free.at(w, recent).residual
    reference = fixed.at(w, recent).residual
    assert np.array_equal(local.Phi[dw:, dw:], reference.Phi[dw:, dw:]) and local.n0 == reference.n0
    ratio = np.diag(local.Phi)[:dw] / np.diag(reference.Phi)[:dw]
    assert np.allclose(ratio, ratio[0]) and ratio[0] > 3.0  # no residual at all: the model is true


def test_unknown_strength_is_refused():
    data = linear(300, 5, 3, seed=4)[0]
    with pytest.raises(ConfigError, match="strength"):
        prior_of(fit("gaussian", data, {}, 0), {"prior": {"strength": "guess"}})
