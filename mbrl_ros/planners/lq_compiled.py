"""The kernel of lq_kernel.py for the planners: one problem on the CPU with linear dynamics, in and out of torch."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.planners.problem import Problem
from mbrl_ros.types import STATUSES, LinearGaussianDynamics, QuadraticCost


class CompiledLq:
    """A workspace of a planner, made for the size of its first problem: compiling takes seconds the first time ever."""

    def __init__(self) -> None:
        self._workspace: Any = None
        self._size: tuple[Any, ...] = ()

    @staticmethod
    def applies(problem: Problem) -> bool:
        """One problem on the CPU, of a size that is compiled, linear, without a leverage, in one floating type.

        Where sizes do not fit, torch says so.
        """
        model, x0 = problem.model, problem.x0
        if not (x0.ndim == 1 and isinstance(model, LinearGaussianDynamics) and model.leverage is None):
            return False
        from mbrl_ros.kernels.lq_kernel import MOST_EFFORTS, MOST_STATES
        (T, m), n = problem.lower.shape, len(x0)
        tensors = (x0, model.F, model.f, problem.lower, problem.upper)
        return (n <= MOST_STATES and m <= MOST_EFFORTS and x0.dtype in (torch.float64, torch.float32)
                and all(a.dtype == x0.dtype and a.device.type == "cpu" for a in tensors)
                and problem.upper.shape == (T, m) and model.f.shape == model.F.shape[:-1]
                and model.F.shape in ((n, n + m), (1, n, n + m), (T, n, n + m)))

    def sweep(self, problem: Problem, cost: QuadraticCost) -> tuple[str, Tensor, Tensor, Tensor, Tensor]:
        """Status, x, u, K and the inverse of Q_uu of one pass, rolled out within limits."""
        workspace = self._load(problem, cost)
        status, _ = workspace.sweep(_array(problem.x0))
        s = workspace.solution()
        x, u, K, Quu = (torch.from_numpy(a.copy()) for a in (s.x, s.u, s.K, s.Quu))
        return STATUSES[status], x, u, K, torch.cholesky_inverse(torch.linalg.cholesky(Quu))

    def solve(self, problem: Problem, cost: QuadraticCost, u: Tensor, config: Any, iterations: int,
              slack: float) -> tuple[Any, ...]:
        """x, u, K, Sigma, cost, status and iterations as in ilqr.Solution, from the efforts u (T, m)."""
        from mbrl_ros.kernels.lq_kernel import Settings
        settings = Settings(**{name: getattr(config, name) for name in Settings._fields[:-2]},
                            box_iterations=iterations, box_slack=slack)
        workspace = self._load(problem, cost)
        workspace.forget()  # the same problem has the same plan
        status, value = workspace.solve(_array(problem.x0), _array(u), settings)
        s = workspace.solution()
        x, efforts, K, Quu = (torch.from_numpy(a.copy()) for a in (s.x, s.u, s.K, s.Quu))
        if not np.isfinite(value):
            x, efforts = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0), u
        Sigma = torch.cholesky_inverse(torch.linalg.cholesky(Quu)) if s.solved else torch.zeros_like(Quu)
        return x, efforts, K, Sigma, value, STATUSES[status], s.passes

    def _load(self, problem: Problem, cost: QuadraticCost) -> Any:
        from mbrl_ros.kernels.lq_kernel import Workspace  # may compile: not where only settings are wanted
        (T, m), n, dtype = problem.lower.shape, len(problem.x0), _array(problem.x0).dtype
        if self._size != (n, m, T, dtype):
            self._workspace, self._size = Workspace(n, m, T, dtype), (n, m, T, dtype)
        model = problem.model
        self._workspace.load(*map(_array, (model.F.reshape(-1, n, n + m), model.f.reshape(-1, n), cost.C, cost.c,
                                           cost.const)))
        self._workspace.limit(_array(problem.lower), _array(problem.upper))
        return self._workspace


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()
