"""Robots and settings for tests."""
from __future__ import annotations

from typing import Any

from mbrl_ros import assembly
from mbrl_ros.config import Names
from mbrl_ros.robot import Robot


def settings(name: str = "planar2", prior: str = "gaussian", **overrides: Any) -> dict[str, Any]:
    """Settings of a shipped robot, in lock-step."""
    return assembly.settings(Names(robot=name, prior=prior), {"plant": {"pace": "lockstep"}, **overrides})


def make(name: str = "planar2", **overrides: Any) -> Robot:
    return assembly.make_robot(settings(name, robot=overrides))
