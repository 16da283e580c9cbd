"""What can be asked for: a place of the tool, or one with an orientation, or joint positions; and motions to it."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Goal:
    """Where the tool shall go; `joints`, where they are asked for, are there already."""

    position: Float[Array, " 3"]  # [m, base frame]
    rotation: Float[Array, "3 3"] | None = None  # its axes in the base frame as columns; None: whatever it is
    joints: Float[Array, " m"] | None = None  # [rad or m]; None: whichever are there

    def same(self, other: object) -> bool:
        """Whether it asks for the same."""
        return isinstance(other, Goal) and all(
            (mine is None) == (its is None) and (mine is None or np.array_equal(mine, its))
            for mine, its in zip(vars(self).values(), vars(other).values(), strict=True))


def as_goal(goal: Goal | Array, rotation: Array | None = None) -> Goal:
    """A goal; a point (3,) [m] as one, turned as `rotation` (3, 3) where no orientation is asked for."""
    goal = goal if isinstance(goal, Goal) else Goal(np.array(goal, float))
    return goal if goal.rotation is not None or goal.joints is not None else replace(goal, rotation=rotation)


class Course(Protocol):
    """Where the tool shall be at which time. Times are those of states [ns]; `count` of them, `period` [s] apart."""

    @property
    def goal(self) -> Array:
        """(3,) [m], where it ends, or what it is about."""

    @property
    def begin(self) -> int:
        """[ns]."""

    @property
    def duration(self) -> float:
        """[s] until it is at its goal; infinite without end."""

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Position [m] and velocity [m/s] of the tool (count, 3)."""

    def turned(self, time: int, period: float, count: int) -> tuple[Array, Array] | None:
        """Its rotation (count, 3, 3) and angular velocity (count, 3) [rad/s], both in the base frame; None where they
        are left open."""

    def joints(self, time: int, period: float, count: int) -> tuple[Array, Array] | None:
        """Positions and velocities of the joints (count, m); None where they are left open."""
