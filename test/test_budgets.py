"""What planners reach with few candidates: what is counted, what is compared, and what is refused."""
from __future__ import annotations

import numpy as np

from mbrl_ros.evaluation import budgets
from mbrl_ros.evaluation.budgets import Job


def test_candidates_are_those_of_all_iterations():
    assert budgets.candidates("cem") == 3 * 128
    assert budgets.candidates("icem, 5 iterations") == 40 + 32 + 26 + 20 + 16
    least = {name: budgets.candidates(name) for name in budgets.VARIANTS if "iterations" in name}
    assert max(least.values()) <= 3 * 128 / 2.7


def test_costs_are_compared_by_pairs_with_the_parent():
    costs = {Job("pendulum", name, seed): (seed + 1.0) * factor
             for name, factor in (("cem", 1.0), ("icem", 0.5)) for seed in range(5)}
    parent, other = budgets.rows_of(costs)
    assert (parent["ratio"], parent["no_dearer"]) == (1.0, 1.0)
    assert other["ratio"] == other["ratio_low"] == other["ratio_high"] == 0.5
    assert "| pendulum | icem | 312 |" in budgets.markdown([parent, other])


def test_more_candidates_cost_less_where_nothing_else_differs():
    of = lambda name: np.median([budgets.run(Job("lq", name, seed)) for seed in (100, 101, 102)])  # noqa: E731
    assert 0.0 < of("cem") < of("cem, 3 iterations")


def test_the_command_has_a_row_for_each(capsys, tmp_path):
    path = tmp_path / "rows.json"
    assert budgets.main(["--only", "lq", "--seeds", "100", "--jobs", "0", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert all(f"| lq | {name} |" in said for name in budgets.VARIANTS) and path.stat().st_size > 100


def test_unknown_names_are_refused(capsys):
    assert budgets.main(["--only", "reach"]) == 2
    assert "unknown 'reach'; choose from lq, pendulum, cart_pole" in capsys.readouterr().err
