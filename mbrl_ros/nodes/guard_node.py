"""The node that runs the guard, and the only one that publishes efforts for the robot.

joint_states, controller/effort_command -> effort_controller/commands, and guard/effort_command for the ring.

A managed (lifecycle) node: it configures itself, because the hold is safe; `activate` is guard/arm, `deactivate` is the
hold, and a fault deactivates. With guard.spare it is one of two (spare_node.py), of which only the one that commands
says anything, offers services, and hears the controller.
"""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleNodeMixin
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros import options, robot
from mbrl_ros.config import ConfigError
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import Command, MessageError
from mbrl_ros.msg import EffortCommand, FeedbackCommand, Status
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.domain import ring_name
from mbrl_ros.nodes.parameters import SettingsNode
from mbrl_ros.nodes.seldom import Seldom
from mbrl_ros.nodes.spin import run
from mbrl_ros.ring import baton, guard
from mbrl_ros.ring.baton import Baton
from mbrl_ros.ring.guard import ARMED, FAULT, HOLD, STOPPED, UNCONFIGURED, Guard, Limits
from mbrl_ros.ring.holding import with_gains
from mbrl_ros.ring.spare import STARTING, Spare
from mbrl_ros.simulation import plant

PARTS = {"robot": robot.Config, "plant": plant.Config, "guard": guard.Config}
OWN = {"process": options.Process, "plant": options.Plant, "guard": options.Guard}
LEVELS = {UNCONFIGURED: topics.WARN, HOLD: topics.OK, ARMED: topics.OK, FAULT: topics.ERROR, STOPPED: topics.ERROR}
LOOKS = 3  # per control period, of one that stands by, with states or between them
SOON = 0.25  # [control periods] from one of these to the next, at least
EARLY = 0.2  # [control periods] before something is too old is it looked at, as one wakes a little late
LATE = 1.2  # [control periods] after a command comes the next, where no state asks for it
LEAST = 0.05  # [control periods] from one look to the next
SETTING_UP = 0.2  # [control periods] from one to the next of what one that goes on for another has to set up
SILENCE = 10  # control periods that the one which commands may do nothing, where it is not stopped
LEAVING = 0.5  # [s] at most, for the last effort to go down to zero


class GuardNode(LifecycleNodeMixin, SettingsNode):
    """Runs Guard on joint states and commands.

    In lock-step it answers every state once: when the command for it has come, or by itself where the controller has
    fallen silent. Time is counted in control periods there.
    """

    parts = PARTS
    own = OWN
    all_settings = False

    def __init__(self, name: str = "guard", **arguments: Any):
        self._seldom, self._often = Seldom(), MutuallyExclusiveCallbackGroup()
        SettingsNode.__init__(self, name, **arguments)
        if self.process.executor == "auto":
            self.process = dataclasses.replace(self.process, executor="single")  # the one that rclpy supports
        LifecycleNodeMixin.__init__(self)
        config, simulation = self.component(guard.Config, "guard"), self.component(plant.Config, "plant")
        self.robot = with_gains(robot.Robot(self.component(robot.Config, "robot")), simulation, config.gravity,
                                config.integral)
        first = name == "guard"
        for note in self.robot.notes if first else ():  # here alone, for a guard is in every ring
            self.get_logger().info(f"robot.model: {note}")
        self._lockstep = self.lockstep()
        if config.arm_at_start and not self._lockstep:
            raise ConfigError("guard.arm_at_start: only where plant.pace is lockstep; expected guard/arm to be called")
        self.declare("robot", self.robot.config)
        self.declare("guard", config)
        own = self.declare("guard", self.option(options.Guard, "guard"))
        self._patience = own.patience
        self.guard = Guard(Limits.of(self.robot, config), config, self.robot.period, self.robot.weight)
        self._newest, self._periods = -1, 0  # stamp [ns] of the newest state; how many there were
        self._unanswered = 0  # lock-step: how often a state was repeated since the last command
        self._last, self._last_time = Command(np.zeros(self.robot.m), None), 0.0  # sent; when
        self._looked = 0.0  # likewise, whether to go on for another
        self._said, self._faults = ("", "", ""), 0
        self._active = False  # the state of the lifecycle
        self._in_fault = False  # the controller, whose efforts do not count then
        self._efforts = topics.publisher(self, Float64MultiArray, topics.COMMANDS, topics.SENT)
        self._passed = topics.publisher(self, EffortCommand, topics.PASSED, topics.SENT)
        self._status = topics.Status(self, topics.GUARD)
        self._diagnostics = topics.Diagnostics(self)
        self._stages = topics.timed(self)
        self.create_subscription(JointState, topics.JOINTS, self._measured,
                                 topics.LOCKSTEP_STATES if self._lockstep else topics.STATES,
                                 callback_group=self._often)
        self._baton: Baton | None = None
        self._acts = first
        self._coming: list[Callable[[], Any]] = []  # what is still to be set up of one that commands
        if not self._lockstep and (own.spare or not first):
            self._baton = Baton(baton.place(f"{ring_name(self.get_namespace())}_guard"))
            self._spare = Spare(self._baton, first, self.robot.period, own.silence or SILENCE * self.robot.period)
            self._acts = False
        if not self._lockstep:
            self._timer = self.create_timer(self.robot.period / LOOKS, self._watch, callback_group=self._often,
                                            clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_timer(1.0, self._report)
        self.trigger_configure()
        if self._acts:
            self._begin()

    @property
    def default_callback_group(self) -> CallbackGroup:
        """Of what is not said otherwise of."""
        return self._seldom

    def _begin(self) -> None:
        """Hear the controller, offer services, and say so: at once, or, where another guard has left the robot to this
        one, one at a time, between what is sent."""
        self._coming = [  # the mode first: a fault says so
            partial(create, *what, callback_group=self._often) for create, *what in (
                (self.create_subscription, Status, topics.MODE, self._mode, topics.LATCHED),
                (self.create_subscription, FeedbackCommand, topics.FEEDBACK, self._fed_back, topics.RING),
                (self.create_subscription, EffortCommand, topics.ASKED, self._commanded, topics.RING),
                (self.create_service, Trigger, "guard/estop", self._estop),
                (self.create_service, SetBool, "guard/arm", self._arm),
                (self.create_service, Trigger, "guard/reset", self._reset))]
        if self._baton is None or not self._spare.reason:
            while self._coming:
                self._coming.pop(0)()
        self._announce()

    def _look(self, now: float) -> None:
        """Standing by: whether to command from now on."""
        if self._baton is None or now - self._looked < SOON * self.robot.period:
            return
        self._looked = now
        self._timer.reset()
        if not self._spare.look(now, self.guard.state != UNCONFIGURED):
            return
        self._acts = True
        if self._spare.reason:
            self.guard.inherit(self._baton.legacy, f"another guard commands: {self._spare.reason}")
            self._send(now)
        self._begin()

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
        if not self._acts:
            self._look(now)
            return
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
            self._publish()  # it was lost
        elif self._unanswered >= self._patience:
            self.guard.fail(f"no command while a state was repeated {self._unanswered} times")
            self._send(self._now())
            self._announce()

    def _commanded(self, message: EffortCommand) -> None:
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
            self._publish()
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
        return self._last.answers == self._newest

    def _unusable(self, topic: str, error: MessageError) -> None:
        self.complaints.error(f"{topic} dropped: {error}")
        self.guard.dropped += 1
        self.guard.fail(str(error))
        self._announce()

    def _mode(self, message: Status) -> None:
        self._in_fault = message.state == FAULT
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
        self._last = Command(effort, self._newest if own else self.guard.answered or None)
        self._publish()
        self._stages.done("publish")
        self._last_time = time.monotonic()
        if self._baton is not None:
            self._baton.write(self.guard.legacy())
        self._look_again(now)

    def _publish(self) -> None:
        """To the robot, and to the ring; who does not listen costs nothing."""
        if topics.wanted(self._efforts):
            self._efforts.publish(messages.to_efforts(Float64MultiArray, self._last.effort))
        if topics.wanted(self._passed):
            self._passed.publish(messages.to_effort_command(EffortCommand, self._last))

    def _watch(self) -> None:
        """Real time: fault before anything is too old, and send where nothing else was a reason to."""
        now, state, period = self._now(), self.guard.state, self.robot.period
        if not self._acts:
            self._look(now)
            return
        if self._coming:
            self._coming.pop(0)()
        self.guard.check(now + EARLY * period)
        if self.guard.state != state or now - self._last_time >= LATE * period:
            self._send(now)
        self._announce()
        self._look_again(now)

    def _look_again(self, now: float) -> None:
        """Set the watch to when it has something to do, if nothing comes until then; show that this one is awake."""
        if self._lockstep:
            return
        if self._baton is not None:
            self._baton.beat(now)
        period = self.robot.period
        due = [now + period * (SETTING_UP if self._coming else LATE)]
        if self.guard.state != UNCONFIGURED:
            due.append(self._last_time + LATE * period)
        if self.guard.state == ARMED:
            due.append(self.guard.due() - EARLY * period)
        self._timer.timer_period_ns = round(1e9 * max(min(due) - now, LEAST * period))
        self._timer.reset()

    # --- who asks for a state

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        refused = "another guard commands" if not self._acts else (
            "" if self.guard.state == ARMED else self.guard.arm(self._now()))
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
        if not self._acts:
            return
        said = (self.guard.state, self.guard.reason, self.guard.remark)
        if said[0] == ARMED and not self._active:
            self.trigger_activate()
        elif said[0] != ARMED and self._active:
            self.trigger_deactivate()
        if said == self._said:
            return
        before, self._said = self._said, said
        self._look_again(self._now())
        if self._baton is not None:
            self._baton.write(self.guard.legacy())
        self._status.say(*said[:2])
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
        if not self._acts:
            self._diagnostics.send(topics.OK, self._standing(), {}, "spare")
            return
        of = self.guard
        state_age, command_age = of.ages(self._now())
        alone = self._baton is not None and not self._spare.beside(self._now())
        level = topics.WARN if (of.remark or alone) and LEVELS[of.state] == topics.OK else LEVELS[of.state]
        self._diagnostics.send(level, self._line(), {
            "state": of.state, "reason": of.reason, "remark": of.remark, "hold_gain": float(of.hold_gain.min()),
            "state_age_ms": 1e3 * state_age, "command_age_ms": 1e3 * command_age,
            "commands_in_time": of.in_time, "dropped": of.dropped,
            "faults": self._faults, **({} if self._baton is None else {"spare": "missing" if alone else "stands by"})},
            "guard")

    def _standing(self) -> str:
        if self._baton is None:
            return "nothing to stand by for in lock-step"
        return (f"stands by for process {self._spare.met}" if self._spare.met else
                "waits for a guard with guard.spare on this machine")

    def close(self) -> None:
        """Go down to zero effort at the limited rate, and wait until that has arrived."""
        if not self._acts:
            return
        if self._baton is not None:
            self._baton.beat(self._now() + STARTING)
        self.guard.estop()
        end = time.monotonic() + LEAVING
        while not self._lockstep and self.guard.state == STOPPED and time.monotonic() < end:
            effort = self.guard.release(self._now())
            self._last = Command(effort, None)
            self._publish()
            if not effort.any():
                break
            time.sleep(self.robot.period)
        self._efforts.wait_for_all_acked(Duration(seconds=0.5))
        if self._baton is not None:
            self._baton.leave()


def main(args: list[str] | None = None) -> int:
    return run(GuardNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
