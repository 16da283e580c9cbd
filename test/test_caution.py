"""Planning with an F that is known less well away from the data: cautious control."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checks import assert_close
from systems import cautious, lq_problem, random_cost, random_dynamics, random_leverage, residual_problem

from mbrl_ros.planners.ilqr import Ilqr, Lqr
from mbrl_ros.planners.lqr import backward, expand, expected_cost, forward, spread_of
from mbrl_ros.planners.plan import begin
from mbrl_ros.planners.problem import Planner, Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.types import CONVERGED, Gaussian, LinearGaussianDynamics

ALGEBRA = 1e-9  # as in test_lqr.py


A, B, NOISE, OF_B, WEIGHT, EFFORT, X0 = 0.9, 0.5, 0.04, 0.02, 3.0, 0.1, 2.0


def scalar(caution: float) -> Problem:
    """x' = A x + b u + e, b ~ N(B, OF_B), e ~ N(0, NOISE), for one step that costs 1/2 EFFORT u^2 + 1/2 WEIGHT x'^2."""
    at = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
    leverage = torch.zeros(3, 3, dtype=torch.float64)
    leverage[2, 2] = caution * OF_B / NOISE
    model = LinearGaussianDynamics(at([[A, B]]), at([0.0]), at([[NOISE]]), leverage)
    cost = ResidualCost(torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64),
                        at([[0.0, EFFORT], [WEIGHT, 0.0]]), at([np.inf, np.inf]), torch.zeros(2, dtype=torch.bool))
    bound = torch.full((1, 1), torch.inf, dtype=torch.float64)
    return Problem(at([X0]), model, cost, -bound, bound)


@pytest.mark.parametrize("planner", [Lqr(Lqr.Config(horizon=1)), Ilqr(Ilqr.Config(horizon=1))])
def test_one_step_of_an_unknown_gain_in_closed_form(planner: Planner) -> None:
    """u = -b a x w / (r + w (b^2 + var b)); without caution the gain is that of certainty equivalence."""
    for caution in (0.0, 0.1, 1.0, 10.0):
        expected = -B * A * X0 * WEIGHT / (EFFORT + WEIGHT * (B**2 + caution * OF_B))
        plan = planner.plan(scalar(caution), None)
        assert plan.status == CONVERGED
        assert float(plan.efforts) == pytest.approx(expected, rel=1e-9)


def test_one_step_costs_what_it_costs_on_average_over_the_dynamics() -> None:
    """Systems drawn from the posterior: at caution 1 the value is their mean cost, and no other effort costs less."""
    problem, rng, draws = scalar(1.0), np.random.default_rng(0), 400_000
    b, e = B + np.sqrt(OF_B) * rng.standard_normal(draws), np.sqrt(NOISE) * rng.standard_normal(draws)
    costs = lambda u: 0.5 * EFFORT * u**2 + 0.5 * WEIGHT * (A * X0 + b * u + e) ** 2  # noqa: E731
    u = float(Lqr(Lqr.Config(horizon=1)).plan(problem, None).efforts)
    quadratic = problem.cost.quadratize(problem.x0.expand(2, 1), torch.zeros(1, 1, dtype=torch.float64))
    step = backward(problem.model.F, problem.model.f, quadratic, spread=spread_of(problem.model))
    start = Gaussian(problem.x0, torch.zeros(1, 1, dtype=torch.float64))
    value = float(expected_cost(step, start, problem.model.Sigma.expand(1, 1, 1)))
    assert value == pytest.approx(costs(u).mean(), abs=4 * costs(u).std() / np.sqrt(draws))
    for other in (u - 0.3, u + 0.3, float(Lqr(Lqr.Config(horizon=1)).plan(scalar(0.0), None).efforts)):
        difference = costs(other) - costs(u)
        assert difference.mean() > 4 * difference.std() / np.sqrt(draws)


def test_many_steps_cost_what_the_moments_say() -> None:
    """Noise whose covariance grows with h'Lh at every step: E[hh'] forward in time against the value backward."""
    n, m, T = 4, 2, 8
    dynamics, cost = random_dynamics(n, m, seed=31), random_cost(n, m, T, seed=32)
    L = random_leverage(n, m, seed=33)
    step = backward(dynamics.F, dynamics.f, cost, spread=spread_of(replace(dynamics, leverage=L)))
    start = Gaussian(torch.ones(n, dtype=torch.float64), 0.5 * torch.eye(n, dtype=torch.float64))
    one = torch.eye(1, 1 + n, dtype=torch.float64)
    first = torch.cat([torch.ones(1, dtype=torch.float64), start.mean])
    moment = torch.outer(first, first)  # of [1; x]
    moment[1:, 1:] += start.cov
    total = torch.zeros((), dtype=torch.float64)
    for t in range(T + 1):
        K = torch.cat([step.k[t].unsqueeze(-1), step.K[t]], -1) if t < T else torch.zeros(m, 1 + n).double()
        H = torch.cat([torch.eye(1 + n, dtype=torch.float64), K])
        M = H @ moment @ H.T  # of [1; x; u]
        C = torch.cat([torch.cat([2 * cost.const[t].reshape(1, 1), cost.c[t].unsqueeze(0)], -1),
                       torch.cat([cost.c[t].unsqueeze(-1), cost.C[t]], -1)])
        total += 0.5 * (C * M).sum()
        G = torch.cat([one, torch.cat([dynamics.f.unsqueeze(-1), dynamics.A], -1)])
        G = torch.cat([G, torch.cat([torch.zeros(1, m).double(), dynamics.B])], -1)
        moment = G @ M @ G.T
        moment[1:, 1:] += (1 + (L * M).sum()) * dynamics.Sigma
    assert_close(expected_cost(step, start, dynamics.Sigma.expand(T, n, n)), total, rtol=ALGEBRA, atol=ALGEBRA)


def test_a_step_saves_what_it_promises() -> None:
    """Cost and risk together, at every step length, about a trajectory that is not optimal."""
    problem = cautious(lq_problem(5, 2, 11, seed=34), seed=35)
    u = torch.randn(11, 2, generator=torch.Generator().manual_seed(36), dtype=torch.float64)
    x, cost = begin(problem, u)
    F, quadratic, spread = expand(problem.model, problem.cost, x, u)
    step = backward(F, None, quadratic, spread=spread)
    lengths = torch.tensor([0.0, 0.1, 0.5, 1.0, 1.7], dtype=torch.float64)
    xs, us = forward(problem, x, u, step, lengths)
    risk = spread_of(problem.model)
    rise = problem.cost.evaluate(xs, us) - cost + risk.cost(step.price, xs, us) - risk.cost(step.price, x, u)
    assert_close(rise, lengths * step.linear + 0.5 * lengths**2 * step.quadratic, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("planner, problem", [
    (Lqr(Lqr.Config(horizon=12, solver="torch")), lq_problem(5, 2, 12, seed=37, limit=0.5)),
    (Ilqr(Ilqr.Config(horizon=12, iterations=4, solver="torch")), lq_problem(5, 2, 12, seed=37, limit=0.5)),
    (Ilqr(Ilqr.Config(horizon=12, iterations=4)), residual_problem(5, 2, 12, 37, limit=0.5))],
    ids=["lqr", "ilqr", "compiled ilqr"])
def test_no_leverage_is_no_caution_bit_by_bit(planner: Planner, problem: Problem) -> None:
    zero = planner.plan(cautious(problem, 38, factor=0.0), None)
    plain = planner.plan(problem, None)
    assert (zero.cost, zero.status, zero.iterations) == (plain.cost, plain.status, plain.iterations)
    for a, b in ((zero.efforts, plain.efforts), (zero.states, plain.states), (zero.policy.K, plain.policy.K)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("planner", [Lqr(Lqr.Config(horizon=12)), Ilqr(Ilqr.Config(horizon=12, iterations=4))])
def test_more_caution_is_a_smaller_step_where_little_is_known(planner: Planner) -> None:
    """The leverage is in one direction of the first effort's space only; that component shrinks, and to nothing."""
    problem = lq_problem(5, 2, 12, seed=39)
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    sizes = []
    for caution in (0.0, 0.1, 1.0, 10.0, 1e6):
        L = torch.zeros(8, 8, dtype=torch.float64)
        L[6:, 6:] = caution * torch.outer(direction, direction)
        plan = planner.plan(replace(problem, model=replace(problem.model, leverage=L)), None)
        assert plan.status == CONVERGED
        sizes.append(float((plan.efforts @ direction).norm()))
    assert all(b < a for a, b in zip(sizes, sizes[1:], strict=False)) and sizes[-1] < 1e-3 * sizes[0]


def test_batched_equals_alone() -> None:
    """Three start states, one model: each as cautious as by itself."""
    problem = cautious(lq_problem(4, 2, 7, seed=40, limit=0.4, batch=(3,)), seed=41)
    u, planner = torch.zeros(3, 7, 2, dtype=torch.float64), Ilqr(Ilqr.Config(horizon=7, iterations=6))
    batched = planner.solve(problem, u)
    for i in range(3):
        alone = planner.solve(replace(problem, x0=problem.x0[i]), u[i])
        assert_close(batched.u[i], alone.u, rtol=ALGEBRA, atol=ALGEBRA)
        assert batched.status[i] == alone.status
