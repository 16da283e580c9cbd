"""What commands that measure have in common: seeds, names to choose from, and what they leave."""
from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.config import ConfigError


def parse_seeds(text: str) -> list[int]:
    """`0-9`, `3`, or `1,4,7`."""
    first, dash, last = text.partition("-")
    try:
        return list(range(int(first), int(last) + 1)) if dash else [int(s) for s in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds: expected a range such as 0-9 or a list such as 1,4,7, got {text!r}") from None


def chosen(option: str, text: str, known: Collection[str]) -> list[str]:
    """Names with commas between. Raises ConfigError that names those there are."""
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"{option}: unknown {unknown[0]!r}; choose from {', '.join(known)}")
    return names


def add_run_options(p: argparse.ArgumentParser, seeds: str) -> None:
    """Seeds, how many runs at a time, and where to."""
    p.add_argument("--seeds", default=seeds, help="such as 0-9 or 1,4,7; tune on those from 100 up "
                                                  f"({seeds or 'those of each task'})")
    add_jobs(p)
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")


def add_jobs(p: argparse.ArgumentParser) -> None:
    """How many runs at a time."""
    p.add_argument("--jobs", type=_count, default=2, help="how many at a time; 0: in this process (%(default)s)")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    return int(text)


def finite(value: Any) -> Any:
    """The same with null for what is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_rows(path: Path, rows: Any) -> None:
    """A JSON file of them."""
    path.write_text(json.dumps(finite(rows), indent=1, allow_nan=False))


def write(path: Path, a: argparse.Namespace, **content: Any) -> None:
    """A JSON file of the arguments of a command and what came of it."""
    write_rows(path, {"arguments": {k: str(v) for k, v in vars(a).items()}, **content})
