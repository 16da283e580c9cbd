"""A node of the ring and the settings that it knows: all there are, by prefix.

The same files go to every node, so each checks all of them.
"""
from __future__ import annotations

from typing import Any

from mbrl_ros import robot
from mbrl_ros.drawing import camera
from mbrl_ros.evaluation import measures
from mbrl_ros.models import MODELS
from mbrl_ros.models import prior as priors
from mbrl_ros.nodes.parameters import SettingsNode
from mbrl_ros.nodes.trainer_options import Trainer
from mbrl_ros.options import OPTIONS as NODES
from mbrl_ros.planners import PLANNERS
from mbrl_ros.ring import controller, estimator, excitation, guard, learner
from mbrl_ros.simulation import plant, world
from mbrl_ros.trainers import TRAINERS, trainer

PARTS: dict[str, Any] = {
    "robot": robot.Config, "plant": plant.Config, "estimator": estimator.Config, "learner": learner.Config,
    "prior": priors.Config, "controller": controller.Config, "excitation": excitation.Config,
    "guard": guard.Config, "world": world.World, "camera": camera.Config, "scenario": measures.Config,
    "trainer": trainer.Config,
    **{name: kind.Config for kinds in (PLANNERS, MODELS, TRAINERS) for name, kind in kinds.items()}}
OPTIONS: dict[str, Any] = {**NODES, "trainer": Trainer}


class PartNode(SettingsNode):
    """A node that knows all settings: `settings` is what mbrl_ros.assembly builds parts from."""

    parts = PARTS
    own = OPTIONS
