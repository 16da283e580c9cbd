"""The node that runs the guard, and the only one that publishes efforts for the robot.

joint_states, effort_command -> effort_controller/commands.

A managed (lifecycle) node: it configures itself, because the hold is safe; `activate` is guard/arm, `deactivate` is the
hold, and a fault deactivates.
"""
from __future__ import annotations

import dataclasses
import time
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleNodeMixin
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from mbrl_ros import robot
from mbrl_ros.config import ConfigError
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import MessageError
from mbrl_ros.msg import FeedbackCommand
from mbrl_ros.nodes import options, topics
from mbrl_ros.nodes.parameters import SettingsNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.ring import guard
from mbrl_ros.ring.guard import ARMED, FAULT, HOLD, STOPPED, UNCONFIGURED, Guard, Limits
from mbrl_ros.ring.holding import with_gains
from mbrl_ros.simulation import plant

PARTS = {"robot": robot.Config, "plant": plant.Config, "guard": guard.Config}
OWN = {"process": options.Process, "plant": options.Plant, "guard": options.Guard}
LEVELS = {UNCONFIGURED: topics.WARN, HOLD: topics.OK, ARMED: topics.OK, FAULT: topics.ERROR, STOPPED: topics.ERROR}
WATCHES = 5  # per control period
LOOK_AHEAD = 1.25  # [watches] that one looks ahead: the next may be a little late itself
LEAVING = 0.5  # [s] at most, for the last effort to go down to zero


class GuardNode(LifecycleNodeMixin, SettingsNode):
    """Runs Guard on joint states and commands.

    In lock-step it answers every state once: when the command for it has come, or by itself where the controller has
    fallen silent. Time is counted in control periods there.
    """

    parts = PARTS
    own = OWN
    all_settings = False

    def __init__(self, **arguments: Any):
        SettingsNode.__init__(self, "guard", **arguments)
        if self.process.executor == "auto":
            self.process = dataclasses.replace(self.process, executor="single")  # the one that rclpy supports
        LifecycleNodeMixin.__init__(self)
        config, simulation = self.component(guard.Config, "guard"), self.component(plant.Config, "plant")
        self.robot = with_gains(robot.Robot(self.component(robot.Config, "robot")), simulation, config.gravity,
                                config.integral)
        for note in self.robot.notes:  # here alone, for a guard is in every ring
            self.get_logger().info(f"robot.model: {note}")
        self._lockstep = self.lockstep()
        if config.arm_at_start and not self._lockstep:
            raise ConfigError("guard.arm_at_start: only where plant.pace is lockstep; expected guard/arm to be called")
        self.declare("robot", self.robot.config)
        self.declare("guard", config)
        self._patience = self.declare("guard", self.option(options.Guard, "guard")).patience
        self.guard = Guard(Limits.of(self.robot, config), config, self.robot.period, self.robot.weight)
        self._newest, self._periods = -1, 0  # stamp [ns] of the newest state; how many there were
        self._unanswered = 0  # lock-step: how often a state was repeated since the last command
        self._last, self._last_time = Float64MultiArray(), 0.0  # sent; when
        self._said, self._faults = ("", "", ""), 0
        self._active = False  # the state of the lifecycle
        self._in_fault = False  # the controller, whose efforts do not count then
        self._efforts = topics.publisher(self, Float64MultiArray, topics.COMMANDS, topics.SENT)
        self._diagnostics = topics.Diagnostics(self)
        self._stages = topics.timed(self)
        self.create_subscription(JointState, "joint_states", self._measured,
                                 topics.LOCKSTEP_STATES if self._lockstep else topics.STATES)
        self.create_subscription(String, "mode", self._mode, topics.LATCHED)  # first: a fault says so
        self.create_subscription(FeedbackCommand, topics.FEEDBACK, self._fed_back, topics.RING)
        self.create_subscription(Float64MultiArray, topics.ASKED, self._commanded, topics.RING)
        self.create_service(SetBool, "guard/arm", self._arm)
        self.create_service(Trigger, "guard/reset", self._reset)
        self.create_service(Trigger, "guard/estop", self._estop)
        if not self._lockstep:
            watch = self.robot.period / WATCHES
            self._look_ahead = LOOK_AHEAD * watch
            self.create_timer(watch, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_timer(1.0, self._report)
        self.trigger_configure()
        self._announce()

    # --- what comes in

    def _now(self) -> float:
        return self._periods * self.robot.period if self._lockstep else time.monotonic()

    def _overdue(self) -> None:
        """Look for what is too old before taking in what is new.

    A guard that slept thus faults, in whichever order an executor hands it what has come since.
    """
        if not self._lockstep:
            self.guard.check(self._now())

    def _measured(self, message: JointState) -> None:
        self._overdue()
        try:
            state = messages.from_joint_state(message, self.robot.joints, need_effort=False)
            if state is None:
                topics.foreign(self, message.name, self.robot.joints)
                if self.guard.state == UNCONFIGURED and not self.guard.limits.problem():  # say what is waited for
                    self.guard.reason = (f"joint_states: expected {', '.join(self.robot.joints)}, got "
                                         f"{', '.join(message.name) or 'no joint'}")
                    self._announce()
                return
            if state.velocity is None:
                raise MessageError("JointState.velocity: expected one per name, got none")
        except MessageError as error:
            self._unusable("joint_states", error)
            return
        if self._lockstep and state.time == self._newest:
            self._repeated()
            return
        self._periods += 1
        now = self._now()
        if self.guard.measured(state.time, state.position, state.velocity, now):
            self._newest = state.time
        if self._lockstep:
            wanted = self.guard.answered == state.time or self._unanswered >= self._patience
        else:
            wanted = self.guard.state != ARMED or self.guard.quick
        if wanted:
            self._send(now)
        self._announce()

    def _repeated(self) -> None:
        """Lock-step: the plant waits for an answer to this state. Send it again, or one for a silent controller."""
        self._unanswered += 1
        if self._answers_newest():
            self._efforts.publish(self._last)  # it was lost
        elif self._unanswered >= self._patience:
            self.guard.fail(f"no command while a state was repeated {self._unanswered} times")
            self._send(self._now())
            self._announce()

    def _commanded(self, message: Float64MultiArray) -> None:
        self._stages.start()
        self._overdue()
        try:
            command = messages.from_effort_command(message, self.robot.m, nothing=True)
        except MessageError as error:
            self._unusable(topics.ASKED, error)
            return
        self._stages.received(time.time_ns() - (command.answers or 0))
        self._stages.done("convert")
        now, self._unanswered = self._now(), 0
        unasked = command.effort is None or self._in_fault
        if unasked:
            self.guard.idle(command.answers)
        used = unasked or self.guard.commanded(command.effort, command.answers, now)
        if self._lockstep and command.answers == self._newest and self._answers_newest():
            self._efforts.publish(self._last)
        elif used and (command.answers in (None, self._newest) if self._lockstep  # late: the newest waits for its own
                       else self.guard.state == ARMED and not self.guard.quick):
            self._send(now)
        self._announce()

    def _fed_back(self, message: FeedbackCommand) -> None:
        try:
            self.guard.feedback = messages.from_feedback_command(message, self.robot.m)
        except MessageError as error:
            self._unusable(topics.FEEDBACK, error)

    def _answers_newest(self) -> bool:
        return bool(self._last.layout.dim) and self._last.layout.dim[0].label == str(self._newest)

    def _unusable(self, topic: str, error: MessageError) -> None:
        self.get_logger().error(f"{topic} dropped: {error}", throttle_duration_sec=topics.THROTTLE)
        self.guard.dropped += 1
        self.guard.fail(str(error))
        self._announce()

    def _mode(self, message: String) -> None:
        self._in_fault = message.data == FAULT
        if self._in_fault:
            self.guard.fail("the controller is in fault")
            self._announce()

    # --- what goes out

    def _send(self, now: float) -> None:
        self._stages.start()
        effort = self.guard.effort(now)
        if effort is None:
            return
        self._stages.done("limit")
        own = self._lockstep or self.guard.state != ARMED
        self._last = topics.command(effort, self._newest if own else self.guard.answered or None)
        self._efforts.publish(self._last)
        self._stages.done("publish")
        self._last_time = time.monotonic()

    def _watch(self) -> None:
        """Real time, several times a period: fault before anything is too old, and send where no states come."""
        now, state = self._now(), self.guard.state
        self.guard.check(now + self._look_ahead)
        if self.guard.state != state or now - self._last_time >= self.robot.period * (1 + 1 / WATCHES):
            self._send(now)
        self._announce()

    # --- who asks for a state

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        refused = "" if self.guard.state == ARMED else self.guard.arm(self._now())
        if refused:
            self.get_logger().error(f"not armed: {refused}")
        self._active = not refused
        return TransitionCallbackReturn.FAILURE if refused else TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        self.guard.disarm()
        self._active = False
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.FAILURE  # it holds until it ends

    def _arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if not request.data:
            self.guard.disarm()
        refused = self.guard.arm(self._now()) if request.data else ""
        self._announce()
        return topics.answer(response, not refused, refused or self.guard.state)

    def _reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.guard.reset()
        self._announce()
        if self.guard.state == UNCONFIGURED:
            return topics.answer(response, False, f"{UNCONFIGURED}: {self.guard.reason}")
        return topics.answer(response, True, self.guard.state)

    def _estop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.guard.estop()
        self._announce()
        return topics.answer(response, True, "stopped until guard/reset")

    # --- what is said

    def _announce(self) -> None:
        """Say state and reason where they have changed, and let the lifecycle follow."""
        said = (self.guard.state, self.guard.reason, self.guard.remark)
        if said[0] == ARMED and not self._active:
            self.trigger_activate()
        elif said[0] != ARMED and self._active:
            self.trigger_deactivate()
        if said == self._said:
            return
        before, self._said = self._said, said
        self._faults += said[0] == FAULT and said[:2] != before[:2]
        if LEVELS[said[0]] == topics.ERROR:
            self.get_logger().error(self._line())
        else:
            self.get_logger().info(self._line())
        self._report()

    def _line(self) -> str:
        of = self.guard
        return f"{of.state}: {of.reason}" + (f"; {of.remark}" if of.remark else "")

    def _report(self) -> None:
        of = self.guard
        state_age, command_age = of.ages(self._now())
        level = topics.WARN if of.remark and LEVELS[of.state] == topics.OK else LEVELS[of.state]
        self._diagnostics.send(level, self._line(), {
            "state": of.state, "reason": of.reason, "remark": of.remark, "hold_gain": float(of.hold_gain.min()),
            "state_age_ms": 1e3 * state_age, "command_age_ms": 1e3 * command_age,
            "commands_in_time": of.in_time, "dropped": of.dropped,
            "faults": self._faults})

    def close(self) -> None:
        """Go down to zero effort at the limited rate, and wait until that has arrived."""
        self.guard.estop()
        end = time.monotonic() + LEAVING
        while not self._lockstep and self.guard.state == STOPPED and time.monotonic() < end:
            effort = self.guard.release(self._now())
            self._efforts.publish(topics.command(effort, None))
            if not effort.any():
                break
            time.sleep(self.robot.period)
        self._efforts.wait_for_all_acked(Duration(seconds=0.5))


def main(args: list[str] | None = None) -> int:
    return run(GuardNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
