"""Parameters of the trainer's node; apart from those of other nodes, because the registry of trainers needs torch."""
from __future__ import annotations

from dataclasses import dataclass

from mbrl_ros.config import param
from mbrl_ros.trainers import TRAINERS


@dataclass(frozen=True)
class Trainer:
    """Parameters `trainer.*` that only the node has."""

    method: str = param("refit", "Which trainer learns", choices=tuple(TRAINERS))
    updates: int = param(10, "How often it learns, from trainer.trials trials each", 1, 100_000)
    seed: int = param(0, "Of the trainer, and of a target that is drawn", 0, 2**31 - 1)
    folder: str = param("runs/training", "Where the trials are; where there are some already, it goes on from them")
    start: bool = param(False, "Start without being asked, once the guard passes commands on: also after a crash")
    rearm: bool = param(False, "After a fault reset and arm the guard without being asked, as a simulation may; else "
                        "wait for a person", live=True)
