"""Trajectories of a model: of its mean, or of worlds drawn from what it does not know.

A stepper is a function (x, u) -> x' over tensors, x (*b, n), u (*b, m). There are four ways to make one from a model:

    mean      E[x']
    sample    a draw from `predict` at every step: noise and doubt together, fresh each time
    member    one member of an ensemble for each particle, the same at every step (TS-inf of Chua et al. 2018)
    resample  likewise, but dealt anew at every step (TS-1)

Particles are the first axis of x: particle i follows member i mod E, so that all candidates beside it (further axes)
meet the same worlds, and as many particles as members meet each once. Members that know the noise of an outcome have it
drawn, as in PETS, once a step and particle; others are followed without.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import ConfigError
from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.types import Array, LinearGaussianDynamics

Step = Callable[[Tensor, Tensor], Tensor]
WAYS = MEAN, SAMPLE, MEMBER, RESAMPLE = ("mean", "sample", "member", "resample")


def rollout(model: Any, x0: Array, u: Array) -> Array:
    """States (*b, T + 1, n) of the mean dynamics from x0 (*b, n) under u (*b, T, m); batches may be broadcast.

    Of numpy arrays where the model is a LinearGaussianDynamics of such.
    """
    if not isinstance(model, LinearGaussianDynamics):
        return follow(stepper(model, MEAN), x0, u)
    drive = (model.B @ u[..., None])[..., 0] + model.f  # (*b, T, n)
    As = per_step(model.A, u.shape[-2])
    x = [_spread_over(x0, drive)]
    step = torch.addmv if isinstance(u, Tensor) and drive.ndim == 2 and x0.ndim == 1 else _addmv
    for t, A in enumerate(As):
        x.append(step(drive[..., t, :], A, x[-1]))
    return torch.stack(x, -2) if isinstance(u, Tensor) else np.stack(x, -2)


def follow(step: Step, x0: Tensor, u: Tensor) -> Tensor:
    """States (*b, T + 1, n) of a stepper from x0 (*b, n) under u (*b, T, m); batches may be broadcast."""
    batch = torch.broadcast_shapes(x0.shape[:-1], u.shape[:-2])
    x, u = [x0.expand(*batch, -1)], u.expand(*batch, -1, -1)
    for u_t in u.unbind(-2):
        x.append(step(x[-1], u_t))
    return torch.stack(x, -2)


def stepper(model: Any, way: str, seed: int = 0) -> Step:
    """A stepper of the model; the same seed draws the same worlds.

    Raises ConfigError that names the ways there are, where the model cannot do this one.
    """
    ways = ways_of(model)
    if way not in ways:
        raise ConfigError(f"{way!r}: this model cannot be followed like that; choose one of {', '.join(ways)}")
    if way == MEAN:
        return lambda x, u: predict_mean(model, x, u)
    return _Sample(model, seed) if way == SAMPLE else _Members(model, way == RESAMPLE, seed)


def ways_of(model: Any) -> Sequence[str]:
    """Those of WAYS that the model, or kind of model, can do: all where it is an ensemble, or a regression by one."""
    return WAYS if hasattr(getattr(model, "regression", model), "each") else WAYS[:2]


class _Sample:
    """x' drawn from `predict`; from the regression where there is one, so that kinematics stay exact."""

    def __init__(self, model: Any, seed: int):
        self._model, self._seed = model, seed
        self._generator: torch.Generator | None = None
        linear = isinstance(model, LinearGaussianDynamics)
        self._root = _root(torch.as_tensor(model.Sigma)) if linear else None

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        model = self._model
        if self._root is not None:
            mean = predict_mean(model, x, u)
            drawn = self._draw(mean, self._root)
            if model.leverage is not None:
                h = torch.cat([torch.ones_like(x[..., :1]), x, u], -1)
                more = (h * (model.leverage @ h.unsqueeze(-1)).squeeze(-1)).sum(-1, keepdim=True)
                drawn = drawn * (1 + more).clamp(min=0.0).sqrt()
            return mean + drawn
        if hasattr(model, "regression"):
            y = model.regression.predict(model.w(x, u))
            drawn = y.mean + self._draw(y.mean, torch.linalg.cholesky_ex(y.cov)[0])
            state: Tensor = model.next_state(x, u, drawn)
            return state
        p = model.predict(x, u)
        return p.mean + self._draw(p.mean, _root(p.cov))

    def _draw(self, like: Tensor, root: Tensor) -> Tensor:
        if self._generator is None:
            self._generator = torch.Generator(like.device).manual_seed(self._seed)
        noise = torch.randn(like.shape, generator=self._generator, dtype=like.dtype, device=like.device)
        return (root @ noise.unsqueeze(-1)).squeeze(-1)


class _Members:
    """x' of one member for every particle (the first axis of x), dealt once or at every step."""

    def __init__(self, model: Any, anew: bool, seed: int):
        self._model, self._anew, self._generator = model, anew, torch.Generator().manual_seed(seed)
        self._outcomes = getattr(model.regression, "outcomes", lambda w: (model.regression.each(w), None))

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        model, E, P = self._model, self._model.regression.count, len(x)
        w = model.w(x, u)
        rounds, plain = -(-P // E), not self._anew and P % E == 0
        if not plain:
            rows = torch.randperm(P, generator=self._generator) if self._anew else torch.arange(P)
            w = w[rows[torch.arange(rounds * E) % P]]  # rows[i] follows member i mod E
        y, deviation = self._outcomes(w.reshape(rounds, E, *w.shape[1:]).movedim(1, 0))  # (E, rounds, *b, dw)
        if deviation is not None:
            noise = torch.randn((P, *[1] * (x.dim() - 2), y.shape[-1]), generator=self._generator, dtype=y.dtype)
            y, deviation = (a.movedim(0, 1).flatten(0, 1)[:P] for a in (y, deviation))
            y = y + deviation * noise.to(y.device)
        else:
            y = y.movedim(0, 1).flatten(0, 1)[:P]
        state: Tensor = model.next_state(x, u, y if plain else y[rows.argsort()])
        return state


def _root(cov: Tensor) -> Tensor:
    """R (*b, n, n) with R R' = cov, which may be singular, as it is on past efforts and tools."""
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp(min=0.0).sqrt().unsqueeze(-2)


def _spread_over(x0: Array, drive: Array) -> Array:
    """x0 (*b, n) with the batch axes of drive (*b, T, n) and its own."""
    if isinstance(drive, Tensor):
        return x0.expand(*torch.broadcast_shapes(x0.shape[:-1], drive.shape[:-2]), -1)
    return np.broadcast_to(x0, (*np.broadcast_shapes(x0.shape[:-1], drive.shape[:-2]), x0.shape[-1]))


def _addmv(c: Array, A: Array, x: Array) -> Array:
    return c + (A @ x[..., None])[..., 0]


def per_step(matrix: Array, T: int) -> list[Array]:
    """T matrices of (*b, T or 1, r, c) or (r, c)."""
    if matrix.ndim == 2:
        return [matrix] * T
    return [matrix[..., t if matrix.shape[-3] == T else 0, :, :] for t in range(T)]
