"""What the parts of a replay have in common: the comparison, copies that go on by themselves, models and changes."""
from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.recordings.run import Run, Said
from mbrl_ros.types import Array

Event = tuple[str, Any]  # what it is, and its value, as in Run.order


@dataclass
class Compared:
    """How one part has done."""

    name: str
    compared: int = 0
    identical: int = 0
    largest: float = 0.0  # difference
    first: int | None = None  # [ns] the state at which it first differed

    def add(self, time: int, pairs: list[tuple[Array, Array]]) -> bool:
        """Whether all of these are the same, bit for bit (NaN is NaN)."""
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
        self.compared += 1
        self.identical += same
        if not same:
            self.first = time if self.first is None else self.first
            self.largest = max([self.largest, *(float(np.nanmax(np.abs(np.subtract(a, b)), initial=0.0))
                                                for a, b in pairs if np.shape(a) == np.shape(b))])
        return same


def fork(part: Any, *shared: Any) -> Any:
    """A copy that goes on by itself; what never changes is shared."""
    return copy.deepcopy(part, {id(s): s for s in shared})


def model_path(run: Run, said: Said) -> Path:
    """The file of a global model: beside the recording, or where it was. Raises ConfigError where neither is."""
    folder = run.path if run.path.is_dir() else run.path.parent
    for path in (folder / "models" / f"version_{said.value.version}" / "model.npz", Path(said.value.path)):
        if path.is_file():
            return path
    raise ConfigError(f"{run.path}: no model of version {said.value.version} in its folder models, and none at "
                      f"{said.value.path}")


def changes(value: Any, node: str) -> Iterator[tuple[str, Any]]:
    """What a parameter event that is no snapshot changes of a node."""
    snapshot, _, of, values = value
    if not snapshot and of.rpartition("/")[2] == node:
        yield from values.items()
