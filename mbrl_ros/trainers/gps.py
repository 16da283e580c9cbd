"""Guided policy search: local policies for single targets, or places of a slot, and one network that learns from all
of them and that they stay close to (Levine & Abbeel 2014; by mirror descent, Montgomery & Levine 2016).

A round is trials for every target. Then every local policy becomes the cheapest one by its own local models within so
many nats of the network, linearised about the trials (C-step, lqr_flm.py); and the network is trained on what the local
policies would do at all states of the trials (S-step, regression.py). How far the next policies may go follows from the
mean of promised and actual improvement over targets. Before the first C-step the network is trained on the
controllers that began, or its linearisation would mean nothing.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbrl_ros.config import LOGARITHMIC, from_mapping, merge, param, section
from mbrl_ros.evaluation import measures
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.network_policy import NetworkPolicy, View
from mbrl_ros.robot import Robot
from mbrl_ros.simulation import slot
from mbrl_ros.simulation.world import World
from mbrl_ros.trainers import lqr_flm
from mbrl_ros.trainers.distil import asked
from mbrl_ros.trainers.lqr_flm import LqrFlm, Played, next_bound
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.trainers.regression import Wanted, covariance, regress
from mbrl_ros.types import Array, LinearGaussianPolicy, Trial


@dataclass(frozen=True)
class Settings:
    """Parameters `gps.*`; those of the local policies are `lqr_flm.*`."""

    targets: int = param(4, "Local policies, each with a target of its own", 1, 1000)
    around: float = param(0.08, "Where the world has a slot, it is moved by up to this to either side [m]", 0.0, 1.0)
    hidden: int = param(40, "Units in each of the two hidden layers of the network", 1, 1024)
    steps: int = param(2000, "Of the regression after every round", 1, 1_000_000)
    batch: int = param(128, "States in a step", 1, 100_000)
    learning_rate: float = param(3e-3, "Of Adam at the first step of a round; it falls to zero", 0.0, 1.0,
                                 scale=LOGARITHMIC)
    rounds: int = param(3, "The network learns from the trials of so many rounds", 1, 1000)


def conditions(robot: Robot, settings: Mapping[str, Any], count: int, around: float, seed: int
               ) -> tuple[list[World], list[Array]]:
    """Worlds and targets: a slot at as many places at equal distances, or targets drawn in one world (scenario.*)."""
    world = from_mapping(World, section(settings, "world"), "world")
    if not world.slot:
        return [], measures.draw_targets(robot, replace(measures.config_of(settings, {}), seed=seed, targets=count))
    worlds = [replace(world, slot_beside=world.slot_beside + by) for by in np.linspace(-around, around, count).tolist()]
    return worlds, [slot.goal(robot, of.slot_beside, of.slot_below) for of in worlds]


class Local(LqrFlm):
    """A local policy that stays close to a network."""

    network: NetworkPolicy | None = None

    def near(self, played: Played) -> LinearGaussianPolicy:
        """The network, linearised about the trials."""
        assert self.network is not None
        self.network.target = self.target
        return linearised(self.network, played.x[:, :-1])

    def bound(self, promised: float, came: float) -> float:
        """See LqrFlm: that is for the round."""
        return self.kl


def linearised(network: NetworkPolicy, x: Array) -> LinearGaussianPolicy:
    """The mean over trials x (N, T, n) of effort and slope in every period, with the noise of the network."""
    T = x.shape[1]
    found = [[network.slope(at) for at in x[:, t]] for t in range(T)]
    u, K = (np.array([np.mean([of[part] for of in at], 0) for at in found]) for part in (0, 1))
    Sigma = np.repeat(network.arrays["Sigma"][None], T, 0)
    return LinearGaussianPolicy(x.mean(0), u, K, np.zeros_like(u), Sigma)


class Gps:
    """A Trainer; an update is the trials for one target, the last of a round learns."""

    Config = Settings
    SETTINGS = LqrFlm.SETTINGS

    def __init__(self, config: Settings, robot: Robot, settings: Mapping[str, Any], seed: int):
        self.config, self.robot, self.seed, self.view = config, robot, seed, View(robot)
        own = from_mapping(LqrFlm.Config, section(settings, "lqr_flm"), "lqr_flm")
        self.worlds, targets = conditions(robot, settings, config.targets, config.around, seed)
        self.locals = [Local(own, robot, merge(settings, {"trainer": {"target": target.tolist()}}), seed)
                       for target in targets]
        self.network = PolicyNetwork(self.view.size, robot.m, config.hidden, seed)
        self.student: NetworkPolicy | None = None
        self._round: list[Sequence[Trial]] = []
        self._before: list[dict[str, float]] = []  # what the local policies said in the last round
        self._wanted: list[Wanted] = []  # of the last rounds
        self._rounds = 0

    def policy(self) -> LinearPolicy:
        """The local policy whose turn it is."""
        return self.locals[len(self._round)].policy()

    def world(self) -> World | None:
        """That of this turn; None: as it is."""
        return self.worlds[len(self._round)] if self.worlds else None

    def model(self) -> None:
        """See Trainer: there are only models of single steps."""

    def learned(self) -> NetworkPolicy | None:
        """The network."""
        return self.student

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Of the figures, `missing` is how far the network is from the local policies, weighted, in deviations of their
        efforts; the others are means over targets (lqr_flm.py)."""
        local = self.locals[len(self._round)]
        self._round.append(trials)
        away = [1e3 * float(np.linalg.norm(trial.x[-1, self.view.tool] - local.target)) for trial in trials]
        figures = {"target": float(len(self._round) - 1), "final_mm": float(np.mean(away))}
        return figures if len(self._round) < len(self.locals) else {**figures, **self._learn()}

    def _learn(self) -> dict[str, float]:
        if self.student is None:
            self._train()
        if self._before:
            self._step()
        found = []
        for local, trials in zip(self.locals, self._round, strict=True):
            local.network = self.student
            found.append(local.update(trials))
        self._before = found
        missing = self._train()
        self._round, self._rounds = [], self._rounds + 1
        return {"round": float(self._rounds), "missing": missing,
                **{name: float(np.mean([of[name] for of in found])) for name in found[0]}}

    def _train(self) -> float:
        """The S-step: with the local policies as they are now, at the states of this round and the last ones."""
        config = self.config
        now = Wanted.together([asked(LinearPolicy(local.timed(lqr_flm.NOISE), self.robot), trials, local.target,
                                     self.view) for local, trials in zip(self.locals, self._round, strict=True)])
        self._wanted = [*self._wanted, now][-config.rounds:]
        wanted = Wanted.together(self._wanted)
        missing = regress(self.network, wanted, config.steps, config.batch, config.learning_rate,
                          self.seed + self._rounds)
        self.student = self.network.policy(self.robot, covariance(now))
        return missing

    def _step(self) -> None:
        """How far all may go, by the mean over targets of what was promised and of what came."""
        costs = [local.mean_cost(trials) for local, trials in zip(self.locals, self._round, strict=True)]
        came = float(np.mean([of["task_cost"] - cost for of, cost in zip(self._before, costs, strict=True)]))
        promised = float(np.mean([of["promised"] for of in self._before]))
        for local in self.locals:
            local.kl = next_bound(local.kl, promised, came, local.config)
