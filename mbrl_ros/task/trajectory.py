"""Paths that somebody else has timed: joints or poses through points at their times, and a velocity to go on with.

What is asked for begins when it is first followed: `begun` then makes a Course (goal.py) of it.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.interpolate import CubicHermiteSpline, CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from mbrl_ros.config import ConfigError
from mbrl_ros.kernels import reach
from mbrl_ros.task.goal import Course
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float


class Request(Protocol):
    """Something to follow, once."""

    def begun(self, time: int, q: Array, tool: Array, rotation: Array) -> Course:
        """As it is when it begins at `time` [ns] with the joints at q (m,), the tool (3,) [m] turned by (3, 3)."""


def check_times(times: Sequence[float] | Array, what: str) -> Array:
    """Times (N,) [s] of the points of a trajectory. Raises ConfigError where they do not increase from 0 or later."""
    t = np.array(times, float)
    if t.ndim != 1 or len(t) == 0 or not np.isfinite(t).all() or t[0] < 0 or (np.diff(t) <= 0).any() or t[-1] <= 0:
        raise ConfigError(f"{what}: expected points at increasing times from 0 on [s], got {t.tolist()}")
    return t


@dataclass(frozen=True, eq=False)
class JointTrajectory:
    """Joints through points (N, m) [rad or m] at times (N,) [s]; at rest at both ends where no velocities are given."""

    chain: tuple[Array, ...]
    times: Float[Array, " N"]
    points: Float[Array, "N m"]
    velocities: Float[Array, "N m"] | None = None
    begin: int = 0
    goal: Array = field(default_factory=lambda: np.zeros(0))  # of one that has begun

    @property
    def duration(self) -> float:
        """See Course."""
        return float(self.times[-1])

    def begun(self, time: int, q: Array, tool: Array, rotation: Array) -> Course:
        """See Request. It comes from where the joints are, to the first point at its time."""
        times, points, velocities = self.times, self.points, self.velocities
        if times[0] > 0:
            times, points = np.append(0.0, times), np.vstack([q, points])
            velocities = None if velocities is None else np.vstack([np.zeros_like(q), velocities])
        goal = reach.poses(*self.chain, points[-1:])[0][0]
        return replace(self, times=times, points=points, velocities=velocities, begin=time, goal=goal)

    @cached_property
    def curve(self) -> CubicSpline | CubicHermiteSpline:
        """Of time [s]."""
        if self.velocities is not None:
            return CubicHermiteSpline(self.times, self.points, self.velocities)
        return CubicSpline(self.times, self.points, bc_type="clamped")

    def joints(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """See Course."""
        return _follow(self.curve, self.times[-1], time - self.begin, period, count)

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """See Course."""
        q, qd = self.joints(time, period, count)
        p, _, G = reach.poses(*self.chain, q)
        return p, (G[:, :3] @ qd[..., None])[..., 0]

    def turned(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """See Course."""
        q, qd = self.joints(time, period, count)
        _, R, G = reach.poses(*self.chain, q)
        return R, (G[:, 3:] @ qd[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class PoseTrajectory:
    """The tool through positions (N, 3) [m], and where they are given rotations (N, 3, 3), at times (N,) [s], at rest
    at both ends."""

    times: Float[Array, " N"]
    positions: Float[Array, "N 3"]
    rotations: Float[Array, "N 3 3"] | None = None
    begin: int = 0

    @property
    def goal(self) -> Array:
        """See Course."""
        return self.positions[-1]

    @property
    def duration(self) -> float:
        """See Course."""
        return float(self.times[-1])

    def begun(self, time: int, q: Array, tool: Array, rotation: Array) -> Course:
        """See Request. It comes from where the tool is, to the first point at its time."""
        times, positions, rotations = self.times, self.positions, self.rotations
        if times[0] > 0:
            times, positions = np.append(0.0, times), np.vstack([tool, positions])
            rotations = None if rotations is None else np.concatenate([rotation[None], rotations])
        return replace(self, times=times, positions=positions, rotations=rotations, begin=time)

    @cached_property
    def curve(self) -> CubicSpline:
        """Of time [s]."""
        return CubicSpline(self.times, self.positions, bc_type="clamped")

    @cached_property
    def turning(self) -> RotationSpline | None:
        """Of time [s]; it does not slow down at its ends."""
        return None if self.rotations is None else RotationSpline(self.times, Rotation.from_matrix(self.rotations))

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """See Course."""
        return _follow(self.curve, self.times[-1], time - self.begin, period, count)

    def turned(self, time: int, period: float, count: int) -> tuple[Array, Array] | None:
        """See Course."""
        if self.turning is None:
            return None
        t = (time - self.begin) * 1e-9 + period * np.arange(count)
        inside = np.clip(t, 0.0, self.times[-1])
        R = self.turning(inside).as_matrix()
        body = self.turning(inside, 1) * ((t >= 0) & (t < self.times[-1]))[:, None]
        return R, (R @ body[..., None])[..., 0]

    def joints(self, time: int, period: float, count: int) -> None:
        """See Course: left open."""


@dataclass(frozen=True, eq=False)
class Jog:
    """A velocity of the tool, linear and angular (6,) [m/s, rad/s] in the base frame, for `seconds`; then it stops.

    `before` is the velocity to come from. Velocities change no faster than `acceleration` [m/s^2], and [rad/s^2] by as
    many.
    """

    velocity: Float[Array, " 6"]
    seconds: float
    acceleration: float
    before: Float[Array, " 6"]
    start: Array | None = None  # (3,) [m]; None: where the tool is when it begins
    rotation: Array | None = None  # (3, 3)
    begin: int = 0

    duration = math.inf

    def begun(self, time: int, q: Array, tool: Array, rotation: Array) -> Course:
        """See Request."""
        return replace(self, begin=time, start=tool if self.start is None else self.start,
                       rotation=rotation if self.rotation is None else self.rotation)

    @property
    def goal(self) -> Array:
        """See Course: where it will have stopped."""
        assert self.start is not None
        return self.start + self._moved(np.array([self.knots[0][-1]]))[0][0, :3]

    @cached_property
    def knots(self) -> tuple[Array, Array, Array]:
        """Times (4,) [s], velocities then (4, 6), straight lines between, and ways until then (4, 6)."""
        up = float(np.abs(self.velocity - self.before).max()) / self.acceleration
        down = float(np.abs(self.velocity).max()) / self.acceleration
        until = max(up, self.seconds)
        t = np.array([0.0, up, until, until + down])
        v = np.array([self.before, self.velocity, self.velocity, np.zeros(6)])
        way = np.cumsum(np.vstack([np.zeros(6), 0.5 * (v[1:] + v[:-1]) * np.diff(t)[:, None]]), axis=0)
        return t, v, way

    def _moved(self, t: Array) -> tuple[Array, Array]:
        """Way and velocity (count, 6) at times t (count,) [s]."""
        knots, v, way = self.knots
        inside = np.clip(t, 0.0, knots[-1])
        i = np.minimum(np.searchsorted(knots, inside, side="right") - 1, len(knots) - 2)
        step, span = (inside - knots[i])[:, None], np.maximum(np.diff(knots)[i], 1e-12)[:, None]
        slope = (v[i + 1] - v[i]) / span
        now = np.where(((t >= 0) & (t < knots[-1]))[:, None], v[i] + slope * step, 0.0)
        return way[i] + v[i] * step + 0.5 * slope * step**2, now

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """See Course."""
        way, v = self._moved((time - self.begin) * 1e-9 + period * np.arange(count))
        return self.start + way[:, :3], v[:, :3]

    def turned(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """See Course. About one axis: a turn that changes its axis meanwhile is not integrated exactly."""
        way, v = self._moved((time - self.begin) * 1e-9 + period * np.arange(count))
        return Rotation.from_rotvec(way[:, 3:]).as_matrix() @ self.rotation, v[:, 3:]

    def joints(self, time: int, period: float, count: int) -> None:
        """See Course: left open."""


def _follow(curve: CubicSpline | CubicHermiteSpline, end: float, since: int, period: float, count: int
            ) -> tuple[Array, Array]:
    """Values and derivatives (count, k) of a curve of time, at rest before 0 and after its end."""
    t = since * 1e-9 + period * np.arange(count)
    inside = np.clip(t, 0.0, end)
    return curve(inside), curve(inside, 1) * ((t >= 0) & (t < end))[:, None]
