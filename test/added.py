"""A planner and a model as somebody would add them, each a file of its own: test_additions.py puts them in place."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mbrl_ros.config import param
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.noise import shrunk_covariance
from mbrl_ros.planners.plan import best_of, steps_in, warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.robot import Robot
from mbrl_ros.types import Gaussian, Plan


class Shooting:
    """Random shooting: the best of some deviations from the plan before, straight lines between knots in time."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `shooting.*`."""

        horizon: float = param(0.4, "How far to plan ahead [s]", low=1e-4)
        samples: int = param(64, "Candidates", low=1)
        knots: int = param(4, "Times over the horizon at which efforts are drawn", low=1)
        deviation: tuple[float, ...] = param((), "Of the candidates, for each joint [N m or N]; empty: 1", low=0.0)

    def __init__(self, config: Config | None = None, robot: Robot | None = None) -> None:
        self.config = config or self.Config()
        self.horizon = steps_in(self.config.horizon, robot)
        self._deviation = None if robot is None else robot.per_joint("shooting.deviation", self.config.deviation, 1.0)

    @torch.no_grad()
    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """The size of the deviations is remembered: it grows after an improvement, and shrinks where there was none."""
        c, u = self.config, warm_start(problem, previous)
        size = 1.0 if previous is None or previous.memory is None else previous.memory
        generator = torch.Generator().manual_seed(problem.seed)
        knots = torch.randn(c.samples, u.shape[-1], c.knots, generator=generator, dtype=torch.float64).to(u.device)
        noise = torch.nn.functional.interpolate(knots, size=len(u), mode="linear", align_corners=True).mT
        deviation = torch.as_tensor(1.0 if self._deviation is None else self._deviation).to(u)
        candidates = torch.cat([u[None], (u + size * deviation * noise).clamp(problem.lower, problem.upper)])
        plan = best_of(problem, candidates)
        return replace(plan, memory=max(0.05, size * (0.7 if torch.equal(plan.efforts, u) else 1.2)))


@dataclass(frozen=True)
class Straight:
    """Ridge regression as a global model, with the covariance of what it leaves."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `straight.*`."""

        strength: float = param(0.0, "Of the ridge; 0: chosen by prediction of held-out blocks", 0.0, 1.0)

    A: Tensor  # (dy, dw)
    b: Tensor  # (dy,)
    R: Tensor  # (dy, dy)
    w_scale: Tensor  # (dw,)

    @classmethod
    def fit(cls, data: Data, config: Any, seed: int) -> Straight:
        """The same for every seed."""
        A, b = ridge(data.w, data.y, config.strength or choose_ridge(data.w, data.y))
        R = shrunk_covariance(data.y - data.w @ A.T - b, data.y)
        return cls(*(torch.as_tensor(a) for a in (A, b, R, scale_of(data.w)[1])))

    def mean(self, w: Tensor) -> Tensor:
        """(*b, dw) -> (*b, dy)."""
        return (self.A @ w.unsqueeze(-1)).squeeze(-1) + self.b

    def jacobian(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """(*b, dy), (*b, dy, dw)."""
        return self.mean(w), self.A.expand(*w.shape[:-1], -1, -1)

    def predict(self, w: Tensor) -> Gaussian:
        """Gaussian over y."""
        return Gaussian(self.mean(w), self.R.expand(*w.shape[:-1], -1, -1))
