"""Run a controller once in every mode before it counts: what torch loads lazily costs hundreds of milliseconds."""
from __future__ import annotations

import numpy as np

from mbrl_ros.ring.controller import EXCITE, REACH, Controller
from mbrl_ros.robot import Robot
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, StateEstimate

TICKS = 3


def warm_up(controller: Controller, robot: Robot) -> None:
    """Tick `controller`, which is not to be used afterwards, at rest at home, under integrators without noise."""
    x = np.zeros(robot.n)
    x[robot.slice("joint/position")] = robot.home
    x[robot.slice(f"site/{robot.sites[0]}/position")] = robot.tool_position(robot.home)
    F = np.eye(robot.n, robot.n + robot.m)
    F[robot.slice("joint/position"), robot.slice("joint/velocity")] = robot.period * np.eye(robot.m)
    F[robot.slice("joint/velocity"), robot.n :] = robot.period * np.eye(robot.m)
    dynamics = LinearGaussianDynamics(F, np.zeros(robot.n), 1e-6 * np.eye(robot.n))
    for mode in (EXCITE, REACH):
        controller.request(mode)
        for step in range(TICKS):
            time = (step + 1) * round(robot.period * 1e9)
            belief = Gaussian(x, 1e-6 * np.eye(robot.n))
            controller.act(StateEstimate(time, 0, step, belief, np.zeros(robot.m)), dynamics)
