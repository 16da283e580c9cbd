"""Stochastic value gradients over a whole trajectory, SVG(inf) (Heess et al. 2015): the model gives derivatives only.

What acted and what came of it are known; by the model x' = f(x, a, xi) and the policy a = pi(x, eta) the noise is
inferred that explains them, xi = (x' - mu) / sigma and eta likewise. Then, backwards along what really happened,

    v_x     = r_x + r_a pi_x + gamma v'_x (f_x + f_a pi_x)
    v_theta = r_a pi_theta + gamma (v'_x f_a pi_theta + v'_theta).

So errors of the model do not add up in states, as they do where it is followed. After an end comes nothing. The return
over a window may have a value behind it, v'_x of which is given.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.environments.environment import Known, Step, scaled
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers.mbpo import MODEL
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

Dynamics = Callable[[Tensor, Tensor, Tensor], Tensor]  # z (B, k), a (B, m), xi (B, dy) -> z'
Policy = Callable[[Tensor, Tensor], Tensor]  # z (B, k), eta (B, m) -> a


def dynamics(model: Any) -> Dynamics:
    """f of a model by one probabilistic network, as a function of its noise."""
    def step(z: Tensor, a: Tensor, xi: Tensor) -> Tensor:
        mean, deviation = outcome(model, z, a)
        after: Tensor = model.next_state(z, a, mean + deviation * xi)
        return after
    return step


def outcome(model: Any, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (*b, dy)."""
    mean, deviation = model.regression.outcomes(model.w(z, a).unsqueeze(0))
    return mean[0], deviation[0]


@torch.no_grad()
def infer(model: Any, z: Float[Tensor, "*b k"], a: Float[Tensor, "*b m"],
          y: Float[Tensor, "*b dy"]) -> Float[Tensor, "*b dy"]:
    """xi, with which the model makes of (z, a) what came of it, the regression being about y."""
    mean, deviation = outcome(model, z, a)
    xi: Tensor = (y - mean) / deviation
    return xi


def gradient(known: Known, f: Dynamics, policy: Policy, parameters: Sequence[Tensor], z: Float[Tensor, "T+1 B k"],
             xi: Float[Tensor, "T B dy"], eta: Float[Tensor, "T B m"], gamma: float,
             behind: Float[Tensor, "B k"] | None = None) -> tuple[Float[Tensor, "B k"], list[Tensor]]:
    """v_x at the first state, and v_theta of the sum over trajectories, by the recursion above."""
    alive = (~known.terminated(z[1:])).to(z).cumprod(0)  # after each step
    before = torch.cat([torch.ones_like(alive[:1]), alive[:-1]])
    v_x = torch.zeros_like(z[0]) if behind is None else alive[-1].unsqueeze(-1) * behind
    v_theta = [torch.zeros_like(p) for p in parameters]
    for t in range(len(xi) - 1, -1, -1):
        at = z[t].detach().requires_grad_(True)
        a = policy(at, eta[t])
        after = f(at, a, xi[t])
        local = (before[t] * known.reward(after, a)).sum() + gamma * (v_x * after).sum()
        v_x, *of_theta = torch.autograd.grad(local, [at, *parameters])
        v_theta = [of + gamma * later for of, later in zip(of_theta, v_theta, strict=True)]
    return v_x, v_theta


@dataclass(frozen=True)
class Settings:
    """Parameters `svg.*`."""

    every: int = param(200, "Steps of the environment from one fit to the next, and updates after each", 1, 1_000_000)
    updates: int = param(40, "Steps of Adam after each fit", 0, 1_000_000)
    window: int = param(25, "Steps of a trajectory along which a gradient is taken", 1, 1000)
    windows: int = param(32, "At a time", 1, 100_000)
    learning_rate: float = param(3e-3, "Of Adam", 0.0, 1.0, scale=LOGARITHMIC)
    clip: float = param(1.0, "Largest norm of a gradient of the mean reward", 1e-6, 1e6, scale=LOGARITHMIC)
    gamma: float = param(0.99, "What a reward one step later is worth", 0.0, 1.0)
    hidden: int = param(32, "Units in each of the two hidden layers of the policy", 1, 1024)
    explore: float = param(0.3, "Deviation of the noise before the tanh that keeps actions within their limits", 1e-3,
                           10.0)


class Svg:
    """A Learner. After each fit, of windows of what happened since the last one, under the noise inferred of the policy
    that acted: its first update is along what happened, those that follow along what the same noise would have led to
    under the policy of by then. (Along what happened alone, with one policy after the other, nothing would ever say
    that a policy has gone too far.)"""

    LIMIT = 0.999  # of |a|, beyond which its eta is not told

    def __init__(self, known: Known, config: Settings, seed: int, model: ProbabilisticEnsemble.Config = MODEL):
        self.known, self.config, self.model_config, self.seed = known, config, model, seed
        width = known.seen(known.inner(torch.zeros(known.n).double())).shape[-1]
        self.policy = PolicyNetwork(width, known.m, config.hidden, seed)
        self._adam = torch.optim.Adam(self.policy.parameters(), config.learning_rate)
        self.regression: ProbabilisticEnsemble | None = None
        self.figures: dict[str, float] = {}
        self._rows: list[tuple[Array, Array, Array]] = []  # x, a in [-1, 1], x'
        self._rng, self._fits = np.random.default_rng(seed), 0

    def act(self, x: Float[Array, " n"], noise: bool = True) -> Float[Array, " m"]:
        """See Learner; anything, as long as there is no model."""
        m = self.known.m
        if noise and self.regression is None:
            return self._rng.uniform(-1.0, 1.0, m)
        eta = torch.as_tensor(self._rng.standard_normal(m) if noise else np.zeros(m))
        with torch.no_grad():
            return self._squashed(self.known.inner(torch.as_tensor(x)), eta).numpy()

    def observe(self, x: Float[Array, " n"], a: Float[Array, " m"], step: Step) -> None:
        """See Learner."""
        self._rows.append((x, a, step.observation))

    def improve(self) -> None:
        """See Learner."""
        c, known = self.config, self.known
        if len(self._rows) % c.every:
            return
        x, a, after = (torch.as_tensor(np.array(part)) for part in zip(*self._rows, strict=True))
        data = known.data(x.numpy(), scaled(known, a).numpy(), after.numpy())
        self.regression = ProbabilisticEnsemble.fit(data, self.model_config, self.seed + self._fits, self.regression)
        self._fits += 1
        self.policy.seen(known.seen(known.inner(x)).numpy(), np.ones(known.m))
        x, a, after = x[-c.every :], a[-c.every :], after[-c.every :]
        z, y, begins = known.inner(x), torch.as_tensor(data.y[-c.every :]), _whole(x, after, c.window)
        if not len(begins):
            return  # no trajectory is as long as a window yet
        with torch.no_grad():
            eta = (a.clamp(-self.LIMIT, self.LIMIT).atanh() - self.policy(known.seen(z))) / c.explore
        models = [known.model(self.regression.member(i)) for i in range(self.regression.count)]
        noises = [infer(model, z, scaled(known, a), y) for model in models]
        for _ in range(c.updates):
            i = int(self._rng.integers(len(models)))
            rows = torch.as_tensor(self._rng.choice(begins, c.windows)) + torch.arange(c.window)[:, None]  # (T, B)
            self._step(models[i], z[rows[0]], noises[i][rows], eta[rows])

    def _step(self, model: Any, z: Float[Tensor, "B k"], xi: Float[Tensor, "T B dy"],
              eta: Float[Tensor, "T B m"]) -> None:
        """One of Adam, up the return of windows from z under that noise."""
        f, parameters = dynamics(model), list(self.policy.parameters())
        policy = lambda at, noise: scaled(self.known, self._squashed(at, noise))  # noqa: E731
        with torch.no_grad():
            along = [z]
            for of_model, of_policy in zip(xi, eta, strict=True):
                along.append(f(along[-1], policy(along[-1], of_policy), of_model))
        _, found = gradient(self.known, f, policy, parameters, torch.stack(along), xi, eta, self.config.gamma)
        for p, g in zip(parameters, found, strict=True):
            p.grad = -g / xi[..., 0].numel()
        torch.nn.utils.clip_grad_norm_(parameters, self.config.clip)
        self._adam.step()

    def _squashed(self, z: Tensor, eta: Tensor) -> Tensor:
        return (self.policy(self.known.seen(z)) + self.config.explore * eta).tanh()


def _whole(x: Tensor, after: Tensor, window: int) -> Array:
    """Rows from which a whole window is of one trajectory."""
    breaks = (x[1:] != after[:-1]).any(-1).numpy()
    until = np.concatenate([[0], np.cumsum(breaks)])  # breaks before each row
    last = np.arange(len(x)) + window - 1
    return np.flatnonzero((last < len(x)) & (until[np.minimum(last, len(x) - 1)] == until))
