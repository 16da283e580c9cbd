"""Global models over the x of the ring: kinematics in torch, slopes, and commands that come late."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import make
from checks import check_jacobian
from regressions import planar_arm

from mbrl_ros.models.dynamics import linearize, predict_mean
from mbrl_ros.models.kinematics import Kinematics
from mbrl_ros.models.linear import NoModel
from mbrl_ros.models.prior import fit
from mbrl_ros.models.robot_model import RobotModel
from mbrl_ros.ring.delay import Delay
from mbrl_ros.ring.learner import features_of
from mbrl_ros.robot import Config, Robot
from mbrl_ros.types import Gaussian, LinearGaussianDynamics

ROBOTS = ["arm", "arm4", "arm6", "planar2", "pendulum"]
ODD = """<mujoco><worldbody><body pos="0.1 0 0.2" quat="0.8 0.6 0 0"><joint name="rail" type="slide" axis="1 1 0"/>
<geom size="0.1"/><body pos="0 0.3 0"><joint name="a" pos="0.1 0.2 0" axis="0 1 1" ref="0.3"/>
<joint name="b" axis="1 0 0"/><joint name="idle" axis="0 0 1" ref="0.2"/><geom size="0.1"/>
<body name="end" pos="0.2 0 0.1" euler="10 20 30"><geom size="0.1"/></body></body></body>
<body name="post"><geom size="0.1"/></body></worldbody></mujoco>"""


def odd_robot(folder) -> Robot:
    """A slide, two hinges in one body off its origin, a joint nobody drives, zeros that are not zero, a fixed site."""
    (folder / "odd.xml").write_text(ODD)
    limit = (1.0, 1.0, 1.0)
    return Robot(Config(str(folder / "odd.xml"), ("b", "rail", "a"), ("end", "post"), home=limit, effort_limit=limit,
                        velocity_limit=limit, stiffness=limit, damping=limit))


def model_of(kind="ensemble") -> RobotModel:
    """A model of the planar arm."""
    data = planar_arm(400)
    return RobotModel(data.robot, data.features, fit(kind, data, {"ensemble": {"members": 2, "steps": 20}}, 0))


def states(robot, count, seed=0):
    """x (count, n) whose sites are where the joints put them, u (count, m)."""
    rng, m = np.random.default_rng(seed), robot.m
    x = np.zeros((count, robot.n))
    x[:, : 2 * m] = np.tile(robot.home, 2) * np.repeat([1.0, 0.0], m) + 0.3 * rng.standard_normal((count, 2 * m))
    x[:, robot.slice("effort")] = rng.standard_normal((count, m * robot.history))
    for row in x:
        row[2 * m : robot.slice("motion").stop] = robot.kinematics(row[:m], row[m : 2 * m])[0]
    return torch.as_tensor(x), torch.as_tensor(rng.standard_normal((count, m)))


@pytest.mark.parametrize("name", [*ROBOTS, "odd"])
def test_kinematics_are_those_of_the_model_file(name, tmp_path):
    robot, rng = odd_robot(tmp_path) if name == "odd" else make(name), np.random.default_rng(0)
    q, qd = rng.uniform(-3, 3, (2, 3, robot.m)), rng.standard_normal((2, 3, robot.m))
    found = Kinematics(robot)(torch.as_tensor(q), torch.as_tensor(qd)).numpy()
    expected = [[robot.kinematics(*pair)[0] for pair in zip(*rows, strict=True)] for rows in zip(q, qd, strict=True)]
    assert np.allclose(found, expected, atol=1e-12)


def test_it_is_differentiable():
    """Autograd gives what Robot.kinematics gives as G."""
    robot, rng = make("arm"), np.random.default_rng(1)
    z, kinematics = torch.as_tensor(rng.standard_normal(2 * robot.m)), Kinematics(robot)
    J = torch.autograd.functional.jacobian(lambda s: kinematics(s[: robot.m], s[robot.m :]), z)
    assert np.allclose(J.numpy(), robot.kinematics(*np.split(z.numpy(), 2))[1], atol=1e-10)


@pytest.mark.parametrize("late", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["ensemble", "gaussian"])
def test_the_slope_is_that_of_the_mean(kind, late):
    model = model_of(kind=kind).delayed(late)
    n = model.robot.n
    (x, u), site = states(model.robot, 3), model.robot.slice("motion")
    mean, F = model.jacobian(x, u)
    assert torch.allclose(mean, model.mean(x, u), rtol=0, atol=1e-12)
    for i in range(3):
        check_jacobian(lambda z: model.mean(z[:n], z[n:]), torch.cat([x[i], u[i]]), F[i], seed=i)
    assert not F[..., 2 * model.robot.m : site.stop].any()  # nothing follows from where the tool was


def test_it_predicts_what_the_ring_would_make_of_the_regression():
    """Robot.lift of the regression's expansion at a point is `predict` and `jacobian` there."""
    model = model_of()
    robot, (x, u) = model.robot, states(model.robot, 1)
    x, u, features = x[0], u[0], features_of(model.robot)
    w = model.w(x, u)
    y, J = model.regression.jacobian(w)
    local = features.dynamics(J.numpy(), (y - J @ w).numpy(), model.regression.predict(w).cov.numpy())
    lifted = robot.lift(local, x.numpy()[robot.joint_rows], u.numpy())
    p, F = model.predict(x, u), model.jacobian(x, u)[1]
    assert np.allclose(lifted.F @ np.concatenate([x, u]) + lifted.f, p.mean.numpy(), atol=1e-12)
    assert np.allclose(lifted.F, F.numpy(), atol=1e-12) and np.allclose(lifted.Sigma, p.cov.numpy(), atol=1e-12)


def test_late_commands_act_as_in_the_linear_model_of_the_ring():
    """Of a regression that is linear, the delayed model is what Delay makes of its dynamics."""
    robot = make("planar2", effort_history=2)
    features, rng = features_of(robot), np.random.default_rng(3)
    J, f = rng.standard_normal((features.dy, features.dw)), rng.standard_normal(features.dy)
    model, (x, u) = RobotModel(robot, features, _Linear(J, f)).delayed(0.25), states(robot, 1, seed=4)
    delay = Delay(robot, given=0.25)
    delay.record(x[0, robot.slice("effort/1")].numpy())
    at = robot.lift(features.dynamics(J, f, np.zeros((4, 4))), x[0].numpy()[robot.joint_rows],
                    0.75 * u[0].numpy() + 0.25 * x[0, robot.slice("effort/1")].numpy())
    linear = delay.compensate(x[0].numpy(), at)[2]
    assert isinstance(linear, LinearGaussianDynamics)
    expected = linear.F @ np.concatenate([x[0], u[0]]) + linear.f
    assert np.allclose(model.mean(x, u)[0].numpy(), expected, atol=1e-10)
    assert np.allclose(model.jacobian(x, u)[1][0].numpy(), linear.F, atol=1e-10)


class _Linear:
    """y = J w + f."""

    def __init__(self, J, f):
        self.J, self.f, self.w_scale = torch.as_tensor(J), torch.as_tensor(f), torch.ones(J.shape[-1])

    def mean(self, w):
        return (self.J @ w.unsqueeze(-1)).squeeze(-1) + self.f

    def jacobian(self, w):
        return self.mean(w), self.J.expand(*w.shape[:-1], *self.J.shape)


def test_a_regression_that_knows_nothing_leaves_the_joints_where_they_are():
    robot, one = make("arm"), torch.ones(14, dtype=torch.float64)
    model = RobotModel(robot, features_of(robot), NoModel(0 * one, one, torch.ones(21, dtype=torch.float64)))
    x, u = states(robot, 2)
    after = model.predict(x, u)
    assert isinstance(after, Gaussian)
    motion = robot.slice("motion")
    assert torch.allclose(after.mean[:, motion], x[:, motion], rtol=0, atol=1e-12)
    assert torch.equal(after.mean[:, robot.slice("effort")], u)


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_corrected_it_is_the_local_dynamics_where_these_were_fitted_and_bends_as_before_elsewhere(late):
    """With its own tangent it is itself everywhere."""
    model, rng = model_of(), np.random.default_rng(5)
    robot = model.robot
    (x, far), (u, v) = (a for a in states(robot, 2, seed=6))
    itself = linearize(model, x, u)
    assert torch.allclose(model.corrected(itself, x, u).mean(far, v), model.mean(far, v), atol=1e-10)
    n, m, fit = robot.n, robot.m, 2 * robot.m
    F, f = itself.F.clone(), itself.f.clone()
    F[:fit, [*range(fit), *range(n, n + m)]] += torch.as_tensor(0.1 * rng.standard_normal((fit, fit + m)))
    f[:fit] += torch.as_tensor(0.1 * rng.standard_normal(fit))
    local = LinearGaussianDynamics(F, f, itself.Sigma)
    other = model.corrected(local, x, u).delayed(late)
    at, acting = x.clone(), u
    at[robot.slice("effort/1")] = u  # whose blend with itself is u
    x_next, by_xu = other.jacobian(at, acting)
    assert torch.allclose(x_next[:fit], predict_mean(local, at, acting)[:fit], atol=1e-10)
    B = by_xu[:fit, n:] + by_xu[:fit, robot.slice("effort/1")]
    assert torch.allclose(B, F[:fit, n:], atol=1e-10) and torch.allclose(by_xu[:fit, :fit], F[:fit, :fit], atol=1e-10)
    check = torch.cat([far, v])
    change = (F - itself.F) @ check + f - itself.f
    if late == 0.0:  # what is added is linear, so what was bent is so still
        assert torch.allclose((other.mean(far, v) - model.mean(far, v))[:fit], change[:fit], atol=1e-10)
