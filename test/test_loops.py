"""What replanning, refitting and feedback are worth, on two joints with a load that the first data did not have."""
import json

import numpy as np
import pytest

from mbrl_ros.evaluation import loops


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loops")
    assert loops.main(["--robot", "planar2", "--prior", "gaussian", "--seeds", "100", "--trials", "2", "--seconds", "1",
                       "--data-seconds", "5", "--jobs", "1", "--output", str(folder)]) == 0
    written = next(folder.glob("*/loops.json"))
    assert (written.parent / "loops.png").stat().st_size > 10_000
    return {(row["loop"], row["execution"]): row["costs"] for row in json.loads(written.read_text())["rows"]}


def test_replanning_beats_refitting_and_feedback_beats_none(found):
    assert set(found) == {*((loop, how) for loop in ("v0.5", "v1.0") for how in loops.EXECUTIONS), ("v1.5", "")}
    cost = {case: np.mean(costs) for case, costs in found.items()}
    assert cost["v1.5", ""] < 0.2 * cost["v1.0", "feedback"]
    for loop in ("v0.5", "v1.0"):
        assert cost[loop, "feedback"] < 0.2 * cost[loop, "open"]


def test_a_plan_made_once_is_the_same_in_the_first_trial_whoever_refits_later(found):
    for how in loops.EXECUTIONS:
        assert found["v0.5", how][0] == found["v1.0", how][0]
    assert found["v1.0", "open"][1] != found["v0.5", "open"][1]


def test_the_interval_of_a_paired_ratio_holds_what_is_the_same_for_all_seeds():
    worse = {"costs": np.geomspace(1.0, 100.0, 10)}
    low, high = loops.paired({"costs": 0.5 * worse["costs"]}, worse)
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)


@pytest.mark.parametrize(("words", "expected"), [
    (["--loops", "v2.0"], "--loops: unknown 'v2.0'; choose from v0.5, v1.0, v1.5"),
    (["--refit-every", "0"], "expected 1 or more")])
def test_mistakes_of_the_command_line_are_one_line(words, expected, capsys):
    assert loops.main(words) == 2
    assert expected in capsys.readouterr().err
