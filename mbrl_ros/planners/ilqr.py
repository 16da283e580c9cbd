"""Iterative LQR with effort limits, for one problem or a batch of them.

Minimise the cost of x_0..x_T, u_0..u_{T-1} subject to x_{t+1} = E[x' | x_t, u_t], lower_t <= u_t <= upper_t: expand
model and cost about the current rollout, solve the LQ problem in the deviations, roll the new policy out over a ladder
of step lengths a, keep the best that delivers its promise -(a sum k'q_u + a^2/2 sum k'Q_uu k) (docs/design.md, section
2). Limits, lower - u <= k <= upper - u, are those of box.py; mu follows Tassa, Erez & Todorov 2012, section II-F.
"""
from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.planners import box
from mbrl_ros.planners.compiled import NO_SPREAD, arrays, has_sizes, in_numpy, in_torch, is_common
from mbrl_ros.planners.curvature import curvature_of
from mbrl_ros.planners.lqr import (
    Backward,
    expand,
    forward,
    is_finite,
    spread_cost,
    spread_of,
)
from mbrl_ros.planners.plan import as_plan, begin, rounding, steps_in, warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.robot import Robot
from mbrl_ros.types import (
    CONVERGED,
    ITERATION_LIMIT,
    LINE_SEARCH_FAILED,
    NOT_FINITE,
    STATUSES,
    Array,
    Plan,
)

if TYPE_CHECKING:
    from jaxtyping import Float

RUNNING = -1  # status of a problem that still iterates; the others are indices into STATUSES
SOLVER = "auto: compiled, for one problem on the CPU of the kinds that are; torch: the reference for all of them"
HORIZON = "How far to plan ahead, in whole steps (robot.step) [s]; without a robot, a step is a second"
NEAR = 0.1  # the part of 1 + |cost| which the expected improvement is below where the curvature is counted


class Solution(NamedTuple):
    """The best trajectory found for every problem, and the gains of the last expansion about it that had any."""

    x: Tensor  # (*b, T + 1, n), rollout of u
    u: Tensor  # (*b, T, m)
    K: Tensor  # (*b, T, m, n)
    Sigma: Tensor  # (*b, T, m, m), inverse of the (regularised) Q_uu; zero where no backward pass succeeded
    cost: Tensor  # (*b,)
    status: Tensor  # (*b,) int, index into planners.STATUSES
    iterations: Tensor  # (*b,) int, backward passes


class _State(NamedTuple):
    """What one iteration hands to the next."""

    x: Tensor  # (*b, T + 1, n)
    u: Tensor  # (*b, T, m)
    K: Tensor  # (*b, T, m, n)
    L: Tensor  # (*b, T, m, m), Cholesky factor of the (regularised) Q_uu
    cost: Tensor  # (*b,)
    mu: Tensor  # (*b,), state regularisation
    rate: Tensor  # (*b,), the factor by which mu changed last
    status: Tensor  # (*b,) int
    solved: Tensor  # (*b,) bool: K and L come from a backward pass
    retry: Tensor  # (*b,) bool: mu was set to zero because nothing was left to gain with it
    iterations: Tensor  # (*b,) int
    near: Tensor  # (*b,) bool: little was left to gain


class Ilqr:
    """Settings only. `plan` serves the ring; `solve` takes a batch of problems and decides for each of them apart."""

    gives_covariance = counts_spread = True

    @dataclass(frozen=True)
    class Config:
        """Settings of the planner."""

        horizon: float = param(0.4, HORIZON, low=1e-4)
        iterations: int = param(5, "Backward passes per plan at most; with linear dynamics and no active limit 1 is "
                                   "enough and no more are made", low=1)
        step_lengths: int = param(8, "Rungs of the ladder of step lengths", low=1)
        backtracking: float = param(0.5, "Ratio of one step length to the one before", low=0.01, high=0.99)
        accept_ratio: float = param(0.1, "Part of the expected improvement that a step must deliver", low=0.0, high=1.0)
        tolerance: float = param(1e-8, "Converged when the expected improvement is below this times (1 + |cost|)",
                                 low=0.0, scale=LOGARITHMIC)
        mu_start: float = param(0.0, "State regularisation of the first iteration", low=0.0, scale=LOGARITHMIC)
        mu_min: float = param(1e-6, "Smallest regularisation that is not zero", low=1e-300, scale=LOGARITHMIC)
        mu_max: float = param(1e10, "Regularisation above which the line search has failed", low=0.0, scale=LOGARITHMIC)
        mu_factor: float = param(1.6, "By which the rate of change of the regularisation itself changes", low=1.01)
        second_order: bool = param(False, "Count the curvature of the dynamics, too, which is DDP: fewer iterations, "
                                   "each dearer; for controller.model global, since local ones are linear")
        solver: str = param("auto", SOLVER, choices=("auto", "torch"))

    def __init__(self, config: Config | None = None, robot: Robot | None = None) -> None:
        from mbrl_ros.kernels import ilqr as kernel  # may compile for some 10 s: not where only settings are wanted
        self.config = config or self.Config()
        self.horizon = steps_in(self.config.horizon, robot)
        self.takes_numpy = self.config.solver == "auto"
        self._kernel: Any = kernel.solve
        self._statuses = {kernel.CONVERGED: CONVERGED, kernel.ITERATION_LIMIT: ITERATION_LIMIT,
                          kernel.LINE_SEARCH_FAILED: LINE_SEARCH_FAILED, kernel.NOT_FINITE: NOT_FINITE}
        self._said = ""

    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """See Planner. The policy is u_t + K_t (x - x_t) with k = 0 and Sigma = Q_uu^-1."""
        if isinstance(problem.x0, np.ndarray):
            return self._plan_numpy(problem, previous)
        u = warm_start(problem, previous)
        if self.config.solver == "auto" and is_common(problem):
            return in_torch(self._plan_compiled(in_numpy(problem), u.numpy()))
        s = self.solve(problem, u)
        return as_plan(s.x, s.u, float(s.cost), STATUSES[int(s.status)], int(s.iterations), s.K, s.Sigma)

    @torch.no_grad()
    def solve(self, problem: Problem, u: Float[Tensor, "*b T m"]) -> Solution:
        """Problems of a batch x0 from warm starts u that are finite and within the bounds."""
        state = self._start(problem, u)
        expansion = None
        for _ in range(self.config.iterations):
            if not bool((state.status == RUNNING).any()):
                break
            expansion = expand(problem.model, problem.cost, state.x, state.u) if expansion is None else expansion
            mu = state.mu if bool((state.mu > 0).any()) else None
            bend = curvature_of(problem.model, state.x, state.u, state.near) if self.config.second_order else None
            step, clamped = box.backward_in_box(*expansion, mu, problem.lower - state.u, problem.upper - state.u, bend)
            state, moved = self._advance(problem, state, step, clamped)
            if not bool(step.success.all()):
                bad = (state.status == RUNNING) & ~is_finite(*expansion)
                state = state._replace(status=torch.where(bad, STATUSES.index(NOT_FINITE), state.status))
            expansion = None if moved else expansion
        status = torch.where(state.status == RUNNING, STATUSES.index(ITERATION_LIMIT), state.status)
        Sigma = torch.cholesky_inverse(state.L) * state.solved[..., None, None, None]
        return Solution(state.x, state.u, state.K, Sigma, state.cost, status, state.iterations)

    def _plan_numpy(self, problem: Problem, previous: Plan | None) -> Plan:
        """`plan` without torch, which would cost as much as planning; with it, where the kernel does not apply."""
        if not (self.takes_numpy and has_sizes(problem)):
            self._say(getattr(problem.cost, "beyond", ""))
            return in_numpy(self.plan(in_torch(problem), in_torch(previous)))
        u = np.zeros(problem.lower.shape) if previous is None else previous.efforts
        u = np.where(np.isfinite(u), u, 0.0)
        return self._plan_compiled(problem, np.minimum(np.maximum(u, problem.lower), problem.upper))

    def _say(self, beyond: str) -> None:
        """Once: for which terms of the cost the kernel does not apply."""
        if beyond and beyond != self._said:
            warnings.warn(f"{type(self).__name__.lower()}: {beyond}: not affine, or of a norm that is not compiled; "
                          "planning in torch, which takes longer", stacklevel=4)
            self._said = beyond

    def _plan_compiled(self, problem: Problem, u: Array) -> Plan:
        """What `solve` finds, by kernels/ilqr.py, from u (T, m); all in numpy."""
        c = self.config
        rest = (problem.lower, problem.upper, u, *(spread_of(problem.model) or NO_SPREAD))
        x, u, K, Sigma, value, status, iterations = self._kernel(
            *arrays(problem), *map(np.ascontiguousarray, rest), c.iterations, c.step_lengths, c.backtracking,
            c.accept_ratio, c.tolerance, c.mu_start, c.mu_min, c.mu_max, c.mu_factor, box.ITERATIONS, box.SLACK)
        return as_plan(x, u, value, self._statuses[status], iterations, K, Sigma)

    def _start(self, problem: Problem, u: Tensor) -> _State:
        x, cost = begin(problem, u)
        (*batch, T, m), n = u.shape, x.shape[-1]
        zero, no = torch.zeros_like(cost), torch.zeros_like(cost, dtype=torch.bool)
        status = torch.where(torch.isfinite(cost), RUNNING, STATUSES.index(NOT_FINITE))
        L = torch.eye(m, dtype=u.dtype, device=u.device).expand(*batch, T, m, m)
        return _State(x, u, u.new_zeros(*batch, T, m, n), L, cost, zero + self.config.mu_start, zero + 1.0,
                      status, no, no, torch.zeros_like(status), no)

    def _advance(self, problem: Problem, s: _State, step: Backward, clamped: Tensor | None) -> tuple[_State, bool]:
        """Line search, acceptance, regularisation and status of every problem; whether any trajectory changed."""
        running = s.status == RUNNING
        usable = running & step.success
        K, L = _where(usable, step.K, s.K), _where(usable, step.L, s.L)
        before = spread_cost(problem.model, step, s.x, s.u)
        size = s.cost.abs() + before.abs()
        tolerance = torch.maximum(self.config.tolerance * (1 + size), rounding(size))
        expected = -(step.linear + 0.5 * step.quadratic)
        flat = usable & (expected <= tolerance)
        s = s._replace(K=K, L=L, solved=s.solved | usable, iterations=s.iterations + running,
                       near=expected <= NEAR * (1 + size))  # false where not a number
        converged = flat & (s.mu == 0)
        search = usable & ~flat
        accepted = torch.zeros_like(search)
        if bool(search.any()):
            x, u, cost, saved, full = self._line_search(problem, s, step, before)
            accepted = search & torch.isfinite(cost)
            # Where the full step delivered exactly what it promised, the expansion is exact there: a second would
            # only find the same minimiser. Not so with limits, whose active set follows the trajectory.
            exact = full & ((saved - expected).abs() <= tolerance) & (s.mu == 0)
            converged = converged | (accepted & (exact if clamped is None else exact & ~clamped))
            s = s._replace(x=_where(accepted, x, s.x), u=_where(accepted, u, s.u),
                           cost=torch.where(accepted, cost, s.cost))
        s = self._regularise(s, accepted, flat, running & ~accepted & ~flat)
        return s._replace(status=torch.where(converged, STATUSES.index(CONVERGED), s.status)), bool(accepted.any())

    def _line_search(self, problem: Problem, s: _State, step: Backward,
                     before: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The best acceptable rollout, its cost (infinite where there is none), what it saves, and whether it took the
        full step. What the model's spread costs, `before` (*b,) without a step, counts in all but the cost."""
        lengths = self.config.backtracking ** torch.arange(
            self.config.step_lengths, dtype=s.cost.dtype, device=s.cost.device)
        x, u = forward(problem, s.x, s.u, step, lengths)  # (S, *b, T + 1, n), (S, *b, T, m)
        cost = problem.cost.evaluate(x, u)
        a = lengths.reshape(-1, *[1] * s.cost.ndim)
        expected = -a * (step.linear + 0.5 * a * step.quadratic)
        total = cost + (spread_cost(problem.model, step, x, u) - before)
        good = (s.cost - total >= self.config.accept_ratio * expected) & (expected > 0)  # false where not a number
        total, best = torch.where(good, total, torch.inf).min(0)
        cost = torch.where(torch.isfinite(total), torch.take_along_dim(cost, best[None], 0)[0], torch.inf)
        index = best[None, ..., None, None]
        return (torch.take_along_dim(x, index, 0)[0], torch.take_along_dim(u, index, 0)[0], cost, s.cost - total,
                best == 0)

    def _regularise(self, s: _State, accepted: Tensor, flat: Tensor, stuck: Tensor) -> _State:
        """Lower mu after an accepted step, raise it where there was none, faster and faster, up to failure.

        A large mu promises little because its steps are small: where nothing is left to gain with mu, try without.
        """
        factor = self.config.mu_factor
        rate = torch.where(accepted, (s.rate / factor).clamp(max=1 / factor), s.rate)
        rate = torch.where(stuck, (s.rate * factor).clamp(min=factor), rate)
        mu = torch.where(stuck, (s.mu * rate).clamp(min=self.config.mu_min), s.mu * rate)
        mu = torch.where(accepted & (mu < self.config.mu_min), 0.0, mu)
        mu = torch.where(accepted | stuck, mu, torch.where(flat, 0.0, s.mu))
        failed = stuck & (s.retry | (mu > self.config.mu_max))
        status = torch.where(failed, STATUSES.index(LINE_SEARCH_FAILED), s.status)
        return s._replace(mu=mu, rate=torch.where(flat, 1.0, rate), status=status,
                          retry=flat | (s.retry & ~accepted))


class Lqr(Ilqr):
    """One iteration: an LQ problem is solved where no limit acts, any other expanded about the warm start."""

    @dataclass(frozen=True)
    class Config:
        """Settings of the planner."""

        horizon: float = param(0.4, HORIZON, low=1e-4)
        solver: str = param("auto", SOLVER, choices=("auto", "torch"))

    def __init__(self, config: Config | None = None, robot: Robot | None = None) -> None:
        c = config or self.Config()
        super().__init__(Ilqr.Config(horizon=c.horizon, iterations=1, solver=c.solver), robot)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """torch.where with a condition over the leading axes."""
    return torch.where(condition.reshape(*condition.shape, *[1] * (a.ndim - condition.ndim)), a, b)
