"""From states to efforts: modes and safety limits.

`Controller.act` is called once per period with the newest state and local model. It is in one mode at a time: `idle`
(nothing is asked for, and whoever guards the robot holds it), `hold`, `home` and `excite` (base policy), `reach`
(model-predictive control, mpc.py), `policy` (one that was made elsewhere, policy.py), or `fault` (zero effort until
asked for another mode), and whatever the mode asks for passes the limits on effort and its rate. The less the model can
be trusted (trust.py), the more a change of effort costs; without any trust it holds.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import ConfigError, param
from mbrl_ros.models.dynamics import DynamicsModel
from mbrl_ros.planners.problem import Planner
from mbrl_ros.ring import aims, mpc, policy
from mbrl_ros.ring import excitation as excitations
from mbrl_ros.ring.hold import BasePolicy
from mbrl_ros.robot import Robot
from mbrl_ros.task.task import Task
from mbrl_ros.task.trajectory import Jog
from mbrl_ros.types import (
    Array,
    LinearGaussianDynamics,
    StateEstimate,
)

if TYPE_CHECKING:
    from jaxtyping import Float

UNTRUSTED = "the model predicts badly; it learns while the arm holds"
EXPLORED = 3.0  # [s] for which the excitation under way to the first targets is designed

UNREACHABLE = NEAREST, REFUSE = ("nearest", "refuse")

MODES = IDLE, HOLD, HOME, EXCITE, REACH, POLICY, FAULT = (
    "idle", "hold", "home", "excite", "reach", "policy", "fault")


@dataclass(frozen=True)
class Config(mpc.Config, policy.Config):
    """Parameters `controller.*`: those of the model-predictive part and of policies, and what is decided about them."""

    explore: bool = param(False, "Without a model, reach by moving the posture of the hold under excitation, so that a "
                          "model can be fitted meanwhile; off: plan with what the learner has")
    unreachable: str = param(NEAREST, "A target out of reach; nearest: the nearest point that can be reached is the "
                             "target, and that is said; refuse: it is not taken", choices=UNREACHABLE)
    speed_stop: float = param(2.0, "Protective stop above this multiple of robot.velocity_limit", 0.1, 20.0)


class Controller:
    """StateEstimate and LinearGaussianDynamics -> effort (m,) [N m or N], within limits, always finite; or None."""

    def __init__(self, robot: Robot, task: Task, planner: Planner, config: Config, excitation: excitations.Config):
        self.robot, self.config, self.excitation = robot, config, excitation
        self.base = BasePolicy(robot, excitation)
        self.mpc = mpc.ModelPredictiveController(robot, task, planner, config)
        self.player = policy.PolicyPlayer(robot, config.seed)
        if config.policy:
            self.set_policy(policy.load(config.policy, robot))
        self.mode, self.reason = IDLE, "not started"
        self.has_model = not config.explore  # whoever fits one sets it
        self._requested: str | None = None
        self._newest: StateEstimate | None = None
        self._excite_until = 0
        self._last_effort = np.zeros(robot.m)
        self.acts = True  # whether what it commands reaches the robot; whoever knows sets it
        self._acted = np.zeros(robot.m)  # slow mean of what did

    def request(self, mode: str) -> None:
        """Change to a mode at the next `act`. Raises ConfigError for one that is not there, or has nothing to play."""
        if mode not in MODES:
            raise ConfigError(f"mode: unknown {mode!r}; choose one of {', '.join(MODES)}")
        if mode == POLICY and self.player.policy is None:
            raise ConfigError(policy.NO_POLICY)
        self._requested = mode

    def refusal(self, mode: str, model: DynamicsModel | None = None) -> str:
        """Why `mode`, requested now, would not be entered at the newest state, or left at once; empty where it would
        be. `model` is the global one, as for `act`."""
        if mode == IDLE:
            return ""
        fault = self._fault(self._newest.belief.mean) if self._newest is not None else ""
        if fault or mode not in (REACH, POLICY):
            return fault
        if mode == POLICY:
            return self.player.refusal(self._newest, self.config, self.mpc.target)
        if self.has_model and self.mpc.trust == 0.0:
            return f"{UNTRUSTED}: ask again in some seconds, or call controller/excite and learner/fit"
        return mpc.NO_MODEL if self.has_model and self.config.model == mpc.GLOBAL and model is None else ""

    @property
    def ill(self) -> bool:
        """Whether the newest state must not be acted on."""
        return self._newest is not None and bool(self._fault(self._newest.belief.mean))

    @property
    def tool_rotation(self) -> Array:
        """How the tool is turned (3, 3), columns are its axes in the base frame."""
        rotation: Array = self.robot.tool(self._q)[1]
        return rotation

    def stop(self, mode: str, reason: str) -> None:
        """Enter `idle` or `fault` now, without a state."""
        self.mode, self.reason, self._requested = mode, reason, None
        self._last_effort = np.zeros(self.robot.m)  # where the limit on its rate of change begins

    def set_policy(self, of: policy.Policy) -> None:
        """What the mode `policy` plays when it is entered the next time."""
        self.player.policy = of

    @property
    def _q(self) -> Array:
        """Where the joints are (m,); at home as long as nobody knows."""
        return self.robot.home if self._newest is None else self._newest.belief.mean[self.robot.slice("joint/position")]

    def set_target(self, target: Array, rotation: Array | None = None, refuse: bool = False) -> str:
        """Move the tool to `target` (3,) [m, base frame], and turn it as `rotation` (3, 3) where there is one, along a
        smooth path that begins at the next `act`; or where that is out of reach, to the nearest that is not: the answer
        says so, and is empty else. `refuse` it instead, or by controller.unreachable: raises aims.Unreachable."""
        refuse = refuse or self.config.unreachable == REFUSE
        self.mpc.goal, said = aims.target(self.mpc.task, target, rotation, self._q, refuse)
        return said

    def set_joints(self, target: Array, refuse: bool = False) -> str:
        """Likewise move the joints to `target` (m,) [rad or m]."""
        refuse = refuse or self.config.unreachable == REFUSE
        self.mpc.goal, said = aims.joints(self.mpc.task, self.robot, target, refuse)
        return said

    def set_joint_trajectory(self, times: Array, points: Array, velocities: Array | None = None) -> None:
        """Follow joints through points (N, m) [rad or m] at times (N,) [s] from the next `act` on."""
        self.mpc.goal = aims.joint_trajectory(self.mpc.task, self.robot, times, points, velocities, self._q)

    def set_pose_trajectory(self, times: Array, positions: Array, rotations: Array | None = None) -> None:
        """Follow positions (N, 3) [m] of the tool, and where they are given rotations (N, 3, 3), likewise."""
        self.mpc.goal = aims.pose_trajectory(self.mpc.task, self.robot, times, positions, rotations, self._q)

    def jog(self, velocity: Array, seconds: float) -> None:
        """Move the tool at `velocity` (6,) [m/s, rad/s], base frame, for so long, and stop it then."""
        if self._newest is None:
            raise ConfigError("twist: expected after the first state")
        tool = self._newest.belief.mean[self.robot.slice(f"site/{self.robot.sites[0]}/position")]
        course = self.mpc.course
        before = course if isinstance(course, Jog) else None
        self.mpc.goal = aims.jog(self.mpc.task, velocity, seconds, before, self._newest.time, tool)

    def act(self, state: StateEstimate, dynamics: LinearGaussianDynamics, trust: float = 1.0,
            model: DynamicsModel | None = None) -> Float[Array, " m"] | None:
        """The effort for the period that begins at the state's time (plus the delay); None in `idle`. `trust` is
        the learner's in this model, from 1 to 0; `model` is the global one, for controller.model: global. Raises
        nothing, whatever the model and the planner are."""
        if self._newest is None or state.episode != self._newest.episode:  # as it has been held until now
            self._acted = self._last_effort = np.nan_to_num(state.effort)
        self._newest, mean = state, state.belief.mean
        self.mpc.delay.observe(state)
        self.player.observe(state)
        self.mpc.trust = trust
        self.base.caution = self.mpc.delay.hold_gain
        gain = min(1.0, self.robot.period / self.config.effort_mean_time)
        self._acted = self._acted + gain * (np.nan_to_num(state.effort) - self._acted)
        fault = self._fault(mean)
        if fault and self.mode not in (IDLE, FAULT):
            self._enter(FAULT, fault, state)
        elif self._requested is not None and not fault:
            self._enter(self._requested, "requested", state)
        self._requested = None
        if not self.acts:
            self._begin(self.mode, state)
        if self.mode == EXCITE and state.time >= self._excite_until:
            self._enter(HOLD, "excitation is over", state)
        effort = self._effort(state, dynamics, model)
        if not np.isfinite(effort).all():
            self._enter(FAULT, "the planned effort is not finite", state)
            effort = np.zeros(self.robot.m)
        step = self.robot.effort_rate_limit * self.robot.period
        limit = self.robot.effort_limit
        effort = np.minimum(np.maximum(effort, self._last_effort - step), self._last_effort + step)
        effort = np.minimum(np.maximum(effort, -limit), limit)
        self._last_effort = effort
        self.mpc.record(effort)
        return None if self.mode == IDLE else effort

    def _effort(self, state: StateEstimate, dynamics: LinearGaussianDynamics, model: DynamicsModel | None) -> Array:
        if self.mode == FAULT:
            return np.zeros(self.robot.m)
        if self.mode == IDLE:  # somebody else holds the arm: the next mode goes on from there
            return np.nan_to_num(state.effort)
        if self.mode == POLICY:
            effort, over = self.player.act(state, self.config, self.mpc.target)
            if effort is not None:
                return effort
            self._enter(HOLD, over, state)
        if self.mode == HOME:
            self.base.approach(self.robot.home)
        if self.mode in (HOLD, HOME, EXCITE):
            return self.base.act(state, self.mode == EXCITE and self.acts)
        if not self.has_model:
            self.base.follow(*self.mpc.path_point(state))
            return self.base.act(state, excite=self.acts)
        if self.mpc.trust == 0.0:
            self._enter(HOLD, UNTRUSTED, state)
            return self.base.act(state, excite=False)
        if self.config.model == mpc.GLOBAL and model is None:
            self._enter(HOLD, mpc.NO_MODEL, state)
            return self.base.act(state, excite=False)
        effort = self.mpc.act(state, dynamics, self._last_effort, model)
        if self.mpc.failures > self.config.max_failures:
            self._enter(FAULT, f"{self.mpc.failures} plans in a row failed: {self.mpc.status}", state)
            return np.zeros(self.robot.m)
        return effort

    def _enter(self, mode: str, reason: str, state: StateEstimate) -> None:
        if self.mode == FAULT:  # which commands nothing, while whoever guards the robot holds it
            self._last_effort = np.nan_to_num(state.effort)
        if self.mode != mode or mode in (EXCITE, POLICY):
            self._begin(mode, state)
        self.mode, self.reason = mode, reason

    def _begin(self, mode: str, state: StateEstimate) -> None:
        """From here and now. So it is at every state while somebody else holds the arm: an excitation, the path to a
        target or a policy begins once what is asked for moves the arm, and is not far ahead of it by then."""
        if mode == EXCITE:
            self.base.start(self.robot.home, self._acted)
            self._excite_until = state.time + round(self.excitation.duration * 1e9)
        elif mode in (HOLD, HOME):
            self._start_hold(state)
        elif mode == REACH:
            self.mpc.start(state)
            if not self.has_model:
                self._start_hold(state, EXPLORED)
        elif mode == POLICY:
            self.player.start(state)

    def _start_hold(self, state: StateEstimate, seconds: float | None = None) -> None:
        """Where the joints are, with what acted of late, whoever sent it."""
        self.base.start(state.belief.mean[self.robot.slice("joint/position")], self._acted, seconds)

    def _fault(self, x: Array) -> str:
        """Why this state must not be acted on; empty where it may."""
        if not np.isfinite(x).all():
            return "the state is not finite"
        speed = np.abs(x[self.robot.slice("joint/velocity")]) / self.robot.velocity_limit
        fastest = int(np.argmax(speed))
        if speed[fastest] > self.config.speed_stop:
            return (f"protective stop: {self.robot.joints[fastest]} at {speed[fastest]:.1f} times its velocity limit")
        return ""
