"""Which problems the compiled kernels solve, what they are given of one, and records of numpy arrays for those of
tensors."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.planners.lqr import spread_of
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.types import Array, LinearGaussianDynamics

NO_SPREAD = (np.empty((0, 0)),) * 2  # for the kernels: a model without one


def is_common(problem: Problem) -> bool:
    """Whether the kernel solves it: one problem on the CPU in double precision, linear dynamics, the cost of a task.

    The kernel trusts sizes; where they do not fit, torch says so.
    """
    return has_sizes(problem) and all(a.dtype == torch.float64 and a.device.type == "cpu" for a in _floats(problem))


def _floats(problem: Problem) -> tuple[Array, ...]:
    model, cost = problem.model, problem.cost
    assert isinstance(cost, ResidualCost)
    return (problem.x0, model.F, model.f, cost.R, cost.reference, cost.scale, cost.width, problem.lower, problem.upper,
            *(spread_of(model) or ()))


def has_sizes(problem: Problem) -> bool:
    """Whether kind and sizes are such that the kernel solves it."""
    model, cost, x0 = problem.model, problem.cost, problem.x0
    if not (x0.ndim == 1 and isinstance(model, LinearGaussianDynamics) and isinstance(cost, ResidualCost)):
        return False
    (T, m), n, k, spread = problem.lower.shape, len(x0), len(cost.R), spread_of(model) or ()
    return (cost.dead.shape == cost.width.shape == (k,) and cost.R.shape == (k, n + m)
            and cost.reference.shape == cost.scale.shape == (T + 1, k) and problem.upper.shape == (T, m)
            and tuple(a.shape for a in spread) in ((), ((n, n), (1 + n + m, 1 + n + m)))
            and model.F.shape in ((n, n + m), (1, n, n + m), (T, n, n + m)) and model.f.shape == model.F.shape[:-1])


def arrays(problem: Problem) -> tuple[Array, ...]:
    """What the kernels want of such a problem, of tensors or of numpy arrays, before the limits of the efforts."""
    model, cost = problem.model, problem.cost
    assert isinstance(model, LinearGaussianDynamics) and isinstance(cost, ResidualCost)
    n, p = model.F.shape[-2:]
    return tuple(map(np.ascontiguousarray, (problem.x0, model.F.reshape(-1, n, p), model.f.reshape(-1, n), cost.R,
                                            cost.reference, cost.scale, cost.width, cost.dead)))


def in_numpy(record: Any) -> Any:
    """A record, and the records in it, with numpy arrays for tensors."""
    return _converted(record, lambda a: a.detach().numpy())


def in_torch(record: Any) -> Any:
    """The other way round; the memory is the same."""
    return _converted(record, torch.as_tensor)


def _converted(value: Any, convert: Callable[[Any], Any]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(*(_converted(field, convert) for field in vars(value).values()))
    return convert(value) if isinstance(value, (np.ndarray, Tensor)) else value
