"""A few numbers z in place of pictures: what z is, how it moves and how far from the goal it is, learned together.

z = [p, v]: places p that one picture says, and v how fast they change, which takes more than one.

`single_step`  p = g(o), deterministic, and while it is learned v is the difference to that of the picture before. The
    sum of the log-likelihoods of the picture given p, of z' given z and u, and of the distance given p is what encoder,
    decoder, dynamics and distance ascend. p has variance one over every batch, or the likelihood of z' would grow
    without bound as z shrinks. A code is rough from picture to picture, and differences are rougher: after the last
    pass, expectation maximisation tells apart what of it is motion and what is not.
`solar`  the posterior of z given a whole sequence of pictures (Zhang et al. 2019; Johnson et al. 2016): the encoder
    says N(m, diag s) of p at each, the prior of z is a linear dynamical system that is not known exactly (lds.py), and
    the posterior is its smoother, in closed form. Ascended is the bound E_q[log p(o, distance | z)] - beta KL(q || p);
    belief about the dynamics follows in closed form after every pass through the data.

Either says N(p, diag s) of one picture, so that a filter gives the posterior of z given what was seen so far at every
step; dynamics and distance are affine in z, so that planning is a linear-quadratic problem: |C p + c| is the distance.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.models import lds
from mbrl_ros.models.lds import Dynamics, MatrixNormalInverseWishart, Potentials
from mbrl_ros.models.pictures import Pictures, bright
from mbrl_ros.types import Array, Gaussian

if TYPE_CHECKING:
    from jaxtyping import Float

LEAST = 1e-4  # variance of what the encoder says, and of z' [1]
ROUND = 1e-6  # [of the mean distance], by which the distance is smooth at the goal
SPACE = 3  # rows of C: distance is in space
REPEATS = 20  # of expectation maximisation
QUICK = 10.0  # steps in the unit of time of v, for p and v to be of one size


class Sequences(NamedTuple):
    """N trials of T steps that were seen."""

    pictures: Array  # (N, T + 1, H, W, C), 0 to 255
    u: Array  # (N, T, m) [N m or N]
    distance: Array  # (N, T + 1) [m] of the tool from its goal

    @classmethod
    def together(cls, parts: list[Sequences]) -> Sequences:
        """All of them."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Shape(NamedTuple):
    """Of what is seen and done."""

    width: int  # of a picture, and its height [px]
    channels: int
    m: int  # efforts


@dataclass(frozen=True)
class Config:
    """Settings of a latent model and of how it is learned."""

    size: int = param(4, "Numbers in place of a picture; with how fast they change twice as many", 1, 100)
    passes: int = param(40, "Through the data", 1, 100_000)
    more: int = param(8, "Likewise where it goes on with more data, at half the rate", 0, 100_000)
    window: int = param(10, "Steps of a sequence that are learned from at a time, so that a batch sees many places", 1,
                        100_000)
    batch: int = param(8, "Windows that a step is by", 1, 1000)
    rate: float = param(2e-3, "Of Adam, falling to zero", 1e-6, 1.0, scale=LOGARITHMIC)
    pixel: float = param(0.05, "Weight of the likelihood of a pixel: what neighbours say is much the same", 1e-6, 1e3,
                         scale=LOGARITHMIC)
    far: float = param(20.0, "Weight of the likelihood of a distance, of which a picture has one", 1e-3, 1e6,
                       scale=LOGARITHMIC)
    beta: float = param(1.0, "Of the divergence, at the end; it grows from a hundredth of it over half of the passes",
                        0.0, 100.0)
    clip: float = param(5.0, "Largest gradient", 1e-3, 1e6, scale=LOGARITHMIC)


class Latent(nn.Module, ABC):
    """What both kinds have in common."""

    told = 1  # numbers that the encoder says of each in p
    by_belief = False  # whether the bound is by the belief
    belief: MatrixNormalInverseWishart  # about the dynamics, efforts in units

    u_mean: Tensor
    u_scale: Tensor
    unit: Tensor  # of distances [m]

    def __init__(self, config: Config, shape: Shape, seed: int):
        torch.manual_seed(seed)
        super().__init__()
        self.config, self.shape = config, shape
        self.pictures = Pictures(shape.width, shape.channels, self.told * config.size, config.size)
        zero, one = torch.zeros(shape.m, dtype=torch.float64), torch.ones(shape.m, dtype=torch.float64)
        for name, value in (("u_mean", zero), ("u_scale", one), ("unit", one[0].clone())):
            self.register_buffer(name, value)
        self.C = nn.Parameter(0.1 * torch.randn(SPACE, config.size, dtype=torch.float64))
        self.c = nn.Parameter(torch.zeros(SPACE, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(3, dtype=torch.float64))  # of pictures, distance, and z'
        self.belief = vague(config.size, shape.m)
        eye = torch.eye(2 * config.size, dtype=torch.float64)
        self.start = Gaussian(0.0 * eye[0], eye)  # what is believed before a first picture

    @classmethod
    def of(cls, config: Config, data: Sequences, limit: Float[Array, " m"], seed: int) -> Latent:
        """In units of these data and of the limits of the efforts."""
        width, channels = data.pictures.shape[-2:]
        model = cls(config, Shape(width, channels, data.u.shape[-1]), seed)
        model.pictures.fit_units(bright(data.pictures).flatten(end_dim=1))
        model.u_mean, model.u_scale = torch.as_tensor(data.u.mean((0, 1))), torch.as_tensor(limit)
        model.unit = torch.as_tensor(data.distance.mean())
        return model

    @abstractmethod
    def bound(self, seen: Tensor, u: Tensor, distance: Tensor, beta: float) -> Tensor:
        """Of each sequence [nats] (N,): pictures (N, T + 2, C, H, W), the first being the one before, and efforts and
        distances in units."""

    @abstractmethod
    def potentials(self, seen: Float[Tensor, "*b K H W"]) -> Potentials:
        """What each picture says of p."""

    @torch.no_grad()
    def said(self, data: Sequences) -> tuple[Potentials, Tensor]:
        """What the pictures say of p, encoded a trial at a time, and the efforts in units."""
        each = [self.potentials(bright(one)) for one in data.pictures]
        psi = Potentials(*(torch.stack(parts) for parts in zip(*each, strict=True)))
        return psi, self.in_units(torch.as_tensor(data.u))

    def believe(self, data: Sequences) -> None:
        """The belief about the dynamics, in closed form."""
        self._believe(*self.said(data))

    @torch.no_grad()
    def _believe(self, psi: Potentials, u: Tensor) -> Gaussian:
        """q(z) that it is by."""
        q = lds.smooth(self.start, self.belief.expected, u, psi)
        yy, yw, ww = (part.sum((0, 1)) for part in lds.moments(q, u))
        self.belief = vague(self.config.size, u.shape[-1]).posterior(yy, yw, ww, u.shape[0] * u.shape[1])
        mean = q.z.mean.mean((0, 1))  # a window may begin anywhere
        away = q.z.mean - mean
        self.start = Gaussian(mean, (q.z.cov + away.unsqueeze(-1) * away.unsqueeze(-2)).mean((0, 1)))
        return q.z

    def begin(self, picture: Array) -> Gaussian:
        """The belief about z after a first picture (H, W, C)."""
        return self._seen(self.start, picture)

    def step(self, z: Gaussian, u: Float[Array, " m"], picture: Array) -> Gaussian:
        """The belief a step later, after an effort and a picture."""
        return self._seen(lds.predicted(z, self.in_units(torch.as_tensor(u)), self.belief.expected), picture)

    @torch.no_grad()
    def _seen(self, expected: Gaussian, picture: Array) -> Gaussian:
        return lds.measured(expected, *self.potentials(bright(picture)))[0]

    @torch.no_grad()
    def filtered(self, data: Sequences) -> Float[Tensor, "N steps d"]:
        """Means of what is believed step by step, as at run time."""
        (psi, u), means = self.said(data), []
        z = Gaussian(self.start.mean.expand(len(u), -1), self.start.cov.expand(len(u), -1, -1))
        for t in range(u.shape[1] + 1):
            z, _ = lds.measured(z, psi.m[:, t], psi.v[:, t])
            means.append(z.mean)
            z = lds.predicted(z, u[:, t], self.belief.expected) if t < u.shape[1] else z
        return torch.stack(means, 1)

    def in_units(self, u: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        """Efforts in units of the limits, about their mean."""
        return (u - self.u_mean) / self.u_scale

    def distance(self, z: Float[Tensor, "*b d"]) -> Float[Tensor, " *b"]:
        """Of the tool from the goal, in units of the mean."""
        return ((z[..., : self.config.size] @ self.C.mT + self.c).square().sum(-1) + ROUND).sqrt()

    def log_likelihood(self, z: Tensor, seen: Tensor, distance: Tensor) -> Tensor:
        """Of pictures and distances given z (N, T + 1, d), per sequence."""
        missed = (self.pictures.decode(z[..., : self.config.size]) - self.pictures.in_units(seen)).double().flatten(-3)
        return (self.config.pixel * _log_normal(missed, self.log_scale[0]).sum((-2, -1))
                + self.config.far * _log_normal(self.distance(z) - distance, self.log_scale[1]).sum(-1))

    def tensors(self, data: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, the first of them twice as the arm began at rest; efforts and distances in units."""
        seen = bright(data.pictures)
        return (torch.cat([seen[:, :1], seen], 1), self.in_units(torch.as_tensor(data.u)),
                torch.as_tensor(data.distance) / self.unit)

    def windows(self, data: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        """Likewise, cut into windows one after the other; the end of one is the beginning of the next."""
        T = min(self.config.window, data.u.shape[1])
        starts = range(0, data.u.shape[1] - T + 1, T)
        seen, u, distance = self.tensors(data)
        return tuple(torch.cat([part[:, t : t + T + more] for t in starts])  # type: ignore[return-value]
                     for part, more in ((seen, 2), (u, 0), (distance, 1)))

    def fit(self, data: Sequences, seed: int, again: bool = False) -> list[float]:
        """Ascend the bound, or go on with it; its mean per step after every pass [nats]."""
        c = self.config
        seen, u, distance = self.windows(data)
        N, passes = len(u), c.more if again else c.passes
        optimizer = torch.optim.Adam(self.parameters(), lr=0.5 * c.rate if again else c.rate)
        steps = -(-N // c.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, passes * steps))
        generator, history = torch.Generator().manual_seed(seed), []
        for i in range(passes):
            self.train()
            beta, total = c.beta * (1.0 if again else min(1.0, 0.01 + 2 * i / passes)), 0.0
            for rows in torch.randperm(N, generator=generator).split(c.batch):
                bound = self.bound(seen[rows], u[rows], distance[rows], beta)
                optimizer.zero_grad()
                (-bound.mean() / u.shape[1]).backward()
                nn.utils.clip_grad_norm_(self.parameters(), c.clip)
                optimizer.step()
                schedule.step()
                total += float(bound.detach().sum())
            self.eval()
            if self.by_belief or i == passes - 1:
                self.believe(data)
            history.append(total / N / u.shape[1])
        return history


class SingleStep(Latent):
    """See above."""

    noise: Tensor

    def __init__(self, config: Config, shape: Shape, seed: int):
        super().__init__(config, shape, seed)
        self.spread = nn.BatchNorm1d(config.size, affine=False, dtype=torch.float64)
        self.F = nn.Parameter(self.belief.M.clone())
        self.register_buffer("noise", torch.ones(config.size, dtype=torch.float64))  # variance of a code

    def code(self, seen: Float[Tensor, "*b K H W"]) -> Float[Tensor, "*b size"]:
        """p of each picture."""
        m = self.pictures.encode(seen)
        p: Tensor = self.spread(m.reshape(-1, m.shape[-1]))
        return p.reshape(m.shape)

    def differences(self, seen: Float[Tensor, "*b pictures C H W"]) -> Float[Tensor, "*b steps d"]:
        """z of all pictures but the first, as it is learned."""
        p = self.code(seen)
        return torch.cat([p[..., 1:, :], QUICK * (p[..., 1:, :] - p[..., :-1, :])], -1)

    def potentials(self, seen: Float[Tensor, "*b K H W"]) -> Potentials:
        """See Latent."""
        p = self.code(seen)
        return Potentials(p, self.noise.expand_as(p))

    def bound(self, seen: Tensor, u: Tensor, distance: Tensor, beta: float) -> Tensor:
        """The sum of the log-likelihoods; `beta` weighs that of z'."""
        z = self.differences(seen)
        w = torch.cat([z[:, :-1], u, torch.ones_like(u[..., :1])], -1)
        moved = _log_normal(z[:, 1:] - w @ self.F.mT, self.log_scale[2].clamp(min=0.5 * np.log(LEAST)))
        return self.log_likelihood(z, seen[:, 1:], distance) + beta * moved.sum((-2, -1))

    @torch.no_grad()
    def believe(self, data: Sequences) -> None:
        """Dynamics and the noise of codes by expectation maximisation, from a regression on differences."""
        seen, u, _ = self.tensors(data)
        z, k = torch.stack([self.differences(one) for one in seen]), self.config.size
        self.belief = vague(k, u.shape[-1]).posterior(*sums(z, u))
        self.noise = LEAST + 0.5 * self.belief.expected.Sigma.diagonal()[:k]  # of two codes in a row
        self.start = Gaussian(z.mean((0, 1)), z.flatten(end_dim=1).mT.cov())
        for _ in range(REPEATS):
            psi = Potentials(z[..., :k], self.noise.expand_as(z[..., :k]))
            self.noise = LEAST + psi.spread(self._believe(psi, u)).mean((0, 1))


class Solar(Latent):
    """See above."""

    told, by_belief = 2, True

    def __init__(self, config: Config, shape: Shape, seed: int):
        super().__init__(config, shape, seed)
        self._noise = torch.Generator().manual_seed(seed)

    def potentials(self, seen: Float[Tensor, "*b K H W"]) -> Potentials:
        """See Latent."""
        m, s = self.pictures.encode(seen).chunk(2, -1)
        return Potentials(m, LEAST + nn.functional.softplus(s - 3.0))

    def bound(self, seen: Tensor, u: Tensor, distance: Tensor, beta: float) -> Tensor:
        """By one draw of z."""
        psi = self.potentials(seen[:, 1:])
        q = lds.smooth(self.start, self.belief.expected, u, psi)
        noise = torch.randn(q.z.mean.shape, generator=self._noise, dtype=torch.float64)
        z = q.z.mean + (torch.linalg.cholesky(q.z.cov) @ noise.unsqueeze(-1)).squeeze(-1)
        return self.log_likelihood(z, seen[:, 1:], distance) - beta * lds.divergence(q, psi)


LATENTS: dict[str, type[Latent]] = {"single_step": SingleStep, "solar": Solar}


def vague(size: int, m: int) -> MatrixNormalInverseWishart:
    """Belief without data: places go on as fast as they go, and hardly anything is known of that."""
    d = 2 * size
    eye = torch.eye(d + m + 1, dtype=torch.float64)
    M = eye[:d].clone()
    M[:size, size:d] = eye[:size, :size] / QUICK
    return MatrixNormalInverseWishart(M, eye, 0.1 * eye[:d, :d], torch.tensor(d + 2.0).double())


def sums(z: Float[Tensor, "*b T+1 d"], u: Float[Tensor, "*b T m"]) -> tuple[Tensor, Tensor, Tensor, int]:
    """What MatrixNormalInverseWishart.posterior takes, of z that are known."""
    w = torch.cat([z[..., :-1, :], u, torch.ones_like(u[..., :1])], -1).reshape(-1, z.shape[-1] + u.shape[-1] + 1)
    y = z[..., 1:, :].reshape(-1, z.shape[-1])
    return y.mT @ y, y.mT @ w, w.mT @ w, len(y)


def predicted_means(model: Latent, z: Float[Tensor, " d"], u: Float[Array, "T m"]) -> Float[Tensor, "T d"]:
    """Where efforts lead from z, as expected."""
    known: Dynamics = model.belief.expected
    ahead, means = Gaussian(z, torch.zeros(len(z), len(z), dtype=z.dtype)), []
    for u_t in model.in_units(torch.as_tensor(u)):
        ahead = lds.predicted(ahead, u_t, known)
        means.append(ahead.mean)
    return torch.stack(means)


def _log_normal(x: Tensor, log_scale: Tensor) -> Tensor:
    return -0.5 * (x * (-log_scale).exp()).square() - log_scale - 0.5 * lds.LOG_2PI
