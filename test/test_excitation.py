"""What is added to the hold: within limits, the same from the same seed, and informative by count."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import make, settings

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, from_mapping
from mbrl_ros.evaluation.excitation import earlier, excite
from mbrl_ros.ring.excitation import KINDS, Config, HoldResponse, InformativeExcitation, most_informative, room
from mbrl_ros.robot import Robot

EITHER = pytest.mark.parametrize("kind", list(KINDS))


def programme(robot, config, periods=200):
    """Offsets, speeds and efforts (periods, m) of an excitation."""
    excitation = KINDS[config.kind](robot, config, config.gain)
    return (np.array(a) for a in zip(*(excitation.next() for _ in range(periods)), strict=True))


@EITHER
@pytest.mark.parametrize("name", ["pendulum", "planar2", "arm"])
def test_the_same_seed_gives_the_same_and_another_another(kind, name):
    robot, config = make(name), Config(kind=kind, duration=4.0)
    first, again, other = (np.hstack(list(programme(robot, c))) for c in (config, config, replace(config, seed=1)))
    assert np.array_equal(first, again) and not np.allclose(first, other)


@EITHER
def test_the_speed_is_the_derivative_of_the_offset(kind):
    """Central differences; the truncation error is h^2 / 6 times the third derivative, at most a sum of rate^3."""
    robot = make("arm")
    offset, speed, _ = programme(robot, Config(kind=kind, duration=8.0))
    h, late = robot.period, slice(60, -1)  # the random one has faded in
    numeric = (offset[2:] - offset[:-2]) / (2 * h)
    fastest = 2 * np.pi * 7 / 8
    assert np.abs(numeric[late] - speed[1:-1][late]).max() < 2 * h**2 / 6 * 0.5 * fastest**3


@pytest.mark.parametrize("duration", [2.0, 8.0, 60.0])
def test_harmonics_are_orthogonal_over_the_duration_and_within_limits(duration):
    robot, config = make("arm"), Config(kind="informative", duration=duration)
    period = min(duration, robot.m / config.high_frequency)
    offset, speed, effort = programme(robot, config, round(period / robot.period))
    G = offset.T @ offset
    assert np.abs(G - np.diag(np.diag(G))).max() < 1e-9 * G.max()
    assert np.abs(offset.T @ speed).max() < 1e-6 * np.sqrt(G.max() * (speed**2).sum(0).max())
    assert (np.abs(offset) <= np.minimum(config.range, room(robot))).all()
    assert (np.abs(speed) <= config.speed * robot.velocity_limit).all()
    assert (np.abs(effort) <= config.dither * robot.effort_limit + 1e-12).all()


def test_the_least_trace_is_found_and_woodburys_inverse_is_the_inverse():
    rng = np.random.default_rng(0)
    A, w = 2.0 * np.eye(5), rng.standard_normal((8, 3, 5)) * np.linspace(0.5, 1.5, 8)[:, None, None]
    best, P = most_informative(np.linalg.inv(A), w)
    each = [np.linalg.inv(A + v.T @ v) for v in w]
    assert best == int(np.argmin([np.trace(e) for e in each])) and np.allclose(P, each[best], atol=1e-12)


def test_the_hold_that_is_predicted_rests_where_it_is_told_to():
    """A held set-point and effort: after two seconds q = g + e / K, qd = 0, u = 0."""
    robot = make("arm")
    goal, effort = 0.1 * np.ones((1, 100, robot.m)), np.ones((1, 100, robot.m))
    w, state = HoldResponse(robot, 1.0, robot.period).regressors(np.zeros((robot.m, 2)), goal, 0 * goal, effort)
    assert np.allclose(state[0, :, 0], 0.1 + 1 / robot.stiffness, atol=1e-5)
    assert np.allclose(state[0, :, 1], 0, atol=1e-4) and np.allclose(w[0, -1, 2 * robot.m : -1], 0, atol=1e-3)


def test_a_design_knows_more_than_chance():
    """The mean variance of a linear model's predictions after 2 s, by the design's own count, is less than with
    any of twenty random patterns of the same efforts."""
    robot, config = make("arm"), Config(kind="informative", duration=2.0)
    designed = InformativeExcitation(robot, config, 1.0)
    scale, hold = designed._scale, designed._hold

    def variance(offset, speed, effort):
        w = hold.regressors(np.zeros((robot.m, 2)), offset, speed, effort[None])[0][0] / scale
        return np.trace(np.linalg.inv(w.T @ w + 1e-2 * np.eye(len(scale))))

    offset, speed, effort = programme(robot, config, 100)
    rng = np.random.default_rng(0)
    draws = (np.repeat(rng.choice([-1.0, 1.0], (50, robot.m)), 2, 0) for _ in range(20))
    assert variance(offset, speed, effort) < min(variance(offset, speed, d * np.abs(effort)) for d in draws)


@EITHER
def test_what_is_added_in_motion_goes_little_beyond_its_limits(kind):
    """Of range and speed: what is asked for keeps to them, the joints follow it by the hold and overshoot."""
    s = settings("arm", excitation={"kind": kind, "range": 0.3, "speed": 0.3, "effort": 0.05})
    _, (away, speed, _) = excite(s, 4.0, 100)
    assert away < 0.3 + 0.06 and speed < 0.3 + 0.18


@EITHER
def test_no_effort_pushes_what_is_too_fast_or_too_far(kind):
    policy = assembly.make_controller(settings("arm", excitation={"kind": kind}), make("arm")).base
    robot = policy.robot
    for _ in range(50):
        assert (policy._excite(robot.home + 1.0, robot.velocity_limit)[2] <= 0).all()
        assert (policy._excite(robot.home - 1.0, -robot.velocity_limit)[2] >= 0).all()


def test_a_hold_without_damping_is_refused():
    robot = Robot(replace(make("planar2").config, damping=(0.0, 1.0)))
    with pytest.raises(ConfigError, match="damping above zero"):
        InformativeExcitation(robot, Config(kind="informative"), 1.0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="choose one of random, informative"):
        from_mapping(Config, {"kind": "wild"}, "excitation")


def test_half_the_time_is_found_to_be_half():
    """Errors 1 / t against 1 / 2t: half the time, and before the first duration nothing is known."""
    seconds = np.array([2.0, 4.0, 8.0])
    assert np.allclose(earlier(seconds, 1 / seconds, 1 / (2 * seconds)), [np.nan, 0.5, 0.5], equal_nan=True)
