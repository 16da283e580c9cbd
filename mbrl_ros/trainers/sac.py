"""Soft actor-critic (Haarnoja et al. 2018): a policy from transitions, wherever these come from.

Two critics are one network with a leading axis; the actor is a Gaussian that is squashed by tanh, with the exact
log-probability of what it draws; the temperature is learned, so that the entropy of the policy comes to
`sac.entropy` of each action. Actions are in [-1, 1]; who plays them scales them.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mbrl_ros.config import param
from mbrl_ros.ring.actor_policy import LOG_STD
from mbrl_ros.trainers.replay import Batch
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

HALF_LOG_TURN = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Settings:
    """Parameters `sac.*`."""

    hidden: int = param(64, "Units of a hidden layer", 1, 4096)
    layers: int = param(2, "Hidden layers", 1, 10)
    rate: float = param(3e-4, "Step of Adam, of actor, critics and temperature", 1e-7, 1.0)
    batch: int = param(256, "Transitions of an update", 1, 1_000_000)
    gamma: float = param(0.99, "What a reward one step later is worth", 0.0, 1.0)
    polyak: float = param(0.005, "Part of the way that the targets go to the critics at every update", 0.0, 1.0)
    entropy: float = param(-1.0, "Entropy that the policy is to have of each action, in [-1, 1] [nat]", -100.0,
                           100.0)
    temperature: float = param(0.0, "What a nat of entropy is worth; 0: learned, from 1 on", 0.0, 1e6)
    capacity: int = param(1_000_000, "Transitions that are kept", 1, 100_000_000)
    start: int = param(500, "Steps at random before the first update", 1, 1_000_000)
    updates: int = param(1, "After every step", 0, 1000)


class Networks(nn.Module):
    """`count` networks side by side, with ReLU between layers: (count, B, in) -> (count, B, out)."""

    def __init__(self, count: int, widths: list[int], generator: torch.Generator):
        super().__init__()
        def drawn(fan_in: int, *shape: int) -> nn.Parameter:
            span = 1 / math.sqrt(fan_in)
            return nn.Parameter(torch.empty(shape).uniform_(-span, span, generator=generator))
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.W = nn.ParameterList([drawn(i, count, i, o) for i, o in pairs])
        self.b = nn.ParameterList([drawn(i, count, 1, o) for i, o in pairs])

    def forward(self, h: Tensor) -> Tensor:
        h, last = h.to(self.W[0].dtype), len(self.W) - 1
        for i, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            h = torch.baddbmm(b, h, W)
            if i < last:
                h = h.relu()
        return h


class Sac:
    """Actor, critics and temperature, of states (n,) and actions (m,), on a device."""

    def __init__(self, n: int, m: int, config: Settings, seed: int, device: str = "cpu"):
        self.config, self.m, self.device = config, m, device
        cpu = torch.Generator().manual_seed(seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        inner = [config.hidden] * config.layers
        self.actor = Networks(1, [n, *inner, 2 * m], cpu).to(device)
        self.critics = Networks(2, [n + m, *inner, 1], cpu).to(device)
        self.targets = Networks(2, [n + m, *inner, 1], cpu).to(device)
        self.targets.load_state_dict(self.critics.state_dict())
        self.targets.requires_grad_(False)
        self._log_temperature = torch.full((), math.log(config.temperature or 1.0), device=device, requires_grad=True)
        self.entropy = torch.zeros((), device=device)  # of the last actions that were drawn to learn from
        self._adam = [torch.optim.Adam(of, config.rate, foreach=True) for of in (
            self.actor.parameters(), self.critics.parameters(), [self._log_temperature])]

    @property
    def temperature(self) -> Tensor:
        """What a nat of entropy is worth, ()."""
        return self._log_temperature.detach().exp()

    def gaussian(self, x: Float[Tensor, "B n"]) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B m"]]:
        """Mean and logarithm of the deviation, before tanh."""
        mean, log_std = self.actor(x[None])[0].chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def draw(self, x: Float[Tensor, "B n"]) -> tuple[Float[Tensor, "B m"], Float[Tensor, " B"]]:
        """Actions, differentiable, and their log-probability."""
        mean, log_std = self.gaussian(x)
        noise = torch.randn(mean.shape, generator=self.generator, device=mean.device, dtype=mean.dtype)
        z = mean + log_std.exp() * noise
        return z.tanh(), (-0.5 * noise.square() - log_std - HALF_LOG_TURN - squashed(z)).sum(-1)

    @torch.no_grad()
    def act(self, x: Float[Array, " n"], noise: bool = True) -> Float[Array, " m"]:
        """The action at one state, drawn, or the middle one."""
        at = torch.as_tensor(x, dtype=torch.float32, device=self.device)[None]
        a: Array = (self.draw(at)[0] if noise else self.gaussian(at)[0].tanh())[0].cpu().double().numpy()
        return a

    def values(self, networks: Networks, x: Float[Tensor, "B n"], a: Float[Tensor, "B m"]) -> Float[Tensor, "2 B"]:
        """Of both critics, or of their targets."""
        q: Tensor = networks(torch.cat([x, a], -1).expand(2, -1, -1)).squeeze(-1)
        return q

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of everything. Figures are tensors, so that nobody waits for a device."""
        temperature, loss = self.temperature, self.evaluate(batch)
        self.improve(lambda: self.worth(batch.x))
        return {"critic_loss": loss, "entropy": self.entropy, "temperature": temperature}

    def evaluate(self, batch: Batch) -> Tensor:
        """A step of the critics towards their targets, and of these; the loss before."""
        c = self.config
        with torch.no_grad():
            soft, _ = self.worth(batch.x_next, self.targets)
            target = batch.reward + c.gamma * (1 - batch.end) * soft
        loss = (self.values(self.critics, batch.x, batch.a) - target).square().mean(-1).sum()
        self._step(1, loss)
        with torch.no_grad():
            for slow, fast in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(fast, c.polyak)
        return loss.detach()

    def worth(self, x: Float[Tensor, "B n"],
              by: Networks | None = None) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """The value of actions drawn at x, with their entropy, and their log-probability."""
        a, log_p = self.draw(x)
        return self.values(by or self.critics, x, a).amin(0) - self.temperature * log_p, log_p

    def improve(self, objective: Callable[[], tuple[Tensor, Tensor]], clip: float = math.inf) -> None:
        """A step of the actor up the mean of an objective, and of the temperature; `objective` gives it with the
        log-probability of what it has drawn, and `clip` is the largest norm of the gradient."""
        self.critics.requires_grad_(False)
        value, log_p = objective()
        self._step(0, -value.mean(), clip)
        self.critics.requires_grad_(True)
        self.entropy = -log_p.detach().mean()
        if self.config.temperature == 0:
            self._step(2, self._log_temperature * (self.entropy - self.m * self.config.entropy))

    def _step(self, which: int, loss: Tensor, clip: float = math.inf) -> None:
        adam = self._adam[which]
        adam.zero_grad()
        loss.backward()
        if clip < math.inf:
            torch.nn.utils.clip_grad_norm_(adam.param_groups[0]["params"], clip)
        adam.step()


def squashed(z: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
    """log |d tanh z / dz|, exact also where tanh is 1 to rounding."""
    return 2 * (math.log(2.0) - z - softplus(-2 * z))

