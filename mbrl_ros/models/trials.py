"""Dynamics of every step of a trial, from few trials (Levine & Abbeel 2014; docs/design.md, "Skills").

At each step the joint Gaussian over z = [w; y] is the maximum a posteriori one, given the z of all trials at that step
and a normal-inverse-Wishart prior: the components of a mixture over many transitions, as responsible as they are for
these z. Conditioned on w it is the dynamics of that step. Five trials of fifteen coordinates say nothing without it.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros import gaussian
from mbrl_ros.models.features import scale_of
from mbrl_ros.models.mixture import Mixture, Parameters, responsibilities
from mbrl_ros.types import Array, NormalInverseWishart

if TYPE_CHECKING:
    from jaxtyping import Float

JITTER = 1e-8  # of the mean variance of w, all in units of the data


def fit_steps(z: Float[Array, "N T d"], dw: int, mixture: Mixture | None, m0: float, n0: float
              ) -> list[tuple[Array, Array, Array]]:
    """F (dy, dw), f (dy,) and Sigma (dy, dy) of every step, from z = [w; y] of N trials; NaN where a trial was over.

    Without a mixture the prior is a deviation of one in units of the data, and as weak as is needed to solve for F.
    """
    flat = z.reshape(-1, z.shape[-1])
    offset, unit = scale_of(flat[np.isfinite(flat[:, 0])])
    steps = []
    known = None if mixture is None else Parameters(
        mixture.weight.numpy(), (mixture.mean_z.numpy() - offset) / unit, mixture.cov.numpy() / np.outer(unit, unit))
    for t in range(z.shape[1]):
        points = (z[np.isfinite(z[:, t, 0]), t] - offset) / unit
        moments = gaussian.empirical_moments(points)
        prior = _flat(moments.mean) if known is None else _prior(known, points, m0, n0)
        F, f, Sigma = gaussian.condition(gaussian.niw_map(moments, prior), dw, JITTER)
        F = F * unit[dw:, None] / unit[:dw]
        f = unit[dw:] * f + offset[dw:] - F @ offset[:dw]
        steps.append((F, f, Sigma * np.outer(unit[dw:], unit[dw:])))
    return steps


def _prior(mixture: Parameters, z: Float[Array, "N d"], m0: float, n0: float) -> NormalInverseWishart:
    """What the components say about these points."""
    part = responsibilities(mixture, z)[0].mean(0)
    mu0 = part @ mixture.mean
    away = mixture.mean - mu0
    cov = np.einsum("k,kij->ij", part, mixture.cov + away[:, :, None] * away[:, None, :])
    return NormalInverseWishart(mu0, n0 * cov, m0, n0)


def _flat(mean: Array) -> NormalInverseWishart:
    return NormalInverseWishart(mean, 1e-4 * np.eye(len(mean)), 1.0, 1e-4)
