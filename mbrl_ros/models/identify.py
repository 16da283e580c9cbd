"""Masses, damping, dry friction and payload from recorded motion, with intervals.

Wanted is the posterior N(theta, P) of u = tau_0 + Y theta - d (inverse_dynamics.py) with theta ~ N(theta_0, P_0) as on
the data sheet. The disturbance d and the noise in Y shape the method (compare Swevers et al. 1997):

1. Weak form (Shinbrot 1957). Both sides are averaged under a triangle L of half width b = n periods. Of efforts that
   are held for a period, and of the acceleration, that average is exact:
       int L qdd dt = (q[k + n] - 2 q[k] + q[k - n]) / b^2.
   Only positions are used: the speeds that robots report are filtered, late, and different from maker to maker.
2. Rows near a standstill have no weight: what friction is there, no sign of a speed tells.
3. When exactly an effort acts is not known to a millisecond, and half of one is damping that is not there: a delay
   (negative: early) common to all joints is estimated along, by a column of du/dt.
4. Least squares by frequency (Whittle 1953): over the bins f up to HIGHEST, above which noise of the positions rules,
   the rest e = u - tau_0 - Y theta has an own power S in every band and joint, estimated from the fit itself,
       P^-1 = P_0^-1 + sum 2 Re(Y_f^H Y_f) / S_f,   theta = theta_0 + P sum 2 Re(Y_f^H (u - tau_0 - Y theta_0)_f) / S_f.
   That takes d as what it is, coloured, without a model of its colour.

What the motion does not determine keeps its prior, and the interval says so.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float

from mbrl_ros.gaussian import Z95, symmetrize
from mbrl_ros.models.features import Data
from mbrl_ros.models.inverse_dynamics import DAMPING, MASS, UNITS, Parameters, regressor
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

HALF_WIDTH = 0.04  # [s] of L: its first zero, 25 Hz, is far above HIGHEST
HIGHEST = 6.0  # [Hz]
STANDSTILL = 0.03  # of the velocity limit
FADE = 3  # samples over which weights fall to zero, before and after a standstill
TAPER = 0.1  # of a run, at each end
SHORTEST = 1.0  # [s]; shorter runs have no spectrum to speak of
BINS = 40  # in a band, at least: a power known from fewer makes intervals too narrow
ITERATIONS = 8
LEAST_POWER = 1e-24  # of the power of the effort: exact data are fitted to rounding
DELAY_DEVIATION = 2e-3  # [s]; whole periods of delay are a setting
FRICTION_DEVIATION = 0.02  # of the effort limit: no data sheet has dry friction
ROUNDING = 1e-9


class Stretch(NamedTuple):
    """Motion without a gap: the effort u[k] acts from q[k] to q[k + 1]."""

    q: Array  # (T + 1, m) [rad or m]
    u: Array  # (T, m) [N m or N]


def runs_of(data: Data, robot: Robot, delay: int) -> list[Stretch]:
    """The runs that transitions in the order of time make up; with a delay, the effort of that lag in x acts."""
    m, (w, y) = robot.m, (data.w, data.y)
    if data.features.reg[: 2 * m] != tuple(range(2 * m)) or data.features.fit != tuple(range(2 * m)):
        raise ValueError("identify: expected joint positions and velocities as the first regressors and all rows")
    acting = w[:, -m:] if delay == 0 else w[:, 2 * m + (delay - 1) * m : 2 * m + delay * m]
    motion, after = w[:, : 2 * m], w[:, : 2 * m] + y  # of one run exactly equal but for the rounding of y
    gaps = 1 + np.flatnonzero(np.abs(motion[1:] - after[:-1]).max(1) > ROUNDING * (1 + np.abs(motion[1:]).max(1)))
    parts = np.split(np.arange(len(w)), gaps) if len(w) else []
    return [Stretch(np.vstack([motion[i, :m], after[i[-1:], :m]]), acting[i]) for i in parts]


class Estimate(NamedTuple):
    """Parameters with their covariance, and what was known before."""

    parameters: Parameters
    cov: Array  # (p, p)
    sheet: Array  # (p,)
    deviation: Array  # (p,), of the prior
    delay: Array  # (2,) [s], mean and standard deviation

    @property
    def std(self) -> Array:
        """(p,)"""
        return np.sqrt(np.diag(self.cov))

    @property
    def from_data(self) -> Array:
        """Which part (p,) of the prior variance the motion has removed: 0 is nothing learnt, 1 is all."""
        return 1 - np.divide(self.std**2, self.deviation**2, out=np.ones_like(self.std), where=self.deviation > 0)

    def combinations(self) -> tuple[Array, Array]:
        """Independent directions of the masses (k, k), a row each, and the part of their prior deviation that is left.

        Rows are in units of the prior deviation, best known first. Masses that only act together (the links of an arm
        whose weight is compensated) are known in combinations: a row near 0 is determined, one near 1 is not.
        """
        rows = self.parameters.rows(MASS)
        values, V = np.linalg.eigh((self.cov / np.outer(self.deviation, self.deviation))[np.ix_(rows, rows)])
        return V.T * np.sign(V[np.abs(V).argmax(0), np.arange(len(rows))])[:, None], np.sqrt(np.maximum(values, 0.0))

    def table(self) -> str:
        """All parameters with their 95 % intervals, and the combinations of masses."""
        lines = [f"{'':22s}{'data sheet':>11s}{'estimate':>10s}   95 % interval        from data"]
        for (kind, of), sheet, value, s, known in zip(self.parameters.names, self.sheet, self.parameters.theta,
                                                      self.std, self.from_data, strict=True):
            low, high = value - Z95 * s, value + Z95 * s
            lines.append(f"{kind:9s}{of:13s}{sheet:11.3f}{value:10.3f}   {low:8.3f} to {high:7.3f}"
                         f"{100 * known:9.0f} %   {UNITS[kind]}")
        lines.append(f"efforts act {1e3 * self.delay[0]:.2f} +- {1e3 * Z95 * self.delay[1]:.2f} ms late")
        lines.append("masses in combinations, in units of their prior deviations; how much of that is left:")
        for row, left in zip(*self.combinations(), strict=True):
            terms = [f"{w:+.2f} {name}" for w, name in zip(row, self.parameters.bodies, strict=True) if abs(w) > 0.15]
            lines.append(f"{left:8.3f}   {' '.join(terms)}")
        return "\n".join(lines)


def identify(robot: Robot, model: mujoco.MjModel, runs: Sequence[Stretch], deviation: float, payload_deviation: float
             ) -> Estimate:
    """The posterior from the motion of a robot whose data sheet is `model`, which is not changed.

    deviation: relative standard deviation of masses and damping on the sheet; payload_deviation [kg].
    """
    prior = Parameters.of(robot, model)
    std = deviations(prior, robot, deviation, payload_deviation)
    spectra = [spectrum(robot, model, run, prior.theta) for run in runs
               if len(run.u) * robot.step >= SHORTEST and len(run.u) > 4 * _half(robot)]
    if not spectra:
        return Estimate(prior, np.diag(std**2), prior.theta, std, np.array([0.0, DELAY_DEVIATION]))
    f, e, Y, weight, power = (np.concatenate(parts) for parts in zip(*spectra, strict=True))
    delta, cov = posterior(f, e, Y, weight, np.append(std, DELAY_DEVIATION), LEAST_POWER * power.max(0))
    return Estimate(prior.with_theta(prior.theta + delta[:-1]), cov[:-1, :-1], prior.theta, std,
                    np.array([delta[-1], np.sqrt(cov[-1, -1])]))


def deviations(sheet: Parameters, robot: Robot, deviation: float, payload_deviation: float) -> Float[Array, " p"]:
    """Standard deviations (p,) of the prior; a damping of zero on the sheet is not known to be zero."""
    damping = np.maximum(sheet.theta[sheet.rows(DAMPING)], 0.01 * robot.effort_limit / robot.velocity_limit)
    return np.concatenate([deviation * sheet.theta[sheet.rows(MASS)], deviation * damping,
                           FRICTION_DEVIATION * robot.effort_limit, [payload_deviation]])


class Spectrum(NamedTuple):
    """A run in K bins of frequency, for m joints, p parameters and the delay; a unit of white noise has power 1."""

    f: Array  # (K,) [Hz]
    e: Array  # (K, m), of u - tau_0 - Y theta_0
    Y: Array  # (K, m, p + 1)
    weight: Array  # (K, m), how many real numbers a bin is worth
    power: Array  # (K, m), of u


def spectrum(robot: Robot, model: mujoco.MjModel, run: Stretch, theta: Float[Array, " p"]) -> Spectrum:
    """The bins of one run up to HIGHEST."""
    q, qd, qdd, u, rate = weak_form(run, robot.step, _half(robot))
    known, Y = regressor(robot, model, q, qd, qdd, np.sign(qd))
    e, Y = u - known - Y @ theta, np.concatenate([Y, rate[..., None]], -1)
    window = moving(run.q, robot) * _taper(len(q))[:, None]  # (T, m)
    energy = np.square(window).sum(0)
    # A window makes neighbouring bins alike: of T samples it leaves (sum w^2)^2 / sum w^4.
    left = np.divide(energy**2, len(q) * (window**4).sum(0), out=np.zeros(robot.m), where=energy > 0)
    window = window / np.sqrt(np.where(energy > 0, energy, 1.0))
    f = np.fft.rfftfreq(len(q), robot.step)
    K = int(np.searchsorted(f, HIGHEST, "right"))
    transform = lambda a: np.fft.rfft(a, axis=0)[:K]  # noqa: E731
    weight = np.where(f[:K] > 0, 2.0, 1.0)[:, None] * left
    return Spectrum(f[:K], transform(window * e), transform(window[..., None] * Y), weight,
                    np.abs(transform(window * u)) ** 2)


def posterior(f: Array, e: Array, Y: Array, weight: Array, std: Float[Array, " p"],
              least: Array) -> tuple[Float[Array, " p"], Float[Array, "p p"]]:
    """theta - theta_0 (p,) and P (p, p) from the bins of all runs; least (m,) bounds the power from below."""
    order = np.argsort(f, kind="stable")
    bands = max(1, len(f) // BINS)
    band = np.empty(len(f), dtype=int)
    band[order] = np.arange(len(f)) * bands // len(f)
    delta, P = np.zeros(len(std)), np.diag(std**2)
    for _ in range(ITERATIONS):
        rest = np.abs(e - Y @ delta) ** 2
        S = np.stack([np.bincount(band, r) for r in rest.T], -1) / np.bincount(band)[:, None]  # (bands, m)
        gain = weight / np.maximum(S, np.maximum(least, np.finfo(float).tiny))[band]
        Ys = Y * std  # in units of the prior
        A = np.einsum("kjp,kj,kjr->pr", Ys.conj(), gain, Ys, optimize=True).real
        b = np.einsum("kjp,kj,kj->p", Ys.conj(), gain, e, optimize=True).real
        C = np.linalg.inv(symmetrize(A) + np.eye(len(std)))
        delta, P = std * (C @ b), symmetrize(C) * np.outer(std, std)
    return delta, P


def weak_form(run: Stretch, period: float, n: int
              ) -> tuple[Float[Array, "N m"], Float[Array, "N m"], Float[Array, "N m"], Float[Array, "N m"],
                         Float[Array, "N m"]]:
    """q, qd, qdd, u, du/dt (T + 1 - 2n, m), averaged under the triangle of half width n periods about q[n] to q[T - n].
    """
    q, b = run.q, n * period
    steps = np.arange(-n, n + 1)
    triangle = (n - np.abs(steps)) / n**2
    slope = np.where(np.abs(steps) == n, 0.5, 1.0) * np.sign(steps) * period / b**2  # trapezoids under -dL/dt
    held = (n - np.abs(np.arange(-n, n) + 0.5)) / n**2  # int L over each period
    qdd = (q[2 * n :] - 2 * q[n : len(q) - n] + q[: len(q) - 2 * n]) / b**2
    rise = np.repeat([-1.0, 1.0], n) * period / b**2
    return _average(q, triangle), _average(q, slope), qdd, _average(run.u, held), _average(run.u, rise)


def moving(q: Float[Array, "steps m"], robot: Robot) -> Float[Array, "N m"]:
    """Weights (T + 1 - 2n, m): 1 where a joint does not come near a standstill during an average, 0 where it does."""
    n = _half(robot)
    speed = np.gradient(q, robot.step, axis=0) / (STANDSTILL * robot.velocity_limit)
    reach = n + 1 + FADE
    around = np.lib.stride_tricks.sliding_window_view(np.pad(speed, ((reach - n,) * 2, (0, 0)), "edge"),
                                                      2 * reach + 1, axis=0)
    moves = (around.min(-1) > 1) | (around.max(-1) < -1)  # (T + 1 - 2n, m)
    fade = np.hanning(2 * FADE + 3)[1:-1]
    return _average(np.pad(moves.astype(float), ((FADE, FADE), (0, 0)), "edge"), fade / fade.sum())


def _average(a: Array, weights: Array) -> Array:
    """sum_j weights[j] a[k + j] for all k where it is complete."""
    return np.einsum("tmj,j->tm", np.lib.stride_tricks.sliding_window_view(a, len(weights), axis=0), weights)


def _half(robot: Robot) -> int:
    return max(1, round(HALF_WIDTH / robot.step))


def _taper(T: int) -> Array:
    """Cosine ramps at both ends (T,), so that a run that does not end where it began has no spectrum of its own."""
    ramp = max(1, int(TAPER * T))
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    return np.concatenate([edge, np.ones(T - 2 * ramp), edge[::-1]])
