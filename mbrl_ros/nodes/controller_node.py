"""The node that runs Controller: local_dynamics -> effort_command, in the mode that services ask for.

A managed (lifecycle) node: `configure` loads, compiles and warms up, `activate` allows it to excite and to reach,
`deactivate` is the hold. The services say what to do with that permission, which no transition could: so both are
there.
"""
from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleNodeMixin
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from mbrl_ros import assembly, options
from mbrl_ros.action import ReachTarget
from mbrl_ros.config import ConfigError
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.belief import to_belief
from mbrl_ros.messages.camera import from_image
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.messages.ring import LocalModel, MessageError, PlanReport
from mbrl_ros.models.dynamics import DynamicsModel
from mbrl_ros.models.prior import load
from mbrl_ros.models.robot_model import RobotModel
from mbrl_ros.msg import (
    Belief,
    EffortCommand,
    FeedbackCommand,
    LinearGaussianPolicy,
    LocalDynamics,
    ModelCheckpoint,
    Plan,
    Status,
)
from mbrl_ros.nodes import follow_action, reach_action, topics
from mbrl_ros.nodes.follow_action import FollowAction
from mbrl_ros.nodes.motion_action import Refusal
from mbrl_ros.nodes.parts import PARTS, PartNode
from mbrl_ros.nodes.reach_action import ReachAction
from mbrl_ros.nodes.readiness import Readiness
from mbrl_ros.nodes.spin import run
from mbrl_ros.nodes.targets import Targets
from mbrl_ros.nodes.task_parameters import TaskParameters
from mbrl_ros.nodes.warm_up import warm_up
from mbrl_ros.ring import controller, excitation, policy
from mbrl_ros.ring.belief import Believer
from mbrl_ros.ring.controller import EXCITE, FAULT, HOLD, HOME, IDLE, POLICY, REACH
from mbrl_ros.ring.guard import ARMED, STOPPED
from mbrl_ros.ring.guard import FAULT as GUARD_FAULT
from mbrl_ros.ring.learner import features_of
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.mpc import GLOBAL
from mbrl_ros.types import Array

ACTIONS = ((ReachAction, ReachTarget, reach_action.NAME),
           (FollowAction, follow_action.FollowJointTrajectory, follow_action.NAME))
SERVICES = {"excite": EXCITE, "reach": REACH, "policy": POLICY, "home": HOME, "hold": HOLD, "stop": IDLE}
RECENT = 3000  # ticks that the statistics cover


class ControllerNode(LifecycleNodeMixin, PartNode):
    """Runs Controller on every new state.

    While idle and when it ends it asks for nothing, so that the guard holds; in a fault, after it has said so, for zero
    effort.
    """

    def __init__(self, **arguments: Any):
        PartNode.__init__(self, "controller", **arguments)
        LifecycleNodeMixin.__init__(self)
        self._readiness = Readiness(self)
        self._own = self.declare("controller", self.option(options.Controller, "controller"))
        self._problem: Exception | None = None  # why it could not be configured
        self._configured = self._allowed = False
        if self._own.lifecycle == "unconfigured":
            return
        self.trigger_configure()
        if self._problem is not None:
            raise self._problem
        if self._own.lifecycle == "active":
            self.trigger_activate()

    # --- transitions

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._set_up()
        except Exception as error:  # rclpy would swallow it
            self._problem = error
            if self._own.lifecycle == "unconfigured":
                self.get_logger().error(f"not configured: {' '.join(str(error).split())}")
            return TransitionCallbackReturn.FAILURE
        if self._own.lifecycle != "active":
            self.controller.request(HOLD)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        self._allowed = True
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        self._allowed = False
        self.controller.request(HOLD)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.FAILURE  # it holds until it ends

    def on_shutdown(self, _state: LifecycleState) -> TransitionCallbackReturn:
        self._allowed = False
        if self._configured:
            self._stop(IDLE, "shut down")
        return TransitionCallbackReturn.SUCCESS

    def _set_up(self) -> None:
        """Do all that takes time or can go wrong: load, compile, warm up, declare, connect."""
        self.robot = assembly.make_robot(self.settings)
        warm_up(assembly.make_controller(self.settings, self.robot), self.robot)
        self._readiness.done("warming up")
        self.controller = assembly.make_controller(self.settings, self.robot)
        config = self.controller.config
        self.declare("robot", self.robot.config)
        self.declare("controller", config, self._configure)
        self.declare("excitation", self.controller.excitation, self._excitation)
        self.declare(config.planner, self.component(PARTS[config.planner], config.planner))
        self._task = TaskParameters(self, self.controller, self.settings["task"])
        self._lockstep = self.lockstep()
        if not self._lockstep:
            self.controller.mpc.budget = config.budget or self.robot.period
        self._arms_itself = self.component(PARTS["guard"], "guard").arm_at_start
        self.controller.acts = self._arms_itself
        self._has_model = config.explore or not self._own.require_model
        self._model: DynamicsModel | None = None  # the global one, for controller.model: global
        self._version = 0  # of the newest checkpoint
        self._policy_time = 0  # [ns] when the policy that would be played was made; 0 as long as none was announced
        self._newest, self._seen = -1, time.monotonic()  # stamp [ns] of the newest state; when it came
        self._last: EffortCommand | None = None
        self._ticks, self._missed, self._tick_ms = 0, 0, deque[float](maxlen=RECENT)
        self._commands = topics.publisher(self, EffortCommand, topics.ASKED, topics.SENT)
        self._feedback = topics.publisher(self, FeedbackCommand, topics.FEEDBACK, topics.SENT)
        self._plans = topics.publisher(self, Plan, topics.PLAN, topics.SENT)
        self._beliefs = topics.publisher(self, Belief, topics.BELIEF, topics.SENT)
        self._believer = Believer(self.controller)
        self._reference = topics.publisher(self, PoseStamped, topics.REFERENCE, topics.KEEP)
        self._mode = topics.Status(self, topics.MODE)
        self._diagnostics = topics.Diagnostics(self)
        self._stages = topics.timed(self)
        targets = Targets(self, self.controller)
        self._guard = ("", "")  # its state and reason, once it is heard
        of = self, self.controller, targets
        self._actions = [kind(*of, action, name, self._refusal, self._arms_itself)
                         for kind, action, name in ACTIONS if action is not None]
        self.create_subscription(Status, topics.GUARD, self._guard_said, topics.LATCHED)
        self.create_subscription(ModelCheckpoint, topics.CHECKPOINT, self._checkpoint, topics.LATCHED)
        self.create_subscription(LinearGaussianPolicy, topics.POLICY, self._policy, topics.LATCHED)
        self.create_subscription(ModelCheckpoint, topics.POLICY_FILE, self._policy_file, topics.LATCHED)
        self.create_subscription(Image, topics.CAMERA, self._pictured, topics.STATES)
        self.create_subscription(LocalDynamics, topics.MODEL, self._modelled, topics.RING)
        for name, mode in SERVICES.items():
            self.create_service(Trigger, f"controller/{name}", partial(self._request, mode))
        if self._own.watchdog > 0 and not self._lockstep:
            self.create_timer(self._own.watchdog / 4, self._watch)
        self.create_timer(1.0, self._report)
        self._configured = True
        self._announce()
        self._readiness.wait({
            "guard": lambda: self.count_publishers(topics.GUARD) > 0,
            "joint_states": lambda: self.count_publishers(topics.JOINTS) > 0,
            "estimator": lambda: self.count_publishers(topics.STATE) > 0,
            "learner": lambda: self.count_publishers(topics.MODEL) > 0,
            "first model": lambda: self._newest >= 0})

    def _guard_said(self, message: Status) -> None:
        self._guard = message.state, message.reason
        if not self._arms_itself:
            self.controller.acts = message.state == ARMED
        for action in self._actions:
            action.guard(*self._guard)

    def _configure(self, config: controller.Config) -> None:
        self.controller.config = self.controller.mpc.config = config

    def _excitation(self, config: excitation.Config) -> None:
        self.controller.excitation = self.controller.base.config = config

    def _modelled(self, message: LocalDynamics) -> None:
        arrived = time.monotonic()
        self._stages.start()
        try:
            model = messages.from_local_dynamics(message, self.robot)
        except MessageError as error:
            self.complaints.error(f"local_dynamics dropped: {error}")
            return
        if model.state.time == self._newest and self._last is not None:
            self._commands.publish(self._last)
            return
        self._count(model.state.time, arrived)
        self._stages.received(time.time_ns() - model.state.time)
        self._stages.done("convert")
        try:
            effort = self.controller.act(model.state, model.dynamics, model.trust, self._model)
        except Exception as error:  # whatever it is, the robot must not keep the last effort
            self._fault(f"{type(error).__name__}: {error}")
            return
        self._stages.done("plan")
        self._announce()
        feedback = self.controller.mpc.feedback
        if feedback is not None and feedback.answers == model.state.time:
            self._feedback.publish(messages.to_feedback_command(FeedbackCommand, feedback))
        self._command(effort)
        self._stages.done("publish")
        self._stages.end()
        took = time.monotonic() - arrived
        self._ticks += 1
        self._missed += took > self.robot.period
        self._tick_ms.append(1e3 * took)
        for action in self._actions:
            action.tick(model.state)
        self._show(model, effort)

    def _count(self, stamp: int, arrived: float) -> None:
        """Note a new state, and count the periods before it for which none came as missed deadlines.

    A break of more than ten periods is an interruption and is not counted.
    """
        periods = round((stamp - self._newest) * 1e-9 / self.robot.period)
        if not self._lockstep and self._newest >= 0 and 1 < periods <= 10 and self._active():
            self._missed += periods - 1
        self._newest, self._seen, self._last = stamp, arrived, None

    def _command(self, effort: Any) -> None:
        self._last = topics.command(effort, self._newest if self._newest >= 0 else None)
        self._commands.publish(self._last)

    def _active(self) -> bool:
        return self.controller.mode not in (IDLE, FAULT)

    def _show(self, model: LocalModel, effort: Array | None) -> None:
        """Publish plan, point of the path and belief, where somebody listens."""
        mpc = self.controller.mpc
        if topics.wanted(self._beliefs):
            self._beliefs.publish(to_belief(Belief, self._believer.of(model, effort, self._stages)))
        if self.controller.mode != REACH:
            return
        if mpc.reference is not None and topics.wanted(self._reference):
            self._reference.publish(topics.pose(mpc.reference, model.state.time, self.robot.base_frame))
        if mpc.plan is not None and topics.wanted(self._plans):
            state = model.state
            report = PlanReport(state.time, state.episode, state.step, mpc.plan, mpc.solve_time)
            self._plans.publish(messages.to_plan(Plan, report, self.robot.base_frame))

    def _checkpoint(self, message: ModelCheckpoint) -> None:
        self._version = message.version
        if self.controller.config.model != GLOBAL:
            self._has_model = self.controller.has_model = True
            self._report()
        elif self._lockstep:
            self._load(message)
        else:
            threading.Thread(target=self._load, args=(message,), daemon=True).start()

    def _load(self, message: ModelCheckpoint) -> None:
        """Read a global model. The ring goes on meanwhile with the one before, and takes it up at its next tick."""
        try:
            model = RobotModel(self.robot, features_of(self.robot), load(message.path, self.robot))
        except Exception as error:  # in a thread of its own nobody else would say it
            self.get_logger().error(f"global model not taken up: {message.path}: {' '.join(str(error).split())}")
            return
        if message.version == self._version:
            self._model, self._has_model, self.controller.has_model = model, True, True

    def _policy(self, message: LinearGaussianPolicy) -> None:
        """Take up a published policy; it is played when the mode is entered the next time."""
        try:
            report = messages.from_linear_gaussian_policy(message, self.robot)
            self._take_up(LinearPolicy(report.timed, self.robot), report.time)
        except (MessageError, ConfigError) as error:
            self.get_logger().warning(f"policy ignored: {error}", throttle_duration_sec=topics.THROTTLE)

    def _policy_file(self, message: ModelCheckpoint) -> None:
        """Likewise one in a file; the ring goes on while it is read."""
        if self._lockstep:
            self._read_policy(message)
        else:
            threading.Thread(target=self._read_policy, args=(message,), daemon=True).start()

    def _read_policy(self, message: ModelCheckpoint) -> None:
        try:
            self._take_up(policy.load(message.path, self.robot), read_stamp(message.header.stamp))
        except Exception as error:  # in a thread of its own nobody else would say it
            self.get_logger().warning(f"policy ignored: {' '.join(str(error).split())}")

    def _pictured(self, message: Image) -> None:
        try:
            self.controller.player.look(*from_image(message))
        except MessageError as error:
            self.complaints.error(f"picture dropped: {error}")

    def _take_up(self, of: policy.Policy, made: int) -> None:
        self.controller.set_policy(of)
        self._policy_time = made
        self._report()

    def _refusal(self, mode: str) -> Refusal | None:
        """Why this mode would not be entered, were it asked for now, or would not act."""
        if mode not in (HOLD, IDLE):
            if not self._allowed:
                return Refusal("NOT_ACTIVE", "the controller is not active: activate it first "
                               "(controller/change_state)")
            silent = time.monotonic() - self._seen
            if not self._lockstep and (self._newest < 0 or silent > self._own.watchdog > 0):
                return Refusal("NO_STATE", f"no state for {silent:.2f} s: is the robot there, and the estimator, and "
                               "the learner?")
        if mode == REACH and not self._has_model:
            return Refusal("NO_MODEL", "no model has been fitted: call controller/excite and learner/fit first, or "
                           "start with controller.explore:=true")
        reason = self.controller.refusal(mode, self._model)
        if reason:
            return Refusal("FAULT" if self.controller.ill else "NO_MODEL", reason)
        return self._guarding() if mode in (REACH, EXCITE) else None

    def _guarding(self) -> Refusal | None:
        """Why the guard would not pass commands on."""
        state, reason = self._guard
        said = f"the guard does not pass commands on: {state}: {reason}"
        if state in (STOPPED, GUARD_FAULT):
            return Refusal("STOPPED" if state == STOPPED else "FAULT", f"{said}: call guard/reset, then guard/arm")
        if state == ARMED or self._arms_itself:
            return None
        return Refusal("NOT_ARMED", f"{said}: call controller/hold, then guard/arm" if state else
                       "no guard is heard, and nobody else passes commands on")

    def _request(self, mode: str, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refused = self._refusal(mode)
        if refused is not None:
            return topics.answer(response, False, refused.reason)
        if mode == IDLE:  # at once, whether or not states come
            self._stop(IDLE, "requested")
        else:
            self.controller.request(mode)
        return topics.answer(response, True, f"{mode} from the next state on" if mode != IDLE else
                             "nothing is asked for: the guard holds")

    def _watch(self) -> None:
        silent = time.monotonic() - self._seen
        if self._active() and silent > self._own.watchdog:
            self._fault(f"no state for {silent:.2f} s")

    def _fault(self, reason: str) -> None:
        self._stop(FAULT, reason)
        self.get_logger().error(f"zero effort: {' '.join(reason.split())}")

    def _stop(self, mode: str, reason: str) -> None:
        """Enter idle or fault at once, and ask for nothing from now on, or in a fault for zero effort."""
        self.controller.stop(mode, reason)
        self._announce()
        self._command(np.zeros(self.robot.m) if mode == FAULT else None)

    def _announce(self) -> None:
        """Publish mode and reason where they have changed."""
        since = self._newest if self._newest >= 0 else None  # the stamp of the state at which it changed
        if self._mode.say(self.controller.mode, self.controller.reason, since):
            for action in self._actions:
                action.look()
            self._report()

    def _report(self) -> None:
        mode, reason = self.controller.mode, self.controller.reason
        p50, p99 = np.percentile(self._tick_ms, (50, 99)) if self._tick_ms else (0.0, 0.0)
        config = self.controller.config
        self._diagnostics.send(topics.ERROR if mode == FAULT else topics.OK, f"{mode}: {reason}", {
            "mode": mode, "reason": reason, "ticks": self._ticks, "tick_ms_p50": p50, "tick_ms_p99": p99,
            "missed_deadlines": self._missed, "plan_status": self.controller.mpc.status, "solver": config.planner,
            "model_trust": self.controller.mpc.trust,
            "has_model": self._has_model, "policy_time": self._policy_time, "active": self._allowed})

    def close(self) -> None:
        """Ask for nothing as the last thing, and wait until that has arrived."""
        if not self._configured:
            return
        self._stop(IDLE, "the controller ends")
        self._commands.wait_for_all_acked(Duration(seconds=0.5))


def main(args: list[str] | None = None) -> int:
    return run(ControllerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
