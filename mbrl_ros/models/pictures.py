"""Networks between pictures and a few numbers: convolutions that say where something is, and four with stride up.

The encoder makes some maps of the picture and takes from each the point about which it is bright (Finn, Tan, Duan,
Darrell, Levine & Abbeel 2016, "Deep spatial autoencoders for visuomotor learning", section IV): places in a picture are
what an arm moves, and they are learned from few of them. Pictures are in units of their deviation over the training
data, about their mean at every pixel.
"""
from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mbrl_ros.config import ConfigError
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

FEATURES = (8, 16, 16, 32)  # of the layers of the decoder, from the picture on
SHRINK = 2 ** len(FEATURES)  # by which the last is smaller than the picture
MAPS = 16  # of the encoder, half as wide as the picture


def bright(pictures: Array) -> Tensor:
    """Pictures (*b, H, W, C), 0 to 255, as networks take them: (*b, C, H, W), 0 to 1."""
    return torch.as_tensor(pictures, dtype=torch.float32).movedim(-1, -3) / 255


class Points(nn.Module):
    """Maps (N, k, H, W) to the mean place in each (N, 2 k), from -1 to 1, in which it is weighed by its softmax."""

    places: Tensor

    def __init__(self, width: int):
        super().__init__()
        at = torch.linspace(-1, 1, width)
        self.register_buffer("places", torch.cartesian_prod(at, at))
        self.log_sharp = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """See above."""
        return ((self.log_sharp.exp() * maps.flatten(2)).softmax(-1) @ self.places).flatten(1)


class Pictures(nn.Module):
    """Encoder to `size` numbers, and decoder from `known` of them. Raises ConfigError for a width that does not halve
    four times."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, channels: int, size: int, known: int):
        super().__init__()
        if width % SHRINK:
            raise ConfigError(f"camera.width: expected a multiple of {SHRINK} to learn from, got {width}")
        least, layers = width // SHRINK, (channels, *FEATURES)
        up = [layer for a, b in pairwise(layers[::-1]) for layer in (nn.SiLU(), nn.ConvTranspose2d(a, b, 4, 2, 1))]
        flat = FEATURES[-1] * least**2
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, MAPS, 5, 2, 2), nn.SiLU(), nn.Conv2d(MAPS, MAPS, 3, 1, 1), nn.SiLU(),
            nn.Conv2d(MAPS, MAPS, 3, 1, 1), Points(width // 2), nn.Linear(2 * MAPS, size))
        self.decoder = nn.Sequential(nn.Linear(known, flat), nn.Unflatten(1, (FEATURES[-1], least, least)), *up)
        self.register_buffer("mean", torch.zeros(channels, width, width))
        self.register_buffer("scale", torch.ones(channels, 1, 1))

    def fit_units(self, seen: Float[Tensor, "N C H W"]) -> None:
        """Take mean and deviations of these."""
        self.mean.copy_(seen.mean(0))
        self.scale.copy_((seen - self.mean).square().mean((0, 2, 3)).sqrt().clamp(min=1e-4)[:, None, None])

    def in_units(self, seen: Float[Tensor, "*b C H W"]) -> Float[Tensor, "*b C H W"]:
        """As networks see it."""
        return (seen - self.mean) / self.scale

    def encode(self, seen: Float[Tensor, "*b C H W"]) -> Float[Tensor, "*b size"]:
        """In double precision, as everything behind it is."""
        flat = self.in_units(seen).reshape(-1, *seen.shape[-3:])
        code: Tensor = self.encoder(flat).double()
        return code.reshape(*seen.shape[:-3], -1)

    def decode(self, z: Float[Tensor, "*b known"]) -> Float[Tensor, "*b C H W"]:
        """In those units."""
        seen: Tensor = self.decoder(z.float().reshape(-1, z.shape[-1]))
        return seen.reshape(*z.shape[:-1], *seen.shape[-3:])

    def picture(self, z: Float[Tensor, "*b known"]) -> Array:
        """What z looks like (*b, H, W, C), 0 to 255."""
        seen = self.decode(z) * self.scale + self.mean
        whole: Array = np.round(255 * seen.clamp(0, 1).movedim(-3, -1).numpy()).astype(np.uint8)
        return whole
