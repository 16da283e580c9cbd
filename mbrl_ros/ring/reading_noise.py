"""How noisy position and velocity readings are, per joint, from how far they contradict each other.

With white noise of variances r_q and r_v, d_k = q_k - q_{k-1} - h/2 (v_k + v_{k-1}) is noise whatever the motion, but
for the error of the trapezoid and the lag of filtered velocities. Both grow with acceleration, so what goes with
b_k = (v_k - v_{k-2}) / 2 is taken out: e = d - s b. One period apart the noise of d and b does not correlate, hence
s = (E[d_k b_{k-1}] + E[b_k d_{k-1}]) / 2 E[b_k b_{k-1}]. The first two autocovariances of e,

    E[e_k e_k] = 2 r_q + (h^2 + s (h + s)) / 2 r_v,    E[e_k e_{k-1}] = -r_q + h^2 / 4 r_v,

are two equations for r_q and r_v (autocovariance least squares: Odelson, Rajamani & Rawlings 2006; here without a
filter).
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

MOST = 100.0  # times the least standard deviations; nothing beyond is believed
OUTLIER = 5.0  # standard deviations of e that one reading counts for at most


class ReadingNoise:
    """`variance` (2, m) of positions and velocities, from the square of the `least` deviations (2,) upwards."""

    def __init__(self, least: tuple[float, float], joints: int, period: float, memory: float):
        (q, v), h = np.square(least), period
        self.h, self.gain = h, 1 - np.exp(-h / memory)
        self.least, self.most = np.array([[q], [v]]), MOST**2 * np.array([[q], [v]])
        dd, db, bb = [2 * q + h * h * v / 2, h * h * v / 4 - q], [-h * v / 2, 0.0], [v / 2, 0.0]
        self.moments = np.tile(np.array([dd, db, bb])[:, :, None], joints)  # (3, lag, m) E[dd'], E[db' + bd'], E[bb']
        self._q, self._tiny = float(q), 1e-3 * float(v)
        self.restart()
        self._solve()

    def restart(self) -> None:
        """The next reading does not follow the last one; what was learned stays."""
        self._readings: list[Array] = []
        self._last: tuple[Array, Array] | None = None  # d, b

    def update(self, reading: Float[Array, "2 m"], h: float) -> None:
        """Take a reading, h [s] after the last; one that is not finite is a restart."""
        if not np.isfinite(reading).all():
            return self.restart()
        self._readings = [*self._readings[-2:], reading]
        if len(self._readings) < 3:
            return
        (_, v0), (q1, v1), (q2, v2) = self._readings
        d, b = q2 - q1 - 0.5 * h * (v1 + v2), 0.5 * (v2 - v0)
        e = d - self._s * b
        if (e * e > self._bound).any():
            part = np.sqrt(self._bound / np.maximum(e * e, self._bound))
            d, b = part * d, part * b
        if self._last is not None:
            D, B = np.array([[d, self._last[0]], [b, self._last[1]]])  # (lag, m)
            self.moments += self.gain * (np.array([d * D, d * B + b * D, b * B]) - self.moments)
            self._solve()
        self._last = d, b

    def _solve(self) -> None:
        h, M = self.h, self.moments
        still = 0.25 * M[2, 0] + self._tiny  # below which E[b_k b_{k-1}] is hardly motion
        moved = M[2, 1]
        s = 0.5 * M[1, 1] * moved / np.maximum(moved * moved, still * still)  # [s]
        now, lagged = M[0] - s * (M[1] - s * M[2])
        a = 0.5 * (h * h + s * (h + s))
        v = (now + 2 * lagged) / (a + 0.5 * h * h)
        q = 0.5 * (now - a * v)
        self.variance = np.minimum(np.maximum(np.array([q, v]), self.least), self.most)
        self._s, self._bound = s, OUTLIER**2 * np.maximum(now, self._q)
