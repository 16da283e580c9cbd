"""What the robot shall do: a cost as weighted norms of residuals, along a smooth path (path.py).

Cost of one horizon = sum over steps t and terms i of scale_t w_i norm_i(r_i), with residuals r_i = R_i xu_t - ref_i,t
that are affine in xu = [x; u]. Norms supply gradient and curvature, so the quadratic expansion is Gauss-Newton and
positive semidefinite. A task is data (config/tasks/); only a new kind of residual or path is code.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import ConfigError, from_mapping, param
from mbrl_ros.robot import Robot
from mbrl_ros.task.path import Motion, Path, plan_path
from mbrl_ros.task.quadratic import joined
from mbrl_ros.types import Array, QuadraticCost


@dataclass(frozen=True)
class Term:
    """Parameters `task.<term>.*`: one weighted norm of one residual."""

    residual: str = param("site_position", "Which residual")
    site: str = param("", "For residuals of a site: its name; empty for the first")
    norm: str = param("quadratic", "quadratic: r^2 / 2; smooth_abs: sqrt(r^2 + width^2) - width; dead_zone: "
                      "(|r| - width)^2 / 2 where |r| > width, else 0", choices=("quadratic", "smooth_abs", "dead_zone"))
    width: float = param(0.01, "Of smooth_abs and dead_zone, in the unit of the residual", 1e-6, 10.0)
    weight: float = param(1.0, "Weight of the term", 0.0, 1e9, live=True)
    terminal: float = param(1.0, "Factor on the weight at the end of the horizon", 0.0, 1e6)


class Window(NamedTuple):
    """What a cost refers to over one horizon of T steps."""

    position: Array  # (T + 1, 3) [m] of the tool
    velocity: Array  # (T + 1, 3) [m/s]
    joint_velocity: Array  # (T + 1, m) [rad/s or m/s], the least that moves the tool along the path
    effort_mean: Array  # (m,) [N m or N], the slow mean of what was commanded


class Residual(NamedTuple):
    """r_t = R xu_t - reference(window)_t."""

    R: Array  # (k, n + m)
    reference: Callable[[Window], Array]  # -> (T + 1, k) or (k,)
    uses_effort: bool  # then it does not count at the end of the horizon
    is_change: bool = False  # from one effort to the next


def _selector(robot: Robot, block: str, size: int) -> Array:
    R = np.zeros((size, robot.n + robot.m))
    R[:, robot.slice(block)] = np.eye(size)
    return R


def _site_position(robot: Robot, term: Term) -> Residual:
    return Residual(_selector(robot, f"site/{term.site or robot.sites[0]}/position", 3), lambda w: w.position, False)


def _site_velocity(robot: Robot, term: Term) -> Residual:
    return Residual(_selector(robot, f"site/{term.site or robot.sites[0]}/velocity", 3), lambda w: w.velocity, False)


def _joint_position(robot: Robot, term: Term) -> Residual:
    return Residual(_selector(robot, "joint/position", robot.m), lambda w: robot.home, False)


def _joint_velocity(robot: Robot, term: Term) -> Residual:
    """About what the path needs: damps the motion that the tool does not show, without holding the tool back."""
    return Residual(_selector(robot, "joint/velocity", robot.m), lambda w: w.joint_velocity, False)


def _joint_range(robot: Robot, term: Term) -> Residual:
    """Joint positions about the middle of their range, in halves of it: 1 is the limit; 0 where there is none."""
    half = 0.5 * (robot.position_high - robot.position_low)
    limited = np.isfinite(half)
    scale = np.where(limited, 1.0 / np.where(limited, half, 1.0), 0.0)
    middle = np.where(limited, robot.position_low + np.where(limited, half, 0.0), 0.0)
    R = scale[:, None] * _selector(robot, "joint/position", robot.m)
    return Residual(R, lambda w: scale * middle, False)


def _joint_speed_range(robot: Robot, term: Term) -> Residual:
    """Joint velocities in units of their limits: 1 is the limit."""
    R = _selector(robot, "joint/velocity", robot.m) / robot.velocity_limit[:, None]
    return Residual(R, lambda w: np.zeros(robot.m), False)


def _effort(robot: Robot, term: Term) -> Residual:
    """Effort about its slow mean, in units of the limit: without gravity compensation |u|^2 would cause an offset."""
    R = np.zeros((robot.m, robot.n + robot.m))
    R[:, robot.n :] = np.diag(1.0 / robot.effort_limit)
    return Residual(R, lambda w: w.effort_mean / robot.effort_limit, True)


def _effort_change(robot: Robot, term: Term) -> Residual:
    """Effort minus the effort before, in units of the limit."""
    R = _effort(robot, term).R.copy()
    R[:, robot.slice("effort/1")] = -np.diag(1.0 / robot.effort_limit)
    return Residual(R, lambda w: np.zeros(robot.m), True, True)


RESIDUALS: dict[str, Callable[[Robot, Term], Residual]] = {
    "site_position": _site_position, "site_velocity": _site_velocity, "joint_position": _joint_position,
    "joint_velocity": _joint_velocity, "joint_range": _joint_range, "joint_speed_range": _joint_speed_range,
    "effort": _effort, "effort_change": _effort_change,
}


class Task:
    """Named terms on one robot. Raises ConfigError for unknown residuals, sites and settings.

    settings: the group `task` of a parameter file: `terms: [names]`, one group per name, `path`.
    """

    def __init__(self, settings: Mapping[str, Any], robot: Robot):
        self.robot = robot
        names = settings.get("terms", [])
        if not isinstance(names, (list, tuple)) or not names:
            raise ConfigError("task.terms: expected a list of the names of cost terms")
        unknown = sorted(set(settings) - {"terms", "path", "target", *names})
        if unknown:
            raise ConfigError(f"task.{unknown[0]}: unknown setting; task has terms, path, target, {', '.join(names)}")
        self.terms = {name: from_mapping(Term, settings.get(name, {}), f"task.{name}") for name in names}
        self.path = from_mapping(Path, settings.get("path", {}), "task.path")
        self.residuals = [self._residual(name, term) for name, term in self.terms.items()]
        self.R = np.concatenate([r.R for r in self.residuals])  # (k, n + m)
        rows = [len(r.R) for r in self.residuals]
        terms = list(zip(self.residuals, self.terms.values(), strict=True))
        self._weight = np.repeat([float(term.weight) for _, term in terms], rows)  # (k,)
        self._last = self._weight * np.repeat([0.0 if r.uses_effort else term.terminal for r, term in terms], rows)
        self._width = np.repeat([np.inf if term.norm == "quadratic" else term.width for _, term in terms], rows)
        self._dead = np.repeat([term.norm == "dead_zone" for _, term in terms], rows)
        self._change = np.repeat([r.is_change for r in self.residuals], rows)

    def _residual(self, name: str, term: Term) -> Residual:
        if term.residual not in RESIDUALS:
            raise ConfigError(f"task.{name}.residual: unknown {term.residual!r}; choose one of {', '.join(RESIDUALS)}")
        return RESIDUALS[term.residual](self.robot, term)

    def path_to(self, goal: Array, start: Array, time: int) -> Motion:
        """The motion from `start` to or about `goal` (3,) [m] that begins at `time` [ns]."""
        return plan_path(self.path, goal, start, time)

    def window(self, path: Motion, time: int, q: Array, horizon: int, effort_mean: Array) -> Window:
        """What the cost refers to from `time` [ns] on, with the tool's Jacobian as it is at q (m,)."""
        position, velocity = path.at(time, self.robot.period, horizon + 1)
        return Window(position, velocity, self.robot.joint_velocity(q, velocity), effort_mean)

    def cost(self, window: Window, device: torch.device | None, slowness: float = 1.0) -> ResidualCost:
        """The cost over one horizon; `slowness` multiplies the weight on effort changes.

        Of torch tensors on `device`; without one, of numpy arrays for a planner that takes those.
        """
        steps, k = len(window.position), len(self.R)
        reference, scale, row = np.empty((steps, k)), np.empty((steps, k)), 0
        for residual in self.residuals:
            reference[:, row : row + len(residual.R)] = residual.reference(window)
            row += len(residual.R)
        scale[:-1], scale[-1] = np.where(self._change, self._weight * slowness, self._weight), self._last
        arrays = self.R, reference, scale, self._width, self._dead
        return ResidualCost(*(arrays if device is None else (torch.as_tensor(a, device=device) for a in arrays)))


@dataclass(frozen=True)
class ResidualCost:
    """sum_t sum_j scale_tj norm_j(R_j xu_t - reference_tj).

    width_j = inf marks the quadratic norm, dead_j the one with a dead zone; the others are smooth absolute values.
    `evaluate` takes numpy arrays as well where these are.
    """

    R: Array  # (k, n + m)
    reference: Array  # (T + 1, k)
    scale: Array  # (T + 1, k)
    width: Array  # (k,)
    dead: Array  # (k,) bool

    def _norm(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value, derivative and curvature of the norms at r (*b, T + 1, k)."""
        quadratic = torch.isinf(self.width)
        if bool(quadratic.all()):
            return 0.5 * r * r, r, torch.ones_like(r)
        width = torch.where(quadratic, 0.0, self.width)
        # The quadratic norm is that with a dead zone of no width.
        beyond = r - r.clamp(-width, width)
        root = torch.sqrt(r * r + width * width)
        smooth = ~(quadratic | self.dead)
        safe = torch.where(smooth, root, 1.0)
        curvature = torch.where(smooth, 1.0 / safe, ((beyond != 0) | quadratic).to(r.dtype))
        return (torch.where(smooth, root - width, 0.5 * beyond * beyond), torch.where(smooth, r / safe, beyond),
                curvature)  # 1 / root bounds the true curvature of the smooth absolute value

    def _residuals(self, x: Array, u: Array) -> Array:
        return joined(x, u) @ self.R.T - self.reference  # terms in u have no weight at the last step

    def evaluate(self, x: Array, u: Array) -> Array:
        """x (*b, T + 1, n), u (*b, T, m) -> total cost (*b,); without slope and curvature, which would cost more."""
        r = self._residuals(x, u)
        of: Any = torch if isinstance(r, Tensor) else np
        curved = of.isfinite(self.width) & ~self.dead  # smooth absolute values
        within = of.where(of.isinf(self.width), 0.0, self.width)
        value = 0.5 * (r - r.clip(-within, within)) ** 2  # the quadratic norm is that with a dead zone of no width
        if bool(curved.any()):
            value = of.where(curved, of.sqrt(r * r + within * within) - within, value)
        return (self.scale * value).sum((-2, -1))

    def quadratize(self, x: Tensor, u: Tensor) -> QuadraticCost:
        """Expansion about x, u: C (*b, T + 1, n + m, n + m), c and const in absolute coordinates."""
        r = self._residuals(x, u)
        value, slope, curvature = self._norm(r)
        weight = self.scale * curvature  # (*b, T + 1, k)
        C = self.R.T @ (weight.unsqueeze(-1) * self.R)
        # norm(r + R d) ~ value + slope R d + curvature (R d)^2 / 2, rewritten around xu = 0 where r = -reference
        origin = r + self.reference
        c = (self.scale * slope - weight * origin) @ self.R
        const = (self.scale * (value - slope * origin + 0.5 * curvature * origin**2)).sum(-1)
        return QuadraticCost(C, c, const)


def live_settings() -> list[str]:
    """Names of the fields of a term and of the path that may change while the robot runs."""
    return [f.name for f in (*fields(Term), *fields(Path)) if f.metadata["live"]]
