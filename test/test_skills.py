"""The study of skills: a peg that gets into its slot by trials, and what is left of it in files."""
from __future__ import annotations

import json

import pytest

from mbrl_ros.trainers.skills import Job, main, run


@pytest.mark.slow
def test_a_peg_gets_into_its_slot_by_trials_and_leaves_rows_and_pictures(tmp_path, capsys):
    assert main(["--only", "peg", "--methods", "lqr_flm", "--seeds", "103", "--jobs", "0", "--output",
                 str(tmp_path)]) == 0
    folder, = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"skills.json", "skills.png", "peg.gif"}
    row, = json.loads((folder / "skills.json").read_text())
    assert row["success"] == 1.0 and row["rollouts_to_success_worst"] <= 30 and row["final_error_mm"] <= 5.0
    assert row["robot_seconds"] == [2.0 * row["rollouts_to_success_worst"]]
    assert row["error_mm"][0][0] > 30.0  # nothing is known before the first trial
    assert row["cost"][0][-1] < 0.5 * row["cost"][0][0]
    executions = row["executions_mm"][0]
    assert min(executions["open_loop"]) > max(executions["feedback"])  # the gains are what holds it on its way
    assert "| peg | lqr_flm | 1 of 1 |" in capsys.readouterr().out


@pytest.mark.slow
def test_mpc_has_three_attempts_with_a_model_of_free_motion():
    found = run(Job("peg", "mpc", 100))
    assert len(found.error) == len(found.cost) == 3 and found.robot_seconds > 10.0


@pytest.mark.parametrize(("words", "expected"), [
    (["--only", "drawer"], "--only: unknown 'drawer'; choose from peg, peg_1_mm, peg_half_mm, peg_arm, door, push"),
    (["--methods", "magic"], "--methods: unknown 'magic'; choose from lqr_flm, without bound, mpc"),
    (["--seeds", "few"], "--seeds: expected a range")])
def test_mistakes_are_one_line(words, expected, capsys, tmp_path):
    assert main([*words, "--output", str(tmp_path)]) == 2
    assert expected in capsys.readouterr().err and not list(tmp_path.iterdir())
