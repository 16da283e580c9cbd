"""Run a controller once in every mode before it counts: what torch loads lazily costs hundreds of milliseconds, and a
planner that cannot plan at rest is better known before anything moves."""
from __future__ import annotations

import numpy as np
import torch

from mbrl_ros.config import ConfigError
from mbrl_ros.models.linear import NoModel
from mbrl_ros.models.robot_model import RobotModel
from mbrl_ros.ring.controller import EXCITE, REACH, Controller
from mbrl_ros.ring.learner import features_of
from mbrl_ros.robot import Robot
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, StateEstimate

TICKS = 3


class _AtRest(NoModel):
    """Can be followed in every way there is."""

    count = 1

    def each(self, w: torch.Tensor) -> torch.Tensor:
        """See Ensemble."""
        return self.mean(w)


def warm_up(controller: Controller, robot: Robot) -> None:
    """Tick a controller in every mode, at rest at home; it is not to be used afterwards.

    Joints are integrators without noise; by the global model they stay where they are.

    Raises ConfigError where it does not reach, with its reason.
    """
    x = np.zeros(robot.n)
    x[robot.slice("joint/position")] = robot.home
    x[robot.slice(f"site/{robot.sites[0]}/position")] = robot.tool_position(robot.home)
    F = np.eye(robot.n, robot.n + robot.m)
    F[robot.slice("joint/position"), robot.slice("joint/velocity")] = robot.step * np.eye(robot.m)
    F[robot.slice("joint/velocity"), robot.n :] = robot.step * np.eye(robot.m)
    dynamics = LinearGaussianDynamics(F, np.zeros(robot.n), 1e-6 * np.eye(robot.n))
    features = features_of(robot)
    one, w_scale = torch.ones(features.dy).double(), torch.ones(features.dw).double()
    model = RobotModel(robot, features, _AtRest(0 * one, one, w_scale))
    controller.has_model, controller.mpc.budget = True, np.inf  # it may compile
    for mode in (EXCITE, REACH):
        controller.request(mode)
        for step in range(TICKS):
            time = (step + 1) * round(robot.period * 1e9)
            belief = Gaussian(x, 1e-6 * np.eye(robot.n))
            controller.act(StateEstimate(time, 0, step, belief, np.zeros(robot.m)), dynamics, 1.0, model)
    plan, planner = controller.mpc.plan, controller.config.planner
    if controller.mode != REACH or controller.mpc.failures > 0:
        raise ConfigError(f"{planner}: cannot plan at rest: {controller.mpc.status} ({controller.mode}: "
                          f"{controller.reason})")
    if plan is None or not all(np.isfinite(np.asarray(a)).all() for a in (plan.efforts, plan.states, plan.policy.K)):
        raise ConfigError(f"{planner}: the plan at rest is not finite, though it says {controller.mpc.status}")
