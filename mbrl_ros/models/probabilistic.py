"""A probabilistic ensemble: every member says a mean, and how much the outcome scatters about it (Chua et al. 2018).

    y ~ N(mu_e(w), diag sigma_e^2(w)),    e = 1..E,    log sigma^2 = low + softplus(high - softplus(high - l) - low)

mu_e and l_e are the outputs of one network of SiLU layers, w and y in units of their deviations, and mu_e has a linear
part besides, which begins at the ridge regression: positions follow velocities almost exactly, and that need not be
learned. Networks begin far from each other and from zero, and so remain where there are no data. `high` and `low` are
learned per output, and a small pull draws them together, so that no log-variance runs away where there are no data.
Member e is fitted to a bootstrap sample of what is not fold e of the data (blocks of time), and keeps the weights of
the best likelihood on that fold, whatever the scale of sigma, which on data that were learned soon gets too small: to
stop for that would be long before mean and shape are good. The scale is set once all are trained, by the folds.

Four models of the paper in one: with one member the network alone (P), `deterministic` members of constant sigma,
whose noise is not drawn in rollouts (D), or ensembles of both (PE, DE). From one fit to the next the weights go on.
"""
from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import silu, softplus

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.models.ensemble import FOLDS, _snapshot, _spread
from mbrl_ros.models.features import Data, scale_of, time_folds
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.noise import NOISE_FLOOR
from mbrl_ros.types import Array, Gaussian

HIGH, LOW, PULL = 0.5, -10.0, 0.01  # where the limits of log-variances begin, and what draws them together (PETS)
WIDE = 20.0  # from a log-variance to limits that do not touch it: exp(-20) is nothing
LESS = 2.3  # at most, by which log-variances are less for the spread of the members: a tenth is left
UNLIKE = 4.0  # by which last layers of means are drawn larger: with zeros all members said the same of new states
EPOCH = 20  # steps that an epoch has at least, or few data would count as learned after a handful
STEEPER = 4.0  # the last layer decays by 1 + this times what the first does; those between by as much as they are deep


@dataclass(frozen=True)
class ProbabilisticEnsemble:
    """Weights in scaled units, last axes (out, in), and the units; a Regression with members."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `pe.*`."""

        members: int = param(5, "Networks in the ensemble; 1: no doubt but for the noise", 1, 20)
        deterministic: bool = param(False, "Members of constant noise, which rollouts of members do not draw")
        layers: int = param(2, "Hidden layers", 1, 10)
        hidden: int = param(64, "Units in each of them", 1, 1024)
        epochs: int = param(100, "Most passes over the data in one fit", 0, 100_000)
        patience: int = param(20, "Epochs without a better held-out likelihood before training ends; at first noise "
                              "is learned, which spoils it", 1, 100_000)
        batch: int = param(64, "Transitions per step and network", 1, 100_000)
        learning_rate: float = param(1e-3, "Of Adam", 0.0, 1.0, scale=LOGARITHMIC)
        weight_decay: float = param(1e-4, "Of the first layer; up to the last it grows to five times that", 0.0, 100.0)
        bootstrap: bool = param(True, "Resample the data of every member with replacement")

    W_in: Tensor  # (E, h, dw)
    b_in: Tensor  # (E, h)
    W_mid: Tensor  # (L - 1, E, h, h)
    b_mid: Tensor  # (L - 1, E, h)
    A: Tensor  # (E, dy, dw), of the means
    W_out: Tensor  # (E, 2 dy, h), first the means, then the log-variances
    b_out: Tensor  # (E, 2 dy)
    high: Tensor  # (E, dy)
    low: Tensor  # (E, dy)
    w_mean: Tensor  # (dw,)
    w_scale: Tensor  # (dw,)
    y_mean: Tensor  # (dy,)
    y_scale: Tensor  # (dy,)
    noisy: Tensor  # (), whether rollouts of members draw their noise

    @classmethod
    def fit(cls, data: Data, config: Config, seed: int,
            start: ProbabilisticEnsemble | None = None) -> ProbabilisticEnsemble:
        """Fitted to at least two pairs per fold, from the weights of `start`, of the same sizes, where given.

        The same seed gives the same model.
        """
        return _fit(data, config, seed, start)

    @property
    def count(self) -> int:
        """E."""
        return len(self.W_in)

    def member(self, i: int) -> ProbabilisticEnsemble:
        """One of them, as an ensemble of one."""
        alone = {f.name: getattr(self, f.name)[i : i + 1] for f in fields(self)
                 if f.name not in ("W_mid", "b_mid", "w_mean", "w_scale", "y_mean", "y_scale", "noisy")}
        return replace(self, **alone, W_mid=self.W_mid[:, i : i + 1], b_mid=self.b_mid[:, i : i + 1])

    def outcomes(self, w: Float[Tensor, "E *b dw"]) -> tuple[Float[Tensor, "E *b dy"], Float[Tensor, "E *b dy"] | None]:
        """Mean of every member at points of its own, and the deviation of the noise that rollouts draw, if they do."""
        mean, log_variance, _ = self._forward(w.reshape(self.count, -1, w.shape[-1]), bool(self.noisy))
        shape = (*w.shape[:-1], -1)
        return mean.reshape(shape), None if log_variance is None else (0.5 * log_variance).exp().reshape(shape)

    def each(self, w: Float[Tensor, "E *b dw"]) -> Float[Tensor, "E *b dy"]:
        """Means of `outcomes`."""
        mean = self._forward(w.reshape(self.count, -1, w.shape[-1]), False)[0]
        return mean.reshape(*w.shape[:-1], -1)

    def mean(self, w: Float[Tensor, "*b dw"]) -> Float[Tensor, "*b dy"]:
        """(*b, dw) -> (*b, dy)."""
        return self.each(w.expand(self.count, *w.shape)).mean(0)

    def predict(self, w: Float[Tensor, "*b dw"]) -> Gaussian:
        """Mean and covariance of the mixture: mean of the noise and spread of the members."""
        flat = w.reshape(-1, w.shape[-1])
        y, log_variance, _ = self._forward(flat.expand(self.count, *flat.shape), True)
        assert log_variance is not None
        mean = y.mean(0)
        cov = torch.diag_embed(log_variance.exp().mean(0)) + _spread(y - mean)
        return Gaussian(mean.reshape(*w.shape[:-1], -1), cov.reshape(*w.shape[:-1], *cov.shape[-2:]))

    def jacobian(self, w: Float[Tensor, "*b dw"]) -> tuple[Float[Tensor, "*b dy"], Float[Tensor, "*b dy dw"]]:
        """Mean (*b, dy) and its derivative (*b, dy, dw)."""
        flat = w.reshape(-1, w.shape[-1])
        y, _, inner = self._forward(flat.expand(self.count, *flat.shape), False)
        weights = [self._raw["W_in"], *self.W_mid, self._raw["W_mean"]]
        J = weights[-1].unsqueeze(1)  # (E, 1, dy, h)
        for W, a in zip(weights[-2::-1], inner[::-1], strict=True):
            s = a.sigmoid()
            J = (J * (s * (1 + a * (1 - s))).unsqueeze(2)) @ W.unsqueeze(1)
        J = (J + self._raw["A"].unsqueeze(1)).mean(0)
        return y.mean(0).reshape(*w.shape[:-1], -1), J.reshape(*w.shape[:-1], *J.shape[-2:])

    @cached_property
    def _raw(self) -> dict[str, Tensor]:
        """First and last layer in raw units."""
        dy = len(self.y_scale)
        W_in, A = self.W_in / self.w_scale, self.y_scale[:, None] * self.A / self.w_scale
        shift = 2 * self.y_scale.log()
        return {"W_in": W_in, "b_in": (self.b_in - W_in @ self.w_mean).unsqueeze(1),
                "A": A, "W_mean": self.y_scale[:, None] * self.W_out[:, :dy],
                "b_mean": (self.y_mean + self.y_scale * self.b_out[:, :dy] - A @ self.w_mean).unsqueeze(1),
                "W_noise": self.W_out[:, dy:], "b_noise": (self.b_out[:, dy:] + shift).unsqueeze(1),
                "high": (self.high + shift).unsqueeze(1), "low": (self.low + shift).unsqueeze(1)}

    def _forward(self, w: Tensor, noise: bool) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Means (E, B, dy), log-variances where asked for, and what goes into the SiLUs, for w (E, B, dw)."""
        p = self._raw
        inner = [torch.baddbmm(p["b_in"], w, p["W_in"].mT)]
        for W, b in zip(self.W_mid, self.b_mid, strict=True):
            inner.append(torch.baddbmm(b[:, None], silu(inner[-1]), W.mT))
        h = silu(inner[-1])
        mean = torch.baddbmm(torch.baddbmm(p["b_mean"], w, p["A"].mT), h, p["W_mean"].mT)
        if not noise:
            return mean, None, inner
        return mean, _bounded(torch.baddbmm(p["b_noise"], h, p["W_noise"].mT), p["high"], p["low"]), inner


def _bounded(l: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Log-variances softly between their limits."""
    return low + softplus(high - softplus(high - l) - low)


def _fit(data: Data, config: ProbabilisticEnsemble.Config, seed: int,
         start: ProbabilisticEnsemble | None) -> ProbabilisticEnsemble:
    w, y = np.asarray(data.w, float), np.asarray(data.y, float)
    folds = max(FOLDS, config.members)
    if len(w) < 2 * folds:
        raise ValueError(f"pe: expected at least {2 * folds} transitions, got {len(w)}")
    held_out = torch.as_tensor(time_folds(len(w), folds) == np.arange(config.members)[:, None])  # (E, N)
    (w_mean, w_scale), (y_mean, y_scale) = scale_of(w), scale_of(y)
    units = {name: torch.as_tensor(value) for name, value in (("w_mean", w_mean), ("w_scale", w_scale),
                                                              ("y_mean", y_mean), ("y_scale", y_scale))}
    generator = torch.Generator().manual_seed(seed)
    p = _initial(w.shape[1], y.shape[1], config, generator)
    rows = _rows(held_out, config.bootstrap, generator)
    scaled = (w - w_mean) / w_scale, (y - y_mean) / y_scale
    if start is not None:
        p = _in_units(start, units, p)
    else:
        p["A"], p["b_out"][:, :y.shape[1]] = _ridges(*scaled, rows)
    scaled_w, scaled_y = (torch.as_tensor(v, dtype=torch.float32) for v in scaled)
    p = _train(p, scaled_w, scaled_y, held_out, rows, config, generator)
    shift = _scale_of_noise(p, scaled_w, scaled_y, held_out)
    for name in ("high", "low"):
        p[name] = p[name] + shift
    p["b_out"] = torch.cat([p["b_out"][:, :y.shape[1]], p["b_out"][:, y.shape[1]:] + shift], -1)
    return ProbabilisticEnsemble(**{name: value.double().contiguous() for name, value in p.items()}, **units,
                                 noisy=torch.tensor(not config.deterministic))


def _initial(dw: int, dy: int, config: ProbabilisticEnsemble.Config, generator: torch.Generator) -> dict[str, Tensor]:
    """Truncated normal weights of deviation 1 / (2 sqrt(inputs)); members of constant noise have that one to begin."""
    E, h, L = config.members, config.hidden, config.layers

    def drawn(*shape: int) -> Tensor:
        return torch.nn.init.trunc_normal_(torch.empty(shape), generator=generator) / (2 * shape[-1] ** 0.5)
    p = {"W_in": drawn(E, h, dw), "b_in": torch.zeros(E, h), "W_mid": drawn(L - 1, E, h, h),
         "b_mid": torch.zeros(L - 1, E, h), "A": torch.zeros(E, dy, dw),
         "W_out": drawn(E, 2 * dy, h), "b_out": torch.zeros(E, 2 * dy)}
    p["W_out"][:, :dy] *= UNLIKE
    if config.deterministic:
        p["W_out"][:, dy:] = 0.0
    high, low = (WIDE, -WIDE) if config.deterministic else (HIGH, LOW)
    return {**p, "high": torch.full((E, dy), high), "low": torch.full((E, dy), low)}


def _rows(held_out: Tensor, bootstrap: bool, generator: torch.Generator) -> Tensor:
    """What each member is fitted to, (E, size): what is not its fold, or as many of that, drawn once for these data."""
    kept = [torch.nonzero(~row).flatten() for row in held_out]
    size = min(len(r) for r in kept)
    return torch.stack([r[torch.randint(len(r), (size,), generator=generator) if bootstrap else
                          torch.randperm(len(r), generator=generator)[:size]] for r in kept])


def _ridges(w: Array, y: Array, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A (E, dy, dw) and b (E, dy) of every member's ridge regression."""
    strength = choose_ridge(w, y)
    found = [ridge(w[of], y[of], strength) for of in rows.numpy()]
    A, b = (torch.as_tensor(np.stack(each), dtype=torch.float32) for each in zip(*found, strict=True))
    return A, b


def _in_units(start: ProbabilisticEnsemble, units: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same networks for w and y in other units. Raises ValueError where they are of other sizes than `like`."""
    p = {f.name: getattr(start, f.name) for f in fields(start) if f.name in like}
    wrong = [name for name in p if p[name].shape != like[name].shape]
    if wrong:
        raise ValueError(f"pe: expected to go on from a model of the same sizes, but {wrong[0]} has "
                         f"{list(p[wrong[0]].shape)} instead of {list(like[wrong[0]].shape)}")
    dy, ratio = len(start.y_scale), start.y_scale / units["y_scale"]
    shift = 2 * ratio.log()
    moved, wider = (units["w_mean"] - start.w_mean) / start.w_scale, units["w_scale"] / start.w_scale
    p["b_in"], p["W_in"] = p["b_in"] + p["W_in"] @ moved, p["W_in"] * wider
    p["W_out"] = torch.cat([ratio[:, None] * p["W_out"][:, :dy], p["W_out"][:, dy:]], 1)
    mean = ratio * (p["b_out"][:, :dy] + p["A"] @ moved) + (start.y_mean - units["y_mean"]) / units["y_scale"]
    p["A"] = ratio[:, None] * p["A"] * wider
    p["b_out"] = torch.cat([mean, p["b_out"][:, dy:] + shift], -1)
    return {**{name: value.float() for name, value in p.items()}, "high": (p["high"] + shift).float(),
            "low": (p["low"] + shift).float()}


def _network(p: dict[str, Tensor], w: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled mean and log-variance (E, B, dy) for scaled w (E, B, dw)."""
    h = silu(torch.baddbmm(p["b_in"][:, None], w, p["W_in"].mT))
    for W, b in zip(p["W_mid"], p["b_mid"], strict=True):
        h = silu(torch.baddbmm(b[:, None], h, W.mT))
    mean, l = torch.baddbmm(p["b_out"][:, None], h, p["W_out"].mT).chunk(2, -1)
    return mean + w @ p["A"].mT, _bounded(l, p["high"][:, None], p["low"][:, None])


def _loss(p: dict[str, Tensor], w: Tensor, y: Tensor) -> Tensor:
    """Twice the negative log-likelihood, but for a constant, (E, B): the mean over outputs."""
    mean, log_variance = _network(p, w)
    return ((y - mean).square() * (-log_variance).exp() + log_variance).mean(-1)


def _train(p: dict[str, Tensor], w: Tensor, y: Tensor, held_out: Tensor, rows: Tensor,
           config: ProbabilisticEnsemble.Config, generator: torch.Generator) -> dict[str, Tensor]:
    """Every member at its least held-out loss; w (N, dw), y (N, dy) scaled, held_out (E, N), rows (E, size)."""
    dy, E = y.shape[-1], config.members
    p = {name: value.clone().requires_grad_(True) for name, value in p.items()}
    depth = {"W_in": 0.0, "W_mid": 0.5, "A": 0.0, "W_out": 1.0}
    groups = [{"params": [value], "weight_decay": config.weight_decay * (1 + STEEPER * depth[name])
               if name in depth else 0.0} for name, value in p.items()
              if not (config.deterministic and name in ("high", "low"))]
    optimizer = torch.optim.Adam(groups, lr=config.learning_rate)
    size = rows.shape[1]
    batch = min(config.batch, size)
    steps = max(EPOCH, -(-size // batch))
    best, least, waited = _snapshot(p), _held_out_loss(p, w, y, held_out), 0
    for _ in range(config.epochs):
        shuffled = torch.stack([r[torch.randperm(size, generator=generator)] for r in rows])
        for s in range(steps):
            i = shuffled[:, torch.arange(s * batch, (s + 1) * batch) % size]  # (E, batch)
            loss = _loss(p, w[i], y[i]).mean(1).sum()
            if not config.deterministic:
                loss = loss + PULL * (p["high"] - p["low"]).sum() / dy
            optimizer.zero_grad()
            loss.backward()
            if config.deterministic:
                for name in ("W_out", "b_out"):  # the noise stays constant
                    p[name].grad[:, dy:] = 0.0  # type: ignore[index]
            optimizer.step()
        now = _held_out_loss(p, w, y, held_out)
        better = now < least
        waited = 0 if bool(better.any()) else waited + 1
        for name, value in _snapshot(p).items():
            axis = int(name.endswith("_mid"))  # of the members
            member = better.view([E if i == axis else 1 for i in range(value.dim())])
            best[name] = torch.where(member, value, best[name])
        least = torch.minimum(now, least)
        if waited >= config.patience:
            break
    return best


@torch.no_grad()
def _held_out_loss(p: dict[str, Tensor], w: Tensor, y: Tensor, held_out: Tensor) -> Tensor:
    """`_loss` of every member on its own fold (E,), with the scale of sigma that suits each output best there."""
    mean, log_variance = _network(p, w.expand(len(held_out), -1, -1))
    of = held_out.unsqueeze(-1) / held_out.sum(1)[:, None, None]
    square = ((y - mean).square() + NOISE_FLOOR**2) * (-log_variance).exp()
    return ((square * of).sum(1).log() + (log_variance * of).sum(1)).mean(-1)


@torch.no_grad()
def _scale_of_noise(p: dict[str, Tensor], w: Tensor, y: Tensor, held_out: Tensor) -> Tensor:
    """The shift s of log-variances (dy,) with which held-out errors r are as large as predicted, by bisection: the
    mean of r^2 / (exp(s) sigma^2 + V) is 1, V the spread of the members, which predicts errors as well."""
    mean, log_variance = _network(p, w.expand(len(held_out), -1, -1))
    member, row = torch.nonzero(held_out, as_tuple=True)
    V = (mean - mean.mean(0)).square().sum(0)[row] / max(1, len(mean) - 1)
    square, variance = (y[row] - mean[member, row]).square() + NOISE_FLOOR**2, log_variance[member, row].exp()
    high = (square / variance).mean(0).log()  # without V
    low = high - LESS
    for _ in range(20):
        s = 0.5 * (low + high)
        over = (square / (s.exp() * variance + V)).mean(0) > 1
        low, high = torch.where(over, s, low), torch.where(over, high, s)
    return 0.5 * (low + high)
