"""Checks that know nothing of the code they check: finite differences, dense solutions, random covariances."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from mbrl_ros.types import QuadraticCost

# Central differences of float64: truncation h^2 against rounding eps / h balance at h = eps^(1/3) ~ 6e-6,
# and leave an error of eps^(2/3) ~ 4e-11 times the third derivative.
STEP = 6e-6
TOLERANCE = 1e-7


def assert_close(actual: Tensor, expected: Tensor, rtol: float, atol: float) -> None:
    """torch.testing.assert_close without its import of several seconds."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    np.testing.assert_allclose(actual.detach().cpu().numpy(), expected.detach().cpu().numpy(), rtol=rtol, atol=atol)


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
    assert_close(jacobian @ direction, numeric, rtol=0, atol=TOLERANCE * scale)


def kkt_solution(F: Tensor, f: Tensor, cost: QuadraticCost, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One LQ problem with states and efforts as unknowns and the dynamics as constraints, by one dense solve.

    F (T, n, n + m), f (T, n), x0 (n,) -> x (T + 1, n), u (T, m) and the multipliers of the dynamics (T, n), which are
    the gradients of the values at x_1..x_T.
    """
    T, n, m = len(F), x0.shape[0], F.shape[-1] - x0.shape[0]
    size, p = T * (n + m) + n, n + m  # unknowns [x_0 u_0 x_1 u_1 ... x_T]
    H, h = torch.zeros(size, size, dtype=F.dtype), torch.zeros(size, dtype=F.dtype)
    for t in range(T + 1):
        here = slice(t * p, min((t + 1) * p, size))
        width = here.stop - here.start
        H[here, here], h[here] = cost.C[t, :width, :width], cost.c[t, :width]
    A, b = torch.zeros((T + 1) * n, size, dtype=F.dtype), torch.zeros((T + 1) * n, dtype=F.dtype)
    A[:n, :n], b[:n] = torch.eye(n, dtype=F.dtype), x0
    for t in range(T):
        rows = slice((t + 1) * n, (t + 2) * n)
        A[rows, t * p: (t + 1) * p] = -F[t]
        A[rows, (t + 1) * p: (t + 1) * p + n] = torch.eye(n, dtype=F.dtype)
        b[rows] = f[t]
    zero = torch.zeros(len(b), len(b), dtype=F.dtype)
    solution = torch.linalg.solve(torch.cat([torch.cat([H, A.T], 1), torch.cat([A, zero], 1)]), torch.cat([-h, b]))
    z = torch.cat([solution[:size], torch.zeros(m, dtype=F.dtype)]).reshape(T + 1, p)
    return z[:, :n], z[:-1, n:], -solution[size + n:].reshape(T, n)


def quadratic_form(function: Callable[[Tensor], Tensor], size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """H, g, r of a quadratic function 1/2 z'Hz + g'z + r of z (size,), by automatic differentiation at zero."""
    zero = torch.zeros(size, dtype=torch.float64)
    H = torch.autograd.functional.hessian(function, zero)
    g = torch.autograd.functional.jacobian(function, zero)
    return H.numpy(), g.numpy(), float(function(zero))


def box_minimum(H: np.ndarray, g: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Minimiser of 1/2 z'Hz + g'z within bounds, as the bounded least squares problem |L'z + L^-1 g|^2 of SciPy."""
    L = np.linalg.cholesky(H)
    result = scipy.optimize.lsq_linear(L.T, -np.linalg.solve(L, g), bounds=(low, high), method="bvls", tol=1e-15)
    return result.x
