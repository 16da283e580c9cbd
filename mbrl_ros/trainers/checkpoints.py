"""Where a run is, in a file, so that one that was stopped goes on: the same as if it had not been.

The environment is not in it, and is given again; so a checkpoint is written where an episode has just begun. It is a
pickle, which may run anything when it is read: only of folders that one has written oneself.
"""
from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from mbrl_ros.config import ConfigError

EVERY = 30.0  # [s] at least from one to the next


def save(path: Path, progress: Any, environment: Any) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        _Pickler(file, environment).dump(progress)
    new.rename(path)


def load(path: Path, environment: Any) -> Any:
    """What was saved, about this environment. Raises ConfigError for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return _Unpickler(file, environment).load()
    except Exception as error:  # whatever a class of another version does when it is made
        raise ConfigError(f"{path}: no checkpoint that can be read ({' '.join(str(error).split())}): delete it, and "
                          "the run begins again") from error


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, environment: Any):
        super().__init__(file)
        self._environment = environment

    def persistent_id(self, obj: Any) -> str | None:
        return "environment" if obj is self._environment else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, environment: Any):
        super().__init__(file)
        self._environment = environment

    def persistent_load(self, pid: Any) -> Any:
        return self._environment
