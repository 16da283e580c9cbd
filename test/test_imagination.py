"""Methods beside their parents: differences of pairs, what a run needed, and what the command leaves."""
from __future__ import annotations

import json
import time

import numpy as np
import pytest

from mbrl_ros.trainers import imagination, tabular_study
from mbrl_ros.trainers.compared import Curve, Method, Task, earned, median, needed, row
from mbrl_ros.trainers.tabular_study import TASKS, Paced, pendulum

TASK = Task(-2.0, 2, "minus something", "0-1")


def curve(*returns):
    return Curve([10 * (i + 1) for i in range(len(returns))], list(returns))


def test_a_run_has_its_last_returns_and_the_trial_that_reached_the_goal():
    assert earned(TASK, curve(-9.0, -3.0, -1.0)) == -2.0
    assert needed(TASK, curve(-9.0, -2.0, -5.0)) == 2.0 and needed(TASK, curve(-9.0, -3.0)) == 3.0


def test_differences_are_those_of_pairs():
    """Seeds differ by 100, a method from its parent by 1 in every one: the interval is a point; none without pairs."""
    before = {s: curve(-9.0, -100.0 * s - 3) for s in range(5)}
    runs = {s: curve(-9.0, -100.0 * s - 1) for s in range(6)}  # the sixth has no partner
    one = row("child", "parent", "task", TASK, runs, before)
    assert one["difference_low"] == one["difference_high"] == pytest.approx(1.0)
    assert one["seeds"] == list(range(6)) and one["return_worst"] == -255.0 and one["steps"] == 20
    assert one["parent_median"] == np.median([-6.0, -56.0, -106.0, -156.0, -206.0])
    assert one["trials_to_goal"] == [2.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    assert one["trials_difference_low"] == -0.6 and one["trials_difference_high"] == 0.0  # only of seed 0: 2, not 3
    alone = row("child", "parent", "task", TASK, runs, {})
    assert alone["parent_median"] is alone["difference_low"] is None


def test_the_middle_goes_as_far_as_all_runs_do():
    long, short = {"steps": [1, 2, 3], "returns": [0.0, 1.0, 2.0]}, {"steps": [3, 4], "returns": [2.0, 3.0]}
    steps, returns = median([long, short])
    assert steps.tolist() == [2.0, 3.0] and returns.tolist() == [1.0, 2.0]


def test_the_command_leaves_rows_and_a_figure(tmp_path, monkeypatch, capsys):
    methods = {"old": Method({"maze": lambda seed, keep: curve(-30.0 - seed, -25.0)}),
               "new": Method({"maze": lambda seed, keep: curve(-20.0 - seed, -15.0)}, "old")}
    monkeypatch.setattr(imagination, "METHODS", methods)
    words = ["--only", "maze", "--methods", "old,new", "--seeds", "100-102", "--jobs", "0", "--output", str(tmp_path)]
    assert imagination.main(words) == 0
    folder, = tmp_path.iterdir()
    rows = json.loads((folder / "dyna.json").read_text())["rows"]
    assert [r["method"] for r in rows] == ["old", "new"] and (folder / "dyna.png").stat().st_size > 1000
    assert rows[1]["difference_low"] == rows[1]["difference_high"] == 10.0 and len(rows[1]["curves"]) == 3
    assert {"method", "parent", "task", "seeds", "steps", "return_median", "return_worst", "parent_median",
            "difference_low", "difference_high", "seconds"} <= set(rows[0])
    assert capsys.readouterr().out.count("| maze |") == 2


def counted(monkeypatch, tmp_path):
    """A method that writes a line for every run that is really done, in whatever process, and its file of seed 101
    fails the first time."""
    log = tmp_path / "log"

    def run(seed, keep=None):
        with log.open("a") as file:
            file.write(f"{seed}\n")
        if seed == 101 and log.read_text().count("101") == 1:
            keep.write_bytes(b"what it came to")
            raise KeyboardInterrupt
        return Curve([10], [float(seed)], {"found": float(keep.exists())})
    monkeypatch.setattr(imagination, "METHODS", {"one": Method({"maze": run})})
    return log


def test_a_run_goes_on_with_what_has_been_done(monkeypatch, tmp_path, capsys):
    log, words = counted(monkeypatch, tmp_path), ["--only", "maze", "--methods", "one", "--jobs", "0"]
    with pytest.raises(KeyboardInterrupt):
        imagination.main([*words, "--seeds", "100-102", "--output", str(tmp_path / "runs")])
    folder, = (tmp_path / "runs").iterdir()
    assert imagination.main(["--resume", str(folder), "--jobs", "0"]) == 0
    assert log.read_text().split() == ["100", "101", "101", "102"]
    row, = json.loads((folder / "dyna.json").read_text())["rows"]
    assert row["seeds"] == [100, 101, 102] and [c["found"] for c in row["curves"]] == [0.0, 1.0, 0.0]
    assert not list((folder / "parts").glob("*.checkpoint"))
    capsys.readouterr()
    assert imagination.main(["--resume", str(tmp_path)]) == 2
    assert "nothing to go on with" in capsys.readouterr().err


def test_every_parent_is_a_method_and_every_task_is_known():
    for name, method in imagination.METHODS.items():
        assert method.runs and set(method.runs) <= set(imagination.TASKS), name
        assert method.parent is None or method.parent in imagination.METHODS


@pytest.mark.parametrize(("words", "expected"), [
    (["--only", "chess"], "--only: unknown 'chess'; choose from maze,"),
    (["--only", "maze", "--methods", "magic"], "--methods: unknown 'magic'; choose from q_learning,"),
])
def test_mistakes_are_one_line(words, expected, capsys):
    assert imagination.main(words) == 2
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1


@pytest.mark.slow
def test_a_pendulum_in_the_ring_is_swung_up_with_backups_and_can_be_repeated(monkeypatch):
    monkeypatch.setattr(tabular_study, "TRIALS", 10)
    found = pendulum(5)(100)
    assert max(found.returns) > TASKS["pendulum"].goal > found.returns[0]
    assert found.figures["backups"] > 0.9 * 5 * found.steps[-1]
    monkeypatch.setattr(tabular_study, "TRIALS", 2)
    first, again = pendulum(5)(101), pendulum(5)(101)
    assert first.returns == again.returns and first.figures == again.figures


def test_a_plant_with_the_clock_is_never_early():
    class Plant:
        def step(self, effort):
            return effort
    began, paced = time.monotonic(), Paced(Plant(), 0.01)
    assert [paced.step(i) for i in range(10)] == list(range(10))
    assert time.monotonic() - began >= 0.0999


@pytest.mark.slow
def test_in_real_time_backups_are_made_beside(monkeypatch):
    monkeypatch.setattr(tabular_study, "TRIALS", 1)
    monkeypatch.setattr(tabular_study, "SECONDS", 1.0)
    found = tabular_study.pendulum(0, beside=True)(100)
    assert found.seconds >= 1.0 and found.figures["backups"] > 0 and found.figures["act_ms_p50"] > 0
