"""The URDF of the robot that a launch is about, for robot_state_publisher."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mbrl_ros import config, robot
from mbrl_ros.config import Names
from mbrl_ros.drawing.urdf import described
from mbrl_ros.nodes.bringup import ARGUMENTS
from mbrl_ros.nodes.parameters import KINDS
from mbrl_ros.robot import Robot


def description(values: Mapping[str, str]) -> str:
    """From the arguments of bringup. Raises ConfigError for a robot that cannot be used."""
    more = config.read(Path(values["params_file"])) if values["params_file"] else {}
    files = config.section(more, "files")  # they win over arguments that are not given
    names = {name: files.get(name, values[name]) if values[name] == ARGUMENTS[name][0] else values[name]
             for name in KINDS}
    settings = config.merge(Names(**names).settings(), more)
    return described(Robot(config.from_mapping(robot.Config, config.section(settings, "robot"), "robot")))
