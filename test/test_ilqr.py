"""iLQR against independent solvers, and what its parts promise."""
from __future__ import annotations

from dataclasses import is_dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import torch
from checks import assert_close, box_minimum, kkt_solution, quadratic_form, random_covariance
from systems import (
    DEVICES,
    PROBLEMS,
    Pendulum,
    lq_problem,
    parking,
    random_dynamics,
    residual_problem,
    swing_up,
    to,
)
from torch import Tensor

from mbrl_ros.models.dynamics import linearize, predict_mean
from mbrl_ros.planners.box import box_newton
from mbrl_ros.planners.ilqr import Ilqr, Lqr
from mbrl_ros.planners.plan import warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.types import (
    CONVERGED,
    ITERATION_LIMIT,
    LINE_SEARCH_FAILED,
    NOT_FINITE,
    STATUSES,
    Gaussian,
    LinearGaussianDynamics,
    QuadraticCost,
)

THOROUGH = Ilqr(Ilqr.Config(iterations=300, tolerance=1e-13))


def cost_of(problem: Problem, U: Tensor) -> Tensor:
    """Cost of stacked efforts (T m,), by a plain loop over the model."""
    u = U.reshape(problem.lower.shape)
    x = [problem.x0]
    for u_t in u:
        x.append(predict_mean(problem.model, x[-1], u_t))
    return problem.cost.evaluate(torch.stack(x), u)


def independent_optimum(problem: Problem, start: Tensor) -> np.ndarray:
    """SciPy's SLSQP over the efforts with gradients by automatic differentiation."""
    def value_and_gradient(U: np.ndarray) -> tuple[float, np.ndarray]:
        z = torch.tensor(U, requires_grad=True)
        value = cost_of(problem, z)
        return float(value.detach()), torch.autograd.grad(value, z)[0].numpy()
    bounds = list(zip(problem.lower.flatten().tolist(), problem.upper.flatten().tolist(), strict=True))
    result = scipy.optimize.minimize(value_and_gradient, start.flatten().numpy(), jac=True, bounds=bounds,
                                     method="SLSQP", options={"maxiter": 1000, "ftol": 1e-15})
    return result.x.reshape(problem.lower.shape)


@pytest.mark.parametrize("problem", [swing_up(), swing_up(T=25, limit=50.0), parking(), parking(limit=0.5)],
                         ids=["swing_up", "swing_up_free", "parking", "parking_tight"])
def test_nonlinear_optimum_equals_an_independent_solver(problem: Problem) -> None:
    """Both start where iLQR stopped after a few iterations, so that both mean the same local minimum.

    SLSQP ends where the cost changes by 1e-15 of itself, the efforts hence by about the root of it: 1e-6 with margin.
    """
    few = Ilqr(Ilqr.Config(iterations=12)).plan(problem, None)
    plan = THOROUGH.plan(problem, None)
    assert plan.status == CONVERGED
    best = independent_optimum(problem, few.efforts)
    cost = float(cost_of(problem, torch.from_numpy(best).flatten()))
    assert plan.cost == pytest.approx(cost, rel=1e-8)
    np.testing.assert_allclose(plan.efforts.numpy(), best, atol=2e-5)


def test_swing_up_swings_up() -> None:
    """From hanging to within a few degrees of upright, although the limit is half of what would lift it at once."""
    plan = THOROUGH.plan(swing_up(), None)
    assert float(plan.states[-1].abs().max()) < 0.1
    assert float(plan.efforts.abs().max()) == 5.0


@pytest.mark.parametrize(("seed", "limit"), [(0, 0.4), (1, 0.2), (2, 0.05), (3, 1.0)])
def test_limited_lq_problem_equals_a_dense_quadratic_program(seed: int, limit: float) -> None:
    """Bounded-variable least squares over all efforts at once."""
    problem = lq_problem(4, 2, 12, seed=seed, limit=limit)
    H, g, _ = quadratic_form(lambda U: cost_of(problem, U), 24)
    best = box_minimum(H, g, problem.lower.flatten().numpy(), problem.upper.flatten().numpy())
    plan = THOROUGH.plan(problem, None)
    assert plan.status == CONVERGED
    assert (np.abs(best) == limit).any()
    np.testing.assert_allclose(plan.efforts.flatten().numpy(), best, atol=1e-7)


def test_lq_problem_takes_one_iteration() -> None:
    """With linear dynamics, quadratic cost and no active limit the first pass is exact, and known to be."""
    problem = lq_problem(5, 2, 15, seed=4)
    plan = Ilqr(Ilqr.Config(iterations=50)).plan(problem, None)
    assert (plan.status, plan.iterations) == (CONVERGED, 1)
    _, u, _ = kkt_solution(problem.model.F.expand(15, 5, 7), problem.model.f.expand(15, 5), problem.cost.quadratic,
                           problem.x0)
    assert_close(plan.efforts, u, rtol=1e-9, atol=1e-9)
    again = Ilqr().plan(problem, plan)
    assert (again.status, again.iterations) == (CONVERGED, 1)
    assert_close(again.efforts, u, rtol=1e-9, atol=1e-9)


def test_single_precision_converges_to_its_own_rounding() -> None:
    """Even asked for no tolerance at all: improvements below the rounding of the cost cannot be seen."""
    problem = lq_problem(4, 2, 12, seed=0, limit=0.4)
    best = THOROUGH.plan(problem, None)
    cost, F = problem.cost.quadratic, problem.model
    single = Problem(problem.x0.float(), LinearGaussianDynamics(F.F.float(), F.f.float(), F.Sigma.float()),
                     Quadratic(QuadraticCost(cost.C.float(), cost.c.float(), cost.const.float())),
                     problem.lower.float(), problem.upper.float())
    plan = Ilqr(Ilqr.Config(iterations=100, tolerance=0.0)).plan(single, None)
    assert plan.status == CONVERGED
    assert plan.efforts.dtype == plan.policy.K.dtype == torch.float32
    assert_close(plan.efforts, best.efforts.float(), rtol=0, atol=1e-3)  # root of single precision, with margin


@pytest.mark.parametrize("m", [1, 3, 7])
def test_box_newton_satisfies_the_kkt_conditions(m: int) -> None:
    """A batch of 200 problems from random starts: gradient zero where free, pointing outwards where clamped."""
    generator = torch.Generator().manual_seed(m)
    H = torch.stack([torch.from_numpy(random_covariance(m, seed, floor=1e-3)) for seed in range(200)])
    q = torch.randn(200, m, generator=generator, dtype=torch.float64)
    low = -torch.rand(200, m, generator=generator, dtype=torch.float64)
    high = torch.rand(200, m, generator=generator, dtype=torch.float64)
    low[:20, 0], high[20:40, 0] = 0.0, 0.0  # a step that starts at its limit
    start = torch.randn(200, m, generator=generator, dtype=torch.float64).clamp(low, high)
    Qux = torch.randn(200, m, 3, generator=generator, dtype=torch.float64)
    solution, free = box_newton(H, torch.cat([q.unsqueeze(-1), Qux], -1), low, high, start)
    k, K = -solution[..., 0], -solution[..., 1:]
    g = (H @ k.unsqueeze(-1)).squeeze(-1) + q
    assert bool(((low <= k) & (k <= high)).all())
    assert float((g * free).abs().max()) < 1e-9
    at_low, at_high = ~free & (k == low), ~free & (k == high)
    assert bool((free | at_low | at_high).all())
    assert bool((g[at_low] > 0).all() and (g[at_high] < 0).all())
    assert not bool(K[~free].any())
    assert float(((H @ K + Qux) * free.unsqueeze(-1)).abs().max()) < 1e-9  # the free components follow the state
    for i in range(0, 200, 10):
        best = box_minimum(H[i].numpy(), q[i].numpy(), low[i].numpy(), high[i].numpy() + 1e-300)
        np.testing.assert_allclose(k[i].numpy(), best, atol=1e-8)


def test_gains_are_zero_where_the_effort_is_clamped() -> None:
    """And the policy along its own states gives its own efforts."""
    plan = THOROUGH.plan(lq_problem(4, 2, 12, seed=1, limit=0.2), None)
    clamped = plan.efforts.abs() == 0.2
    assert bool(clamped.any()) and bool((~clamped).any())
    assert float(plan.policy.K[clamped].abs().max()) == 0.0
    assert float(plan.policy.K[~clamped].abs().amax(-1).min()) > 0.0


@pytest.mark.parametrize("name", PROBLEMS)
def test_cost_never_rises_with_iterations(name: str) -> None:
    """Each further iteration is a line search that only accepts less."""
    problem = PROBLEMS[name]()
    plans = [Ilqr(Ilqr.Config(iterations=i)).plan(problem, None) for i in (1, 2, 3, 5, 8, 13)]
    costs = [float(problem.cost.evaluate(*starting(problem)))] + [plan.cost for plan in plans]
    assert all(later <= earlier for earlier, later in pairwise(costs))
    assert costs[-1] < costs[0]


def starting(problem: Problem) -> tuple[Tensor, Tensor]:
    """The rollout of no effort."""
    u = warm_start(problem, None)
    x = [problem.x0]
    for u_t in u:
        x.append(predict_mean(problem.model, x[-1], u_t))
    return torch.stack(x), u


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["lq_limited", "swing_up", "parking"])
def test_batched_solve_equals_looped(name: str, device: str) -> None:
    """Three starts; each problem has its own acceptance, regularisation, status and count of iterations.

    Batched and single matrix products round differently, which a solution at 1e-8 of its cost may show as 1e-6.
    """
    problem = to(PROBLEMS[name](), device)
    n = problem.x0.shape[-1]
    shift = 0.3 * torch.randn(3, n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x0 = problem.x0 + shift.to(device)
    planner = Ilqr(Ilqr.Config(iterations=60, tolerance=1e-10))
    batch = replace(problem, x0=x0)
    together = planner.solve(batch, warm_start(batch, None))
    assert together.K.shape == (3, *problem.lower.shape, n)
    for i in range(3):
        alone = planner.solve(replace(problem, x0=x0[i]), warm_start(problem, None))
        assert STATUSES[int(together.status[i])] == STATUSES[int(alone.status)] == CONVERGED
        assert abs(int(together.iterations[i]) - int(alone.iterations)) <= 1
        assert_close(together.cost[i], alone.cost, rtol=1e-8, atol=1e-8)
        assert_close(together.u[i], alone.u, rtol=0, atol=1e-3)
        assert_close(together.Sigma[i], alone.Sigma, rtol=1e-2, atol=1e-2)


def test_a_sick_problem_does_not_spoil_its_batch() -> None:
    """A start that is not a number among healthy ones; the others as if it were not there."""
    problem = lq_problem(4, 2, 8, seed=6, limit=0.3, batch=(3,))
    healthy = THOROUGH.solve(problem, warm_start(problem, None))
    x0 = problem.x0.clone()
    x0[1, 2] = float("nan")
    sick = THOROUGH.solve(replace(problem, x0=x0), warm_start(problem, None))
    assert [STATUSES[i] for i in sick.status.tolist()] == [CONVERGED, NOT_FINITE, CONVERGED]
    assert_close(sick.u[[0, 2]], healthy.u[[0, 2]], rtol=1e-9, atol=1e-9)
    assert all(bool(torch.isfinite(part).all()) for part in (sick.x, sick.u, sick.K, sick.Sigma))


def test_a_step_that_delivers_less_than_asked_is_refused() -> None:
    """The full first step of the parking car lowers the cost, by less than the expansion promised."""
    problem = parking()
    stay = float(problem.cost.evaluate(*starting(problem)))
    modest, strict = (Ilqr(Ilqr.Config(iterations=1, step_lengths=1, accept_ratio=r)) for r in (0.0, 1.0))
    assert modest.plan(problem, None).cost < stay
    assert strict.plan(problem, None).cost == stay


class NotANumber:
    """A model that fails away from rest: no effort is fine, any effort is not."""

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """See DynamicsModel."""
        mean = x + u / (u.abs() < 1e-9)
        mean = torch.where(torch.isfinite(mean), mean, torch.nan)
        return Gaussian(mean, torch.zeros(*x.shape, x.shape[-1], dtype=x.dtype))


def test_a_model_that_breaks_along_the_line_search_leaves_the_warm_start() -> None:
    """No candidate is finite, so none is taken until regularisation has made the steps as small as that.

    A large mu promises little: that must not pass for convergence.
    """
    problem = replace(lq_problem(2, 2, 5, seed=7), model=NotANumber())
    plan = Ilqr(Ilqr.Config(iterations=100)).plan(problem, None)
    assert plan.status in (LINE_SEARCH_FAILED, NOT_FINITE)
    assert float(plan.efforts.abs().max()) < 1e-9 and np.isfinite(plan.cost)


class NoSlope(NotANumber):
    """Finite everywhere, with a Jacobian that is not."""

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """See DynamicsModel."""
        return Gaussian(x + u, torch.zeros(*x.shape, x.shape[-1], dtype=x.dtype))

    def jacobian(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """See models.linearize."""
        return x + u, torch.full((*x.shape, 4), torch.nan, dtype=x.dtype)


@pytest.mark.parametrize("planner", [Ilqr(), Lqr()])
def test_an_expansion_that_is_not_finite_is_a_status(planner: Ilqr | Lqr) -> None:
    """The warm start and its cost are fine, so they are returned, without gains."""
    problem = replace(lq_problem(2, 2, 5, seed=7, limit=1.0), model=NoSlope())
    plan = planner.plan(problem, None)
    assert plan.status == NOT_FINITE and np.isfinite(plan.cost)
    assert not bool(plan.efforts.any()) and not bool(plan.policy.K.any()) and not bool(plan.policy.Sigma.any())


def test_regularisation_moves_faster_and_faster() -> None:
    """Factors 1.6, 1.6^2, ...: 8 accepted steps bring 1 below the smallest mu, 13 refused ones bring 0 to the top."""
    planner, problem = Ilqr(), lq_problem(2, 1, 3, seed=0)
    state = planner._start(problem, warm_start(problem, None))
    yes, no = torch.tensor(True), torch.tensor(False)
    mu = []
    for _ in range(13):
        state = planner._regularise(state, no, no, yes)
        mu.append(float(state.mu))
    assert all(later > 1.5 * earlier for earlier, later in pairwise(mu)) and mu[-1] > planner.config.mu_max
    state = state._replace(mu=torch.ones_like(state.mu))
    for _ in range(8):
        state = planner._regularise(state, yes, no, no)
    assert float(state.mu) == 0.0


def test_hopeless_curvature_is_a_failed_line_search() -> None:
    """A concave cost of effort that no state regularisation mends, since the efforts move nothing."""
    problem = lq_problem(3, 2, 5, seed=8, limit=1.0)
    model = LinearGaussianDynamics(problem.model.F * torch.tensor([1.0, 1, 1, 0, 0]), problem.model.f,
                                   problem.model.Sigma)
    C = -torch.eye(5, dtype=torch.float64).expand(6, 5, 5)
    task = Quadratic(QuadraticCost(C, torch.zeros(6, 5, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)))
    plan = Ilqr(Ilqr.Config(iterations=100)).plan(replace(problem, model=model, cost=task), None)
    assert plan.status == LINE_SEARCH_FAILED
    assert float(plan.policy.K.abs().max()) == 0.0 and float(plan.policy.Sigma.abs().max()) == 0.0


def test_regularisation_makes_a_concave_problem_solvable() -> None:
    """Q_uu = C_uu + B'VB is indefinite for mu = 0, positive definite for a mu found by raising it."""
    problem = lq_problem(3, 3, 4, seed=9, limit=1.0)
    model = replace(random_dynamics(3, 3, seed=9), F=torch.cat([0.5 * torch.eye(3), torch.eye(3)], -1).double())
    cost = problem.cost.quadratic
    C = cost.C.clone()
    C[:-1, 3:, 3:] = -0.5 * torch.eye(3, dtype=torch.float64)
    C[:-1, 3:, :3], C[:-1, :3, 3:], C[:, :3, :3] = 0.0, 0.0, 0.1 * torch.eye(3, dtype=torch.float64)
    task = Quadratic(QuadraticCost(C, cost.c, cost.const))
    plan = Ilqr(Ilqr.Config(iterations=100)).plan(replace(problem, model=model, cost=task), None)
    before, _ = starting(replace(problem, model=model, cost=task))
    assert plan.cost < float(task.evaluate(before, torch.zeros(4, 3, dtype=torch.float64)))
    assert float(plan.efforts.abs().max()) <= 1.0


def test_iteration_limit_is_reported() -> None:
    """One iteration does not swing up a pendulum."""
    assert Ilqr(Ilqr.Config(iterations=1)).plan(swing_up(), None).status == ITERATION_LIMIT


def in_numpy(record):
    """A record, and those in it, with numpy arrays for tensors."""
    if isinstance(record, Tensor):
        return record.numpy()
    return type(record)(*map(in_numpy, vars(record).values())) if is_dataclass(record) else record


@pytest.mark.parametrize("problem", [residual_problem(5, 2, 8, 3, limit=0.3), lq_problem(4, 2, 8, seed=3, limit=0.3)])
def test_a_problem_in_numpy_has_the_same_plan_in_numpy(problem: Problem) -> None:
    """Compiled or not; from no plan, and from one with efforts that are beyond the limits or not numbers."""
    planner = Ilqr(Ilqr.Config(horizon=8, iterations=3))
    first = planner.plan(problem, None)
    before = [torch.tensor(efforts, dtype=torch.float64) for efforts in ([0.1, torch.nan], [9.0, -torch.inf])]
    for previous in (None, *(replace(first, efforts=efforts.repeat(8, 1)) for efforts in before)):
        expected = planner.plan(problem, previous)
        plan = planner.plan(in_numpy(problem), in_numpy(previous))
        assert (plan.status, plan.iterations, plan.cost) == (expected.status, expected.iterations, expected.cost)
        for a, b in ((plan, expected), (plan.policy, expected.policy)):
            for name, value in vars(b).items():
                if isinstance(value, Tensor):
                    assert isinstance(getattr(a, name), np.ndarray)
                    assert np.array_equal(getattr(a, name), value.numpy()), name


class Watched(Pendulum):
    """The pendulum, which keeps where it was asked for its derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Tensor, Tensor]] = []

    def jacobian(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """See models.linearize."""
        self.asked.append((x, u))
        plain = linearize(Pendulum(), x, u)
        return predict_mean(Pendulum(), x, u), plain.F


def test_a_global_model_is_linearised_anew_along_every_trajectory() -> None:
    """At all states of the plan of one iteration less, beginning with the warm start."""
    model = Watched()
    Ilqr(Ilqr.Config(iterations=4)).plan(replace(swing_up(), model=model), None)
    assert len(model.asked) == 4
    for before, (x, u) in enumerate(model.asked):
        if before == 0:
            states, efforts = starting(swing_up())
        else:
            plan = Ilqr(Ilqr.Config(iterations=before)).plan(swing_up(), None)
            states, efforts = plan.states, plan.efforts
        assert_close(x, states[:-1], rtol=0, atol=1e-9)
        assert_close(u, efforts, rtol=0, atol=1e-9)
    assert all(float((a - b).abs().max()) > 0.1 for (a, _), (b, _) in pairwise(model.asked))
