"""Totals over seeds, and what is said of a divergence."""
from __future__ import annotations

import json

import numpy as np
import pytest

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.evaluation import coverage as evaluate_coverage
from mbrl_ros.evaluation import identify as evaluate_identify
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation import reach as evaluate
from mbrl_ros.evaluation.command import finite, parse_seeds
from mbrl_ros.evaluation.reach import Run, markdown, totals
from mbrl_ros.planners.ilqr import Ilqr, Lqr


def row(seed, worsts, costs):
    return {"seed": seed, "medians_mm": [0.5 * w for w in worsts], "worsts_mm": worsts, "costs": costs,
            "oracle_costs": [1.0] * len(costs), "diverged": any(np.isinf(costs))}


def test_totals_count_targets_and_compare_costs_within_a_seed():
    rows = [row(0, [1.0, 3.0, 6.0, 2.0], [1.0, 1.0, 2.0, 4.0]), row(1, [1.0, 1.0, 1.0, 30.0], [2.0, 2.0, 2.0, 2.0])]
    found = totals(rows)
    assert (found["seeds"], found["targets"], found["diverged"]) == (2, 8, 0)
    assert (found["success_5mm"], found["success_20mm"]) == (6 / 8, 7 / 8)
    assert (found["median_error_mm"], found["worst_error_mm"]) == (0.75, 30.0)
    assert (found["cost_ratio_before"], found["cost_ratio_after"], found["cost_ratio_worst"]) == (1.5, 2.5, 2.0)


def test_a_divergence_counts_and_is_no_number_in_the_file():
    found = totals([row(0, [1.0, np.inf], [1.0, np.inf]), row(1, [1.0, 1.0], [1.0, 1.0])])
    assert found["diverged"] == 1 and found["success_20mm"] == 0.75
    assert json.loads(json.dumps(finite({"all": [found]}), allow_nan=False))["all"][0]["worst_error_mm"] is None
    assert "1 of 2 |" in markdown({"ensemble": found})


def test_no_target_after_the_load_is_no_cost():
    assert "| 2.00, - |" in markdown({"ensemble": totals([row(0, [1.0], [2.0])])})


def test_cases_are_named_by_what_differs_between_them():
    def names(*arguments):
        return evaluate.names_of(evaluate.parser().parse_args(["--robot", "planar2", *arguments]))

    assert names() == {"ensemble": Names("planar2")}
    assert list(names("--prior", "gp,bnn")) == ["gp", "bnn"]
    assert names("--planner", "ilqr,lqr") == {"ilqr": Names("planar2"), "lqr": Names("planar2", planner="lqr")}
    assert list(names("--planner", "ilqr,lqr", "--prior", "gp,bnn")) == ["ilqr gp", "ilqr bnn", "lqr gp", "lqr bnn"]


def test_the_oracle_is_measured_with_one_planner_whatever_is_under_test():
    """Its settings too, but for those that were given."""
    config = measures.Config(targets=1, data_seconds=0.1)
    more = {"controller": {"model": "global"}, "lqr": {"horizon": 0.14}}
    given = settings("planar2", planner="lqr", more=more), settings("planar2"), settings(
        "planar2", more={"ilqr": {"horizon": 0.18}})
    planners = [Run(s, config, 0, oracle=True).controller.mpc.planner for s in given]
    assert [type(p) for p in planners] == [Ilqr] * 3
    assert planners[0].config == planners[1].config and planners[2].horizon == 9
    assert type(Run(given[0], config, 0).controller.mpc.planner) is Lqr


def settings(robot, planner="ilqr", more=None):
    return assembly.settings(Names(robot, planner=planner, prior="gaussian"), more)


def test_seeds_are_a_range_or_a_list():
    assert parse_seeds("3-5") == [3, 4, 5] and parse_seeds("7") == [7] and parse_seeds("1,4") == [1, 4]
    with pytest.raises(ConfigError, match="--seeds: expected a range"):
        parse_seeds("few")


@pytest.mark.parametrize("command", [evaluate, evaluate_identify, evaluate_coverage])
def test_mistakes_of_the_command_line_are_one_line(command, capsys):
    assert command.main(["--set", "{a: [1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
