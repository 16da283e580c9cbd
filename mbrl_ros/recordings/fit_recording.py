"""A global model fitted to a recording, and how well it predicts what it has not seen.

The transitions of the joint rows are taken in the order of time; contiguous blocks of them are held out, because
neighbours in time are nearly equal. The model that is kept is fitted to all of them.
"""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.gaussian import Z95
from mbrl_ros.messages.fields import same
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.prior import fit, residuals
from mbrl_ros.recordings.recording import STATE_ESTIMATE, read_trials
from mbrl_ros.ring.learner import features_of
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Transitions, Trial

FEWEST = 50  # transitions; the parts of a hold-out have to be worth a fit and a score
BLOCKS = 10  # of time, at least


class Score(NamedTuple):
    """Of one kind of row on the transitions held out."""

    error: float  # root mean square, relative to the deviation of the change over a period
    coverage: float  # of the central 95 % interval


class HeldOut(NamedTuple):
    """How a model predicts the transitions that were held out."""

    scores: dict[str, Score]  # by kind of row
    loss: float  # mean negative log-likelihood [nats per transition]
    fitted: int  # transitions
    tested: int
    seconds: float  # of the fit


def read(path: Path, topic: str | None = None) -> list[Trial]:
    """The trials of a recording. Raises RecordingError, or ConfigError where there are none."""
    trials = read_trials(path, topic)
    if not trials:
        raise ConfigError(f"{path}: no two states in a row in it; expected a topic with {STATE_ESTIMATE}")
    return trials


def effort_history(trials: Sequence[Trial]) -> int:
    """How many past efforts are in the recorded states; at least one, as every robot has."""
    return max([int(name.split("/")[1]) for name in trials[0].state_names if name.startswith("effort/")], default=1)


def motion(trials: Sequence[Trial], path: Path, robot: Robot, seconds: float | None) -> Transitions:
    """The latest transitions of the joint rows of trials from `path`, at most `seconds` of them (all without).

    Raises MessageError or ConfigError where they are not of this robot, or too few.
    """
    for trial in trials:
        _check(path, trial, robot)
    parts = [trial.transitions(robot.stride) for trial in trials]
    rows = robot.joint_rows
    x, u, x_next = (np.concatenate(a) for a in zip(*((t.x[:, rows], t.u, t.x_next[:, rows]) for t in parts),
                                                   strict=True))
    kept = slice(0 if seconds is None else max(0, len(x) - round(seconds / robot.step)), None)
    found = Transitions(x[kept], u[kept], x_next[kept])
    if len(found.x) < FEWEST:
        raise ConfigError(f"{path}: {len(found.x)} transitions; expected at least {FEWEST}")
    return found


def _check(path: Path, trial: Trial, robot: Robot) -> None:
    same(f"{path}: joints", trial.joint_names, robot.joints)
    same(f"{path}: x", trial.state_names, robot.state_names)
    period = 1e-9 * float(np.median(np.diff(trial.time)))
    if abs(period - robot.period) > 0.1 * robot.period:
        raise ConfigError(f"{path}: recorded every {period:.4g} s; expected robot.period, {robot.period:.4g} s")


def held_out(count: int, fraction: float) -> Array:
    """Which (count,) of the transitions are held out: whole blocks of time, spread evenly."""
    blocks = min(count, max(BLOCKS, int(np.ceil(2 / fraction))))
    block = np.arange(count) * blocks // count
    chosen: Array = np.floor((block + 1) * fraction + 1e-9) > np.floor(block * fraction + 1e-9)
    return chosen


def score(kind: str, transitions: Transitions, robot: Robot, settings: Mapping[str, Any], seed: int, fraction: float
          ) -> HeldOut:
    """Fit to one part of the transitions and predict the other."""
    data = Data.of(transitions, features_of(robot), robot)
    test = held_out(len(data.w), fraction)
    if not 0 < test.sum() < len(test) - FEWEST // 2:
        raise ConfigError(f"--hold-out: {fraction} of {len(test)} transitions leaves too few to fit or to test")
    began = time.perf_counter()
    model = fit(kind, Data(data.features, data.w[~test], data.y[~test], robot), settings, seed)
    elapsed = time.perf_counter() - began
    residual, std, loss = residuals(model, data.w[test], data.y[test])
    deviation = scale_of(data.y)[1]
    scores = {}
    for name in ("position", "velocity"):
        rows = robot.slice(f"joint/{name}")
        relative = residual[:, rows] / deviation[rows]
        inside = np.abs(residual[:, rows]) <= Z95 * std[:, rows]
        scores[f"joint {name}"] = Score(float(np.sqrt(np.square(relative).mean())), float(inside.mean()))
    return HeldOut(scores, loss, int((~test).sum()), int(test.sum()), elapsed)


def table(found: HeldOut) -> str:
    """What a person wants to read."""
    lines = [f"held out: {found.tested} transitions, in blocks of time; fitted to the other {found.fitted} in "
             f"{found.seconds:.1f} s", f"{'':16s}{'error / deviation':>18s}{'in the 95 % band':>18s}"]
    lines += [f"{kind:16s}{s.error:18.4f}{100 * s.coverage:16.1f} %" for kind, s in found.scores.items()]
    return "\n".join([*lines, f"negative log-likelihood {found.loss:.2f} nats per transition"])
