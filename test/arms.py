"""Robots and settings for tests."""
from __future__ import annotations

from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import Names
from mbrl_ros.robot import Robot
from mbrl_ros.types import LinearGaussianDynamics


def settings(name: str = "planar2", prior: str = "gaussian", **overrides: Any) -> dict[str, Any]:
    """Settings of a shipped robot, in lock-step."""
    return assembly.settings(Names(robot=name, prior=prior), {"plant": {"pace": "lockstep"}, **overrides})


def make(name: str = "planar2", **overrides: Any) -> Robot:
    return assembly.make_robot(settings(name, robot=overrides))


def double_integrator(robot, inertia=0.5):
    """Joint by joint, with the tool frozen: enough for the planner to have something to do."""
    h, m, n = robot.period, robot.m, robot.n
    F = np.zeros((n, n + m))
    F[:n, :n] = np.eye(n)
    F[:m, m : 2 * m] = h * np.eye(m)
    F[m : 2 * m, n:] = h / inertia * np.eye(m)
    J = robot.kinematics(robot.home, np.zeros(m))[1][:3, :m]
    F[2 * m : 2 * m + 3, m : 2 * m] = h * J
    F[robot.slice("effort/1")] = 0.0
    F[robot.slice("effort/1"), n:] = np.eye(m)
    return LinearGaussianDynamics(F, np.zeros(n), 1e-6 * np.eye(n))
