"""LQR with fitted local models that stays close to the policy before (Levine & Abbeel 2014; Levine et al. 2016).

A few trials are played with noise. Dynamics are fitted to every step of them (models/trials.py), the cost of the task
at its goal is expanded about every trial and averaged, and the policy is the best one within so many nats of the one
that was played (planners/stay_close.py). How far the next may go follows from how much of the promised improvement came
about. Where trials got dearer, it goes back to the best policy and its trials, and goes less far from there.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from mbrl_ros.config import LOGARITHMIC, ConfigError, from_mapping, param, section
from mbrl_ros.models.features import Data
from mbrl_ros.models.mixture import Mixture
from mbrl_ros.models.trials import fit_steps
from mbrl_ros.planners.problem import Cost
from mbrl_ros.planners.stay_close import divergence, expected, improve
from mbrl_ros.ring.learner import features_of
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.robot import Robot
from mbrl_ros.task.path import FADE, Motion, Turn
from mbrl_ros.task.task import Task
from mbrl_ros.trainers import trainer
from mbrl_ros.types import (
    Array,
    Gaussian,
    LinearGaussianDynamics,
    LinearGaussianPolicy,
    QuadraticCost,
    TimedPolicy,
    Transitions,
    Trial,
)

OPEN_LOOP, FEEDBACK, NOISE = EXECUTIONS = ("open_loop", "feedback", "noise")
START = 1e-6  # least variance of a coordinate of the first state, in its own unit


@dataclass(frozen=True)
class Settings:
    """Parameters `lqr_flm.*`."""

    kl: float = param(1.0, "How far the first policy may go from the one before [nats per step]", 1e-6, 1e6,
                      scale=LOGARITHMIC)
    kl_least: float = param(0.02, "How far a policy may go at least, whatever became of the last", 1e-6, 1e6,
                            scale=LOGARITHMIC)
    kl_most: float = param(2.0, "And at most", 1e-6, 1e6, scale=LOGARITHMIC)
    worse: float = param(0.15, "It goes back to the best policy where the mean cost of the trials is above the best by "
                         "more than this part of it", 0.0, 1e6)
    back: float = param(0.25, "Factor on how far a policy may go after that", 1e-3, 1.0)
    kept: int = param(4, "Updates whose trials the mixture behind the local models is fitted to", 1, 1000)
    mixture: bool = param(True, "Whether there is a mixture behind the local models; without, they need many trials")
    m0: float = param(1.0, "Trials that its mean is worth", 1e-6, 1e6, scale=LOGARITHMIC)
    n0: float = param(1.0, "Trials that its covariance is worth", 1e-6, 1e6, scale=LOGARITHMIC)
    noise: float = param(0.1, "Deviation of the efforts of the first policy, in units of the limit", 1e-4, 1.0)
    stiffness: float = param(1.0, "Of the first policy, in units of that of the hold", 0.0, 100.0)
    execution: str = param(NOISE, "How a policy is played: open_loop: its mean efforts; feedback: with its gains; "
                           "noise: and with its noise, which it learns from", choices=EXECUTIONS)

    def __post_init__(self) -> None:
        if not self.kl_least <= self.kl <= self.kl_most:
            raise ConfigError(f"kl: expected between kl_least and kl_most, {self.kl_least:g} and {self.kl_most:g}, got "
                              f"{self.kl:g}")


class Played(NamedTuple):
    """A policy and the trials of it."""

    policy: LinearGaussianPolicy
    x: Array  # (N, T + 1, n)
    u: Array  # (N, T, m), what acted
    lasted: Array  # (N,), periods; what follows is the last state again
    cost: float  # mean


class LqrFlm:
    """A Trainer. `near` is what a subclass changes that is to stay close to another policy than the one before."""

    Config = Settings
    SETTINGS: Mapping[str, Any] = {"controller": {"policy_noise": 1.0}, "learner": {"adapt": False}}  # of the others

    def __init__(self, config: Settings, robot: Robot, settings: Mapping[str, Any], seed: int):
        self.config, self.robot, self.seed, self.kl = config, robot, seed, config.kl
        trials = from_mapping(trainer.Config, section(settings, "trainer"), "trainer")
        self.task = Task(section(settings, "task"), robot)
        self.target = trainer.target_of(trials, robot, settings, seed)
        self.steps, self.features = round(trials.seconds / robot.period), features_of(robot)
        self.mixture_config = from_mapping(Mixture.Config, section(settings, "mixture"), "mixture")
        self.now = first_policy(robot, self.steps, config)
        self.cost: Cost | None = None  # known when the first trial has told which efforts hold the arm
        self.best: Played | None = None
        self._played: list[Played] = []
        self._promised = 0.0  # how much cheaper the policy played was to be
        self._before = 0.0  # than this

    def policy(self) -> LinearPolicy:
        """See Trainer."""
        return LinearPolicy(self.timed(self.config.execution), self.robot)

    def timed(self, execution: str, policy: LinearGaussianPolicy | None = None) -> TimedPolicy:
        """What is played next, or another policy, as it travels; `execution` is one of EXECUTIONS."""
        return TimedPolicy(executed(policy or self.now, execution), self.robot.period, self.robot.state_names,
                           self.robot.joints, None)

    def model(self) -> None:
        """See Trainer: its models are of single steps."""

    def near(self, played: Played) -> LinearGaussianPolicy:
        """What the next policy has to stay close to."""
        return played.policy

    def bound(self, promised: float, came: float) -> float:
        """How far the next policy may go."""
        return next_bound(self.kl, promised, came, self.config)

    def mean_cost(self, trials: Sequence[Trial]) -> float:
        """Of trials; known after the first update."""
        assert self.cost is not None
        x, u, _ = stacked(trials, self.steps)
        return float(self.cost.evaluate(torch.as_tensor(x), torch.as_tensor(u)).mean())

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """See Trainer. `bound` [nats per step] is what the next policy was given, `kl` what it took, `kl_trials` its
        divergence at the states of the trials. Raises ConfigError where all first trials were over before their end;
        later that counts as dearer."""
        x, u, lasted = stacked(trials, self.steps)
        if lasted.max() < self.steps and self.best is None:
            raise ConfigError(f"lqr_flm: no trial lasted {self.steps} periods, the longest {lasted.max()}: expected a "
                              "first policy that the guard lets play (lqr_flm.noise, lqr_flm.stiffness)")
        if self.cost is None:
            self.cost = cost_at(self.task, self.target, self.steps, u[:, :5].mean((0, 1)))
        played = Played(self.now, x, u, lasted, self.mean_cost(trials))
        best, restored = self.best, False
        self._played = [*self._played, played][-self.config.kept:]
        dearer = best is not None and played.cost > best.cost + self.config.worse * abs(best.cost)
        if best is not None and (dearer or lasted.max() < self.steps):
            restored, base = True, best
            self.kl = max(self.config.kl_least, self.config.back * self.kl)
        else:
            base = played
            if len(self._played) > 1:
                self.kl = self.bound(self._promised, self._before - played.cost)
            if best is None or played.cost <= best.cost:
                self.best = played
        self._before = base.cost
        dynamics, start, cost = self.local(base)
        near = _tensors(self.near(base))
        found = improve(dynamics, cost, near, start, self.kl * self.steps)
        self._promised = expected(dynamics, cost, _tensors(base.policy), start) - found.cost
        self.now = LinearGaussianPolicy(*(part.numpy() for part in vars(found.policy).values()))
        there = torch.as_tensor(base.x[:, :-1])
        at = divergence(found.policy, near, Gaussian(there, there.new_zeros(*there.shape, there.shape[-1])))
        return {"task_cost": played.cost, "best_cost": self.best.cost if self.best else played.cost,
                "bound": self.kl, "kl": found.kl / self.steps, "kl_trials": float(at.mean()) / self.steps,
                "eta": found.eta, "promised": self._promised, "restored": float(restored)}

    def local(self, base: Played) -> tuple[LinearGaussianDynamics, Gaussian, QuadraticCost]:
        """Dynamics at every step of these trials, the first state, and the expansion of the cost."""
        robot, rows = self.robot, self.robot.joint_rows
        mixture = None
        if self.config.mixture:
            every = [Transitions(p.x[i, :t, rows].T, p.u[i, :t], p.x[i, 1 : t + 1, rows].T) for p in self._played
                     for i, t in enumerate(p.lasted)]
            joint = Transitions(*(np.concatenate([getattr(of, name) for of in every]) for name in ("x", "u", "x_next")))
            mixture = Mixture.fit(Data.of(joint, self.features, robot), self.mixture_config, self.seed)
        z = np.concatenate([self.features.w(base.x[:, :-1, rows], base.u),
                            self.features.y(base.x[:, :-1, rows], base.x[:, 1:, rows])], -1)
        z[np.arange(self.steps) >= base.lasted[:, None]] = np.nan
        steps = fit_steps(z, self.features.dw, mixture, self.config.m0, self.config.n0)
        lifted = [robot.lift(self.features.dynamics(*step), base.x[:, t, rows].mean(0), base.u[:, t].mean(0))
                  for t, step in enumerate(steps)]
        dynamics = LinearGaussianDynamics(*(torch.as_tensor(np.stack([getattr(of, name) for of in lifted]))
                                            for name in ("F", "f", "Sigma")))
        first = base.x[:, 0]
        start = Gaussian(torch.as_tensor(first.mean(0)), torch.diag(torch.as_tensor(first.var(0) + START)))
        assert self.cost is not None
        q = self.cost.quadratize(torch.as_tensor(base.x), torch.as_tensor(base.u))
        N, T, p = len(base.x), self.steps + 1, robot.n + robot.m
        return dynamics, start, QuadraticCost(q.C.expand(N, T, p, p).mean(0), q.c.expand(N, T, p).mean(0),
                                              q.const.expand(N, T).mean(0))


def next_bound(kl: float, promised: float, came: float, config: Settings) -> float:
    """How far the next policy may go: where costs fall by p a step^2 less than promised, this is the step that they
    fall most with."""
    factor = promised / (2 * max(1e-4, promised - came))
    return float(np.clip(kl * np.clip(factor, 0.1, 5.0), config.kl_least, config.kl_most))


def first_policy(robot: Robot, steps: int, config: Settings) -> LinearGaussianPolicy:
    """A hold at home, with noise."""
    K = np.zeros((robot.m, robot.n))
    K[:, robot.slice("joint/position")] = -config.stiffness * np.diag(robot.stiffness)
    K[:, robot.slice("joint/velocity")] = -np.sqrt(config.stiffness) * np.diag(robot.damping)
    x = np.zeros(robot.n)
    x[robot.slice("joint/position")] = robot.home
    Sigma = np.diag((config.noise * robot.effort_limit) ** 2)
    return LinearGaussianPolicy(*(np.repeat(a[None], steps, 0) for a in (x, np.zeros(robot.m), K, np.zeros(robot.m),
                                                                        Sigma)))


def executed(policy: LinearGaussianPolicy, execution: str) -> LinearGaussianPolicy:
    """A policy without noise, or without gains as well."""
    if execution == NOISE:
        return policy
    quiet = replace(policy, Sigma=np.zeros_like(policy.Sigma))
    return quiet if execution == FEEDBACK else replace(quiet, K=np.zeros_like(policy.K))


def stacked(trials: Sequence[Trial], steps: int) -> tuple[Array, Array, Array]:
    """x (N, T + 1, n), u (N, T, m), and how long each lasted (N,): a trial that was over stays in its last state,
    without effort."""
    lasted = np.array([min(steps, len(trial.u)) for trial in trials])
    x = np.stack([np.concatenate([trial.x[: t + 1], np.repeat(trial.x[t : t + 1], steps - t, 0)])
                  for trial, t in zip(trials, lasted, strict=True)])
    u = np.stack([np.concatenate([trial.u[:t], np.zeros((steps - t, trial.u.shape[-1]))])
                  for trial, t in zip(trials, lasted, strict=True)])
    return x, u, lasted


def cost_at(task: Task, target: Array, steps: int, effort: Array) -> Cost:
    """The cost of being away from the goal, at all steps: a policy with a clock needs no path."""
    home = task.robot.home
    rotation = task.rotation
    turn = None if rotation is None else Turn(rotation, np.zeros(3), FADE)
    there = Motion(task.path, target, target, 0, turn)
    return task.cost(task.window(there, 0, home, steps, effort), torch.device("cpu"))


def _tensors(policy: LinearGaussianPolicy) -> LinearGaussianPolicy:
    return LinearGaussianPolicy(*(torch.as_tensor(part) for part in vars(policy).values()))
