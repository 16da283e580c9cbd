"""The noise of readings: found again where it is known, whatever the motion; and what must not move it."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make

from mbrl_ros.ring.estimator import Config, JointFilter
from mbrl_ros.ring.reading_noise import MOST, ReadingNoise
from mbrl_ros.types import Array, Observation

H, LEAST, MEMORY = 0.02, np.array([1e-4, 0.02]), 2.0


def moving(steps: int, amplitude: float = 0.5, lag: float = 0.0, joints: int = 7) -> Array:
    """Readings without noise (steps, 2, m) of sines of 3 rad/s, whose velocities are `lag` [s] late."""
    phase = 3.0 * H * np.arange(steps)[:, None] + np.arange(joints)
    return amplitude * np.stack([np.sin(phase), 3.0 * np.cos(phase - 3.0 * lag)], 1)


def noisy(readings: Array, scale: float | Array, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).standard_normal(readings.shape)
    return readings + (np.asarray(scale) * LEAST)[:, None] * noise


def learn(readings: Array, noise: ReadingNoise | None = None) -> ReadingNoise:
    noise = noise or ReadingNoise(tuple(LEAST), readings.shape[-1], H, MEMORY)
    for reading in readings:
        noise.update(reading, H)
    return noise


def deviation(noise: ReadingNoise) -> Array:
    return np.sqrt(noise.variance) / LEAST[:, None]  # (2, m)


@pytest.mark.parametrize("lag", [0.0, 0.005])
@pytest.mark.parametrize("amplitude", [0.0, 0.5])
@pytest.mark.parametrize("scale", [2.0, 5.0, 20.0])
def test_known_noise_is_found_whatever_the_motion(scale, amplitude, lag):
    found = deviation(learn(noisy(moving(1000, amplitude, lag, joints=70), scale))) / scale
    assert np.all(found < 2.0) and np.all(found[1] > 0.7)  # a memory of 100 periods, and h r_v^(1/2) is four r_q^(1/2)
    assert np.all(np.abs(np.sqrt((found**2).mean(1)) - 1) < 0.1)


def test_positions_and_velocities_are_told_apart():
    q, v = (deviation(learn(noisy(moving(1000, joints=70), scale))).mean(1) for scale in ((20.0, 1.0), (1.0, 20.0)))
    assert q[0] == pytest.approx(20.0, rel=0.1) and q[1] < 5.0
    assert v[1] == pytest.approx(20.0, rel=0.1) and v[0] < 20.0  # as velocities integrate to 80 times that of positions


def test_begins_with_the_least_and_stays_near_it():
    noise = ReadingNoise(tuple(LEAST), 70, H, MEMORY)
    assert np.allclose(deviation(noise), 1.0, rtol=1e-9)
    found = deviation(learn(noisy(np.zeros((1000, 2, 70)), 1.0), noise))
    assert np.all(found.mean(1) < 1.2) and np.all(found < 2.0)


@pytest.mark.parametrize("amplitude, lag", [(0.0, 0.0), (0.05, 0.0), (0.5, 0.005)])
def test_motion_alone_is_not_noise(amplitude, lag):
    found = deviation(learn(noisy(moving(2000, amplitude, lag), 0.01)))
    assert np.all(found == 1.0)


def test_a_velocity_that_is_always_zero_is_found_out():
    readings = moving(1000)
    readings[:, 1] = 0.0
    assert np.all(deviation(learn(readings))[1] > 20.0)  # 1.5 rad/s against 0.02


def test_a_large_noise_is_cut_off_at_the_bound():
    assert np.allclose(deviation(learn(noisy(moving(1500), 1e4))), MOST)


def test_an_outlier_counts_little():
    noise = learn(noisy(moving(500), 1.0))
    noise.update(moving(501)[-1] + 1.0, H)
    assert np.all(deviation(noise) < 2.0)
    assert np.all(deviation(learn(noisy(moving(520)[501:], 1.0), noise)) < 2.5)  # it is in three differences


def test_what_is_not_finite_is_left_out():
    readings = noisy(moving(1000), 5.0)
    readings[300, 0, 1], readings[600, 1, 2] = np.nan, np.inf
    found = deviation(learn(readings))
    assert np.all((3.0 < found) & (found < 8.0))


def filtered(estimator: JointFilter, readings: Array, start: float = 0.0, velocity: bool = True) -> Array:
    """The variances (2, m) that a filter believes that has had the readings, one a period from `start` [s]."""
    for k, (q, v) in enumerate(readings):
        estimator.update(Observation(round(1e9 * (start + k * H)), q, v if velocity else None, np.zeros(q.shape)))
    return estimator.variance


def test_the_filter_finds_three_to_seven_where_there_is_five_times_the_noise():
    variance = filtered(JointFilter(make(), Config(noise_memory=MEMORY)), noisy(moving(1000, joints=2), 5.0))
    assert np.all(np.abs(np.sqrt(variance.T) / LEAST - 5.0) < 2.0)


@pytest.mark.parametrize("memory, velocity", [(0.0, True), (MEMORY, False)])
def test_what_was_expected_stands_if_nothing_is_to_be_learned(memory, velocity):
    variance = filtered(JointFilter(make(), Config(noise_memory=memory)), noisy(moving(200, joints=2), 5.0), 0.0,
                        velocity)
    assert np.array_equal(variance, np.tile(LEAST[:, None] ** 2, 2))


def test_a_restart_is_no_contradiction_and_nothing_is_forgotten():
    estimator = JointFilter(make(), Config(noise_memory=MEMORY))
    before = filtered(estimator, noisy(moving(1000, joints=2), 5.0)).copy()
    after = filtered(estimator, np.ones((6, 2, 2)) * [[1.0], [0.0]], start=100.0)  # elsewhere, at rest, without noise
    assert np.all(after <= before) and np.all(after >= 0.9 * before)


def test_readings_in_between_change_nothing_but_the_last_of_a_period():
    rng = np.random.default_rng(0)
    estimator, quick = (JointFilter(make(), Config(noise_memory=MEMORY)) for _ in range(2))
    readings = noisy(moving(300, joints=2), 5.0)
    between = [r for z in readings for r in (z + rng.standard_normal((2, 2)), z)][1:]
    expected = filtered(estimator, readings)
    for k, (q, v) in enumerate(between):
        quick.update(Observation(round(1e9 * k * H / 2), q, v, np.zeros(2)))
    assert np.array_equal(quick.variance, expected)
