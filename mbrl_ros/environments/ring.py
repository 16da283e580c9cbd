"""The ring as an environment: plant and estimator, the limits of the guard, and a target to bring the tool to.

x = [x of the ring; target - tool]: positions and velocities of joints and tool, past efforts, and where to go. An
action in [-1, 1] is a part of `environment.effort` of every effort limit, is kept between the brakes of the guard, and
ramps at the limited rate. What acted is the newest of the past efforts: models learn from that.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, from_mapping, param, section
from mbrl_ros.environments.environment import Step
from mbrl_ros.evaluation import measures
from mbrl_ros.models.features import Data
from mbrl_ros.models.kinematics import Kinematics
from mbrl_ros.ring import guard
from mbrl_ros.ring.learner import features_of
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Gaussian, Transitions

if TYPE_CHECKING:
    from jaxtyping import Float

REWARDS = PAPER, TASK = ("paper", "task")
FAULT = 100.0  # paid for leaving the limits: more than the rewards of an episode, or that would be a way out of it


@dataclass(frozen=True)
class Config:
    """Parameters `environment.*`."""

    steps: int = param(150, "Time limit of an episode, in steps of the plan", 1, 1_000_000)
    effort: float = param(0.25, "The largest action, as a part of the effort limit", 0.001, 1.0)
    reward: str = param(PAPER, "paper: -|target - tool|^2 - 0.01 |a|^2 (Chua et al. 2018); task: minus the cost that "
                        "the results are in, at the target: 1e3 min(|target - tool|, 0.3)^2 + 0.01 |u / limit|^2 per "
                        "second", choices=REWARDS)


class Reaching:
    """Known of a robot whose tool is to be brought to a target."""

    def __init__(self, robot: Robot, settings: Mapping[str, Any]):
        self.robot, self.config = robot, from_mapping(Config, section(settings, "environment"), "environment")
        self.period = robot.step
        guarding = from_mapping(guard.Config, section(settings, "guard"), "guard")
        self.limits, self._carries = guard.Limits.of(robot, guarding), guarding.gravity == guard.MODEL
        if robot.objects:
            raise ConfigError("robot.objects: expected none for what only sees the arm and its target, got "
                              f"{', '.join(robot.objects)}")
        self.n, self.m = robot.n + 3, robot.m
        self.low, self.high = -np.ones(self.m), np.ones(self.m)
        self.learned = list(range(2 * self.m))
        self.scale = self.config.effort * robot.effort_limit  # (m,) [N m or N] of an action of one
        self._kinematics = Kinematics(robot)
        self.tool = robot.slice(f"site/{robot.sites[0]}/position")

    def observe(self, x: Float[Array, "*b n"], target: Float[Array, " 3"]) -> Float[Array, "*b nx"]:
        """The observation at a state of the ring."""
        return np.concatenate([x, target - x[..., self.tool]], -1)

    def braked(self, x: Float[Array, " n"], effort: Float[Array, " m"]) -> Float[Array, " m"]:
        """The effort [N m or N] that the brakes of the guard leave at a state of the ring."""
        robot = self.robot
        q, qd = (x[robot.slice(f"joint/{of}")] for of in ("position", "velocity"))
        between = guard.brakes(self.limits, q, qd, robot.weight(q) if self._carries else np.zeros(self.m))
        return np.clip(effort, *between)

    def seen(self, z: Float[Tensor, "*b k"]) -> Float[Tensor, "*b s"]:
        """Positions and velocities of joints, the target from the tool."""
        return torch.cat([z[..., : 2 * self.m], self.away(z)], -1)

    def away(self, z: Float[Tensor, "*b k"]) -> Float[Tensor, "*b 3"]:
        """The target from the tool [m]."""
        return z[..., -3:] - self._kinematics.tool(z[..., : self.m])

    def reward(self, z_next: Float[Tensor, "*b k"], a: Float[Tensor, "*b m"]) -> Float[Tensor, " *b"]:
        """See Known."""
        square = self.away(z_next).square().sum(-1)
        if self.config.reward == PAPER:
            cost = square + 0.01 * a.square().sum(-1)
        else:
            away = square.clamp(max=measures.FAR**2)
            cost = self.robot.step * (1e3 * away + 0.01 * (self.config.effort * a).square().sum(-1))
        return -torch.where(self.terminated(z_next), FAULT, cost)

    def terminated(self, z_next: Float[Tensor, "*b k"]) -> Tensor:
        """Where the guard would stop the arm, because a joint is too fast."""
        speed = z_next[..., self.m : 2 * self.m].abs()
        return (speed > torch.as_tensor(self.limits.overspeed).to(z_next)).any(-1)

    def inner(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b k"]:
        """z = [joint rows of the ring's x; target]."""
        return torch.cat([x[..., self.robot.joint_rows], x[..., self.tool] + x[..., -3:]], -1)

    def model(self, regression: Any) -> ReachingModel:
        """See Known."""
        return ReachingModel(self, regression)

    def acted(self, x_next: Float[Array, "N n"], a: Float[Array, "N m"]) -> Float[Array, "N m"]:
        """See Known."""
        return x_next[..., self.robot.slice("effort/1")] / self.scale

    def data(self, x: Float[Array, "N n"], a: Float[Array, "N m"], x_next: Float[Array, "N n"]) -> Data:
        """See Known."""
        rows, u = self.robot.joint_rows, self.scale * self.acted(x_next, a)
        return Data.of(Transitions(x[:, rows], u, x_next[:, rows]), features_of(self.robot), self.robot)


class ReachingModel:
    """A regression as a model of z under actions, with the limit on the rate of efforts. A DynamicsModel."""

    def __init__(self, of: Reaching, regression: Any):
        self.regression, self._features = regression, features_of(of.robot)
        self._scale = torch.as_tensor(of.scale)
        self._step = torch.as_tensor(of.robot.effort_rate_limit * of.robot.step)
        self._last = slice(2 * of.m, 3 * of.m)  # the newest effort in z

    def w(self, z: Tensor, a: Tensor) -> Tensor:
        """The regressors (*b, dw)."""
        return self._features.w(z[..., :-3], self._effort(z, a))

    def next_state(self, z: Tensor, a: Tensor, y: Tensor) -> Tensor:
        """z' (*b, k) where the joints change by y (*b, dy)."""
        after = self._features.next_state(z[..., :-3], self._effort(z, a), y)
        return torch.cat([after, z[..., -3:].expand(*after.shape[:-1], 3)], -1)

    def mean(self, z: Tensor, a: Tensor) -> Tensor:
        """z' of the mean change (*b, k)."""
        return self.next_state(z, a, self.regression.mean(self.w(z, a)))

    def predict(self, z: Tensor, a: Tensor) -> Gaussian:
        """Gaussian over z'; of zero covariance where nothing is learned."""
        y = self.regression.predict(self.w(z, a))
        cov = torch.nn.functional.pad(self._features.lift_covariance(y.cov), (0, 3, 0, 3))
        return Gaussian(self.next_state(z, a, y.mean), cov)

    def _effort(self, z: Tensor, a: Tensor) -> Tensor:
        last, step = z[..., self._last], self._step.to(z)
        return (a * self._scale.to(z)).clamp(last - step, last + step)


class RingEnvironment(Reaching):
    """An Environment. The target is drawn anew at every reset (scenario.*), unless one is given (3,) [m]."""

    def __init__(self, settings: Mapping[str, Any], seed: int = 0, target: Float[Array, " 3"] | None = None):
        settings = assembly.with_seed(settings, seed)
        robot = assembly.make_robot(settings)
        super().__init__(robot, settings)
        self.settings, self.target, self._given = settings, target, target
        self._plant = assembly.make_plant(settings, robot)

    def reset(self, seed: int) -> Float[Array, " n"]:
        """At rest at home."""
        drawn = measures.config_of(self.settings, {"seed": seed, "targets": 1})
        self.target = measures.draw_targets(self.robot, drawn)[0] if self._given is None else self._given
        self._estimator = assembly.make_estimator(self.settings, self.robot)  # which learns noise from what it has seen
        observation = self._plant.reset(seed)
        self._ramp, self._step = guard.Ramp(self.robot.effort_rate_limit), 0
        self._ramp.effort = observation.effort
        return self._see(observation)

    def step(self, a: Float[Array, " m"]) -> Step:
        """See Environment. Raises ValueError for what is not finite."""
        robot, a = self.robot, np.clip(a, self.low, self.high)
        for _ in range(robot.stride):
            effort = self._ramp.follow(self.braked(self._x, self.scale * a), robot.period, robot.period)
            self._estimator.commanded(effort)
            x = self._see(self._plant.step(effort))
        self._step += 1
        after = self.inner(torch.as_tensor(x))
        reward = float(self.reward(after, torch.as_tensor(a)))
        return Step(x, reward, bool(self.terminated(after)), self._step >= self.config.steps)

    def _see(self, observation: Any) -> Array:
        state = self._estimator.update(observation)
        assert state is not None  # the clock of the plant goes on
        self._x = state.belief.mean
        return self.observe(self._x, self.target)
