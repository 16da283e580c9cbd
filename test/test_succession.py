"""A guard that goes on for another, on an arm that would fall, in a time of the test's own: how far it sinks."""
import numpy as np
import pytest
from arms import settings
from test_spare import OTHER, Table

from mbrl_ros import assembly
from mbrl_ros.ring.guard import ARMED, HOLD, WARM, Config, Guard, Limits
from mbrl_ros.ring.spare import Spare

LOOKS = 3  # per period
EXIT = 0.008  # [s] that a process takes to end, and a lock to be free
FALL = 0.010  # [m]


class Ring:
    """A simulated arm, two guards that hear its states, and a controller that moves it to and fro about home."""

    def __init__(self, speed):
        of = settings(guard={"gravity": "model"})
        self.robot = assembly.make_robot(of)
        self.plant, self.h, self.speed = assembly.make_plant(of, self.robot), self.robot.period, speed
        config = Config(gravity="model")
        self.first, self.second = (Guard(Limits.of(self.robot, config), config, self.h, self.robot.weight)
                                   for _ in range(2))
        self.table = Table(OTHER)
        self.spare = Spare(self.table, False, self.h, 10 * self.h)
        self.sent = [(0.0, np.zeros(2))]  # when, and which effort
        self.measured = self.plant.reset(0)
        self.legacy, self.heights = np.zeros(0), []

    def send(self, guard, now):
        self.sent.append((now, guard.effort(now)))
        self.legacy = guard.legacy()

    def wanted(self, now):
        """What a controller would ask for: a spring to a sine, with the weight."""
        phase = 2 * np.pi * 0.5 * now
        there, fast = self.robot.home + self.speed / np.pi * np.sin(phase), self.speed * np.cos(phase)
        q, qd = self.measured.position, self.measured.velocity
        return self.robot.weight(q) + 2 * self.robot.stiffness * (there - q) + 2 * self.robot.damping * (fast - qd)

    def run(self, seconds, at=np.inf, how=""):
        """For so long; `at` [s] the first guard is killed or stopped, or asked to hold. When the second one acted."""
        acted = None
        for k in range(1, round(seconds / self.h)):
            for guard in (self.first, self.second):
                guard.measured(self.measured.time, self.measured.position, self.measured.velocity, k * self.h)
            for look in range(LOOKS):
                now = (k + look / LOOKS) * self.h
                if now < at or how == "disarmed":
                    if look == 0:
                        self.first.commanded(self.wanted(now), self.measured.time, now)
                        self.first.arm(now) if k > WARM and now < at else self.first.disarm()
                        self.send(self.first, now)
                    self.table.beat(now)
                    self.spare.look(now)
                elif acted is None:
                    self.table.halted, self.table.free = how == "stopped", how == "killed" and now >= at + EXIT
                    if self.spare.look(now):
                        acted = now + EXIT * (how == "stopped")
                        self.second.inherit(self.legacy, self.spare.reason)
                        self.send(self.second, acted)
                elif look == 0:
                    self.send(self.second, now)
            self.pass_period(k)
            self.heights.append((self.h * (k + 1), self.plant.true_tool()[2]))
        return acted

    def pass_period(self, k):
        """With what came in it: one new effort at most but the first."""
        of = [(when, effort) for when, effort in self.sent if when < (k + 1) * self.h - 1e-9]
        (_, before), (when, now) = of[-2:] if len(of) > 1 else (of[0], of[0])
        fraction = max(0.0, when / self.h - k)
        self.measured = self.plant.step(now, fraction, before)

    def sank(self, since):
        """How far the tool sank below where it was then [m]."""
        before = [z for t, z in self.heights if t <= since + 1e-9][-1]
        return before - min(z for t, z in self.heights if t > since)


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.parametrize("speed", [0.0, 0.8])  # [rad/s]
def test_an_arm_in_motion_is_held_within_two_periods_and_falls_no_further_than_one_that_is_asked_to_hold(how, speed):
    began = 2.02  # [s] as fast as it gets
    asked = Ring(speed)
    asked.run(3.0, began, "disarmed")
    for phase in (0.01, 0.6, 0.99):
        ring, at = Ring(speed), began + phase * 0.02
        acted = ring.run(3.0, at, how)
        assert ring.first.state == ARMED and ring.second.state == HOLD
        assert ("was stopped" if how == "stopped" else "has ended") in ring.spare.reason
        assert at < acted <= at + 2 * ring.h
        assert abs(ring.sank(began) - asked.sank(began)) < FALL, (phase, ring.sank(began), asked.sank(began))
        assert speed or ring.sank(began) < FALL / 2


def test_it_is_held_for_a_minute():
    ring = Ring(0.8)
    ring.run(62.0, 2.03, "stopped")
    assert np.ptp([z for t, z in ring.heights if t > 4.0]) < FALL / 2


def test_one_that_is_stuck_is_gone_on_for_after_ten_periods_and_let_go_the_arm_would_fall():
    ring = Ring(0.0)
    acted = ring.run(3.0, 2.0, "stuck")
    assert 2.0 + 9 * ring.h < acted < 2.0 + 11 * ring.h and ring.second.state == HOLD
    assert ring.sank(2.0) < 2 * FALL  # its last effort was nearly that of rest
    before = ring.plant.true_tool()[2]
    for _ in range(25):
        ring.plant.step(np.zeros(2))
    assert before - ring.plant.true_tool()[2] > 10 * FALL
