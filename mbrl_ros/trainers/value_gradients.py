"""Backpropagation into a policy through a learned model (Heess et al. 2015, SVG(inf); Levine's "model-based RL 2.0").

    max_theta  E sum_t r(x_{t+1}, a_t),   a_t = pi_theta(x_t),   x_{t+1} = g_e(x_t, a_t) + sigma_e(x_t, a_t) xi_t

Every rollout follows one member e of a probabilistic ensemble and begins at a state that was visited; noise is
reparameterised, so that the return is a function of theta and autograd has its gradient. Its norm is clipped: the
product of Jacobians over a horizon may be anything. The first trial is random, the model refitted after every trial.

`Agent` learns in any environment; `Backprop` is that on the robot of the ring.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.environments.environment import Known, scaled
from mbrl_ros.environments.ring import Reaching
from mbrl_ros.evaluation.procedure import data_of
from mbrl_ros.models.features import Data
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import MEMBER, Step, stepper
from mbrl_ros.ring.network_policy import NetworkPolicy, View, names_of
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.trainers.pets import OnRobot
from mbrl_ros.types import Array, Trial

if TYPE_CHECKING:
    from jaxtyping import Float

OVER = 0.1  # price of (a - a clipped to its limits)^2, without which there is no way back from beyond them

Act = Callable[[Tensor], Tensor]  # z -> the action before it is clipped, in half its range about the middle


@dataclass(frozen=True)
class Settings:
    """Parameters `backprop.*`; those of the model are `pe.*`."""

    horizon: int = param(30, "Steps of a rollout", 1, 1000)
    rollouts: int = param(60, "At a time", 1, 100_000)
    updates: int = param(150, "Steps of Adam after each trial", 0, 1_000_000)
    learning_rate: float = param(3e-3, "Of Adam", 0.0, 1.0, scale=LOGARITHMIC)
    clip: float = param(1.0, "Largest norm of a gradient of the mean reward", 1e-6, 1e6, scale=LOGARITHMIC)
    hidden: int = param(32, "Units in each of the two hidden layers of the policy", 1, 1024)
    explore: float = param(0.1, "Deviation of what is added to actions in trials, of half their range", 0.0, 10.0)


def imagined(known: Known, step: Step, policy: Act, z: Float[Tensor, "P k"], horizon: int) -> Float[Tensor, " P"]:
    """The return of every rollout of a policy from z, until an end; differentiable by whatever the policy has."""
    total, alive = z.new_zeros(len(z)), z.new_ones(len(z))
    for _ in range(horizon):
        raw = policy(z)
        a = raw.clamp(-1.0, 1.0)
        over = (raw - a).square().sum(-1)
        a = scaled(known, a)
        z = step(z, a)
        total = total + alive * (known.reward(z, a) - OVER * over)
        alive = alive * ~known.terminated(z)
    return total


class Agent:
    """Learns from transitions of an environment, and acts in it: at random, as long as there is no model."""

    def __init__(self, known: Known, config: Settings, model: ProbabilisticEnsemble.Config, seed: int):
        self.known, self.config, self.model_config, self.seed = known, config, model, seed
        self.regression: ProbabilisticEnsemble | None = None
        self.data: Data | None = None
        self.policy: PolicyNetwork | None = None
        self.exploring = True
        self._optimizer: torch.optim.Optimizer | None = None
        self._visited: list[Array] = []
        self._draws = 0
        self._rng = np.random.default_rng(seed)

    def begin(self) -> None:
        """An episode; nothing is kept from the one before."""

    @torch.no_grad()
    def act(self, x: Float[Array, " n"]) -> Float[Array, " m"]:
        """The action at x, with noise where it is `exploring`."""
        known = self.known
        if self.policy is None:
            return self._rng.uniform(known.low, known.high)
        a = self.policy(known.seen(known.inner(torch.as_tensor(x)))).numpy()
        if self.exploring:
            a = a + self.config.explore * self._rng.standard_normal(known.m)
        return 0.5 * (known.low + known.high) + 0.5 * (known.high - known.low) * np.clip(a, -1.0, 1.0)

    def learn(self, z: Float[Array, "N k"], new: Data) -> dict[str, float]:
        """From the states of a trial and its transitions. `imagined` is the mean reward in the last rollouts."""
        old = self.data
        self.data = new if old is None else replace(new, w=np.concatenate([old.w, new.w]),
                                                    y=np.concatenate([old.y, new.y]))
        self._visited.append(z)
        self.regression = ProbabilisticEnsemble.fit(self.data, self.model_config, self.seed, self.regression)
        visited = torch.as_tensor(np.concatenate(self._visited))
        seen = self.known.seen(visited).numpy()
        if self.policy is None:
            self.policy = PolicyNetwork(seen.shape[-1], self.known.m, self.config.hidden, self.seed)
            self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.config.learning_rate)
        self.policy.seen(seen, np.ones(self.known.m))
        return {"transitions": float(len(self.data.w)), "imagined": self._improve(visited)}

    def _improve(self, visited: Tensor) -> float:
        """Some steps of Adam; the mean reward at the last."""
        known, config, policy, optimizer = self.known, self.config, self.policy, self._optimizer
        assert policy is not None and optimizer is not None
        model, reward = known.model(self.regression), float("nan")
        for _ in range(config.updates):
            self._draws += 1
            start = visited[torch.as_tensor(self._rng.integers(len(visited), size=config.rollouts))]
            step = stepper(model, MEMBER, 1_000_003 * self.seed + self._draws)
            mean = imagined(known, step, lambda z: policy(known.seen(z)), start, config.horizon).mean() / config.horizon
            optimizer.zero_grad()
            (-mean).backward()
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.clip)
            if torch.isfinite(norm):  # a rollout that ran away says nothing
                optimizer.step()
            reward = float(mean.detach())
        return reward


def pathwise(known: Known, step: Step, policy: torch.nn.Module, z: Tensor, horizon: int, noise: Tensor) -> Tensor:
    """The gradient (p,) of the mean return of rollouts from z (P, k) under actions with noise (T, P, m), through the
    model."""
    drawn = iter(noise)
    value = imagined(known, step, lambda z: policy(known.seen(z)) + next(drawn), z, horizon).mean()
    return _flat(torch.autograd.grad(value, tuple(policy.parameters())))


def likelihood_ratio(known: Known, step: Step, policy: torch.nn.Module, z: Tensor, horizon: int, noise: Tensor,
                     deviation: float) -> Tensor:
    """The same by the score of actions, N(policy, deviation^2), with the mean return of the other rollouts as baseline
    (Williams 1992); nothing is differentiated but the policy."""
    drawn, scores = iter(noise), z.new_zeros(len(z))

    def act(z: Tensor) -> Tensor:
        nonlocal scores
        mean, eps = policy(known.seen(z)), next(drawn)
        # d/dtheta log N(a; mean, deviation^2) = (a - mean) / deviation^2 dmean/dtheta
        scores = scores + (eps * mean).sum(-1) / deviation**2
        return (mean + eps).detach()
    returns = imagined(known, step, act, z, horizon).detach()
    P = len(z)
    advantage = (returns - returns.mean()) * P / (P - 1)
    return _flat(torch.autograd.grad((advantage * scores).mean(), tuple(policy.parameters())))


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients])


def played(policy: PolicyNetwork, known: Reaching) -> NetworkPolicy:
    """A policy of `known.seen` as one of what the ring shows, the rest of which has no weight."""
    robot, m, view = known.robot, known.m, View(known.robot)
    columns, size = view.own, view.size
    arrays = {name: value.detach().numpy() for name, value in policy.state_dict().items()}
    wide = {"mean": np.zeros(size), "scale": np.ones(size), "whiten": np.zeros((size, size)),
            "A": np.zeros((m, size)), "W1": np.zeros((len(arrays["b1"]), size))}
    for name in wide:
        wide[name][np.ix_(columns, columns) if name == "whiten" else (..., columns)] = arrays[name]
    return NetworkPolicy({**names_of(robot), **arrays, **wide, "unit": known.scale, "Sigma": np.zeros((m, m))}, robot)


class Backprop(OnRobot):
    """A Trainer."""

    Config, AGENT = Settings, Agent

    def learned(self) -> NetworkPolicy | None:
        """What it has learned as a policy of the ring, where that acts as often as the model steps."""
        if self.agent.policy is None or self.robot.stride > 1:
            return None
        return played(self.agent.policy, self.known)

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """See Agent.learn."""
        figures: dict[str, float] = self.agent.learn(self.observed(trials), data_of(self.robot, trials))
        return figures
