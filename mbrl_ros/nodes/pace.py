"""Two ways for a simulated plant to keep time.

Lock-step: one control period per command, as fast as commands come, so that a run is repeatable; a state without an
answer is sent again. Real time: one control period per period of the machine's clock, as an arm does; a command acts
from its arrival on and until the next one.
"""
from __future__ import annotations

import dataclasses
import time
from typing import Any, Protocol

import numpy as np
from rclpy.clock import Clock, ClockType

from mbrl_ros.messages.ring import Command
from mbrl_ros.robot import Robot
from mbrl_ros.simulation.plant import MujocoPlant
from mbrl_ros.types import Observation

SUSPENDED = 3  # periods behind the clock that a real-time plant leaves out: caught up with, all of them would have one
# and the same effort, which throws a robot about that nobody held up


class Host(Protocol):
    """What a pace asks of the node that it steps, a PlantNode."""

    robot: Robot
    plant: MujocoPlant

    def step(self, *efforts: Any) -> Observation: ...
    def publish(self, observation: Observation) -> None: ...
    def create_timer(self, period: float, callback: Any, *, clock: Clock) -> Any: ...


class Lockstep:
    """Steps on each command that answers the present state, or does not say which state it answers."""

    name = "lockstep"

    def __init__(self, node: Host, hold_after: int):
        self._node, self._left = node, hold_after  # periods to go before the state is held; -1: no limit
        self.periods = self.missed = self.repeated = 0
        self._held = self._paused = False
        self._timer = node.create_timer(node.plant.config.timeout, self._again, clock=_steady())

    def start(self, observation: Observation) -> None:
        """Go on from this observation."""
        self._observation = observation
        self._show()

    def hold_after(self, periods: int) -> None:
        """Hold the next state back after so many more periods; -1: never."""
        self._left = periods
        self._release()

    def run(self, go: bool) -> None:
        """Pause before the next state is shown, or go on without limit."""
        self._paused, self._left = not go, -1
        self._release()

    def command(self, command: Command, _arrived: float) -> bool:
        """Step by a command that answers the present state. False where it does not."""
        if self._held or command.answers not in (None, self._observation.time):
            return False
        self._observation = self._node.step(command.effort)
        self.periods += 1
        self._left -= self._left > 0
        self._show()
        return True

    def _show(self) -> None:
        self._held = self._paused or self._left == 0
        if not self._held:
            self._timer.reset()
            self._node.publish(self._observation)

    def _release(self) -> None:
        if self._held:
            self._show()

    def _again(self) -> None:
        if not self._held:
            self.repeated += 1
            self._node.publish(self._observation)


class Realtime:
    """Simulates each period when it is over, with the efforts that arrived in it."""

    name = "realtime"

    def __init__(self, node: Host, _hold_after: int):
        self._node, self._period = node, node.robot.period
        self.periods = self.missed = self.repeated = 0  # the last one is for lock-step
        self._last_stamp = 0
        self._paused = False
        self._timer = node.create_timer(self._period, self._tick, clock=_steady())

    def start(self, observation: Observation) -> None:
        """Go on from this observation, now, without effort until a command comes."""
        self._held, self._last_command = np.zeros(self._node.robot.m), -np.inf  # effort now, and since when
        self._resume(observation)

    def _resume(self, observation: Observation) -> None:
        """Go on from this observation, now, with the effort that acts."""
        self._before, self._fraction = self._held, 0.0  # effort before; where in the period that of now came
        self._commanded = self._answered = False  # since then; the present state
        self._timer.reset()
        self._began, self._count = time.monotonic(), 0  # of the first period; periods since
        now = max(time.time_ns(), self._last_stamp + 2 * round(self._period * 1e9))
        self._offset = now - observation.time
        self._publish(observation)

    def hold_after(self, periods: int) -> None:
        """Do nothing: real time waits for nobody."""

    def run(self, go: bool) -> None:
        """Freeze the robot, or go on. Stamps go on with the clock, so that the gap can be seen."""
        if go and self._paused:
            self._go_on()
        self._paused = not go

    def command(self, command: Command, arrived: float) -> bool:
        """Take a command in, which acts from now on. True where it is the first answer to the present state."""
        if self._paused:
            return False
        first = not self._answered and command.answers in (None, self._stamp())
        if not np.array_equal(command.effort, self._held):
            self._held = command.effort
            self._fraction = float(np.clip((arrived - self._began) / self._period - self._count, 0.0, 1.0))
        self._answered, self._commanded, self._last_command = self._answered or first, True, arrived
        return first

    def _tick(self) -> None:
        due = round((time.monotonic() - self._began) / self._period)
        if self._paused:
            return
        if due - self._count > SUSPENDED:
            self.missed += (due - self._count) * self._commanded
            self._go_on()
            return
        while self._count < due and not self._paused:
            self._step()

    def _go_on(self) -> None:
        """After a time that was none for the robot: its drives have what they had."""
        self._last_command += time.monotonic() - self._began - self._count * self._period
        self._resume(self._observation)

    def _step(self) -> None:
        end = self._began + (self._count + 1) * self._period
        if end - self._last_command > self._node.plant.config.timeout:
            self._held = self._before = np.zeros(self._node.robot.m)
        self.periods += 1
        self.missed += self._commanded and not self._answered
        observation = self._node.step(self._held, self._fraction, self._before)
        self._before, self._fraction, self._answered = self._held, 0.0, False
        self._count += 1
        self._publish(observation)

    def _publish(self, observation: Observation) -> None:
        self._observation = observation
        self._last_stamp = self._stamp()
        self._node.publish(dataclasses.replace(observation, time=self._last_stamp))

    def _stamp(self) -> int:
        return self._observation.time + self._offset


def _steady() -> Clock:
    return Clock(clock_type=ClockType.STEADY_TIME)
