"""Checks that need no knowledge of what they check: finite differences, random covariances, dense solutions."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.types import QuadraticCost

# Central differences of float64: truncation h^2 against rounding eps / h balance at h = eps^(1/3) ~ 6e-6,
# and leave an error of eps^(2/3) ~ 4e-11 times the third derivative.
STEP = 6e-6
TOLERANCE = 1e-7


def random_covariance(n: int, seed: int, floor: float = 0.1) -> np.ndarray:
    """A well-conditioned covariance (n, n)."""
    W = np.random.default_rng(seed).normal(size=(n, n))
    return W @ W.T / n + floor * np.eye(n)


def directional_derivative(function: Callable[[Tensor], Tensor], z: Tensor, direction: Tensor) -> Tensor:
    """d/ds function(z + s direction) at s = 0 by central differences."""
    return (function(z + STEP * direction) - function(z - STEP * direction)) / (2 * STEP)


def check_jacobian(function: Callable[[Tensor], Tensor], z: Tensor, jacobian: Tensor, seed: int = 0) -> None:
    """`jacobian` (p, d) of `function` (d,) -> (p,) agrees with finite differences along a random direction."""
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=z.dtype)
    numeric = directional_derivative(function, z, direction)
    scale = 1 + float(numeric.abs().max())
    torch.testing.assert_close(jacobian @ direction, numeric, rtol=0, atol=TOLERANCE * scale)


def dense_lq(F: Tensor, f: Tensor, cost: QuadraticCost, x0: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One LQ problem as a quadratic in the stacked efforts: J = 1/2 U'H U + g'U + r, and X = S U + s.

    F (T, n, n + m), f (T, n), x0 (n,). Returns H (T m, T m), g (T m,), r (), and the map of U to all h = [x; u] by
    columns is not needed by anybody, so it is not returned.
    """
    T, n, m = len(F), x0.shape[0], F.shape[-1] - x0.shape[0]
    maps, offsets = _condense(F, f, x0)
    H, g, r = torch.zeros(T * m, T * m, dtype=F.dtype), torch.zeros(T * m, dtype=F.dtype), torch.zeros((), dtype=F.dtype)
    for t in range(T + 1):
        E = torch.zeros(n + m, T * m, dtype=F.dtype)
        E[:n] = maps[t]
        if t < T:
            E[n:, t * m: (t + 1) * m] = torch.eye(m, dtype=F.dtype)
        e = torch.cat([offsets[t], torch.zeros(m, dtype=F.dtype)])
        C, c = cost.C[t].clone(), cost.c[t].clone()
        if t == T:
            C[n:], C[:, n:], c[n:] = 0.0, 0.0, 0.0
        H += E.T @ C @ E
        g += E.T @ (C @ e + c)
        r += 0.5 * e @ C @ e + c @ e + cost.const[t]
    return H, g, r, torch.stack(maps)
