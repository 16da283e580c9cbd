"""MBPO beside SAC as they were published (Janner et al. 2019): networks, schedules and numbers of steps of the paper.

A return is that of a test of at most 1000 steps, after every 1000. Hopper takes a day on a core; `hopper_10k` is the
first stretch of it. Both have the same number of updates after a step; the paper's SAC has one.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers import mbpo, sac
from mbrl_ros.trainers.compared import Curve, Method, Runner, Task
from mbrl_ros.trainers.mbpo import Mbpo
from mbrl_ros.trainers.steps import Free, train

MODEL = ProbabilisticEnsemble.Config(members=7, layers=4, hidden=200, epochs=60, patience=5, batch=256)
EPISODE = 1000


@dataclass(frozen=True)
class Published:
    """What the paper has for one body, and how far it goes."""

    steps: int
    updates: int
    entropy: float  # of each action
    own: mbpo.Settings


def schedule(**own: int) -> mbpo.Settings:
    """400 rollouts a step, those of the last 1000 steps kept."""
    return mbpo.Settings(every=250, rollouts=100_000, retain=4, **own)


HOPPER = Published(125_000, 20, -1 / 3, schedule(longest=15, first=20_000, last=150_000))
PUBLISHED = {"hopper_10k": replace(HOPPER, steps=10_000), "hopper": HOPPER,
             "walker": Published(300_000, 20, -3 / 6, schedule()),
             "cheetah": Published(400_000, 40, -3 / 6, schedule())}
TASKS = {name: Task(float("inf"), 1, "return of a test", "0-2") for name in PUBLISHED}


def on(name: str, branched: bool) -> Runner:
    """SAC, or MBPO."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        from mbrl_ros.environments.locomotion import locomotion  # gymnasium is asked for by nothing else here

        of, environment = PUBLISHED[name], locomotion(name.partition("_")[0])
        config = sac.Settings(hidden=256, start=5000, updates=of.updates, entropy=of.entropy)
        learner = Mbpo(environment, config, of.own, seed, MODEL) if branched else Free(environment, config, seed)
        return train(environment, learner, seed, of.steps, 1000, EPISODE, keep=keep)
    return run


METHODS = {"sac_paper": Method({name: on(name, False) for name in PUBLISHED}),
           "mbpo_paper": Method({name: on(name, True) for name in PUBLISHED}, "sac_paper")}
