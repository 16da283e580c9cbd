"""How policies and models get better over trials. What is asked of a trainer is in trainer.py."""
from __future__ import annotations

from typing import Any

from mbrl_ros.trainers.pets import Pets
from mbrl_ros.trainers.refit import Refit

TRAINERS: dict[str, Any] = {"refit": Refit, "pets": Pets}  # each has a Config, of parameters under its name
