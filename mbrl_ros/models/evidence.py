"""How strong a prior recent data call for, by their marginal likelihood (empirical Bayes).

Of N centred rows r = dF w + e, with the prior of the local fit (prior.py)

    dF | Sigma ~ matrix-normal(0, Sigma, (n0 D)^-1),   Sigma ~ inverse-Wishart(Psi, nu),   e ~ N(0, Sigma),

the density is a matrix-t, whose logarithm is, up to what does not depend on n0 (Minka 2000, "Bayesian linear
regression"),

    -dy/2 log |1 + N/n0 D^-1 S_ww| - (nu + N)/2 log |Psi + N (S_rr - S_rw (S_ww + n0/N D)^-1 S_wr)|.

With V'S_ww V = diag(l), V'D V = 1, a candidate n0 costs one determinant of size dy.
"""
from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mbrl_ros.types import Array, Moments

LEAST, MOST, CANDIDATES = 3.0, 300.0, 13  # of n0, evenly in its logarithm
WIDTH = 1.0  # deviation of log n0 about the one given
TEMPER = 0.3  # the rows of a motion are not independent: each counts as so much of one
EVERY, GAIN = 5, 0.1  # evaluated every so many calls, averaged over 50


def log_evidence(n0: Float[Array, " k"], recent: Moments, D: Float[Array, " dw"], Psi: Float[Array, "dy dy"],
                 nu: float) -> Float[Array, " k"]:
    """Log density (k,) of `recent` moments over [w; r] at each n0 (k,), up to a constant; D (dw,) a diagonal, Psi
    (dy, dy) definite."""
    dw, N = len(D), recent.count
    S = recent.cov
    s = np.sqrt(D)
    eigenvalues, V = np.linalg.eigh(S[:dw, :dw] / np.outer(s, s))
    excited = N * np.maximum(eigenvalues, 0.0)
    U = N * (S[dw:, :dw] / s) @ V
    explained = (U / (excited + n0[:, None])[:, None, :]) @ U.T
    left = np.linalg.slogdet(Psi + N * S[dw:, dw:] - explained)[1]
    volume = np.log1p(excited / n0[:, None]).sum(-1)
    evidence: Array = -0.5 * (len(Psi) * volume + (nu + N) * left)
    return evidence


class Strength:
    """n0 that follows the evidence: the mean of log n0 under the tempered evidence and a log-normal hyperprior."""

    def __init__(self, n0: float):
        self._log = self._centre = float(np.log(n0))
        self._log_n0 = np.linspace(np.log(LEAST), np.log(MOST), CANDIDATES)
        self._since = 0

    def update(self, recent: Moments, D: Float[Array, " dw"], Psi: Float[Array, "dy dy"], nu: float) -> float:
        """After one more period; arguments as of `log_evidence`."""
        self._since = (self._since + 1) % EVERY
        if recent.count > 0 and self._since == 0:
            score = (TEMPER * log_evidence(np.exp(self._log_n0), recent, D, Psi, nu)
                     - 0.5 * np.square((self._log_n0 - self._centre) / WIDTH))
            weight = np.exp(score - score.max())
            self._log += GAIN * (weight @ self._log_n0 / weight.sum() - self._log)
        return float(np.exp(self._log))
