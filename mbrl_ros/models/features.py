"""What a model regresses on what, and how that becomes a model of x.

x holds rows that are fitted (joint positions and velocities, tool positions and velocities) and a memory of past
efforts, newest first in groups of m, which is a shift register and needs no learning. The regression is

    w = [x_reg; u] (dw,)   ->   y = x'_fit - x_fit (dy,)

and x' = x with y added to the fitted rows and u shifted into the memory. Regressing on the difference keeps the
identity out of the fit; w and y are scaled by the training data wherever units would matter.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbrl_ros.types import Array, Gaussian, LinearGaussianDynamics, Transitions

if TYPE_CHECKING:
    from mbrl_ros.robot import Robot

# A column whose deviation is below this part of its size (or this, in SI units) is taken as constant: rounding of
# constants in float64 is 1e-16 of their size, and no sensor of a robot resolves 1e-8.
CONSTANT = 1e-8


@dataclass(frozen=True)
class Features:
    """Which rows of x (n,) are regressors, which are fitted; works on numpy arrays and torch tensors alike."""

    reg: tuple[int, ...]
    fit: tuple[int, ...]
    n: int  # dim x
    m: int  # dim u

    def __post_init__(self) -> None:
        if len(self.memory) % self.m or not all(0 <= i < self.n for i in (*self.reg, *self.fit)):
            raise ValueError(f"features: {len(self.memory)} rows of x are neither fitted nor whole groups of "
                             f"{self.m} past efforts, or an index is outside 0..{self.n - 1}")

    @cached_property
    def memory(self) -> list[int]:
        """The rows of x that hold past efforts, newest first in groups of m."""
        return [i for i in range(self.n) if i not in self.fit]

    @property
    def dw(self) -> int:
        return len(self.reg) + self.m

    @property
    def dy(self) -> int:
        return len(self.fit)

    def w(self, x: Float[Array, "*b n"], u: Float[Array, "*b m"]) -> Float[Array, "*b dw"]:
        """[x_reg; u] (*b, dw)."""
        return _concatenate(x[..., self._reg], u)

    def y(self, x: Float[Array, "*b n"], x_next: Float[Array, "*b n"]) -> Float[Array, "*b dy"]:
        """x'_fit - x_fit (*b, dy)."""
        return x_next[..., self._fit] - x[..., self._fit]

    def next_state(self, x: Float[Array, "*b n"], u: Float[Array, "*b m"], y: Float[Array, "*b dy"]) -> Float[Array,
                   "*b n"]:
        """x' (*b, n) from x (*b, n), u (*b, m) and y (*b, dy)."""
        rows, memory = self._fit, self.memory
        x_next = _zeros(y, (*y.shape[:-1], self.n)) + x
        x_next[..., rows] = x[..., rows] + y
        if memory:
            x_next[..., memory] = _concatenate(u, x[..., memory[: -self.m]])
        return x_next

    def lift_matrix(self, J: Float[Array, "*b dy dw"]) -> Float[Array, "*b n xu"]:
        """F = dx'/d[x; u] (*b, n, n + m) from J = dy/dw (*b, dy, dw)."""
        k, u = len(self.reg), slice(self.n, self.n + self.m)
        F = _repeated(J, self._kept)
        F[(..., *self._slopes)] += J[..., :k]
        F[..., self._fit, u] = J[..., k:]
        return F

    def lower_matrix(self, F: Float[Tensor, "n xu"]) -> Float[Tensor, "dy dw"]:
        """J = dy/dw (dy, dw) of an F (n, n + m) that `lift_matrix` made."""
        J: Tensor = (F - torch.as_tensor(self._kept).to(F))[list(self.fit)]
        return J[:, [*self.reg, *range(self.n, self.n + self.m)]]

    @cached_property
    def _kept(self) -> Array:
        """F (n, n + m) where nothing changes by itself: x and the memory of efforts."""
        F = np.eye(self.n, self.n + self.m)
        F[self.memory] = 0.0
        F[self.memory, [*range(self.n, self.n + self.m), *self.memory[: -self.m]][: len(self.memory)]] = 1.0
        return F

    @cached_property
    def _reg(self) -> slice | list[int]:
        return _in_a_row(self.reg)

    @cached_property
    def _fit(self) -> slice | list[int]:
        return _in_a_row(self.fit)

    @cached_property
    def _slopes(self) -> tuple[Any, Any]:
        """Where dy/dx_reg is in F."""
        pair = self._fit, self._reg
        return pair if all(isinstance(rows, slice) for rows in pair) else np.ix_(self.fit, self.reg)  # type: ignore

    @cached_property
    def _square(self) -> tuple[Any, Any]:
        """Where the covariance of y is in that of x."""
        return (self._fit, self._fit) if isinstance(self._fit, slice) else np.ix_(self.fit, self.fit)  # type: ignore

    def lift_covariance(self, cov: Float[Array, "*b dy dy"]) -> Float[Array, "*b n n"]:
        """Covariance (*b, n, n) of x' from that of y (*b, dy, dy); zero for the memory, which is exact."""
        Sigma = _zeros(cov, (*cov.shape[:-2], self.n, self.n))
        Sigma[(..., *self._square)] = cov
        return Sigma

    def dynamics(self, F: Float[Array, "*b dy dw"], f: Float[Array, "*b dy"],
                 Sigma: Float[Array, "*b dy dy"]) -> LinearGaussianDynamics:
        """x' ~ N(. [x; u] + ., .) from y ~ N(F w + f, Sigma)."""
        offset = _zeros(f, (*f.shape[:-1], self.n))
        offset[..., self._fit] = f
        return LinearGaussianDynamics(self.lift_matrix(F), offset, self.lift_covariance(Sigma))


@dataclass(frozen=True)
class Data:
    """What a model is fitted to: N pairs in the order of time, and the robot for models that know one."""

    features: Features
    w: Array  # (N, dw)
    y: Array  # (N, dy)
    robot: Robot | None = None

    @classmethod
    def of(cls, transitions: Transitions, features: Features, robot: Robot | None = None) -> Data:
        """The pairs of a set of transitions."""
        t = transitions
        return cls(features, features.w(t.x, t.u), features.y(t.x, t.x_next), robot)


class Regression(Protocol):
    """A fitted model y = g(w) + noise over torch tensors; `w_scale` is the deviation of the w it was fitted to."""

    w_scale: Tensor  # (dw,)

    def mean(self, w: Tensor) -> Tensor: ...  # (*b, dw) -> (*b, dy)

    def jacobian(self, w: Tensor) -> tuple[Tensor, Tensor]: ...  # -> g (*b, dy), dg/dw (*b, dy, dw)

    def predict(self, w: Tensor) -> Gaussian: ...  # over y


@dataclass(frozen=True)
class FeatureModel:
    """A regression as a model of x': a DynamicsModel."""

    features: Features
    regression: Any  # Regression

    def w(self, x: Tensor, u: Tensor) -> Tensor:
        """The regressors (*b, dw)."""
        return self.features.w(x, u)

    def next_state(self, x: Tensor, u: Tensor, y: Tensor) -> Tensor:
        """x' (*b, n) where the fitted rows change by y (*b, dy)."""
        return self.features.next_state(x, u, y)

    def mean(self, x: Tensor, u: Tensor) -> Tensor:
        """E[x'] (*b, n)."""
        return self.next_state(x, u, self.regression.mean(self.w(x, u)))

    def jacobian(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """E[x'] (*b, n) and its derivative F (*b, n, n + m) by [x; u]."""
        y, J = self.regression.jacobian(self.features.w(x, u))
        return self.features.next_state(x, u, y), self.features.lift_matrix(J)

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """Gaussian over x'; its covariance is zero on the memory rows."""
        y = self.regression.predict(self.w(x, u))
        return Gaussian(self.next_state(x, u, y.mean), self.features.lift_covariance(y.cov))


def scale_of(z: Float[Array, "N d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Mean (d,) and deviation (d,) of z (N, d); the deviation of a constant column is 1, so that it stays harmless."""
    mean, deviation = z.mean(0), z.std(0)
    return mean, np.where(deviation > CONSTANT * np.maximum(1.0, np.abs(mean)), deviation, 1.0)


def time_folds(N: int, folds: int) -> Array:
    """The fold (N,) of every row: contiguous blocks in turn, as long as there is data for, at most 50 rows each.

    Neighbours in time are nearly equal, so random rows would let a model be tested on what it was fitted to, and find
    itself better than it is; so do short blocks.
    """
    block = int(np.clip(N // folds, 1, 50))
    return (np.arange(N) // block) % folds


def _zeros(like: Array, shape: tuple[int, ...]) -> Array:
    return like.new_zeros(shape) if isinstance(like, Tensor) else np.zeros(shape)


def _repeated(like: Array, matrix: Array) -> Array:
    """A matrix for every one of `like` (*b, r, c)."""
    if isinstance(like, Tensor):
        return torch.as_tensor(matrix, dtype=like.dtype, device=like.device).repeat(*like.shape[:-2], 1, 1)
    return np.tile(matrix, (*like.shape[:-2], 1, 1)) if like.ndim > 2 else matrix.copy()


def _in_a_row(rows: tuple[int, ...]) -> slice | list[int]:
    """As a slice where they are consecutive: a view is quicker than a copy."""
    if rows and rows == tuple(range(rows[0], rows[-1] + 1)):
        return slice(rows[0], rows[-1] + 1)
    return list(rows)


def _concatenate(a: Array, b: Array) -> Array:
    return torch.cat([a, b], -1) if isinstance(a, Tensor) else np.concatenate([a, b], -1)
