"""How many candidates planners need: what is counted, what is compared, and what is refused."""
from __future__ import annotations

import numpy as np
import pytest

from mbrl_ros.evaluation import budgets
from mbrl_ros.evaluation.budgets import Job


def test_candidates_are_those_of_all_iterations():
    assert budgets.candidates("cem", 128) == 3 * 128
    assert budgets.candidates("icem", 128) == 128 + 102 + 82
    assert budgets.candidates("icem", 20) == 3 * 20  # twice the elites would be more than there are


def test_costs_are_compared_by_pairs_with_the_parent():
    costs = {Job("pendulum", name, samples, seed): (seed + 1.0) * factor
             for name, samples, factor in (("cem", 128, 1.0), ("icem", 47, 0.5)) for seed in range(5)}
    parent, other = budgets.rows_of(costs)
    assert (parent["ratio"], parent["part"]) == (1.0, 1.0)
    assert other["ratio"] == other["ratio_low"] == other["ratio_high"] == 0.5
    assert other["part"] == pytest.approx((47 + 38 + 30) / 384)
    assert "| pendulum | icem | 47 |" in budgets.markdown([parent, other])


def test_more_candidates_cost_less_where_nothing_else_differs(capsys):
    assert budgets.main(["--only", "lq,cem", "--samples", "128,16", "--seeds", "100-102", "--jobs", "0"]) == 0
    assert "| lq | cem | 16 |" in capsys.readouterr().out
    of = lambda samples: np.median([budgets.run(Job("lq", "cem", samples, seed)) for seed in (100, 101, 102)])  # noqa: E731
    assert 0.0 < of(128) < of(16)


def test_unknown_names_are_refused(capsys):
    assert budgets.main(["--only", "ilqr"]) == 2
    assert "unknown 'ilqr'; choose some of random, cem, icem, mppi, lq" in capsys.readouterr().err
