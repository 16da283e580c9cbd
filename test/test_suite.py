"""The scenarios of the suite, its rows, its table and its figures; one short run of it."""
from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from mbrl_ros.config import ConfigError, share
from mbrl_ros.evaluation import suite, tables
from mbrl_ros.simulation.world import World

SHIPPED = share() / "config" / "scenarios.yaml"


def arguments(*words):
    return suite.parser().parse_args(words)


@pytest.mark.parametrize("full", [False, True])
def test_shipped_scenarios_can_be_planned_on_every_robot(full):
    jobs = suite.plan(arguments("--robots", "planar2,arm4,arm6,arm", *(["--full"] if full else [])))
    assert len({job.scenario.name for job in jobs}) == len(suite.read_scenarios(SHIPPED, full)) if full else jobs
    assert {job.robot for job in jobs} == {"planar2", "arm4", "arm6", "arm"}
    assert {job.seed for job in jobs} == set(range(10)) if full else {0}


def test_every_field_of_the_world_is_in_some_scenario():
    used = {key for s in suite.read_scenarios(SHIPPED, True).values() for key in (*s.start, *s.change)}
    how = {"mass_seed", "length_seed", "stribeck", "cogging_periods"}  # of what is 0 unless another is set
    learned = {key for key in World.__dataclass_fields__ if key.startswith(("slot", "door", "block"))}  # by trials
    assert set(World.__dataclass_fields__) - used <= how | learned


@pytest.mark.parametrize("words, expected", [
    (["--only", "earthquake"], r"--only: unknown scenario 'earthquake'; choose from power_on"),
    (["--robots", "hand"], "unknown robot 'hand'; choose one of arm"),
    (["--priors", "guess"], "unknown model 'guess'; choose one of"),
    (["--only", "payload_4kg", "--robots", "planar2"], "no scenario is meant for these robots"),
    (["--only", "weak_motor", "--robots", "pendulum"], r"world\.weak_joint: expected 0 to 0"),
    (["--seeds", "few"], "--seeds: expected a range"),
])
def test_mistakes_of_the_command_line_are_one_line(words, expected, capsys):
    assert suite.main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    with pytest.raises(ConfigError, match=expected):
        suite.plan(arguments(*words))


@pytest.mark.parametrize("entry, expected", [
    ({"chnge": {}}, r"mine\.chnge: unknown setting; a scenario has family"),
    ({"change": {"payload": -1.0}}, r"mine\.world\.payload: expected a value from 0\.0"),
    ({"scenario": {"target": 3}}, r"mine\.scenario\.target: unknown setting"),
])
def test_mistakes_of_a_scenario_name_it(tmp_path, entry, expected):
    path = tmp_path / "scenarios.yaml"
    path.write_text(yaml.safe_dump({"quick": {}, "scenarios": {"mine": entry}}))
    with pytest.raises(ConfigError, match=expected):
        suite.read_scenarios(path, False)


def test_a_divergence_is_drawn_and_written(tmp_path):
    figures = {"family": "arm", "robot": "planar2", "seeds": 2, "success_5mm": 0.5, "success_20mm": 0.5,
               "oracle_cost_ratio": np.inf, "recovery_s_median": np.inf, "recovery_s_worst": np.inf,
               "peak_mm_worst": np.inf, "median_error_after_mm": np.inf, "rms_mm": None, "worst_error_mm": np.inf}
    rows = [{"scenario": "a", "prior": "none", "median_error_mm": np.inf, "divergences": 1, **figures},
            {"scenario": "a", "prior": "oracle", "median_error_mm": 0.4, "divergences": 0, **figures}]
    assert "| inf " in tables.table(rows) and tables.table(rows).count("\n") == 3
    assert [path.stat().st_size > 5000 for path in tables.draw(rows, tmp_path)] == [True]


@pytest.mark.slow
def test_the_suite_runs_and_leaves_finite_json(tmp_path, capsys):
    words = ["--only", "payload_1kg,eight_0.5hz", "--robots", "planar2", "--priors", "gaussian", "--seeds", "100",
             "--against", "frozen", "--jobs", "1", "--output", str(tmp_path)]
    assert suite.main(words) == 0
    folder, = tmp_path.iterdir()
    rows = json.loads((folder / "scenarios.json").read_text(), parse_constant=pytest.fail)
    keys = {"scenario", "prior", "robot", "seeds", "success_5mm", "success_20mm", "median_error_mm", "worst_error_mm",
            "oracle_cost_ratio", "divergences", "recovery_s_median", "recovery_s_worst", "peak_mm_worst", "rms_mm"}
    assert all(keys <= set(row) for row in rows) and len(rows) == 6
    found = {(row["scenario"], row["prior"]): row for row in rows}
    assert found["payload_1kg", "oracle"]["oracle_cost_ratio"] == 1.0
    assert found["payload_1kg", "gaussian"]["success_5mm"] == 1.0
    frozen = found["payload_1kg", "gaussian without learning"]
    assert frozen["median_error_mm"] > 2 * found["payload_1kg", "gaussian"]["median_error_mm"]
    assert found["payload_1kg", "gaussian"]["recovery_s_median"] is not None
    assert found["eight_0.5hz", "gaussian"]["rms_mm"] < 10.0
    assert (folder / "payload.png").stat().st_size > 5000 and "eight_0.5hz" in capsys.readouterr().out
