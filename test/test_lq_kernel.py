"""The compiled kernel of one LQ problem against the recursion in torch, a dense KKT system and a bounded QP."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checks import box_minimum, kkt_solution, quadratic_form
from systems import cautious, lq_problem, parking, random_cost, random_dynamics, residual_problem

from mbrl_ros.kernels.lq_kernel import Settings, Workspace
from mbrl_ros.models.rollout import rollout
from mbrl_ros.planners.ilqr import Ilqr, Solution
from mbrl_ros.planners.lq_compiled import CompiledLq
from mbrl_ros.planners.lqr import Lqr, backward
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.types import (
    CONVERGED,
    ITERATION_LIMIT,
    LINE_SEARCH_FAILED,
    NOT_FINITE,
    STATUSES,
    LinearGaussianDynamics,
    Plan,
    QuadraticCost,
)

ALGEBRA = 1e-9  # float64 leaves 1e-13 on these problems; the rest is margin for their condition
SINGLE = 2e-4  # float32 has 6e-8, times the same condition

# n, m, bits, lanes (None: of this processor). One block and several; rows of F, G and u that end in a vector or at it.
KERNELS = [(1, 1, 64, None), (6, 3, 64, 2), (6, 3, 64, 4), (6, 3, 64, 8), (17, 9, 64, 8), (6, 3, 32, None)]
DOUBLE = [kernel for kernel in KERNELS if kernel[2] == 64]


def workspace(kernel: tuple[int, int, int, int | None], T: int) -> Workspace:
    n, m, bits, width = kernel
    return Workspace(n, m, T, np.float64 if bits == 64 else np.float32, width)


def load(w: Workspace, F: torch.Tensor, f: torch.Tensor, cost: QuadraticCost) -> None:
    n, p = F.shape[-2:]
    arrays = (F.reshape(-1, n, p), f.reshape(-1, n), cost.C, cost.c, cost.const)
    w.load(*(np.ascontiguousarray(a.numpy(), w.dtype) for a in arrays))


def start(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_near(actual: np.ndarray, expected: torch.Tensor, tolerance: float) -> None:
    """Relative to the largest entry."""
    assert actual.shape == tuple(expected.shape)
    size = float(expected.abs().max())
    np.testing.assert_allclose(actual, expected.numpy(), rtol=0, atol=tolerance * max(size, 1e-300))


def sweep(w: Workspace, F: torch.Tensor, f: torch.Tensor, cost: QuadraticCost, x0: torch.Tensor) -> str:
    load(w, F, f, cost)
    return STATUSES[w.sweep(x0.numpy().astype(w.dtype))[0]]


@pytest.mark.parametrize("varying", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_sweep_is_the_recursion_and_solves_the_kkt_system(kernel: tuple[int, int, int, int | None],
                                                            varying: bool) -> None:
    n, m, bits, _ = kernel
    tolerance = ALGEBRA if bits == 64 else SINGLE
    for T in (1, 13):
        w = workspace(kernel, T)
        for seed in range(4):
            d, cost = random_dynamics(n, m, seed, (T,) if varying else ()), random_cost(n, m, T, 10 + seed)
            x0 = start(n, seed)
            assert sweep(w, d.F, d.f, cost, x0) == CONVERGED
            s, step = w.solution(), backward(d.F, d.f, cost)
            for ours, theirs in ((s.K, step.K), (s.k, step.k), (s.Quu, step.Quu), (s.V, step.V), (s.v, step.v)):
                assert_near(ours, theirs, tolerance)
            x, u, _ = kkt_solution(d.F.expand(T, n, n + m), d.f.expand(T, n), cost, x0)
            assert_near(s.x, x, tolerance)
            assert_near(s.u, u, tolerance)
            assert s.cost == pytest.approx(float(Quadratic(cost).evaluate(x, u)), rel=tolerance, abs=tolerance)
            assert s.V.tobytes() == np.ascontiguousarray(s.V.swapaxes(-1, -2)).tobytes()  # symmetric to the last bit


@pytest.mark.parametrize("kernel", DOUBLE)
def test_bad_scales_and_nearly_singular_costs(kernel: tuple[int, int, int, int | None]) -> None:
    """States in units from 1e-4 to 1e4; then efforts that cost almost nothing. Compared in the scaled problem."""
    n, m, T = *kernel[:2], 12
    w = workspace(kernel, T)
    for seed in range(4):
        d, cost = random_dynamics(n, m, seed, (T,)), random_cost(n, m, T, seed)
        unit = 10.0 ** torch.linspace(-4, 4, n + m, dtype=torch.float64)[torch.randperm(
            n + m, generator=torch.Generator().manual_seed(seed))]
        x = unit[:n]
        F, f = d.F * unit / x[:, None], d.f / x
        scaled = QuadraticCost(cost.C * unit[:, None] * unit, cost.c * unit, cost.const)
        x0 = start(n, seed)
        assert sweep(w, F, f, scaled, x0 / x) == CONVERGED
        s, step = w.solution(), backward(d.F, d.f, cost)
        assert_near(s.K * unit[n:, None].numpy() / x.numpy(), step.K, ALGEBRA)
        assert_near(s.V / x.numpy()[:, None] / x.numpy(), step.V, ALGEBRA)
        assert_near(s.x * x.numpy(), kkt_solution(d.F, d.f, cost, x0)[0], ALGEBRA)

        C = cost.C.clone()
        C[:, n:] = C[:, :, n:] = 0.0
        C[:, n:, n:] = 1e-7 * torch.eye(m, dtype=torch.float64)
        C[:, :n, :n] *= 10.0 ** -seed
        cheap = QuadraticCost(C, cost.c, cost.const)
        assert sweep(w, d.F, d.f, cheap, x0) == CONVERGED
        step, s = backward(d.F, d.f, cheap), w.solution()
        assert_near(s.V, step.V, 1e-6)  # Q_uu has a condition of up to 1e9
        ours, theirs = s.cost, cost_of(d, cheap, x0)
        assert ours == pytest.approx(theirs, rel=ALGEBRA)


def cost_of(d: LinearGaussianDynamics, cost: QuadraticCost, x0: torch.Tensor) -> float:
    """Of the solution of the KKT system."""
    return float(Quadratic(cost).evaluate(*kkt_solution(d.F, d.f, cost, x0)[:2]))


@pytest.mark.parametrize("kernel", DOUBLE)
def test_a_long_horizon_of_unstable_dynamics_stays_symmetric(kernel: tuple[int, int, int, int | None]) -> None:
    """Antisymmetric rounding errors would grow by 1.15^2 a step (two eigenvalues): to 1e60 of themselves."""
    n, m, T = *kernel[:2], 500
    candidates = [random_dynamics(n, m, seed, radius=1.15) for seed in range(20)]
    d = max(candidates, key=lambda d: float(torch.linalg.eigvals(d.A).abs().sort(descending=True)[0][:2].prod()))
    assert n == 1 or torch.linalg.eigvals(d.A).abs().sort()[0][-2:].prod() > 1.3
    cost = random_cost(n, m, T, 4)
    w = workspace(kernel, T)
    assert sweep(w, d.F, d.f, cost, start(n, 5)) == CONVERGED
    step, s = backward(d.F, d.f, cost), w.solution()
    assert_near(s.K, step.K, ALGEBRA)
    assert_near(s.V, step.V, ALGEBRA)
    assert np.abs(s.x).max() < 1e3


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_not_finite_is_a_status(kernel: tuple[int, int, int, int | None], value: float) -> None:
    """One entry anywhere, first, last or between, in either kind of pass."""
    n, m, T = *kernel[:2], 5
    w = workspace(kernel, T)
    for step in (0, 2, T - 1):
        for sick in ("x0", "F", "f", "C", "c"):
            d, cost, x0 = random_dynamics(n, m, 1, (T,)), random_cost(n, m, T, 2), start(n, 3)
            array = {"x0": x0, "F": d.F[step], "f": d.f[step], "C": cost.C[step + 1], "c": cost.c[step]}[sick]
            array.view(-1)[0] = value
            assert sweep(w, d.F, d.f, cost, x0) == NOT_FINITE, (sick, step)
            assert w.solution().cost == np.inf
            status, found = w.solve(x0.numpy().astype(w.dtype), np.zeros((T, m), w.dtype), Settings(iterations=3))
            assert STATUSES[status] == NOT_FINITE and found == np.inf
            assert w.solution().K.any() == False  # noqa: E712


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_concave_cost_is_a_status(kernel: tuple[int, int, int, int | None]) -> None:
    """Negative curvature in the last effort, at the first step only, is found by its pivot; so is none at all."""
    n, m, T = *kernel[:2], 4
    w = workspace(kernel, T)
    for curvature in (-1e3, 0.0):
        d, cost = random_dynamics(n, m, 1, (T,)), random_cost(n, m, T, 2)
        cost.C[0, -1, :] = cost.C[0, :, -1] = 0.0
        cost.C[0, -1, -1] = curvature
        d.F[0, :, -1] = 0.0
        assert sweep(w, d.F, d.f, cost, start(n, 3)) == LINE_SEARCH_FAILED
        assert not w.solution().K.any() and np.isfinite(w.solution().x).all()


def in_torch(problem: Problem, u: torch.Tensor, settings: Settings) -> Solution:
    """The same passes by ilqr.py."""
    config = Ilqr.Config(horizon=len(u), **{k: v for k, v in settings._asdict().items() if not k.startswith("box")})
    return Ilqr(config).solve(problem, u)


def compare(w: Workspace, problem: Problem, u: torch.Tensor, settings: Settings) -> str:
    """Both solve, with nothing known and from what the last solve left; returns the status."""
    load(w, problem.model.F, problem.model.f, problem.cost.quadratic)
    w.limit(problem.lower.numpy(), problem.upper.numpy())
    theirs = in_torch(problem, u, settings)
    for forget in (True, False):
        if forget:
            w.forget()
        status, cost = w.solve(problem.x0.numpy(), u.numpy(), settings)
        s = w.solution()
        assert (status, s.passes) == (int(theirs.status), int(theirs.iterations))
        assert cost == pytest.approx(float(theirs.cost), rel=1e-8)
        assert_near(s.u, theirs.u, 1e-8)
        assert_near(s.x, theirs.x, 1e-8)
        np.testing.assert_allclose(s.K, theirs.K.numpy(), atol=1e-8 * (1 + float(theirs.K.abs().max())))
        eye = torch.eye(w.m, dtype=torch.float64).expand(w.T, w.m, w.m)
        assert_near(np.linalg.inv(s.Quu), theirs.Sigma if bool(theirs.Sigma.any()) else eye, 1e-8)
    return STATUSES[status]


@pytest.mark.parametrize("limit", [np.inf, 1.0, 0.2])
@pytest.mark.parametrize("kernel", DOUBLE)
def test_both_solve_within_limits_alike(kernel: tuple[int, int, int, int | None], limit: float) -> None:
    """From no effort and from random ones, at one to 26 passes and all lengths of the ladder."""
    n, m, T = *kernel[:2], 12
    statuses, w = set(), workspace(kernel, T)
    for seed in range(6):
        problem = lq_problem(n, m, T, 10 * n + seed, limit)
        settings = Settings(iterations=1 + seed * seed, step_lengths=1 + seed)
        statuses.add(compare(w, problem, torch.zeros(T, m, dtype=torch.float64), settings))
        u = torch.randn(T, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        compare(w, problem, u.clamp(-limit, limit), settings)
        if limit == 0.2 and m > 1:
            assert (np.abs(w.solution().u) == limit).any() and (w.solution().K == 0).all(-1).any()
    assert CONVERGED in statuses and (limit > 1 or n == 1 or ITERATION_LIMIT in statuses)


@pytest.mark.parametrize("change", [
    {"mu_start": 0.1}, {"mu_start": 10.0, "mu_factor": 3.0}, {"accept_ratio": 0.99}, {"backtracking": 0.9},
    {"tolerance": 1e-3}, {"step_lengths": 1, "accept_ratio": 1.0}])
def test_both_follow_the_settings(change: dict[str, float]) -> None:
    w = workspace((6, 3, 64, 8), 10)
    for seed in range(6):
        compare(w, lq_problem(6, 3, 10, 200 + seed, 0.5), torch.zeros(10, 3, dtype=torch.float64),
                Settings(iterations=6)._replace(**change))


def test_both_regularise_what_is_concave() -> None:
    """Negative weights on efforts: Q_uu is not positive definite until mu has been raised, or never."""
    statuses, w = set(), workspace((6, 3, 64, 8), 6)
    for seed in range(9):
        problem = lq_problem(6, 3, 6, 300 + seed, 1.0)
        problem.cost.quadratic.C[:, 6:, 6:] -= (1 + seed % 3) * torch.eye(3)
        if seed % 3 == 0:
            problem.model.F[:, 6:] = 0.0
        statuses.add(compare(w, problem, torch.zeros(6, 3, dtype=torch.float64), Settings(iterations=40)))
    assert LINE_SEARCH_FAILED in statuses and len(statuses) > 1


@pytest.mark.parametrize("limit", [0.5, 0.05])
def test_the_limited_solution_is_that_of_a_bounded_qp(limit: float) -> None:
    """All efforts of the horizon as one quadratic program."""
    n, m, T = 6, 3, 8
    w = workspace((n, m, 64, 8), T)
    for seed in range(3):
        problem = lq_problem(n, m, T, 40 + seed, limit)
        load(w, problem.model.F, problem.model.f, problem.cost.quadratic)
        w.limit(-limit, limit)
        status, _ = w.solve(problem.x0.numpy(), np.zeros((T, m)), Settings(iterations=100, tolerance=1e-15))

        def total(z: torch.Tensor, problem: Problem = problem) -> torch.Tensor:
            u = z.reshape(T, m)
            return problem.cost.evaluate(rollout(problem.model, problem.x0, u), u)

        H, g, _ = quadratic_form(total, T * m)
        bound = np.full(T * m, limit)
        assert STATUSES[status] == CONVERGED
        np.testing.assert_allclose(w.solution().u.ravel(), box_minimum(H, g, -bound, bound), atol=1e-8 * limit)


def test_limits_that_act_in_a_sweep_clamp_its_rollout() -> None:
    problem = lq_problem(6, 3, 9, 7, 0.3)
    w = workspace((6, 3, 64, 8), 9)
    w.limit(-0.3, 0.3)
    assert sweep(w, problem.model.F, problem.model.f, problem.cost.quadratic, problem.x0) == CONVERGED
    s, x = w.solution(), problem.x0.numpy()
    free = 0
    for t in range(9):
        wanted = s.K[t] @ x + s.k[t]
        free += (np.abs(wanted) < 0.3).sum()
        np.testing.assert_allclose(s.u[t], wanted.clip(-0.3, 0.3), atol=ALGEBRA)
        x = problem.model.F.numpy() @ np.concatenate([x, s.u[t]]) + problem.model.f.numpy()
        np.testing.assert_allclose(s.x[t + 1], x, atol=ALGEBRA)
    assert 0 < free < 27


def test_single_precision_solves_within_limits() -> None:
    """To the cost that double precision finds, and never outside."""
    for seed in range(4):
        problem = replace(lq_problem(6, 3, 9, 60 + seed, 0.3))
        found = []
        for kernel in ((6, 3, 64, 8), (6, 3, 32, None)):
            w = workspace(kernel, 9)
            load(w, problem.model.F, problem.model.f, problem.cost.quadratic)
            w.limit(-0.3, 0.3)
            found.append(w.solve(problem.x0.numpy().astype(w.dtype), np.zeros((9, 3), w.dtype),
                                 Settings(iterations=30, tolerance=1e-5))[1])
            assert np.abs(w.solution().u).max() <= np.float32(0.3)
        assert found[1] == pytest.approx(found[0], rel=SINGLE)


def test_sizes_and_types_are_checked() -> None:
    with pytest.raises(ValueError, match="n = 0"):
        Workspace(0, 1, 1)
    with pytest.raises(ValueError, match="float64 or float32"):
        Workspace(6, 3, 4, np.int32)
    w = workspace((6, 3, 64, 8), 4)
    with pytest.raises(ValueError, match="nothing is loaded"):
        w.sweep(np.zeros(6))
    good = [np.zeros(s) for s in ((4, 6, 9), (4, 6), (5, 9, 9), (5, 9), (5,))]
    for i, name in enumerate(("F", "f", "C", "c", "const")):
        for bad in (good[i][:-1], good[i].astype(np.float32), np.asfortranarray(good[i])):
            if bad is not good[i] and not (bad.ndim == 1 and bad.shape == (5,) and bad.dtype == np.float64):
                with pytest.raises(ValueError, match=f"^{name} must be"):
                    w.load(*good[:i], bad, *good[i + 1:])
    w.load(*good)
    for call in (w.sweep, lambda x0: w.solve(x0, np.zeros((4, 3)), Settings())):
        with pytest.raises(ValueError, match="x0 must have shape"):
            call(np.zeros(5))


def assert_same(compiled: Plan, in_torch: Plan) -> None:
    assert (compiled.status, compiled.iterations) == (in_torch.status, in_torch.iterations)
    assert compiled.cost == pytest.approx(in_torch.cost, rel=1e-8)
    for a, b in ((compiled.efforts, in_torch.efforts), (compiled.states, in_torch.states),
                 (compiled.policy.K, in_torch.policy.K), (compiled.policy.Sigma, in_torch.policy.Sigma)):
        assert_near(a.numpy(), b, 1e-8)


@pytest.mark.parametrize("sick", [False, True])
def test_the_planners_use_it(sick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lqr with the cost of a task and limits that act, Ilqr with a quadratic one; the same plans as in torch."""
    n, m, T = 6, 3, 10
    calls = []
    load = Workspace.load
    monkeypatch.setattr(Workspace, "load", lambda self, *a: calls.append(1) or load(self, *a))
    for seed in range(4):
        for planner, problem in ((Lqr(Lqr.Config(horizon=T)), residual_problem(n, m, T, seed, 0.5, varying=seed > 1)),
                                 (Ilqr(Ilqr.Config(horizon=T)), lq_problem(n, m, T, seed, 0.5))):
            if sick:
                problem.model.F[..., 0, 0] = torch.nan
            calls.clear()
            plan = planner.plan(problem, None)
            # Lqr sees by its first rollout that there is nothing to plan.
            assert bool(calls) == (isinstance(planner, Ilqr) or not sick)
            calls.clear()
            assert_same(plan, type(planner)(replace(planner.config, solver="torch")).plan(problem, None))
            assert not calls
            assert sick == (plan.status == NOT_FINITE)


def test_other_problems_stay_in_torch() -> None:
    """A leverage, a nonlinear model, a batch, mixed types, and a size that would take long to compile."""
    problem = lq_problem(6, 3, 5, 1)
    assert CompiledLq.applies(problem)
    for other in (cautious(problem, 2), parking(), replace(problem, x0=problem.x0.expand(2, 6)),
                  replace(problem, x0=problem.x0.float()), lq_problem(65, 1, 2, 1)):
        assert not CompiledLq.applies(other)
