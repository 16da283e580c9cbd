"""Ways round what the tool shall stay out of, where the straight one leads through it.

A band of points is let out to one side of the line, drawn taut, and pushed out of the shapes, again and again (elastic
bands: Quinlan & Khatib 1993); sixteen bands at once, to eight sides and by two widths, and the shortest comes first.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

from mbrl_ros.task.keep_out import KeepOut
from mbrl_ros.task.path import profile
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

POINTS = 33  # of a band
SIDES, WIDTHS = 8, (0.1, 0.3)  # [m]
ROUNDS = 80  # of drawing taut and pushing out
SLACK = 0.005  # [m] that a way stays away beyond the margin
SIDEWAYS = 2.0  # [m/s^2] that a way round may ask of the tool
FASTEST = 1.875  # speed of a motion of least jerk in its middle, in units of its mean


@dataclass(frozen=True, eq=False)
class Bypass:
    """A curve through points, with the times of a motion of least jerk. A Path (path.py) that ends."""

    curve: CubicSpline  # of the part of the way, 0 to 1
    span: float  # [s]
    cycle = None

    def at(self, t: Float[Array, "count 1"], start: Array, goal: Array
           ) -> tuple[Float[Array, "count 3"], Float[Array, "count 3"]]:
        """See Path."""
        way, speed = profile(t, self.span)
        return self.curve(way[:, 0]), speed * self.curve(way[:, 0], 1)

    def duration(self, start: Array, goal: Array) -> float:
        """See Path."""
        return self.span


def depth(shapes: Sequence[KeepOut], points: Float[Array, "*b 3"]) -> Float[Array, " *b"]:
    """How far points are within the margin of a shape [m], of the one in which they are deepest; negative outside."""
    deepest: Array = np.max([shape.margin - shape.distance(points)[0] for shape in shapes], axis=0)
    return deepest


def outside(shapes: Sequence[KeepOut], point: Float[Array, " 3"]) -> Float[Array, " 3"]:
    """The point, moved out of the margins of shapes; it may be within another then."""
    point = np.array(point, float)
    for _ in range(10):
        for shape in shapes:
            d, normal = shape.distance(point)
            point = point + max(shape.margin - float(d), 0.0) * normal
    return point


def blocked(shapes: Sequence[KeepOut], points: Float[Array, "count 3"]) -> bool:
    """Whether a way leads deeper into a margin than both of its ends are."""
    within = depth(shapes, points)
    return bool(within.max() > max(within[0], within[-1], 0.0) + 1e-3)


def ways(shapes: Sequence[KeepOut], start: Array, goal: Array) -> Iterator[tuple[CubicSpline, float, float]]:
    """Curves from start to goal round the shapes, the shortest first, with their length [m] and largest curvature
    [1/m]; none that does not get round."""
    s = np.linspace(0.0, 1.0, POINTS)[:, None]
    along = (goal - start) / max(float(np.linalg.norm(goal - start)), 1e-9)
    across = np.linalg.svd(along[None])[2][1:]  # (2, 3)
    angle = np.linspace(0.0, 2 * np.pi, SIDES, endpoint=False)[:, None]
    sides = np.concatenate([w * (np.cos(angle) * across[0] + np.sin(angle) * across[1]) for w in WIDTHS])
    bands = start + s * (goal - start) + np.sin(np.pi * s) * sides[:, None]
    for _ in range(ROUNDS):
        bands[:, 1:-1] += 0.5 * (bands[:, :-2] + bands[:, 2:]) - bands[:, 1:-1]
        for shape in shapes:
            d, normal = shape.distance(bands[:, 1:-1])
            bands[:, 1:-1] += np.maximum(shape.margin + SLACK - d, 0.0)[..., None] * normal
    lengths = np.linalg.norm(np.diff(bands, axis=1), axis=-1)
    for i in np.argsort(lengths.sum(1)):
        if not blocked(shapes, bands[i]):
            way = np.append(0.0, np.cumsum(lengths[i])) / lengths[i].sum()
            curve = CubicSpline(way, bands[i])
            first, second = curve(s[:, 0], 1), curve(s[:, 0], 2)
            bend = np.linalg.norm(np.cross(first, second), axis=1) / np.linalg.norm(first, axis=1) ** 3
            yield curve, float(lengths[i].sum()), float(bend.max())


def slow_enough(length: float, bend: float) -> float:
    """Duration [s] in which a way of this length [m] and curvature [1/m] asks for no more than SIDEWAYS."""
    return FASTEST * length * float(np.sqrt(bend / SIDEWAYS))
