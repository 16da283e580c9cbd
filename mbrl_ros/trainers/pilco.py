"""PILCO: a policy is made good in Gaussian processes of few trials, with their doubt (Deisenroth & Rasmussen 2011).

The first trial is random. After each, one process per speed is fitted to all transitions so far (positions follow:
models/integrated.py), and the parameters of a squashed radial-basis policy are those of the least expected cost

    sum_t E[1 - exp(-|away(x_t)|^2 / (2 width^2))],

halved with that of a width four times as large, since the one is flat where a policy begins, by L-BFGS from the policy
before and from fresh ones. The expectation is taken in one of two ways:

    moments    x_t is Gaussian, by the exact moments of every link (models/moments.py); for what is to be away from its
               goal linearly in coordinates, sines and cosines, as the tip of a pole
    particles  over draws that share their random numbers within an optimisation, so that it is a function (Amadio et
               al. 2022); for whatever is differentiable, as the tool of an arm

`Agent` learns in any environment; `Pilco` is that on the robot of the ring, whose x it plays in the mode `policy`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, ConfigError, param
from mbrl_ros.evaluation.procedure import data_of
from mbrl_ros.models.features import Data
from mbrl_ros.models.gp import GaussianProcess
from mbrl_ros.models.integrated import Integrated
from mbrl_ros.models.moments import append, processes, saturating, sines, squashed
from mbrl_ros.models.radial import RadialPolicy
from mbrl_ros.ring.network_policy import names_of
from mbrl_ros.ring.radial_policy import RadialPolicyOfRing, spread_of
from mbrl_ros.trainers.pets import OnRobot
from mbrl_ros.types import Array, Gaussian, Trial

if TYPE_CHECKING:
    from jaxtyping import Float

WAYS = MOMENTS, PARTICLES = ("moments", "particles")
FLAT = 1e-9  # of slopes and gains, at which there is nothing to be had; costs saturate far from the goal
WIDTHS = 1.0, 4.0  # of the cost, in `width`
ROUND = 0.7  # deviation of a sine over all angles
WORST = 1e6  # of an expected cost that is not finite


@dataclass(frozen=True)
class Settings:
    """Parameters `pilco.*`; those of the processes are `gp.*`."""

    way: str = param(PARTICLES, "moments: exact, where the goal is linear; particles: drawn", choices=WAYS)
    horizon: int = param(30, "Steps that are looked ahead, from the start of a trial", 1, 1000)
    particles: int = param(400, "Draws of a trial, where they are drawn", 1, 100_000)
    bases: int = param(20, "Radial basis functions", 1, 1000)
    lengthscale: float = param(1.0, "Of theirs at first, part of what states that were seen are apart; what swings up "
                               "and then holds needs less", 0.01, 10.0, scale=LOGARITHMIC)
    iterations: int = param(40, "Of L-BFGS, at most, from the best of the starts, after half as many from each", 1,
                            10_000)
    restarts: int = param(2, "Starts of L-BFGS: from the policy before, and from fresh ones", 1, 100)
    anew: bool = param(False, "From fresh policies alone: one that swings up and falls stays what it is")
    width: float = param(0.25, "Distance from the goal at which the cost is two fifths of the most [m]", 1e-4, 10.0,
                         scale=LOGARITHMIC)
    start: float = param(0.1, "Deviation of the state at which a trial begins", 1e-6, 10.0, scale=LOGARITHMIC)

    @property
    def widths(self) -> list[float]:
        """Of the costs whose mean it is [m]."""
        return [self.width * wider for wider in WIDTHS]


class Agent:
    """Learns from transitions of an environment, and acts in it: at random, as long as there is no model.

    `known` is a Known with `period`, `away(z)` and, for moments, `TIP` and `GOAL`. Raises ConfigError for one whose
    actions are not in [-1, 1], and for moments where it has neither.
    """

    def __init__(self, known: Any, config: Settings, model: GaussianProcess.Config, seed: int):
        if (known.low != -1).any() or (known.high != 1).any():
            raise ConfigError(f"pilco: expected actions in [-1, 1], got {known.low} to {known.high}")
        if config.way == MOMENTS and not hasattr(known, "TIP"):
            raise ConfigError(f"pilco.way: {MOMENTS} are of goals that are linear in coordinates, sines and cosines; "
                              f"expected {PARTICLES} here")
        self.known, self.config, self.model_config, self.seed = known, config, model, seed
        self.data: Data | None = None
        self.regression: Integrated | None = None
        self.policy: RadialPolicy | None = None
        self.seen = np.zeros((0, 0))  # by a policy, in trials so far
        self._starts: list[Array] = []
        self._rng = np.random.default_rng(seed)

    def begin(self) -> None:
        """An episode; nothing is kept from the one before."""

    @torch.no_grad()
    def act(self, x: Float[Array, " n"]) -> Float[Array, " m"]:
        """The action at x."""
        known = self.known
        if self.policy is None:
            return self._rng.uniform(known.low, known.high)
        a: Array = self.policy(known.seen(known.inner(torch.as_tensor(x)))).numpy()
        return a

    def learn(self, z: Float[Array, "N k"], new: Data) -> dict[str, float]:
        """From the states of a trial, its start first, and its transitions. `expected` is the cost a step."""
        old = self.data
        self.data = new if old is None else replace(new, w=np.concatenate([old.w, new.w]),
                                                    y=np.concatenate([old.y, new.y]))
        self._starts.append(z[0])
        self.regression = Integrated.fit(self.data, self.known.period, self.model_config, self.seed)
        visited = self.known.seen(torch.as_tensor(z)).numpy()
        self.seen = visited if old is None else np.concatenate([self.seen, visited])
        cost = self.expected_cost()
        tries = [] if self.policy is None or self.config.anew else [self.policy]
        seen, least = torch.as_tensor(self.seen), torch.zeros(self.seen.shape[-1], dtype=torch.float64)
        at = list(getattr(self.known, "angles", ()))
        least[[*at, *range(self.known.n, self.known.n + len(at))]] = ROUND  # though only some angles were seen yet
        while len(tries) < self.config.restarts:
            tries.append(RadialPolicy.drawn(seen, self.known.m, self.config.bases, self._rng, least,
                                            self.config.lengthscale))
        found = [descend(cost, policy, -(-self.config.iterations // 2)) for policy in tries]
        expected, self.policy = descend(cost, min(found, key=lambda pair: pair[0])[1], self.config.iterations)
        return {"transitions": float(len(self.data.w)), "expected": expected}

    def expected_cost(self) -> Callable[[RadialPolicy], Tensor]:
        """The mean cost a step as a differentiable function of a policy, for the model and the starts so far."""
        mean = torch.as_tensor(np.mean(self._starts, 0))
        return self._by_moments(mean) if self.config.way == MOMENTS else self._by_particles(mean)

    def _by_moments(self, mean: Tensor) -> Callable[[RadialPolicy], Tensor]:
        known, config, regression = self.known, self.config, self.regression
        assert regression is not None
        n, m, at = known.n, known.m, list(known.angles)
        k, half = len(at), known.n // 2
        joint = n + 2 * k  # rows before the policy: x, sines, cosines
        sine, cosine = [*range(n, n + k)], [*range(n + k, joint)]
        w = [sine[at.index(i)] if i in at else i for i in range(n)] + cosine
        acted = [*range(joint + m, joint + 2 * m)]
        eye = torch.eye(n, dtype=torch.float64)
        weights = [torch.eye(len(known.GOAL), dtype=torch.float64) / width**2 for width in config.widths]
        L = torch.zeros(n, joint + 2 * m + half, dtype=torch.float64)  # x' of everything, in which y is last
        L[:, :n] = eye
        L[:half, half:n] += known.period * eye[:half, :half]
        L[:half, -half:], L[half:, -half:] = 0.5 * known.period * eye[:half, :half], eye[:half, :half]

        def cost(policy: RadialPolicy) -> Tensor:
            x = Gaussian(mean, config.start**2 * eye)
            total = torch.zeros((), dtype=torch.float64)
            full = append(x, at, sines)
            for _ in range(config.horizon):
                full = append(full, w, policy.moments)  # what the policy sees is w without u
                full = append(full, [*range(joint, joint + m)], squashed)
                full = append(full, [*w, *acted], lambda g: processes(regression.speeds, g))
                cov = L @ full.cov @ L.mT
                full = append(Gaussian(L @ full.mean, 0.5 * (cov + cov.mT)), at, sines)
                tip = Gaussian(known.TIP @ full.mean[:joint], known.TIP @ full.cov[:joint, :joint] @ known.TIP.mT)
                for W in weights:
                    total = total + saturating(tip, known.GOAL, W)
            return total / (config.horizon * len(weights))
        return cost

    def _by_particles(self, mean: Tensor) -> Callable[[RadialPolicy], Tensor]:
        known, config, regression = self.known, self.config, self.regression
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + len(self._starts))
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
        assert regression is not None
        moving, P = 2 * (len(known.learned) // 2), config.particles
        start = mean.repeat(P, 1)
        start[:, :moving] += config.start * draw(P, moving)
        noise = draw(config.horizon, P, moving // 2)
        model = known.model(regression)

        def cost(policy: RadialPolicy) -> Tensor:
            z, total = start, torch.zeros((), dtype=torch.float64)
            for t in range(config.horizon):
                a = policy(known.seen(z))
                z = model.next_state(z, a, regression.outcome(model.w(z, a), noise[t]))
                square = known.away(z).square().sum(-1)
                for width in config.widths:
                    total = total + (1 - (-0.5 * square / width**2).exp()).mean()
            return total / (config.horizon * len(config.widths))
        return cost


def descend(cost: Callable[[RadialPolicy], Tensor], policy: RadialPolicy, iterations: int
            ) -> tuple[float, RadialPolicy]:
    """The least cost that L-BFGS finds from a policy, and the policy that has it."""
    def value(theta: Array) -> tuple[float, Array]:
        at = torch.tensor(theta, requires_grad=True)
        try:
            c = cost(policy.with_parameters(at))
            gradient, = torch.autograd.grad(c, at)
        except torch.linalg.LinAlgError:  # where moments cannot be computed is nowhere to go
            return WORST, np.zeros_like(theta)
        if not (torch.isfinite(c) and torch.isfinite(gradient).all()):
            return WORST, np.zeros_like(theta)
        return float(c.detach()), gradient.numpy()
    found = minimize(value, policy.parameters().numpy(), jac=True, method="L-BFGS-B",
                     options={"maxiter": iterations, "maxfun": 2 * iterations, "ftol": FLAT, "gtol": FLAT})
    return float(found.fun), policy.with_parameters(torch.as_tensor(found.x))


class Pilco(OnRobot):
    """A Trainer."""

    Config, AGENT, MODEL = Settings, Agent, ("gp", GaussianProcess)

    def model(self) -> None:
        """None: its processes are of speeds."""

    def learned(self) -> RadialPolicyOfRing | None:
        """The policy as one of the ring."""
        of, robot = self.agent.policy, self.robot
        if of is None:
            return None
        rate = of.log_rate.exp()
        mean, spread = spread_of(self.agent.seen)
        return RadialPolicyOfRing({**names_of(robot), "every": np.array(robot.stride), "unit": self.known.scale,
                                   "centres": (of.centres * rate).numpy(), "rate": (rate / of.scale).numpy(),
                                   "weights": of.weights.numpy(), "linear": (of.linear / of.scale).numpy(),
                                   "bias": of.bias.numpy(), "mean": mean, "spread": spread}, robot)

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """See Agent.learn."""
        figures: dict[str, float] = self.agent.learn(self.observed(trials), data_of(self.robot, trials))
        return figures
