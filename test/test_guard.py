"""The guard: limits that no sequence of inputs gets past, ages, states, and the hold."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from arms import make
from truths import violated

from mbrl_ros.ring import guard
from mbrl_ros.ring.guard import ARMED, FAULT, HOLD, STOPPED, UNCONFIGURED, WARM, Config, Guard, Limits
from mbrl_ros.ring.swing import Calm
from mbrl_ros.types import Feedback

H = 0.02  # [s] control period
NS = 20_000_000  # [ns] the same
CALM = Config(arm_at_start=True)
ZERO = np.zeros(2)


def limits(**other):
    """Two joints, the second without ends."""
    values = {"effort": [40.0, 15.0], "effort_rate": [990.0, 500.0], "position_low": [-2.0, -np.inf],
              "position_high": [1.5, np.inf], "speed": [3.0, 4.0], "deceleration": [20.0, 30.0],
              "stiffness": [80.0, 30.0], "damping": [8.0, 2.5], "overspeed": [6.0, 8.0],
              "inertia": [0.2, 0.05], "drag": [16.0, 5.0]}
    return Limits(**{name: np.array(value) for name, value in {**values, **other}.items()})


def make_guard(config=Config(), weight=None, **other):  # noqa: B008
    return Guard(limits(**other), config, H, weight)


def tick(g, k, command=ZERO, q=ZERO, qd=ZERO):
    """One period in which all is well, unless q, qd or command say otherwise; what is sent."""
    g.measured(1 + k * NS, np.asarray(q, float), np.asarray(qd, float), k * H)
    if command is not None:
        g.commanded(np.asarray(command, float), 1 + k * NS, k * H)
    return g.effort(k * H)


def armed(config=CALM, weight=None, **other):
    """A guard that has passed one command, of zero effort, at time zero."""
    g = make_guard(config, weight, **other)
    tick(g, 0)
    assert g.state == ARMED
    return g


# --- limits


def test_limits_are_those_of_the_robot():
    robot = make(position_margin=[0.1, 0.2])
    of = Limits.of(robot, Config(speed=0.5, overspeed=3.0))
    assert np.allclose(of.speed, [2.0, 2.0]) and np.allclose(of.overspeed, [12.0, 12.0])
    assert np.allclose(of.position_low, [-3.0, -2.6]) and np.allclose(of.position_high, [3.0, 2.6])
    for name in ("effort", "effort_rate"):
        assert np.array_equal(getattr(of, name), getattr(robot, f"{name}_limit"))
    for name in ("deceleration", "stiffness", "damping"):
        assert np.array_equal(getattr(of, name), getattr(robot, name))
    assert of.problem() == ""


def test_a_robot_file_has_defaults_of_rate_and_margin_and_none_of_deceleration():
    robot = make(effort_rate_limit=[], position_margin=[], deceleration=[])
    assert np.array_equal(robot.effort_rate_limit, [990.0, 990.0])
    assert np.allclose(robot.position_margin, 0.05)
    assert "no limit without deceleration" in Limits.of(robot, Config()).problem()


@pytest.mark.parametrize(("name", "value", "words"), [
    ("effort", [0.0, 1.0], "no limit without effort, for every joint"), ("speed", [1.0, -1.0], "without speed"),
    ("deceleration", [np.nan, 1.0], "without deceleration"), ("position_low", [np.nan, 0.0], "without position_low"),
    ("position_low", [1.5, 0.0], "leave it no room")])
def test_without_limits_nothing_is_sent_and_nothing_armed(name, value, words):
    g = make_guard(CALM, **{name: value})
    assert words in limits(**{name: value}).problem()
    for k in range(WARM + 5):
        assert tick(g, k) is None
    assert g.state == UNCONFIGURED and words in g.reason
    assert g.arm(k * H).startswith("unconfigured") and words in g.arm(k * H)


def test_a_joint_may_be_as_fast_as_still_stops_within_the_distance():
    d = np.array([0.0, 1e-6, 0.1, 1.0, 50.0])
    v = guard.allowed_speed(d, 10.0)
    assert np.allclose(v * guard.REACTION + v**2 / 20.0, d)
    assert guard.allowed_speed(np.array([-0.1, -0.2]), 10.0) == pytest.approx([-0.1 / guard.REACTION,
                                                                              -0.2 / guard.REACTION])
    assert guard.allowed_speed(np.array([np.inf]), 10.0) == np.inf


def test_brakes_let_alone_what_is_slow_and_far_from_the_ends():
    low, high = guard.brakes(limits(speed=[30.0, 40.0], effort_rate=[9900.0, 9900.0]), ZERO, ZERO, ZERO)
    assert np.array_equal(low, -limits().effort) and np.array_equal(high, limits().effort)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("weight", [ZERO, np.array([5.0, -2.0])])
def test_at_the_allowed_speed_only_the_weight_is_carried_and_beyond_it_joints_are_damped(sign, weight):
    of = limits()
    for over in (0.0, 0.5):
        low, high = guard.brakes(of, ZERO, sign * (of.speed + over), weight)
        bound = high if sign > 0 else low
        assert np.allclose(bound, weight - sign * of.drag * over)
    low, high = guard.brakes(of, ZERO, sign * (of.speed + 100.0), weight)
    assert np.array_equal(low, -sign * of.effort) or np.array_equal(high, -sign * of.effort)
    assert (low <= high).all()


def test_below_the_allowed_speed_the_push_can_be_taken_away_in_time():
    """Ramped down at its rate, the effort speeds the joint of critical damping up to the allowed speed, not beyond."""
    of = limits(effort=[1e3, 1e3], drag=[160.0, 50.0])  # so that neither of the other two bounds is the smaller one
    for room in (0.01, 0.1):
        for sign in (1, -1):
            low, high = guard.brakes(of, ZERO, sign * (of.speed - room), ZERO)
            u = (high if sign > 0 else -low)[1]
            assert u <= of.drag[1] * room + 1e-9
            assert u**2 / (2 * of.effort_rate[1] * of.inertia[1]) <= room + 1e-9
    of = limits(effort=[1e3, 1e3])
    for sign in (1, -1):
        low, high = guard.brakes(of, ZERO, sign * (of.speed - 3.9), ZERO)
        u = high if sign > 0 else -low
        assert np.allclose(u**2 / (2 * of.effort_rate * of.inertia), 3.9)


@pytest.mark.parametrize("sign", [1, -1])
def test_before_an_end_the_allowed_speed_falls_and_beyond_it_is_a_speed_back(sign):
    of = limits(position_low=[-1.5, -np.inf])
    for q in (1.2, 1.4, 1.5, 1.6):
        allowed = guard.allowed_speed(np.array(1.5 - q), 20.0)
        low, high = guard.brakes(of, np.array([sign * q, 0.0]), np.array([sign * allowed, 0.0]), ZERO)
        assert (high if sign > 0 else low)[0] == pytest.approx(0.0, abs=1e-9)
    low, high = guard.brakes(of, np.array([sign * 90.0, 0.0]), -sign * of.speed, ZERO)  # as fast back as is allowed
    assert (high if sign > 0 else low)[0] == 0.0
    assert (low if sign > 0 else high)[0] == 0.0


def test_the_ramp_gives_its_rate_and_no_more_whatever_the_times():
    rng = np.random.default_rng(0)
    rate, interval = np.array([990.0, 50.0]), 0.02
    ramp, now, times, sent = guard.Ramp(rate), 0.0, [], []
    for _ in range(3000):
        dt = rng.choice([0.0, 0.001, 0.007, 0.02, 0.3])
        now += dt
        times.append(now)
        sent.append(ramp.follow(rng.uniform(-100, 100, 2), dt, interval))
    times, sent = np.array(times), np.array(sent)
    assert np.abs(sent[0]).max() <= (rate * interval).max() + 1e-9
    for apart in (1, 2, 5, 20):
        most = rate * (guard.FORGIVEN * (times[apart:] - times[:-apart])[:, None] + interval)
        assert (np.abs(sent[apart:] - sent[:-apart]) <= most + 1e-9).all()
    steady = guard.Ramp(rate)
    for _ in range(3):
        before = steady.effort
        assert np.allclose(steady.follow(before + 1e3, interval, interval) - before, rate * interval)
    assert np.allclose(steady.follow(before, interval, 0.001) - (before + rate * interval), -rate * 0.001)


def test_numbers_that_are_judgements_stay_what_they_were_measured_with():
    assert (guard.PERIODS, guard.QUICK, guard.WARM, guard.REACTION, guard.JUMP, guard.NOISE) == (
        2, 0.02, 10, 0.1, 2.0, 0.02)
    assert (guard.BRAKES, guard.FRESH, guard.LIGHTEST) == (100.0, 0.5, 20.0)
    assert (guard.SLOW, guard.ABSURD, guard.FORGIVEN, guard.OFTEN, guard.REMEMBERED) == (0.5, 1e6, 1.001, 0.6, 50)
    assert Config() == Config(False, 0.0, 0.0, 0.1, 1.0, 2.0, "robot", 1.0)


# --- what leaves it, for any input


BAD = [np.nan, np.inf, -np.inf, 1e300]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_beyond_a_limit_leaves_it_whatever_comes_in(seed):
    """Joints that move by what is sent, and a controller, sensors and operators that do anything."""
    rng = np.random.default_rng(seed)
    g = make_guard(Config(gravity=["robot", "model", "carried"][seed % 3], blend=[0.1, 0.0][seed % 2]),
                   weight=lambda q: np.array([5.0 * np.sin(q[0]), np.nan if q[1] > 3 else 1.0]))
    q, qd, inertia = np.zeros(2), np.zeros(2), rng.uniform(0.1, 1.0, 2)
    before, states, c, sent_at = np.zeros(2), set(), np.zeros(2), -1.0
    for k in range(700):
        now, odd = k * H, rng.random(8) < 0.02
        seen_q, seen_qd = q.copy(), qd.copy()
        if odd[0]:
            seen_q[rng.integers(2)] = rng.choice(BAD)
        if odd[1]:
            seen_qd[rng.integers(2)] = rng.choice(BAD)
        if odd[2]:
            seen_q = q + rng.normal(0, 3, 2)
        used = not odd[3] and g.measured(1 + k * NS - rng.integers(4) * NS * odd[4], seen_q, seen_qd, now)
        if rng.random() < 0.1:
            c = rng.choice([-1, 0, 1, 5], 2) * g.limits.effort * rng.random(2)
        command = c.copy()
        if odd[5]:
            command[rng.integers(2)] = rng.choice(BAD)
        if not odd[6]:
            g.commanded(command, None if odd[0] else 1 + k * NS, now)
        if rng.random() < 0.1:
            g.reset()
        if rng.random() < 0.1:
            g.arm(now)
        if rng.random() < 0.01:
            [g.estop, g.disarm, lambda: g.fail("asked for")][rng.integers(3)]()
        u = g.effort(now)
        states.add(g.state)
        if u is None:
            continue
        believed = (seen_q, seen_qd) if used else (g._q, g._qd)
        weightless = g.fresh(now) and g.config.gravity != "model"
        assert violated(g.limits, H, u, before, now - sent_at, believed if weightless else None) == []
        before, sent_at = u, now
        qd = qd + H * (u - 0.1 * qd) / inertia
        q = q + H * qd
    assert states >= {HOLD, ARMED, FAULT}


@pytest.mark.parametrize("name", ["arm", "arm4", "arm6", "planar2", "pendulum"])
@pytest.mark.parametrize("inertia", [1.0, 4.0])
def test_a_joint_pushed_with_all_it_has_is_at_most_a_tenth_too_fast_and_off_its_ends(name, inertia):
    """Joint by joint, of the smallest inertia that the brakes damp without overshoot at this period, and a larger one;
    the ramp takes its time, hence the tenth."""
    robot = make(name)
    g = Guard(Limits.of(robot, CALM), CALM, H)
    of, q, qd = g.limits, robot.home.copy(), np.zeros(robot.m)
    moving = inertia * of.drag * H
    rng = np.random.default_rng(1)
    for k in range(600):
        if k % 50 == 0:
            push = of.effort * rng.choice([-1, 1], robot.m)
        u = tick(g, k, push, q, qd)
        assert g.state == ARMED
        q = q + H * (qd + 0.5 * H * u / moving)
        qd = qd + H * u / moving
        assert (np.abs(qd) < 1.1 * of.speed).all()
        assert (q > robot.position_low).all() and (q < robot.position_high).all()


def test_where_states_come_fast_commands_are_ramped_at_their_pace():
    g, sent = armed(), []
    for k in range(1, 41):
        now = k * 1e-3
        g.measured(1 + k * 1_000_000, ZERO, ZERO, now)
        if k == 20:
            g.commanded(np.array([15.0, 0.0]), 1 + k * 1_000_000, now)
        sent.append(g.effort(now)[0])
    steps = np.diff(sent[:36])
    assert steps[:18].max() == 0
    assert np.allclose(steps[19:33], 0.99, rtol=2e-3) and sent[-1] == 15.0
    tick(g, 3, [15.0, 0.0])  # after a gap they come slowly: in whole steps again
    assert tick(g, 4, [34.0, 0.0])[0] == 15.0 + min(19.0, 990.0 * H)


def test_one_pair_of_close_states_does_not_count_as_fast():
    g = armed()
    tick(g, 1)
    g.measured(1 + NS + NS // 2, ZERO, ZERO, 1.5 * H)
    assert g._interval == H and g.fresh(1.5 * H + 1.9 * H)
    g.measured(1 + 2 * NS, ZERO, ZERO, 2 * H)
    assert g._interval == H / 2 and not g.fresh(2 * H + 1.1 * H)


# --- what passes


def test_an_armed_guard_passes_commands_within_the_limits_on_unchanged():
    g, rng = armed(), np.random.default_rng(0)
    effort = np.zeros(2)
    for k in range(1, 200):
        effort = np.clip(effort + rng.uniform(-9, 9, 2), -10, 10)
        assert np.array_equal(tick(g, k, effort), effort)
        assert g.answered == 1 + k * NS
    assert g.dropped == 0 and g.in_time == 200


def test_steps_as_large_as_the_rate_allows_pass_unchanged():
    """As the controller computes them: or else rounding would make nodes and plain loop differ."""
    g, rate = armed(effort=[87.0, 15.0]), limits().effort_rate
    effort = np.zeros(2)
    for k in range(1, 400):
        step = rate * H
        asked = effort + (np.array([90.0, -40.0]) if k % 3 else np.array([-99.0, 9.0]))
        effort = np.clip(np.clip(asked, effort - step, effort + step), [-30.0, -9.0], [30.0, 9.0])
        assert np.array_equal(tick(g, k, effort), effort)


def test_a_command_may_come_before_the_state_that_it_answers():
    g = armed()
    assert not g.commanded(np.array([3.0, 1.0]), 1 + NS, 0.9 * H)
    assert np.array_equal(g.effort(0.95 * H), ZERO)
    g.measured(1 + NS, ZERO, ZERO, H)
    assert np.array_equal(g.effort(H), [3.0, 1.0])
    g.commanded(np.array([4.0, 1.0]), 1 + 3 * NS, 1.5 * H)  # the state it answers never comes
    g.measured(1 + 2 * NS, ZERO, ZERO, 2 * H)
    assert np.array_equal(g.effort(2 * H), [3.0, 1.0])


def test_late_repeated_and_reordered_commands_are_dropped():
    g = armed()
    for k in range(1, 4):
        tick(g, k, [float(k), 0.0])
    for stamp in (1 + 3 * NS, 1 + 2 * NS, 1 + NS, 5):
        assert not g.commanded(np.array([9.0, 9.0]), stamp, 3 * H)
    assert g.dropped == 4 and np.array_equal(g.effort(3 * H), [3.0, 0.0])


def test_what_it_is_given_may_be_overwritten():
    g, q, qd, effort = armed(), np.array([0.1, 0.0]), np.array([0.2, 0.0]), np.array([3.0, 1.0])
    g.commanded(effort, 1 + NS, 0.9 * H)  # early
    effort[:] = 9.0
    g.measured(1 + NS, q, qd, H)
    q[:], qd[:] = 0.9, 3.0
    assert np.array_equal(g.effort(H), [3.0, 1.0])
    effort[:] = 3.0
    g.measured(1 + 2 * NS, ZERO, ZERO, 2 * H)
    g.commanded(effort, 1 + 2 * NS, 2 * H)
    effort[:] = 9.0
    assert np.array_equal(g.effort(2 * H), [3.0, 3.0])
    g.measured(1 + 3 * NS, q * 0, qd * 0, 3 * H)
    q, qd = np.array([0.1, 0.0]), np.array([0.2, 0.0])
    g.measured(1 + 4 * NS, q, qd, 4 * H)
    q[:], qd[:] = 0.9, 3.0
    g.estop()
    assert np.allclose(g.effort(4 * H), [-0.2 * 8.0, 0.0])
    g.reset()
    g.measured(1 + 5 * NS, np.array([0.1, 0.0]), ZERO, 5 * H)
    assert np.allclose(g.effort(5 * H), 0.0)


def test_an_answer_to_the_newest_state_is_never_early():
    g = armed()
    g.measured(1 + NS, ZERO, ZERO, H)
    assert g.commanded(ZERO, 1 + NS, H)


def test_commands_that_say_nothing_of_what_they_answer_count_from_when_they_come():
    g = armed()
    g.measured(1 + NS, ZERO, ZERO, H)
    assert g.commanded(np.array([2.0, 0.0]), None, 1.5 * H)
    assert np.array_equal(g.effort(1.5 * H), [2.0, 0.0]) and g.answered == 0
    assert g.ages(2.5 * H) == pytest.approx((1.5 * H, H))


# --- faults


def spoil(q=ZERO, qd=ZERO):
    return lambda g: g.measured(1 + NS, np.array(q), np.array(qd), H)


@pytest.mark.parametrize(("wrong", "words"), [
    (spoil(q=[np.nan, 0.0]), "joint states that are not finite"),
    (spoil(qd=[0.0, np.inf]), "joint states that are not finite"),
    (spoil(q=[1e7, 0.0]), "joint states that are not finite"),
    (spoil(q=[0.0, 0.4]), "joint 1 jumped by 0.4"),
    (spoil(qd=[6.1, 0.0]), "joint 0 is too fast: 6.1"),
    (spoil(qd=[0.0, -8.1]), "joint 1 is too fast: -8.1"),
    (lambda g: g.commanded(np.array([1.0, -np.inf]), None, H), "commands that are not finite, or not one a joint"),
    (lambda g: g.commanded(np.array([1.0]), None, H), "commands that are not finite, or not one a joint"),
    (lambda g: g.fail("names"), "names"),
])
def test_what_cannot_be_acted_on_is_a_fault_until_reset(wrong, words):
    g = armed()
    wrong(g)
    assert (g.state, g.reason) == (FAULT, words)
    assert np.isfinite(g.effort(H)).all()
    for k in range(2, WARM + 5):  # all is well again, and it still holds
        u = tick(g, k, [9.0, 3.0])
        assert g.state == FAULT and np.abs(u).max() < 40.0
    assert g.arm(k * H) == f"fault: {words}"
    g.reset()
    assert (g.state, g.reason) == (HOLD, "reset")
    assert g.arm(k * H) == "" and g.state == ARMED


def test_faults_of_a_guard_that_is_not_armed_change_nothing():
    g = make_guard()
    tick(g, 0)
    g.fail("anything")
    g.commanded(np.array([np.nan, 0.0]), None, 0.0)
    assert (g.state, g.reason, g.dropped) == (HOLD, "configured", 1)


def test_no_command_for_two_periods_is_a_fault():
    g = armed()
    for k in (1, 2):
        tick(g, k, None)
        assert g.state == ARMED
    tick(g, 3, None)
    assert (g.state, g.reason) == (FAULT, "no command for 0.060 s")


def test_no_state_for_two_periods_is_a_fault_and_nothing_is_pushed():
    g = armed()
    tick(g, 1, [9.0, 3.0])
    g.commanded(np.array([9.0, 3.0]), None, 3 * H)
    assert np.array_equal(g.effort(3 * H), [9.0, 3.0]) and g.state == ARMED
    assert not np.any(g.effort(3.5 * H))
    assert (g.state, g.reason) == (FAULT, "no joint state for 0.050 s")


def test_on_the_limits_all_is_well():
    """Each is crossed by the next larger number, not by the limit itself."""
    assert guard.plausible(np.array([guard.ABSURD, -guard.ABSURD]))
    g = armed()
    moved = guard.JUMP * 6.0 * H + guard.NOISE
    g.measured(1 + NS, np.array([moved, 0.0]), np.array([6.0, -8.0]), H)
    assert g.state == ARMED
    for _ in range(2):
        g._compare(g._q, guard.OFTEN * H, H)
    assert g.quick
    g, age = make_guard(), guard.FORGIVEN * guard.PERIODS * H
    tick(g, -1)
    g.measured(1, ZERO, ZERO, 0.0)
    assert g.commanded(ZERO, 1, age) and g.in_time == 2
    g.measured(1 + NS, ZERO, ZERO, age)
    assert g.commanded(ZERO, 1 + NS, age) and g.in_time == 3
    g = make_guard()
    for k in range(1 - WARM, 1):
        tick(g, k)
    assert g.arm(age) == ""
    g.check(age)
    assert g.state == ARMED


def test_ages_can_be_set():
    g = armed(Config(arm_at_start=True, state_age=1.0, command_age=2.0))
    g.check(0.99)
    assert g.state == ARMED and g.fresh(1.0) and not g.fresh(1.01)
    g.measured(2, ZERO, ZERO, 1.9)
    g.check(1.99)
    assert g.state == ARMED
    g.check(2.01)
    assert g.reason == "no command for 2.010 s"


def test_when_armed_is_no_longer_right_is_known_before():
    g = armed(Config(arm_at_start=True, state_age=1.0, command_age=2.0))
    assert g.due() == pytest.approx(1.001)
    g.measured(2, ZERO, ZERO, 0.5)
    assert g.due() == pytest.approx(1.501)
    g.measured(3, ZERO, ZERO, 1.5)
    assert g.due() == pytest.approx(2.002)
    g.check(g.due() - 1e-9)
    assert g.state == ARMED
    g.check(g.due() + 1e-9)
    assert g.state == FAULT and "no command" in g.reason


def test_states_repeated_or_a_little_late_do_not_count_as_new():
    g = armed()
    tick(g, 1)
    for behind in (0, 1, NS // 2, NS):
        assert not g.measured(1 + NS - behind, ZERO, ZERO, 1.5 * H)
    assert g.dropped == 4 and g.ages(2 * H)[0] == pytest.approx(H)
    assert g.measured(1, ZERO + 0.01, ZERO, 2 * H) is False


@pytest.mark.parametrize("jump", [-3600 * 10**9, -2 * NS - 10**6, 3600 * 10**9])
def test_clocks_may_jump_because_ages_are_on_another(jump):
    g = armed()
    for k in range(1, 20):
        stamp = 10**13 + k * NS + (jump if k > 9 else 0)
        assert g.measured(stamp, ZERO, ZERO, k * H)
        assert g.commanded(np.array([1.0, k]), stamp, k * H)
        g.effort(k * H)
    assert g.state == ARMED and g.in_time == 20


def test_a_slow_joint_that_comes_late_has_not_jumped():
    g = armed(Config(arm_at_start=True, state_age=10.0, command_age=10.0))
    assert g.measured(1 + 5 * NS, np.array([0.5, 0.0]), ZERO, 5 * H) and g.state == ARMED
    g.measured(1 + 6 * NS, np.array([0.5 + 2 * 6.0 * H + 0.01, 0.0]), ZERO, 6 * H)
    assert g.state == ARMED
    g.measured(1 + 7 * NS, np.array([0.48, 0.0]), ZERO, 7 * H)
    assert g.state == FAULT


# --- states


def test_it_holds_from_the_first_state_on_and_arms_when_asked():
    g = make_guard()
    assert (g.state, g.reason) == (UNCONFIGURED, "no joint state yet")
    assert (g.answered, g.in_time, g.dropped) == (0, 0, 0)
    assert g.effort(0.0) is None and g.ages(0.0) == (np.inf, np.inf)
    assert g.arm(0.0) == "unconfigured: no joint state yet"
    for k in range(WARM):
        assert g.arm(k * H) != ""
        tick(g, k)
    assert (g.state, g.reason) == (HOLD, "configured")
    assert g.arm(k * H) == "" and (g.state, g.reason) == (ARMED, "asked for")
    assert g.arm(k * H) == ""
    g.disarm()
    assert (g.state, g.reason) == (HOLD, "asked for")
    g.disarm()
    g.reset()
    assert (g.state, g.reason) == (HOLD, "asked for")


def test_arming_again_does_not_blend_again():
    g = warm()
    g.arm(WARM * H - H)
    for k in range(WARM, WARM + 10):
        u = tick(g, k, [9.0, 0.0])
        g.arm(k * H)
    assert u[0] == 9.0


def warm(config=Config(), weight=None, **other):  # noqa: B008
    """A guard that may be armed."""
    g = make_guard(config, weight, **other)
    for k in range(WARM):
        tick(g, k)
    return g


def test_arming_is_refused_without_a_fresh_state_or_a_warm_controller():
    g, last = warm(), (WARM - 1) * H
    assert g.arm(last + 2.1 * H) == "the joint state is too old"
    g.measured(1 + (WARM + 1) * NS, ZERO, ZERO, last + 2.1 * H)
    assert g.arm(last + 2.1 * H) == "the controller is not warmed up: 10 commands in time; expected 10"
    tick(g, WARM + 2)  # the commands were interrupted for three periods
    assert g.in_time == 1 and "1 commands in time" in g.arm((WARM + 2) * H)
    g = warm()
    for k in range(WARM, 3 * WARM):  # answers that come too late are none
        g.measured(1 + k * NS, ZERO, ZERO, k * H)
        g.commanded(ZERO, 1 + (k - 3) * NS, k * H)
    assert "not warmed up" in g.arm(k * H)


def test_arming_blends_from_the_hold():
    g = warm()
    u, now = [], (WARM - 1) * H
    assert g.arm(now) == ""
    for k in range(WARM, WARM + 8):
        u.append(tick(g, k, [10.0, -4.0], q=[0.01, 0.0]))
    held = -0.01 * g.limits.stiffness[0]
    expected = [held + (10.0 - held) * min(1.0, (i + 1) / 5) for i in range(8)]
    assert np.allclose(np.array(u)[:, 0], expected, atol=0.02)  # the integral of the hold besides
    assert np.allclose(np.array(u)[:, 1], [-0.8, -1.6, -2.4, -3.2, -4.0, -4.0, -4.0, -4.0], atol=1e-9)
    at_once = warm(Config(blend=0.0))
    at_once.arm(now)
    assert np.array_equal(tick(at_once, WARM, [10.0, -4.0]), [10.0, -4.0])


def test_arming_blends_from_where_the_hold_began():
    g = warm()
    tick(g, WARM, q=[0.02, 0.0])
    g.arm(WARM * H)
    held = -0.02 * g.limits.stiffness[0] * np.array([1.0, 1.0])
    u = [tick(g, k, q=[0.02, 0.0])[0] for k in (WARM + 1, WARM + 2)]
    assert np.allclose(u, held * [0.8, 0.6], atol=0.1)


def test_armed_at_start_means_from_the_first_command_on_and_only_then():
    g = make_guard(CALM)
    assert np.array_equal(tick(g, 0, [3.0, 1.0], q=[0.1, 0.0]), [3.0, 1.0])
    assert (g.state, g.reason) == (ARMED, "at start")
    g.disarm()
    tick(g, 1)
    assert g.state == HOLD
    other = make_guard()
    tick(other, 0)
    assert other.state == HOLD


def test_armed_at_start_blends_from_the_hold_where_that_came_first():
    """As after `idle`, and for a controller that starts later than the robot."""
    for idle in (False, True):
        g = make_guard(Config(arm_at_start=True, blend=10 * H))
        for k in range(3):
            tick(g, k, None)
            if idle:
                g.idle(1 + k * NS)
        sent = [tick(g, k, [5.0, 0.0])[0] for k in range(3, 14)]
        assert g.state == ARMED and np.allclose(sent, np.linspace(0.0, 5.0, 11), atol=1e-9)


def test_a_controller_that_asks_for_nothing_leaves_the_arm_to_the_hold():
    g = armed(Config(arm_at_start=True, gravity="carried"))
    for k in range(1, 200):
        tick(g, k, [3.0, 1.0])
    g.measured(1 + 200 * NS, np.array([0.1, 0.0]), ZERO, 200 * H)
    g.idle(1 + 200 * NS)
    assert (g.state, g.reason) == (HOLD, "the controller asks for nothing")
    assert g.answered == 1 + 200 * NS and g.in_time == 0
    assert np.allclose(g.effort(200 * H), [3.0, 1.0], atol=0.01)  # and it does not fall
    assert tick(g, 201, None, q=[0.05, 0.0])[0] > 5.0  # 80 N m/rad
    assert g.arm(201 * H).endswith("0 commands in time; expected 10")
    g.idle(None)
    assert g.answered == 0
    tick(g, 202)
    assert g.state == ARMED


def test_asking_for_nothing_takes_back_a_command_that_came_early_and_resets_no_fault():
    g = make_guard(CALM)
    g.measured(1, ZERO, ZERO, 0.0)
    g.commanded(ZERO, 1 + NS, 0.0)
    g.idle(1)
    g.measured(1 + NS, ZERO, ZERO, H)
    assert g.state == HOLD and g.in_time == 0
    g = armed()
    g.fail("test")
    g.idle(1)
    assert g.state == FAULT


def test_an_emergency_stop_damps_gives_way_and_latches():
    g = armed()
    g.estop()
    assert (g.state, g.reason) == (STOPPED, "emergency stop")
    assert np.allclose(tick(g, 1, [9.0, 3.0], q=[0.1, 0.0], qd=[0.5, 0.0]), [-0.5 * 8.0, 0.0])
    assert g.arm(H) == "stopped: emergency stop"
    g.fail("anything")
    g.disarm()
    assert g.state == STOPPED
    g.reset()
    assert g.state == HOLD


def test_an_emergency_stop_counts_before_the_first_state_too():
    g = make_guard(CALM)
    g.estop()
    assert g.effort(0.0) is None
    tick(g, 0)
    assert (g.state, g.reason) == (STOPPED, "emergency stop")
    g = make_guard(CALM)
    g.estop()
    g.reset()
    assert g.state == UNCONFIGURED
    tick(g, 0)
    assert g.state == ARMED


# --- the hold


def moved(g, k, q, qd, periods, inertia=np.array([0.2, 0.06]), push=ZERO):  # noqa: B008
    """Joints of that inertia under what the guard sends, pushed besides; where and how fast they are then."""
    for i in range(k, k + periods):
        u = tick(g, i, None, q, qd)
        for _ in range(10):
            qd = qd + H / 10 * (u + push) / inertia
            q = q + H / 10 * qd
    return q, qd


def test_a_fault_in_motion_comes_to_rest_within_a_second_where_it_began():
    g = armed()
    q, qd = np.array([0.0, 0.3]), np.array([1.0, -2.0])
    for k in range(1, 30):
        tick(g, k, [0.0, 0.0], [0.0, 0.3 * min(k, 3) / 3])
    tick(g, 30, [0.0, 0.0], q, qd)
    g.fail("test")
    q, qd = moved(g, 31, q, qd, 50)
    assert np.abs(qd).max() < 0.05
    q, _ = moved(g, 81, q, qd, 400)
    assert np.allclose(q, [0.0, 0.3], atol=1e-3)


def test_the_integral_carries_what_else_pulls_and_no_more_than_half_of_the_effort():
    g = make_guard()
    q, _ = moved(g, 0, ZERO, ZERO, 1000, push=np.array([-10.0, 3.0]))
    assert np.allclose(q, 0.0, atol=1e-2) and np.allclose(g.effort(1000 * H), [10.0, -3.0], atol=0.2)
    none = make_guard(Config(integral=0.0))
    q, _ = moved(none, 0, ZERO, ZERO, 500, push=np.array([-10.0, 3.0]))
    assert np.allclose(q, [-10 / 80, 3 / 30], atol=1e-3)
    hold = guard.Hold(limits(), 1.0, Calm(np.full(2, 3.0)))
    hold.begin(ZERO, np.array([99.0, -99.0]))
    assert np.allclose(hold.effort(ZERO, ZERO, H), [20.0, -7.5])
    for _ in range(1000):
        effort = hold.effort(np.array([-1.0, 0.0]), ZERO, H)
    assert effort[0] == 80.0 + 20.0


def test_the_model_carries_the_weight_where_it_is_asked_to():
    pull = lambda q: np.array([12.0 * np.cos(q[0]), 1.0])  # noqa: E731
    for config, expected in ((Config(gravity="model"), [12.0, 1.0]), (Config(), [0.0, 0.0])):
        g = make_guard(config, pull)
        assert np.allclose(tick(g, 0, None), expected)
        assert np.allclose(g.effort(H), expected)
        g.estop()
        assert np.allclose(tick(g, 2, None), expected)
        assert np.allclose(g.effort(10 * H), expected)  # without a state too


def test_what_was_sent_last_counts_as_weight_where_that_is_asked_for():
    for gravity, expected in (("carried", [6.0, -2.0]), ("robot", [0.0, 0.0])):
        g = armed(Config(arm_at_start=True, gravity=gravity))
        for k in range(1, 300):
            tick(g, k, [6.0, -2.0])
        g.fail("test")
        assert np.allclose(tick(g, 300, None), expected, atol=1e-3)
        g.estop()
        assert np.allclose(tick(g, 301, None), expected, atol=0.05)
        assert np.allclose(g.effort(320 * H), expected, atol=0.1)  # without a state too
    g = armed(Config(arm_at_start=True, gravity="carried"))
    for k in range(1, 26):
        tick(g, k, [6.0, -2.0])
    assert g._carried == pytest.approx([6.0 * (1 - 0.96**25), -2.0 * (1 - 0.96**25)])  # half a second: 1 - 1/e


def test_after_a_gap_or_a_jump_the_hold_begins_where_the_joints_are():
    g = make_guard()
    tick(g, 0, None)
    g.effort(3 * H)  # too old by now
    assert np.allclose(tick(g, 4, None, q=[0.3, 0.0]), 0.0)
    tick(g, 5, None, q=[0.3, 0.0])
    assert np.allclose(tick(g, 6, None, q=[-0.9, 0.5]), 0.0)
    assert not np.allclose(tick(g, 7, None, q=[-0.95, 0.5]), 0.0)  # and stays there
    assert g.state == HOLD


def test_the_hold_does_not_go_back_to_where_the_joints_were_before_a_gap():
    g = armed()
    g.effort(5 * H)
    assert g.state == FAULT
    g.reset()  # before any new state
    assert np.allclose(tick(g, 7, None, q=[0.3, 0.0]), 0.0, atol=0.1)
    assert np.allclose(tick(g, 8, None, q=[0.3, 0.0]), 0.0, atol=0.1)


def fed_back(apart, answers=1):
    """A guard armed with a command of (4, 2) and the feedback of its plan; the joints are 0.1 rad and 0.2 rad/s off it,
    `apart` [periods] after the state before."""
    g = armed(Config(arm_at_start=True, command_age=9.0))
    g.commanded(np.array([4.0, 2.0]), 1, 0.0)
    for k in range(1, 21):
        tick(g, k, [4.0, 2.0])
    newest = 1 + 20 * NS
    g.feedback = Feedback(answers + 20 * NS, newest, H, ZERO, np.zeros((2, 4)), np.diag([-10.0, -5.0]).repeat(2, 1))
    for i in (1, 2):
        g.measured(newest + i * int(apart * NS), np.array([0.0, 0.1]), np.array([0.2, 0.0]), 20 * H + i * apart * H)
    return g, g.effort(20 * H + 2 * apart * H)


def test_a_command_gets_the_feedback_of_its_plan_where_states_are_quick():
    g, u = fed_back(0.1)
    assert g.quick and g.state == ARMED
    # K = [[-10, -10, 0, 0], [0, 0, -5, -5]] on [q1, q2, qd1, qd2]
    assert u == pytest.approx([4.0 - 10.0 * 0.1, 2.0 - 5.0 * 0.2])
    assert fed_back(1.0)[1] == pytest.approx([4.0, 2.0])  # one state a period: the next plan is as quick
    assert fed_back(0.1, answers=2)[1] == pytest.approx([4.0, 2.0])  # another plan's


def test_feedback_is_about_the_state_that_is_planned_for_now():
    g, _ = fed_back(0.1)
    states = np.array([[0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
    g.feedback = Feedback(g.feedback.answers, g.feedback.begin, H, ZERO, states, g.feedback.K)
    g.measured(1 + 20 * NS + 3 * NS // 10, 0.3 * states[1, :2], 0.3 * states[1, 2:], 20.3 * H)
    assert g.effort(20.3 * H) == pytest.approx([4.0, 2.0])


def test_a_clock_that_keeps_going_back_is_no_fast_one():
    g = armed()
    for i in range(1, 4):
        g.measured(1 - i * 10**9, ZERO, ZERO, i * H)
        assert not g.quick


def test_efforts_asked_for_at_one_instant_share_the_rate():
    g = armed()
    u = tick(g, 1, [40.0, 0.0])
    assert u[0] == pytest.approx(990.0 * H)
    assert np.array_equal(g.effort(H), u)
    assert g.effort(1.5 * H)[0] == pytest.approx(1.5 * 990.0 * H, rel=2e-3)


def test_what_is_not_finite_or_too_much_is_not_sent_whoever_asks_for_it():
    g = armed()
    g._target = lambda *_: np.array([np.nan, 1e3])
    assert np.allclose(tick(g, 1), [0.0, 500.0 * H])
    g = armed(Config(arm_at_start=True, gravity="model"), lambda q: np.array([300.0, -np.inf]))
    for k in range(1, 10):  # no state comes
        u = g.effort(k * H)
    assert np.array_equal(u, [40.0, -15.0])


def test_after_a_long_break_the_mean_of_what_was_sent_is_what_is_sent():
    g = armed(Config(arm_at_start=True, gravity="carried", state_age=10.0, command_age=10.0))
    assert np.allclose(tick(g, 40, [6.0, -2.0]), [6.0, -2.0])
    assert np.allclose(g._carried, [6.0, -2.0])


def test_to_leave_the_effort_goes_down_to_none_at_the_limited_rate():
    g = make_guard()
    assert np.array_equal(g.release(0.0), ZERO)
    g = armed()
    for k in (1, 2):
        tick(g, k, [30.0, 0.0])
    step = 990.0 * H
    assert g.release(3 * H)[0] == pytest.approx(30.0 - step, abs=0.1)
    assert g.release(3 * H)[0] == pytest.approx(30.0 - step, abs=0.1)
    assert g.release(3.5 * H)[0] == pytest.approx(30.0 - 1.5 * step, abs=0.1)
    assert g.release(5 * H)[0] == 0.0


def test_long_pauses_do_not_wind_the_integral_up():
    g = make_guard()
    tick(g, 0, None)
    g.measured(1 + NS, np.array([0.1, 0.0]), ZERO, 100.0)
    g.effort(100.0)
    assert np.abs(g._hold.carried).max() <= H * 80 * 0.1 + 1e-9


# --- who carries, and what swings


def test_brakes_reckon_with_the_inertia_that_was_found_or_with_what_the_limits_say():
    robot = make()
    of = Limits.of(robot, CALM)
    assert np.allclose(of.inertia, robot.effort_limit / (20 * robot.deceleration))
    assert np.allclose(of.drag, 100 * of.inertia)
    robot.inertia = np.array([1.0, np.nan])
    found = Limits.of(robot, CALM)
    assert np.allclose(found.inertia, [1.0, of.inertia[1]]) and np.allclose(found.drag, [25.0, of.drag[1]])
    robot.period = 0.001
    assert np.allclose(Limits.of(robot, CALM).drag, [100.0, of.drag[1]])


def swung(g, k, halves):
    """A joint 0 that swings at 0.9 rad/s: half a swing of three periods each."""
    for i in range(halves):
        for j in range(3):
            tick(g, k + 3 * i + j, None, qd=[0.9 * (-1) ** i, 0.0])
    return k + 3 * halves


@pytest.mark.parametrize("state", [HOLD, FAULT, STOPPED])
def test_what_swings_is_calmed_and_said_unless_it_is_armed(state):
    g = armed()
    assert g.remark == "" and np.array_equal(g.hold_gain, [1.0, 1.0])
    for k in range(1, 30):
        tick(g, k, qd=[0.9 * (-1) ** (k // 3), 0.0])  # under commands it may
    assert g.remark == ""
    {HOLD: g.disarm, FAULT: lambda: g.fail("test"), STOPPED: g.estop}[state]()
    swung(g, 30, 2)
    assert g.remark == ""  # what was before is no part of it
    swung(g, 36, 4)
    assert g.state == state and g.remark == "joint 0 swings, and is held with less"
    assert g.hold_gain[0] < 1.0 and g.hold_gain[1] == 1.0
    u = tick(g, 48, None, qd=[0.1, 0.1])
    if state == STOPPED:
        assert np.allclose(u, -g.hold_gain * g.limits.damping * 0.1)


def test_a_swing_that_was_interrupted_by_commands_begins_anew():
    g = make_guard(CALM)
    swung(g, 0, 3)
    tick(g, 9)
    tick(g, 10)
    assert g.state == ARMED and g.remark == ""
    g.disarm()
    swung(g, 11, 2)
    assert g.remark == ""


def test_slow_swings_are_measured_by_the_velocity_limit_not_by_what_is_a_fault():
    """Limits of 3 rad/s, of which half swings of a twentieth do not count."""
    g = make_guard(Config(overspeed=2.0))
    for k in range(60):
        tick(g, k, None, qd=[0.14 * np.sin(0.2 * k), 0.0])
    assert g.remark == ""
    for k in range(60, 160):
        tick(g, k, None, qd=[0.17 * np.sin(0.2 * k), 0.0])
    assert g.remark != ""


def test_of_several_that_swing_one_is_named():
    g = make_guard()
    for k in range(40):
        tick(g, k, None, qd=[1.2 * (-1) ** (k // 3)] * 2)
    assert g.remark == "joint 0 swings, and is held with less"


def at_rest(g, load, first=0, periods=400):
    """Joints that a load (m,) pulls at, under what the guard sends."""
    return moved(g, first, ZERO, ZERO, periods, push=-np.asarray(load))


def test_a_guard_that_carries_what_the_robot_was_said_to_finds_it_out_and_moves_nothing():
    load = np.array([12.0, 1.0])
    g = make_guard(Config(gravity="robot"), lambda q: load)
    q, qd = at_rest(g, load, periods=350)
    assert g.remark == "the guard carries the weight of the robot, by the model"
    before = q
    for k in (350, 360):
        q, qd = moved(g, k, q, qd, 10, push=-load)
        assert np.allclose(q, before, atol=1e-3)
    g.effort(400 * H)  # no state any more: the weight is what is left
    for i in range(1, 10):
        u = g.effort((400 + i) * H)
    assert np.allclose(u, load)


def test_without_a_state_nothing_is_found_out():
    g = make_guard(Config(gravity="robot"), lambda q: np.array([12.0, 1.0]))
    tick(g, 0, None)
    g._carried = g._ramp.effort = np.array([12.0, 1.0])
    g._resting = lambda: np.array([12.0, 1.0])
    for k in range(1, 200):
        g.effort((5 + k) * H)
    assert g.remark == ""


def test_brakes_are_about_what_rest_took_where_no_model_knows():
    load = np.array([12.0, 0.0])
    g = make_guard(Config(gravity="robot"))
    q, _ = at_rest(g, load)
    assert g.remark == "the guard carries the weight of the robot, by what rest took"
    u = tick(g, 400, None, q, qd=[3.0, 0.0])  # at the largest speed the weight alone is carried
    for k in range(401, 404):
        u = tick(g, k, None, q, qd=[3.0, 0.0])
    assert u[0] < 12.1
    g._target = lambda *_: np.array([40.0, 0.0])
    for k in range(404, 408):
        u = tick(g, k, None, q, qd=[3.0, 0.0])
    assert u[0] == pytest.approx(12.0, abs=0.2)
    other = make_guard(Config(gravity="model"), lambda q: load)
    other._target = g._target
    for k in range(60):
        u = tick(other, k, None, qd=[3.0, 0.0])
    assert u[0] == pytest.approx(12.0)


def test_it_needs_neither_torch_nor_ros():
    code = "import sys, mbrl_ros.ring.guard; sys.exit(bool({'torch', 'rclpy', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# --- another guard goes on


def successor(g, config=Config(), since=0, weight=None, q=ZERO, qd=ZERO):  # noqa: B008
    """Another guard that has seen the newest states of this one, and goes on from what it left."""
    other = make_guard(config, weight)
    for k in range(since, since + 3):
        other.measured(1 + k * NS, np.asarray(q, float), np.asarray(qd, float), k * H)
    other.inherit(g.legacy(), "took over")
    return other


def test_what_is_held_is_held_on_without_a_step():
    g, q = make_guard(), np.array([0.02, -0.01])
    tick(g, 0, None)
    for k in range(1, 100):  # something pulls: the integral carries it
        tick(g, k, None, q)
    other = successor(g, since=97, q=q)
    assert (other.state, other.reason) == (HOLD, "took over")
    for k in range(100, 110):
        assert np.allclose(tick(other, k, None, q), tick(g, k, None, q), rtol=0, atol=1e-12)


def test_what_moves_is_held_where_it_is_and_the_effort_begins_with_the_last_one():
    g = armed()
    for k in range(1, 9):
        sent = tick(g, k, [30.0, -10.0])
    other = successor(g, since=6, q=[0.5, 0.4], qd=[1.0, -1.0])
    assert other.state == HOLD
    after = tick(other, 9, [30.0, -10.0], [0.5, 0.4])
    assert np.allclose(after, sent - [990.0 * H, -500.0 * H])  # towards none, at the rate: it holds here
    assert np.abs(after).max() > 0
    for k in range(10, 20):
        after = tick(other, k, [30.0, -10.0], [0.5, 0.4])
    assert np.allclose(after, 0.0) and other.state == HOLD


@pytest.mark.parametrize("state", [FAULT, STOPPED])
def test_what_a_person_has_to_leave_is_left_by_nobody_else(state):
    g = armed()
    for k in range(1, 100):
        tick(g, k, [8.0, 0.0])
    _ = g.fail("wrong") if state == FAULT else g.estop()
    sent = tick(g, 100, [8.0, 0.0])
    for other in (successor(g, since=98), successor(successor(g, since=98), since=98)):
        assert (other.state, other.reason) == (state, "took over")
        assert other.arm(100 * H) and other.state == state
        assert np.abs(tick(other, 101, [8.0, 0.0]) - sent).max() <= 990.0 * H * 1.001
        other.reset()
        assert other.state == HOLD


def test_an_emergency_stop_is_passed_on_before_the_first_state_too():
    g = armed()
    g.estop()
    other = make_guard()
    other.inherit(g.legacy(), "took over")
    assert (other.state, other.reason) == (UNCONFIGURED, "took over") and other.effort(0.0) is None
    third = make_guard()
    third.inherit(other.legacy(), "took over")
    for one in (other, third):
        one.measured(1, ZERO, ZERO, 0.0)
        assert one.state == STOPPED
    again = make_guard()
    again.inherit(make_guard().legacy(), "took over")
    again.measured(1, ZERO, ZERO, 0.0)
    assert again.state == HOLD


def test_who_carries_the_weight_is_passed_on():
    weight = lambda q: np.array([12.0, 4.0])  # noqa: E731
    g = make_guard(Config(gravity="model"), weight)
    for k in range(100):
        tick(g, k, None)
    for config in (Config(), Config(gravity="model")):
        other = successor(g, config, 97, weight)
        assert np.allclose(tick(other, 100, None), [12.0, 4.0])
        assert ("the guard carries" in other.remark) == (config.gravity == "robot")
    taken = make_guard(Config(gravity="carried"))  # as rest takes it, where nobody knows masses
    tick(taken, 0, None)
    for k in range(1, 300):
        tick(taken, k, None, [-0.05, 0.02])
    before = taken.legacy()
    other = successor(taken, Config(), 297, q=[-0.05, 0.02])
    assert np.array_equal(other.legacy()[1:6], before[1:6]) and "by what rest took" in other.remark


def test_a_legacy_of_another_robot_or_none_says_nothing():
    g = armed()
    g.estop()
    other = make_guard()
    tick(other, 0, None)
    for legacy in (np.zeros(0), np.append(g.legacy(), 1.0)):
        other.inherit(legacy, "took over")
        assert (other.state, other.reason) == (HOLD, "took over")
        assert np.allclose(tick(other, 1, None), 0.0)


def test_without_joint_states_it_has_no_place_to_hold_and_passes_none_on():
    g = make_guard()
    tick(g, 0, None)
    g.effort(1.0)
    other = successor(g, since=50, q=[0.3, 0.3])
    assert np.allclose(other.legacy()[8:10], [0.3, 0.3])


def test_what_moved_under_another_guard_was_no_swing_of_this_hold_and_what_has_calmed_stays_so():
    q, qd = 0.1 * np.sin(np.arange(100)), 3.0 * np.cos(np.arange(100))  # to and fro, as a controller may want it
    g, other = armed(), make_guard()
    for k in range(1, 100):
        tick(g, k, ZERO, [q[k], 0.0], [qd[k], 0.0])
        tick(other, k, None, [q[k], 0.0], [qd[k], 0.0])
    assert "swings" in other.remark
    other.inherit(g.legacy(), "took over")
    assert other.remark == "" and (other.hold_gain == 1.0).all()
    g.disarm()
    for k in range(100, 200):
        tick(g, k, None, [q[k - 100], 0.0], [qd[k - 100], 0.0])
    other.inherit(g.legacy(), "took over")
    assert 0 < other.hold_gain[0] < 1.0 and np.array_equal(other.hold_gain, g.hold_gain)
