"""Masses, damping and friction from motion: exact data give them exactly, no data leave the data sheet."""
from __future__ import annotations

import copy

import mujoco
import numpy as np
import pytest
import torch
from arms import make, settings

from mbrl_ros import assembly
from mbrl_ros.evaluation.identify import report
from mbrl_ros.models.features import Data
from mbrl_ros.models.identify import Estimate, Stretch, identify, posterior, runs_of, weak_form
from mbrl_ros.models.inverse_dynamics import DAMPING, FRICTION, MASS, Parameters, inverse, regressor
from mbrl_ros.models.physics import Nominal, nominal_physics
from mbrl_ros.models.prior import fit, load, save
from mbrl_ros.ring.learner import features_of
from mbrl_ros.robot import set_payload
from mbrl_ros.types import Transitions

ROBOTS = pytest.mark.parametrize("name", ["planar2", "arm"])
SETTINGS = {"nominal": {"identify": True, "error": 0.3, "seed": 1}}


def states(robot, count, seed=0):
    """q, qd, qdd (count, m) at random, far from a standstill."""
    rng = np.random.default_rng(seed)
    qd = rng.choice([-1.0, 1.0], (count, robot.m)) * rng.uniform(0.2, 1.0, (count, robot.m))
    return robot.home + 0.4 * rng.uniform(-1, 1, (count, robot.m)), qd, 3 * rng.standard_normal((count, robot.m))


def true_effort(robot, model, q, qd, qdd):
    """What moves the robot `model`, dry friction included as its sign: MuJoCo's is a soft constraint."""
    model = copy.copy(model)
    friction = model.dof_frictionloss[robot.dofs].copy()
    model.dof_frictionloss[:] = 0.0
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)
    return inverse(robot, model, q, qd, qdd) + friction * np.sign(qd)


def loaded(robot, payload):
    model = copy.copy(robot.model)
    set_payload(model, payload)
    return model


def excited(robot, model, seconds, seed, noise=0.0):
    """Motion of `model` under smooth efforts about a hold, and the speeds (T + 1, m) along it."""
    rng, data, m = np.random.default_rng(seed), mujoco.MjData(model), robot.m
    data.qpos[robot.qpos] = robot.home
    steps, substeps = round(seconds / robot.period), round(robot.period / model.opt.timestep)
    rate, phase = 2 * np.pi * rng.uniform(0.1, 1.5, (4, m)), rng.uniform(0, 2 * np.pi, (4, m))
    q, qd, u = [robot.home], [np.zeros(m)], []
    for k in range(steps):
        goal = robot.home + 0.15 * np.sin(rate * k * robot.period + phase).sum(0)
        u.append(robot.stiffness * (goal - data.qpos[robot.qpos]) - 0.5 * robot.damping * data.qvel[robot.dofs])
        data.qfrc_applied[robot.dofs] = u[-1]
        mujoco.mj_step(model, data, substeps)
        q.append(data.qpos[robot.qpos].copy())
        qd.append(data.qvel[robot.dofs].copy())
    return Stretch(np.array(q) + noise * rng.standard_normal((steps + 1, m)), np.array(u)), np.array(qd)


@ROBOTS
def test_the_regressor_times_the_true_parameters_is_the_effort(name):
    robot = make(name)
    model, (q, qd, qdd) = loaded(robot, 0.7), states(robot, 30)
    known, Y = regressor(robot, model, q, qd, qdd, np.sign(qd))
    theta = Parameters.of(robot, model).theta
    assert theta[-1] == 0.7
    expected = true_effort(robot, model, q, qd, qdd)
    assert np.abs(known + Y @ theta - expected).max() < 1e-9 * np.abs(expected).max()


@ROBOTS
def test_the_regressor_is_the_derivative_of_inverse_dynamics(name):
    """Central differences of a linear function are exact; no payload is 1e-9 kg in MuJoCo, hence 1e-8."""
    robot = make(name)
    model, (q, qd, qdd), h = loaded(robot, 0.7), states(robot, 5), 1e-3
    p = Parameters.of(robot, model)
    _, Y = regressor(robot, model, q, qd, qdd, np.sign(qd))

    def effort(theta):
        changed = copy.copy(model)
        p.with_theta(theta).apply(robot, changed)
        return true_effort(robot, changed, q, qd, qdd)

    numeric = [(effort(p.theta + h * e) - effort(p.theta - h * e)) / (2 * h) for e in np.eye(len(p.theta))]
    assert np.abs(np.stack(numeric, -1) - Y).max() < 1e-8 * np.abs(Y).max()


def test_the_weight_of_a_compensated_link_is_not_in_the_regressor_and_the_payload_is():
    robot = make("arm")
    q, still = np.stack([robot.home]), np.zeros((1, 7))
    _, Y = regressor(robot, robot.model, q, still, still, still)
    assert np.abs(Y[..., :7]).max() < 1e-9 and np.abs(Y[..., -1]).max() > 1.0


@ROBOTS
def test_exact_data_give_exact_parameters(name):
    """Least squares over states with their true accelerations; a prior 1e6 times wider than the truth is no prior."""
    robot = make(name)
    truth, (q, qd, qdd) = loaded(robot, 0.7), states(robot, 400)
    sheet = nominal_physics(robot, Nominal.Config(error=0.3, seed=3)).model
    known, Y = regressor(robot, sheet, q, qd, qdd, np.sign(qd))
    start, wanted = Parameters.of(robot, sheet).theta, Parameters.of(robot, truth).theta
    e = true_effort(robot, truth, q, qd, qdd) - known - Y @ start
    ones = np.ones(e.shape)
    delta, _ = posterior(np.arange(400.0), e, Y, ones, 1e3 * np.ones(len(start)), 1e-20 * np.ones(robot.m))
    assert np.allclose(start + delta, wanted, atol=1e-5)


def test_averages_under_the_triangle_are_exact():
    """Of an acceleration that is held with the effort over each period: q is then a parabola between samples."""
    rng, period, n, T = np.random.default_rng(0), 0.02, 3, 40
    u = rng.standard_normal((T, 1))
    qd = np.concatenate([[[0.3]], 0.3 + period * np.cumsum(u, 0)])
    q = np.concatenate([[[1.0]], 1.0 + np.cumsum(period * qd[:-1] + 0.5 * period**2 * u, 0)])
    averaged, speed, acceleration, effort, _ = weak_form(Stretch(q, u), period, n)
    assert len(averaged) == T + 1 - 2 * n and np.allclose(acceleration, effort, atol=1e-9)
    line = np.arange(T + 1.0)[:, None]
    averaged, speed, acceleration, _, rate = weak_form(Stretch(line, line[:-1]), period, n)
    assert np.allclose(averaged, line[n:-n]) and np.allclose(speed, 1 / period) and np.allclose(acceleration, 0)
    assert np.allclose(rate, 1 / period)


@pytest.mark.parametrize("lengths", [[], [20], [500]], ids=["nothing", "short", "at rest"])
def test_no_motion_leaves_the_data_sheet(lengths):
    robot, runs = make("planar2"), [Stretch(np.ones((T + 1, 2)), np.zeros((T, 2))) for T in lengths]
    e = identify(robot, robot.model, runs, 0.3, 1.0)
    assert np.allclose(e.parameters.theta, Parameters.of(robot, robot.model).theta, atol=1e-9)
    assert np.allclose(e.std, e.deviation) and np.allclose(e.from_data, 0)


def test_noise_free_motion_gives_the_robot():
    """Within 5 %, or 0.05 N m of friction: MuJoCo's is soft, and the mass matrix and the acceleration are averaged each
    for itself."""
    robot = make("planar2")
    truth = loaded(robot, 0.5)
    sheet = nominal_physics(robot, Nominal.Config(error=0.3, seed=2)).model
    before, wanted = Parameters.of(robot, sheet), Parameters.of(robot, truth).theta
    e = identify(robot, sheet, [excited(robot, truth, 20.0, 0)[0]], 0.3, 1.0)
    assert np.allclose(e.parameters.theta, wanted, rtol=0.05, atol=0.05)
    assert np.abs(before.theta[before.rows(MASS)] / wanted[before.rows(MASS)] - 1).max() > 0.1
    assert "payload" in e.table() and "upper" in e.table()


def test_variance_falls_with_the_number_of_data():
    """Bins of white noise: four times as many, a quarter of the variance, within the 6 deviations of a power that is
    estimated from 200 of them."""
    rng, std = np.random.default_rng(0), np.ones(2)

    def variance(count):
        Y, noise = rng.standard_normal((count, 1, 2)), 0.1 * rng.standard_normal((count, 1))
        cov = posterior(np.arange(count), noise, Y, np.ones((count, 1)), std, np.zeros(1))[1]
        return np.diag(cov).mean()

    assert variance(200) / variance(800) == pytest.approx(4.0, rel=6 * np.sqrt(2 / 200))


def test_intervals_cover_the_truth_under_coloured_noise():
    """100 draws of 3 parameters under noise whose power falls with frequency: 95 % within 6 binomial deviations."""
    rng, count, inside = np.random.default_rng(1), 400, []
    colour = 1.0 / (1.0 + np.arange(count) / 40.0)[:, None]
    for _ in range(100):
        theta, Y = rng.standard_normal(3), rng.standard_normal((count, 1, 3))
        e = Y @ theta + colour * rng.standard_normal((count, 1))
        delta, cov = posterior(np.arange(count), e, Y, np.ones((count, 1)), np.ones(3), np.zeros(1))
        inside.append(np.abs(delta - theta) < 1.96 * np.sqrt(np.diag(cov)))
    assert abs(np.mean(inside) - 0.95) < 6 * np.sqrt(0.95 * 0.05 / 300)


def test_a_direction_without_information_keeps_its_prior():
    rng, std = np.random.default_rng(0), np.array([0.5, 2.0, 1.0])
    Y = np.repeat(rng.standard_normal((300, 1, 1)), 3, -1) * np.array([1.0, 1.0, 0.0])  # only the sum of two
    e = 0.7 * Y[..., 0] + 0.01 * rng.standard_normal((300, 1))
    delta, cov = posterior(np.arange(300), e, Y, np.ones((300, 1)), std, np.zeros(1))
    # Given the sum, the prior shares it out by variance: 0.25 and 4 of 4.25; the difference keeps both of them.
    assert np.allclose(delta, [0.7 * 0.25 / 4.25, 0.7 * 4 / 4.25, 0.0], atol=0.01)
    assert np.sqrt(cov[2, 2]) == pytest.approx(1.0) and cov[0, 0] == pytest.approx(0.25 * 4 / 4.25, rel=0.01)


def test_the_links_near_the_base_of_a_compensated_arm_are_not_claimed():
    """Link 1 turns about its own axis, and link 2 moves little: only their prior is known."""
    robot = make("arm")
    sheet = nominal_physics(robot, Nominal.Config(error=0.3, seed=2)).model
    e = identify(robot, sheet, [excited(robot, robot.model, 10.0, 0, 1e-4)[0]], 0.3, 1.0)
    known = dict(zip(e.parameters.names, e.from_data, strict=True))
    assert known[MASS, "link2"] < 0.2 and known[MASS, "link7"] > 0.9 and known[DAMPING, "joint7"] > 0.5
    left = e.combinations()[1]
    assert left[0] < 0.1 and left[-1] > 0.9


@pytest.mark.parametrize("delay", [0, 1])
def test_runs_are_cut_at_gaps_and_the_acting_effort_is_taken(delay):
    robot = make("planar2", effort_history=delay + 1)
    features, rng = features_of(robot), np.random.default_rng(0)
    x = rng.standard_normal((12, len(robot.joint_rows)))
    u = rng.standard_normal((11, 2))
    kept = [0, 1, 2, 3, 6, 7, 8, 9, 10]
    data = Data.of(Transitions(x[:-1][kept], u[kept], x[1:][kept]), features, robot)
    runs = runs_of(data, robot, delay)
    assert [len(r.u) for r in runs] == [4, 5]
    assert np.allclose(runs[1].q, x[6:, :2]) and len(runs[1].q) == 6
    assert np.array_equal(runs[0].u, u[:4] if delay == 0 else x[:4, 4:6])


def test_nominal_takes_the_estimate_and_keeps_it_in_its_file(tmp_path):
    robot = assembly.make_robot(settings("planar2", prior="nominal"))
    run, qd = excited(robot, robot.model, 12.0, 0)
    x = np.hstack([run.q, qd, np.vstack([run.u[:1], run.u])])
    data = Data.of(Transitions(x[:-1], run.u, x[1:]), features_of(robot), robot)
    wrong = fit("nominal", data, {"nominal": {**SETTINGS["nominal"], "identify": False}}, 0)
    model = fit("nominal", data, SETTINGS, 0)
    assert wrong.estimate is None and model.R[2:, 2:].trace() < 0.5 * wrong.R[2:, 2:].trace()
    assert Parameters.of(robot, model.physics.model).theta[2:] == pytest.approx(model.estimate.parameters.theta[2:])
    save(model, tmp_path / "model.npz")
    again, w = load(tmp_path / "model.npz", robot), torch.as_tensor(data.w[:20])
    assert torch.equal(again.mean(w), model.mean(w)) and np.array_equal(again.estimate.cov, model.estimate.cov)
    assert again.estimate.table() == model.estimate.table()


def test_negative_values_are_cut_off_where_they_are_applied():
    robot = make("planar2")
    model = copy.copy(robot.model)
    p = Parameters.of(robot, model)
    p.with_theta(-p.theta - 1).apply(robot, model)
    after = Parameters.of(robot, model)
    assert (after.theta[after.rows(MASS)] > 0).all()
    assert not after.theta[after.rows(DAMPING)].any() and not after.theta[after.rows(FRICTION)].any()


def test_the_report_counts_what_lies_inside():
    """Two runs of a planar arm: in one all intervals hold the truth, in the other that of one of 7 parameters misses.
    """
    robot = make("planar2")
    p = Parameters.of(robot, robot.model)
    estimates = [Estimate(p.with_theta(p.theta + shift), 0.01**2 * np.eye(7), p.theta, np.full(7, 0.1), np.zeros(2))
                 for shift in (0.0, 0.03 * np.eye(7)[0])]
    text = report([(e, p.theta) for e in estimates])
    assert f"truth in {100 * 13 / 14:.1f} %" in text and "mass upper | 50 % | 0.007 |" in text
