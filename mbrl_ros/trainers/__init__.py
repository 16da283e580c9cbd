"""How policies and models get better over trials. What is asked of a trainer is in trainer.py."""
from __future__ import annotations

from typing import Any

from mbrl_ros.trainers.dagger import Dagger
from mbrl_ros.trainers.dyna import Dyna
from mbrl_ros.trainers.gps import Gps
from mbrl_ros.trainers.lqr_flm import LqrFlm
from mbrl_ros.trainers.on_steps import AmpoOnRobot, MaacOnRobot, MbpoOnRobot, SacOnRobot
from mbrl_ros.trainers.pets import Pets
from mbrl_ros.trainers.pilco import Pilco
from mbrl_ros.trainers.refit import Refit
from mbrl_ros.trainers.value_gradients import Backprop

# Each has a Config, of parameters under its name.
TRAINERS: dict[str, Any] = {"refit": Refit, "pets": Pets, "dagger": Dagger, "lqr_flm": LqrFlm, "gps": Gps,
                            "pilco": Pilco, "backprop": Backprop, "dyna": Dyna, "sac": SacOnRobot, "mbpo": MbpoOnRobot,
                            "ampo": AmpoOnRobot, "maac": MaacOnRobot}
