"""The fit of a global model as the ring sees it: a job that is started, polled and collected, never waited for."""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.models.features import Data, Features, scale_of
from mbrl_ros.models.prior import Prior, load, prior_of
from mbrl_ros.recordings import fit
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Transitions


class Fitted(NamedTuple):
    """What a job gave."""

    path: Path
    prior: Prior
    scale: Array  # (d,) deviations of [w; y]
    transitions: int
    loss: float  # [nats]


class TrainingFailed(RuntimeError):
    """The job ended without a model; one line says why."""


class Training:
    """One job at a time. Files go to `folder`, or to a temporary one that goes away with this object."""

    def __init__(self, folder: str):
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._scale = np.zeros(0)
        self.version = 0

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self, data: Data, transitions: Transitions, settings: Any) -> None:
        """Start a job; OSError where the folder cannot be written."""
        self._scale = scale_of(np.hstack([data.w, data.y]))[1]
        if not self._folder:
            self._temporary = tempfile.TemporaryDirectory(prefix="mbrl_ros_models_")
            self._folder = self._temporary.name
        arguments = fit.write_job(Path(self._folder) / f"version_{self.version + 1}", transitions, settings)
        self._model = Path(arguments[-1])
        self._process = subprocess.Popen([sys.executable, "-m", "mbrl_ros.recordings.fit", *arguments],
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def poll(self, settings: Any, robot: Robot) -> Fitted | None:
        """The model, once it is there. Raises TrainingFailed."""
        process = self._process
        if process is None or process.poll() is None:
            return None
        self._process = None
        out, err = process.communicate()
        if process.returncode != 0:
            last = (err.strip().splitlines() or ["no output"])[-1]
            raise TrainingFailed(f"exit code {process.returncode}: {last}")
        try:
            figures = json.loads(out.strip().splitlines()[-1])
            prior = prior_of(load(self._model, robot), settings)
        except (ValueError, IndexError) as error:
            raise TrainingFailed(str(error)) from error
        self.version += 1
        return Fitted(self._model, prior, self._scale, figures["transitions"], figures["loss"])

    def resume(self, folder: str, features: Features, settings: Any, robot: Robot) -> Fitted:
        """The model of an earlier job. Raises ConfigError where it cannot be used."""
        path = Path(folder)
        model = load(path / "model.npz", robot)
        try:
            transitions = fit.read_transitions(path / "data.npz")
            data = Data.of(transitions, features, robot)
        except (OSError, KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"{path / 'data.npz'}: expected transitions of this robot: {error}") from error
        self.version += 1
        scale = scale_of(np.hstack([data.w, data.y]))[1]
        return Fitted(path / "model.npz", prior_of(model, settings), scale, len(data.w), 0.0)

    def close(self) -> None:
        """End a job that still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._temporary is not None:
            self._temporary.cleanup()
