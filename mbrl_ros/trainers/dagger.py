"""A network that does what the planner would do: imitation with states from the student (DAgger; Ross et al. 2011).

The first trial excites, and a model is fitted to it. In the next the planner drives (`reach`, with the learner of the
ring behind it), to one target after the other; later the network drives to most targets, and the planner says what it
would have done at every state. Three things make that learnable:

- The planner follows a path in time, and a network has no clock. So the planner is asked as if it were so late that the
  way left on its path is the one that is left.
- What is missing of an effort counts by Q_uu of the plan: as much as it costs.
- The gains of the plan say what it would do nearby: every state comes with copies of it, moved at random, and the
  effort u + K dx there (Mordatch & Todorov 2014 match gains for the same reason).

A network that gets far from what it was trained on, or fast, hands the rest of the way to the planner.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import LOGARITHMIC, from_mapping, param, section
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import data_of, set_prior
from mbrl_ros.models.features import Data
from mbrl_ros.models.prior import fit
from mbrl_ros.ring import learner
from mbrl_ros.ring.controller import EXCITE
from mbrl_ros.ring.network_policy import TRAINED, NetworkPolicy, View
from mbrl_ros.ring.policy import Policy
from mbrl_ros.robot import Robot
from mbrl_ros.task.goal import Goal
from mbrl_ros.trainers import trainer
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.trainers.regression import Wanted, covariance, regress
from mbrl_ros.types import Array, Gaussian, StateEstimate, Trial

if TYPE_CHECKING:
    from jaxtyping import Float

ESCAPED, FAST = 1.5 * TRAINED, 1.2  # deviations, and times a velocity limit, at which the planner takes over
LEAST_TRUST = 0.1  # of the planner in its model: here nobody holds the arm where it has none
TOURS = 1_000_003  # seeds of targets from one seed of a trainer to the next


@dataclass(frozen=True)
class Settings:
    """Parameters `dagger.*`."""

    hidden: int = param(64, "Units in each of the two hidden layers", 1, 1024)
    steps: int = param(1000, "Of the regression after every trial", 1, 1_000_000)
    batch: int = param(256, "States in a step", 1, 100_000)
    learning_rate: float = param(2e-3, "Of Adam at the first step after a trial; it falls to zero", 0.0, 1.0,
                                 scale=LOGARITHMIC)
    copies: int = param(4, "Of every state, moved at random, with the efforts that the gains of the plan give there", 0,
                        100)
    spread: float = param(0.1, "How far they are moved, in deviations of the states of a trial", 0.0, 10.0)
    mixing: float = param(0.5, "In the n-th trial after the first, the planner drives to this part of the targets, to "
                          "the n-th power", 0.0, 1.0)


class Said(NamedTuple):
    """What the planner would do at a state."""

    x: Array  # (n,)
    target: Array  # (3,)
    u: Array  # (m,)
    K: Array  # (m, n)
    Sigma: Array  # (m, m), Q_uu^-1
    G: Array  # (6 sites, 2 m), of the tool by the joints


class Teacher:
    """The planner and its learner at states that somebody else drives through."""

    def __init__(self, robot: Robot, settings: Mapping[str, Any], model: Any, data: Data):
        self.robot = robot
        self.mpc = assembly.make_controller(settings, robot).mpc
        self.learner = assembly.make_learner(settings, robot)
        set_prior(self.learner, model, data, settings)
        self.newest, self._tool = robot.slice("effort/1"), robot.slice(f"site/{robot.sites[0]}/position")
        self._episode, self._left = 0, np.zeros(1)

    def begin(self) -> None:
        """A trial: what comes next does not follow what was before."""
        self._episode += 1

    def says(self, x: Float[Array, " n"], step: int, target: Array, new: bool) -> Said | None:
        """What to do at x on the way to a target, to which a path begins here where it is `new`; None where there is no
        plan."""
        robot, mpc, effort = self.robot, self.mpc, x[self.newest]
        time, period = round(step * robot.period * 1e9), round(robot.period * 1e9)
        state = StateEstimate(time, self._episode, step, Gaussian(x, 1e-9 * np.eye(len(x))), effort)
        dynamics = self.learner.update(state)
        mpc.record(effort)  # of the period before
        mpc.trust = max(self.learner.model_trust, LEAST_TRUST)
        if new:
            mpc.goal = Goal(target)
            mpc.start(state)
        elif mpc.course is not None:
            further = np.flatnonzero(self._left > np.linalg.norm(target - x[self._tool]))
            late = max(1, further[-1] + 1 if len(further) else 0)
            state = replace(state, time=mpc.course.begin + late * period)
        u = mpc.act(state, dynamics, effort)
        if new and mpc.course is not None:
            count = round(mpc.course.duration / robot.period) + 2
            points, _ = mpc.course.at(mpc.course.begin, robot.period, count)
            self._left = np.linalg.norm(points - target, axis=-1)  # [m] of the way, in every period of it
        if mpc.failures or mpc.plan is None:
            return None
        K, Sigma = (np.asarray(of[0]) for of in (mpc.plan.policy.K, mpc.plan.policy.Sigma))
        if not (np.isfinite(Sigma).all() and np.linalg.eigvalsh(Sigma)[0] > 0):
            return None
        return Said(x, target, u, K, Sigma, robot.kinematics(x[: robot.m], x[robot.m : 2 * robot.m])[1])


class Tour:
    """A Policy: to one target after the other, with the student or the teacher driving."""

    horizon = None

    def __init__(self, student: NetworkPolicy | None, teacher: Teacher, targets: Sequence[Array], each: int,
                 taught: Sequence[bool]):
        self.student, self.teacher, self.targets, self.each = student, teacher, targets, each
        self.driven = [student is not None and not alone for alone in taught]
        self.escaped, self.said = 0, list[Said]()
        self._drives = False  # the student

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], None]:
        """See Policy."""
        which, since = divmod(min(step, self.each * len(self.targets) - 1), self.each)
        target, student = self.targets[which], self.student
        if step == 0:
            self.teacher.begin()
        if since == 0:
            self._drives = self.driven[which]
        said = self.teacher.says(x, step, target, since == 0)
        if said is not None:
            self.said.append(said)
        if student is not None and self._drives:
            student.target, robot = target, self.teacher.robot
            fast = (np.abs(x[robot.slice("joint/velocity")]) > FAST * robot.velocity_limit).any()
            if not fast and student.distance(x, step) <= ESCAPED:
                return student.act(x, step)[0], None
            self._drives = False
            self.escaped += 1
        return (x[self.teacher.newest] if said is None else said.u), None

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy: the teacher goes everywhere."""
        return 0.0

    def wanted(self, copies: int, spread: float, rng: np.random.Generator) -> Wanted:
        """What the teacher said so far, and would have said at moved copies of the states: joints, their speeds and
        efforts by `spread` of their deviations, and the tool as the joints have it."""
        robot = self.teacher.robot
        x, target, u, K, Sigma, G = (np.array(column) for column in zip(*self.said, strict=True))
        rows, m = robot.joint_rows, robot.m
        P, deviation, parts = np.linalg.inv(Sigma), x[:, rows].std(0), []
        for copy in range(copies + 1):
            moved = np.zeros_like(x)
            if copy:
                moved[:, rows] = spread * deviation * rng.standard_normal((len(x), len(rows)))
                moved[:, 2 * m : 2 * m + G.shape[1]] = np.einsum("nij,nj->ni", G, moved[:, : 2 * m])
            effort = u + np.einsum("nij,nj->ni", K, moved)
            parts.append(Wanted(View(robot)(x + moved, target), np.clip(effort, -robot.effort_limit,
                                                                       robot.effort_limit), P))
        return Wanted.together(parts)


class Dagger:
    """A Trainer; a trial is a tour, as long as `trainer.seconds`, to targets that it draws itself."""

    Config = Settings

    def __init__(self, config: Settings, robot: Robot, settings: Mapping[str, Any], seed: int):
        self.robot, self.settings, self.config, self.seed = robot, settings, config, seed
        self.scenario = measures.config_of(settings, {})
        self.each = round(self.scenario.seconds_per_target / robot.period)  # periods
        trials = from_mapping(trainer.Config, section(settings, "trainer"), "trainer")
        self._targets = max(1, round(trials.seconds / self.scenario.seconds_per_target))
        self.network = PolicyNetwork(View(robot).size, robot.m, config.hidden, seed)
        self.student: NetworkPolicy | None = None  # what it has learned
        self._fitted: tuple[Any, Data] | None = None
        self._teacher: Teacher | None = None
        self._tour: Tour | None = None
        self._wanted: list[Wanted] = []
        self._rng = np.random.default_rng(seed)

    def policy(self) -> Policy | str:
        """Excitation at first, then tours."""
        if self._teacher is None:
            return EXCITE
        tours = len(self._wanted)
        drawn = replace(self.scenario, seed=TOURS * (self.seed + 1) + tours, targets=self._targets)
        taught = (self._rng.uniform(size=self._targets) < self.config.mixing**tours).tolist()
        self._tour = Tour(self.student, self._teacher, measures.draw_targets(self.robot, drawn), self.each, taught)
        return self._tour

    def model(self) -> tuple[Any, Data] | None:
        """What the planner plans with."""
        return self._fitted

    def learned(self) -> NetworkPolicy | None:
        """The student."""
        return self.student

    def update(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Of the figures, `missing` is that of the efforts, weighted, in their deviations; `escaped` counts targets on
        whose way the planner took over, and `final_mm` is of all targets, whoever drove."""
        if self._tour is None:
            data = data_of(self.robot, trials)
            kind = from_mapping(learner.Config, section(self.settings, "learner"), "learner").prior
            self._fitted = fit(kind, data, self.settings, self.seed), data
            self._teacher = Teacher(self.robot, self.settings, *self._fitted)
            return {"transitions": float(len(data.w))}
        tour, config = self._tour, self.config
        if not tour.said:  # an earlier run drove: the teacher says now what it said then
            for step, x in enumerate(trials[-1].x):
                tour.act(x, step)
        self._wanted.append(tour.wanted(config.copies, config.spread, self._rng))
        wanted = Wanted.together(self._wanted)
        missing = regress(self.network, wanted, config.steps, config.batch, config.learning_rate,
                          self.seed + len(self._wanted))
        self.student = self.network.policy(self.robot, covariance(wanted))
        tool, settled = View(self.robot).tool, round(measures.SETTLED / self.robot.period)
        x = trials[-1].x
        last = [x[max(0, end - settled) : end, tool] - target for end, target in
                zip(range(self.each, len(x), self.each), tour.targets, strict=False)]
        away = [1e3 * float(np.linalg.norm(a, axis=-1).max()) for a in last]
        return {"states": float(len(wanted.u)), "missing": missing, "escaped": float(tour.escaped),
                "driven": float(sum(tour.driven)), "final_mm": float(np.median(away)) if away else float("inf")}
