"""Calibration of lengths: linear in the offsets, exact without noise, nothing without readings."""
from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from arms import make

from mbrl_ros import calibrate
from mbrl_ros.config import ConfigError, read
from mbrl_ros.evaluation import calibration
from mbrl_ros.robot import Robot

ARMS = ("planar2", "arm4", "arm6", "arm")


def postures(robot, n, seed=0):
    return robot.home + np.random.default_rng(seed).uniform(-0.8, 0.8, (n, robot.m))


def with_offsets(robot, offsets):
    return Robot(replace(robot.config, link_offsets=tuple(np.ravel(offsets))))


@pytest.mark.parametrize("name", ARMS)
def test_positions_are_linear_in_the_offsets_and_those_of_the_robot_that_has_them(name):
    robot, rng = make(name), np.random.default_rng(1)
    q, d = postures(robot, 6), 0.02 * rng.standard_normal((robot.m + 1, 3))
    there, A = calibrate.positions(robot, q)
    moved = with_offsets(robot, d)
    assert np.allclose(there, [robot.tool_position(at) for at in q], atol=1e-12)
    assert np.allclose(there + A @ d.ravel(), [moved.tool_position(at) for at in q], atol=1e-12)
    assert np.allclose(calibrate.positions(moved, q)[0], [moved.tool_position(at) for at in q], atol=1e-12)


@pytest.mark.parametrize("name", ARMS)
def test_without_noise_the_tool_is_found_everywhere(name):
    robot, rng = make(name), np.random.default_rng(2)
    true = with_offsets(robot, 0.01 * rng.standard_normal((robot.m + 1, 3)))
    q, fresh = postures(robot, 40), postures(robot, 20, seed=1)
    found = calibrate.calibrate(robot, q, calibrate.positions(true, q)[0], noise=1e-7)
    corrected = with_offsets(robot, found.offsets)
    assert found.before.min() > 1e-3 and found.held_out.max() < 1e-6
    assert np.allclose(calibrate.positions(corrected, fresh)[0], calibrate.positions(true, fresh)[0], atol=1e-6)


def test_without_readings_nothing_is_changed_and_with_poor_ones_little():
    robot = make("arm6")
    q = postures(robot, 4)
    nothing = calibrate.calibrate(robot, q[:0], np.empty((0, 3)))
    assert not nothing.offsets.any() and len(nothing.before) == 0
    tool = calibrate.positions(robot, q)[0] + 0.01
    sizes = [np.abs(calibrate.calibrate(robot, q, tool, noise).offsets).max() for noise in (1e-4, 1e-2, 1.0)]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[2] < 1e-4
    assert np.isnan(calibrate.calibrate(robot, q, tool).held_out).all()  # of four readings none can be left out


def test_what_is_known_already_stays():
    robot, rng = make("planar2"), np.random.default_rng(3)
    d = 0.01 * rng.standard_normal((3, 3))
    known = with_offsets(robot, d)
    q = postures(robot, 10)
    found = calibrate.calibrate(known, q, calibrate.positions(known, q)[0])
    assert np.allclose(found.offsets, d, atol=1e-12)


def test_more_readings_leave_less_of_a_percent():
    """The tool of an arm with links of other lengths; 0.5 mm of noise in each reading."""
    error = calibration.measure("arm", 100, [30, 300], 5e-4)
    median = [np.median(error[n]) for n in (0, 30, 300)]
    assert median[0] > 2e-3 and median[1] < 6e-4 and median[2] < 0.6 * median[1]


def test_the_command_reads_a_table_and_writes_parameters(tmp_path, capsys):
    robot = calibrate.robot_of("planar2")
    q, path, out = postures(robot, 10), tmp_path / "readings.csv", tmp_path / "offsets.yaml"
    tool = calibrate.positions(robot, q)[0] + [0.0, 0.0, 0.004]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[*robot.joints, "x", "y", "z"], *np.hstack([q, tool])])
    assert calibrate.main(["planar2", str(path), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "10 readings of the tool: off by 4.00 mm in the median" in said and "link_offsets" in said
    offsets = read(out)["robot"]["link_offsets"]
    assert np.reshape(offsets, (-1, 3)).sum(0)[2] == pytest.approx(0.004, rel=0.02)


@pytest.mark.parametrize(("text", "said"), [
    ("shoulder,x,y,z\n", "elbow is missing"), ("shoulder,elbow,x,y,z\n0,0,0,0,a\n", "line 2: expected numbers"),
    ("shoulder,elbow,x,y,z\n0,0,0,0\n", "line 2: expected numbers"),
    ("shoulder,elbow,x,y,z\n0,0,0,0,nan\n", "finite"), (None, "No such file")])
def test_a_bad_table_is_refused(text, said, tmp_path, capsys):
    path = tmp_path / "readings.csv"
    if text is not None:
        path.write_text(text)
    assert calibrate.main(["planar2", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_offsets_of_another_robot_are_refused():
    with pytest.raises(ConfigError, match=r"link_offsets: expected x, y, z .* 2 joints and the tool, got 3 values"):
        make("planar2", link_offsets=(0.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match="more than 0 m"):
        calibrate.calibrate(make("planar2"), np.zeros((1, 2)), np.zeros((1, 3)), noise=0.0)
