"""The command that lets the ring run for long: it sees what it is meant to see."""
from __future__ import annotations

import numpy as np
import pytest
from arms import settings

from mbrl_ros.evaluation import endurance as evaluate_endurance
from mbrl_ros.evaluation.endurance import MOVING, Tick, compare, size_of
from mbrl_ros.evaluation.procedure import excited
from mbrl_ros.types import Moments


def stretch(error, effort, count=50):
    wave = np.where(np.arange(count) % 2, 1.0, -1.0)
    return [Tick(error, effort + 0.01 * w * np.array([1.0, 2.0]), 0.1, 1.0, 0.5, 5.0) for w in wave]


def test_drift_and_wind_up_are_seen():
    first, last = stretch(0.3, np.array([0.2, -0.4])), stretch(0.9, np.array([0.3, -0.45]))
    rows = {name: ends for name, *ends in compare(first, last, first, last)}
    assert rows["median error at rest [mm]"] == [0.3, 0.9]
    assert rows["mean effort at rest, of the joint with most [% of limit]"] == pytest.approx([40, 45])
    assert rows["... away from its beginning"] == pytest.approx([0, 10])
    assert rows["deviation of effort at rest, of the joint with most [% of limit]"] == pytest.approx([2, 2])


def test_sizes_are_those_of_the_numbers():
    a = np.zeros((10, 3))
    of = Moments(np.zeros(3), np.zeros((3, 3)), 2.0)
    assert size_of({"a": a, "b": [a, (a,)], "c": of, "d": None}) == 3 * a.nbytes + 12 * 8 + 8


def test_the_memory_of_the_learner_is_that_of_its_settings():
    """Three arrays of `learner.memory`, and little else, whether it has learned or not."""
    run, _ = excited(settings("planar2", learner={"memory": 50.0}), 0.2, seed=100)
    kept, _ = evaluate_endurance.memory_of(run)
    robot = run.robot
    transitions = round(50.0 / robot.period) * (2 * len(robot.joint_rows) + robot.m) * 8
    assert transitions < kept * 2**20 < transitions + 20_000
    run.hold(0.4)
    assert evaluate_endurance.memory_of(run)[0] == pytest.approx(kept, rel=0.02)


@pytest.mark.parametrize("words", [["--ways", "walking"], ["--minutes", "0"]])
def test_mistakes_are_one_line(words, capsys):
    assert evaluate_endurance.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_short_run_has_a_table_and_one_that_stops_says_why(capsys):
    words = ["--robot", "planar2", "--prior", "gaussian", "--ways", MOVING, "--minutes", "0.1", "--data-seconds", "5"]
    assert evaluate_endurance.main(words) == 0
    rows = dict(line.strip("| ").split(" | ", 1) for line in capsys.readouterr().out.splitlines()[3:])
    first, last = map(float, rows["median error at rest [mm]"].split(" | "))
    assert 0 < first < 5 and 0 < last < 5
    assert evaluate_endurance.main([*words, "--set", "{controller: {speed_stop: 0.1}}"]) == 1
    assert "the ring stopped | protective stop" in capsys.readouterr().out
