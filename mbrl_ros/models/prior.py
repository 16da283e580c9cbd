"""Global models as priors over the local dynamics (docs/design.md, section 3).

A model y = g(w) + N(0, R) with Jacobian J says about z = [w; r], the regressors and what it leaves of y, r = y - g(w):
with D = diag(deviation of w)^2
    mu0 = [w; 0],   S0 = [[D, 0], [0, R]],   Phi = n0 S0,
so that without data y ~ N(g(w) + J (. - w), R) about w, and with data a ridge regression towards J, n0 transitions
strong. For a g that is linear this is the prior of Fu, Levine & Abbeel (2016) over [w; y]; otherwise it keeps the bend
of g between the recent points and the present one out of the fit. D is diagonal on purpose, for a mixture too, where
Levine & Abbeel (2014) take the joint covariance of its components: along directions in which that is nearly singular it
is no prior at all, just where recent data are noise alone.
"""
from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from mbrl_ros.config import LOGARITHMIC, ConfigError, from_mapping, param, section
from mbrl_ros.models import MODELS
from mbrl_ros.models.evidence import Strength
from mbrl_ros.models.features import Data
from mbrl_ros.models.linear import NoModel
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Gaussian, Moments, NormalInverseWishart

FORMAT = 1  # of the files of `save`


@dataclass(frozen=True)
class Config:
    """Parameters `prior.*`."""

    n0: float = param(10.0, "Transitions the prior's covariance, hence its Jacobian, is worth", 1e-6, 1e6,
                      unit="transitions", scale=LOGARITHMIC)
    strength: str = param("fixed", "Of the Jacobian: n0, or what recent residuals call for (models/evidence.py)",
                          choices=("fixed", "evidence"))
    m0: float = param(0.1, "Transitions the prior's mean is worth; what is left of it is a steady error", 1e-6, 1e6,
                      unit="transitions", scale=LOGARITHMIC)


class LocalPrior(NamedTuple):
    """A global model to first order about w, and how far to believe it."""

    w: Array  # (dw,)
    y: Array  # (dy,), g(w)
    J: Array  # (dy, dw), dg/dw
    residual: NormalInverseWishart  # over [w; r]
    strength: float = 0.0  # how many transitions J is worth

    def mean(self, w: Array) -> Array:
        """y expected at another w (dw,)."""
        expected: Array = self.y + self.J @ (w - self.w)
        return expected


class Prior(Protocol):
    """What the local fit is pulled towards."""

    def at(self, w: Array, recent: Moments) -> LocalPrior:
        """About w (dw,), given the recent moments over [w; r]."""

    def mean(self, w: Array) -> Array:
        """g (N, dy) at w (N, dw)."""


class FlatPrior:
    """No prior: recursive ridge regression towards no change. scale (d,) is the spread of z that sets the units."""

    STRENGTH = 1e-3  # transitions of size `scale`: enough to keep unexcited directions finite, no more

    def __init__(self, scale: Array):
        self._Phi = self.STRENGTH * np.diag(np.square(scale))

    def at(self, w: Array, recent: Moments) -> LocalPrior:
        """Centred on the recent mean, so that the offset is free."""
        dy = len(self._Phi) - len(w)
        mu0 = recent.mean if recent.count > 0 else np.concatenate([w, np.zeros(dy)])
        niw = NormalInverseWishart(mu0, self._Phi, self.STRENGTH, self.STRENGTH)
        return LocalPrior(w, np.zeros(dy), np.zeros((dy, len(w))), niw, self.STRENGTH)

    def mean(self, w: Array) -> Array:
        """Zero."""
        return np.zeros((*w.shape[:-1], len(self._Phi) - w.shape[-1]))


class LinearizedPrior:
    """Any Regression, expanded to first order about w."""

    def __init__(self, model: Any, config: Config):
        self.model, self.config = model, config
        self._D = np.square(model.w_scale.numpy())  # (dw,), a diagonal
        self._strength = Strength(config.n0) if config.strength == "evidence" else None

    def at(self, w: Array, recent: Moments) -> LocalPrior:
        """`recent` is needed for a strength by evidence. That is of the Jacobian only: the noise keeps n0."""
        y, J = _expand(self.model, w)
        n0, (dy, dw), Psi = self.config.n0, J.shape, self.config.n0 * y.cov
        strength = n0 if self._strength is None else self._strength.update(recent, self._D, Psi, n0)
        mu0, Phi = np.zeros(dw + dy), np.zeros((dw + dy, dw + dy))
        mu0[:dw], Phi[dw:, dw:] = w, Psi
        Phi.flat[: (dw + dy) * dw : dw + dy + 1] = strength * self._D
        return LocalPrior(w, y.mean, J, NormalInverseWishart(mu0, Phi, self.config.m0, n0), strength)

    def mean(self, w: Array) -> Array:
        """See Prior."""
        g: Array = self.model.mean(torch.as_tensor(w)).numpy()
        return g


def _expand(model: Any, w: Array) -> tuple[Gaussian, Array]:
    """Gaussian over y and dy/dw at one w (dw,), numpy; in one pass where the model has one."""
    if hasattr(model, "expand"):
        y, J = model.expand(w)
        return y, J
    y, J = model.predict(torch.as_tensor(w)), model.jacobian(torch.as_tensor(w))[1]
    return Gaussian(y.mean.numpy(), y.cov.numpy()), np.ascontiguousarray(J.numpy())


def fit(kind: str, data: Data, settings: Mapping[str, Any], seed: int) -> Any:
    """A model of MODELS fitted with the parameters `<kind>.*`.

    Raises ConfigError for an unknown kind or setting, ValueError for too few or non-finite data.
    """
    model = _kind(kind)
    if not (np.isfinite(data.w).all() and np.isfinite(data.y).all()):
        raise ValueError(f"{kind}: the data are not finite")
    return model.fit(data, from_mapping(model.Config, section(settings, kind), kind), seed)


def prior_of(model: Any, settings: Mapping[str, Any]) -> Prior:
    """The model as a prior, with the parameters `prior.*`."""
    config = from_mapping(Config, section(settings, "prior"), "prior")
    if isinstance(model, NoModel):
        return FlatPrior(torch.cat([model.w_scale, model.y_scale]).numpy())
    return LinearizedPrior(model, config)


def residuals(model: Any, w: Array, y: Array) -> tuple[Array, Array, float]:
    """y - g(w) and its expected deviation (N, dy) at w (N, dw), and the mean negative log-likelihood of y [nats]."""
    with torch.no_grad():
        p = model.predict(torch.as_tensor(w))
        normal = torch.distributions.MultivariateNormal(p.mean, p.cov)
        loss = float(-normal.log_prob(torch.as_tensor(y)).mean())
    return y - p.mean.numpy(), p.cov.diagonal(dim1=-2, dim2=-1).sqrt().numpy(), loss


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model as numbers and the name of its kind (.npz); a reader sees the old file or the new one, whole."""
    kind = next(name for name, cls in MODELS.items() if cls is type(model))
    write_arrays(path, {"kind": np.array(kind), "format": np.array(FORMAT), **arrays_of(model)})


def load(path: str | os.PathLike[str], robot: Robot | None = None) -> Any:
    """The inverse of `save`. The file holds numbers only and nothing in it is executed; `robot` is for `nominal`.

    Raises ConfigError for a file that is not such a model.
    """
    arrays = read_arrays(path, "model")
    try:
        kind, version = str(arrays.pop("kind")), int(arrays.pop("format"))
        finite = all(np.isfinite(a).all() for a in arrays.values())
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a model file: {error}") from error
    if version != FORMAT or not finite:
        raise ConfigError(f"{path}: expected format {FORMAT} and finite numbers, got format {version}")
    cls = _kind(kind)
    if hasattr(cls, "from_arrays"):
        return cls.from_arrays(arrays, robot)
    try:
        return cls(**{name: torch.as_tensor(a) for name, a in arrays.items()})
    except TypeError as error:
        raise ConfigError(f"{path}: not a model of kind {kind}: {error}") from error


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Named arrays into a .npz file; a reader sees the old file or the new one, whole."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(target)


def read_arrays(path: str | os.PathLike[str], what: str) -> dict[str, Array]:
    """The inverse of `write_arrays`; nothing in the file is executed. Raises ConfigError: it is not a `what` file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: not a {what} file: {error}") from error


def arrays_of(model: Any) -> dict[str, Array]:
    """The numbers that are the model."""
    if hasattr(model, "arrays"):
        arrays: dict[str, Array] = model.arrays()
        return arrays
    return {f.name: getattr(model, f.name).numpy() for f in dataclasses.fields(model)}


def _kind(kind: str) -> Any:
    if kind not in MODELS:
        raise ConfigError(f"unknown model {kind!r}; choose one of {', '.join(MODELS)}")
    return MODELS[kind]
