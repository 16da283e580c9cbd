"""Hopper, Walker2d and HalfCheetah of gymnasium (v5), with their rewards and ends as functions of what is observed.

An observation is where the joints are, but for the way that was gone, and then all velocities, the first of which is
that of the way. A reward counts the way of a whole period, which is not observed: here it is the velocity at its end.
That is for rollouts of a model alone; what is lived through has the reward of gymnasium.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_ros.environments.gyms import GymEnvironment

EXTREME = 100.0  # of anything that is observed but the height: no hopper that is well comes near it


@dataclass(frozen=True)
class Body:
    """What one of them rewards, and where it falls."""

    name: str
    way: int  # which observation is the velocity of the way [m/s]
    effort: float  # price of |a|^2
    height: tuple[float, float] | None = None  # [m] where it is well; None: it never falls
    lean: float = 0.0  # [rad] to either side, likewise
    well: float = 1.0  # reward for that

    def reward(self, x_next: Tensor, a: Tensor) -> Tensor:
        """Of an action a (*b, m) that led to x_next (*b, n), (*b,)."""
        way = x_next[..., self.way] - self.effort * a.square().sum(-1)
        return way if self.height is None else way + self.well * (~self.fallen(x_next)).to(way)

    def fallen(self, x_next: Tensor) -> Tensor:
        """Whether it ends there, (*b,) bool."""
        if self.height is None:
            return torch.zeros(x_next.shape[:-1], dtype=torch.bool, device=x_next.device)
        (low, high), z, rest = self.height, x_next[..., 0], x_next[..., 1:]
        return ~((low < z) & (z < high) & (rest[..., 0].abs() < self.lean) & (rest.abs() < EXTREME).all(-1))


BODIES = {"hopper": Body("Hopper-v5", 5, 1e-3, (0.7, float("inf")), 0.2),
          "walker": Body("Walker2d-v5", 8, 1e-3, (0.8, 2.0), 1.0),
          "cheetah": Body("HalfCheetah-v5", 8, 0.1)}


def locomotion(name: str) -> GymEnvironment:
    """One of BODIES, without a time limit."""
    import gymnasium  # which is there, or there were no GymEnvironment

    body = BODIES[name]
    return GymEnvironment(gymnasium.make(body.name).unwrapped, body.reward, body.fallen)
