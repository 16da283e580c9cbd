"""The oracle: the true dynamics of the simulated robot in place of the learner's."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mbrl_ros.config import find, merge, read
from mbrl_ros.models.physics import PhysicsModel, full_state
from mbrl_ros.simulation.plant import MujocoPlant
from mbrl_ros.types import LinearGaussianDynamics, StateEstimate

YARDSTICK = "ilqr"


def yardstick(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the controller that is given the true dynamics: whatever planner and model are measured, they are
    measured by YARDSTICK on local dynamics."""
    return merge(merge(read(find("planners", YARDSTICK)), settings),
                 {"controller": {"planner": YARDSTICK, "model": "local"}})


class Oracle:
    """In place of the learner: the plant's own physics, whatever its world is, linearised at every state.

    A swinging load is where it truly is, and so are weak motors; elastic joints are rigid to it, since x has no rotors;
    a delay is not here but in what the controller is told (Run), because the effort of an estimate is what acted.
    """

    def __init__(self, plant: MujocoPlant):
        self.plant, self.active, self.model_trust = plant, False, 1.0
        self.physics = PhysicsModel(plant.robot, plant.rigid()[0], gain=plant.gain)
        n, m = self.physics.robot.n, self.physics.robot.m
        self.model = self.physics
        self._idle = LinearGaussianDynamics(np.eye(n, n + m), np.zeros(n), np.eye(n))

    def update(self, state: StateEstimate) -> LinearGaussianDynamics:
        if not self.active:
            return self._idle
        plant = self.plant
        model, data = plant.rigid()
        if self.physics.model is not model:
            self.physics = self.model = PhysicsModel(plant.robot, model, gain=plant.gain)
        self.physics.rest = full_state(model, data)
        x, u = state.belief.mean, state.effort
        x_next, F = self.physics.linearize_numpy(x, u)
        return LinearGaussianDynamics(F, x_next - F @ np.concatenate([x, u]), 1e-12 * np.eye(len(x)))
