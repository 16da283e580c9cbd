"""An ensemble of small networks over a linear regression (Chua et al. 2018; Fu, Levine & Abbeel 2016).

    g_e(w) = A_e w + b_e + W3_e tanh(W2_e tanh(W1_e w + b1_e) + b2_e),    e = 1..E
    y ~ N(mean_e g_e(w), R + cov_e g_e(w))

The linear part starts at the ridge solution and the last layer at zero, so that training begins at the ridge
regression and weight decay leads back to it. Member e never sees fold e of the data (blocks of time, in place of a
bootstrap sample): there it stops early, and from there come its residuals, whose covariance gives R. Training is in
units of the deviations of w and of the ridge residual, float32; afterwards the units are folded into the weights, so
that inference is in raw units, float64.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.kernels import models as kernel
from mbrl_ros.models.features import Data, scale_of, time_folds
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.noise import NOISE_FLOOR, shrunk_covariance
from mbrl_ros.types import Array, Gaussian

FOLDS = 5  # the least number of folds: a member is fitted to 80 % of the data or more


@dataclass(frozen=True)
class Training:
    """Parameters of networks and their training."""

    hidden: int = param(64, "Units in each of the two hidden layers", 1, 1024)
    steps: int = param(2000, "Most training steps", 0, 1_000_000)
    batch: int = param(128, "Transitions per step and network", 1, 100_000)
    learning_rate: float = param(2e-3, "Of Adam, at the start; it falls to zero as a cosine", 0.0, 1.0,
                                 scale=LOGARITHMIC)
    weight_decay: float = param(1.0, "Decoupled, relative to the learning rate", 0.0, 100.0)
    patience: int = param(8, "Evaluations without a better held-out error before training ends", 1, 100_000)


@dataclass(frozen=True)
class Ensemble:
    """The fitted weights in raw units, last axes (out, in); a Regression."""

    @dataclass(frozen=True)
    class Config(Training):
        """Parameters `ensemble.*`."""

        members: int = param(5, "Networks in the ensemble", 1, 20)
        # Off: leaving out a fold each makes the members differ; resampling cost the gain over ridge at 30 s of data.
        bootstrap: bool = param(False, "Resample the data of every member with replacement")

    A: Tensor  # (E, dy, dw)
    b: Tensor  # (E, dy)
    W1: Tensor  # (E, h, dw)
    b1: Tensor  # (E, h)
    W2: Tensor  # (E, h, h)
    b2: Tensor  # (E, h)
    W3: Tensor  # (E, dy, h)
    R: Tensor  # (dy, dy) covariance of the noise
    w_scale: Tensor  # (dw,)

    @classmethod
    def fit(cls, data: Data, config: Config, seed: int) -> Ensemble:
        """Fitted to at least two pairs per fold; the same seed gives the same ensemble."""
        return _fit(data, config, seed)

    @property
    def count(self) -> int:
        """E."""
        return len(self.A)

    def members(self, w: Float[Tensor, "*b dw"]) -> Float[Tensor, "E *b dy"]:
        """g_e(w): (*b, dw) -> (E, *b, dy)."""
        return self.each(w.expand(self.count, *w.shape))

    def each(self, w: Float[Tensor, "E *b dw"]) -> Float[Tensor, "E *b dy"]:
        """g_e(w_e): every member at points of its own, (E, *b, dw) -> (E, *b, dy)."""
        y = self._forward(w.reshape(self.count, -1, w.shape[-1]))[0]
        return y.reshape(*w.shape[:-1], -1)

    def mean(self, w: Float[Tensor, "*b dw"]) -> Float[Tensor, "*b dy"]:
        """(*b, dw) -> (*b, dy)."""
        return self.members(w).mean(0)

    def predict(self, w: Float[Tensor, "*b dw"]) -> Gaussian:
        """Mean and R + spread of the members."""
        y = self.members(w)  # (E, *b, dy)
        mean = y.mean(0)
        return Gaussian(mean, self.R + _spread(y - mean))

    def jacobian(self, w: Float[Tensor, "*b dw"]) -> tuple[Float[Tensor, "*b dy"], Float[Tensor, "*b dy dw"]]:
        """Mean (*b, dy) and its derivative (*b, dy, dw)."""
        flat = w.reshape(-1, w.shape[-1])
        y, J = self._derivative(flat)
        return y.mean(0).reshape(*w.shape[:-1], -1), J.reshape(*w.shape[:-1], *J.shape[-2:])

    def expand(self, w: Float[Array, " dw"]) -> tuple[Gaussian, Float[Array, "dy dw"]]:
        """`predict` and the derivative at one w (dw,) in one pass, in numpy, for the prior of every tick."""
        mean, spread, J, _ = kernel.ensemble(w, *self._arrays)
        return Gaussian(mean, self._noise + spread), J

    @cached_property
    def _arrays(self) -> tuple[Array, ...]:
        """What kernel.ensemble takes."""
        A, b, W1, b1, W2, b2, W3 = (np.ascontiguousarray(a.numpy()) for a in (self.A, self.b, self.W1, self.b1, self.W2,
                                                                              self.b2, self.W3))
        return A, b, kernel.widened(W1), b1, kernel.widened(W2), b2, W3

    @cached_property
    def _noise(self) -> Array:
        return self.R.numpy()

    def _forward(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y (E, B, dy) and the two hidden layers (E, B, h) for w (B, dw) or (E, B, dw)."""
        w = w.expand(len(self.A), -1, -1)
        h1 = torch.baddbmm(self.b1[:, None], w, self.W1.mT).tanh()
        h2 = torch.baddbmm(self.b2[:, None], h1, self.W2.mT).tanh()
        return torch.baddbmm(self.b[:, None], w, self.A.mT) + h2 @ self.W3.mT, h1, h2

    def _derivative(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """y (E, B, dy) and the derivative (B, dy, dw) of its mean over members."""
        y, h1, h2 = self._forward(w)
        outer = self.W3[:, None] * (1 - h2 * h2)[:, :, None]  # (E, B, dy, h)
        E, B, dy, h = outer.shape
        inner = (outer.reshape(E, B * dy, h) @ self.W2).reshape(E, B, dy, h) * (1 - h1 * h1)[:, :, None]
        J = inner.reshape(E, B * dy, h) @ self.W1 + self.A.repeat(1, B, 1)
        return y, J.mean(0).reshape(B, dy, -1)


def _spread(deviation: Tensor) -> Tensor:
    """Covariance (*b, dy, dy) over the first axis of deviations (E, *b, dy) from their mean; zero for one member."""
    d = deviation.movedim(0, -2)  # (*b, E, dy)
    return d.mT @ d / max(1, len(deviation) - 1)


@dataclass(frozen=True)
class _Units:
    """w, and the residual of every member's ridge solution A w + b, in units of their deviations.

    A member's ridge solution must not know its held-out fold either, or it could not be improved upon there.
    """

    w_mean: Array
    w_scale: Array
    A: Array  # (E, dy, dw)
    b: Array  # (E, dy)
    r_scale: Array  # (dy,)

    @classmethod
    def of(cls, w: Array, y: Array, fold: Array, members: int) -> _Units:
        strength = choose_ridge(w, y)
        A, b = (np.stack(a) for a in zip(*(ridge(w[fold != e], y[fold != e], strength) for e in range(members)),
                                         strict=True))
        residual = y - w @ A.mean(0).T - b.mean(0)
        return cls(*scale_of(w), A, b, np.maximum(residual.std(0), NOISE_FLOOR * scale_of(y)[1]))

    def scaled(self, w: Array, y: Array) -> tuple[Tensor, Tensor]:
        """w (N, dw) and residuals (E, N, dy)."""
        residual = (y - w @ self.A.swapaxes(-1, -2) - self.b[:, None]) / self.r_scale
        return (torch.as_tensor((w - self.w_mean) / self.w_scale, dtype=torch.float32),
                torch.as_tensor(residual, dtype=torch.float32))

    def fold(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights in scaled units -> weights in raw units, float64."""
        p = {name: value.double() for name, value in p.items()}
        w_mean, w_scale, A, b, r_scale = (torch.as_tensor(v) for v in (self.w_mean, self.w_scale, self.A, self.b,
                                                                       self.r_scale))
        L = r_scale[:, None] * p["L"] / w_scale
        W1 = p["W1"] / w_scale
        return {"A": A + L, "b": b + r_scale * p["l"] - L @ w_mean, "W1": W1, "b1": p["b1"] - W1 @ w_mean,
                "W2": p["W2"], "b2": p["b2"], "W3": r_scale[:, None] * p["W3"]}


def _fit(data: Data, config: Ensemble.Config, seed: int) -> Ensemble:
    w, y = np.asarray(data.w, float), np.asarray(data.y, float)
    folds = max(FOLDS, config.members)
    if len(w) < 2 * folds:
        raise ValueError(f"ensemble: expected at least {2 * folds} transitions, got {len(w)}")
    fold = time_folds(len(w), folds)
    units = _Units.of(w, y, fold, config.members)
    weights = units.fold(_train(*units.scaled(w, y), fold, config, seed))
    unit = torch.eye(y.shape[-1], dtype=torch.float64)
    ensemble = Ensemble(**weights, R=unit, w_scale=torch.as_tensor(units.w_scale))
    R = _noise(ensemble, w, y, fold)
    return Ensemble(**weights, R=torch.as_tensor(R), w_scale=ensemble.w_scale)


def _initial(E: int, dw: int, dy: int, h: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Hidden layers at random (Glorot), everything that reaches the output at zero."""
    def glorot(rows: int, columns: int) -> Tensor:
        return torch.randn(E, rows, columns, generator=generator) * (2.0 / (rows + columns)) ** 0.5
    zeros = {"b1": (E, h), "b2": (E, h), "W3": (E, dy, h), "L": (E, dy, dw), "l": (E, dy)}
    return {"W1": glorot(h, dw), "W2": glorot(h, h), **{name: torch.zeros(s) for name, s in zeros.items()}}


def _network(p: dict[str, Tensor], w: Tensor) -> Tensor:
    """Scaled residual (E, B, dy) for w (E, B, dw)."""
    h1 = torch.baddbmm(p["b1"][:, None], w, p["W1"].mT).tanh()
    h2 = torch.baddbmm(p["b2"][:, None], h1, p["W2"].mT).tanh()
    return torch.baddbmm(p["l"][:, None], w, p["L"].mT) + h2 @ p["W3"].mT


def _train(w: Tensor, y: Tensor, fold: Array, config: Ensemble.Config, seed: int) -> dict[str, Tensor]:
    """Every member at its least held-out error; w (N, dw), y (E, N, dy) scaled."""
    E, generator = config.members, torch.Generator().manual_seed(seed)
    p = _initial(E, w.shape[-1], y.shape[-1], config.hidden, generator)
    for value in p.values():
        value.requires_grad_(True)
    optimizer = torch.optim.AdamW(p.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.steps))
    held_out = torch.as_tensor(fold == np.arange(E)[:, None])  # (E, N)
    rows = _rows(held_out, config.bootstrap, generator)  # (E, N_train)
    each = torch.arange(E)[:, None]
    best, error, waited = _snapshot(p), _error(p, w, y, held_out), 0
    every = max(1, config.steps // 40)
    for step in range(1, config.steps + 1):
        i = rows.gather(1, torch.randint(rows.shape[1], (E, config.batch), generator=generator))
        loss = (_network(p, w[i]) - y[each, i]).square().mean((1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % every == 0:
            now = _error(p, w, y, held_out)
            better = now < error
            waited = 0 if bool(better.any()) else waited + 1
            best = {k: torch.where(better.view(-1, *[1] * (v.dim() - 1)), p[k].detach(), v) for k, v in best.items()}
            error = torch.minimum(now, error)
            if waited >= config.patience:
                break
    return best


def _snapshot(p: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in p.items()}


def _rows(held_out: Tensor, bootstrap: bool, generator: torch.Generator) -> Tensor:
    """The training rows (E, N_train) of every member; drawn with replacement, or all in turn, repeated to fit."""
    train = [torch.nonzero(~row).flatten() for row in held_out]
    size = max(len(t) for t in train)
    if bootstrap:
        return torch.stack([t[torch.randint(len(t), (size,), generator=generator)] for t in train])
    return torch.stack([t.repeat(2)[:size] for t in train])


@torch.no_grad()
def _error(p: dict[str, Tensor], w: Tensor, y: Tensor, held_out: Tensor) -> Tensor:
    """Mean squared held-out error (E,) of every member."""
    squared = (_network(p, w.expand(len(held_out), -1, -1)) - y).square().mean(-1)  # (E, N)
    return (squared * held_out).sum(1) / held_out.sum(1)


def _noise(ensemble: Ensemble, w: Array, y: Array, fold: Array) -> Array:
    """R (dy, dy): the covariance S of the residuals of each member on its own fold, scaled such that R + spread is
    calibrated there: mean of r' (a S + V)^-1 r = dy."""
    prediction = ensemble.members(torch.as_tensor(w))  # (E, N, dy)
    use = np.flatnonzero(fold < len(prediction))
    residual = y[use] - prediction.numpy()[fold[use], use]  # (N', dy)
    V = _spread(prediction[:, use] - prediction[:, use].mean(0)).numpy()
    S = shrunk_covariance(residual, y)
    return _calibrate(S, V, residual) * S


def _calibrate(S: Array, V: Array, residual: Array) -> float:
    """The factor a in [0.1, 10] with mean r' (a S + V)^-1 r = dy, by bisection in log a."""
    low, high = np.log(0.1), np.log(10.0)
    for _ in range(20):
        a = 0.5 * (low + high)
        solved = np.linalg.solve(np.exp(a) * S + V, residual[..., None])[..., 0]
        over = float((residual * solved).sum(-1).mean()) > residual.shape[-1]
        low, high = (a, high) if over else (low, a)
    return float(np.exp(0.5 * (low + high)))
