"""Many hypotheses: iLQR for each of several models that the data allow, and the plan that does best on all of them.

The first hypothesis is the mean of the local dynamics, the others are draws from their posterior,

    [f F] = mean + root(Sigma) E root(G)',   E standard normal, in pairs of opposite sign,

with G the leverage (LinearGaussianDynamics), as a covariance: where nothing else is known the least such. Every plan
is played with its gains, within the limits, on every hypothesis, and the one whose expected cost, or whose worst cost,
is least is the plan. One for the problem as it stands, and the previous plan, compete.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import param
from mbrl_ros.planners import lqr
from mbrl_ros.planners.ilqr import HORIZON, Ilqr
from mbrl_ros.planners.ilqr import _torch as as_tensors
from mbrl_ros.planners.plan import as_plan
from mbrl_ros.planners.problem import Problem
from mbrl_ros.robot import Robot
from mbrl_ros.types import NOT_FINITE, Array, LinearGaussianDynamics, LinearGaussianPolicy, Plan

if TYPE_CHECKING:
    from jaxtyping import Float

CHOICES = EXPECTED, WORST = ("expected", "worst")
RIDGE = 1e-9  # of a correlation, before it is factored: tools follow joints, and an offset may be exact


class Hypotheses:
    """Settings only."""

    gives_covariance = counts_spread = True

    @dataclass(frozen=True)
    class Config:
        """Settings of the planner."""

        horizon: float = param(0.4, HORIZON, low=1e-4)
        iterations: int = param(2, "Backward passes per hypothesis at most", low=1)
        count: int = param(5, "Hypotheses, the mean model among them; with 1 it is ilqr", low=1, high=1000)
        choice: str = param(EXPECTED, "What is least in the plan: its expected cost over the hypotheses, or its worst",
                            choices=CHOICES)
        joint: bool = param(True, "Whether one policy for all of them competes, too")
        renewal: float = param(0.1, "Part of the draws that is new at every plan", low=0.0, high=1.0)

    def __init__(self, config: Config | None = None, robot: Robot | None = None) -> None:
        self.config = c = config or self.Config()
        self._ilqr = Ilqr(Ilqr.Config(horizon=c.horizon, iterations=c.iterations), robot)
        self.horizon, self.takes_numpy = self._ilqr.horizon, self._ilqr.takes_numpy

    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """See Planner."""
        first = self._ilqr.plan(problem, previous)
        if self.config.count == 1 or getattr(problem.model, "leverage", None) is None or first.status == NOT_FINITE:
            return first
        known: LinearGaussianDynamics = replace(problem.model, leverage=None)
        draws = self._draws(problem, previous)
        models = [known, *_posterior(problem.model, draws)]
        plans = [first, *(self._ilqr.plan(replace(problem, model=model), previous) for model in models[1:])]
        if previous is not None:
            plans.append(previous)
        if self.config.joint:
            plans.append(shared(problem, models, first))
        x, u = play(problem, models, plans)  # (plans, models, T + 1, n), (plans, models, T, m)
        cost = problem.cost.evaluate(x, u)
        score = cost.mean(-1) if self.config.choice == EXPECTED else cost.max(-1)
        best = int(np.argmin(np.where(np.isfinite(score), score, np.inf)))
        if best == 0:
            return replace(first, memory=draws)
        policy = plans[best].policy
        return as_plan(x[best, 0], u[best, 0], float(cost[best, 0]), plans[best].status, plans[best].iterations,
                       policy.K, policy.Sigma, draws)

    def _draws(self, problem: Problem, previous: Plan | None) -> Float[Array, "pairs n h"]:
        """Standard normal, those of the previous plan and a part that is new."""
        n, p = problem.model.F.shape[-2:]
        shape = (self.config.count // 2, n, 1 + p)
        new = np.random.default_rng(problem.seed).standard_normal(shape)
        old = None if previous is None else previous.memory
        if old is None or old.shape != shape:
            return new
        return (1 - self.config.renewal) ** 0.5 * old + self.config.renewal**0.5 * new


def shared(problem: Problem, models: list[LinearGaussianDynamics], about: Plan) -> Plan:
    """One policy for all models: a step of the recursion in which each has values of its own, V_i, and the efforts
    minimise the mean of Q_i. The cost is expanded about a plan."""
    x, u = (torch.as_tensor(a) for a in (about.states, about.efforts))
    cost = as_tensors(problem.cost).quadratize(x, u)
    C = lqr._homogeneous_cost(cost).numpy()  # (T + 1, h, h)
    (T, m), n = about.efforts.shape, len(problem.x0)
    a = 1 + n
    G = np.zeros((len(models), a, a + m))
    G[:, 0, 0] = 1.0
    for i, model in enumerate(models):
        G[i, 1:, 0], G[i, 1:, 1:] = model.f, model.F
    GT = np.ascontiguousarray(G.swapaxes(1, 2))
    V = np.broadcast_to(C[T][:a, :a], (len(models), a, a))
    K, k, Sigma = np.empty((T, m, n)), np.empty((T, m)), np.empty((T, m, m))
    for t in range(T - 1, -1, -1):
        Q = C[t] + GT @ V @ G
        mean = Q.mean(0)
        Sigma[t] = np.linalg.inv(mean[a:, a:])
        H = -Sigma[t] @ mean[a:, :a]  # [k K]
        k[t], K[t] = H[:, 0], H[:, 1:]
        Qau = Q[:, :a, a:]
        S = Q[:, :a, :a] + Qau @ H + (Qau @ H).swapaxes(1, 2) + H.T @ Q[:, a:, a:] @ H
        V = 0.5 * (S + S.swapaxes(1, 2))
    x_hat = about.states[:-1]
    policy = LinearGaussianPolicy(x_hat, k + (K @ x_hat[..., None])[..., 0], K, np.zeros_like(k), 0.5 * (Sigma + Sigma.swapaxes(1, 2)))
    return replace(about, policy=policy)


def _posterior(model: LinearGaussianDynamics, draws: Array) -> list[LinearGaussianDynamics]:
    """Two models for each of the draws (pairs, n, 1 + p), as far from the mean one on both sides."""
    change = root(model.Sigma) @ draws @ root(as_covariance(model.leverage)).T  # (pairs, n, 1 + p)
    return [replace(model, F=model.F + sign * d[:, 1:], f=model.f + sign * d[:, 0], leverage=None)
            for d in change for sign in (1.0, -1.0)]


def as_covariance(leverage: Float[Array, "h h"]) -> Float[Array, "h h"]:
    """The least covariance over h = [1; x; u] that grows like the leverage, of which only the constant is in question:
    none in the mean of the data."""
    g = leverage[1:, 0]
    known = np.flatnonzero(np.diag(leverage)[1:] > 0)
    G = leverage.copy()
    scale = np.sqrt(np.diag(leverage)[1:][known])
    L = leverage[1:, 1:][np.ix_(known, known)] / np.outer(scale, scale)
    r = g[known] / scale
    G[0, 0] = r @ np.linalg.solve(L + RIDGE * np.eye(len(L)), r) if len(L) else 0.0
    return G


def root(cov: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """Lower triangular R with R R' = cov, which may be singular."""
    R, used = np.zeros_like(cov), np.flatnonzero(np.diag(cov) > 0)
    at, scale = np.ix_(used, used), np.sqrt(np.diag(cov)[used])
    R[at] = scale[:, None] * np.linalg.cholesky(cov[at] / np.outer(scale, scale) + RIDGE * np.eye(len(used)))
    return R


def play(problem: Problem, models: list[LinearGaussianDynamics], plans: list[Plan]
         ) -> tuple[Float[Array, "P M T+1 n"], Float[Array, "P M T m"]]:
    """Rollouts of the policy of every plan on every model, within the limits."""
    F = np.stack([model.F for model in models])  # (M, n, p)
    f = np.stack([model.f for model in models])[:, None]  # (M, 1, n)
    FT = np.ascontiguousarray(F.swapaxes(-1, -2))
    K = np.stack([plan.policy.K for plan in plans]).swapaxes(-1, -2)  # (P, T, n, m)
    x_hat, u_hat = (np.stack([getattr(plan.policy, name) for plan in plans])[:, :, None] for name in ("x_hat", "u_hat"))
    P, M, n = len(plans), len(models), F.shape[1]
    x = [np.broadcast_to(problem.x0, (P, M, n))]
    u: list[Any] = []
    for t, (low, high) in enumerate(zip(problem.lower, problem.upper, strict=True)):
        u.append(np.clip(u_hat[:, t] + (x[-1] - x_hat[:, t]) @ K[:, t], low, high))
        z = np.concatenate([x[-1], u[-1]], -1).swapaxes(0, 1)  # (M, P, p)
        x.append((z @ FT + f).swapaxes(0, 1))
    return np.stack(x, -2), np.stack(u, -2)
