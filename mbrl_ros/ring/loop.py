"""The ring as a plain loop: plant -> estimator -> learner -> controller -> plant, in lock-step, without ROS.

The nodes contain no step that is not here; one test shows that both give the same efforts (test/ros).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mbrl_ros.models.dynamics import DynamicsModel
from mbrl_ros.ring.estimator import JointFilter
from mbrl_ros.types import Array, LinearGaussianDynamics, Observation, StateEstimate

if TYPE_CHECKING:
    from jaxtyping import Float


class Plant(Protocol):
    """What moves: MujocoPlant, and the linear plants of the tests."""

    def reset(self, seed: int) -> Observation: ...
    def step(self, effort: Float[Array, " m"]) -> Observation: ...


class Learner(Protocol):
    """What gives a model at every state: OnlineLearner, and the oracle of the scenario."""

    @property
    def model_trust(self) -> float: ...
    @property
    def model(self) -> DynamicsModel | None: ...  # the global one, once there is one

    def update(self, state: StateEstimate) -> LinearGaussianDynamics: ...


class Actor(Protocol):
    """What turns a state and a model into an effort: Controller."""

    def act(self, state: StateEstimate, dynamics: LinearGaussianDynamics, trust: float,
            model: DynamicsModel | None) -> Float[Array, " m"] | None: ...


@dataclass
class Ring:
    """Four parts and the newest observation."""

    plant: Plant
    estimator: JointFilter
    learner: Learner
    controller: Actor
    observation: Observation

    def begin(self, observation: Observation) -> None:
        """Go on from a plant that was reset, at rest by the effort that it reports."""
        self.observation = observation
        self.estimator.commanded(observation.effort)

    def tick(self) -> tuple[StateEstimate, Float[Array, " m"]]:
        """One control period; returns the state acted on and the effort: none (zero) where nothing is asked for, since
        there is no guard here that would hold."""
        state = self.estimator.update(self.observation)
        if state is None:
            raise ValueError(f"the plant's clock stands still at {self.observation.time} ns")
        dynamics = self.learner.update(state)
        effort = self.controller.act(state, dynamics, self.learner.model_trust, self.learner.model)
        if effort is None:
            effort = np.zeros(len(state.effort))
        self.estimator.commanded(effort)
        self.observation = self.plant.step(effort)
        return state, effort
