"""Networks that act, in torch: what is trained here is played as a NetworkPolicy (ring/network_policy.py).

Inputs are scaled once, by the first data; weights trained in those units would mean something else in others. What
grows with the data is only `whiten`, which says how far an observation is from them.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.models.features import scale_of
from mbrl_ros.ring.network_policy import TRAINED, NetworkPolicy, names_of
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

NOISE = 0.1  # deviations of the data in which redundant coordinates may disagree


class PolicyNetwork(torch.nn.Module):
    """k inputs to m efforts by two hidden layers beside a linear one; last axes (out, in)."""

    mean: Tensor  # (k,)
    scale: Tensor  # (k,)
    unit: Tensor  # (m,), of the efforts
    whiten: Tensor  # (k, k)

    def __init__(self, k: int, m: int, hidden: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> torch.nn.Parameter:
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return torch.nn.Parameter(drawn * (2.0 / sum(shape)) ** 0.5)

        def zeros(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.zeros(*shape, dtype=torch.float64))

        self.W1, self.b1, self.W2, self.b2 = random(hidden, k), zeros(hidden), random(hidden, hidden), zeros(hidden)
        self.W3, self.A, self.b = zeros(m, hidden), zeros(m, k), zeros(m)
        for name, value in (("mean", torch.zeros(k)), ("scale", torch.ones(k)), ("unit", torch.ones(m)),
                            ("whiten", torch.zeros(k, k))):
            self.register_buffer(name, value.double())
        self.scaled = False

    def forward(self, o: Float[Tensor, "*b k"]) -> Float[Tensor, "*b m"]:
        """The mean effort."""
        z = (o - self.mean) / self.scale
        h = torch.tanh(torch.tanh(z @ self.W1.mT + self.b1) @ self.W2.mT + self.b2)
        effort: Tensor = self.unit * (z @ self.A.mT + self.b + h @ self.W3.mT)
        return effort

    @torch.no_grad()
    def seen(self, o: Float[Array, "N k"], unit: Float[Array, " m"]) -> None:
        """All observations that it is trained on; by the first of them it scales its inputs, and efforts by `unit`."""
        if not self.scaled:
            mean, scale = scale_of(o)
            for buffer, value in ((self.mean, mean), (self.scale, scale), (self.unit, unit)):
                buffer.copy_(torch.as_tensor(value))
            self.scaled = True
        self.whiten.copy_(torch.as_tensor(whitening((o - self.mean.numpy()) / self.scale.numpy())))

    def policy(self, robot: Robot, Sigma: Float[Array, "m m"] | None = None) -> NetworkPolicy:
        """As it is now, with noise of that covariance."""
        arrays = {name: value.detach().double().numpy().copy() for name, value in self.state_dict().items()}
        return NetworkPolicy({**names_of(robot), **arrays, "Sigma": np.zeros((robot.m, robot.m)) if Sigma is None
                              else Sigma}, robot)


def whitening(z: Float[Array, "N k"]) -> Float[Array, "k k"]:
    """The matrix that takes what is scaled, like the data z, to deviations along their principal axes, none of
    the data being further than TRAINED."""
    values, vectors = np.linalg.eigh(z.T @ z / len(z) + NOISE**2 * np.eye(z.shape[1]))
    rows = vectors.T / np.sqrt(values)[:, None]
    farthest = np.abs(z @ rows.T).max(0)
    whitened: Array = rows / np.maximum(farthest / TRAINED, 1.0)[:, None]
    return whitened
