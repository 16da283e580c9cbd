"""The camera in the core: where the tool and the goal are in its pictures, and how finely a motion shows."""
from __future__ import annotations

import numpy as np
import pytest
from images import config_of

from mbrl_ros.config import ConfigError
from mbrl_ros.drawing.camera import Config, RobotCamera
from mbrl_ros.robot import Robot


@pytest.fixture(scope="module", params=["planar2", "arm"])
def robot(request):
    return Robot(config_of(request.param))


def postures(robot, count, seed=0):
    rng = np.random.default_rng(seed)
    return robot.home + rng.uniform(-0.6, 0.6, (count, robot.m))


@pytest.mark.parametrize("width", [32, 64])
def test_what_moves_is_in_view_and_what_differs_is_the_robot(robot, width):
    camera = RobotCamera(robot, Config(width=width))
    pictures = np.array([camera.picture(q) for q in postures(robot, 6)])
    assert pictures.shape == (6, width, width, 3) and pictures.dtype == np.uint8
    for q in postures(robot, 20, seed=1):
        column, row, _ = camera.view.project(robot.tool_position(q))
        assert -1 < column < width + 1 and -1 < row < width + 1
    changed = (np.ptp(pictures.astype(int), axis=0) > 8).any(-1)
    assert 0.05 < changed.mean() < 0.9
    assert np.array_equal(pictures[0], RobotCamera(robot, Config(width=width)).picture(postures(robot, 1)[0]))


def test_the_goal_is_where_it_is_projected_and_gray_is_how_bright_colors_are(robot):
    goal = robot.tool_position(robot.home + 0.5)
    seen = RobotCamera(robot, Config(width=64, goal=tuple(goal)))
    q = postures(robot, 1)[0]
    with_goal = seen.picture(q).astype(float)
    red = with_goal[..., 0] - with_goal[..., 2]
    column, row, _ = seen.view.project(goal)
    at = np.argwhere(red > 0.6 * red.max())
    assert np.abs(at.mean(0) + 0.5 - [row, column]).max() < 1.5
    gray = RobotCamera(robot, Config(width=64, goal=tuple(goal), color=False)).picture(q)[..., 0]
    assert np.abs(gray - with_goal @ [0.299, 0.587, 0.114]).max() < 1.0


def test_a_motion_by_a_tenth_of_a_pixel_shows():
    robot = Robot(config_of("planar2"))
    camera = RobotCamera(robot, Config(width=32, color=False))
    before, after = (camera.view.project(robot.tool_position(robot.home + dq))[:2] for dq in (0.0, 0.004))
    assert 0.02 < np.linalg.norm(after - before) < 0.2  # [px]
    assert (camera.picture(robot.home) != camera.picture(robot.home + 0.004)).sum() >= 3


def test_settings_that_make_no_sense_are_refused():
    robot = Robot(config_of("planar2"))
    with pytest.raises(ConfigError, match=r"camera\.width: expected"):
        RobotCamera(robot, Config())
    with pytest.raises(ConfigError, match=r"camera\.goal: expected 3"):
        Config(goal=(1.0,))
