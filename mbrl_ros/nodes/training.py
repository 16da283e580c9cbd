"""The fit of a global model as the ring sees it: a job that is started, polled and collected, never waited for."""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.prior import load, prior_of
from mbrl_ros.recordings import fit
from mbrl_ros.ring.learner import OnlineLearner
from mbrl_ros.types import Transitions


class Fitted(NamedTuple):
    """The model that a job has given, and what is said about it."""

    path: Path
    learner: OnlineLearner  # prepared with it
    transitions: int
    loss: float  # [nats]


class TrainingFailed(RuntimeError):
    """The job ended without a model; one line says why."""


class FitJobs:
    """Fits for this learner, one at a time. Files go to `folder`, or to a temporary one that goes away with this.

    A thread waits for the job, reads what it says meanwhile, loads the model and prepares the learner with it, so that
    whoever polls does none of that.
    """

    def __init__(self, folder: str, learner: OnlineLearner):
        self._folder, self._learner = folder, learner
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._result: Fitted | TrainingFailed
        self.version = 0

    @property
    def running(self) -> bool:
        return self._thread is not None

    def start(self, data: Data, transitions: Transitions, settings: Any) -> None:
        """Start a job. Raises OSError where the folder cannot be written."""
        if not self._folder:
            self._temporary = tempfile.TemporaryDirectory(prefix="mbrl_ros_models_")
            self._folder = self._temporary.name
        arguments = fit.write_job(Path(self._folder) / f"version_{self.version + 1}", transitions, settings)
        self._process = subprocess.Popen([sys.executable, "-m", "mbrl_ros.recordings.fit", *arguments], text=True,
                                         errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._thread = threading.Thread(target=self._finish, daemon=True,
                                        args=(self._process, Path(arguments[-1]), data, settings))
        self._thread.start()

    def _finish(self, process: subprocess.Popen[str], model: Path, data: Data, settings: Any) -> None:
        """Wait for the job, and take up its model: what the thread does."""
        try:
            out, err = process.communicate()
            if process.returncode != 0:
                last = (err.strip().splitlines() or ["no output"])[-1]
                raise TrainingFailed(f"exit code {process.returncode}: {last}")
            figures = json.loads(out.strip().splitlines()[-1])
            self._result = Fitted(model, self._prepared(load(model, self._learner.robot), data, settings),
                                  figures["transitions"], figures["loss"])
        except Exception as error:  # nobody else would hear of it
            self._result = error if isinstance(error, TrainingFailed) else TrainingFailed(str(error))

    def _prepared(self, model: Any, data: Data, settings: Any) -> OnlineLearner:
        return self._learner.prepared(prior_of(model, settings), scale_of(np.hstack([data.w, data.y]))[1])

    def poll(self) -> Fitted | None:
        """The model, once it is there; never waits. Raises TrainingFailed."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        if isinstance(self._result, TrainingFailed):
            raise self._result
        self.version += 1
        return self._result

    def resume(self, folder: str, settings: Any) -> Fitted:
        """The model of an earlier job. Raises ConfigError where it cannot be used."""
        fitted = self._read(folder, settings)
        self.version += 1
        return fitted

    def adopt(self, folder: str, settings: Any) -> None:
        """Take up what somebody else has fitted, like the model of a job of its own: `poll` gives it."""
        self._process = None
        self._thread = threading.Thread(target=self._adopted, daemon=True, args=(folder, settings))
        self._thread.start()

    def _adopted(self, folder: str, settings: Any) -> None:
        try:
            self._result = self._read(folder, settings)
        except Exception as error:  # nobody else would hear of it
            self._result = TrainingFailed(str(error))

    def _read(self, folder: str, settings: Any) -> Fitted:
        path, learner = Path(folder), self._learner
        model = load(path / "model.npz", learner.robot)
        try:
            data = Data.of(fit.read_transitions(path / "data.npz"), learner.features, learner.robot)
        except (OSError, KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"{path / 'data.npz'}: expected transitions of this robot: {error}") from error
        return Fitted(path / "model.npz", self._prepared(model, data, settings), len(data.w), 0.0)

    def close(self) -> None:
        """End a job that still runs."""
        if self._process is not None and self._thread is not None:
            self._process.kill()
        if self._thread is not None:
            self._thread.join()
        if self._temporary is not None:
            self._temporary.cleanup()
