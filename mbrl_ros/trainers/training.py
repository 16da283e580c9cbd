"""A trainer and its trials in a folder: a training that was stopped, or killed, goes on from its last trial.

What a trainer is follows from its settings, its seed and its trials, so these are its state on disk: it is made anew
and learns once more from the trials that are there, in their order. No trial that is over is lost, and one that is not
is played again. The folder has `training.json`, the trials (recordings/trials.py), and what the last update gave.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, from_mapping, merge, section
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import RESET, transitions_of
from mbrl_ros.messages.episode import Episode
from mbrl_ros.models import prior
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.recordings.trials import read_recorded, write_trial
from mbrl_ros.ring import policy
from mbrl_ros.ring.policy import Policy
from mbrl_ros.robot import Robot
from mbrl_ros.trainers import TRAINERS
from mbrl_ros.trainers.trainer import Config, Trainer, target_of
from mbrl_ros.types import Array, Trial

FILE = "training.json"
Row = dict[str, Any]


def suited(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings, on top of what this trainer needs of the others. Raises ConfigError where there is none."""
    if name not in TRAINERS:
        raise ConfigError(f"trainer: unknown {name!r}; choose one of {', '.join(TRAINERS)}")
    return merge(getattr(TRAINERS[name], "SETTINGS", {}), settings)


class Training:
    """A trainer, and what came of its trials so far. `folder` has earlier ones, or none yet; without one, nothing is
    kept. Raises RecordingError where there are trials that cannot be read."""

    def __init__(self, trainer: Trainer, config: Config, robot: Robot, target: Array, folder: Path | None = None):
        self.trainer, self.config, self.robot, self.target, self.folder = trainer, config, robot, target, folder
        self.steps = round(config.seconds / robot.period)
        self.rows: list[Row] = []
        self.trials: list[Trial] = []
        self._policy: Policy | str | None = None
        self._pending: list[tuple[float, float]] = []
        if folder is not None:
            self.look()

    @property
    def policy(self) -> Policy | str:
        """What to play next; the trainer is asked once for every update."""
        if self._policy is None:
            self._policy = self.trainer.policy()
        return self._policy

    def record(self, episode: Episode, trial: Trial) -> Row | None:
        """Keep a trial that is over, and learn from it when it is the last of those between two updates."""
        if self.folder is not None:
            write_trial(self.folder, episode, trial, self.robot.base_frame)
        return self._learn(trial)

    def look(self) -> None:
        """Learn from the trials in the folder that are not known yet."""
        assert self.folder is not None
        for of in read_recorded(self.folder, len(self.trials)):
            if (of.trial.state_names, of.trial.joint_names) != (self.robot.state_names, self.robot.joints):
                raise RecordingError(f"{self.folder}: trial {of.episode.number} is of another robot")
            self._learn(of.trial)

    def _learn(self, trial: Trial) -> Row | None:
        played = self.policy
        self.trials.append(trial)
        self._pending.append(measures.score_trial(self.robot, trial, self.target, self.steps))
        if len(self._pending) < self.config.trials:
            return None
        cost, final = np.mean(self._pending, axis=0)
        new = self.trials[-self.config.trials :]
        figures = self.trainer.update(new)
        row = {"update": len(self.rows), "played": played if isinstance(played, str) else "policy",
               "cost": float(cost), "final_mm": float(final),
               "seconds": self.robot.period * sum(len(t.u) for t in new), **figures}
        self._pending, self._policy = [], None
        self.rows.append(row)
        return row

    def announced(self) -> tuple[str, str]:
        """Files of what to play next and of the model, written where they are not there yet; empty where there is none,
        as for a mode. Raises ConfigError for a policy that fits into no file."""
        assert self.folder is not None
        saved, of, fitted = "", self.policy, self.trainer.model()
        version = f"version_{len(self.rows):05d}"
        if not isinstance(of, str):
            path = self.folder / "policies" / f"{version}.npz"
            timed: Any = getattr(of, "timed", of)
            try:
                _written(path, lambda new: policy.save(timed, new))
            except AttributeError as error:
                raise ConfigError(f"{type(self.trainer).__name__}: what it plays fits into no file, and cannot be sent "
                                  "to the ring: expected a mode, or a policy that ring/policy.py can save") from error
            saved = str(path.resolve())
        if fitted is None:
            return saved, ""
        model = self.folder / "models" / version / "model.npz"
        data = transitions_of(self.robot, self.trials)
        _written(model.with_name("data.npz"), lambda new: np.savez(new, x=data.x, u=data.u, x_next=data.x_next))
        _written(model, lambda new: prior.save(fitted[0], new))
        return saved, str(model.resolve())


def _written(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that is not there yet, whole or not at all."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"new_{path.name}")
    write(new)
    new.rename(path)


def opened(folder: Path) -> Training:
    """The training that `keep` has begun in a folder. Raises ConfigError, RecordingError."""
    of = kept(folder)
    settings, seed = of["settings"], of["seed"]
    robot = assembly.make_robot(settings)
    config, trainer = make(settings, of["trainer"], seed, robot)
    return Training(trainer, config, robot, target_of(config, robot, settings, seed), folder)


def make(settings: Mapping[str, Any], name: str, seed: int, robot: Robot) -> tuple[Config, Trainer]:
    """A trainer that has seen nothing, and how its trials are. Raises ConfigError."""
    kind, config = TRAINERS[name], from_mapping(Config, section(settings, "trainer"), "trainer")
    if robot.objects and config.back != RESET:
        raise ConfigError(f"trainer.back: expected {RESET} with robot.objects, which only the simulation puts back, "
                          f"got {config.back}")
    return (config, kind(from_mapping(kind.Config, section(settings, name), name), robot, settings, seed))


def keep(folder: Path, settings: Mapping[str, Any], name: str, seed: int) -> None:
    """Write what a training is made of, where it is new. Raises ConfigError where there is another one."""
    said = json.loads(json.dumps({"trainer": name, "seed": seed, "settings": settings}))
    path = folder / FILE
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(said, indent=1))
            new.rename(path)
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}") from error
        return
    there = kept(folder)
    for what in ("trainer", "seed"):
        if there[what] != said[what]:
            raise ConfigError(f"{folder}: holds trials of {what} {there[what]}, not {said[what]}; expected another "
                              "folder, or the same again")
    for part in ("robot", "trainer", name):
        if there["settings"].get(part, {}) != said["settings"].get(part, {}):
            raise ConfigError(f"{folder}: holds trials with other settings of {part}; expected another folder, or the "
                              "same again")


def kept(folder: Path) -> dict[str, Any]:
    """What `keep` has written: trainer, seed and settings. Raises ConfigError."""
    try:
        said: dict[str, Any] = json.loads((folder / FILE).read_text())
        return {name: said[name] for name in ("trainer", "seed", "settings")}
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{folder / FILE}: no training there: {error}") from error
