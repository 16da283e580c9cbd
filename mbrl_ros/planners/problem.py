"""What a planner is given and what it answers: a problem over one horizon, and a plan.

A problem is: minimise the cost of x_0..x_T, u_0..u_{T-1} subject to x_{t+1} = E[x' | x_t, u_t] and
lower_t <= u_t <= upper_t, from x_0 = x0. Where a linear model says how its covariance grows with x and u, the expected
cost of that counts as well, though not in Plan.cost. Everything is torch, on the device of the problem; the controller
decides which. The problem of the ring, one on the CPU, is of numpy arrays where the planner `takes_numpy`, and so is
the plan. A planner never raises for a hard problem: it returns a status. What it remembers it puts into Plan.memory and
finds there in `previous`, so that the same problem and the same previous plan give the same plan.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from mbrl_ros.types import Array, LinearGaussianDynamics, Plan, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Float


class Cost(Protocol):
    """The cost of a trajectory; a Task builds it from residuals."""

    def evaluate(self, x: Float[Array, "*b T+1 n"], u: Float[Array, "*b T m"]) -> Float[Array, " *b"]:
        """Total cost; of arrays of the kind the cost is made of."""

    def quadratize(self, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]) -> QuadraticCost:
        """Gauss-Newton expansion about x, u in absolute coordinates (not deviations), positive semidefinite."""


@dataclass(frozen=True)
class Problem:
    """One horizon to plan. Bounds may be infinite; T is their length."""

    x0: Float[Array, "*b n"]
    model: Any  # DynamicsModel; LinearGaussianDynamics with F (n, n + m) is the common case
    cost: Cost
    lower: Float[Array, "T m"]  # [N m or N]
    upper: Float[Array, "T m"]
    seed: int = 0  # of everything that is drawn, 32 bits; another one at every step of the ring
    budget: float = math.inf  # [s] of wall clock after which the plan is not played
    local: LinearGaussianDynamics | None = None  # the dynamics about x0, whatever `model` is; None outside the ring


class Planner(Protocol):
    """Made as `kind(Config, Robot)`, which raises ConfigError for settings that do not suit the robot (see
    Robot.per_joint), or as `kind(Config)` for problems that are no robot's. Holds settings only; the warm start is the
    previous plan, shifted by the caller. What the class does not say of itself is false."""

    horizon: int
    takes_numpy: bool
    gives_covariance: bool  # its policies have a Sigma, hence controller.exploration a meaning
    counts_spread: bool  # the leverage of a linear model counts in its cost, hence learner.caution has a meaning

    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """A plan at least as good as `previous` (clamped into the bounds), which is always a candidate."""
