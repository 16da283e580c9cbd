"""Adaptation-augmented model-based policy optimisation (Shen et al. 2020): MBPO whose model is brought to have the same
features where it is followed as where it was taught.

After each fit and its rollouts the hidden layers of every member move, so that its last features h of imagined (x, a)
are distributed as those of real ones: by the Wasserstein distance, with a critic C for each member,

    W = max_C E_real C(h) - E_imagined C(h),    |grad C| near 1,

or by the maximum mean discrepancy under Gaussian kernels. The output layer does not follow, so the model gets worse at
first: what may profit is the next fit, which goes on from these weights.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.environments.environment import Known
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import RESAMPLE, stepper
from mbrl_ros.trainers import mbpo, sac
from mbrl_ros.trainers.sac import Networks

if TYPE_CHECKING:
    from jaxtyping import Float

DISTANCES = WASSERSTEIN, MMD = ("wasserstein", "mmd")
ENCODER = ("W_in", "b_in", "W_mid", "b_mid")  # what moves
CRITIC, PENALTY, TIMES = 100, 10.0, 5  # units of the critic; weight of its slope; its steps for one of the encoder
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, over the mean square distance


@dataclass(frozen=True)
class Settings(mbpo.Settings):
    """Parameters `ampo.*` beside those of mbpo."""

    distance: str = param(WASSERSTEIN, "Between features of real and imagined transitions", choices=DISTANCES)
    adapted: int = param(50, "Steps of the encoder after each fit", 0, 100_000)
    until: int = param(1_000_000, "Step of the environment from which there are none any more", 0, 100_000_000)
    pairs: int = param(128, "Real transitions of a step, and as many imagined ones", 2, 100_000)
    learning_rate: float = param(3e-4, "Of Adam, of encoder and critic", 0.0, 1.0, scale=LOGARITHMIC)


class Ampo(mbpo.Mbpo):
    """A Learner."""

    own: Settings

    def __init__(self, known: Known, config: sac.Settings, own: Settings, seed: int,
                 model: ProbabilisticEnsemble.Config = mbpo.MODEL):
        super().__init__(known, config, own, seed, model)
        self._generator = torch.Generator().manual_seed(seed)
        self.critic = Networks(model.members, [model.hidden, CRITIC, 1], self._generator)
        self._adam = torch.optim.Adam(self.critic.parameters(), own.learning_rate)

    def imagine(self) -> None:
        """Rollouts of the model as it was fitted, then the adaptation."""
        super().imagine()
        if self.count < self.own.until:
            self.adapt()

    def adapt(self) -> None:
        """Move the hidden layers of the model."""
        assert self.regression is not None
        s, fitted = self.own, self.regression
        moving = {name: getattr(fitted, name).float().requires_grad_(True) for name in ENCODER}
        adam = torch.optim.Adam(moving.values(), s.learning_rate)
        real, imagined = ((w - fitted.w_mean).div(fitted.w_scale).float() for w in (self._real(), self._imagined()))
        for _ in range(s.adapted):
            for _ in range(TIMES if s.distance == WASSERSTEIN else 0):
                with torch.no_grad():
                    both = [features(moving, self._some(of)) for of in (real, imagined)]
                self._adam.zero_grad()
                (-self.gap(*both) + PENALTY * self._slope(*both)).backward()
                self._adam.step()
            both = [features(moving, self._some(of)) for of in (real, imagined)]
            distance = self.gap(*both) if s.distance == WASSERSTEIN else mmd(*both)
            adam.zero_grad()
            distance.backward()
            adam.step()
        self.regression = replace(fitted, **{name: value.detach().double() for name, value in moving.items()})

    def gap(self, real: Float[Tensor, "E B h"], imagined: Float[Tensor, "E B h"]) -> Tensor:
        """E_real C - E_imagined C, summed over members."""
        of: Tensor = (self.critic(real) - self.critic(imagined)).mean(1).sum()
        return of

    def _slope(self, real: Tensor, imagined: Tensor) -> Tensor:
        """(|grad C| - 1)^2 between the two, by the norm over features."""
        part = torch.rand(*real.shape[:2], 1, generator=self._generator)
        between = (part * real + (1 - part) * imagined).requires_grad_(True)
        slope, = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        return (torch.linalg.vector_norm(slope, dim=-1) - 1).square().mean(1).sum()

    def _some(self, w: Tensor) -> Float[Tensor, "E B d"]:
        """As many rows for every member."""
        return w[torch.randint(len(w), (self.model_config.members, self.own.pairs), generator=self._generator)]

    def _real(self) -> Tensor:
        (x, a, _), model = self.lived(), self._model()
        w: Tensor = model.w(self.known.inner(torch.as_tensor(x)), torch.as_tensor(a))
        return w

    @torch.no_grad()
    def _imagined(self) -> Tensor:
        """Regressors along rollouts of the policy of now."""
        model, z = self._model(), self.starts()
        step = stepper(model, RESAMPLE, self.seed + self.count + 1)
        return torch.cat([model.w(of.z, of.acted) for of in self.rolled(step, z, self.length)])

    def _model(self) -> Any:
        return self.known.model(self.regression)


def features(encoder: dict[str, Tensor], w: Float[Tensor, "E B d"]) -> Float[Tensor, "E B h"]:
    """The last hidden layer of every member at scaled regressors of its own."""
    h = silu(torch.baddbmm(encoder["b_in"][:, None], w, encoder["W_in"].mT))
    for W, b in zip(encoder["W_mid"], encoder["b_mid"], strict=True):
        h = silu(torch.baddbmm(b[:, None], h, W.mT))
    return h


def mmd(real: Float[Tensor, "E B h"], imagined: Float[Tensor, "E B h"]) -> Tensor:
    """The squared maximum mean discrepancy, summed over members; the same rows have none."""
    both = torch.cat([real, imagined], 1)
    square = torch.cdist(both, both).square()
    unit = square.detach().mean((1, 2), keepdim=True).clamp(min=1e-12)
    kernel = torch.stack([(-square / (width * unit)).exp() for width in WIDTHS]).sum(0)
    B = real.shape[1]
    return (kernel[:, :B, :B] + kernel[:, B:, B:] - 2 * kernel[:, :B, B:]).mean((1, 2)).sum()
