"""The filter against a dense Kalman filter, and what it does about gaps, repeats and jumps of the clock."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import make, settings

from mbrl_ros import assembly
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.ring.estimator import Config, JointFilter
from mbrl_ros.ring.loop import Ring
from mbrl_ros.types import Observation

PERIOD = 20_000_000  # [ns]


def observe(step: float, q=(0.1, 0.2), qd=(0.0, 0.0), effort=(0.0, 0.0)) -> Observation:
    return Observation(round(step * PERIOD), np.array(q), None if qd is None else np.array(qd), np.array(effort))


def test_equals_a_dense_kalman_filter():
    robot, config, rng = make(), Config(noise_memory=0.0), np.random.default_rng(0)
    estimator = JointFilter(robot, config)
    readings = rng.standard_normal((30, 2, 2))  # step, joint, [q, qd]
    h = robot.period
    A, G = np.array([[1, h], [0, 1]]), config.acceleration_noise * np.array([h * h / 2, h])
    R = np.diag([config.position_noise, config.velocity_noise]) ** 2
    for joint in range(2):
        mean, cov = readings[0, joint], R
        for z in readings[1:, joint]:
            mean, cov = A @ mean, A @ cov @ A.T + np.outer(G, G)
            K = cov @ np.linalg.inv(cov + R)
            mean, cov = mean + K @ (z - mean), (np.eye(2) - K) @ cov
        estimator.state = None
        for k, z in enumerate(readings):
            state = estimator.update(observe(k + 1, z[:, 0], z[:, 1]))
        assert np.allclose(state.belief.mean[[joint, 2 + joint]], mean, atol=1e-9)
        assert np.allclose(state.belief.cov[np.ix_([joint, 2 + joint], [joint, 2 + joint])], cov, atol=1e-9)


def test_tool_covariance_is_that_of_sampled_joints():
    robot = make()
    state = JointFilter(robot, Config(position_noise=1e-3)).update(observe(1))
    rng, count = np.random.default_rng(0), 4000
    q = state.belief.mean[:2] + 1e-3 * rng.standard_normal((count, 2))
    sampled = np.cov(np.array([robot.tool_position(x) for x in q]).T)
    block = state.belief.cov[4:7, 4:7]
    assert np.allclose(sampled, block, atol=6 * np.sqrt(2 / count) * block.max())  # six standard errors
    assert np.allclose(state.belief.cov, state.belief.cov.T)


def test_periods_count_and_the_effort_is_the_mean_over_the_period():
    estimator = JointFilter(make(), Config(effort_source="joint_states"))
    estimator.update(observe(1))
    quick = [estimator.update(observe(1 + i / 4, effort=(float(i), 0.0))) for i in range(1, 5)]
    assert [s is None for s in quick] == [True, True, True, False]
    assert quick[-1].step == 1 and quick[-1].effort[0] == pytest.approx(2.5)


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("parts", [1, 4])
def test_efforts_from_commands_act_after_their_delay_however_often_states_come(delay, parts):
    """Command k is given at the state of period k, of which there are `parts`; what is reported counts before that."""
    robot = make()
    estimator = JointFilter(robot, Config(effort_source="commands", command_delay=delay))
    acted = []
    for k in range(1, 10):
        for part in range(parts):
            state = estimator.update(observe(k + part / parts, effort=(9.0, np.nan) if k == 1 else (8.0, 8.0)))
            if part == 0:
                acted.append(state.effort)
                estimator.commanded(np.array([float(k), -100.0]))
    expected = [[k - 1.0 - delay, -robot.effort_limit[1]] if k > 1 + delay else [9.0, 0.0] for k in range(1, 10)]
    assert np.allclose(acted, expected)


@pytest.mark.parametrize("late", [0.0, 0.3, 1.0, 2.4])
@pytest.mark.parametrize("fault", ["none", "offset", "gain", "noise", "silent"])
def test_the_delay_of_commands_is_found_from_what_is_reported_and_nothing_else_is_believed(late, fault):
    """Without reports there is none to be found."""
    robot, rng = make("arm"), np.random.default_rng(0)
    estimator = JointFilter(robot, Config())
    limit, (whole, part) = robot.effort_limit, divmod(late, 1.0)
    commands = [np.zeros(7)] * 4
    joints = {"position": robot.home, "velocity": np.zeros(7)}
    estimator.update(Observation(20_000_000, effort=np.zeros(7), **joints))
    for k in range(2, 80):
        commands.append(0.1 * limit * rng.standard_normal(7))
        estimator.commanded(commands[-1])
        acted = (1 - part) * commands[-1 - int(whole)] + part * commands[-2 - int(whole)]
        reported = {"none": acted, "offset": acted + 0.05 * limit, "gain": 1.1 * acted, "silent": acted * np.nan,
                    "noise": acted + 0.01 * limit * rng.standard_normal(7)}[fault]
        state = estimator.update(Observation(k * 20_000_000, effort=reported, **joints))
        off = np.abs(state.effort - (commands[-1] if fault == "silent" else acted)).max() / limit.max()
        assert k < 20 or off < (0.05 if fault in ("gain", "noise") else 1e-3)


def test_commands_do_not_count_where_efforts_are_reported():
    estimator = JointFilter(make(), Config(effort_source="joint_states", command_delay=2))
    estimator.update(observe(1))
    estimator.commanded(np.array([5.0, 5.0]))
    assert np.allclose(estimator.update(observe(2, effort=(1.0, 2.0))).effort, [1.0, 2.0])


def test_the_plain_loop_tells_the_filter_what_it_commands():
    """What the drives report is hidden: the efforts of the states are those of the loop all the same."""
    parts = assembly.make_parts(settings(estimator={"effort_source": "commands", "command_delay": 1}), 0)

    class Silent:
        def step(self, effort):
            return replace(parts.plant.step(effort), effort=np.full(parts.robot.m, np.nan))

    ring = Ring(Silent(), parts.estimator, parts.learner, parts.controller, parts.plant.reset(0))
    parts.controller.request("excite")
    states, efforts = zip(*(ring.tick() for _ in range(20)), strict=True)
    assert np.ptp(efforts, axis=0).min() > 0.1
    assert np.allclose([s.effort for s in states[2:]], efforts[:-2], atol=1e-12)


def test_past_efforts_shift():
    robot = make(effort_history=3)
    estimator = JointFilter(robot, Config(effort_source="joint_states"))
    for k in range(1, 6):
        state = estimator.update(observe(k, effort=(float(k), -float(k))))
    lags = [state.belief.mean[robot.slice(f"effort/{lag}")][0] for lag in (1, 2, 3)]
    assert lags == pytest.approx([5.0, 4.0, 3.0])


@pytest.mark.parametrize("stamps, episodes", [
    ([1, 2, 3], [0, 0, 0]),
    ([1, 1, 2], [0, None, 0]),  # a repeat is not counted twice
    ([1, 2, 1.5, 3], [0, 0, None, 0]),  # a late message is dropped
    ([1, 2, 5, 6], [0, 0, 1, 1]),  # a gap starts anew
    ([100, 101, 1, 2], [0, 0, 1, 1]),  # so does a clock that jumped back
])
def test_stamps_say_what_is_an_estimate_and_what_an_episode(stamps, episodes):
    estimator = JointFilter(make(), Config())
    states = [estimator.update(observe(s)) for s in stamps]
    assert [None if s is None else s.episode for s in states] == episodes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e300, 1.1e6])
@pytest.mark.parametrize("what", ["q", "qd", "effort"])
def test_what_no_later_reading_could_make_up_for_is_refused(what, bad):
    """And forgotten: the estimates that follow are those of a filter that never saw it."""
    estimator, other = (JointFilter(make(), Config(effort_source="joint_states")) for _ in range(2))
    for k in range(1, 12):
        if k % 5 == 0:
            with pytest.raises(MessageError, match=r"of elbow is .*; expected finite values of at most 1e\+06"):
                estimator.update(observe(k, **{what: (0.1, bad)}))
        good = observe(k, (0.01 * k, 0.2))
        assert np.array_equal(estimator.update(good).belief.mean, other.update(good).belief.mean)


def test_velocity_is_found_without_a_velocity_reading():
    estimator = JointFilter(make(), Config(acceleration_noise=1.0))
    for k in range(1, 80):
        state = estimator.update(observe(k, (0.5 * k * 0.02, 0.0), None))
    assert state.belief.mean[2] == pytest.approx(0.5, abs=1e-6)
