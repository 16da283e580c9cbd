"""How wrong the gradient of a return is that a learned model gives, against its horizon.

A swing-up, whose dynamics are known and have derivatives: the true gradient of the return of H steps by the weights of
a policy, and two by each member of an ensemble fitted to random steps, from the same states under the same noise of
the policy. Imagined, by rollouts of the model under noise of its own (what MAAC and backpropagation into a policy do);
or along what really happened, under the noise that explains it (SVG). The error is |g - true| / |true| of the mean over
members.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.environments.environment import scaled
from mbrl_ros.environments.pendulum import Pendulum
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers import mbpo, svg
from mbrl_ros.trainers.compared import Curve, Runner
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

HORIZONS = (1, 2, 5, 10, 20, 40)
STEPS, STARTS, GAMMA = 1000, 64, 0.99  # behind the model; states from which gradients are taken
EXPLORE, STEEP = 0.3, 0.5  # deviations of the noise of the policy before its tanh, and of its weights
ALONG, IMAGINED = "along", "imagined"


def errors(way: str) -> Runner:
    """-error at each of HORIZONS, one way."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        began = time.monotonic()
        known, x, a, after = _lived(seed)
        regression = ProbabilisticEnsemble.fit(known.data(x, a, after), mbpo.MODEL, seed)
        policy = PolicyNetwork(known.seen(torch.as_tensor(x)).shape[-1], known.m, 32, seed)
        policy.seen(known.seen(torch.as_tensor(x)).numpy(), np.ones(known.m))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in (policy.W3, policy.A):
                weights.add_(STEEP * torch.randn(weights.shape, generator=generator, dtype=weights.dtype))
        rows = torch.randint(len(x), (STARTS,), generator=generator)
        curve = Curve()
        for H in HORIZONS:
            eta = torch.randn(H, STARTS, known.m, generator=generator, dtype=torch.float64)
            true, found = gradients(way, known, regression, policy, torch.as_tensor(x)[rows], eta, generator)
            curve.steps.append(H)
            curve.returns.append(-float(torch.linalg.vector_norm(found - true) / torch.linalg.vector_norm(true)))
        curve.seconds = time.monotonic() - began
        return curve
    return run


def gradients(way: str, known: Pendulum, regression: ProbabilisticEnsemble, policy: PolicyNetwork,
              z: Float[Tensor, "B k"], eta: Float[Tensor, "H B m"],
              generator: torch.Generator) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """The true gradient of the mean return, and that of one way, by all weights of the policy."""
    weights = list(policy.parameters())

    def act(at: Tensor, noise: Tensor) -> Tensor:
        return scaled(known, (policy(known.seen(at)) + EXPLORE * noise).tanh())

    def rolled(f: svg.Dynamics, xi: Tensor) -> Tensor:
        along = [z]
        with torch.no_grad():
            for of_model, of_policy in zip(xi, eta, strict=True):
                along.append(f(along[-1], act(along[-1], of_policy), of_model))
        return torch.stack(along)

    def gradient(f: svg.Dynamics, states: Tensor, xi: Tensor) -> Tensor:
        _, by_weight = svg.gradient(known, f, act, weights, states, xi, eta, GAMMA)
        return torch.cat([part.flatten() for part in by_weight]) / len(z)

    truth: svg.Dynamics = lambda at, a, xi: known.after(at, a)  # noqa: E731
    none = torch.zeros(len(eta), len(z), len(known.learned), dtype=torch.float64)
    real, found = rolled(truth, none), []
    for i in range(regression.count):
        model = known.model(regression.member(i))
        f = svg.dynamics(model)
        if way == ALONG:
            with torch.no_grad():
                a = act(real[:-1], eta)
            xi = svg.infer(model, real[:-1], a, real[1:] - real[:-1])
            found.append(gradient(f, real, xi))
        else:
            xi = torch.randn(none.shape, generator=generator, dtype=none.dtype)
            found.append(gradient(f, rolled(f, xi), xi))
    return gradient(truth, real, none), torch.stack(found).mean(0)


def _lived(seed: int) -> tuple[Pendulum, Array, Array, Array]:
    """Random actions in episodes of 50 steps."""
    known, rng = Pendulum(), np.random.default_rng(seed)
    rows: list[tuple[Array, Array, Array]] = []
    while len(rows) < STEPS:
        x = known.reset(seed + 1000 * len(rows)) if len(rows) % 50 == 0 else rows[-1][2]
        a = rng.uniform(known.low, known.high)
        rows.append((x, a, known.step(a).observation))
    x, a, after = (np.array(part) for part in zip(*rows, strict=True))
    return known, x, a, after
