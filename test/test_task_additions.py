"""CONTRIBUTING.md, done: a residual, a norm and a path kind of one file and one line each, and a task of one file."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import test_contract_task as contract
from additions.circle import Circle
from additions.huber import Huber
from additions.keep_out import KeepOut
from arms import make

from mbrl_ros import assembly
from mbrl_ros.config import Names, merge
from mbrl_ros.ring.controller import FAULT, REACH
from mbrl_ros.ring.loop import Ring
from mbrl_ros.simulation.oracle import Oracle
from mbrl_ros.task import NORMS, PATHS, RESIDUALS

ADDITIONS = Path(__file__).parent / "additions"
pytestmark = pytest.mark.filterwarnings("ignore:ilqr")  # says that the sphere is planned with in torch


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The lines: one in mbrl_ros/task/__init__.py for each."""
    monkeypatch.setitem(RESIDUALS, "keep_out", KeepOut)
    monkeypatch.setitem(NORMS, "huber", Huber)
    monkeypatch.setitem(PATHS, "circle", Circle)


def test_the_contracts_hold_for_what_was_added():
    for name in ("planar2", "arm"):
        contract.test_the_jacobian_of_a_residual_is_its_difference("keep_out", name)
    contract.test_a_residual_of_a_batch_is_that_of_each("keep_out")
    contract.test_a_residual_that_does_not_use_the_effort_says_so("keep_out")
    contract.test_the_gradient_of_a_term_is_its_difference_and_its_expansion_positive_semidefinite("keep_out")
    contract.test_slope_and_curvature_of_a_norm("huber")
    contract.test_the_velocity_of_a_path_is_the_difference_of_its_position("circle")


def follow(names, overrides, target, seconds=2.0):
    """The tool (T, 3) and the ring of planar2 on its way to a target, with the true dynamics."""
    parts = assembly.make_parts(assembly.settings(names, overrides), 0)
    oracle, controller = Oracle(parts.plant), parts.controller
    oracle.active = controller.has_model = True
    ring = Ring(parts.plant, parts.estimator, oracle, controller, parts.plant.reset(0))
    controller.set_target(target)
    controller.request(REACH)
    tool = []
    for _ in range(round(seconds / parts.robot.period)):
        tool.append(parts.plant.true_tool())
        ring.tick()
        assert controller.mode != FAULT, controller.reason
    return np.array(tool), controller


def test_the_tool_goes_round_a_sphere_that_a_task_file_adds():
    """Where the straight way leads through it, 4 of its 6 cm deep; and it arrives."""
    robot = make()
    start = robot.tool_position(robot.home)
    target = robot.tool_position(robot.home + np.array([0.5, -0.3]))
    way = (target - start) / np.linalg.norm(target - start)
    center = 0.5 * (start + target) + 0.02 * np.cross(way, [0.0, 1.0, 0.0])
    sphere = {"task": {"sphere": {"center": center.tolist()}}}
    deepest, end, beyond = [], [], []
    for more in ({"weight": 0.0}, {}):
        names = Names("planar2", str(ADDITIONS / "around.yaml"), prior="gaussian")
        tool, controller = follow(names, merge(sphere, {"task": {"sphere": more}}), target, 4.0)
        deepest.append(0.06 - np.linalg.norm(tool - center, axis=1).min())
        end.append(np.linalg.norm(tool[-1] - target))
        task = controller.mpc.task
        window = task.window(task.path_to(target, start, 0, robot.home), 0, robot.home, 5, np.zeros(2))
        beyond.append(task.cost(window, None).beyond)
    assert deepest[0] > 0.035 and deepest[1] < 0.003
    assert max(end) < 0.005 and beyond == ["sphere"] * 2


def test_the_tool_goes_round_a_circle_under_a_norm_that_was_added():
    robot = make()
    overrides = {"task": {"path": {"kind": "circle", "radius": 0.04}, "tool": {"norm": "huber", "corner": 0.05}}}
    tool, controller = follow(Names("planar2", "reach", prior="gaussian"), overrides,
                              robot.tool_position(robot.home), 4.0)
    center = robot.tool_position(robot.home) + np.array([0.0, 0.0, 0.04])
    assert np.abs(np.linalg.norm(tool[50:] - center, axis=1) - 0.04).max() < 0.005
    assert controller.mpc.task.path.cycle == 2.0
