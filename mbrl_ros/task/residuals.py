"""Residuals: what a term of the cost measures, at every step of a horizon, before a norm makes a cost of it.

A residual is a frozen dataclass of its own parameters; `on(robot)` makes it a function of x and u, either Affine, which
the compiled planner takes, or Curved, any function of them.
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


class Window(NamedTuple):
    """What a cost refers to over one horizon of T steps; numpy arrays for Affine, tensors for Curved."""

    position: Array  # (T + 1, 3) [m] of the tool along the path
    velocity: Array  # (T + 1, 3) [m/s]
    joint_velocity: Array  # (T + 1, m) [rad/s or m/s], those of the path, or the least that move the tool along it
    effort_mean: Array  # (m,) [N m or N], the slow mean of what was commanded
    tool: Array  # (3,) [m], where the tool is at the beginning
    rotation: Array  # (3, 3), how it is turned then: columns are its axes in the base frame


class Residual(Protocol):
    """Parameters of one residual."""

    def on(self, robot: Robot) -> Affine | Curved:
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
    """How far a site is turned from where it shall be: the rotation vector log(R_target' R(q)) [rad], in its own axes.

    Its derivative is the inverse of the right Jacobian of rotations (Sola, Deray & Atchuthan 2018, appendix B).
    """

    site: str = param("", "Name of the site; empty: the first")
    rpy: tuple[float, ...] = param((), "Roll, pitch and yaw of the target, about the axes x, y, z of the base frame in "
                                   "this order [rad]; empty: as at robot.home", live=True)

    def __post_init__(self) -> None:
        if len(self.rpy) not in (0, 3):
            raise ConfigError(f"rpy: expected 3 angles [rad], got {len(self.rpy)}")

    def on(self, robot: Robot) -> Curved:
        selector(robot, f"site/{self.site or robot.sites[0]}/position")  # or say which there are
        site = robot.sites.index(self.site) if self.site else 0
        home, _ = robot.orientation(robot.home, site)
        target = Rotation.from_euler("xyz", self.rpy).as_matrix() if self.rpy else home
        joints = robot.slice("joint/position")

        def turned(x: Tensor) -> tuple[Array, Array, Array]:
            """Rotation vectors (*b, 3), and R and J of the robot."""
            R, J = robot.orientation(x[..., joints].detach().cpu().numpy(), site)
            vectors = Rotation.from_matrix((target.T @ R).reshape(-1, 3, 3)).as_rotvec()
            return vectors.reshape(*R.shape[:-1]), R, J

        def derivative(x: Tensor, u: Tensor, window: Window) -> Array:
            e, R, J = turned(x)
            D = np.zeros((*e.shape, robot.n + robot.m))
            D[..., joints] = _inverse_right_jacobian(e) @ np.swapaxes(R, -1, -2) @ J
            return D

        return Curved(lambda x, u, window: turned(x)[0], derivative)


def _inverse_right_jacobian(e: Array) -> Array:
    """de / d(body rotation) (*b, 3, 3) of rotation vectors e (*b, 3): I + [e]/2 + (1/a^2 - cot(a/2)/(2a)) [e]^2."""
    a = np.linalg.norm(e, axis=-1)[..., None, None]
    safe = np.where(a > 1e-4, a, 1.0)
    factor = np.where(a > 1e-4, 1 / safe**2 - 1 / (2 * safe * np.tan(0.5 * safe)), 1 / 12)
    E = np.cross(np.eye(3), e[..., None, :])  # row i is e_i x e, so that E v = e x v
    return np.eye(3) + 0.5 * E + factor * (E @ E)


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
    """Joint positions about the middle of their range, in halves of it: 1 is the limit; 0 where there is none."""

    def on(self, robot: Robot) -> Affine:
        half = 0.5 * (robot.position_high - robot.position_low)
        limited = np.isfinite(half)
        scale = np.where(limited, 1.0 / np.where(limited, half, 1.0), 0.0)
        middle = scale * np.where(limited, robot.position_low + np.where(limited, half, 0.0), 0.0)
        return Affine(scale[:, None] * selector(robot, "joint/position"), lambda w: middle)


@dataclass(frozen=True)
class JointSpeedRange:
    """Joint velocities in units of their limits: 1 is the limit."""

    def on(self, robot: Robot) -> Affine:
        zero = np.zeros(robot.m)
        return Affine(selector(robot, "joint/velocity") / robot.velocity_limit[:, None], lambda w: zero)


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
