"""The cost against finite differences and by hand; the path by its boundary values."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import make, settings

from mbrl_ros.config import ConfigError
from mbrl_ros.task.path import FADE, MinimumJerk, Path, plan_path
from mbrl_ros.task.residuals import Window
from mbrl_ros.task.task import Task

CPU = torch.device("cpu")


def window(robot, steps=4, seed=0):
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal
    return Window(draw((steps + 1, 3)), draw((steps + 1, 3)), draw((steps + 1, robot.m)), draw(robot.m))


def trajectory(robot, steps=4, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(steps + 1, robot.n, generator=rng, dtype=torch.float64),
            torch.randn(steps, robot.m, generator=rng, dtype=torch.float64))


def test_quadratic_expansion_is_exact_for_quadratic_norms():
    robot = make()
    cost = Task(settings()["task"], robot).cost(window(robot), CPU)
    x, u = trajectory(robot)
    q = cost.quadratize(*trajectory(robot, seed=2))
    xu = torch.cat([x, torch.cat([u, torch.zeros(1, robot.m, dtype=torch.float64)])], -1)
    by_hand = (0.5 * torch.einsum("ti,tij,tj->t", xu, q.C, xu) + (q.c * xu).sum(-1) + q.const).sum()
    assert float(cost.evaluate(x, u)) == pytest.approx(float(by_hand), rel=1e-10)


def test_smooth_abs_gradient_is_the_finite_difference_and_curvature_is_positive():
    robot = make()
    s = settings(task={"terms": ["tool"], "tool": {"residual": "site_position", "norm": "smooth_abs", "width": 0.3}})
    task = {k: v for k, v in s["task"].items() if k in ("terms", "tool", "path")}
    cost = Task(task, robot).cost(window(robot), CPU)
    x, u = trajectory(robot)
    q = cost.quadratize(x, u)
    gradient = (q.C[..., : robot.n, : robot.n] @ x.unsqueeze(-1)).squeeze(-1) + q.c[..., : robot.n]
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eps = 1e-6
    difference = (cost.evaluate(x + eps * direction, u) - cost.evaluate(x - eps * direction, u)) / (2 * eps)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-7)
    assert float(torch.linalg.eigvalsh(q.C).min()) > -1e-9


def test_joint_speed_range_is_in_units_of_the_limits():
    """planar2's joints are limited to 4 rad/s."""
    robot = make()
    task = Task({"terms": ["v"], "v": {"residual": "joint_speed_range", "norm": "dead_zone", "width": 0.75}}, robot)
    zero = np.zeros((2, 3))
    cost = task.cost(Window(zero, zero, np.zeros((2, 2)), np.zeros(2)), CPU)
    x, u = torch.zeros(2, robot.n, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    x[0, robot.slice("joint/velocity")] = torch.tensor([3.0, -2.0], dtype=torch.float64)
    assert float(cost.evaluate(x, u)) == 0.0
    x[1, robot.slice("joint/velocity")] = torch.tensor([5.0, -6.0], dtype=torch.float64)
    assert float(cost.evaluate(x, u)) == pytest.approx(0.5 * (0.5**2 + 0.75**2))


@pytest.mark.parametrize("position, expected", [(0.0, 0.0), (0.79, 0.0), (1.0, 0.5 * 0.2**2), (-1.5, 0.5 * 0.7**2)])
def test_joint_range_costs_nothing_inside_and_grows_beyond_the_dead_zone(position, expected):
    """planar2's shoulder goes from -3.1 to 3.1 rad: position is in units of that; gradient by finite difference."""
    robot = make()
    task = Task({"terms": ["limits"], "limits": {"residual": "joint_range", "norm": "dead_zone", "width": 0.8}}, robot)
    zero = np.zeros((2, 3))
    cost = task.cost(Window(zero, zero, np.zeros((2, 2)), np.zeros(2)), CPU)
    x, u = torch.zeros(2, robot.n, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    x[0, 0] = 3.1 * position
    assert float(cost.evaluate(x, u)) == pytest.approx(expected)
    step = torch.zeros_like(x)
    step[0, 0] = 1e-6
    difference = (cost.evaluate(x + step, u) - cost.evaluate(x - step, u)) / 2e-6
    q = cost.quadratize(x, u)
    assert float(q.C[0, 0, 0] * x[0, 0] + q.c[0, 0]) == pytest.approx(float(difference), abs=1e-8)


def test_one_metre_off_costs_half_the_weight_at_each_step_and_more_at_the_end():
    robot = make()
    task = Task({"terms": ["tool"], "tool": {"residual": "site_position", "weight": 8.0, "terminal": 5.0}}, robot)
    zero = np.zeros((4, 3))
    cost = task.cost(Window(zero, zero, np.zeros((4, 2)), np.zeros(2)), CPU)
    x, u = torch.zeros(4, robot.n, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    x[:, robot.slice("site/tool/position").start] = 1.0
    assert float(cost.evaluate(x, u)) == pytest.approx(4.0 * (3 + 5))


def test_constant_effort_at_its_mean_is_free():
    """Without gravity compensation the arm rests under effort; that must not pull it off the target."""
    robot = make()
    task = Task({"terms": ["effort", "change"], "effort": {"residual": "effort"},
                 "change": {"residual": "effort_change"}}, robot)
    mean = np.array([3.0, -2.0])
    cost = task.cost(Window(np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 2)), mean), CPU)
    x, u = torch.zeros(3, robot.n, dtype=torch.float64), torch.as_tensor(mean).expand(2, 2)
    x[:, robot.slice("effort/1")] = torch.as_tensor(mean)
    assert float(cost.evaluate(x, u)) == pytest.approx(0.0, abs=1e-20)


def test_minimum_jerk_starts_and_ends_at_rest_and_its_velocity_is_its_derivative():
    path = MinimumJerk(np.zeros(3), np.array([0.3, -0.1, 0.2]), 10_000_000_000, 1.2)
    position, velocity = path.at(9_000_000_000, 0.001, 4000)
    assert np.allclose(position[:1000], 0) and np.allclose(position[2300:], path.goal)
    assert np.allclose(velocity[[0, -1]], 0)
    assert np.allclose(np.gradient(position, 0.001, axis=0)[1:-1], velocity[1:-1], atol=2e-3)


def test_slowness_is_a_factor_on_the_price_of_effort_changes_alone():
    robot = make()
    x, u = trajectory(robot)

    def cost(slowness, weight):
        task = Task(settings(task={"effort_change": {"weight": weight}})["task"], robot)
        return float(task.cost(window(robot), CPU, slowness).evaluate(x, u))

    assert cost(4.0, 3.0) == pytest.approx(cost(1.0, 12.0), rel=1e-12) and cost(4.0, 0.0) == cost(1.0, 0.0)


def test_joint_speeds_of_the_window_move_the_tool_along_the_path():
    robot = make("arm")
    task = Task(settings("arm")["task"], robot)
    start = robot.tool_position(robot.home)
    path = task.path_to(start + np.array([0.1, -0.2, 0.1]), start, 0)
    window = task.window(path, 300_000_000, robot.home, 10, np.zeros(7))
    J = robot.kinematics(robot.home, np.zeros(7))[1][:3, :7]
    moved = window.joint_velocity @ J.T
    assert np.linalg.norm(moved - window.velocity, axis=1).max() < 0.1 * np.linalg.norm(window.velocity, axis=1).max()
    null = np.linalg.svd(J)[2][3:]  # motions that the tool does not show
    assert np.allclose(window.joint_velocity @ null.T, 0.0, atol=1e-12)


@pytest.mark.parametrize("change, expected", [
    ({"terms": []}, "task.terms: expected a list"),
    ({"tool": {"residual": "tip"}}, r"task\.tool\.residual: unknown 'tip'; choose one of site_position"),
    ({"tool": {"weight": -1.0}}, r"task\.tool\.weight: expected a value from 0.0"),
    ({"tool": {"residual": "site_position", "site": "hand"}}, "no block 'site/hand/position'"),
    ({"tol": {"weight": 1.0}}, r"task\.tol: unknown setting"),
])
def test_errors_name_what_was_expected(change, expected):
    with pytest.raises(ConfigError, match=expected):
        Task({**settings()["task"], **change}, make())


def eight(frequency=0.5):
    config = Path(kind="figure_eight", frequency=frequency, width=0.12, height=0.08)
    return plan_path(config, np.zeros(3), np.array([0.05, 0.0, 0.02]), 1_000_000_000)


def test_the_eight_is_closed_and_begins_at_rest_where_the_tool_is():
    path = eight()
    begin = path.begin
    position, velocity = path.at(begin, 0.001, 5000)
    assert np.allclose(position[0], path.start) and np.allclose(velocity[0], 0)
    faded = round(FADE / 0.001)
    assert np.allclose(position[faded : faded + 1000], position[faded + 2000 : faded + 3000])  # a cycle is 2 s
    assert np.allclose(np.abs(position[faded:]).max(0), [0, 0.12, 0.08], atol=1e-6)
    assert np.allclose(position[2000], path.goal, atol=1e-9)  # it crosses its centre


def test_the_velocity_of_the_eight_is_its_derivative_also_while_it_fades_in():
    position, velocity = eight().at(0, 0.001, 5000)
    assert np.allclose(np.gradient(position, 0.001, axis=0)[1:-1], velocity[1:-1], atol=1e-4)


def test_an_eight_without_direction_is_refused():
    with pytest.raises(ConfigError, match=r"task\.path\.across: expected a direction of 3 numbers, got \[0.0, 0.0\]"):
        Task({**settings()["task"], "path": {"across": [0.0, 0.0]}}, make())
