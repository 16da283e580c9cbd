"""Collocation: one step where that is enough, the optimum of iLQR elsewhere, and what it says on the way."""
from __future__ import annotations

import pytest
import torch
from checks import assert_close, kkt_solution
from systems import lq_problem, parking, swing_up

from mbrl_ros.evaluation.swing_up import SWING_UPS
from mbrl_ros.planners.collocation import Collocation, defects, line
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.types import CONVERGED, ITERATION_LIMIT


@pytest.mark.parametrize("limit", [float("inf"), 0.4])
def test_lq_problem_takes_one_step_from_anywhere(limit: float) -> None:
    """The second program finds nothing left, with and without active limits; states of the start are noise."""
    problem = lq_problem(4, 2, 12, seed=4, limit=limit)
    x = torch.randn(13, 4, generator=torch.Generator().manual_seed(0)).double()
    x[0] = problem.x0
    u = torch.zeros(12, 2).double()
    found = Collocation(Collocation.Config(iterations=1)).solve(problem, x, u)
    assert float(defects(problem, x, u).abs().max()) > 0.1 and found.defect < 1e-12
    best = Ilqr(Ilqr.Config(iterations=200, tolerance=1e-13)).plan(problem, None)
    assert found.cost == pytest.approx(best.cost, rel=1e-9)
    assert_close(found.u, best.efforts, rtol=0, atol=1e-5)
    again = Collocation().solve(problem, x, u)
    assert (again.status, again.iterations) == (CONVERGED, 2)
    if limit == float("inf"):
        F, f = problem.model.F.expand(12, 4, 6), problem.model.f.expand(12, 4)
        assert_close(found.u, kkt_solution(F, f, problem.cost.quadratic, problem.x0)[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("problem", [swing_up(T=25, limit=50.0), parking(limit=0.5)], ids=["swing_up", "parking"])
def test_from_the_straight_line_to_the_optimum_of_ilqr(problem) -> None:
    """Its states are no rollout at first, those of the plan are one."""
    start = line(problem)
    best = Ilqr(Ilqr.Config(iterations=300, tolerance=1e-13)).plan(problem, None)
    assert float(defects(problem, start, torch.zeros_like(problem.lower)).abs().max()) > 0.01
    assert_close(start[0], problem.x0, rtol=0, atol=1e-12)
    assert_close(start[-1], torch.zeros_like(start[-1]) + torch.tensor([1.0, 1, 0, 0]).double()[: len(problem.x0)]
                 * (len(problem.x0) == 4), rtol=0, atol=1e-9)
    config = Collocation.Config(horizon=len(problem.lower), iterations=300, guess="line")
    plan = Collocation(config).plan(problem, None)
    assert plan.status == CONVERGED and plan.detail == ""
    assert plan.cost == pytest.approx(best.cost, abs=1e-5)
    assert float(defects(problem, plan.states, plan.efforts).abs().max()) < 1e-12


def test_the_largest_defect_is_in_the_status() -> None:
    """Of a swing-up that may take two programs only; what is planned is a rollout all the same."""
    problem = SWING_UPS["cart_pole"].problem(100)
    config = Collocation.Config(horizon=len(problem.lower), iterations=2, guess="line")
    plan, found = Collocation(config).plan(problem, None), Collocation(config).solve(
        problem, line(problem), torch.zeros_like(problem.lower))
    assert plan.status == ITERATION_LIMIT and found.defect > 1e-3
    assert plan.detail == f"largest defect {found.defect:.1e}"
    assert float(defects(problem, plan.states, plan.efforts).abs().max()) < 1e-12
