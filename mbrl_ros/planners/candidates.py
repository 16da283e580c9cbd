"""Many efforts about a plan, rolled out as one batch under its feedback, and what they cost.

A candidate adds D numbers theta times a basis to the efforts u of a plan, and K_t (x - x_t) where it leaves the plan's
states, so that candidates of what falls over stay close to what they were meant to do. On linear dynamics feedback is
but another basis, the response of the closed loop to each number, found once for all candidates.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.models.rollout import MEAN, per_step, stepper
from mbrl_ros.planners.compiled import arrays, is_common
from mbrl_ros.planners.plan import begin, fed_back
from mbrl_ros.planners.problem import Problem
from mbrl_ros.types import Array, LinearGaussianDynamics, Plan

if TYPE_CHECKING:
    from jaxtyping import Float


class Candidates:
    """Those about u with this basis; without K, efforts alone.

    `way` is that of models.rollout, of so many particles: their mean cost counts. `compiled` are the costs of a common
    problem (kernels/sampling.py).
    """

    def __init__(self, problem: Problem, u: Float[Tensor, "T m"], basis: Float[Tensor, "D T m"],
                 K: Float[Tensor, "T m n"] | None, way: str, particles: int, seed: int, compiled: Callable[..., Array]):
        self._problem, self._u, self._basis, self._K = problem, u, basis, K
        self._way, self._particles, self._seed = way, particles, seed
        self._compiled = (compiled, arrays(problem)) if way == MEAN and is_common(problem) else None
        if K is not None and way == MEAN and isinstance(problem.model, LinearGaussianDynamics):
            self._basis, self._K = response(problem.model, K, basis), None
        self._states = begin(problem, u)[0] if self._K is not None else None

    def costs(self, theta: Float[Tensor, "S ..."]) -> Float[Tensor, " S"]:
        """Expected costs; infinite where they are not finite."""
        u = self._added(theta)
        if self._compiled is not None:
            costs, given = self._compiled
            return or_infinite(torch.from_numpy(costs(*given, np.ascontiguousarray(self._clipped(u).numpy()))))
        if self._way == MEAN:
            return begin(self._problem, self._clipped(u))[1] if self._K is None else self._rolled(u, MEAN)[1]
        return or_infinite(self._rolled(u, self._way)[1].mean(0))

    def efforts(self, theta: Float[Tensor, "S ..."]) -> Float[Tensor, "S T m"]:
        """Within the bounds, along the mean of the model."""
        u = self._added(theta)
        return self._clipped(u) if self._K is None else self._rolled(u, MEAN)[0]

    def _added(self, theta: Tensor) -> Tensor:
        return self._u + (theta.flatten(1) @ self._basis.flatten(1)).reshape(-1, *self._u.shape)

    def _clipped(self, u: Tensor) -> Tensor:
        return u.clamp(self._problem.lower, self._problem.upper)

    def _rolled(self, u: Tensor, way: str) -> tuple[Tensor, Tensor]:
        """Efforts (*P, S, T, m) and costs (*P, S); *P is the axis of particles, which all meet the same worlds."""
        problem, K, states = self._problem, self._K, self._states
        step = stepper(problem.model, way, self._seed)
        batch = (len(u),) if way == MEAN else (self._particles, len(u))
        x, played = [problem.x0.expand(*batch, -1)], []
        for t, u_t in enumerate(u.unbind(-2)):
            if K is not None and states is not None:
                u_t = u_t + (x[-1] - states[t]) @ K[t].mT
            played.append(u_t.clamp(problem.lower[t], problem.upper[t]).expand(*batch, -1))
            x.append(step(x[-1], played[-1]))
        all_x, all_u = torch.stack(x, -2), torch.stack(played, -2)
        J = torch.where(torch.isfinite(all_x).flatten(-2).all(-1), problem.cost.evaluate(all_x, all_u), torch.inf)
        return all_u, or_infinite(J)


def followed(problem: Problem, previous: Plan, u: Float[Tensor, "T m"]) -> Float[Tensor, "T m"]:
    """The efforts of the plan before, or what its policy makes of them from where the robot is now, if that costs less.
    """
    p = previous.policy
    both = torch.stack([u, fed_back(problem, p.x_hat, p.u_hat + p.k, p.K)])
    return both[int(begin(problem, both)[1].argmin())]


def response(model: LinearGaussianDynamics, K: Float[Tensor, "T m n"], basis: Float[Tensor, "D T m"]
             ) -> Float[Tensor, "D T m"]:
    """The efforts that each row of `basis` leads to where K feeds the states back that it leads to."""
    dx, found = basis.new_zeros(len(basis), K.shape[-1]), []
    for A, B, K_t, du in zip(*(per_step(M, len(K)) for M in (model.A, model.B)), K, basis.unbind(1), strict=True):
        found.append(du + dx @ K_t.mT)
        dx = dx @ A.mT + found[-1] @ B.mT
    return torch.stack(found, 1)


def or_infinite(J: Tensor) -> Tensor:
    """Costs that are not finite are infinite."""
    return torch.where(torch.isfinite(J), J, torch.inf)
