"""The demonstration as a procedure: excite, fit, reach random targets, with a payload put into the hand half-way.

Everything is counted here, for the plain loop, for the demo over ROS, and for the same run by a controller that is
given the true dynamics (the oracle). Success at d means that the tool is within d of the target during all of the last
half second. Errors are those of the true tool, without sensor noise.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.config import from_mapping, merge, param, section
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Trial

SETTLED = 0.5  # [s] at the end of the time for a target
LASTING = 0.3  # [s] that an error must be small before it counts as back
EARLIER = 4.0  # [s] before a change that are the measure for after it
FAR = 0.3  # [m] from which on an error costs no more
ONSET = 1.0  # [s] after a change in which its effect begins


@dataclass(frozen=True)
class Config:
    """Parameters `scenario.*`."""

    targets: int = param(20, "How many targets", 1, 10000)
    data_seconds: float = param(30.0, "Excitation before the first target [s]; 0: learn on the way to it", 0.0, 600.0)
    seconds_per_target: float = param(3.0, "[s]", 0.6, 60.0)
    spread: float = param(0.6, "Targets are tool positions at home +- this much on every joint [rad or m]", 0.01, 3.0)
    nearest: float = param(0.12, "Least distance between targets in a row, as long as one is found [m]", 0.0, 2.0)
    farthest: float = param(0.6, "Largest distance between targets in a row [m]", 0.01, 5.0)
    beyond: float = param(0.0, "Every second target is moved away from the base by up to this, most of them out of "
                          "reach; the nearest point is what counts then [m]", 0.0, 100.0)
    payload: float = param(1.0, "Mass put into the hand half-way [kg]", 0.0, 20.0)
    change_after: float = param(0.0, "When the world changes after the half-way target was given [s]", 0.0, 60.0)
    seed: int = param(0, "Seed of the targets", 0)


def config_of(settings: Mapping[str, Any], over: Mapping[str, Any]) -> Config:
    """Those of the parameter files, a robot's for example, with `over` on top."""
    return from_mapping(Config, merge(section(settings, "scenario"), over), "scenario")


def draw_targets(robot: Robot, config: Config) -> list[Array]:
    """Reachable targets (3,) [m], each at an allowed distance from the one before."""
    rng, out = np.random.default_rng([config.seed, 1]), np.random.default_rng([config.seed, 2])
    margin = np.where(np.isfinite(robot.position_high), 0.08, 0.0)
    last, targets = robot.tool_position(robot.home), []
    for i in range(config.targets):
        for _attempt in range(200):
            q = robot.home + rng.uniform(-config.spread, config.spread, robot.m)
            target = robot.tool_position(np.clip(q, robot.position_low + margin, robot.position_high - margin))
            if config.nearest <= np.linalg.norm(target - last) <= config.farthest:
                break
        last = target
        if config.beyond > 0 and i % 2:
            target = target + config.beyond * out.uniform() * target / np.linalg.norm(target)
        targets.append(target)
    return targets


@dataclass(frozen=True)
class TargetResult:
    """What became of one target."""

    median_mm: float  # of the error in the last half second; infinite after a divergence
    worst_mm: float  # likewise
    cost: float  # integral of tracking error and effort, see `running_cost`

    def within(self, mm: float) -> bool:
        return self.worst_mm <= mm


def running_cost(error: Array, effort: Array, limit: Array) -> Array:
    """1e3 min(|error|, 0.3 m)^2 + 0.01 |u / limit|^2 per second; error (T, 3) to the path, effort (T, m)."""
    distance = np.minimum(np.linalg.norm(error, axis=-1), FAR)
    return 1e3 * distance**2 + 0.01 * ((effort / limit) ** 2).sum(-1)


def score(robot: Robot, tool: Array, reference: Array, target: Array, effort: Array) -> TargetResult:
    """One target from the true tool, the path, and the efforts of its periods (T, 3), (T, 3), (T, m)."""
    settled = round(SETTLED / robot.period)
    final = 1e3 * np.linalg.norm(tool[-settled:] - target, axis=-1)
    cost = robot.period * running_cost(tool - reference, effort, robot.effort_limit).sum()
    return TargetResult(float(np.median(final)), float(final.max()), float(cost))


def score_cycle(robot: Robot, tool: Array, reference: Array, effort: Array) -> TargetResult:
    """One cycle of a path without end: as `score`, of the error to the path in all of the cycle."""
    error = 1e3 * np.linalg.norm(tool - reference, axis=-1)
    cost = robot.period * running_cost(tool - reference, effort, robot.effort_limit).sum()
    return TargetResult(float(np.median(error)), float(error.max()), float(cost))


def score_trial(robot: Robot, trial: Trial, target: Array, steps: int, path: Array | None = None
                ) -> tuple[float, float]:
    """Cost of a trial against a path (T, 3), or without one against the target (3,) from the first period on, and the
    last error to the target [mm]; what is missing of `steps` periods counts like the last. Infinite for a trial of no
    period."""
    if len(trial.u) == 0:
        return np.inf, np.inf
    tool = trial.x[1:, robot.slice(f"site/{robot.sites[0]}/position")]
    cost = running_cost(tool - (target if path is None else path), trial.u, robot.effort_limit)
    return (robot.period * float(cost.sum() + (steps - len(cost)) * cost[-1]),
            1e3 * float(np.linalg.norm(tool[-1] - target)))


def interval(values: Array, of: Callable[..., Array] = np.mean, draws: int = 10_000) -> tuple[float, float]:
    """The 95 % interval of their mean, or median, by bootstrap: of one value (N,) for each seed."""
    drawn = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(of(values[drawn], axis=1), [2.5, 97.5])
    return float(low), float(high)


def recovery_time(error: Array, change: int, period: float) -> float:
    """Seconds from row `change` of the errors to the path (T,) until they are back: within 1.5 times their level, for
    LASTING seconds. Their level is the largest moving root mean square of the EARLIER seconds before.

    0 where they do not leave that level within ONSET seconds, infinite where they do not come back; a run that ends in
    a divergence has infinite errors from there on.
    """
    count = max(1, round(LASTING / period))
    before, after = error[max(0, change - round(EARLIER / period)) : change], error[change:]
    squares = np.convolve(before**2, np.full(min(count, len(before)), 1 / min(count, len(before))), "valid")
    inside = after <= 1.5 * np.sqrt(squares.max())
    outside = np.flatnonzero(~inside[: round(ONSET / period)])
    if len(outside) == 0:
        return 0.0
    for i in range(outside[0], len(after) - count + 1):
        if inside[i : i + count].all():
            return i * period
    return float("inf")


def peak_mm(error: Array, change: int, period: float) -> float:
    """The largest of the errors (T,) [m] in the ONSET seconds from row `change` on."""
    return 1e3 * float(error[change : change + round(ONSET / period)].max())


FAILED = TargetResult(np.inf, np.inf, np.inf)


def summarize(results: list[TargetResult], oracle: list[TargetResult]) -> dict[str, Any]:
    """The figures of a run; infinite values (divergence) are given as None, as JSON has none."""
    half = (len(results) + 1) // 2
    figures = _figures(results, oracle)
    figures["before_payload"] = _figures(results[:half], oracle[:half])
    figures["after_payload"] = _figures(results[half:], oracle[half:])
    figures["diverged"] = any(np.isinf(r.cost) for r in results)
    return figures


def _figures(results: list[TargetResult], oracle: list[TargetResult]) -> dict[str, Any]:
    if not results:
        return {}
    cost, best = sum(r.cost for r in results), sum(r.cost for r in oracle)
    finite = lambda value: float(value) if np.isfinite(value) else None  # noqa: E731
    return {
        "success_5mm": float(np.mean([r.within(5) for r in results])),
        "success_20mm": float(np.mean([r.within(20) for r in results])),
        "median_error_mm": finite(np.median([r.median_mm for r in results])),
        "worst_error_mm": finite(max(r.worst_mm for r in results)),
        "oracle_cost_ratio": finite(cost / best) if oracle and best > 0 else None,
    }
