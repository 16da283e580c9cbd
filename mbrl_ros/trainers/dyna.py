"""Dyna-Q on the robot of the ring: tables over bins of joint positions and speeds.

A state is the cell in which the joints are, an action one of few efforts for every joint, which is held for a while.
It learns while it acts: the policy that is played tells what came of the action before, and takes the next one from Q.

In lock-step `dyna.backups` are made in every period, so that the same seed gives the same trials. With `dyna.beside`
another thread takes what is left of each period, as long as it is, and the step of the tables with it: acting reads a
row of Q, whatever state that is in, and waits for nothing.
"""
from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
import torch

from mbrl_ros.config import ConfigError, from_mapping, param, section
from mbrl_ros.environments.ring import Reaching
from mbrl_ros.models.features import Data
from mbrl_ros.robot import Robot
from mbrl_ros.trainers import tabular, trainer
from mbrl_ros.trainers.tabular import Tabular
from mbrl_ros.types import Array, Trial

if TYPE_CHECKING:
    from jaxtyping import Float

LARGEST = 10_000_000  # entries of a table
TURN = 2 * np.pi
CHUNK = 500  # backups between two looks at the clock
Step = tuple[int, int, float, int, bool]  # s, a, r, s', whether it ends there


@dataclass(frozen=True)
class Settings(tabular.Settings):
    """Parameters `dyna.*`. Those of a table of cells in which motion is not certain: more of the way at once, towards
    the mean over outcomes, and less chance, since values begin above what is earned, so that all is tried."""

    alpha: float = param(0.3, "Part of the way that a value goes to its target", 0.0, 1.0)
    gamma: float = param(0.97, "What a reward one action later is worth", 0.0, 1.0)
    epsilon: float = param(0.02, "Probability of an action at random", 0.0, 1.0)
    backup: str = param(tabular.EXPECTATION, "sample: towards one outcome of the model; expectation: towards the mean "
                        "over all", choices=tabular.BACKUPS)
    positions: int = param(16, "Bins of a joint's position: of a turn, where it can turn all the way round, else "
                           "between its soft limits", 2, 10_000)
    speeds: int = param(13, "Bins of its speed, up to the one that the brakes of the guard leave", 1, 10_000)
    efforts: int = param(2, "Efforts of a joint, from environment.effort one way to as much the other way", 2, 100)
    hold: float = param(0.06, "For how long an action lasts [s]", 0.001, 10.0)
    beside: bool = param(False, "Backups in another thread, as many as the rest of a period has room for, in place of "
                         "dyna.backups in every one")


class Bins:
    """Cells of joint positions and speeds, and actions on them."""

    def __init__(self, known: Reaching, config: Settings):
        robot, limits, m = known.robot, known.limits, known.m
        self._counts = np.array([config.positions] * m + [config.speeds] * m)
        hinge = np.array([robot.model.joint(name).type[0] == mujoco.mjtJoint.mjJNT_HINGE for name in robot.joints])
        low, high = limits.position_low, limits.position_high
        turns = hinge & (high - low >= TURN)
        if not np.isfinite([low[~turns], high[~turns]]).all():
            raise ConfigError("dyna: expected a robot whose slides have ends, for bins between them")
        self.states, self.actions = int(np.prod(self._counts, dtype=float)), config.efforts**m
        if self.states * self.actions > LARGEST:
            raise ConfigError(f"dyna: expected at most {LARGEST} pairs of a cell and an action, got "
                              f"{self.states * self.actions}: fewer bins, or fewer joints")
        self._rows = np.r_[robot.slice("joint/position"), robot.slice("joint/velocity")]
        self._low = np.concatenate([np.where(turns, -np.pi, low), -limits.speed])
        self._width = (np.concatenate([np.where(turns, np.pi, high), limits.speed]) - self._low) / self._counts
        self._turns = np.concatenate([turns, np.zeros(m, bool)])
        level = np.linspace(-1.0, 1.0, config.efforts)
        self.level: Float[Array, "A m"] = np.stack(np.meshgrid(*[level] * m, indexing="ij"), -1).reshape(-1, m)

    def cell(self, x: Float[Array, " n"]) -> int:
        """Of a state of the ring; what is beyond the ends is in the last one."""
        place = (x[self._rows] - self._low) // self._width
        place = np.where(self._turns, place % self._counts, np.clip(place, 0, self._counts - 1))
        return int(np.ravel_multi_index(tuple(place.astype(int)), tuple(self._counts)))


class Beside:
    """A thread that does the steps of a table, and backups until the period is over in which a step was put."""

    def __init__(self, learner: Tabular, period: float):
        self._learner, self._period = learner, period
        self._steps: queue.SimpleQueue[tuple[float, Step | None] | None] = queue.SimpleQueue()
        self.backups: list[int] = []  # of each period
        self._thread = threading.Thread(target=self._work, name="dyna", daemon=True)
        self._thread.start()

    def put(self, step: Step | None) -> None:
        """A period begins, in which this became known; from the thread that acts, which does not wait."""
        self._steps.put((time.monotonic(), step))

    def close(self) -> None:
        """After what was put."""
        self._steps.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._steps.get()) is not None:
            began, step = item
            if step is not None:
                self._learner.real(*step)
            done = 0
            while self._steps.empty() and time.monotonic() < began + self._period:
                done += self._learner.imagine(CHUNK)
            self.backups.append(done)


class Dyna:
    """A Trainer."""

    Config = Settings

    def __init__(self, config: Settings, robot: Robot, settings: Mapping[str, Any], seed: int):
        self.robot, self.config, self.known = robot, config, Reaching(robot, settings)
        self.bins = Bins(self.known, config)
        trials = from_mapping(trainer.Config, section(settings, "trainer"), "trainer")
        self.target = trainer.target_of(trials, robot, settings, seed)
        self.learner = Tabular(self.bins.states, self.bins.actions, config, seed)
        self.every = max(1, round(config.hold / robot.period))  # periods of an action
        self.backups = 0
        self.beside: Beside | None = None
        self.last: tuple[int, int] | None = None  # cell and action

    def policy(self) -> Acting:
        """Epsilon-greedy, learning meanwhile."""
        return Acting(self)

    def model(self) -> tuple[Any, Data] | None:
        """None: its model is one of cells."""
        return None

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """What it has learned while it acted."""
        self.rest()
        return {"pairs": float(self.learner.known), "backups": float(self.backups)}

    def begin(self) -> None:
        """A trial."""
        self.rest()
        self.last = None
        if self.config.beside:
            self.beside = Beside(self.learner, self.robot.period)

    def rest(self) -> None:
        """End what runs beside."""
        if self.beside is not None:
            self.beside.close()
            self.backups += sum(self.beside.backups)
            self.beside = None

    def decide(self, x: Float[Array, " n"]) -> int:
        """The action at x, after what the one before has led to."""
        s, step = self.bins.cell(x), None
        if self.last is not None:
            z = self.known.inner(torch.as_tensor(self.known.observe(x, self.target)))
            r = float(self.known.reward(z, torch.as_tensor(self.bins.level[self.last[1]])))
            step = (*self.last, r, s, bool(self.known.terminated(z)))
        self.learn(step)
        a = self.learner.act(s)
        self.last = s, a
        return a

    def learn(self, step: Step | None) -> None:
        """From a step that became known in this period, and from as many backups as it has."""
        if self.beside is not None:
            self.beside.put(step)
            return
        if step is not None:
            self.learner.real(*step)
        self.backups += self.learner.imagine(self.config.backups)


class Acting:
    """The tables as a Policy of the ring."""

    horizon = None

    def __init__(self, of: Dyna):
        self._of, self._effort = of, np.zeros(of.robot.m)

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], None]:
        """See Policy; what gets the robot close to the limits of the guard is braked."""
        of = self._of
        if step == 0:
            of.begin()
        if step % of.every == 0:
            self._effort = of.known.scale * of.bins.level[of.decide(x)]
        else:
            of.learn(None)
        return of.known.braked(x, self._effort), None

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy: it does not know."""
        return 0.0
