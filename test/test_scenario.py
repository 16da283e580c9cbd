"""What is counted: recovery on constructed errors, and figures of a path without end."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make

from mbrl_ros.evaluation.measures import Config, config_of, recovery_time, score_cycle

PERIOD = 0.02
BEFORE = np.full(300, 1e-3)  # a level of 1 mm: 1.5 mm is back


def after(*parts):
    """(seconds, millimetres) in a row, after the change."""
    return np.concatenate([BEFORE, *(np.full(round(s / PERIOD), 1e-3 * mm) for s, mm in parts)])


@pytest.mark.parametrize("parts, expected", [
    ([(3.0, 1.4)], 0.0),  # never left
    ([(0.8, 5.0), (2.0, 1.0)], 0.8),
    ([(0.2, 1.0), (0.6, 5.0), (2.0, 1.2)], 0.8),  # its effect begins later
    ([(0.4, 5.0), (0.2, 1.0), (0.4, 5.0), (1.0, 1.0)], 1.0),  # back for too short a time
    ([(1.4, 1.0), (0.5, 5.0), (1.0, 1.0)], 0.0),  # too late to be its effect
    ([(2.0, 5.0)], np.inf),
    ([(2.0, 5.0), (0.2, 1.0)], np.inf),
    ([(0.4, 5.0), (0.02, np.inf)], np.inf),  # diverged
])
def test_recovery_by_hand(parts, expected):
    assert recovery_time(after(*parts), len(BEFORE), PERIOD) == pytest.approx(expected)


def test_only_the_last_seconds_before_the_change_are_its_measure():
    error = after((0.8, 5.0), (1.0, 1.0))
    error[:90] = 1.0  # more than four seconds before
    assert recovery_time(error, len(BEFORE), PERIOD) == pytest.approx(0.8)


def test_the_level_is_a_moving_mean_and_not_one_outlier():
    error = after((0.8, 3.0), (1.0, 1.0))
    error[250] = 4e-3  # alone in 0.3 s: sqrt((14 + 16) / 15) = 1.4 mm, hence 2.1 mm is back
    assert recovery_time(error, len(BEFORE), PERIOD) == pytest.approx(0.8)


def test_a_cycle_is_scored_over_all_of_it():
    robot = make()
    tool = np.zeros((100, 3))
    tool[10, 1] = 0.007
    result = score_cycle(robot, tool, np.zeros((100, 3)), np.zeros((100, 2)))
    assert result.median_mm == 0.0 and result.worst_mm == pytest.approx(7.0)
    assert result.cost == pytest.approx(1e3 * 0.007**2 * PERIOD)


def test_a_robot_file_may_say_its_payload_and_the_caller_wins():
    settings = {"scenario": {"payload": 0.2, "targets": 3}}
    assert config_of(settings, {"targets": 5}) == Config(targets=5, payload=0.2)
