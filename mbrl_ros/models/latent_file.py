"""Latent models as arrays by name, and back."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from mbrl_ros.config import ConfigError
from mbrl_ros.models.latent import LATENTS, Config, Latent, Shape
from mbrl_ros.models.lds import MatrixNormalInverseWishart
from mbrl_ros.types import Array, Gaussian

WEIGHT, BELIEF, START = "weight/", "belief/", "start/"  # in front of names


def numbers(model: Latent) -> dict[str, Array]:
    """All that it is at run time; how it was learned is not among it."""
    name = next(name for name, kind in LATENTS.items() if type(model) is kind)
    parts = {WEIGHT: model.state_dict(), BELIEF: vars(model.belief), START: vars(model.start)}
    return {"latent": np.array(name), "size": np.array(model.config.size), "shape": np.array(model.shape),
            **{prefix + key: value.detach().numpy() for prefix, of in parts.items() for key, value in of.items()}}


def of_numbers(arrays: Mapping[str, Array]) -> Latent:
    """The inverse. Raises ConfigError for what is not the numbers of a latent model, KeyError for what is missing."""
    name = str(arrays["latent"])
    if name not in LATENTS:
        raise ConfigError(f"expected a latent model of kind {', '.join(LATENTS)}, got {name!r}")
    if not all(np.isfinite(value).all() for key, value in arrays.items() if key.startswith((WEIGHT, BELIEF, START))):
        raise ConfigError("expected finite numbers of a latent model")
    model = LATENTS[name](Config(size=int(arrays["size"])), Shape(*(int(of) for of in arrays["shape"])), 0)

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(prefix): torch.as_tensor(value) for key, value in arrays.items()
                if key.startswith(prefix)}
    try:
        model.load_state_dict(under(WEIGHT))
    except RuntimeError as error:
        raise ConfigError(f"expected the weights of {dataclasses.asdict(model.config)}: {error}") from error
    model.belief = MatrixNormalInverseWishart(**under(BELIEF))
    model.start = Gaussian(**under(START))
    return model.eval()
