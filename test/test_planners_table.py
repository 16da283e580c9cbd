"""The table of planners: what it counts, its optimum, and what it refuses."""
from __future__ import annotations

import pytest
import torch
from checks import kkt_solution

from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation import planners
from mbrl_ros.evaluation.swing_up import SWING_UPS
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.sampling import Cem


def test_the_optimum_of_the_chain_is_that_of_a_dense_solution():
    problem = planners.chain(3)
    (T, m), n = problem.lower.shape, len(problem.x0)
    x, u, _ = kkt_solution(problem.model.F.expand(T, n, n + m), problem.model.f.expand(T, n), problem.cost.quadratic,
                           problem.x0)
    assert planners.optimum(problem) == pytest.approx(float(problem.cost.evaluate(x, u)), rel=1e-9)


def test_calls_are_counted_exactly_and_change_no_plan():
    """CEM rolls out samples + mean in every iteration, three at the end and the one it returns; about the warm start
    there are a rollout and a derivative for the metric, and here no local dynamics for it."""
    problem, T = planners.chain(0), 20
    counted = planners.Counted(problem.model)
    planner = Cem(Cem.Config(horizon=T, samples=10, elites=3, iterations=2))
    plan = planner.plan(problem.__class__(**{**vars(problem), "model": counted}), None)
    assert counted.calls == T * (2 * (10 + 1) + 3 + 1 + 1 + 1)
    plain = planner.plan(problem, None)
    assert torch.allclose(plan.efforts, plain.efforts, rtol=1e-9, atol=1e-9)


def test_a_derivative_counts_once():
    swing = SWING_UPS["pendulum"]
    counted = planners.Counted(swing.model)
    problem = swing.problem(0, 10)
    Ilqr(Ilqr.Config(horizon=10, iterations=1, step_lengths=4)).plan(
        problem.__class__(**{**vars(problem), "model": counted}), None)
    assert counted.calls == 10 * (1 + 1 + 4)


def test_rows_have_a_baseline_and_say_what_was_refused():
    one = planners.Result(1.0, 4.0, 10.0, [1.0, 2.0, 3.0])
    rows = planners.with_baseline([planners.row("ilqr", "pendulum", {0: one}),
                                   planners.row("cem", "pendulum", {0: one._replace(cost=6.0), 1: one}),
                                   planners.row("mppi", "pendulum", {0: "no efforts"})])
    assert [r["baseline_cost"] for r in rows] == [4.0] * 3 and [r["cost"] for r in rows] == [4.0, 5.0, None]
    assert rows[1]["seeds"] == [0, 1] and rows[2]["refused"] == "no efforts" and rows[2]["success"] is None
    assert "| pendulum | mppi | no efforts |" in planners.markdown(rows)
    assert planners.draw(rows).axes


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"--only: unknown 'cm'; choose some of .*cem.*pendulum"):
        planners.chosen("cm")
    assert planners.chosen("cem,lq") == (["cem"], ["lq"])
