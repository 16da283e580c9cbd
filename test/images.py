"""Robots to draw, and what is in a drawn file."""
from __future__ import annotations

from PIL import Image

from mbrl_ros.config import find, from_mapping, read, section
from mbrl_ros.robot import Config

ROBOTS = ("arm", "arm4", "arm6", "planar2", "pendulum")


def config_of(name):
    path = find("robots", name)
    settings = section(read(path), "robot")
    return from_mapping(Config, {**settings, "model": str(path.parent / settings["model"])}, "robot")


def colors_in(path):
    with Image.open(path) as image:
        return image.size, len(image.convert("RGB").getcolors(10**6))
