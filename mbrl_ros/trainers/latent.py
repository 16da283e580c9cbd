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
from mbrl_ros.ring.latent_filter import LatentFilter, state_names
from mbrl_ros.ring.latent_policy import LatentPolicy
from mbrl_ros.robot import Robot
from mbrl_ros.simulation.plant import MujocoPlant
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.trainers.lqr_flm import START, Settings, next_bound
from mbrl_ros.types import (
    Array,
    Gaussian,
    LinearGaussianDynamics,
    LinearGaussianPolicy,
    Picture,
    Plan,
    QuadraticCost,
    TimedPolicy,
)

if TYPE_CHECKING:
    from jaxtyping import Float


LEAST_SPREAD = 0.1  # of z, all of which varied by one


@dataclass(frozen=True)
class Config:
    """Parameters `pixels.*`."""

    weight: float = param(4000.0, "Of the tool away from its goal, on r^2 / 2 [m]", 1e-3, 1e9)
    speed: float = param(5.0, "Likewise of how fast z changes", 0.0, 1e9)
    terminal: float = param(40.0, "Factor on these at the end", 1.0, 1e6)
    effort: float = param(0.3, "Weight of efforts about what holds the arm, in units of their limits", 1e-6, 1e6)
    shake: float = param(0.08, "Deviation of the efforts of random motion, in units of the limit", 1e-4, 1.0)
    memory: float = param(0.2, "Over which they change [s]", 1e-3, 10.0)
    worth: float = param(20.0, "Pairs that belief about the dynamics of all trials is worth in those of one step", 1e-3,
                         1e6)
    near: float = param(30.0, "How strongly the distance that was learned holds against that of the newest trials",
                        1e-6, 1e6)
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
        self.read(model)

    def read(self, model: Latent) -> None:
        """Take the distance as the model has it."""
        C, self.c = ((model.unit * part).detach().numpy() for part in (model.C, model.c))
        self.C = np.pad(C, ((0, 0), (0, 2 * model.config.size - C.shape[1])))  # of places; speeds come after them
        self.shift = np.zeros((1, len(C)))  # of c at every step of a trial, or the same at all

    def adapt(self, z: Float[Array, "*b steps n"], distance: Float[Array, "*b steps"]) -> None:
        """Take |C z + c| closer to distances that were measured: Gauss-Newton steps, held by what it was before. What
        is left of them, in the mean over trials, c makes up for step by step, along the line to the goal."""
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
        away = z @ self.C.T + self.c
        size = np.linalg.norm(away, axis=-1, keepdims=True).clip(1e-6)
        shift = (distance[..., None] - size) * away / size
        self.shift = shift.reshape(-1, *shift.shape[-2:]).mean(0)

    def over(self, steps: int, terminal: float, of_trial: bool = False) -> ResidualCost:
        """Of a horizon, or of a whole trial, step by step, in tensors."""
        c, (k, n), m = self.config, self.C.shape, self.robot.m
        v = n // 2
        R = np.zeros((k + v + m, n + m))
        R[:k, :n], R[k : k + v, n - v : n], R[k + v :, n:] = self.C, np.eye(v), np.diag(1 / self.robot.effort_limit)
        reference = np.zeros((steps + 1, len(R)))
        reference[:, :k] = -self.c - (self.shift if of_trial else 0.0)
        reference[:, k + v :] = self.hold / self.robot.effort_limit
        scale = np.tile(np.repeat([c.weight, c.speed, c.effort], [k, v, m]), (steps + 1, 1))
        scale[-1] = np.repeat([terminal * c.weight, terminal * c.speed, 0.0], [k, v, m])
        bound = torch.full((len(R),), torch.inf, dtype=torch.float64)
        return ResidualCost(torch.as_tensor(R), torch.as_tensor(reference), torch.as_tensor(scale), bound,
                            torch.zeros(len(R), dtype=torch.bool))

    def cost(self, trials: Sequences, z: Float[Array, "N steps n"]) -> float:
        """As it was, not as z has the distance: the mean over trials."""
        c, v = self.config, z.shape[-1] // 2
        effort = (trials.u - self.hold) / self.robot.effort_limit
        state = 0.5 * (c.weight * trials.distance**2 + c.speed * np.square(z[..., v:]).sum(-1))
        state[:, -1] *= c.terminal
        return float((state.sum(1) + 0.5 * c.effort * np.square(effort).sum((1, 2))).mean())


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

    def timed(self) -> TimedPolicy:
        """The policy, and how far from its means it is good for: as far as the trials went that it was made from."""
        robot = self.goal.robot
        n = self.now.x_hat.shape[-1]
        spread = np.ones((self.steps, n)) if self.best is None else self.best[3].std(0)[:-1].clip(LEAST_SPREAD)
        return TimedPolicy(self.now, robot.period, state_names(n), robot.joints, spread)

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
        c, cost = self.config, self.goal.cost(trials, z)
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

    def learn_more(self, data: Sequences, seed: int) -> None:
        """The latent model learns from all these trials, and the policy goes on with what it is then."""
        before = self.model.filtered(data).numpy()
        self.model.fit(data, seed, again=True)
        assert self.best is not None
        self.see_anew(before, *(self.model.filtered(of).numpy() for of in (data, self.best[2])))

    def see_anew(self, before: Float[Array, "N steps n"], after: Float[Array, "N steps n"],
                 best: Float[Array, "B steps n"]) -> None:
        """z of the same pictures before and after the model learned more; `best` is that of the best trials after it.
        The policy does at every picture what it did, as far as one z is affine in the other."""
        n = before.shape[-1]
        w = np.concatenate([after.reshape(-1, n), np.ones((after[..., 0].size, 1))], -1)
        map_ = np.linalg.lstsq(w, before.reshape(-1, n), rcond=None)[0]
        A, b = map_[:-1].T, map_[-1]
        x = best.mean(0)[:-1]

        def moved(p: LinearGaussianPolicy) -> LinearGaussianPolicy:
            u = p.u_hat + np.einsum("tmn,tn->tm", p.K, x @ A.T + b - p.x_hat)
            return LinearGaussianPolicy(x, u, p.K @ A, p.k, p.Sigma)
        self.now = moved(self.now)
        if self.best is not None:
            cost, policy, trials, _ = self.best
            self.best = cost, moved(policy), trials, best
        self.goal.read(self.model)

    def settle(self) -> None:
        """From now on, play the best that was tried."""
        if self.best is not None:
            self.now = self.best[1]

    def numbers(self) -> dict[str, Array]:
        """What a file has of the policy, for the controller to play."""
        return LatentPolicy.made(self.model, self.timed(), self.goal.robot).numbers()

    def _local(self, trials: Sequences, z: Array) -> tuple[LinearGaussianDynamics, Gaussian, QuadraticCost]:
        model, prior = self.model, self.model.belief.worth(self.goal.config.worth)
        at, u = torch.as_tensor(z), model.in_units(torch.as_tensor(trials.u))
        steps = [prior.posterior(*sums(at[:, t : t + 2], u[:, t : t + 1])).expected for t in range(self.steps)]
        dynamics = in_newtons(model, torch.stack([of.F for of in steps]), torch.stack([of.Sigma for of in steps]))
        start = Gaussian(at[:, 0].mean(0), torch.diag(at[:, 0].var(0, correction=0) + START))
        q = self.goal.over(self.steps, self.goal.config.terminal, True).quadratize(at, torch.as_tensor(trials.u))
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

    def learn_more(self, data: Sequences, seed: int) -> None:
        """The latent model learns from all these trials."""
        self.model.fit(data, seed, again=True)
        self.goal.read(self.model)

    def settle(self) -> None:
        """There is one way to plan, and so nothing to choose from."""

    def numbers(self) -> dict[str, Array]:
        """It is no policy that a file could hold."""
        return {}


def played(robot: SeenRobot, acts: Sequence[Act], model: Latent | None, steps: int, seed: int
           ) -> tuple[Sequences, Float[Array, "N steps n"]]:
    """A trial of each; trial i has seed + i."""
    each = [robot.play(act, model, steps, seed + i) for i, act in enumerate(acts)]
    return Sequences.together([of for of, _ in each]), np.array([z for _, z in each])
