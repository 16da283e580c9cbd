"""What a planner is given and what it answers: a problem over one horizon, and a plan.

A problem is: minimise the cost of x_0..x_T, u_0..u_{T-1} subject to x_{t+1} = E[x' | x_t, u_t] and
lower_t <= u_t <= upper_t, from x_0 = x0. Where a linear model says how its covariance grows with x and u, the expected
cost of that counts as well, though not in Plan.cost. Everything is torch, on the device of the problem; the controller
decides which. The problem of the ring, one on the CPU, is of numpy arrays where the planner `takes_numpy`, and so is
the plan. A planner never raises for a hard problem: it returns a status.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from mbrl_ros.types import Array, Plan, QuadraticCost


class Cost(Protocol):
    """The cost of a trajectory; a Task builds it from residuals."""

    def evaluate(self, x: Tensor, u: Tensor) -> Tensor:
        """x (*b, T + 1, n), u (*b, T, m) -> total cost (*b,)."""

    def quadratize(self, x: Tensor, u: Tensor) -> QuadraticCost:
        """Gauss-Newton expansion about x, u in absolute coordinates (not deviations), positive semidefinite."""


@dataclass(frozen=True)
class Problem:
    """One horizon to plan. Bounds may be infinite; T is their length."""

    x0: Array  # (*b, n)
    model: Any  # DynamicsModel; LinearGaussianDynamics with F (n, n + m) is the common case
    cost: Cost
    lower: Array  # (T, m) [N m or N]
    upper: Array  # (T, m)


class Planner(Protocol):
    """Settings only; the warm start is the previous plan, shifted by the caller."""

    horizon: int
    takes_numpy: bool  # missing: no

    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """A plan at least as good as `previous` (clamped into the bounds), which is always a candidate."""
