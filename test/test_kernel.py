"""The compiled planner against the one in torch, which shares no line with it."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import make, settings
from checks import assert_close, box_minimum, kkt_solution, quadratic_form
from systems import cautious, random_dynamics, residual_problem

from mbrl_ros.kernels import ilqr as kernel
from mbrl_ros.kernels import simd
from mbrl_ros.models.rollout import rollout
from mbrl_ros.planners.ilqr import Ilqr, Lqr, warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.task.task import Task
from mbrl_ros.types import CONVERGED, ITERATION_LIMIT, LINE_SEARCH_FAILED, NOT_FINITE, LinearGaussianDynamics, Plan

# Both round differently by 1e-15 per operation; the conditioning of these problems makes 1e-12 of it, rarely 1e-10.
AGREE = 1e-8


def both(planner: Ilqr, problem: Problem, previous: Plan | None = None) -> tuple[Plan, Plan]:
    """The plan of the kernel and that of torch."""
    in_torch = Ilqr(replace(planner.config, solver="torch")).plan(problem, previous)
    called = []
    kernel = planner._kernel
    planner._kernel = lambda *a: called.append(True) or kernel(*a)
    compiled = planner.plan(problem, previous)
    planner._kernel = kernel
    assert called
    return compiled, in_torch


def assert_same(compiled: Plan, in_torch: Plan) -> None:
    assert (compiled.status, compiled.iterations) == (in_torch.status, in_torch.iterations)
    assert compiled.cost == pytest.approx(in_torch.cost, rel=AGREE)
    for a, b in ((compiled.efforts, in_torch.efforts), (compiled.states, in_torch.states),
                 (compiled.policy.K, in_torch.policy.K), (compiled.policy.Sigma, in_torch.policy.Sigma)):
        assert_close(a, b, rtol=AGREE, atol=AGREE * (1 + float(b.abs().max())))


@pytest.mark.parametrize("limit", [np.inf, 1.0, 0.2])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize(("n", "m", "T"), [(1, 1, 1), (2, 3, 4), (5, 2, 12), (9, 7, 20)])
def test_both_find_the_same_plan(n: int, m: int, T: int, varying: bool, limit: float) -> None:
    """Six problems each with all norms, from no effort and from random ones, at one to 26 iterations."""
    statuses = set()
    for seed in range(6):
        problem = residual_problem(n, m, T, 10 * n + seed, limit, varying=varying)
        planner = Ilqr(Ilqr.Config(horizon=T, iterations=1 + seed * seed, step_lengths=1 + seed))
        compiled, in_torch = both(planner, problem)
        assert_same(compiled, in_torch)
        efforts = torch.randn(T, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert_same(*both(planner, problem, replace(in_torch, efforts=efforts)))
        statuses.add(compiled.status)
        if limit == 0.2 and T > 4:
            assert bool((compiled.efforts.abs() == limit).any()) and bool((compiled.policy.K == 0).all(-1).any())
    assert CONVERGED in statuses and (T == 1 or ITERATION_LIMIT in statuses)


@pytest.mark.parametrize("limit", [np.inf, 1.0, 0.2])
@pytest.mark.parametrize(("n", "m", "T"), [(1, 1, 1), (5, 2, 12), (9, 7, 20)])
def test_both_are_as_cautious(n: int, m: int, T: int, limit: float) -> None:
    for seed in range(4):
        plain = residual_problem(n, m, T, 500 + seed, limit)
        problem = cautious(plain, seed, factor=10.0**(seed - 2))
        planner = Ilqr(Ilqr.Config(horizon=T, iterations=1 + seed * seed))
        compiled, in_torch = both(planner, problem)
        assert_same(compiled, in_torch)
        assert_same(*both(planner, problem, in_torch))
        if limit == np.inf:
            assert not torch.equal(compiled.efforts, planner.plan(plain, None).efforts)


def lq_of_residuals(n: int, m: int, T: int, seed: int, limit: float = np.inf) -> Problem:
    """Dense, time-varying dynamics, and squares of n + m residuals of all of x and u."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    p, model = n + m, random_dynamics(n, m, seed, (T,))
    cost = ResidualCost(draw(p, p), draw(T + 1, p), draw(T + 1, p).abs() + 0.05, torch.full((p,), torch.inf).double(),
                        torch.zeros(p, dtype=torch.bool))
    bound = torch.full((T, m), limit, dtype=torch.float64)
    return Problem(draw(n), model, cost, -bound, bound)


@pytest.mark.parametrize(("n", "m", "T"), [(1, 1, 1), (6, 3, 5), (17, 9, 12)])
@pytest.mark.parametrize("kind", [Ilqr, Lqr])
def test_one_pass_without_limits_is_the_dense_kkt_solution(kind: type, n: int, m: int, T: int) -> None:
    for seed in range(3):
        problem = lq_of_residuals(n, m, T, seed)
        plan = kind(kind.Config(horizon=T)).plan(problem, None)
        zero = torch.zeros(T + 1, n, dtype=torch.float64), torch.zeros(T, m, dtype=torch.float64)
        x, u, _ = kkt_solution(problem.model.F, problem.model.f, problem.cost.quadratize(*zero), problem.x0)
        assert (plan.status, plan.iterations) == (CONVERGED, 1)
        assert_close(plan.efforts, u, rtol=AGREE, atol=AGREE * float(u.abs().max()))
        assert_close(plan.states, x, rtol=AGREE, atol=AGREE * float(x.abs().max()))


@pytest.mark.parametrize("limit", [0.5, 0.05])
def test_the_limited_solution_is_that_of_a_bounded_qp(limit: float) -> None:
    """All efforts of the horizon as one quadratic program."""
    n, m, T = 6, 3, 8
    for seed in range(3):
        problem = lq_of_residuals(n, m, T, 40 + seed, limit)
        H, g, _ = quadratic_form(lambda z, p=problem: p.cost.evaluate(
            rollout(p.model, p.x0, z.reshape(T, m)), z.reshape(T, m)), T * m)
        plan = Ilqr(Ilqr.Config(horizon=T, iterations=100, tolerance=1e-15)).plan(problem, None)
        bound = np.full(T * m, limit)
        assert plan.status == CONVERGED and bool((plan.efforts.abs() == limit).any())
        np.testing.assert_allclose(plan.efforts.flatten().numpy(), box_minimum(H, g, -bound, bound), atol=1e-8 * limit)


def test_a_long_horizon_of_unstable_dynamics_stays_symmetric() -> None:
    """Antisymmetric rounding errors would grow by 1.15^2 a step (two eigenvalues): to 1e60 of themselves."""
    n, m, T = 6, 3, 500
    models = [random_dynamics(n, m, seed, radius=1.15) for seed in range(20)]
    model = max(models, key=lambda d: float(torch.linalg.eigvals(d.A).abs().sort()[0][-2:].prod()))
    assert torch.linalg.eigvals(model.A).abs().sort()[0][-2:].prod() > 1.3
    model.F[:, n:] *= 0.1  # efforts that are strong would damp them
    problem = lq_of_residuals(n, m, T, 5)
    rest = ResidualCost(**{**vars(problem.cost), "reference": torch.zeros_like(problem.cost.reference)})
    at_rest = Problem(torch.zeros_like(problem.x0), replace(model, f=torch.zeros_like(model.f)), rest, problem.lower,
                      problem.upper)  # a rollout from anywhere else would end at 1e30
    compiled, in_torch = both(Ilqr(Ilqr.Config(horizon=T)), at_rest)
    assert compiled.status == CONVERGED and float(in_torch.policy.K.abs().max()) > 0.1
    assert_close(compiled.policy.K, in_torch.policy.K, rtol=0, atol=AGREE)


@pytest.mark.parametrize("change", [
    {"mu_start": 0.1}, {"mu_start": 10.0, "mu_factor": 3.0}, {"accept_ratio": 0.99}, {"backtracking": 0.9},
    {"tolerance": 1e-3}, {"step_lengths": 1, "accept_ratio": 1.0}])
def test_both_follow_the_settings(change: dict[str, float]) -> None:
    """Limits act, and the norms are not quadratic."""
    for seed in range(8):
        problem = residual_problem(5, 3, 10, 200 + seed, limit=0.5, varying=bool(seed % 2))
        assert_same(*both(Ilqr(Ilqr.Config(horizon=10, iterations=6, **change)), problem))


def test_both_regularise_what_is_concave() -> None:
    """Negative weights on efforts: Q_uu is not positive definite until mu has been raised, or never."""
    statuses = set()
    for seed in range(12):
        problem = residual_problem(4, 2, 6, 300 + seed, limit=1.0)
        scale = problem.cost.scale.clone()
        scale[:, -2:] -= 0.4 * (1 + seed % 4)
        if seed % 3 == 0:
            problem.model.F[..., 4:] = 0.0
            scale[:, -2:] = -1.0
        problem = replace(problem, cost=replace(problem.cost, scale=scale))
        compiled, in_torch = both(Ilqr(Ilqr.Config(horizon=6, iterations=40)), problem)
        assert_same(compiled, in_torch)
        statuses.add(compiled.status)
    assert {CONVERGED, LINE_SEARCH_FAILED} <= statuses


@pytest.mark.parametrize("sick", ["x0", "F", "f", "R", "reference", "scale"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_a_status(sick: str, value: float) -> None:
    """One entry anywhere; the warm start comes back, finite, and without gains."""
    problem = residual_problem(5, 2, 6, 400, limit=0.5)
    holder = {"x0": problem, "F": problem.model, "f": problem.model}.get(sick, problem.cost)
    array = getattr(holder, sick).clone()
    array.view(-1)[1] = value
    if sick == "x0":
        problem = replace(problem, x0=array)
    elif sick in ("F", "f"):
        problem = replace(problem, model=replace(problem.model, **{sick: array}))
    else:
        problem = replace(problem, cost=replace(problem.cost, **{sick: array}))
    compiled, in_torch = both(Ilqr(Ilqr.Config(horizon=6)), problem)
    assert compiled.status == in_torch.status == NOT_FINITE and compiled.cost == in_torch.cost == np.inf
    for part in ("efforts", "states"):
        assert bool(torch.isfinite(getattr(compiled, part)).all())
    assert not bool(compiled.policy.K.any()) and not bool(compiled.policy.Sigma.any())


@pytest.mark.parametrize("sick", ["Sigma", "leverage"])
def test_a_leverage_that_is_not_finite_is_a_status(sick: str) -> None:
    """The warm start has its cost, but there are no gains."""
    problem = cautious(residual_problem(5, 2, 6, 403), 404)
    array = getattr(problem.model, sick).clone()
    array[1, 1] = np.nan
    problem = replace(problem, model=replace(problem.model, **{sick: array}))
    compiled, in_torch = both(Ilqr(Ilqr.Config(horizon=6)), problem)
    assert compiled.status == in_torch.status == NOT_FINITE and np.isfinite(compiled.cost)
    assert not bool(compiled.policy.K.any()) and not bool(compiled.efforts.any())


def test_a_candidate_that_is_not_finite_is_refused_although_the_cost_does_not_see_it() -> None:
    """A state without weight overflows under any effort: in torch 0 inf is not a number, and must be so here."""
    problem = residual_problem(5, 2, 6, 401)
    F, R = problem.model.F.clone(), problem.cost.R.clone()
    F[4, 5:], R[:, 4] = 1e308, 0.0
    F[:, 4] = 0.0
    problem = replace(problem, model=replace(problem.model, F=F), cost=replace(problem.cost, R=R),
                      lower=problem.lower * 1e3, upper=problem.upper * 1e3)
    compiled, in_torch = both(Ilqr(Ilqr.Config(horizon=6)), problem)
    assert bool(torch.isfinite(compiled.states).all())
    assert_same(compiled, in_torch)


def test_the_problem_of_an_arm() -> None:
    """A shipped task on the 7-joint arm, joint limits and effort limits acting, replanned along its own motion."""
    robot = make("arm")
    task, h, m, n = Task(settings("arm")["task"], robot), robot.period, robot.m, robot.n
    F = np.zeros((n, n + m))
    F[: 2 * m, : 2 * m] = np.eye(2 * m)
    F[:m, m : 2 * m] = h * np.eye(m)
    F[m : 2 * m, n:] = h / 0.3 * np.eye(m)
    J = robot.kinematics(robot.home, np.zeros(m))[1]
    F[2 * m : 2 * m + 6] = J @ F[: 2 * m]
    F[robot.slice("effort/1"), n:] = np.eye(m)
    f = np.zeros(n)
    x = np.zeros(n)
    x[:m] = robot.home + 0.99 * np.array([0, 0, 0, 0, robot.position_high[4], 0, 0])
    x[m + 4] = 1.0
    tool = robot.tool_position(robot.home)
    path = task.path_to(tool + np.array([0.1, 0.3, -0.1]), tool, 0, robot.home)
    planner, plan = Ilqr(Ilqr.Config(iterations=4)), None
    limit = torch.as_tensor(np.tile(0.1 * robot.effort_limit, (20, 1)))
    clamped = False
    for step in range(8):
        window = task.window(path, step * round(h * 1e9), x[:m], 20, np.zeros(m))
        model = LinearGaussianDynamics(*(torch.as_tensor(a) for a in (F, f, np.eye(n))))
        problem = Problem(torch.as_tensor(x), model, task.cost(window, torch.device("cpu")), -limit, limit)
        compiled, in_torch = both(planner, problem, plan)
        assert_same(compiled, in_torch)
        clamped |= bool((compiled.efforts.abs() == limit).any())
        plan, x = compiled, F @ np.concatenate([x, compiled.efforts[0].numpy()]) + f
    assert clamped


def test_other_problems_stay_in_torch() -> None:
    """Single precision, a batch, and another cost."""
    planner = Ilqr(Ilqr.Config(horizon=6))
    planner._kernel = None
    problem = residual_problem(3, 2, 6, 402)
    model = LinearGaussianDynamics(*(a.float() for a in (problem.model.F, problem.model.f, problem.model.Sigma)))
    single = Problem(problem.x0.float(), model,
                     type(problem.cost)(*(a if a.dtype == torch.bool else a.float()
                                          for a in vars(problem.cost).values() if isinstance(a, torch.Tensor))),
                     problem.lower.float(), problem.upper.float())
    assert planner.plan(single, None).efforts.dtype == torch.float32
    batch = replace(problem, x0=problem.x0.expand(4, 3))
    assert planner.solve(batch, warm_start(batch, None)).u.shape == (4, 6, 2)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 29])
@pytest.mark.parametrize("inner", [0, 1, 7])
@pytest.mark.parametrize("vectors", [1, 2, 5, 6, 11])
def test_products_of_all_shapes(rows: int, inner: int, vectors: int) -> None:
    """Tiles overlap at the lower end; rows beyond those asked for stay as they are."""
    rng = np.random.default_rng(100)
    A, B = rng.normal(size=(rows + 1, inner + 2)), rng.normal(size=(inner + 1, kernel.WIDTH * vectors))
    C = np.full((rows + 1, B.shape[1]), 7.0)
    simd.product(A, B, C, rows, inner)
    assert np.allclose(C[:rows], A[:rows, :inner] @ B[:inner], rtol=0, atol=1e-13) and (C[rows] == 7.0).all()


@pytest.mark.parametrize(("n", "m"), [(3, 2), (9, 4), (20, 9)])
def test_every_rung_of_the_ladder_is_a_rollout_with_its_cost(n: int, m: int) -> None:
    """With efforts that are clamped on some rungs, all kinds of norms, and a residual of nothing."""
    T, k, rng = 6, 7, np.random.default_rng(n)
    width = np.array([np.inf, np.inf, 0.1, 0.1, 0.5, 0.5, np.inf])
    R = rng.normal(size=(k, n + m)) * (rng.uniform(size=(k, n + m)) < 0.5)
    R[3] = 0.0
    dynamics = kernel._dynamics(rng.normal(size=(T, n, n + m)) / n, rng.normal(size=(T, n)), n)
    terms = kernel._terms(R, rng.normal(size=(T + 1, k)), rng.uniform(size=(T + 1, k)), width, width == 0.5)
    H = np.zeros((T, m, kernel._padded(n + 1)))
    H[:, :, : n + 1] = 0.3 * rng.normal(size=(T, m, n + 1))
    nominal, limit = rng.normal(size=(T + 1, n + m)), np.full((T, m), 1.5)
    lengths, ladder, costs = 0.5 ** np.arange(8.0), np.empty((T + 1, n + m, 8)), np.empty(8)
    kernel._ladder(dynamics, nominal, H, -limit, limit, lengths, ladder)
    kernel._evaluate_ladder(terms, ladder, costs)
    clamped = []
    for rung, length in enumerate(lengths):
        z = np.empty((T + 1, n + m))
        kernel._forward(dynamics, nominal, H, -limit, limit, length, z)
        assert np.allclose(ladder[:, :, rung], z, rtol=1e-12, atol=1e-12)
        assert np.isclose(costs[rung], kernel._evaluate(terms, z), rtol=1e-12)
        clamped.append(int((np.abs(z[:-1, n:]) == 1.5).sum()))
    assert any(0 < number < T * m for number in clamped)
    ladder[2, 0, 5] = np.nan
    kernel._evaluate_ladder(terms, ladder, costs)
    assert np.flatnonzero(np.isnan(costs)).tolist() == [5]
