"""The hold on robots that are not ours: what swings is calmed, what acted goes on, who carries the weight is found."""
from __future__ import annotations

import numpy as np
import pytest
from arms import settings

from mbrl_ros import assembly
from mbrl_ros.ring import hold as base_policy
from mbrl_ros.ring.carrying import CARRIED, MODEL, ROBOT, Carrying
from mbrl_ros.ring.guard import ARMED, HOLD, Config, Guard, Limits, brakes
from mbrl_ros.ring.hold import BasePolicy
from mbrl_ros.ring.swing import CALMEST, Calm
from mbrl_ros.simulation.world import World
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, StateEstimate

H = 0.02  # [s]


class Rig:
    """A plant, the guard, and the controller behind it, all at one pace."""

    def __init__(self, guard, world=None, fraction=0.0, **overrides):
        s = settings("arm", **overrides)
        self.robot, self.plant, self.estimator, _, self.controller = assembly.make_parts(s, 0)
        self.plant.change(world or World())
        self.controller.acts = False
        self.guard = Guard(Limits.of(self.robot, guard), guard, H, self.robot.weight)
        self.seen, self.k, self.fraction, self.sent = self.plant.reset(0), 0, fraction, np.zeros(self.robot.m)
        n, m = self.robot.n, self.robot.m
        self.nothing = LinearGaussianDynamics(np.eye(n, n + m), np.zeros(n), np.eye(n))

    def let(self, seconds):
        """Positions (K, m), and speeds [velocity limit] (K, m)."""
        moved = []
        for _ in range(round(seconds / H)):
            self.k, now = self.k + 1, self.k * H
            self.guard.measured(self.seen.time, self.seen.position, self.seen.velocity, now)
            effort = self.controller.act(self.estimator.update(self.seen), self.nothing)
            if effort is None:
                self.guard.idle(self.seen.time)
            else:
                self.guard.commanded(effort, self.seen.time, now)
            self.controller.acts = self.guard.state == ARMED
            before, self.sent = self.sent, self.guard.effort(now)
            self.estimator.commanded(self.sent)  # by whomever, as its node hears it
            self.seen = self.plant.step(self.sent, self.fraction, before)
            moved.append(self.plant.true_state())
        q, qd = np.array(moved).swapaxes(0, 1)
        return q, np.abs(qd) / self.robot.velocity_limit


def test_a_hold_of_the_guard_that_swings_is_calmed_and_said_though_nobody_armed_it():
    """Commands that act a period and a half late; without calming, speeds of 5 times the limits."""
    rig = Rig(Config(), World(delay=1), fraction=0.5)
    _, speed = rig.let(30.0)
    assert rig.guard.state == HOLD and "swings, and is held with less" in rig.guard.remark
    assert speed.max() < 1.0 and np.median(speed.max(1)) < 0.1


def test_what_swings_loses_its_integral_first_then_its_gains_and_gets_them_back():
    calm, order = Calm(np.ones(1)), []
    for half in range(20):
        for _ in range(5):
            calm.observe(np.array([0.5 * (-1) ** half]), H)
            order.append((float(calm.integral[0]), float(calm.gain[0])))
    first = next(i for i, (_, gain) in enumerate(order) if gain < 1)
    assert order[first - 1] == (0.0, 1.0) and order[-1][1] < 0.01
    for _ in range(3000):
        calm.observe(np.zeros(1), H)
    assert calm.gain == 1.0 and calm.integral == 1.0 and not calm.swinging.any()


def test_every_relapse_makes_the_way_back_slower():
    calm, times = Calm(np.ones(1)), []
    for _ in range(3):
        for half in range(8):
            for _ in range(5):
                calm.observe(np.array([0.5 * (-1) ** half]), H)
        assert calm.gain < 0.2
        count = 0
        while calm.gain < 1.0:
            calm.observe(np.zeros(1), H)
            count += 1
        times.append(count * H)
    assert 1.5 * times[0] < times[1] < times[2] / 1.5


@pytest.mark.parametrize("speed", [
    lambda t: np.exp(-3 * t) * np.sin(12 * t),  # a push that comes to rest: a damping ratio of a quarter
    lambda t: 0.04 * np.sin(30 * t),  # small
    lambda t: np.full_like(t, 0.8)])  # falling, which is another matter
def test_what_comes_to_rest_or_is_small_does_not_swing(speed):
    calm = Calm(np.ones(1))
    for v in speed(np.arange(0, 5, H)):
        calm.observe(np.array([v]), H)
    assert calm.gain == 1.0


def test_gains_never_vanish():
    calm = Calm(np.ones(1))
    for k in range(300):
        calm.observe(np.array([(-1.0) ** k]), H)
    assert calm.gain == CALMEST


def test_a_calmed_hold_is_stable_on_joints_heavier_than_its_gains(monkeypatch):
    """With gains of a tenth, 0.1 D < integral I: with the integral in proportion to the stiffness alone it is not."""
    robot = assembly.make_robot(settings())
    policy = BasePolicy(robot, assembly.excitation.Config())
    policy._calm = base_policy.CALMEST
    monkeypatch.setattr(base_policy, "RECOVERY", 1.0)
    inertia, q, qd, away = 0.15 * robot.damping, robot.home + 0.02, np.zeros(2), []
    for k in range(3000):
        x = np.zeros(robot.n)
        x[: robot.m], x[robot.m : 2 * robot.m] = q, qd
        u = policy.act(StateEstimate(k, 0, k, Gaussian(x, np.eye(robot.n)), np.zeros(2)), False)
        qd = qd + H * u / inertia
        q = q + H * qd
        away.append(np.abs(q - robot.home).max())
    assert max(away[-500:]) < 0.002


@pytest.mark.parametrize(("carried", "gravity"), [(True, "robot"), (False, "model")])
def test_handing_over_between_guard_and_controller_and_between_modes_moves_no_joint(carried, gravity):
    """The controller holds long before anybody arms: what the guard has sent since then is what it goes on with."""
    rig = Rig(Config(gravity=gravity), World(gravity_compensation=carried))
    rig.controller.request("hold")
    q, _ = rig.let(5.0)
    start = q[-1]
    assert rig.guard.arm(rig.k * H - H) == ""
    for mode in ("hold", "idle", "hold", "home", "hold"):
        rig.controller.request(mode)
        q, _ = rig.let(2.0)
        rig.guard.arm(rig.k * H - H)
        q2, _ = rig.let(2.0)
        assert np.abs(np.vstack([q, q2]) - start).max() < 0.02, mode


def test_out_of_a_fault_the_hold_goes_on_with_what_the_guard_sent():
    rig = Rig(Config(gravity="model"), World(gravity_compensation=False))
    rig.controller.request("hold")
    rig.let(3.0)
    rig.guard.arm(rig.k * H - H)
    start = rig.let(1.0)[0][-1]
    rig.controller.stop("fault", "for a test")
    rig.guard.fail("the controller is in fault")
    rig.let(2.0)
    rig.controller.request("hold")
    rig.guard.reset()
    rig.let(0.5)
    assert rig.guard.arm(rig.k * H - H) == ""
    assert np.abs(rig.let(3.0)[0] - start).max() < 0.02


@pytest.mark.parametrize(("carried", "gravity", "by"), [
    (False, ROBOT, MODEL), (True, MODEL, ROBOT), (True, ROBOT, ROBOT), (False, MODEL, MODEL)])
def test_the_guard_finds_out_who_carries_the_weight_and_says_where_the_settings_are_wrong(carried, gravity, by):
    rig = Rig(Config(gravity=gravity), World(gravity_compensation=carried))
    q, _ = rig.let(12.0)
    assert rig.guard._carrying.by == by and (rig.guard.remark != "") == (by != gravity)
    before = q[-1]
    q, _ = rig.let(3.0)
    assert np.abs(q - before).max() < 0.02  # finding it out moves nothing
    weight = rig.robot.weight(q[-1])
    low, high = brakes(rig.guard.limits, q[-1], np.zeros(7), rig.guard._carries())
    if not carried:
        assert (high > weight).all() and (low < weight).all()


def test_without_masses_what_rest_took_is_the_weight():
    of, sent = Carrying(ROBOT, np.full(2, 100.0), np.ones(2)), np.array([50.0, 0.0])
    for _ in range(200):
        changed = of.observe(np.zeros(2), sent, np.zeros(2), H)
    assert of.by == CARRIED and not changed and np.allclose(of.rest, sent, rtol=1e-2)
    for _ in range(200):
        of.observe(np.full(2, 0.5), np.full(2, 90.0), np.zeros(2), H)
    assert np.allclose(of.rest, sent, rtol=1e-2)  # what moves is no rest


def test_brakes_know_nothing_of_the_gains_of_the_hold():
    robot = assembly.make_robot(settings())
    found = [brakes(Limits.of(robot, Config()), robot.home, np.zeros(2), np.zeros(2))]
    robot.stiffness, robot.damping = 0.01 * robot.stiffness, 0.01 * robot.damping
    found.append(brakes(Limits.of(robot, Config()), robot.home, np.zeros(2), np.zeros(2)))
    assert np.array_equal(*found)


def test_what_disturbs_a_joint_is_in_proportion_to_it_where_it_is_light():
    """A wrist without a rotor; the shipped arms are disturbed as ever."""
    for name in ("arm", "arm4", "arm6", "planar2", "pendulum"):
        robot = assembly.make_robot(settings(name))
        plant = assembly.make_plant(settings(name), robot)
        assert np.array_equal(plant._disturbed, 0.005 * robot.effort_limit)
    robot = assembly.make_robot(settings("arm"))
    robot.model.dof_armature[robot.dofs[-1]] = 0.0
    disturbed = assembly.make_plant(settings("arm"), robot)._disturbed
    assert np.array_equal(disturbed[:-1], 0.005 * robot.effort_limit[:-1]) and disturbed[-1] < 0.02 * 12.0 * 0.005 * 50


def test_neighbours_that_shake_a_joint_get_less_excitation_before_it_gets_less_gain():
    """An arm that does not carry itself falls where its gains shrink; without excitation they shrink at once."""
    parts = assembly.make_parts(settings("arm"), 0)
    robot, base = parts.robot, parts.controller.base
    x = np.zeros(robot.n)
    x[robot.slice("joint/position")] = robot.home
    x[robot.slice("joint/velocity")][0] = 0.95 * robot.velocity_limit[0]
    state = StateEstimate(0, 0, 0, Gaussian(x, np.eye(robot.n)), np.zeros(robot.m))
    base.act(state, excite=True)
    assert base._calm == 1.0 and base._lively < 1.0
    for _ in range(20):
        base.act(state, excite=True)
    assert base._lively == pytest.approx(0.1) and base._calm < 1.0  # where that does not help


def test_an_arm_that_does_not_carry_itself_is_held_from_the_first_period_of_the_plain_loop():
    """What held it before is what the hold begins with: else it falls until the integral knows."""
    ring = assembly.make_ring(settings("arm", plant={"gravity_compensation": False, "pace": "lockstep"}), seed=0)
    ring.controller.request("hold")
    robot = ring.estimator.robot
    away = [np.abs(ring.tick()[0].belief.mean[robot.slice("joint/position")] - robot.home).max() for _ in range(100)]
    assert max(away) < 0.02
