"""The delay is found from what acted, and planning by commands equals the delayed plant."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import double_integrator, make

from mbrl_ros.ring.delay import Delay
from mbrl_ros.types import Gaussian, StateEstimate


def state_of(robot, step, effort, x=None, episode=0):
    mean = np.zeros(robot.n) if x is None else x
    return StateEstimate(step * 20_000_000, episode, step, Gaussian(mean, np.eye(robot.n)), effort)


def acted(commands, k, delay):
    """Mean effort over period k, from the commands of all periods."""
    whole, part = divmod(delay, 1.0)
    past = lambda i: commands[i] if i >= 0 else np.zeros_like(commands[0])  # noqa: E731
    return (1 - part) * past(k - int(whole)) + part * past(k - int(whole) - 1)


def listen(robot, delays, noise=0.0, seed=0, skip=(), estimate=None):
    """The estimate after every period of a plant whose delay is delays[k]."""
    rng, estimate = np.random.default_rng(seed), estimate or Delay(robot)
    commands = rng.standard_normal((len(delays), robot.m)) * 0.1 * robot.effort_limit
    found = []
    for k, delay in enumerate(delays):
        if k in skip:  # no state came, so nobody commanded: the old command goes on
            commands[k] = commands[k - 1]
            continue
        e = acted(commands, k - 1, delay) if k else np.zeros(robot.m)
        e = e + noise * robot.effort_limit * rng.standard_normal(robot.m)
        estimate.observe(state_of(robot, k, e))
        estimate.record(commands[k])
        found.append(estimate.periods)
    return np.array(found)


@pytest.mark.parametrize("delay", [0.0, 0.45, 1.0, 1.3, 2.0, 3.0, 3.7])
def test_a_delay_is_found_within_a_tenth_of_a_second(delay):
    found = listen(make(), [delay] * 40)
    assert np.allclose(found[5:], delay, atol=0.01)


@pytest.mark.parametrize("before, after", [(0.0, 2.0), (1.0, 0.0), (0.5, 1.5)])
def test_a_sudden_change_is_found_as_soon_as_it_can_be(before, after):
    """The first command that is acted on as late as `after` says is one of 30 + after; three changes of effort more."""
    found = listen(make("arm"), [before] * 30 + [after] * 30)
    assert np.allclose(found[29], before, atol=0.01) and np.allclose(found[30 + int(after) + 4:], after, atol=0.05)


def test_commands_that_come_irregularly_do_not_make_the_delay_jump():
    rng = np.random.default_rng(3)
    found = listen(make("arm"), list(rng.uniform(0.0, 0.5, 2000)))
    assert found[20:].max() < 0.6


def test_a_hold_is_made_for_the_latest_of_commands_that_come_irregularly():
    robot, gains = make("arm"), []
    for delays in ([0.3] * 300, list(np.random.default_rng(3).uniform(0.0, 0.6, 300))):
        estimate = Delay(robot)
        listen(robot, delays, estimate=estimate)
        gains.append(estimate.hold_gain)
    assert gains[1] < gains[0] == pytest.approx(0.3 / 0.45)


def test_noisy_torque_readings_do_not_make_the_delay_jump():
    found = listen(make("arm"), [1.0] * 400, noise=0.05)
    assert np.abs(found[20:] - 1.0).max() < 0.4 and abs(found[20:].mean() - 1.0) < 0.1


def test_the_first_command_after_another_hold_is_no_delay():
    """What held the arm before, its weight, is in none of the commands that are remembered."""
    robot, rng, weight = make("arm"), np.random.default_rng(0), 0.2
    estimate, commands = Delay(robot), [weight * make("arm").effort_limit]
    for k in range(20):
        estimate.observe(state_of(robot, k, commands[-1]))
        assert estimate.periods == pytest.approx(0.0, abs=0.01)
        commands.append((weight + 0.02 * rng.standard_normal(robot.m)) * robot.effort_limit)
        estimate.record(commands[-1])


def test_states_that_did_not_come_are_no_delay():
    assert np.allclose(listen(make("arm"), [0.0] * 60, skip=(20, 31, 32, 45)), 0.0, atol=0.01)


def test_constant_commands_leave_the_delay_that_was_found():
    robot, estimate = make(), Delay(make())
    for k in range(40):
        estimate.observe(state_of(robot, k, np.ones(robot.m) if k > 1 else np.zeros(robot.m)))  # one period late
        estimate.record(np.ones(robot.m))
    assert estimate.periods == pytest.approx(1.0, abs=0.01)
    assert estimate.hold_gain < 1.0


def test_a_hold_is_softened_by_seconds_of_delay_not_by_periods():
    """20 ms are two periods at 100 Hz and ten at 500: the same hold of the same joints lags by as much."""
    factors = [Delay(make("arm", period=period), given=0.02 / period).hold_gain for period in (0.01, 0.002)]
    assert factors[0] == pytest.approx(factors[1]) and 0.1 < factors[0] < 0.2
    assert Delay(make("arm", period=0.002), given=0.5).hold_gain == 1.0


def test_efforts_that_have_nothing_to_do_with_commands_say_nothing():
    """A drive that reports zeros, or noise."""
    robot, rng = make("arm"), np.random.default_rng(0)
    for size in (0.0, 0.1):
        estimate = Delay(robot)
        for k in range(200):
            estimate.observe(state_of(robot, k, size * robot.effort_limit * rng.standard_normal(robot.m)))
            estimate.record(0.1 * robot.effort_limit * rng.standard_normal(robot.m))
        assert estimate.periods == 0.0


def test_a_torque_reading_that_is_off_by_friction_does_not_matter():
    robot, rng = make("arm"), np.random.default_rng(0)
    estimate, commands = Delay(robot), [np.zeros(robot.m)] * 2
    for k in range(30):
        estimate.observe(state_of(robot, k, commands[-2] + 0.05 * robot.effort_limit))
        commands.append(0.02 * robot.effort_limit * rng.standard_normal(robot.m))
        estimate.record(commands[-1])
    assert estimate.periods == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("delay", [0.0, 0.4, 1.0, 2.0, 2.6])
def test_the_plan_by_commands_is_the_delayed_plant(delay):
    """Predicted state and compensated dynamics against the plant, fed the same commands."""
    robot = make()
    rng, model, estimate = np.random.default_rng(1), double_integrator(robot), Delay(robot, delay)
    motion, ahead = robot.slice("motion"), int(delay)
    commands = rng.standard_normal((12, robot.m))
    x = [np.concatenate([rng.standard_normal(motion.stop), np.zeros(robot.m)])]
    for k in range(12 + ahead):  # those after the last command are not looked at
        if k < 12:
            x.append(model.F @ np.concatenate([x[-1], acted(commands, k, delay)]) + model.f)
    now = 8 - ahead
    for command in commands[:now]:
        estimate.record(command)
    start, periods, by_command = estimate.compensate(x[now], model)
    assert periods == ahead and np.allclose(start[motion], x[8][motion])
    for k in range(now, 12 - ahead):
        start = by_command.F @ np.concatenate([start, commands[k]]) + by_command.f
        assert np.allclose(start[motion], x[k + ahead + 1][motion])
        assert np.allclose(start[robot.slice("effort/1")], commands[k])


@pytest.mark.parametrize("delay", [0.0, 0.4, 1.3])
def test_the_leverage_by_commands_is_that_of_what_acts(delay):
    robot, rng = make(), np.random.default_rng(2)
    n, m = robot.n, robot.m
    L, x, u = rng.standard_normal((1 + n + m, 1 + n + m)), rng.standard_normal(n), rng.standard_normal(m)
    L[:, 1:][:, robot.slice("effort/1")] = L[1:][robot.slice("effort/1")] = 0.0  # what acted before matters to nothing
    _, _, by_command = Delay(robot, delay).compensate(x, replace(double_integrator(robot), leverage=L))
    part = delay % 1.0
    acts = np.concatenate([[1.0], x, (1 - part) * u + part * x[robot.slice("effort/1")]])
    h = np.concatenate([[1.0], x, u])
    assert h @ by_command.leverage @ h == pytest.approx(acts @ L @ acts, rel=1e-9)
