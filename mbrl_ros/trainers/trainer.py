"""What is asked of a trainer: say what to play next, and learn from the trials that it gave."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mbrl_ros.config import ConfigError, from_mapping, param, section
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import BACK
from mbrl_ros.models.features import Data
from mbrl_ros.ring.policy import Policy
from mbrl_ros.robot import Robot
from mbrl_ros.simulation.world import World, goal
from mbrl_ros.types import Array, Trial


@dataclass(frozen=True)
class Config:
    """Parameters `trainer.*`: the trials, whoever learns from them."""

    trials: int = param(1, "Between two updates", 1, 1000)
    seconds: float = param(2.0, "Of a trial [s]", 0.1, 600.0)
    target: tuple[float, ...] = param((), "Where the tool shall go [m]: x, y, z; empty: where the contact task of the "
                                       "world is done, or drawn, see scenario.*")
    back: str = param(BACK[0], "How the arm gets back to its start in the plain loop: reset by the simulation, or "
                      "moved home by the ring, as over ROS", choices=BACK)

    def __post_init__(self) -> None:
        if len(self.target) not in (0, 3):
            raise ConfigError(f"trainer.target: expected 3 coordinates [m], got {len(self.target)}")


def target_of(config: Config, robot: Robot, settings: Mapping[str, Any], seed: int) -> Array:
    """Where the tool shall go in all trials (3,) [m]: into the slot, say, where the world has one."""
    done = goal(robot, from_mapping(World, section(settings, "world"), "world"))
    if done is not None and not config.target:
        return done
    drawn = measures.draw_targets(robot, measures.config_of(settings, {"seed": seed, "targets": 1}))[0]
    return np.array(config.target) if config.target else drawn


class Trainer(Protocol):
    """Made from its own Config, the robot, all settings, and a seed; from these and its trials follows what it does.
    So one that learns from the same trials again, in the same order, is where it was (training.py).

    Where a policy file can hold what it has learned, it has `learned()`, what `ring.policy.save` takes, or None as
    long as there is nothing; where its trials are in several worlds of the simulation, `world()`, that of the next."""

    def policy(self) -> Policy | str:
        """What to play next; or a mode of the controller, such as `excite`, or `reach` for planning."""

    def model(self) -> tuple[Any, Data] | None:
        """A Regression for the learner of the ring from now on, and what it was fitted to; None: as it is."""

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Learn from the trials of what `policy` said. Figures by name; a trial may be shorter than was asked for."""
