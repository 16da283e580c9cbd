"""The node that runs the estimator: joint_states -> estimator/state_estimate."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_ros import assembly, options
from mbrl_ros.config import section
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.messages.ring import Command, MessageError
from mbrl_ros.msg import EffortCommand, StateEstimate
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.parts import PartNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.types import Observation

SUSPICIOUS = 0.5  # [s] between a stamp and now
STANDSTILL = 20  # equal stamps in a row before it is said; a lock-step plant repeats one while it waits


class EstimatorNode(PartNode):
    """Runs JointFilter on every measurement; a repeated one gets the same answer again, and is not counted twice."""

    def __init__(self, **arguments: Any):
        super().__init__("estimator", **arguments)
        self.robot = assembly.make_robot(self.settings)
        self.estimator = assembly.make_estimator(self.settings, self.robot)
        self.declare("robot", self.robot.config)
        self.declare("estimator", self.estimator.config)
        self._max_age = self.declare("estimator", self.option(options.Estimator, "estimator")).max_age
        self._lockstep = self.lockstep()
        self._said = False
        self._by_command = self.estimator.config.effort_source == "commands"
        self._newest, self._repeated = 0, 0  # stamp [ns]; how often it came
        self._last: StateEstimate | None = None
        self._stages = topics.timed(self)
        self._estimates = topics.publisher(self, StateEstimate, topics.STATE, topics.SENT)
        self._diagnostics = topics.Diagnostics(self)
        self._waiting: Observation | None = None  # lock-step: for the command that led to it
        self._answers = 0  # [ns] the state that the newest command answers
        self._commands = 0  # heard
        # What feedback between plans adds answers disturbances: to the learner it would seem to cause them. Before the
        # states: where both wait, the command is the older one.
        planned = section(self.settings, "controller").get("feedback")
        if planned or self._lockstep:
            self.create_subscription(EffortCommand, topics.ASKED if planned else topics.PASSED, self._commanded,
                                     topics.RING)
        else:  # whoever commands the robot
            self.create_subscription(Float64MultiArray, topics.COMMANDS, self._efforts, topics.RING)
        self.create_subscription(JointState, topics.JOINTS, self._measured,
                                 topics.LOCKSTEP_STATES if self._lockstep else topics.STATES)
        self.create_timer(1.0, self._report)

    def _commanded(self, message: EffortCommand) -> None:
        self._acts(lambda: messages.from_effort_command(message, self.robot.m, nothing=True))

    def _efforts(self, message: Float64MultiArray) -> None:
        self._acts(lambda: messages.from_efforts(message, self.robot.m))

    def _acts(self, read: Callable[[], Command]) -> None:
        try:
            command = read()
        except MessageError as error:
            self.complaints.warning(str(error))
            return
        if command.effort is not None:
            self.estimator.commanded(command.effort)
        self._answers = command.answers or 0
        self._commands += 1
        if self._waiting is not None and self._answers >= self._newest:
            self._take(self._waiting)

    def _measured(self, message: JointState) -> None:
        self._stages.start()
        try:
            observation = messages.from_joint_state(message, self.robot.observed, not self._by_command)
        except MessageError as error:
            self.complaints.error(f"joint_states dropped: {error}")
            return
        if observation is None:
            topics.foreign(self, message.name, self.robot.observed)
            return
        self._stages.received(time.time_ns() - observation.time)
        self._stages.done("convert")
        waits = self._lockstep and self._by_command and self._newest > 0
        early = waits and self._newest != self._answers and observation.time > self._newest
        if early and (self._waiting is None or self._waiting.time != observation.time):  # repeated: there was none
            self._waiting = observation
            return
        self._take(observation)

    def _take(self, observation: Observation) -> None:
        self._waiting = None
        if self._stale(observation) or self._again(observation):
            return
        estimate = self.estimator.update(observation)
        if estimate is None:
            return
        self._stages.done("update")
        if self._last is not None and estimate.episode != self._last.episode:
            gap = 1e-9 * (observation.time - read_stamp(self._last.header.stamp))
            self.complaints.warning(f"a new episode begins after a gap of {gap:.3g} s; expected one period, "
                                    f"{self.robot.period:g} s")
        try:
            self._last = messages.to_state_estimate(StateEstimate, estimate, self.robot)
        except MessageError as error:
            self.complaints.error(f"no estimate: {error}")
            return
        self._stages.done("fill")
        self._estimates.publish(self._last)
        self._stages.done("publish")
        self._stages.end()

    def _stale(self, observation: Observation) -> bool:
        age = 1e-9 * (self.get_clock().now().nanoseconds - observation.time)
        if self._lockstep or abs(age) <= (self._max_age or SUSPICIOUS):
            return False
        if self._max_age == 0:
            if not self._said:
                self.get_logger().warning(f"joint_states: the stamp is {age:.3g} s old; expected this machine's clock. "
                                          "Set use_sim_time for a simulator's, or estimator.max_age to refuse it")
            self._said = True
            return False
        self.complaints.error(f"joint_states dropped: the stamp is {age:.3g} s old; expected at most "
                              f"{self._max_age:g} s (estimator.max_age)")
        return True

    def _again(self, observation: Observation) -> bool:
        """Whether a stamp is not new, and so no measurement either.

    The newest stamp again gets the newest answer again. A step back of up to one period is dropped; a larger one is
    another clock, and new.
    """
        back = self._newest - observation.time
        if back == 0:
            self._repeated += 1
            if self._repeated == STANDSTILL:
                self.get_logger().error(f"joint_states: the stamp stands still at {observation.time} ns; "
                                        "expected one period more with every message")
            if self._last is not None:
                self._estimates.publish(self._last)
            return True
        if back > 0:
            self.complaints.error(f"joint_states: the stamp went back by {1e-9 * back:.3g} s; "
                                  "expected stamps that only grow")
            if back <= 1e9 * self.robot.period:
                return True
        self._newest, self._repeated = observation.time, 0
        return False


    def _report(self) -> None:
        """Whether what the robot reports as effort is what was commanded, and if not, in what it differs."""
        faults, own = self.estimator.reading.faults(), self._by_command
        said = "; ".join(f"effort reading of {line}" for line in faults) or "efforts are reported as commanded"
        silent = own and not self._commands and self._newest > 0
        if silent:
            said = f"nobody commands on {topics.COMMANDS}, so no effort counts as acting (estimator.effort_source)"
        self._diagnostics.send(topics.WARN if silent or (faults and not own) else topics.OK, said, {
            "delay": self.estimator.delay.periods, "effort_faults": len(faults)})


def main(args: list[str] | None = None) -> int:
    return run(EstimatorNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
