"""What is asked of everything in the registries of the task: derivatives are differences, and paths join their ends."""
from __future__ import annotations

from dataclasses import fields

import arms
import numpy as np
import pytest
import torch

from mbrl_ros.kernels import ilqr as kernel
from mbrl_ros.task import NORMS, PATHS, RESIDUALS
from mbrl_ros.task.cost import CurvedTerm, MixedCost, ResidualCost
from mbrl_ros.task.norms import QuadraticNorm
from mbrl_ros.task.path import Motion
from mbrl_ros.task.residuals import Curved, Window
from mbrl_ros.task.task import Term

STEPS, EPS = 3, 1e-6
NEAR, FAR = np.array([0.1, -0.2, 0.5]), np.array([0.4, 0.1, 0.3])  # where a path begins, and its goal


def make(name):
    """A robot with an object, so that residuals of objects have one."""
    return arms.make(name, objects=["lid"])


def draw(robot, seed=0):
    """A window (tensors), and x (4, n), u (4, m) about home."""
    rng = np.random.default_rng(seed)
    shapes = (STEPS + 1, 3), (STEPS + 1, 3), (STEPS + 1, robot.m), robot.m, 3
    own = robot.m, (STEPS + 1, 3), (3, robot.m), (STEPS + 1, robot.m)
    window = Window(*map(rng.standard_normal, shapes), np.eye(3), *map(rng.standard_normal, own))
    window = window._replace(position=0.05 * window.position, tool=0.05 * window.tool)  # near what is to be kept out of
    x, u = rng.standard_normal((STEPS + 1, robot.n)), rng.standard_normal((STEPS + 1, robot.m))
    x[:, : robot.m] = robot.home + 0.5 * x[:, : robot.m]
    return window, torch.as_tensor(x), torch.as_tensor(u)


def curved(kind, robot, window):
    """A residual as a function, also where it is affine, or is in this window."""
    residual = RESIDUALS[kind]().on(robot)
    return residual if isinstance(residual, Curved) else residual.curved(window)


@pytest.mark.parametrize("name", ["planar2", "arm"])
@pytest.mark.parametrize("kind", RESIDUALS)
def test_the_jacobian_of_a_residual_is_its_difference(kind, name):
    robot = make(name)
    window, x, u = draw(robot)
    residual, tensors, n = curved(kind, robot, window), window.tensors(), robot.n
    z = torch.cat([x, u], -1)
    r, J = residual.value(x, u, tensors), residual.jacobian(x, u, tensors)
    J = J.expand(*r.shape, z.shape[-1])
    for a in range(z.shape[-1]):
        step = torch.zeros_like(z)
        step[:, a] = EPS
        ahead, behind = (residual.value((z + s)[:, :n], (z + s)[:, n:], tensors) for s in (step, -step))
        assert float(((ahead - behind) / (2 * EPS) - J[..., a]).abs().max()) < 1e-6 * (1 + float(J.abs().max()))


@pytest.mark.parametrize("kind", RESIDUALS)
def test_a_residual_of_a_batch_is_that_of_each(kind):
    robot = make("arm")
    window, x, u = draw(robot)
    residual, tensors = curved(kind, robot, window), window.tensors()
    more = draw(robot, 1)[1:]
    batch = residual.value(torch.stack([x, more[0]]), torch.stack([u, more[1]]), tensors)
    for one, (x_i, u_i) in zip(batch, ((x, u), more), strict=True):
        assert torch.allclose(one, residual.value(x_i, u_i, tensors), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", RESIDUALS)
def test_a_residual_that_does_not_use_the_effort_says_so(kind):
    robot = make("arm")
    window, x, u = draw(robot)
    residual, tensors = curved(kind, robot, window), window.tensors()
    moved = not torch.equal(residual.value(x, u, tensors), residual.value(x, u + 1.0, tensors))
    assert moved == RESIDUALS[kind]().on(robot).uses_effort


@pytest.mark.parametrize("kind", RESIDUALS)
def test_the_gradient_of_a_term_is_its_difference_and_its_expansion_positive_semidefinite(kind):
    robot = make("arm")
    window, x, u = draw(robot)
    rows = ResidualCost(torch.empty(0, robot.n + robot.m, dtype=torch.float64), *[torch.empty(STEPS + 1, 0)] * 2,
                        torch.empty(0), torch.empty(0, dtype=torch.bool))
    scale = np.array([[1.0], [2.0], [3.0], [0.5]])
    cost = MixedCost(rows, (CurvedTerm("it", curved(kind, robot, window), QuadraticNorm(), scale),), window)
    u = u[:-1]
    q = cost.quadratize(x, u)
    z = torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)
    gradient = (q.C @ z.unsqueeze(-1)).squeeze(-1) + q.c
    d = draw(robot, 2)[1:]
    along = float((gradient * torch.cat([d[0], torch.nn.functional.pad(d[1][:-1], (0, 0, 0, 1))], -1)).sum())
    difference = cost.evaluate(x + EPS * d[0], u + EPS * d[1][:-1]) - cost.evaluate(x - EPS * d[0], u - EPS * d[1][:-1])
    assert along == pytest.approx(float(difference) / (2 * EPS), rel=1e-6, abs=1e-6)
    value = 0.5 * (z.unsqueeze(-2) @ q.C @ z.unsqueeze(-1)).flatten() + (q.c * z).sum(-1) + q.const
    assert float(value.sum()) == pytest.approx(float(cost.evaluate(x, u)), rel=1e-9, abs=1e-9)
    assert float(torch.linalg.eigvalsh(q.C).min()) > -1e-9


@pytest.mark.parametrize("kind", NORMS)
def test_slope_and_curvature_of_a_norm(kind):
    """The slope is the difference of the value; the curvature is no less than that of the slope, and never negative."""
    norm = NORMS[kind]()
    r = torch.linspace(-2.0, 2.0, 4001, dtype=torch.float64) + 3.3e-4  # no kink within EPS of a point
    slope, curvature = norm.slope(r), norm.curvature(r)
    assert torch.allclose((norm.value(r + EPS) - norm.value(r - EPS)) / (2 * EPS), slope, rtol=0,
                          atol=1e-6 * max(1.0, float(slope.abs().max())))
    second = (norm.slope(r + EPS) - norm.slope(r - EPS)) / (2 * EPS)
    assert bool((curvature >= second - 1e-6 * max(1.0, float(curvature.max()))).all()) and bool((curvature >= 0).all())
    assert float(norm.value(torch.zeros(1, dtype=torch.float64))) == 0.0 and bool((norm.value(r) >= 0).all())


@pytest.mark.parametrize("kind", [kind for kind, norm in NORMS.items() if hasattr(norm, "code")])
def test_a_norm_with_a_code_is_that_of_the_kernel(kind):
    norm = NORMS[kind]()
    for r in (-1.3, -0.02, -1e-3, 0.0, 1e-3, 0.02, 1.3):
        at = torch.tensor([r], dtype=torch.float64)
        expected = [float(f(at)) for f in (norm.value, norm.slope, norm.curvature)]
        assert kernel._norm(r, *norm.code) == pytest.approx(expected, rel=1e-14, abs=1e-300)


def test_no_parameter_of_a_term_has_two_owners():
    """Those of a term, of its residual and of its norm are in one group of settings."""
    of = [{f.name for kind in kinds for f in fields(kind)} for kinds in ([Term], RESIDUALS.values(), NORMS.values())]
    assert not of[0] & of[1] and not of[0] & of[2] and not of[1] & of[2]


@pytest.mark.parametrize("kind", [*RESIDUALS.values(), *NORMS.values(), *PATHS.values()])
def test_everything_says_what_it_is_and_what_its_parameters_are(kind):
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")  # so does dataclass where there is none
    assert all(f.metadata["description"] for f in fields(kind))


@pytest.mark.parametrize("kind", PATHS)
def test_the_velocity_of_a_path_is_the_difference_of_its_position(kind):
    path = Motion(PATHS[kind](), NEAR, FAR, 10_000_000_000)
    for time in range(9_000_000_000, 20_000_000_000, 137_000_001):
        ahead, now, behind = path.at(time - round(EPS * 1e9), EPS, 3)[0][::-1]
        assert np.allclose((ahead - behind) / (2 * EPS), path.at(time, 1.0, 1)[1][0], atol=1e-5)
        assert np.linalg.norm(ahead - now) < 1e-4


@pytest.mark.parametrize("kind", PATHS)
def test_a_path_begins_at_rest_where_the_tool_is_and_ends_at_the_goal_or_goes_round(kind):
    kind = PATHS[kind]()
    path = Motion(kind, NEAR, FAR, 10_000_000_000)
    position, velocity = path.at(path.begin, 1.0, 1)
    assert np.allclose(position[0], NEAR, atol=1e-12) and np.allclose(velocity[0], 0.0, atol=1e-12)
    late = path.begin + 600_000_000_000
    if kind.cycle is None:
        position, velocity = path.at(late, 1.0, 1)
        assert np.allclose(position[0], FAR, atol=1e-12) and np.allclose(velocity[0], 0.0, atol=1e-12)
    else:
        (first, again), _ = path.at(late, kind.cycle, 2)
        assert np.allclose(first, again, atol=1e-9)
