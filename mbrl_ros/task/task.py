"""What the robot shall do: a cost as weighted norms of residuals, along a smooth path.

Cost of one horizon = sum over steps t and terms i of scale_t w_i norm_i(r_i,t). A task is data (config/tasks/); only a
new kind of residual, norm or path is code. The settings of a term are those of Term, of its residual and of its norm in
one group, and those of the path likewise. A group may hold settings of kinds that it does not choose, so that what is
put on top of it can choose another.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mbrl_ros.config import ConfigError, from_mapping, param, section
from mbrl_ros.robot import Robot, least_velocity
from mbrl_ros.task import NORMS, PATHS, RESIDUALS
from mbrl_ros.task.cost import CurvedTerm, MixedCost, ResidualCost
from mbrl_ros.task.norms import Norm
from mbrl_ros.task.path import MinimumJerk, Motion, Path
from mbrl_ros.task.reachable import JointMotion, Reachable
from mbrl_ros.task.residuals import Affine, Curved, Residual, Window
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float


def _described(kinds: Mapping[str, type[Any]]) -> str:
    """The kinds by name, each with the first line that it says of itself."""
    return "; ".join(f"{name}: {(kind.__doc__ or ' ').splitlines()[0].rstrip('.')}" for name, kind in kinds.items())


@dataclass(frozen=True)
class Term:
    """Parameters `task.<term>.*` of every term; those of its residual and its norm come in addition."""

    residual: str = param("site_position", _described(RESIDUALS), choices=RESIDUALS)
    norm: str = param("quadratic", _described(NORMS), choices=NORMS)
    weight: float = param(1.0, "Weight of the term", 0.0, 1e9, live=True)
    terminal: float = param(1.0, "Factor on the weight at the end of the horizon", 0.0, 1e6)


@dataclass(frozen=True)
class PathKind:
    """Parameters `task.path.*` of every path; those of its kind come in addition."""

    kind: str = param("minimum_jerk", _described(PATHS), choices=PATHS)


class Task:
    """Named terms on one robot. Raises ConfigError for unknown residuals, sites and settings.

    settings: the group `task` of a parameter file: `terms: [names]`, one group per name, `path`.
    """

    def __init__(self, settings: Mapping[str, Any], robot: Robot):
        self.robot, self.reachable = robot, Reachable(robot)
        names = settings.get("terms", [])
        if not isinstance(names, (list, tuple)) or not names:
            raise ConfigError("task.terms: expected a list of the names of cost terms")
        missing = [name for name in names if name not in settings]
        if missing:
            raise ConfigError(f"task.{missing[0]}: expected the settings of this term, which task.terms names")
        unknown = sorted(set(settings) - {"terms", "path", "target", *names})
        if unknown:
            raise ConfigError(f"task.{unknown[0]}: unknown setting; task has terms, path, target, {', '.join(names)}")
        self.groups: dict[str, tuple[Any, ...]] = {  # of one or more dataclasses each, by name
            name: _parts(section(settings, name, "task."), f"task.{name}", Term, residual=RESIDUALS, norm=NORMS)
            for name in names}
        self.groups["path"] = _parts(section(settings, "path", "task."), "task.path", PathKind, kind=PATHS)
        self.path: Path = self.groups["path"][1]
        self.terms: dict[str, Term] = {name: self.groups[name][0] for name in names}
        self._affine: list[Affine] = []
        self._curved: list[tuple[str, Affine | Curved, Norm, Term]] = []
        codes, terms = [], []
        for name in names:
            term, kind, norm = self.groups[name]
            residual, code = _on(robot, kind, f"task.{name}"), getattr(norm, "code", None)
            if isinstance(residual, Affine) and code is not None:
                self._affine.append(residual)
                codes += [code] * len(residual.R)
                terms += [(term, residual)] * len(residual.R)
            else:
                self._curved.append((name, residual, norm, term))
        R = [residual.R for residual in self._affine]
        self.R = np.concatenate([np.empty((0, robot.n + robot.m)), *R])  # (k, n + m)
        self._weight = np.array([term.weight for term, _ in terms], float)  # (k,)
        self._last = np.array([_at_end(term, residual) for term, residual in terms], float)
        self._width, self._dead = np.array([w for w, _ in codes], float), np.array([d for _, d in codes], bool)
        self._change = np.array([residual.is_change for _, residual in terms], bool)

    def path_to(self, goal: Float[Array, " 3"], start: Float[Array, " 3"], time: int,
                q: Float[Array, " m"]) -> Motion | JointMotion:
        """The motion from `start`, where the joints are at q, to or about `goal` [m], that begins at `time` [ns].
        Where joints would be too fast on the straight line, it takes longer, or is straight for the joints:
        whichever is there first."""
        path, goal, start = self.path, np.array(goal, float), np.array(start, float)
        if isinstance(path, MinimumJerk):
            usual, straight = path.duration(start, goal), self.reachable.straight(start, goal, q) / path.joint_speed
            if straight > usual:
                end, least = self.reachable.bent(goal, q)
                duration = max(usual, least / path.joint_speed)
                if duration < straight:
                    return self.reachable.motion(goal, q, end, time, duration)
                path = replace(path, shortest=straight, longest=straight)
        return Motion(path, start, goal, time)

    def window(self, path: Motion | JointMotion, time: int, q: Float[Array, " m"], horizon: int,
               effort_mean: Float[Array, " m"]) -> Window:
        """What the cost refers to from `time` [ns] on, with the tool and its Jacobian as they are at q."""
        position, velocity = path.at(time, self.robot.step, horizon + 1)
        tool, rotation, J = self.robot.tool(q)
        qd = (path.joints(time, self.robot.step, horizon + 1)[1] if isinstance(path, JointMotion)
              else least_velocity(J, velocity))
        return Window(position, velocity, qd, effort_mean, tool, rotation)

    def cost(self, window: Window, device: torch.device | None, slowness: float = 1.0) -> ResidualCost | MixedCost:
        """The cost over one horizon; `slowness` multiplies the weight on effort changes.

        Of torch tensors on `device`; without one, of numpy arrays for a planner that takes those.
        """
        steps, k = len(window.position), len(self.R)
        reference, scale, row = np.empty((steps, k)), np.empty((steps, k)), 0
        for residual in self._affine:
            reference[:, row : row + len(residual.R)] = residual.reference(window)
            row += len(residual.R)
        scale[:-1], scale[-1] = np.where(self._change, self._weight * slowness, self._weight), self._last
        arrays = self.R, reference, scale, self._width, self._dead
        rows = ResidualCost(*(arrays if device is None else (torch.as_tensor(a, device=device) for a in arrays)))
        if not self._curved:
            return rows
        return MixedCost(rows, tuple(self._beyond(*each, window, slowness) for each in self._curved), window)

    @staticmethod
    def _beyond(name: str, residual: Affine | Curved, norm: Norm, term: Term, window: Window,
                slowness: float) -> CurvedTerm:
        """A term for the reference planners, at this window."""
        scale = np.full((len(window.position), 1), term.weight * (slowness if residual.is_change else 1.0))
        scale[-1] = _at_end(term, residual)
        return CurvedTerm(name, residual.curved(window) if isinstance(residual, Affine) else residual, norm, scale)


def _parts(values: Mapping[str, Any], prefix: str, first: type[Any],
           **kinds: Mapping[str, type[Any]]) -> tuple[Any, ...]:
    """From one group of settings an instance of `first`, and one of the kind that each field in `kinds` chooses."""
    own = {f.name for f in fields(first)}
    head = from_mapping(first, {key: value for key, value in values.items() if key in own}, prefix)
    classes = [of[getattr(head, field)] for field, of in kinds.items()]
    has = [f.name for cls in (first, *classes) for f in fields(cls)]
    twice = {name for name in has if has.count(name) > 1}
    if twice:
        raise ConfigError(f"{prefix}: {' and '.join(c.__name__ for c in classes)} cannot be together: both have "
                          f"{', '.join(sorted(twice))}")
    known = {f.name for of in kinds.values() for cls in of.values() for f in fields(cls)}.union(has)
    for key in values:
        if key not in known:
            raise ConfigError(f"{prefix}.{key}: unknown setting; {prefix} has {', '.join(has)}")
    return (head, *(from_mapping(cls, {f.name: values[f.name] for f in fields(cls) if f.name in values}, prefix)
                    for cls in classes))


def _on(robot: Robot, kind: Residual, prefix: str) -> Affine | Curved:
    """A residual on its robot; what it refuses is named by the term."""
    try:
        return kind.on(robot)
    except ConfigError as error:
        raise ConfigError(f"{prefix}: {error}") from error


def _at_end(term: Term, residual: Affine | Curved) -> float:
    """Weight at the last step, where there is no effort any more."""
    return 0.0 if residual.uses_effort else float(term.weight) * term.terminal
