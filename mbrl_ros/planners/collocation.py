"""Direct transcription: states and efforts are variables, the dynamics constraints, solved by sequential quadratic
programming.

A step about (x, u), which need not be a rollout, minimises the expanded cost over [dx; du] subject to dx_{t+1} =
F_t [dx; du]_t + d_t with the defects d_t = E[x' | x_t, u_t] - x_{t+1} and the limits of u: an LQ problem, which
`Ilqr.solve` solves as any other (one backward pass where no limit acts). The step length is that of a ladder with the
least merit J + rho sum |d|_1, which falls along the step where rho is above the largest multiplier of the dynamics
(Nocedal & Wright 2006, theorem 18.2). All nodes of all lengths are evaluated as one batch, without a rollout. Where the
full step is refused since its own curvature leaves a defect, it is corrected by the LQ problem with that defect
(second-order correction, algorithm 18.3 there).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.planners.ilqr import HORIZON, Ilqr
from mbrl_ros.planners.lqr import expand, is_finite
from mbrl_ros.planners.plan import as_plan, begin, fed_back, rounding, steps_in, warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.robot import Robot
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.types import (
    CONVERGED,
    ITERATION_LIMIT,
    LINE_SEARCH_FAILED,
    NOT_FINITE,
    LinearGaussianDynamics,
    Plan,
    QuadraticCost,
)

if TYPE_CHECKING:
    from jaxtyping import Float

GUESSES = ROLLOUT, LINE = ("rollout", "line")
SAFETY = 1.2  # rho over the largest multiplier, at least
FORGETS = 0.5  # part of rho that is left after a step: what an early one needed makes late ones short
LEAST_RATIO = 1e-4  # part of the promised decrease of the merit that a step must deliver


class Step(NamedTuple):
    """The minimiser of the LQ problem about a trajectory."""

    dx: Tensor  # (T + 1, n)
    du: Tensor  # (T, m)
    K: Tensor  # (T, m, n)
    Sigma: Tensor  # (T, m, m)
    slope: Tensor  # of the cost along the step
    multipliers: Tensor  # (T, n), of the dynamics


class Trajectory(NamedTuple):
    """What the solver ends with: a rollout of u only as far as `defect` is small."""

    x: Tensor  # (T + 1, n)
    u: Tensor  # (T, m)
    K: Tensor  # (T, m, n)
    Sigma: Tensor  # (T, m, m)
    cost: float  # of x, u
    defect: float  # the largest |d|
    status: str
    iterations: int


class Collocation:
    """Settings only. `solve` begins anywhere; `plan` from the states of the previous plan, or as `guess` says."""

    gives_covariance = True

    @dataclass(frozen=True)
    class Config:
        """Settings of the planner."""

        horizon: float = param(0.4, HORIZON, low=1e-4)
        iterations: int = param(50, "Quadratic programs per plan at most", low=1)
        step_lengths: int = param(12, "Rungs of the ladder of step lengths, each half of the one before", low=1)
        tolerance: float = param(1e-9, "Converged when a step promises less than this times (1 + |merit|), and no "
                                 "defect is larger than its root", low=0.0, scale=LOGARITHMIC)
        guess: str = param(ROLLOUT, "States to begin with where there is no previous plan; rollout: those of no "
                           "effort; line: straight to where the last state costs least", choices=GUESSES)

    def __init__(self, config: Config | None = None, robot: Robot | None = None) -> None:
        self.config = config or self.Config()
        self.horizon = steps_in(self.config.horizon, robot)
        self._inner = Ilqr(Ilqr.Config(iterations=20, tolerance=1e-12, solver="torch"))

    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """See Planner. Its states are a rollout: of the efforts found, or with the gains along the states found."""
        u = warm_start(problem, previous)
        start, cost = begin(problem, u)
        if not bool(torch.isfinite(cost)):
            return as_plan(start, u, float(cost), NOT_FINITE, 0)
        x = start
        if previous is not None and bool(torch.isfinite(previous.states).all()):
            x = torch.cat([problem.x0[None], previous.states[1:]])
        elif previous is None and self.config.guess == LINE:
            x = line(problem)
        found = self.solve(problem, x, u)
        u = torch.stack([u, found.u, fed_back(problem, found.x, found.u, found.K)])
        x, cost = begin(problem, u)
        best = int(cost.argmin())
        plan = as_plan(x[best], u[best], float(cost[best]), found.status, found.iterations, found.K, found.Sigma)
        return plan if found.status == CONVERGED else replace(plan, detail=f"largest defect {found.defect:.1e}")

    @torch.no_grad()
    def solve(self, problem: Problem, x: Float[Tensor, "T+1 n"], u: Float[Tensor, "T m"]) -> Trajectory:
        """From any finite states x with x_0 = x0 and efforts u within the bounds."""
        c = self.config
        (T, m), n = u.shape, x.shape[-1]
        lengths = 0.5 ** torch.arange(c.step_lengths, dtype=u.dtype, device=u.device).reshape(-1, 1, 1)
        K, Sigma = u.new_zeros(T, m, n), u.new_zeros(T, m, m)
        status, d, J, rho, mu, i = ITERATION_LIMIT, defects(problem, x, u), problem.cost.evaluate(x, u), 0.0, 0.0, 0
        while i < c.iterations:
            i += 1
            F, cost, _ = expand(problem.model, problem.cost, x, u)
            F = F.expand(T, n, n + m)
            if not bool(is_finite(F, cost, None) & torch.isfinite(d).all()):
                status = NOT_FINITE
                break
            step = self._quadratic_program(problem, F, d, cost, mu, u)
            K, Sigma = step.K, step.Sigma
            rho = max(FORGETS * rho, SAFETY * float(step.multipliers.abs().max()))
            merit, largest = J + rho * d.abs().sum(), float(d.abs().max())
            promise = rho * d.abs().sum() - step.slope
            tolerance = max(c.tolerance * (1 + float(merit.abs())), float(rounding(merit)))
            if float(promise) <= tolerance and mu == 0.0 and largest <= c.tolerance**0.5:
                status = CONVERGED
                break
            xs, us = x + lengths * step.dx, u + lengths * step.du
            accepted = self._search(problem, xs, us, merit, rho, lengths.flatten() * promise)
            if accepted is None or accepted > 0:  # the full step leaves the dynamics: come back to them
                d_full = defects(problem, xs[0], us[0])
                if bool(torch.isfinite(d_full).all()):
                    better = self._quadratic_program(problem, F, d + d_full, cost, mu, u)
                    xc, uc = (x + better.dx)[None], (u + better.du)[None]
                    if self._search(problem, xc, uc, merit, rho, promise[None]) is not None:
                        accepted, xs, us = 0, xc, uc
            if accepted is None:
                if float(promise) <= 1e3 * tolerance and largest <= c.tolerance**0.5:
                    status = CONVERGED  # as far as the merit can be told apart
                    break
                mu = max(10 * mu, 1e-6)
                if mu > 1e10:
                    status = LINE_SEARCH_FAILED
                    break
                continue
            x, u = xs[accepted], us[accepted].clamp(problem.lower, problem.upper)
            d, J, mu = defects(problem, x, u), problem.cost.evaluate(x, u), 0.0 if mu < 1e-5 else mu / 10
        return Trajectory(x, u, K, Sigma, float(J), float(d.abs().max()), status, i)

    def _quadratic_program(self, problem: Problem, F: Tensor, d: Tensor, cost: QuadraticCost, mu: float,
                           u: Tensor) -> Step:
        """The step for defects d (T, n), with mu / 2 |[dx; du]|^2 in its cost."""
        n = d.shape[-1]
        if mu > 0:
            cost = replace(cost, C=cost.C + mu * torch.eye(cost.C.shape[-1], dtype=d.dtype, device=d.device))
        model = LinearGaussianDynamics(F, d, d.new_zeros(n, n))
        lq = Problem(d.new_zeros(n), model, Quadratic(cost), problem.lower - u, problem.upper - u)
        s = self._inner.solve(lq, torch.zeros_like(u))
        z = torch.cat([s.x, torch.nn.functional.pad(s.u, (0, 0, 0, 1))], -1)
        pull = (cost.C @ z.unsqueeze(-1)).squeeze(-1) + cost.c
        multipliers = [pull[-1, :n]]
        for t in range(len(u) - 1, 0, -1):
            multipliers.append(pull[t, :n] + F[t, :, :n].mT @ multipliers[-1])
        return Step(s.x, s.u, s.K, s.Sigma, (cost.c * z).sum(), torch.stack(multipliers[::-1]))

    def _search(self, problem: Problem, x: Tensor, u: Tensor, merit: Tensor, rho: float, promise: Tensor
                ) -> int | None:
        """Which of the candidates x (S, T + 1, n), u (S, T, m) has the least merit, if it falls as promised (S,)."""
        values = problem.cost.evaluate(x, u) + rho * defects(problem, x, u).abs().sum((-2, -1))
        good = merit - values >= LEAST_RATIO * promise  # false where not a number
        return int(torch.where(good, values, torch.inf).argmin()) if bool(good.any()) else None


def defects(problem: Problem, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]) -> Float[Tensor, "*b T n"]:
    """By how much the dynamics miss the next state."""
    return predict_mean(problem.model, x[..., :-1, :], u) - x[..., 1:, :]


def line(problem: Problem) -> Float[Tensor, "steps n"]:
    """From x0 straight to the nearest state that costs least at the end, at T + 1 steps."""
    (T, m), x0 = problem.lower.shape, problem.x0
    x = x0.expand(T + 1, -1)
    last = problem.cost.quadratize(x, x0.new_zeros(T, m))
    C, c = last.C[-1, : len(x0), : len(x0)].detach(), last.c[-1, : len(x0)].detach()
    goal = x0 - torch.linalg.pinv(C, hermitian=True) @ (C @ x0 + c)
    return x0 + torch.linspace(0.0, 1.0, T + 1, dtype=x0.dtype, device=x0.device)[:, None] * (goal - x0)
