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
from scipy.spatial.transform import Rotation

from mbrl_ros.config import LOGARITHMIC, ConfigError, from_mapping, param, section
from mbrl_ros.robot import Robot, least_velocity
from mbrl_ros.task import NORMS, PATHS, RESIDUALS, bypass
from mbrl_ros.task.bypass import Bypass
from mbrl_ros.task.cost import CurvedTerm, MixedCost, ResidualCost
from mbrl_ros.task.goal import Course, Goal, as_goal
from mbrl_ros.task.norms import Norm
from mbrl_ros.task.path import FADE, MinimumJerk, Motion, Path, Turn, profile
from mbrl_ros.task.reachable import LEVER, JointMotion, Reachable
from mbrl_ros.task.residuals import Affine, Curved, Residual, Tangent, ToolOrientation, Window
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
    weight: float = param(1.0, "Weight of the term", 0.0, 1e9, live=True, scale=LOGARITHMIC)
    terminal: float = param(1.0, "Factor on the weight at the end of the horizon", 0.0, 1e6, scale=LOGARITHMIC)


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
        self.shapes = [kind for _, kind, _ in (self.groups[name] for name in names) if hasattr(kind, "distance")]
        turned = (kind.rotation(robot) for _, kind, _ in (self.groups[name] for name in names)
                  if isinstance(kind, ToolOrientation))
        self.rotation = next((rotation for rotation in turned if rotation is not None), None)
        self._affine: list[Affine] = []
        self._tangents: list[tuple[str, Tangent, Norm, Term]] = []
        self._curved: list[tuple[str, Affine | Tangent | Curved, Norm, Term]] = []
        self._rows: list[str] = []  # the term of every row of R
        codes, terms = [], []
        for name in names:
            term, kind, norm = self.groups[name]
            residual, code = _on(robot, kind, f"task.{name}"), getattr(norm, "code", None)
            if isinstance(residual, Affine) and code is not None:
                self._affine.append(residual)
                codes += [code] * len(residual.R)
                terms += [(term, residual)] * len(residual.R)
                self._rows += [name] * len(residual.R)
            elif isinstance(residual, Tangent):
                self._tangents.append((name, residual, norm, term))
            else:
                self._curved.append((name, residual, norm, term))
        R = [residual.R for residual in self._affine]
        self.R = np.concatenate([np.empty((0, robot.n + robot.m)), *R])  # (k, n + m)
        self._weight = np.array([term.weight for term, _ in terms], float)  # (k,)
        self._last = np.array([_at_end(term, residual) for term, residual in terms], float)
        self._width, self._dead = np.array([w for w, _ in codes], float), np.array([d for _, d in codes], bool)
        self._change = np.array([residual.is_change for _, residual in terms], bool)

    def path_to(self, goal: Goal | Float[Array, " 3"], start: Float[Array, " 3"], time: int,
                q: Float[Array, " m"]) -> Motion | JointMotion:
        """The motion from `start`, where the joints are at q, to or about the goal, or the point [m], that begins at
        `time` [ns]. Where joints would be too fast on the straight line, or on the way round what is to be kept out of,
        it takes longer, or is straight for the joints: whichever is there first."""
        goal, start, path = as_goal(goal, self.rotation), np.array(start, float), self.path
        if goal.joints is not None:
            shortest = path.shortest if isinstance(path, MinimumJerk) else 0.0
            return self._by_joints(goal, goal.joints, q, time, shortest)
        turn = self._turn(goal, q)
        if not isinstance(path, MinimumJerk):
            return Motion(path, start, goal.position, time, turn)
        end = None if turn is None else self.reachable.nearest(goal.position, q, goal.rotation).joints
        if not self.shapes or not self._blocked(path, start, goal.position):
            usual = max(path.duration(start, goal.position), turn.duration if turn else 0.0)
            straight = self.reachable.straight(start, goal.position, q, turn) / path.joint_speed
            if straight > usual:
                bent = self._bent(goal, q, time, usual, straight)
                if bent is not None:
                    return bent
            if max(straight, usual) > path.duration(start, goal.position):
                path = replace(path, shortest=max(straight, usual), longest=max(straight, usual))
            return Motion(path, start, goal.position, time, _during(turn, path.duration(start, goal.position)), end)
        best: Bypass | None = None
        for curve, length, bend in bypass.ways(self.shapes, start, goal.position):
            usual = max(path.of_length(length), bypass.slow_enough(length, bend), turn.duration if turn else 0.0)
            points = curve(profile(np.linspace(0.0, 1.0, bypass.POINTS), 1.0)[0])
            least = self.reachable.along(points, q, turn) / path.joint_speed
            if best is None or max(usual, least) < best.span:
                best = Bypass(curve, max(usual, least))
            if least <= usual:
                break
        bent = self._bent(goal, q, time, path.duration(start, goal.position), best.span if best else np.inf)
        if bent is not None:
            return bent
        if best is None or not np.isfinite(best.span):  # no way: stay
            return Motion(path, start, start, time)
        return Motion(best, start, goal.position, time, _during(turn, best.span), end)

    def _turn(self, goal: Goal, q: Array) -> Turn | None:
        """How the tool turns to the goal, from joints at q."""
        if goal.rotation is None:
            return None
        start = self.robot.tool(q)[1]
        vector = Rotation.from_matrix(start.T @ goal.rotation).as_rotvec()
        quick = self.path.turn_speed if isinstance(self.path, MinimumJerk) else 1.0
        return Turn(start, vector, max(FADE, float(np.linalg.norm(vector)) / quick) if self.path.cycle else
                    max(float(np.linalg.norm(vector)) / quick, 1e-3))

    def _blocked(self, path: MinimumJerk, start: Array, goal: Array) -> bool:
        return bypass.blocked(self.shapes, start + np.linspace(0.0, 1.0, bypass.POINTS)[:, None] * (goal - start))

    def _bent(self, goal: Goal, q: Array, time: int, usual: float, straight: float) -> JointMotion | None:
        """A motion that is straight for the joints, where it is quicker than `straight` [s], and through nothing."""
        joints = self.reachable.nearest(goal.position, q, goal.rotation).joints
        motion = self._by_joints(goal, joints, q, time, usual)
        if motion.duration >= straight:
            return None
        if self.shapes:
            points, _ = motion.at(time, motion.duration / (bypass.POINTS - 1), bypass.POINTS)
            if bypass.blocked(self.shapes, points):
                return None
        return motion

    def _by_joints(self, goal: Goal, joints: Array, q: Array, time: int, usual: float) -> JointMotion:
        speed = self.path.joint_speed if isinstance(self.path, MinimumJerk) else 1.0
        duration = max(usual, self.reachable.quickest(joints, q) / speed)
        return JointMotion(self.reachable.chain, np.array(q), joints, goal.position, time, duration,
                           goal.rotation is not None, goal.rotation is not None or goal.joints is not None)

    def window(self, path: Course, time: int, q: Float[Array, " m"], horizon: int,
               effort_mean: Float[Array, " m"]) -> Window:
        """What the cost refers to from `time` [ns] on, with the tool and its Jacobian as they are at q."""
        span = time, self.robot.step, horizon + 1
        position, velocity = path.at(*span)
        tool, rotation, J = self.robot.tool(q)
        joints, turned = path.joints(*span), path.turned(*span)
        if joints is None and turned is None:
            return Window(position, velocity, least_velocity(J, velocity), effort_mean, tool, rotation, q)
        turn = spin = None
        if turned is not None:
            J_turn = self.reachable.poses(q)[2][3:]
            turn, spin = Rotation.from_matrix(rotation.T @ turned[0]).as_rotvec(), rotation.T @ J_turn
        if joints is not None:
            qd = joints[1]
        else:
            assert turned is not None
            qd = least_velocity(np.vstack([J, LEVER * J_turn]), np.hstack([velocity, LEVER * turned[1]]))
        held = joints[0] if joints is not None and getattr(path, "held", True) else None
        end = getattr(path, "end", None) if joints is None else None if held is None else held[-1]
        return Window(position, velocity, qd, effort_mean, tool, rotation, q, turn, spin, held, end)

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
        R, width, dead, curved, names = self.R, self._width, self._dead, [*self._curved], [*self._rows]
        for name, tangent, norm, term in self._tangents:
            found, code = tangent.rows(window), getattr(norm, "code", None)
            if found is None:
                continue
            if code is None:
                curved.append((name, tangent, norm, term))
                continue
            weight = np.full(found.reference.shape, float(term.weight)) if found.active is None else (
                term.weight * found.active)
            weight[-1] *= term.terminal
            R, reference, scale = np.vstack([R, found.R]), np.hstack([reference, found.reference]), np.hstack(
                [scale, weight])
            width, dead = np.append(width, [code[0]] * len(found.R)), np.append(dead, [code[1]] * len(found.R))
            names += [name] * len(found.R)
        arrays = R, reference, scale, width, dead
        made: Any = arrays if device is None else [torch.as_tensor(a, device=device) for a in arrays]
        rows = ResidualCost(made[0], made[1], made[2], made[3], made[4], tuple(names))
        if not curved:
            return rows
        return MixedCost(rows, tuple(self._beyond(*each, window, slowness) for each in curved), window)

    @staticmethod
    def _beyond(name: str, residual: Affine | Tangent | Curved, norm: Norm, term: Term, window: Window,
                slowness: float) -> CurvedTerm:
        """A term for the reference planners, at this window."""
        scale = np.full((len(window.position), 1), term.weight * (slowness if residual.is_change else 1.0))
        scale[-1] = _at_end(term, residual)
        rows = residual.rows(window) if isinstance(residual, Tangent) else None
        if rows is not None and rows.active is not None:
            scale = scale * rows.active
        return CurvedTerm(name, residual if isinstance(residual, Curved) else residual.curved(window), norm, scale)


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


def _during(turn: Turn | None, duration: float) -> Turn | None:
    """The turn in the time of its motion."""
    return None if turn is None else turn._replace(duration=duration)


def _on(robot: Robot, kind: Residual, prefix: str) -> Affine | Tangent | Curved:
    """A residual on its robot; what it refuses is named by the term."""
    try:
        return kind.on(robot)
    except ConfigError as error:
        raise ConfigError(f"{prefix}: {error}") from error


def _at_end(term: Term, residual: Affine | Tangent | Curved) -> float:
    """Weight at the last step, where there is no effort any more."""
    return 0.0 if residual.uses_effort else float(term.weight) * term.terminal
