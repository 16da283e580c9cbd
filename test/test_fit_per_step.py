"""Linear dynamics of every period of trials, against linear systems that are known."""
from __future__ import annotations

import numpy as np
import pytest
from systems import random_dynamics

from mbrl_ros.models.linear import fit_per_step
from mbrl_ros.types import NormalInverseWishart, Trial

n, m, T = 4, 2, 5
TRUTH = random_dynamics(n, m, seed=3, steps=(T,))
F, f, SIGMA = (part.numpy() for part in (TRUTH.F, TRUTH.f, TRUTH.Sigma))


def trials(count, noise=1.0, seed=0, lengths=None):
    """From states that vary, with efforts that are no function of them."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        steps = T if lengths is None else lengths[i]
        x, u = [rng.standard_normal(n)], rng.standard_normal((steps, m))
        for t in range(steps):
            mean = F[t] @ np.concatenate([x[-1], u[t]]) + f[t]
            x.append(mean + noise * np.linalg.cholesky(SIGMA[t]) @ rng.standard_normal(n))
        found.append(Trial(np.array(x), u, np.arange(steps + 1), ("x",) * n, ("u",) * m))
    return found


def prior(strength, F0=None):
    """Around a system F0 without offset, `strength` transitions strong; its noise is that of the truth."""
    F0 = np.zeros((T, n, n + m)) if F0 is None else F0
    priors = []
    for t in range(T):
        G = np.vstack([np.eye(n + m), F0[t]])
        cov = G @ G.T
        cov[n + m :, n + m :] += SIGMA[t]
        priors.append(NormalInverseWishart(np.zeros(2 * n + m), strength * cov, strength, strength))
    return priors


def test_without_noise_every_step_is_found():
    fitted = fit_per_step(trials(12, noise=0.0))
    assert fitted.F.shape == (T, n, n + m) and fitted.f.shape == (T, n)
    assert np.allclose(fitted.F, F, atol=1e-6) and np.allclose(fitted.f, f, atol=1e-6)
    assert np.abs(fitted.Sigma).max() < 1e-6


def test_with_noise_errors_fall_with_the_number_of_trials():
    """As 1 / sqrt(N): four times the trials, half the error, for each of F, f and Sigma."""
    def error(count):
        fits = [fit_per_step(trials(count, seed=s)) for s in range(8)]
        return [np.sqrt(np.mean([np.square(getattr(fit, key) - truth).mean() for fit in fits]))
                for key, truth in (("F", F), ("f", f), ("Sigma", SIGMA))]

    for few, many in zip(error(200), error(800), strict=True):
        assert 0.35 < many / few < 0.7


def test_it_is_least_squares_step_by_step():
    data = trials(15)
    fitted = fit_per_step(data)
    for t in range(T):
        z = np.array([[1.0, *trial.x[t], *trial.u[t]] for trial in data])
        solution, *_ = np.linalg.lstsq(z, np.array([trial.x[t + 1] for trial in data]), rcond=None)
        assert np.allclose(np.column_stack([fitted.f[t], fitted.F[t]]), solution.T, atol=1e-6)


def test_a_strong_prior_is_what_is_found_and_a_weak_one_is_not():
    data = trials(40)
    strong, weak = fit_per_step(data, prior(1e9, F + 1.0)), fit_per_step(data, prior(1e-6, F + 1.0))
    assert np.allclose(strong.F, F + 1.0, atol=1e-4) and np.allclose(strong.Sigma, SIGMA, atol=1e-4)
    assert np.allclose(weak.F, fit_per_step(data).F, atol=1e-4)


def test_with_a_prior_few_trials_are_enough_and_better_than_the_prior_alone():
    wrong = F + 0.3 * np.random.default_rng(1).standard_normal(F.shape)
    fitted = fit_per_step(trials(5), prior(2.0, wrong))
    assert np.linalg.norm(fitted.F - F) < np.linalg.norm(wrong - F)


def test_coordinates_that_are_functions_of_others_do_no_harm():
    """As the tool is of the joints: predictions stay what they were, where there are states."""
    data = trials(30)
    doubled = [Trial(np.hstack([trial.x, 100 * trial.x[:, :2]]), trial.u, trial.time, ("x",) * (n + 2), ("u",) * m)
               for trial in data]
    plain, fitted = fit_per_step(data), fit_per_step(doubled)
    for a, b in zip(data, doubled, strict=True):
        expected = [plain.F[t] @ [*a.x[t], *a.u[t]] + plain.f[t] for t in range(T)]
        found = np.array([fitted.F[t] @ [*b.x[t], *b.u[t]] + fitted.f[t] for t in range(T)])
        assert np.allclose(found[:, :n], expected, atol=1e-5)
        assert np.allclose(found[:, n:], 100 * found[:, :2], atol=1e-4)


def test_the_shortest_trial_says_how_many_steps_there_are():
    assert fit_per_step(trials(9, lengths=[T] * 8 + [2])).F.shape == (2, n, n + m)


def test_too_few_trials_are_refused():
    with pytest.raises(ValueError, match="more than 7 trials where there is no prior, got 7"):
        fit_per_step(trials(7))
    for none in ([], trials(1, lengths=[0])):
        with pytest.raises(ValueError, match="at least one period"):
            fit_per_step(none, prior(1.0))
