"""Reaching by what a camera sees: trials, and two ways to get better at them in a latent space (models/latent.py).

`LatentLqr` is lqr_flm with z for x: dynamics of every step from the newest trials, on top of what is believed of all
of them, the distance as it was measured in these trials, and a policy that stays close to the one before. `LatentMpc`
plans anew in every period with one model for all, which learns from all trials so far.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from mbrl_ros.config import from_mapping, param, section
from mbrl_ros.drawing.camera import Config as CameraConfig
from mbrl_ros.drawing.camera import RobotCamera
from mbrl_ros.gaussian import symmetrize
from mbrl_ros.models.latent import Latent, Sequences, sums
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.plan import shifted
from mbrl_ros.planners.problem import Problem
from mbrl_ros.planners.stay_close import expected, improve
from mbrl_ros.ring.latent_filter import LatentFilter
from mbrl_ros.robot import Robot
from mbrl_ros.simulation.plant import MujocoPlant
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.trainers.lqr_flm import START, Settings, next_bound
from mbrl_ros.types import Array, Gaussian, LinearGaussianDynamics, LinearGaussianPolicy, Picture, Plan, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Config:
    """Parameters `pixels.*`."""

    weight: float = param(8000.0, "Of the tool away from its goal, on r^2 / 2 [m]", 1e-3, 1e9)
    terminal: float = param(5.0, "Factor on that at the end", 1.0, 1e6)
    effort: float = param(0.3, "Weight of efforts about what holds the arm, in units of their limits", 1e-6, 1e6)
    shake: float = param(0.08, "Deviation of the efforts of random motion, in units of the limit", 1e-4, 1.0)
    memory: float = param(0.2, "Over which they change [s]", 1e-3, 10.0)
    worth: float = param(20.0, "Pairs that belief about the dynamics of all trials is worth in those of one step", 1e-3,
                         1e6)
    near: float = param(1.0, "How strongly the distance that was learned holds against that of the newest trials", 1e-6,
                        1e6)
    explore: float = param(0.02, "Deviation of the efforts that MPC learns by, in units of the limit", 0.0, 1.0)
    horizon: float = param(0.4, "Of MPC [s]", 0.01, 10.0)


class Act(Protocol):
    """What is played: an effort for the belief about z and the step of a trial."""

    def __call__(self, z: Float[Array, " n"], step: int) -> Float[Array, " m"]: ...


class SeenRobot:
    """A simulated robot of which pictures are all that is known, beside the efforts, and while learning the distance of
    its tool from the goal."""

    def __init__(self, robot: Robot, plant: MujocoPlant, settings: Mapping[str, Any], goal: Float[Array, " 3"]):
        self.robot, self.plant, self.goal = robot, plant, goal
        given = from_mapping(CameraConfig, {**section(settings, "camera"), "goal": tuple(goal.tolist())}, "camera")
        self.camera = RobotCamera(robot, given, plant.model)
        self.hold = plant.reset(0).effort  # what holds the arm at home

    def reset(self, seed: int) -> Picture:
        """At home, at rest."""
        return self._look(self.plant.reset(seed))

    def step(self, effort: Float[Array, " m"]) -> Picture:
        """One period later."""
        return self._look(self.plant.step(effort))

    def _look(self, observation: Any) -> Picture:
        return Picture(observation.time, self.camera.picture(self.plant.true_state()[0]), observation.effort)

    @property
    def distance(self) -> float:
        """Of the tool from its goal [m]."""
        return float(np.linalg.norm(self.plant.true_tool() - self.goal))

    def play(self, act: Act, model: Latent | None, steps: int, seed: int) -> tuple[Sequences, Float[Array, "steps n"]]:
        """A trial of so many steps, as a batch of one, and the means of z, of which there are none without a model."""
        filter_ = None if model is None else LatentFilter(model, self.robot.period)
        seen, pictures, efforts, distances, z = self.reset(seed), [], [], [], []
        for t in range(steps + 1):
            state = None if filter_ is None else filter_.update(seen)
            z.append(np.zeros(0) if state is None else state.belief.mean)
            pictures.append(seen.pixels)
            distances.append(self.distance)
            if t < steps:
                seen = self.step(act(z[-1], t))
                efforts.append(seen.effort)
        return Sequences(np.array(pictures)[None], np.array(efforts)[None], np.array(distances)[None]), np.array(z)

    def random(self, config: Config, steps: int, seed: int) -> Act:
        """Motion by efforts that wander about what holds the arm."""
        rng, keep = np.random.default_rng([seed, 3]), np.exp(-self.robot.period / config.memory)
        noise = rng.standard_normal((steps, self.robot.m))
        for t in range(1, steps):
            noise[t] = keep * noise[t - 1] + np.sqrt(1 - keep**2) * noise[t]
        efforts = self.hold + config.shake * self.robot.effort_limit * noise
        return lambda _z, step: efforts[step]


class Goal:
    """The cost of z: the tool away from its goal, and efforts."""

    def __init__(self, config: Config, robot: Robot, hold: Float[Array, " m"], model: Latent):
        self.config, self.robot, self.hold = config, robot, hold
        C, self.c = (model.unit * part.detach().numpy() for part in (model.C, model.c))
        self.C = np.pad(C, ((0, 0), (0, 2 * model.config.size - C.shape[1])))  # of places; speeds come after them

    def adapt(self, z: Float[Array, "*b n"], distance: Float[Array, " *b"]) -> None:
        """Take |C z + c| closer to distances that were measured: Gauss-Newton steps, held by what it was before."""
        w = np.concatenate([z.reshape(-1, z.shape[-1]), np.ones((z[..., 0].size, 1))], -1)
        start = np.column_stack([self.C, self.c])
        scale = np.sqrt(self.config.near * len(w)) * w.std(0).clip(1e-3)  # by what a column moves the distance
        hold = np.tile(0.1 * scale, len(start))
        theta, least = start, np.inf
        for _ in range(8):
            r = w @ theta.T
            size = np.linalg.norm(r, axis=1).clip(1e-6)
            missed = np.concatenate([distance.ravel() - size, hold * (start - theta).ravel()])
            if missed @ missed >= least:
                break
            self.C, self.c, least = theta[:, :-1], theta[:, -1], missed @ missed
            J = ((r / size[:, None])[:, :, None] * w[:, None]).reshape(len(w), -1)
            theta = theta + np.linalg.lstsq(np.vstack([J, np.diag(hold)]), missed, rcond=None)[0].reshape(theta.shape)

    def over(self, steps: int, terminal: float) -> ResidualCost:
        """Of a horizon, in tensors."""
        c, (k, n), m = self.config, self.C.shape, self.robot.m
        R = np.block([[self.C, np.zeros((k, m))], [np.zeros((m, n)), np.diag(1 / self.robot.effort_limit)]])
        reference = np.tile(np.concatenate([-self.c, self.hold / self.robot.effort_limit]), (steps + 1, 1))
        scale = np.tile(np.repeat([c.weight, c.effort], [k, m]), (steps + 1, 1))
        scale[-1] = np.repeat([terminal * c.weight, 0.0], [k, m])
        return ResidualCost(torch.as_tensor(R), torch.as_tensor(reference), torch.as_tensor(scale),
                            torch.full((k + m,), torch.inf, dtype=torch.float64), torch.zeros(k + m, dtype=torch.bool))


def in_newtons(model: Latent, F: torch.Tensor, Sigma: torch.Tensor) -> LinearGaussianDynamics:
    """Dynamics (*b, n, n + m + 1) with efforts in units and a constant, as others take them."""
    n, m = F.shape[-2], len(model.u_scale)
    B = F[..., n : n + m] / model.u_scale
    return LinearGaussianDynamics(torch.cat([F[..., :n], B], -1), F[..., -1] - B @ model.u_mean, Sigma)


class LatentLqr:
    """See above. What `play` has given goes to `update`."""

    def __init__(self, model: Latent, goal: Goal, config: Settings, steps: int):
        self.model, self.goal, self.config, self.steps, self.kl = model, goal, config, steps, config.kl
        n, m = goal.C.shape[1], goal.robot.m
        Sigma = np.diag((config.noise * goal.robot.effort_limit) ** 2)
        self.now = LinearGaussianPolicy(np.zeros((steps, n)), np.tile(goal.hold, (steps, 1)), np.zeros((steps, m, n)),
                                        np.zeros((steps, m)), np.tile(Sigma, (steps, 1, 1)))
        self.best: tuple[float, LinearGaussianPolicy, Sequences, Array] | None = None
        self._promised = self._before = 0.0

    def act(self, noise: float, seed: int) -> Act:
        """Plays the policy with so much of its own noise."""
        p, rng = self.now, np.random.default_rng(seed)
        low, high = -self.goal.robot.effort_limit, self.goal.robot.effort_limit

        def effort(z: Array, step: int) -> Array:
            drawn = noise * np.linalg.cholesky(symmetrize(p.Sigma[step])) @ rng.standard_normal(len(low))
            asked: Array = p.u_hat[step] + p.K[step] @ (z - p.x_hat[step]) + p.k[step] + drawn
            return asked.clip(low, high)
        return effort

    def update(self, trials: Sequences, z: Float[Array, "N steps n"]) -> dict[str, float]:
        """A better policy from the trials of the last one; figures by name."""
        c, weight = self.config, np.full(self.steps + 1, self.goal.config.weight)
        weight[-1] *= self.goal.config.terminal
        cost = float((0.5 * weight * trials.distance**2).sum(1).mean())  # as it was, not as z has it
        restored = self.best is not None and cost > (1 + c.worse) * self.best[0]
        if restored:
            self.kl = max(c.kl_least, c.back * self.kl)
        else:
            if self.best is not None:
                self.kl = next_bound(self.kl, self._promised, self._before - cost, c)
            if self.best is None or cost <= self.best[0]:
                self.best = cost, self.now, trials, z
        assert self.best is not None
        self._before, policy, trials, z = self.best if restored else (cost, self.now, trials, z)
        self.goal.adapt(z, trials.distance)
        dynamics, start, quadratic = self._local(trials, z)
        near = LinearGaussianPolicy(*(torch.as_tensor(part) for part in vars(policy).values()))
        found = improve(dynamics, quadratic, near, start, self.kl * self.steps)
        self._promised = expected(dynamics, quadratic, near, start) - found.cost
        self.now = LinearGaussianPolicy(*(part.numpy() for part in vars(found.policy).values()))
        return {"cost": cost, "bound": self.kl, "kl": found.kl / self.steps, "restored": float(restored)}

    def _local(self, trials: Sequences, z: Array) -> tuple[LinearGaussianDynamics, Gaussian, QuadraticCost]:
        model, prior = self.model, self.model.belief.worth(self.goal.config.worth)
        at, u = torch.as_tensor(z), model.in_units(torch.as_tensor(trials.u))
        steps = [prior.posterior(*sums(at[:, t : t + 2], u[:, t : t + 1])).expected for t in range(self.steps)]
        dynamics = in_newtons(model, torch.stack([of.F for of in steps]), torch.stack([of.Sigma for of in steps]))
        start = Gaussian(at[:, 0].mean(0), torch.diag(at[:, 0].var(0, correction=0) + START))
        q = self.goal.over(self.steps, self.goal.config.terminal).quadratize(at, torch.as_tensor(trials.u))
        N, T, p = q.c.shape
        return dynamics, start, QuadraticCost(q.C.expand(N, T, p, p).mean(0), q.c.mean(0),
                                              q.const.expand(N, T).mean(0))


class LatentMpc:
    """See above."""

    def __init__(self, model: Latent, goal: Goal):
        self.model, self.goal = model, goal
        robot, steps = goal.robot, round(goal.config.horizon / goal.robot.period)
        self.steps, limit = steps, torch.as_tensor(robot.effort_limit).expand(steps, -1)
        self._limits, self._planner = (-limit, limit), Ilqr(Ilqr.Config())

    def act(self, noise: float, seed: int) -> Act:
        """Plans anew in every period, and adds so much of the noise it learns by."""
        known, rng = self.model.belief.expected, np.random.default_rng(seed)
        dynamics, cost = in_newtons(self.model, known.F, known.Sigma), self.goal.over(self.steps, 1.0)
        limit, plans = self.goal.robot.effort_limit, list[Plan]()
        shake = self.goal.config.explore * limit

        def effort(z: Array, step: int) -> Array:
            problem = Problem(torch.as_tensor(z), dynamics, cost, *self._limits)
            plans[:] = [self._planner.plan(problem, shifted(plans[0]) if plans else None)]
            asked: Array = plans[0].efforts[0].numpy() + noise * shake * rng.standard_normal(len(limit))
            return asked.clip(-limit, limit)
        return effort

    def update(self, trials: Sequences, z: Float[Array, "N steps n"]) -> dict[str, float]:
        """Belief about the dynamics, and the distance, by these trials as well."""
        at, u = torch.as_tensor(z), self.model.in_units(torch.as_tensor(trials.u))
        self.model.belief = self.model.belief.posterior(*sums(at, u))
        self.goal.adapt(z, trials.distance)
        return {"cost": float(trials.distance.mean())}


def played(robot: SeenRobot, acts: Sequence[Act], model: Latent | None, steps: int, seed: int
           ) -> tuple[Sequences, Float[Array, "N steps n"]]:
    """A trial of each; trial i has seed + i."""
    each = [robot.play(act, model, steps, seed + i) for i, act in enumerate(acts)]
    return Sequences.together([of for of, _ in each]), np.array([z for _, z in each])
