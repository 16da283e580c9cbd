"""What is wrong with effort readings is named; what is right is not."""
from __future__ import annotations

import re

import numpy as np
import pytest
from arms import make

from mbrl_ros.ring.reading import EffortReading

ROBOT = make("arm")


def watched(read, seconds=20.0, seed=0):
    """The faults after so much motion of an arm whose drives report read(acted, weight, qd, rng)."""
    robot, rng, reading = ROBOT, np.random.default_rng(seed), EffortReading(ROBOT)
    limit, phase = robot.effort_limit, rng.uniform(0, 6, robot.m)
    for k in range(round(seconds / robot.period)):
        t = k * robot.period
        q = robot.home + 0.3 * np.sin(t + phase)
        qd = 0.3 * np.cos(t + phase)
        acted = limit * (0.05 * np.sin(2.1 * t + phase) + 0.03 * rng.standard_normal(robot.m))
        reading.update(read(acted, robot.weight(q), qd, rng), acted, q, qd)
    return reading


@pytest.mark.parametrize(("read", "words"), [
    (lambda u, g, v, rng: u + 0.05 * ROBOT.effort_limit, "offset 5.0 % of the limit"),
    (lambda u, g, v, rng: u - 0.02 * ROBOT.effort_limit, "offset -2.0 % of the limit"),
    (lambda u, g, v, rng: 1.1 * u, "gain 1.10"),
    (lambda u, g, v, rng: 0.9 * u, "gain 0.90"),
    (lambda u, g, v, rng: u + 0.03 * ROBOT.effort_limit * np.clip(50 * v / ROBOT.velocity_limit, -1, 1),
     "friction 3.0 % of the limit"),
])
def test_a_fault_of_all_joints_is_named_for_each_of_them_and_nothing_else(read, words):
    assert watched(read).faults() == [f"{joint}: {words}" for joint in ROBOT.joints]


def test_the_weight_of_the_links_is_named_where_links_weigh():
    faults = watched(lambda u, g, v, rng: u + g).faults()
    assert faults and all(re.fullmatch(r"joint\d: (1.0\d|0.9\d) of the weight of the links", f) for f in faults)
    assert {line.split(":")[0] for line in faults} >= {"joint2", "joint4"}
    assert not any(line.startswith("joint1:") for line in faults)  # it is upright


def test_faults_come_together():
    faults = watched(lambda u, g, v, rng: 1.1 * u + g + 0.05 * ROBOT.effort_limit).faults()
    said = r"joint2: offset (4.9|5.0|5.1) % of the limit, gain 1.(09|10|11), 1.00 of the weight of the links"
    assert re.fullmatch(said, faults[1])


def test_noise_is_named_by_its_size_and_hides_no_offset_of_a_joint_without_weight():
    """Of the others, offset and weight are hardly two things on this path."""
    read = lambda u, g, v, rng: u + ROBOT.effort_limit * (0.05 + 0.02 * rng.standard_normal(7))  # noqa: E731
    faults = watched(read).faults()
    assert len(faults) == 7 and all("noise 2." in line or "noise 1.9 %" in line for line in faults)
    assert re.match(r"joint1: offset (4.9|5.0|5.1) %", faults[0])


@pytest.mark.parametrize("seed", range(5))
def test_good_readings_have_no_fault_and_nothing_is_said_too_early(seed):
    noisy = lambda u, g, v, rng: u + 0.004 * ROBOT.effort_limit * rng.standard_normal(7)  # noqa: E731
    assert watched(noisy, seed=seed).faults() == []
    assert watched(lambda u, g, v, rng: u + ROBOT.effort_limit, 0.2, seed).faults() == []


def test_what_an_arm_that_stands_still_cannot_tell_apart_is_an_offset():
    robot, reading = ROBOT, EffortReading(ROBOT)
    for _ in range(1000):
        reading.update(0.05 * robot.effort_limit, np.zeros(7), robot.home, np.zeros(7))
    assert reading.faults() == [f"{joint}: offset 5.0 % of the limit" for joint in robot.joints]
