"""Planners that draw candidates: random shooting, CEM, iCEM and MPPI, one loop with four ways to go on.

A candidate is U_t = clip(u_t + L_t (W theta)_t): u the plan before, theta (knots, m) numbers at a few times of the
horizon, W straight lines between them, and L_t L_t' = Q_uu,t^-1 of one backward pass of the local model about u. In
that metric a deviation of one costs one half whatever the joint and the time: what costs much is tried little. Each
iteration draws theta ~ N(mean, deviation^2), rolls all candidates out as one batch, and moves mean and deviation.

With `feedback` K_t (x - x_t) is added, x_t being where u leads and K_t the gains of that pass, and u is what the policy
of the plan before makes of the state now. That keeps candidates together where the dynamics drive them apart: without
it none of the four balances a pole.

random  the best (Rao 2009, section 9)        cem   Gaussian of the elites (Rubinstein 1999; Chua et al. 2018)
icem    CEM with coloured noise, a shrinking population, elites kept (Pinneri et al. 2020)
mppi    mean with weights exp(-(J - min J) / temperature) (Williams et al. 2017)

The mean of the last iteration is the plan, or the best candidate where `play` says so; the plan before is it where both
are worse. Its feedback is that of the local LQ problem about the plan before.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import param
from mbrl_ros.models.rollout import MEAN, WAYS
from mbrl_ros.planners import box
from mbrl_ros.planners.candidates import Candidates, followed
from mbrl_ros.planners.compiled import NO_SPREAD, arrays, is_common
from mbrl_ros.planners.ilqr import HORIZON
from mbrl_ros.planners.lqr import expand
from mbrl_ros.planners.plan import as_plan, begin, steps_in, warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.robot import Robot
from mbrl_ros.types import ITERATION_LIMIT, NOT_FINITE, Plan

if TYPE_CHECKING:
    from jaxtyping import Float

NOISE = "Deviation of the first candidates, in units of the metric"
METRICS = CURVATURE, LIMITS = ("curvature", "limits")
PLAYED = ("mean", "best")
SCALES = 10.0  # by which candidates under feedback are larger or smaller than others at most: a plan may be all but
# right or, after a load or with another target, far off
FOLLOW = ("Along which worlds a candidate is rolled out; mean: that of the model; sample, and for ensembles member and "
          "resample: `particles` worlds drawn from its doubt, whose mean cost counts")


class Memory(NamedTuple):
    """What goes from plan to plan."""

    plans: int  # made so far: none repeats the noise of another, though the problem's seed be the same
    elites: Tensor  # (E, knots, m) theta, from that of the plan


class Draws(NamedTuple):
    """What an iteration knows of theta."""

    mean: Tensor  # (knots, m)
    deviation: Tensor  # (knots, m)
    elites: Tensor  # (E, knots, m), candidates of the next iteration as they are


class Sampling(ABC):
    """The loop. Settings only; `update` and perhaps `count` and `noise` are what the kinds differ in."""

    gives_covariance = samples_model = True

    @dataclass(frozen=True)
    class Config:
        """Settings that all of them have."""

        horizon: float = param(0.4, HORIZON, low=1e-4)
        samples: int = param(128, "Candidates of an iteration", low=2)
        iterations: int = param(3, "How often candidates are drawn", low=1)
        knots: int = param(5, "Times over the horizon at which efforts are drawn, straight lines between; all "
                              "of its steps at most", low=1)
        noise: float = param(0.1, NOISE, low=0.0)
        metric: str = param(CURVATURE, "Unit of the noise; curvature: Q_uu^-1/2 of the local model, limits where there "
                                       "is none; limits: half the range of the effort, or 1 without limits",
                            choices=METRICS)
        play: str = param("mean", "What becomes the plan; mean: that of the distribution, which exploits errors of a "
                                  "learned model less; best: the cheapest candidate", choices=PLAYED)
        follow: str = param(MEAN, FOLLOW, choices=WAYS)
        particles: int = param(5, "Worlds for each candidate, unless it follows the mean", low=1)
        feedback: bool = param(False, "Roll candidates out under the gains of one backward pass about the plan before, "
                                      "once there is one; closer to the target, and nearer to a protective stop")

    def __init__(self, config: Config | None = None, robot: Robot | None = None) -> None:
        from mbrl_ros.kernels import ilqr, sampling  # may compile: not where only settings are wanted
        self.config: Any = config or self.Config()
        self.horizon = steps_in(self.config.horizon, robot)
        self._pass: Any = ilqr.solve
        self._compiled: Any = sampling.costs
        self._ahead = 1.0 if robot is None else 1.0 / robot.stride  # steps by which the caller shifts a plan

    @torch.no_grad()
    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """See Planner."""
        u, c = warm_start(problem, previous), self.config
        feedback = False
        if c.feedback and previous is not None:
            feedback, u = True, followed(problem, previous, u)
        (T, m), memory = u.shape, previous.memory if previous is not None else None
        if not isinstance(memory, Memory) or memory.elites.shape[-2:] != (min(c.knots, T), m):
            memory = Memory(0, u.new_empty(0, min(c.knots, T), m))
        seed = (problem.seed + 0x9E3779B1 * memory.plans) % 2**32
        generator = torch.Generator().manual_seed(seed)
        lines = _lines(T, min(c.knots, T), generator if feedback else None).to(u)
        K, Sigma, root = self._local(problem, u)
        basis = torch.einsum("tn,tab->nbta", lines, root).reshape(-1, T, m)  # theta -> L_t (W theta)_t
        candidates = Candidates(problem, u, basis, K if feedback else None, c.follow, c.particles, seed,
                                self._compiled)
        mean = u.new_zeros(len(lines.T), m)
        kept = memory.elites[:0] if feedback else memory.elites  # under feedback each plan has knots of its own
        draws = Draws(mean, torch.full_like(mean, c.noise), _later(kept.to(u), self._ahead / max(1, T - 1)))
        best, least = mean, torch.inf
        for i in range(c.iterations):
            noise = self.noise((self.count(i), *mean.shape), generator).to(u)
            if feedback:
                noise = noise * SCALES ** (2.0 * torch.rand(len(noise), 1, 1, generator=generator).to(u) - 1.0)
            theta = torch.cat([draws.mean[None], draws.elites, draws.mean + draws.deviation * noise])
            J = candidates.costs(theta)
            if float(J.min()) < least:
                best, least = theta[J.argmin()], float(J.min())
            if bool(torch.isfinite(J).any()):
                draws = self.update(theta, J, draws)
        theta = torch.stack([torch.zeros_like(mean), draws.mean, best])
        J = candidates.costs(theta)
        found = 1 if c.play == "mean" and bool(J[1] <= J[0]) else int(J.argmin())
        u = candidates.efforts(theta[found:found + 1])
        x, cost = begin(problem, u)
        status = ITERATION_LIMIT if bool(torch.isfinite(cost)) else NOT_FINITE
        return as_plan(x[0], u[0], float(cost), status, c.iterations, K, Sigma,
                       Memory(memory.plans + 1, draws.elites - theta[found]))

    @abstractmethod
    def update(self, theta: Float[Tensor, "S N m"], J: Float[Tensor, " S"], draws: Draws) -> Draws:
        """What candidates theta of costs J, infinite where they failed, say about where to draw next."""

    def count(self, iteration: int) -> int:
        """How many are drawn."""
        samples: int = self.config.samples
        return samples

    def noise(self, shape: tuple[int, int, int], generator: torch.Generator) -> Float[Tensor, "S N m"]:
        """Standard normal numbers; on the CPU, so that other devices draw the same."""
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def _local(self, problem: Problem, u: Float[Tensor, "T m"]) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """K (T, m, n) and Sigma = Q_uu^-1 (T, m, m) of one backward pass about the efforts u, None where there is none,
        and the unit L (T, m, m) of the noise."""
        if self.config.metric == LIMITS and not self.config.feedback and problem.local is None:
            return None, None, _by_limits(problem)  # nothing that a backward pass is for
        found = self._backward(problem if problem.local is None else replace(problem, model=problem.local), u)
        if found is not None:
            root, info = torch.linalg.cholesky_ex(found[1])
            if bool((info == 0).all() & torch.isfinite(root).all()):
                return *found, root if self.config.metric == CURVATURE else _by_limits(problem)
        return None, None, _by_limits(problem)

    def _backward(self, problem: Problem, u: Tensor) -> tuple[Tensor, Tensor] | None:
        if is_common(problem):
            limits = (np.ascontiguousarray(a.numpy()) for a in (problem.lower, problem.upper, u))
            *_, K, Sigma, _, _, passes = self._pass(*arrays(problem), *limits, *NO_SPREAD, 1, 0, 0.5, 0.1, 0.0, 0.0,
                                                    1e-6, 1e10, 1.6, box.ITERATIONS, box.SLACK)  # no step is tried
            return (torch.from_numpy(K), torch.from_numpy(Sigma)) if passes else None
        x, cost = begin(problem, u)
        if not bool(torch.isfinite(cost)):
            return None
        F, quadratic, _ = expand(problem.model, problem.cost, x, u)
        step, _ = box.backward_in_box(F, quadratic, None, None, problem.lower - u, problem.upper - u)
        return (step.K, torch.cholesky_inverse(step.L)) if bool(step.success.all()) else None


class RandomShooting(Sampling):
    """Keeps the best; further iterations draw about it."""

    @dataclass(frozen=True)
    class Config(Sampling.Config):
        """Settings of the planner."""

        samples: int = param(64, "Candidates of an iteration", low=2)
        iterations: int = param(6, "How often candidates are drawn", low=1)
        noise: float = param(0.05, NOISE, low=0.0)  # the best of so many has all the noise of one

    def update(self, theta: Tensor, J: Tensor, draws: Draws) -> Draws:
        return draws._replace(mean=theta[J.argmin()])


class Cem(Sampling):
    """Cross-entropy method: the Gaussian of the elites, with some of the one before."""

    @dataclass(frozen=True)
    class Config(Sampling.Config):
        """Settings of the planner."""

        elites: int = param(12, "Best candidates of an iteration, by which the next is drawn", low=1)
        momentum: float = param(0.1, "Part of mean and deviation that stays", low=0.0, high=0.99)
        floor: float = param(0.03, "Least deviation, as a part of `noise`", low=0.0, high=1.0)

    def update(self, theta: Tensor, J: Tensor, draws: Draws) -> Draws:
        c, elites = self.config, theta[J.argsort()[:self.config.elites]]
        elites = elites[:max(1, int(torch.isfinite(J).sum()))]
        deviation = elites.std(0, correction=0)  # of one alone it is zero, not undefined
        return Draws((1 - c.momentum) * elites.mean(0) + c.momentum * draws.mean,
                     ((1 - c.momentum) * deviation + c.momentum * draws.deviation).clamp(min=c.floor * c.noise),
                     self.kept(elites))

    def kept(self, elites: Float[Tensor, "E N m"]) -> Float[Tensor, "K N m"]:
        """Those that are candidates again, the best first."""
        return elites[:0]


class ICem(Cem):
    """Improved CEM: noise of spectrum f^-beta along time, fewer candidates every iteration, elites kept."""

    @dataclass(frozen=True)
    class Config(Cem.Config):
        """Settings of the planner."""

        beta: float = param(1.0, "The noise has the spectrum f^-beta over the knots; 0: white", low=0.0, high=10.0)
        decay: float = param(1.25, "By which the number of candidates shrinks every iteration, to twice the elites at "
                                   "least", low=1.0)
        keep: float = param(0.3, "Part of the elites that are candidates again, in the next plan too", 0.0, 1.0)

    def count(self, iteration: int) -> int:
        c = self.config
        return max(min(c.samples, 2 * c.elites), round(c.samples * c.decay**-iteration))

    def noise(self, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        white = super().noise(shape, generator)
        f = torch.fft.rfftfreq(shape[1], dtype=white.dtype)
        if len(f) < 2:
            return white
        size = f.clamp(min=float(f[1])) ** (-0.5 * self.config.beta)
        coloured = torch.fft.irfft(torch.fft.rfft(white, dim=1) * size[:, None], n=shape[1], dim=1)
        twice = torch.full_like(size, 2.0)  # the power of f, which is that of -f as well
        twice[0] = 1.0
        if shape[1] % 2 == 0:
            twice[-1] = 1.0
        return coloured / ((twice * size**2).sum() / shape[1]).sqrt()

    def kept(self, elites: Tensor) -> Tensor:
        return elites[:round(self.config.keep * len(elites))]


class Mppi(Sampling):
    """Path integral: the mean of all candidates, cheap ones with more weight."""

    @dataclass(frozen=True)
    class Config(Sampling.Config):
        """Settings of the planner."""

        temperature: float = param(0.1, "As a part of what the median of costs is above the least", low=1e-6)
        shrink: float = param(0.7, "Factor on the deviation after every iteration", low=0.0, high=1.0)

    def update(self, theta: Tensor, J: Tensor, draws: Draws) -> Draws:
        finite = torch.isfinite(J)
        theta, J = theta[finite], J[finite]
        unit = self.config.temperature * (J.median() - J.min())
        weights = torch.softmax(-(J - J.min()) / unit.clamp(min=torch.finfo(J.dtype).tiny), 0)
        return draws._replace(mean=torch.einsum("s,snm->nm", weights, theta),
                              deviation=self.config.shrink * draws.deviation)


def _lines(T: int, knots: int, generator: torch.Generator | None = None) -> Float[Tensor, "T N"]:
    """What values at the knots, the first at the first step and the last at the last, are at all steps.

    The others are as far from one another or, with a generator, anywhere.
    """
    if knots == 1:
        return torch.ones(T, 1, dtype=torch.float64)
    inner = torch.linspace(0, 1, knots, dtype=torch.float64)[1:-1]
    if generator is not None:
        inner = torch.rand(knots - 2, generator=generator, dtype=torch.float64).sort().values
    at = (T - 1) * torch.cat([inner.new_zeros(1), inner, inner.new_ones(1)])
    t = torch.arange(T, dtype=torch.float64)[:, None]
    rising, falling = (t - at[:-1]) / (at[1:] - at[:-1]), (at[1:] - t) / (at[1:] - at[:-1])
    one = torch.ones_like(t)
    return torch.minimum(torch.cat([one, rising], 1), torch.cat([falling, one], 1)).clamp(0.0, 1.0)


def _later(theta: Float[Tensor, "E N m"], part: float) -> Float[Tensor, "E N m"]:
    """The same lines from so far on, as a part of the horizon; the last value is repeated."""
    ahead = min(1.0, part * (theta.shape[1] - 1))  # in knots
    return theta + ahead * (torch.cat([theta[:, 1:], theta[:, -1:]], 1) - theta)


def _by_limits(problem: Problem) -> Float[Tensor, "T m m"]:
    half = 0.5 * (problem.upper - problem.lower)
    return torch.diag_embed(torch.where(torch.isfinite(half), half, 1.0))
