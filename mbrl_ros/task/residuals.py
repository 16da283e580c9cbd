"""Residuals: what a term of the cost measures, at every step of a horizon, before a norm makes a cost of it.

A residual is a frozen dataclass of its own parameters; `on(robot)` makes it a function of x and u: Affine, or Tangent,
which is affine anew in every window, and which the compiled planner takes; or Curved, any function of them.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from mbrl_ros.config import ConfigError, param
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float


EASY = 0.8  # part of its range that a joint may be in, whatever the goal


class Window(NamedTuple):
    """What a cost refers to over one horizon of T steps; numpy arrays for Affine and Tangent, tensors for Curved."""

    position: Array  # (T + 1, 3) [m] of the tool along the path
    velocity: Array  # (T + 1, 3) [m/s]
    joint_velocity: Array  # (T + 1, m) [rad/s or m/s], those of the path, or the least that move the tool along it
    effort_mean: Array  # (m,) [N m or N], the slow mean of what was commanded
    tool: Array  # (3,) [m], where the tool is at the beginning
    rotation: Array  # (3, 3), how it is turned then: columns are its axes in the base frame
    q: Array  # (m,) [rad or m], where the joints are then
    turn: Array | None = None  # (T + 1, 3), log(rotation' R) of the path's R [rad]; None: it leaves that open
    spin: Array | None = None  # (3, m), angular velocity of the tool by the joints then, in the tool's axes
    joints: Array | None = None  # (T + 1, m) [rad or m] of the path; None: it leaves them open
    end: Array | None = None  # (m,) [rad or m] where the joints have to be for the goal; None: anywhere

    def tensors(self, device: torch.device | None = None) -> Window:
        """The same, of tensors."""
        return Window(*(None if a is None else torch.as_tensor(a, device=device) for a in self))


class Residual(Protocol):
    """Parameters of one residual."""

    def on(self, robot: Robot) -> Affine | Tangent | Curved:
        """The residual of this robot. Raises ConfigError where the parameters do not fit it."""


@dataclass(frozen=True)
class Affine:
    """r_t = R [x; u]_t - reference(window)_t."""

    R: Float[Array, "k p"]
    reference: Callable[[Window], Array]  # -> (T + 1, k) or (k,)
    uses_effort: bool = False  # then it does not count at the end of the horizon
    is_change: bool = False  # from one effort to the next: what a delay or a bad model makes dearer

    def curved(self, window: Window) -> Curved:
        """The same as a Curved, at this window of numpy arrays."""
        R, reference = torch.as_tensor(self.R), torch.as_tensor(self.reference(window))
        return Curved(lambda x, u, _: torch.cat([x, u], -1) @ R.to(x).T - reference.to(x), lambda x, u, _: R.to(x))


class Rows(NamedTuple):
    """r_t = R [x; u]_t - reference_t, of which counts what `active` says."""

    R: Array  # (k, n + m)
    reference: Array  # (T + 1, k)
    active: Array | None = None  # (T + 1, k), factors on the weight; None: 1


@dataclass(frozen=True)
class Tangent:
    """r as in Rows, anew in every window: a function of x expanded about where the arm is or should be."""

    rows: Callable[[Window], Rows | None]  # None: nothing is asked for in this window
    uses_effort = is_change = False

    def curved(self, window: Window) -> Curved:
        """The same as a Curved, at this window of numpy arrays, in which something is asked for."""
        rows = self.rows(window)
        assert rows is not None
        return Affine(rows.R, lambda w: rows.reference).curved(window)


@dataclass(frozen=True)
class Curved:
    """r_t = function(x_t, u_t, window), not affine in x or u.

    `function(x (*b, T + 1, n), u (*b, T + 1, m), window)` -> (*b, T + 1, k), row by row: nothing at one step depends on
    another. `derivative`, with the same arguments, -> (*b, T + 1, k, n + m) by [x; u]; None: the function is of torch,
    which differentiates it. Else both may answer with numpy arrays.
    """

    function: Callable[[Tensor, Tensor, Window], Array]
    derivative: Callable[[Tensor, Tensor, Window], Array] | None = None
    uses_effort: bool = False
    is_change: bool = False

    def value(self, x: Float[Tensor, "*b steps n"], u: Float[Tensor, "*b steps m"], window: Window
              ) -> Float[Tensor, "*b steps k"]:
        """Residuals at T + 1 steps."""
        return torch.as_tensor(self.function(x, u, window), dtype=x.dtype, device=x.device)

    def jacobian(self, x: Float[Tensor, "*b steps n"], u: Float[Tensor, "*b steps m"], window: Window
                 ) -> Float[Tensor, "... k p"]:
        """Their derivatives by [x; u], (*b, T + 1, k, n + m), or (k, n + m) where all are the same."""
        if self.derivative is not None:
            return torch.as_tensor(self.derivative(x, u, window), dtype=x.dtype, device=x.device)
        n = x.shape[-1]
        with torch.enable_grad():
            xu = torch.cat([x, u], -1).detach().requires_grad_(True)
            r = self.function(xu[..., :n], xu[..., n:], window)
            return torch.stack([torch.autograd.grad(row.sum(), xu, retain_graph=True)[0] for row in r.unbind(-1)], -2)


def selector(robot: Robot, block: str) -> Float[Array, "k p"]:
    """The rows that take a block of x out of [x; u]."""
    where = robot.slice(block)
    rows: Array = np.eye(robot.n, robot.n + robot.m)[where]
    return rows


def _site(robot: Robot, name: str, what: str) -> Array:
    return selector(robot, f"site/{name or robot.sites[0]}/{what}")


@dataclass(frozen=True)
class SitePosition:
    """Position of a site about the path [m]."""

    site: str = param("", "Name of the site; empty: the first")

    def on(self, robot: Robot) -> Affine:
        return Affine(_site(robot, self.site, "position"), lambda w: w.position)


@dataclass(frozen=True)
class SiteVelocity:
    """Velocity of a site about that of the path [m/s]."""

    site: str = param("", "Name of the site; empty: the first")

    def on(self, robot: Robot) -> Affine:
        return Affine(_site(robot, self.site, "velocity"), lambda w: w.velocity)


@dataclass(frozen=True)
class ToolOrientation:
    """How far the tool is turned from where it shall be [rad], where the target says that, or the task does.

    The rotation vector log(R_0' R(q)) about R_0, where the tool is, minus that of the path: exact at R_0, and where the
    two agree; its slope is that at R_0, the angular velocity in the tool's axes.
    """

    rpy: tuple[float, ...] = param((), "Of targets without an orientation of their own: roll, pitch and yaw about the "
                                   "axes x, y, z of the base frame in this order [rad]; empty: any. Counts from the "
                                   "next target on", live=True)
    as_home: bool = param(False, "Of such targets as well: as the tool is turned at robot.home; then without `rpy`")

    def __post_init__(self) -> None:
        if len(self.rpy) not in (0, 3):
            raise ConfigError(f"rpy: expected 3 angles [rad], got {len(self.rpy)}")
        if self.rpy and self.as_home:
            raise ConfigError("as_home: expected either this or rpy")

    def rotation(self, robot: Robot) -> Array | None:
        """Of targets without an orientation of their own (3, 3); None: any."""
        if self.as_home:
            return robot.tool(robot.home)[1]
        return Rotation.from_euler("xyz", self.rpy).as_matrix() if self.rpy else None

    def on(self, robot: Robot) -> Tangent:
        joints = selector(robot, "joint/position")
        return Tangent(lambda w: None if w.turn is None else Rows(w.spin @ joints, w.turn + w.spin @ w.q))


@dataclass(frozen=True)
class JointTarget:
    """Joint positions about those of the path [rad or m], where it says which."""

    def on(self, robot: Robot) -> Tangent:
        joints = selector(robot, "joint/position")
        return Tangent(lambda w: None if w.joints is None else Rows(joints, w.joints))


@dataclass(frozen=True)
class JointPosition:
    """Joint positions about robot.home [rad or m]."""

    def on(self, robot: Robot) -> Affine:
        return Affine(selector(robot, "joint/position"), lambda w: robot.home)


@dataclass(frozen=True)
class JointVelocity:
    """About what the path needs: damps the motion that the tool does not show, without holding the tool back."""

    def on(self, robot: Robot) -> Affine:
        return Affine(selector(robot, "joint/velocity"), lambda w: w.joint_velocity)


@dataclass(frozen=True)
class JointRange:
    """Joint positions about the middle of their range, in halves of it: 1 is the limit; 0 where there is none.

    Where the goal needs a joint beyond EASY, the middle moves along: a pose leaves no other joints to go there with,
    and what pushed one back would push the tool away.
    """

    def on(self, robot: Robot) -> Affine:
        half = 0.5 * (robot.position_high - robot.position_low)
        limited = np.isfinite(half)
        scale = np.where(limited, 1.0 / np.where(limited, half, 1.0), 0.0)
        middle = scale * np.where(limited, robot.position_low + np.where(limited, half, 0.0), 0.0)

        def reference(w: Window) -> Array:
            if w.end is None:
                return middle
            off = scale * w.end - middle
            beyond: Array = middle + off - off.clip(-EASY, EASY)
            return beyond

        return Affine(scale[:, None] * selector(robot, "joint/position"), reference)


@dataclass(frozen=True)
class JointSpeedRange:
    """Joint velocities in units of their limits: 1 is the limit."""

    def on(self, robot: Robot) -> Affine:
        zero = np.zeros(robot.m)
        return Affine(selector(robot, "joint/velocity") / robot.velocity_limit[:, None], lambda w: zero)


@dataclass(frozen=True)
class ObjectPosition:
    """Positions of objects from where they shall be, 0 [rad or m]."""

    objects: tuple[str, ...] = param((), "Which of robot.objects; empty: all")

    def on(self, robot: Robot) -> Affine:
        return _still(robot, "position", self.objects)


@dataclass(frozen=True)
class ObjectVelocity:
    """Velocities of objects [rad/s or m/s]."""

    objects: tuple[str, ...] = param((), "Which of robot.objects; empty: all")

    def on(self, robot: Robot) -> Affine:
        return _still(robot, "velocity", self.objects)


def _still(robot: Robot, what: str, objects: tuple[str, ...]) -> Affine:
    known = robot.objects
    if not known or not set(objects) <= set(known):
        raise ConfigError(f"objects: expected some of robot.objects, {', '.join(known) or 'none'}, got "
                          f"{', '.join(objects) or 'all'}")
    rows, zero = [known.index(name) for name in objects or known], np.zeros(len(objects or known))
    return Affine(selector(robot, f"object/{what}")[rows], lambda w: zero)


@dataclass(frozen=True)
class Effort:
    """Effort about its slow mean, in units of the limit: without gravity compensation |u|^2 would cause an offset."""

    def on(self, robot: Robot) -> Affine:
        return Affine(_in_limits(robot), lambda w: w.effort_mean / robot.effort_limit, uses_effort=True)


@dataclass(frozen=True)
class EffortChange:
    """Effort minus the effort before, in units of the limit."""

    def on(self, robot: Robot) -> Affine:
        R, zero = _in_limits(robot), np.zeros(robot.m)
        R[:, robot.slice("effort/1")] = -np.diag(1.0 / robot.effort_limit)
        return Affine(R, lambda w: zero, uses_effort=True, is_change=True)


def _in_limits(robot: Robot) -> Array:
    """u in units of the limit (m, n + m)."""
    return np.hstack([np.zeros((robot.m, robot.n)), np.diag(1.0 / robot.effort_limit)])
