"""Model-predictive control: replan at every call, and play the first effort.

Predicts the state over the delay, shifts the previous plan by one period as warm start, plans, and plays the first
effort; on a failed or late plan it plays the previous plan's next step, with its feedback gains if it has some.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mbrl_ros.config import ConfigError, param
from mbrl_ros.models.dynamics import DynamicsModel
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.devices import device_for
from mbrl_ros.planners.plan import shifted
from mbrl_ros.planners.problem import Planner, Problem
from mbrl_ros.ring.delay import Delay
from mbrl_ros.ring.feedback import feedback_of
from mbrl_ros.robot import Robot
from mbrl_ros.task.goal import Course, Goal
from mbrl_ros.task.task import Task
from mbrl_ros.task.trajectory import Request
from mbrl_ros.types import (
    CONVERGED,
    FAILED,
    LATE,
    NOT_FINITE,
    Array,
    Feedback,
    LinearGaussianDynamics,
    Plan,
    StateEstimate,
)

if TYPE_CHECKING:
    from jaxtyping import Float

MODELS = LOCAL, GLOBAL = ("local", "global")  # of controller.model
NO_MODEL = "controller.model is global, and there is no global model yet: call controller/excite and learner/fit first"
AMPLE = 0.25  # part of what a limit leaves at most, beyond which exploration noise is in full


@dataclass(frozen=True)
class Config:
    """Parameters `controller.*` of the model-predictive part."""

    planner: str = param("ilqr", "Which planner", choices=PLANNERS)
    model: str = param(LOCAL, "What to plan with; local: the linear dynamics that the learner fits anew every period; "
                       "global: the model behind its prior, which is not linear, corrected by that fit",
                       choices=MODELS)
    device: str = param("auto", "Where to plan; auto takes the CPU for few problems, which is faster there",
                        choices=("auto", "cpu", "cuda"))
    delay: float = param(-1.0, "Periods from a state until the command that answers it acts; negative: found from the "
                         "efforts that the robot reports", -1.0, 3.0, unit="periods")
    exploration: float = param(0.0, "Standard deviation of exploration noise, in units of Q_uu^-1/2 and of the "
                               "margin left to the limits", 0.0, 10.0, live=True)
    effort_mean_time: float = param(0.5, "Time constant of the slow mean of the effort [s]", 0.02, 60.0)
    feedback: bool = param(False, "Send the gains of every plan, too, so that the guard plays them on every joint "
                           "state where those come faster than the period")
    budget: float = param(0.0, "A plan that takes longer counts as failed [s]; 0: one control period, and without end "
                          "in lock-step", 0.0, 60.0)
    max_failures: int = param(2, "Failed plans in a row before the controller faults", 0, 100)
    seed: int = param(0, "Seed of exploration noise, and of planners that draw", 0)

    def __post_init__(self) -> None:
        if self.exploration > 0 and not getattr(PLANNERS[self.planner], "gives_covariance", False):
            able = [name for name, kind in PLANNERS.items() if getattr(kind, "gives_covariance", False)]
            raise ConfigError(f"exploration: expected 0 with {self.planner}, whose plans have no Q_uu^-1; "
                              f"it is for {', '.join(able)}")


class ModelPredictiveController:
    """Replans at every call; remembers the previous plan, the slow mean of the effort, and the path to the target."""

    def __init__(self, robot: Robot, task: Task, planner: Planner, config: Config):
        self.robot, self.task, self.planner, self.config = robot, task, planner, config
        device = device_for(config.device, 1, "controller.device")
        in_numpy = device.type == "cpu" and getattr(planner, "takes_numpy", False) and config.model == LOCAL
        self.device = None if in_numpy else device
        self._goal: Goal | Request | None = None
        self._limit = np.tile(robot.effort_limit, (planner.horizon, 1))  # (T, m)
        self._rng = np.random.default_rng(config.seed)
        self._path: Course | None = None
        self._previous: Plan | None = None
        self.effort_mean = np.zeros(robot.m)
        self.delay = Delay(robot, config.delay)
        self.trust = 1.0  # in the newest model (trust.py); whoever knows sets it
        self.plan: Plan | None = None  # the newest
        self.problem: Problem | None = None  # that it is, or should have been, an answer to
        self.feedback: Feedback | None = None  # that goes with the newest effort, where it is asked for
        self.reference = robot.tool_position(robot.home)  # (3,) where the path is at the newest state's time
        self.failures, self.status, self.solve_time = 0, CONVERGED, 0.0
        self.budget = config.budget or np.inf  # [s]

    def start(self, state: StateEstimate) -> None:
        """Begin anew from this state, without a warm start; without a target, the tool stays where it is."""
        self._previous, self._path, self.failures = None, None, 0
        if self._goal is None:
            self._goal = Goal(state.belief.mean[self.robot.slice(f"site/{self.robot.sites[0]}/position")].copy())

    @property
    def goal(self) -> Goal | Request | None:
        """What is asked for. What is set is followed from the next `act` on; the same again changes nothing."""
        return self._goal

    @goal.setter
    def goal(self, goal: Goal | Request) -> None:
        if not (isinstance(goal, Goal) and goal.same(self._goal)):
            self._goal, self._path = goal, None

    @property
    def target(self) -> Array | None:
        """(3,) [m], where the tool shall be in the end; None where nothing is asked for yet."""
        if self._path is not None:
            return self._path.goal
        return self._goal.position if isinstance(self._goal, Goal) else None

    @property
    def course(self) -> Course | None:
        """What is followed; None where it has not begun."""
        return self._path

    def record(self, effort: Float[Array, " m"]) -> None:
        """What was commanded in the end, whichever mode asked for it."""
        gain = min(1.0, self.robot.period / self.config.effort_mean_time)
        self.effort_mean += gain * (effort - self.effort_mean)
        self.delay.record(effort)

    def act(self, state: StateEstimate, dynamics: LinearGaussianDynamics, last_effort: Float[Array, " m"],
            model: DynamicsModel | None = None) -> Float[Array, " m"]:
        """The effort to command now, planned with `model` where controller.model is global. Raises nothing; see
        `failures` and `status`."""
        began, self.feedback = time.perf_counter(), None
        x, (lower, upper) = state.belief.mean, self._bounds(last_effort)
        warm = shifted(self._previous, self.robot.stride) if self._previous is not None else None
        effort = None
        try:
            model = self._corrected(model, dynamics, state)
            x, ahead, dynamics = self.delay.compensate(x, dynamics)
            start = state.time + round(ahead * self.robot.step * 1e9)
            self.problem = self._problem(x, start, dynamics, lower, upper, state, model)
            plan = self.planner.plan(self.problem, warm)
            self.status = f"{plan.status}: {plan.detail}" if plan.detail else plan.status
            effort = self._play(plan, x, lower[0], upper[0])
        except Exception as error:  # no planner may stop the arm from being controlled
            self.status = f"{FAILED}: {type(error).__name__}: {error}"
        self.solve_time = time.perf_counter() - began
        if self.solve_time > self.budget:
            self.status = LATE
        status = self.status.partition(":")[0]
        failed = status in (NOT_FINITE, LATE, FAILED)
        self.failures = self.failures + 1 if failed else 0
        if failed and warm is not None:
            plan = replace(warm, status=status)
            effort = self._play(plan, x, lower[0], upper[0])
        if effort is None:
            self.failures = self.config.max_failures + 1  # nothing to play
            return np.zeros(self.robot.m)
        self._previous = self.plan = plan
        if self.config.feedback and not failed:
            self.feedback = feedback_of(plan, effort, state.time, start, self.robot)
        return effort

    def path_point(self, state: StateEstimate) -> tuple[Float[Array, " 3"], Float[Array, " 3"]]:
        """Where the tool should be now [m], and how it should move [m/s]."""
        position, velocity = self._path_from(state.belief.mean, state.time).at(state.time, self.robot.period, 1)
        self.reference = position[0]
        return position[0], velocity[0]

    def _path_from(self, x: Array, start: int) -> Course:
        """The path to what is asked for; a new one from x (n,) at `start` [ns] where that is new."""
        if self._path is None:
            tool, q = (x[self.robot.slice(name)] for name in (f"site/{self.robot.sites[0]}/position", "joint/position"))
            goal = Goal(tool) if self._goal is None else self._goal
            self._path = (self.task.path_to(goal, tool, start, q) if isinstance(goal, Goal)
                          else goal.begun(start, q, tool, self.robot.tool(q)[1]))
        return self._path

    def _bounds(self, last_effort: Array) -> tuple[Array, Array]:
        """Effort limits (T, m); at the first step also what the rate limit allows after the last effort, in a step."""
        lower, upper = -self._limit, self._limit.copy()
        step = self.robot.effort_rate_limit * self.robot.step
        lower[0] = np.maximum(lower[0], last_effort - step)
        upper[0] = np.minimum(upper[0], last_effort + step)
        return lower, upper

    def _problem(self, x: Array, start: int, dynamics: LinearGaussianDynamics, lower: Array, upper: Array,
                 state: StateEstimate, model: Any) -> Problem:
        path = self._path_from(x, start)
        q = x[self.robot.slice("joint/position")]
        window = self.task.window(path, start, q, self.planner.horizon, self.effort_mean)
        now = window.position if start == state.time else path.at(state.time, self.robot.period, 1)[0]
        self.reference = now[0]
        cost = self.task.cost(window, self.device, self.delay.slowness / self.trust**2)
        seed = (1_000_003 * self.config.seed + state.step) % 2**32  # torch looks at no more bits than these
        if self.device is None:
            return Problem(x, dynamics, cost, lower, upper, seed, self.budget, dynamics)
        local, on_device = self._tensors(dynamics), self._tensor
        if self.config.model == LOCAL:
            model = local
        return Problem(on_device(x), model, cost, on_device(lower), on_device(upper), seed, self.budget, local)

    def _corrected(self, model: Any, dynamics: LinearGaussianDynamics, state: StateEstimate) -> Any:
        """The global model with what the local dynamics have learned since, and by commands."""
        if self.config.model == LOCAL or not hasattr(model, "corrected"):
            return model
        acted = self._tensor(state.belief.mean), self._tensor(state.effort)
        return model.corrected(self._tensors(dynamics), *acted).delayed(self.delay.periods / self.robot.stride % 1.0)

    def _tensors(self, dynamics: LinearGaussianDynamics) -> LinearGaussianDynamics:
        return LinearGaussianDynamics(*(None if a is None else self._tensor(a) for a in vars(dynamics).values()))

    def _tensor(self, a: Array) -> torch.Tensor:
        return torch.as_tensor(a, device=self.device)

    def _play(self, plan: Plan, x: Array, lower: Array, upper: Array) -> Array:
        """First effort of the plan at x, with exploration noise of covariance proportional to Q_uu^-1, and a deviation
        proportional to the margin left."""
        policy = plan.policy
        u_hat, K, k, x_hat = (_first(a) for a in (policy.u_hat, policy.K, policy.k, policy.x_hat))
        effort = u_hat + K @ (x - x_hat) + k
        if self.config.exploration > 0:
            size = self.config.exploration * margin_left(self.robot, x, effort)
            effort = effort + size * self._noise(policy.Sigma)
        return np.minimum(np.maximum(effort, lower), upper)

    def _noise(self, Sigma: Array | None) -> Array:
        """A draw (m,) of the first Sigma (T, m, m); none, which `status` says, where that is not positive definite, as
        that of a plan which stopped before its first backward pass."""
        try:
            if Sigma is not None and np.isfinite(first := _first(Sigma)).all():
                return np.linalg.cholesky(first) @ self._rng.standard_normal(self.robot.m)
        except np.linalg.LinAlgError:
            pass
        self.status += ": without exploration, its covariance is not positive definite"
        return np.zeros(self.robot.m)


def margin_left(robot: Robot, x: Float[Array, " n"], effort: Float[Array, " m"]) -> float:
    """From 1, where no joint is near any of its limits (the soft ends that the guard keeps, speed, effort), down to 0,
    where one is there: joints are coupled, so the one with the least counts for all."""
    q, qd = x[robot.slice("joint/position")], x[robot.slice("joint/velocity")]
    low, high = robot.position_low + robot.position_margin, robot.position_high - robot.position_margin
    half = np.where(np.isfinite(high - low), 0.5 * (high - low), 1.0)  # without ends there is always room
    parts = [np.minimum(q - low, high - q) / half, 1 - np.abs(qd) / robot.velocity_limit,
             1 - np.abs(effort) / robot.effort_limit]
    return float(np.clip(np.min(parts) / AMPLE, 0.0, 1.0))


def _first(steps: Array) -> Array:
    """The first of (T, ...), as numpy."""
    return steps[0].cpu().numpy() if isinstance(steps, torch.Tensor) else steps[0]
