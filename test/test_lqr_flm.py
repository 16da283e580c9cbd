"""Improvement that stays close, dynamics of single steps from few trials, and the trainer that is made of them."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import make, settings
from systems import random_cost, random_dynamics

from mbrl_ros.config import ConfigError
from mbrl_ros.models.trials import fit_steps
from mbrl_ros.planners.lqr import backward
from mbrl_ros.planners.stay_close import expected, improve
from mbrl_ros.task import NORMS
from mbrl_ros.trainers.lqr_flm import LqrFlm, Settings, executed, next_bound
from mbrl_ros.types import Gaussian, LinearGaussianPolicy, Trial

N, M, T = 4, 2, 15


def problem(seed=0):
    dynamics, cost = random_dynamics(N, M, seed, (T,)), random_cost(N, M, T, seed)
    rng = torch.Generator().manual_seed(seed)
    near = LinearGaussianPolicy(torch.randn(T, N, generator=rng).double(), torch.randn(T, M, generator=rng).double(),
                                0.1 * torch.randn(T, M, N, generator=rng).double(), torch.zeros(T, M).double(),
                                0.5 * torch.eye(M).double().expand(T, M, M))
    return dynamics, cost, near, Gaussian(torch.ones(N).double(), 0.1 * torch.eye(N).double())


def sampled(dynamics, policy, start, count, seed=0):
    """States (count, T + 1, n) and efforts of rollouts, drawn step by step."""
    rng = np.random.default_rng(seed)
    x = [rng.multivariate_normal(start.mean.numpy(), start.cov.numpy(), count)]
    u = []
    for t in range(T):
        mean = policy.u_hat[t].numpy() + policy.k[t].numpy() + (x[-1] - policy.x_hat[t].numpy()) @ policy.K[t].numpy().T
        u.append(mean + rng.multivariate_normal(np.zeros(M), policy.Sigma[t].numpy(), count))
        z = np.hstack([x[-1], u[-1]])
        x.append(z @ dynamics.F[t].numpy().T + dynamics.f[t].numpy()
                 + rng.multivariate_normal(np.zeros(N), dynamics.Sigma[t].numpy(), count))
    return np.stack(x, 1), np.stack(u, 1)


def log_density(policy, x, u):
    """log p(u | x) of a trajectory (count,)."""
    mean = policy.u_hat + policy.k + torch.einsum("tmn,ctn->ctm", policy.K, x[:, :-1] - policy.x_hat)
    return torch.distributions.MultivariateNormal(mean, policy.Sigma).log_prob(u).sum(-1)


@pytest.mark.parametrize("bound", [0.5, 5.0, 50.0])
def test_the_divergence_of_samples_is_the_bound(bound):
    dynamics, cost, near, start = problem()
    found = improve(dynamics, cost, near, start, bound)
    x, u = map(torch.as_tensor, sampled(dynamics, found.policy, start, 20_000))
    measured = float((log_density(found.policy, x, u) - log_density(near, x, u)).mean())
    assert measured == pytest.approx(bound, rel=0.15)
    assert measured == pytest.approx(found.kl, rel=0.05)


def test_the_expected_cost_is_that_of_samples_and_falls_with_the_bound():
    dynamics, cost, near, start = problem(1)
    found = [improve(dynamics, cost, near, start, bound) for bound in (0.1, 1.0, 10.0, 100.0)]
    costs = [expected(dynamics, cost, near, start), *(each.cost for each in found)]
    assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0]
    x, u = map(torch.as_tensor, sampled(dynamics, found[1].policy, start, 20_000))
    z = torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)
    each = 0.5 * torch.einsum("ctp,tpq,ctq->c", z, cost.C, z) + torch.einsum("tp,ctp->c", cost.c, z) + cost.const.sum()
    assert float(each.mean()) == pytest.approx(found[1].cost, abs=4 * float(each.std()) / len(each) ** 0.5)


def test_without_a_bound_it_is_the_optimal_feedback_and_with_none_left_the_policy_before():
    dynamics, cost, near, start = problem(2)
    free, optimal = improve(dynamics, cost, near, start, 1e12), backward(dynamics.F, dynamics.f, cost)
    torch.testing.assert_close(free.policy.K, optimal.K, rtol=1e-5, atol=1e-6)
    at_zero = free.policy.u_hat + free.policy.k - (free.policy.K @ free.policy.x_hat.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(at_zero, optimal.k, rtol=1e-5, atol=1e-6)
    kept = improve(dynamics, cost, near, start, 1e-9).policy
    torch.testing.assert_close(kept.K, near.K, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(kept.Sigma, near.Sigma, rtol=1e-3, atol=1e-3)


def test_noise_is_left_where_the_cost_to_go_does_not_care():
    """Sigma = (Q_uu / eta + Sigma_bar^-1)^-1: never wider than what it stays close to, and least where it is dear."""
    dynamics, cost, near, start = problem(3)
    Sigma = improve(dynamics, cost, near, start, 5.0).policy.Sigma
    assert bool((torch.linalg.eigvalsh(near.Sigma - Sigma) > -1e-9).all())


def test_many_trials_give_the_dynamics_of_every_step_and_few_those_of_the_mixture():
    dynamics, _, policy, start = problem(4)
    x, u = sampled(dynamics, policy, start, 4000)
    z = np.concatenate([x[:, :-1], u, x[:, 1:] - x[:, :-1]], -1)
    for t, (F, f, Sigma) in enumerate(fit_steps(z, N + M, None, 1.0, 1.0)):
        true = dynamics.F[t].numpy() - np.eye(N, N + M)
        np.testing.assert_allclose(F, true, atol=0.05 * np.abs(true).max())
        np.testing.assert_allclose(f, dynamics.f[t].numpy(), atol=0.2)
        np.testing.assert_allclose(Sigma, dynamics.Sigma[t].numpy(), atol=0.1 * float(dynamics.Sigma.abs().max()))


class Push:
    """A robot in name: trials of it that cost what they are asked to."""

    def __init__(self, steps, seed):
        self.robot = make("planar2")
        self.trainer = LqrFlm(Settings(), self.robot, settings("planar2", trainer={"seconds": steps * 0.02, "target":
                              [0.3, 0.0, 1.0]}), seed)
        self.rng, self.steps = np.random.default_rng(seed), steps

    def trials(self, away, count=5):
        """Joints that start at home and go `away` from it at an even speed, with noise."""
        r, T = self.robot, self.steps
        for _ in range(count):
            u = self.rng.standard_normal((T, r.m))
            qd = away / (T * r.period) + 0.02 * np.cumsum(u, 0)
            q = r.home + np.vstack([np.zeros(r.m), np.cumsum(qd * r.period, 0)])
            qd = np.vstack([np.zeros(r.m), qd])
            x = np.hstack([q, qd, [r.kinematics(a, b)[0] for a, b in zip(q, qd, strict=True)],
                           np.vstack([np.zeros(r.m), u])])
            yield Trial(x, u, np.arange(T + 1), r.state_names, r.joints)


def test_it_goes_back_to_the_best_policy_where_trials_got_dearer():
    push = Push(20, 0)
    trainer = push.trainer
    trainer.update([*push.trials(-1.0)])  # towards the target
    first, bound = trainer.best, trainer.kl
    row = trainer.update([*push.trials(0.0)])
    assert row["restored"] == 1.0 and trainer.best is first and row["bound"] == pytest.approx(0.25 * bound)
    assert row["kl"] <= row["bound"]
    again = trainer.update([*push.trials(-1.0)])
    assert again["restored"] == 0.0


def test_the_divergence_at_the_states_of_trials_is_reported():
    push = Push(20, 1)
    row = push.trainer.update([*push.trials(0.0)])
    assert 0.9 * row["bound"] <= row["kl"] <= row["bound"] and row["kl_trials"] > 0
    assert row["promised"] > 0


def test_trials_that_are_too_short_are_kept_from_the_steps_they_lack():
    push = Push(20, 2)
    one, *others = push.trials(0.0)
    short = replace(one, x=one.x[:8], u=one.u[:7], time=one.time[:8])
    assert np.isfinite(push.trainer.update([short, *others])["kl"])
    with pytest.raises(ConfigError, match="no trial lasted 20 periods, the longest 7"):
        Push(20, 2).trainer.update([short])


def test_the_three_executions():
    push = Push(20, 3)
    push.trainer.update([*push.trials(0.0)])
    policy = push.trainer.now
    for how, gains, noise in (("open_loop", False, False), ("feedback", True, False), ("noise", True, True)):
        played = executed(policy, how)
        assert bool(played.K.any()) is gains and bool(played.Sigma.any()) is noise
        np.testing.assert_array_equal(played.u_hat, policy.u_hat)


@pytest.mark.parametrize(("promised", "came", "factor"), [(10.0, 9.0, 5.0), (10.0, 5.0, 1.0), (10.0, -10.0, 0.25),
                                                          (1.0, 2.0, 5.0)])
def test_the_bound_follows_from_how_much_of_the_promise_came_about(promised, came, factor):
    config = Settings(kl=1.0, kl_least=0.01, kl_most=100.0)
    assert next_bound(1.0, promised, came, config) == pytest.approx(factor)


def test_the_logarithm_is_steep_to_the_last_and_its_parabola_lies_above_it():
    norm = NORMS["log"](width=0.003, square=400.0)
    r = torch.linspace(-0.3, 0.3, 601, dtype=torch.float64, requires_grad=True)
    slope, = torch.autograd.grad(norm.value(r).sum(), r)
    torch.testing.assert_close(norm.slope(r), slope)
    r = r.detach()
    away = r - r[:, None]  # of every one from every other
    parabola = norm.value(r)[:, None] + norm.slope(r)[:, None] * away + 0.5 * norm.curvature(r)[:, None] * away**2
    assert bool((norm.value(r) <= parabola + 1e-9).all()) and bool((norm.curvature(r) >= 400.0).all())
    assert float(norm.value(torch.zeros(1))) == 0.0
    near, far = torch.tensor([1e-3, 0.1]).double()
    assert float(norm.value(near)) / float(near) > float(norm.value(far)) / float(far)
