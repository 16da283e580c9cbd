"""The LQ recursion against algebra that knows no recursion."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from checks import assert_close, kkt_solution
from systems import DEVICES, lq_problem, random_cost, random_dynamics

from mbrl_ros.models.rollout import rollout
from mbrl_ros.planners.ilqr import Lqr
from mbrl_ros.planners.lqr import backward, expand, expected_cost, forward, marginals
from mbrl_ros.planners.plan import begin
from mbrl_ros.types import CONVERGED, Gaussian, LinearGaussianDynamics, LinearGaussianPolicy, QuadraticCost

SIZES = [(1, 1, 1), (2, 1, 5), (3, 5, 8), (6, 2, 20), (10, 4, 15)]
ALGEBRA = 1e-9  # float64 algebra on well-conditioned problems leaves 1e-13; the rest is margin for the condition


def solve(dynamics: LinearGaussianDynamics, cost: QuadraticCost, x0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Closed loop of the LQ solution, step by step as the definition says: x (T + 1, n), u (T, m)."""
    step = backward(dynamics.F, dynamics.f, cost)
    assert bool(step.success.all())
    x, u = [x0], []
    for t in range(step.k.shape[-2]):
        u.append(step.K[t] @ x[-1] + step.k[t])
        F, f = (dynamics.F, dynamics.f) if dynamics.F.ndim == 2 else (dynamics.F[t], dynamics.f[t])
        x.append(F @ torch.cat([x[-1], u[-1]]) + f)
    return torch.stack(x), torch.stack(u)


@pytest.mark.parametrize(("n", "m", "T"), SIZES)
def test_equals_the_dense_kkt_solution(n: int, m: int, T: int) -> None:
    """Time-varying dynamics with offsets, cross terms in the cost; the multipliers are the gradients of the values."""
    dynamics, cost = random_dynamics(n, m, seed=n, steps=(T,)), random_cost(n, m, T, seed=m)
    x0 = torch.randn(n, generator=torch.Generator().manual_seed(T), dtype=torch.float64)
    x, u = solve(dynamics, cost, x0)
    x_kkt, u_kkt, multipliers = kkt_solution(dynamics.F, dynamics.f, cost, x0)
    assert_close(u, u_kkt, rtol=ALGEBRA, atol=ALGEBRA)
    assert_close(x, x_kkt, rtol=ALGEBRA, atol=ALGEBRA)
    step = backward(dynamics.F, dynamics.f, cost)
    gradients = (step.V[1:] @ x[1:].unsqueeze(-1)).squeeze(-1) + step.v[1:]
    assert_close(gradients, multipliers, rtol=ALGEBRA, atol=ALGEBRA)


def test_time_invariant_dynamics_are_the_same_at_every_step() -> None:
    """F (n, n + m), F (1, n, n + m) and F (T, n, n + m) say the same."""
    n, m, T = 4, 2, 9
    dynamics, cost = random_dynamics(n, m, seed=3), random_cost(n, m, T, seed=4)
    one = backward(dynamics.F, dynamics.f, cost)
    for steps in (1, T):
        other = backward(dynamics.F.expand(steps, n, n + m), dynamics.f.expand(steps, n), cost)
        assert_close(other.K, one.K, rtol=ALGEBRA, atol=ALGEBRA)
        assert_close(other.k, one.k, rtol=ALGEBRA, atol=ALGEBRA)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shared", [False, True])
def test_batched_equals_looped(shared: bool, device: str) -> None:
    """Two leading axes, with dynamics per problem or one for all; a mu per problem."""
    n, m, T, batch = 4, 2, 7, (2, 3)
    dynamics = random_dynamics(n, m, seed=5, steps=() if shared else (*batch, T))
    F, f, cost = dynamics.F.to(device), dynamics.f.to(device), random_cost(n, m, T, seed=6, batch=batch)
    cost = QuadraticCost(cost.C.to(device), cost.c.to(device), cost.const.to(device))
    mu = torch.tensor([[0.0, 0.1, 1.0], [0.0, 2.0, 3.0]], dtype=torch.float64, device=device)
    batched = backward(F, f, cost, mu)
    assert batched.K.shape == (*batch, T, m, n) and batched.V.shape == (*batch, T + 1, n, n)
    for i in np.ndindex(batch):
        alone = backward(F if shared else F[i], f if shared else f[i],
                         QuadraticCost(cost.C[i], cost.c[i], cost.const[i]), mu[i])
        for name in ("K", "k", "L", "Quu", "V", "v", "linear", "quadratic"):
            assert_close(getattr(batched, name)[i], getattr(alone, name), rtol=ALGEBRA, atol=ALGEBRA)


def test_values_stay_symmetric_over_a_long_unstable_horizon() -> None:
    """An antisymmetric error E becomes A' E A each step: at |A| = 1.15, T = 500 rounding would grow to 1e+46."""
    n, m, T = 6, 2, 500
    dynamics, cost = random_dynamics(n, m, seed=7, radius=1.15), random_cost(n, m, 1, seed=8)
    long = QuadraticCost(cost.C[:1].expand(T + 1, -1, -1), cost.c[:1].expand(T + 1, -1), cost.const[:1].expand(T + 1))
    step = backward(dynamics.F, dynamics.f, long)
    assert bool(step.success)
    assert_close(step.V, step.V.mT, rtol=0, atol=0)
    assert_close(step.V[0], step.V[1], rtol=1e-9, atol=0)  # it has converged long ago


def test_long_horizon_is_the_algebraic_riccati_equation() -> None:
    """SciPy solves A'XA - X - (A'XB + S)(R + B'XB)^-1 (A'XB + S)' + Q = 0."""
    n, m, T = 5, 2, 300
    dynamics, cost = random_dynamics(n, m, seed=9, radius=1.1), random_cost(n, m, 1, seed=10)
    C = cost.C[0].numpy()
    A, B = dynamics.A.numpy(), dynamics.B.numpy()
    X = scipy.linalg.solve_discrete_are(A, B, C[:n, :n], C[n:, n:], s=C[:n, n:])
    K = -np.linalg.solve(C[n:, n:] + B.T @ X @ B, B.T @ X @ A + C[n:, :n])
    long = QuadraticCost(cost.C[:1].expand(T + 1, -1, -1), torch.zeros(T + 1, n + m, dtype=torch.float64),
                         torch.zeros(T + 1, dtype=torch.float64))
    step = backward(dynamics.F, torch.zeros_like(dynamics.f), long)
    np.testing.assert_allclose(step.V[0].numpy(), X, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(step.K[0].numpy(), K, rtol=1e-8, atol=1e-8)


def test_expected_improvement_is_the_actual_one() -> None:
    """For every step length, not only the full one: J(a) = J(0) + a * linear + a^2 / 2 * quadratic."""
    problem = lq_problem(5, 2, 11, seed=11)
    u = torch.randn(11, 2, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    x, cost = begin(problem, u)
    F, quadratic, _ = expand(problem.model, problem.cost, x, u)
    step = backward(F, None, quadratic)
    lengths = torch.tensor([0.0, 0.1, 0.5, 1.0, 1.7], dtype=torch.float64)
    xs, us = forward(problem, x, u, step, lengths)
    expected = lengths * step.linear + 0.5 * lengths ** 2 * step.quadratic
    assert_close(problem.cost.evaluate(xs, us) - cost, expected, rtol=ALGEBRA, atol=ALGEBRA)


def test_regularisation_penalises_the_state_where_the_gains_are_computed() -> None:
    """With mu the gains are those of Q + mu F'F; the value is the cost that these gains really have."""
    n, m, T, mu = 4, 2, 6, 0.7
    dynamics, cost = random_dynamics(n, m, seed=13), random_cost(n, m, T, seed=14)
    zero = torch.zeros_like(dynamics.f)
    step = backward(dynamics.F, zero, cost, torch.tensor(mu, dtype=torch.float64))
    A, B, V = dynamics.A, dynamics.B, step.V[1]
    Quu = cost.C[0, n:, n:] + B.T @ (V + mu * torch.eye(n)) @ B
    Qux = cost.C[0, n:, :n] + B.T @ (V + mu * torch.eye(n)) @ A
    assert_close(step.K[0], -torch.linalg.solve(Quu, Qux), rtol=ALGEBRA, atol=ALGEBRA)
    x = torch.randn(n, generator=torch.Generator().manual_seed(15), dtype=torch.float64)
    problem = lq_problem(n, m, T, seed=0)
    model = LinearGaussianDynamics(dynamics.F, zero, dynamics.Sigma)
    states, efforts = [x], []
    for t in range(T):
        efforts.append(step.K[t] @ states[-1] + step.k[t])
        states.append(model.A @ states[-1] + model.B @ efforts[-1])
    task = type(problem.cost)(cost)
    expected = 0.25 * torch.cat([torch.ones(1), x]) @ step.values[0] @ torch.cat([torch.ones(1), x])
    actual = task.evaluate(torch.stack(states), torch.stack(efforts))
    assert_close(expected, actual, rtol=ALGEBRA, atol=ALGEBRA)


def test_an_indefinite_problem_is_reported_for_itself_alone() -> None:
    """success is False for the concave problem of the batch only; nothing is raised."""
    dynamics, cost = random_dynamics(3, 2, seed=16), random_cost(3, 2, 5, seed=17, batch=(3,))
    cost.C[1, 2, 3:, 3:] = -100 * torch.eye(2)
    cost.C[2, 3, 0, 0] = float("nan")
    assert backward(dynamics.F, dynamics.f, cost).success.tolist() == [True, False, False]


@pytest.mark.parametrize("linear", [False, True])
def test_rollout_is_the_model_step_by_step(linear: bool) -> None:
    """One path for linear models, one for any other, both batched."""
    problem = lq_problem(4, 2, 6, seed=18, batch=(3,))
    u = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(19), dtype=torch.float64)
    model = problem.model if linear else Opaque(problem.model)
    x = rollout(model, problem.x0, u)
    for b in range(3):
        state = problem.x0[b]
        for t in range(6):
            state = problem.model.F @ torch.cat([state, u[b, t]]) + problem.model.f
            assert_close(x[b, t + 1], state, rtol=ALGEBRA, atol=ALGEBRA)


class Opaque:
    """A linear model that does not say so."""

    def __init__(self, model: LinearGaussianDynamics) -> None:
        self.model = model

    def predict(self, x: torch.Tensor, u: torch.Tensor) -> Gaussian:
        """See DynamicsModel."""
        xu = torch.cat([x, u], -1).unsqueeze(-1)
        return Gaussian((self.model.F @ xu).squeeze(-1) + self.model.f, self.model.Sigma)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_linear_and_opaque_rollouts_of_a_policy_agree(batch: tuple[int, ...]) -> None:
    """The two forward passes, with limits that act, for several step lengths at once."""
    problem = lq_problem(4, 2, 6, seed=20, limit=0.3, batch=batch)
    u = torch.zeros(*batch, 6, 2, dtype=torch.float64)
    x, _ = begin(problem, u)
    F, quadratic, _ = expand(problem.model, problem.cost, x, u)
    step = backward(F, None, quadratic)
    lengths = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    xs, us = forward(problem, x, u, step, lengths)
    xs_opaque, us_opaque = forward(replace(problem, model=Opaque(problem.model)), x, u, step, lengths)
    assert xs.shape == (3, *batch, 7, 4) and us.shape == (3, *batch, 6, 2)
    assert bool((us.abs() == 0.3).any()) and bool((us.abs() < 0.3).any())
    assert_close(xs, xs_opaque, rtol=ALGEBRA, atol=ALGEBRA)
    assert_close(us, us_opaque, rtol=ALGEBRA, atol=ALGEBRA)


def test_marginals_and_expected_cost_agree() -> None:
    """E[1/2 z'Cz + c'z] from the propagated moments equals the value function with its trace terms."""
    n, m, T = 4, 2, 8
    dynamics, cost = random_dynamics(n, m, seed=21), random_cost(n, m, T, seed=22)
    step = backward(dynamics.F, dynamics.f, cost)
    noise = torch.cholesky_inverse(step.L)
    start = Gaussian(torch.ones(n, dtype=torch.float64), 0.5 * torch.eye(n, dtype=torch.float64))
    origin = torch.zeros(T, n, dtype=torch.float64)
    policy = LinearGaussianPolicy(origin, step.k, step.K, torch.zeros_like(step.k), noise)
    x = marginals(dynamics, policy, start)
    total = torch.zeros((), dtype=torch.float64)
    for t in range(T + 1):
        S, mean = x.cov[t], x.mean[t]
        C, c = cost.C[t, :n, :n], cost.c[t, :n]
        if t < T:  # of [x; u] = [I; K] x + [0; k + noise]
            J = torch.cat([torch.eye(n, dtype=torch.float64), step.K[t]])
            mean, S = torch.cat([mean, step.K[t] @ mean + step.k[t]]), J @ S @ J.T
            S[n:, n:] += noise[t]
            C, c = cost.C[t], cost.c[t]
        total += 0.5 * mean @ C @ mean + c @ mean + 0.5 * (C * S).sum() + cost.const[t]
    assert_close(expected_cost(step, start, dynamics.Sigma.expand(T, n, n), noise), total,
                               rtol=ALGEBRA, atol=ALGEBRA)


def test_planner_solves_a_time_varying_problem() -> None:
    """The Lqr planner takes F (T, n, n + m), from any warm start."""
    problem = replace(lq_problem(4, 2, 9, seed=23), model=random_dynamics(4, 2, seed=24, steps=(9,)))
    x, u, _ = kkt_solution(problem.model.F, problem.model.f, problem.cost.quadratic, problem.x0)
    plan = Lqr().plan(problem, None)
    again = Lqr().plan(problem, plan)
    for found in (plan, again):
        assert found.status == CONVERGED
        assert_close(found.efforts, u, rtol=ALGEBRA, atol=ALGEBRA)
        assert_close(found.states, x, rtol=ALGEBRA, atol=ALGEBRA)
