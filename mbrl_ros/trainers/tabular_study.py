"""The tabular methods on the maze, with and without slipping, and on a pendulum in the ring.

Swing-up of the pendulum: from hanging to upright, with half of its effort limit, 6 s a trial, learning in the mode
`policy` while it goes on.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import Names, from_mapping, section
from mbrl_ros.environments.maze import Maze
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import Run, collect
from mbrl_ros.ring.policy import Policy
from mbrl_ros.simulation.plant import MujocoPlant
from mbrl_ros.trainers.compared import Curve, Method, Runner, Task
from mbrl_ros.trainers.dyna import Dyna
from mbrl_ros.trainers.tabular import EXPECTATION, Settings, Tabular, episode, explore, greedy_path
from mbrl_ros.types import Array, Observation

EPISODES, SLIP = 50, 0.2
RANDOM_STEPS, SWEEPS = 3000, 40  # of Q-planning: steps behind its model, and how often 1000 backups are made
SHORTEST, ENOUGH = 14, 20  # steps through the maze: at least, and what counts as solved
PATIENCE = 100_000  # steps of an episode
TRIALS, SECONDS, LAST = 30, 6.0, 1.0  # of the pendulum: trials, [s] of each, [s] of it that count
NEAR = 0.2  # [m] of the tip from upright, of 1 m hanging
UPRIGHT = {"plant": {"pace": "lockstep"}, "learner": {"adapt": False}, "environment": {"effort": 0.5},
           "trainer": {"target": [0.0, 0.0, 1.5], "seconds": SECONDS}}


def maze(slip: float, **settings: Any) -> Runner:
    """Episodes of Dyna-Q; a return is minus the steps to the goal."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        world, began, curve = Maze(slip=slip), time.monotonic(), Curve()
        learner = Tabular(world.states, world.actions, Settings(**settings), seed)
        for i in range(EPISODES):
            needed = episode(world, learner, EPISODES * seed + i, PATIENCE)
            curve.steps.append(needed + (curve.steps[-1] if curve.steps else 0))
            curve.returns.append(-float(needed))
        curve.seconds = time.monotonic() - began
        return curve
    return run


def planned(slip: float) -> Runner:
    """Q-planning with a model of random steps; a return is minus the steps of the greedy path, after every 1000
    backups."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        world, began, curve = Maze(slip=slip), time.monotonic(), Curve()
        learner = Tabular(world.states, world.actions, Settings(), seed)
        explore(world, learner, EPISODES * seed, RANDOM_STEPS)
        for _ in range(SWEEPS):
            learner.imagine(1000)
            curve.steps.append(RANDOM_STEPS)
            curve.returns.append(-float(greedy_path(world, learner, 0, 10 * SHORTEST)))
        curve.seconds = time.monotonic() - began
        return curve
    return run


class Paced:
    """A plant that steps with the clock of the machine, as a robot does."""

    def __init__(self, plant: MujocoPlant, period: float):
        self._plant, self._period, self._due = plant, period, time.monotonic()

    def reset(self, seed: int) -> Observation:
        """See Plant."""
        return self._plant.reset(seed)

    def step(self, effort: Array) -> Observation:
        """At the end of the period, or at once where that is over."""
        self._due = max(self._due + self._period, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        return self._plant.step(effort)


class Timed:
    """A Policy, and how long each action of it took [s]."""

    horizon = None

    def __init__(self, of: Policy):
        self._of, self.spent = of, list[float]()

    def act(self, x: Array, step: int) -> tuple[Array, Array | None]:
        """See Policy."""
        began = time.perf_counter()
        acted = self._of.act(x, step)
        self.spent.append(time.perf_counter() - began)
        return acted

    def distance(self, x: Array, step: int) -> float:
        """See Policy."""
        return self._of.distance(x, step)


def pendulum(backups: int, beside: bool = False) -> Runner:
    """Swing-ups in the ring, in lock-step, or in real time with backups beside; a return is minus the mean distance of
    the tip in the last second [m]."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        began, curve = time.monotonic(), Curve()
        own = {"dyna": {"backups": backups, "beside": beside}}
        settings = assembly.settings(Names("pendulum", prior="gaussian"), {**UPRIGHT, **own})
        ring, spent = Run(settings, measures.Config(), seed), list[float]()
        if beside:
            ring.ring.plant = Paced(ring.plant, ring.robot.period)
        steps, last = (round(of / ring.robot.period) for of in (SECONDS, LAST))
        trainer = Dyna(from_mapping(Dyna.Config, section(settings, "dyna"), "dyna"), ring.robot, settings, seed)
        tip = ring.robot.slice(f"site/{ring.robot.sites[0]}/position")
        for i in range(TRIALS):
            played = Timed(trainer.policy())
            trial, = collect(ring, played, 1, steps, TRIALS * seed + i)
            curve.figures = trainer.update([trial])
            spent += played.spent
            away = np.linalg.norm(trial.x[-last:, tip] - trainer.target, axis=-1)
            curve.steps.append(len(trial.u) + (curve.steps[-1] if curve.steps else 0))
            curve.returns.append(-float(away.mean()))
        curve.seconds = time.monotonic() - began
        if beside:  # figures of the clock, which no two runs share
            curve.figures["backups_per_period"] = curve.figures["backups"] / len(spent)
            curve.figures["act_ms_p50"], curve.figures["act_ms_p99"] = 1e3 * np.percentile(spent, [50, 99])
        return curve
    return run


TASKS = {"maze": Task(-ENOUGH, 20, "minus steps to the goal", "0-9", True),
         "slippery": Task(-1.5 * ENOUGH, 20, "minus steps to the goal", "0-9", True),
         "pendulum": Task(-NEAR, 10, "minus distance of the tip in the last second [m]", "0-9")}
METHODS = {
    "q_learning": Method({"maze": maze(0.0, backups=0), "slippery": maze(SLIP, backups=0), "pendulum": pendulum(0)}),
    "dyna_1": Method({"pendulum": pendulum(1)}, "q_learning"),
    "dyna_5": Method({"maze": maze(0.0, backups=5), "slippery": maze(SLIP, backups=5), "pendulum": pendulum(5)},
                     "q_learning"),
    "dyna_50": Method({"maze": maze(0.0, backups=50), "slippery": maze(SLIP, backups=50), "pendulum": pendulum(50)},
                      "dyna_5"),
    "dyna_beside": Method({"pendulum": pendulum(0, beside=True)}, "dyna_5"),
    "dyna_5_policy": Method({"maze": maze(0.0, backups=5, pairs="policy")}, "dyna_5"),
    "dyna_5_random": Method({"maze": maze(0.0, backups=5, pairs="random")}, "dyna_5"),
    "dyna_5_expectation": Method({"slippery": maze(SLIP, backups=5, backup=EXPECTATION)}, "dyna_5"),
    "q_planning": Method({"maze": planned(0.0)}, "q_learning"),
}
