"""What any planner needs: where to begin, what efforts lead to, and a plan made from them."""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.models.rollout import rollout
from mbrl_ros.planners.problem import Problem
from mbrl_ros.robot import Robot
from mbrl_ros.types import CONVERGED, NOT_FINITE, Array, LinearGaussianPolicy, Plan

if TYPE_CHECKING:
    from jaxtyping import Float


def warm_start(problem: Problem, previous: Plan | None) -> Float[Tensor, "*b T m"]:
    """Efforts of the previous plan, finite and within the bounds; zero efforts without one."""
    if previous is None:
        u = problem.x0.new_zeros(*problem.x0.shape[:-1], *problem.lower.shape)
    else:
        u = _finite(previous.efforts)
    return u.clamp(problem.lower, problem.upper)


def begin(problem: Problem, u: Float[Tensor, "*b T m"]) -> tuple[Float[Tensor, "*b T+1 n"], Float[Tensor, " *b"]]:
    """States and cost of the efforts u; cost infinite where anything is not finite.

    Every state is finite all the same, so that later steps on a batch need no cases. Many candidates u (S, T, m) may
    share one start x0 (n,).
    """
    x = rollout(problem.model, _finite(problem.x0), u)
    cost = problem.cost.evaluate(x, u)
    finite = torch.isfinite(problem.x0).all(-1) & torch.isfinite(x).flatten(-2).all(-1) & torch.isfinite(cost)
    if bool(finite.all()):
        return x, cost
    return _finite(x), torch.where(finite, cost, torch.inf)


def as_plan(x: Float[Array, "T+1 n"], u: Float[Array, "T m"], cost: float, status: str, iterations: int,
            K: Float[Array, "T m n"] | None = None, Sigma: Float[Array, "T m m"] | None = None,
            memory: Any = None) -> Plan:
    """A plan whose policy is u_t + K_t (. - x_t): k = 0, so along its own states it gives its own efforts.

    Without gains K or covariances Sigma these are zero: efforts alone.
    """
    (T, m), n = u.shape, x.shape[-1]
    zeros = u.new_zeros if isinstance(u, Tensor) else np.zeros
    policy = LinearGaussianPolicy(x[:-1], u, zeros((T, m, n)) if K is None else K, zeros((T, m)),
                                  zeros((T, m, m)) if Sigma is None else Sigma)
    return Plan(policy, x, u, cost, status, iterations, memory)


def shifted(plan: Plan, stride: int = 1) -> Plan:
    """The plan one period later, a step being `stride` of them: between its steps; its last step is repeated."""
    def later(a: Array) -> Array:
        if a is None:  # a planner that knows no covariance
            return None
        next_step = torch.cat([a[1:], a[-1:]]) if isinstance(a, torch.Tensor) else np.concatenate([a[1:], a[-1:]])
        return next_step if stride == 1 else a + (next_step - a) / stride

    policy = LinearGaussianPolicy(*(later(steps) for steps in vars(plan.policy).values()))
    return replace(plan, policy=policy, states=later(plan.states), efforts=later(plan.efforts))


def fed_back(problem: Problem, x_hat: Float[Tensor, "steps n"], u_hat: Float[Tensor, "T m"],
             K: Float[Tensor, "T m n"]) -> Float[Tensor, "T m"]:
    """What u_hat + K (. - x_hat) makes of the efforts from x0 on, within the limits; where it is not finite, u_hat."""
    x, u = problem.x0, []
    for t in range(len(u_hat)):
        effort = (u_hat[t] + K[t] @ (x - x_hat[t])).clamp(problem.lower[t], problem.upper[t])
        u.append(torch.where(torch.isfinite(effort), effort, u_hat[t]))
        x = predict_mean(problem.model, x, u[-1])
    return torch.stack(u)


def steps_in(horizon: float, robot: Robot | None) -> int:
    """How many steps to plan for `horizon` [s]; without a robot, a step is a second."""
    return max(1, round(horizon / (1.0 if robot is None else robot.step)))


def best_of(problem: Problem, u: Float[Tensor, "S T m"]) -> Plan:
    """The cheapest of the S efforts u, all within the bounds, as a plan without gains.

    With the warm start as the first of them it is never worse than that, and it is that where none is finite.
    """
    x, cost = begin(problem, u)
    best = int(cost.argmin())
    status = CONVERGED if bool(torch.isfinite(cost[best])) else NOT_FINITE
    return as_plan(x[best], u[best], float(cost[best]), status, 1)


def _finite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def rounding(cost: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
    """By how much two equal costs may differ: a sum over steps loses a few of the last bits."""
    return 10 * torch.finfo(cost.dtype).eps * (1 + cost.abs())
