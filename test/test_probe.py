"""Gains of the hold that find themselves: what pushes find, and the gains that follow."""
from __future__ import annotations

import mujoco
import numpy as np
import pytest
from arms import settings

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation import holds
from mbrl_ros.nodes import bringup
from mbrl_ros.ring.holding import probed, with_gains
from mbrl_ros.ring.probe import (
    MARGIN,
    Bounds,
    Found,
    Probe,
    gains,
    leaning,
    margin_of,
    quickest,
    radius,
)
from mbrl_ros.robot import Config, Robot
from mbrl_ros.simulation.world import World

BARE = {"stiffness": [], "damping": [], "deceleration": []}


def joints(inertia=(1.0,), delay=0.0, disturbance=0.0, coupling=None):
    """What a probe would have found."""
    inertia = np.array(inertia)
    m, zero = len(inertia), np.zeros(len(inertia))
    return Found(inertia, np.eye(m) if coupling is None else np.array(coupling), zero, zero, zero, delay, zero,
                 np.full(m, disturbance))


# --- gains


def test_without_delay_and_integral_the_loop_is_stable_where_the_closed_form_says_so():
    """Held efforts on a double integrator: stable for stiffness / 2 < damping < 2 (Jury)."""
    for stiffness in (0.01, 0.3, 1.0):
        for damping in (0.1, 0.4, 1.0, 1.9, 2.1):
            assert (radius(stiffness, damping, 0.0, 0.0) < 1) == (stiffness / 2 < damping < 2)


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0, 1.7, 3.2])
def test_the_spectral_radius_is_how_fast_a_simulated_loop_grows_or_comes_to_rest(delay):
    stiffness, damping, integral, fine = 0.04, 0.35, 0.02, 1000
    late, efforts, q, v, s, size = round(delay * fine), [], 1.0, 0.0, 0.0, []
    acting = [0.0] * late
    for _ in range(400):
        efforts = [-stiffness * q - damping * v + s] * fine
        s -= integral * stiffness * q
        acting += efforts
        for u in acting[:fine]:
            q, v = q + v / fine + u / (2 * fine**2), v + u / fine
        acting = acting[fine:]
        size.append(np.hypot(q, v))
    growth = np.mean(np.log(size[-300:-100])) - np.mean(np.log(size[-200:])), 100
    assert np.exp(-growth[0] / growth[1]) == pytest.approx(radius(stiffness, damping, integral, delay), abs=0.01)


@pytest.mark.parametrize("delay", [0.0, 0.25, 0.8, 1.5, 2.5])
def test_the_quickest_hold_has_the_margin_that_is_stated(delay):
    w = quickest(delay, 0.02)
    assert margin_of(w**2, 2 * w, 0.02, delay) == pytest.approx(MARGIN, rel=1e-2)
    assert quickest(delay + 0.5, 0.02) < w


def test_gains_are_critically_damped_and_in_proportion_to_the_inertia():
    of = gains(joints((1.0, 0.01)), 0.02, np.ones(2))
    assert np.allclose(of.damping**2, 4 * of.stiffness * [1.0, 0.01]) and of.problem == ""
    assert of.stiffness[0] == pytest.approx(100 * of.stiffness[1])
    assert gains(joints(), 0.02, np.ones(1)).stiffness > gains(joints(), 0.1, np.ones(1)).stiffness
    assert gains(joints(), 0.02, np.ones(1)).stiffness > gains(joints(delay=0.04), 0.02, np.ones(1)).stiffness


def test_the_margin_holds_for_joints_that_share_a_motion():
    """By the exact loop of both together, sampled: gains MARGIN times as large are stable, twice that is not."""
    coupling = np.array([[1.0, 0.9], [0.9, 1.0]])
    of = gains(joints((1.0, 0.1), coupling=coupling), 0.1, np.ones(2), integral=0.0)
    P = coupling / np.sqrt(np.outer([1.0, 0.1], [1.0, 0.1]))

    def grows(factor):
        A = np.block([[np.eye(2), 0.1 * np.eye(2)], [np.zeros((2, 2)), np.eye(2)]])
        B = np.vstack([0.005 * P, 0.1 * P])
        K = factor * np.hstack([np.diag(of.stiffness), np.diag(of.damping)])
        return np.abs(np.linalg.eigvals(A - B @ K)).max() >= 1

    assert not grows(1.0) and not grows(0.99 * of.margin) and grows(2.5 * of.margin) and of.margin > 2.9


def test_a_rate_that_is_too_low_is_said_with_the_figure_and_one_that_would_do():
    of = gains(joints((0.01,), disturbance=8.0), 0.05, np.ones(1), names=["wrist"])
    assert "20 Hz is too slow for wrist: with 0.01 kg m^2" in of.problem and "as at 100 Hz" in of.problem
    assert gains(joints((0.01,), disturbance=8.0), 0.01, np.ones(1)).problem == ""


def test_an_arm_that_would_fall_over_needs_stiffness_and_one_that_hangs_does_not():
    robot = assembly.make_robot(settings("pendulum"))
    stiffness = [leaning(robot.weight, np.array([q])) for q in np.linspace(-3, 3, 25)]
    assert min(stiffness) == 0.0 and max(stiffness) > 0
    steep = [np.abs(robot.weight(np.array([q]))[0]) for q in np.linspace(-3.2, 3.2, 200)]
    assert max(stiffness)[0] == pytest.approx(2 * max(steep), rel=0.02)  # of a pendulum: as much as its largest weight
    light = joints((0.01,))
    assert gains(light, 0.02, np.ones(1), lean=np.array([1.5])).stiffness >= 1.5
    assert "too slow" in gains(light, 0.02, np.ones(1), lean=np.array([15.0])).problem


# --- pushes


def truth(plant):
    """M^-1 of a plant where it is."""
    M = np.empty((plant.model.nv, plant.model.nv))
    mujoco.mj_fullM(plant.model, plant.data, M)
    return np.linalg.inv(M[np.ix_(plant._dofs, plant._dofs)])


@pytest.mark.parametrize(("name", "rate"), [("arm", 50), ("arm4", 200), ("planar2", 100)])
def test_pushes_find_inertia_coupling_weight_and_delay_and_move_little(name, rate):
    s = settings(name, robot={"period": 1 / rate})
    robot = assembly.make_robot(s)
    plant = assembly.make_plant(s, robot)
    known = name != "arm"
    probe = Probe(Bounds.of(robot), robot.period, robot.weight if known else None, names=robot.joints)
    seen, speed, away = plant.reset(3), [], []
    while not probe.done:
        effort = probe.act(seen.position, seen.velocity)
        assert (np.abs(effort) <= robot.effort_limit).all()
        seen = plant.step(effort)
        q, qd = plant.true_state()
        speed.append(np.abs(qd / robot.velocity_limit).max())
        away.append(np.abs(q - robot.home).max())
    P, found = truth(plant), probe.found
    assert np.allclose(found.inertia * np.diag(P), 1.0, atol=0.45)  # high: friction passes for inertia
    assert np.linalg.eigvalsh(found.coupling)[-1] == pytest.approx(
        np.linalg.eigvalsh(P / np.sqrt(np.outer(np.diag(P), np.diag(P))))[-1], rel=0.1)
    assert np.allclose(found.weight, robot.weight(robot.home) if known else 0.0, atol=0.02 * robot.effort_limit.max())
    assert found.delay == pytest.approx(1 / (2 * np.pi * 30), abs=0.003)  # the filter of velocities, of 30 Hz
    assert max(speed) < 0.6 and max(away) < 0.2 and len(speed) / rate < 10


@pytest.mark.parametrize("delay", [1, 2])
def test_pushes_find_how_late_commands_act(delay):
    robot = assembly.make_robot(settings())
    plant = assembly.make_plant(settings(), robot)
    plant.change(World(delay=delay))
    found = probed(plant, "model")
    assert found.delay / robot.period == pytest.approx(delay + 0.25, abs=0.2)


def test_an_arm_that_falls_is_said_to_and_pushed_by_whoever_knows_its_weight():
    robot = assembly.make_robot(settings())
    plant = assembly.make_plant(settings(), robot)
    probe, seen = Probe(Bounds.of(robot), robot.period), plant.reset(0)
    while not probe.done:
        seen = plant.step(probe.act(seen.position, seen.velocity))
    assert "because nobody carries its weight; expected guard.gravity: model" in probe.reason
    assert np.allclose(probed(plant, "robot").weight, robot.weight(robot.home), atol=0.5)


def test_a_joint_that_does_not_move_ends_the_pushes_by_name():
    bounds = Bounds(np.ones(2), np.full(2, 100.0), np.ones(2), np.full(2, -3.0), np.full(2, 3.0))
    probe, v, q = Probe(bounds, 0.02, names=("one", "two")), np.zeros(2), np.zeros(2)
    while not probe.done:
        u = probe.act(q, v)
        v = v + 0.02 * u * [1.0, 0.0] / 0.1
        q = q + 0.02 * v
    assert probe.found is None and "two does not move for 0.4 of its effort limit" in probe.reason


@pytest.mark.parametrize(("q", "qd", "words"), [(0.0, 2.0, "too fast"), (0.9, 0.0, "too far"), (3.1, 0.1, "its end")])
def test_out_of_bounds_the_pushes_end_and_the_hold_stays(q, qd, words):
    bounds = Bounds(np.ones(1), np.full(1, 100.0), np.ones(1), np.full(1, -3.0), np.full(1, 3.0))
    probe = Probe(bounds, 0.02)
    start = 3.05 if words == "its end" else 0.0
    for _ in range(20):
        probe.act(np.full(1, start), np.zeros(1))
    probe.act(np.full(1, q), np.full(1, qd))
    assert probe.done and words in probe.reason and probe.found is None
    assert np.abs(probe.act(np.full(1, q), np.full(1, qd))).max() <= 1.0


# --- robots


def test_without_gains_in_its_file_the_simulated_robot_finds_the_same_ones_every_time():
    s = settings(robot=BARE)
    first, again = assembly.make_robot(s), assembly.make_robot(s)
    assert first.has_gains and np.array_equal(first.stiffness, again.stiffness)
    assert np.isfinite(first.deceleration).all() and np.isfinite(first.inertia).all()
    given = assembly.make_robot(settings())
    assert np.array_equal(given.stiffness, given.config.stiffness) and np.isnan(given.inertia).all()


def test_without_gains_a_real_robot_is_refused_with_what_to_do():
    s = settings(robot={**BARE, "simulated": False})
    with pytest.raises(ConfigError, match=r"robot.stiffness, robot.damping: expected .*ros2 run mbrl_ros setup"):
        assembly.make_robot(s)
    assert bringup.parameters(bringup.parse(["plant:=false"]))["robot.simulated"] is False
    assert bringup.parameters(bringup.parse([]))["robot.simulated"] is True


def test_a_simulated_robot_too_light_for_its_rate_is_refused(tmp_path):
    path = holds.draw(103, tmp_path)
    with pytest.raises(ConfigError, match=r"robot\.period: 50 Hz is too slow"):
        assembly.make_robot(holds.settings_of(path, 50))


def test_gains_are_added_only_where_they_are_missing():
    robot = Robot(Config(**{**vars(assembly.make_robot(settings()).config), "stiffness": (), "damping": ()}))
    made = with_gains(robot, assembly.plant.Config(), "model", 1.0)
    assert np.array_equal(made.deceleration, made.config.deceleration) and (made.stiffness > 0).all()


@pytest.mark.parametrize(("seed", "rate"), [(0, 50), (1, 50), (2, 100), (3, 100), (4, 200), (5, 200)])
def test_arms_drawn_at_random_are_held_or_refused_first(seed, rate, tmp_path):
    what, _ = holds.hold(holds.settings_of(holds.draw(seed, tmp_path), rate), seed)
    assert what == holds.HELD or what.startswith("refused: robot.period: ")
