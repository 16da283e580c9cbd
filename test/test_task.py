"""The cost against finite differences and by hand; the path by its boundary values."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from arms import double_integrator, make, settings

from mbrl_ros.config import ConfigError
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task import NORMS, RESIDUALS
from mbrl_ros.task.path import FADE, FigureEight, MinimumJerk, Motion
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.task.residuals import Curved, Window
from mbrl_ros.task.task import Task
from mbrl_ros.types import QuadraticCost

CPU = torch.device("cpu")


def window(robot, steps=4, seed=0):
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal
    return Window(draw((steps + 1, 3)), draw((steps + 1, 3)), draw((steps + 1, robot.m)), draw(robot.m), draw(3),
                  np.eye(3), draw(robot.m))


def at_rest(robot, steps, effort_mean=None):
    """A window about zero."""
    zero = np.zeros((steps + 1, 3))
    return Window(zero, zero, np.zeros((steps + 1, robot.m)), np.zeros(robot.m) if effort_mean is None else effort_mean,
                  np.zeros(3), np.eye(3), np.zeros(robot.m))


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


@pytest.mark.parametrize("norm", ["quadratic", "smooth_abs", "dead_zone"])
@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
def test_a_cost_alone_is_that_of_its_expansion_in_torch_and_in_numpy(norm, batch):
    """For one trajectory and for batches; the constant of the expansion about a trajectory is there to tell."""
    robot, steps = make(), 4
    task = Task({"terms": ["tool", "effort", "limits"], "tool": {"norm": norm, "width": 0.1, "weight": 3.0},
                 "effort": {"residual": "effort"}, "limits": {"residual": "joint_range", "norm": norm, "width": 0.2}},
                robot)
    rng = np.random.default_rng(5)
    x, u = rng.standard_normal((*batch, steps + 1, robot.n)), rng.standard_normal((*batch, steps, robot.m))
    torch_cost, numpy_cost = (task.cost(window(robot, steps), device) for device in (torch.device("cpu"), None))
    value = torch_cost.evaluate(torch.as_tensor(x), torch.as_tensor(u))
    in_numpy = numpy_cost.evaluate(x, u)
    assert value.shape == np.shape(in_numpy) == batch and not isinstance(in_numpy, torch.Tensor)
    quadratic = torch_cost.quadratize(torch.as_tensor(x), torch.as_tensor(u))
    expanded = Quadratic(quadratic)
    assert np.allclose(value, in_numpy, rtol=1e-12)
    assert np.allclose(value, expanded.evaluate(torch.as_tensor(x), torch.as_tensor(u)), rtol=1e-10)
    as_numpy = Quadratic(QuadraticCost(*(a.numpy() for a in vars(quadratic).values())))
    assert np.allclose(value, as_numpy.evaluate(x, u), rtol=1e-10)


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
    cost = task.cost(at_rest(robot, 1), CPU)
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
    cost = task.cost(at_rest(robot, 1), CPU)
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
    cost = task.cost(at_rest(robot, 3), CPU)
    x, u = torch.zeros(4, robot.n, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    x[:, robot.slice("site/tool/position").start] = 1.0
    assert float(cost.evaluate(x, u)) == pytest.approx(4.0 * (3 + 5))


def test_constant_effort_at_its_mean_is_free():
    """Without gravity compensation the arm rests under effort; that must not pull it off the target."""
    robot = make()
    task = Task({"terms": ["effort", "change"], "effort": {"residual": "effort"},
                 "change": {"residual": "effort_change"}}, robot)
    mean = np.array([3.0, -2.0])
    cost = task.cost(at_rest(robot, 2, mean), CPU)
    x, u = torch.zeros(3, robot.n, dtype=torch.float64), torch.as_tensor(mean).expand(2, 2)
    x[:, robot.slice("effort/1")] = torch.as_tensor(mean)
    assert float(cost.evaluate(x, u)) == pytest.approx(0.0, abs=1e-20)


def test_minimum_jerk_starts_and_ends_at_rest_and_its_velocity_is_its_derivative():
    path = Motion(MinimumJerk(shortest=1.2), np.zeros(3), np.array([0.3, -0.1, 0.2]), 10_000_000_000)
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
    path = task.path_to(start + np.array([0.1, -0.2, 0.1]), start, 0, robot.home)
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
    ({"terms": ["tool"]}, r"task\.effort: unknown setting; task has terms, path, target, tool"),
    ({"terms": ["tool", "tol"]}, r"task\.tol: expected the settings of this term"),
    ({"tool": 3.0}, r"task\.tool: expected a group of settings, got 3.0"),
    ({"tool": {"norm": "dead_zone", "width": 0.0}}, r"task\.tool\.width: expected a value from 1e-06"),
    ({"tool": {"residual": "tool_orientation", "rpy": [0.0]}}, r"task\.tool\.rpy: expected 3 angles \[rad\], got 1"),
    ({"tool": {"residual": "keep_out_sphere", "center": [0.0]}}, r"task\.tool\.center: expected 3 coordinates"),
    ({"tool": {"residual": "keep_out_plane", "normal": [0.0, 0.0, 0.0]}}, r"task\.tool\.normal: expected a direction"),
    ({"path": {"shortest": 2.0, "longest": 1.0}}, r"task\.path\.shortest: expected at most longest"),
])
def test_errors_name_what_was_expected(change, expected):
    with pytest.raises(ConfigError, match=expected):
        Task({**settings()["task"], **change}, make())


def eight(frequency=0.5):
    path = FigureEight(frequency=frequency, width=0.12, height=0.08)
    return Motion(path, np.array([0.05, 0.0, 0.02]), np.zeros(3), 1_000_000_000)


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
        Task({**settings()["task"], "path": {"kind": "figure_eight", "across": [0.0, 0.0]}}, make())


def test_settings_of_kinds_that_are_not_chosen_wait_until_one_is():
    """planar2's file says how wide an eight is, whatever the task; and a norm can be put in place of another."""
    s = settings(task={"limits": {"norm": "quadratic"}})["task"]
    task = Task(s, make())
    assert s["path"]["width"] == 0.06 and isinstance(task.path, MinimumJerk)
    assert Task({**s, "path": {**s["path"], "kind": "figure_eight"}}, make()).path.width == 0.06
    assert np.isinf(task.cost(window(make()), None).width[-8]) and s["limits"]["width"] == 0.85


def plans(planner, task, robot, target):
    """The tool at the end of a plan on joints that are integrators, after ten periods of replanning."""
    model = double_integrator(robot)
    x, plan = np.zeros(robot.n), None
    x[: robot.m], x[robot.slice("site/tool/position")] = robot.home, robot.tool_position(robot.home)
    path = task.path_to(target, robot.tool_position(robot.home), 0, robot.home)
    bound = np.tile(robot.effort_limit, (20, 1))
    for step in range(10):
        w = task.window(path, step * round(robot.period * 1e9), x[: robot.m], 20, np.zeros(robot.m))
        plan = planner.plan(Problem(x, model, task.cost(w, None), -bound, bound), plan)
        x = plan.states[1]
    return plan


@pytest.mark.filterwarnings("ignore:ilqr")
def test_a_norm_without_a_code_costs_the_same_in_the_torch_planner(monkeypatch):
    """Quadratic once by its code and once as a norm that the kernel does not know, on affine residuals."""
    @dataclass(frozen=True)
    class Squares:
        def value(self, r):
            return 0.5 * r * r

        def slope(self, r):
            return r

        def curvature(self, r):
            return torch.ones_like(r)

    monkeypatch.setitem(NORMS, "squares", Squares)
    robot = make()
    target = robot.tool_position(robot.home) + np.array([0.1, 0.0, 0.1])
    tasks = [Task(settings(task={"tool": {"norm": norm}, "effort_change": {"norm": norm}})["task"], robot)
             for norm in ("quadratic", "squares")]
    found = [plans(Ilqr(), task, robot, target) for task in tasks]
    assert np.allclose(found[0].efforts, found[1].efforts, rtol=0, atol=1e-8)
    assert found[0].cost == pytest.approx(found[1].cost, rel=1e-9)


def test_the_planner_says_once_for_which_terms_it_is_not_compiled(monkeypatch):
    @dataclass(frozen=True)
    class Height:
        def on(self, robot):
            return Curved(lambda x, u, w: x[..., robot.slice("site/tool/position")].norm(dim=-1, keepdim=True))

    monkeypatch.setitem(RESIDUALS, "height", Height)
    robot = make("arm")
    s = settings("arm")["task"]
    task = Task({**s, "terms": [*s["terms"], "high"], "high": {"residual": "height"}}, robot)
    planner = Ilqr()
    with pytest.warns(UserWarning, match="ilqr: high: not affine") as said:
        plans(planner, task, robot, robot.tool_position(robot.home))
    assert len(said) == 1


def test_the_window_knows_where_the_tool_is_and_how_it_is_turned():
    robot = make("arm")
    task, q = Task(settings("arm")["task"], robot), robot.home + 0.1
    w = task.window(task.path_to(np.ones(3), np.zeros(3), 0, q), 0, q, 5, np.zeros(7))
    assert np.allclose(w.tool, robot.tool_position(q), atol=1e-14)
    assert np.allclose(w.rotation, robot.orientation(q)[0], atol=1e-14)
