"""Methods that imagine beside SAC, at the same number of updates after every step.

`inverted` is gymnasium's InvertedPendulum-v5: the return of a test, of at most 1000, and no more tests once one has
950. `swing` is a pendulum that begins anywhere; a return is that of an episode of 200 steps. `reach2` is an arm of two
joints in the ring, whose target is drawn for every episode of 150 steps; a return is minus the mean distance [mm] in
the last half second of ten episodes. `compounding` needs no policy: a return is minus the error of rollouts of 20 steps
in a model of 2000 random steps, on steps that it has not seen. In `fresh` it is minus the error of one step of the
model on what the policy did since it was fitted. In `gradients` it is minus the error of a gradient by its horizon
(gradient_errors.py).
"""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import Names
from mbrl_ros.environments.environment import Environment
from mbrl_ros.environments.pendulum import Pendulum
from mbrl_ros.environments.ring import RingEnvironment
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers import ampo, bmpo, compounding, gradient_errors, maac, mbpo, sac, svg
from mbrl_ros.trainers.ampo import Ampo
from mbrl_ros.trainers.bmpo import Bmpo
from mbrl_ros.trainers.compared import Curve, Method, Runner, Task
from mbrl_ros.trainers.maac import Maac
from mbrl_ros.trainers.mbpo import Mbpo
from mbrl_ros.trainers.steps import Free, Learner, train
from mbrl_ros.trainers.svg import Svg
from mbrl_ros.types import Array

BASE = sac.Settings(rate=1e-3)
TIPPED, UPRIGHT = 0.2, 950.0  # [rad] of the pole, where an episode ends; what counts as solved, of 1000
LENGTHS, BEHIND, UNSEEN = (4, 10, 20), 2000, 10_000  # of rollouts; steps behind a model, and to try it on
NEAR, TESTS = 20.0, 10  # [mm] of the tool from its target; episodes of a test
REACH = {"plant": {"pace": "lockstep"}, "environment": {"reward": "task"}}
LONG = {"shortest": 20, "longest": 20, "rollouts": 1000}  # rollouts of one step find nobody who has stood for long
Make = Callable[[Environment, sac.Settings, int], Learner]


def inverted() -> Environment:
    """InvertedPendulum-v5 of gymnasium."""
    import gymnasium

    from mbrl_ros.environments.gyms import GymEnvironment

    tipped = lambda x: ~(x[..., 1].abs() <= TIPPED)  # noqa: E731
    return GymEnvironment(gymnasium.make("InvertedPendulum-v5").unwrapped, lambda x, a: (~tipped(x)).to(x), tipped)


def on_inverted(make: Make, updates: int) -> Runner:
    """Tests after every 250 steps."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        environment = inverted()
        learner = make(environment, replace(BASE, updates=updates), seed)
        return train(environment, learner, seed, 6000, 250, 1000, goal=UPRIGHT, keep=keep)
    return run


def on_swing(make: Make, updates: int) -> Runner:
    """Tests after every episode."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        environment = Pendulum()
        return train(environment, make(environment, replace(BASE, updates=updates), seed), seed, 6000, 200, 200,
                     keep=keep)
    return run


def compounded(way: str) -> Runner:
    """Errors of rollouts on held-out sequences of random actions."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        began, known, rng = time.monotonic(), inverted(), np.random.default_rng(seed)
        rows: list[tuple[Array, Array, Array]] = []
        x = known.reset(seed)
        while len(rows) < BEHIND + UNSEEN:
            a = rng.uniform(known.low, known.high)
            step = known.step(a)
            rows.append((x, a, step.observation))
            # past where an episode ends the pole still falls, which is what long windows need
            x = known.reset(seed + len(rows)) if abs(step.observation[1]) > 1.0 else step.observation
        known_x, known_a, known_after, *unseen = (np.array([row[i] for row in part]) for part in (
            rows[:BEHIND], rows[BEHIND:]) for i in range(3))
        z, u, after = (torch.as_tensor(of) for of in unseen)
        back = bmpo.backwards(known, known_x, known_a, known_after)
        model, before = (known.model(ProbabilisticEnsemble.fit(data, mbpo.MODEL, seed))
                         for data in (known.data(known_x, known_a, known_after), back))
        curve, scale = Curve(), torch.as_tensor(known_x.std(0))
        for length in LENGTHS:
            of = compounding.windows(z, after, u, length)
            error = (compounding.forwards(model, *of, scale) if way == "forwards"
                     else compounding.both_ways(model, before, *of, scale))
            curve.steps.append(length)
            curve.returns.append(-error)
        curve.seconds = time.monotonic() - began
        return curve
    return run


def on_reach(make: Make, updates: int, robot: str, steps: int) -> Runner:
    """Tests after every 1000 steps."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        settings = assembly.settings(Names(robot, prior="gaussian"), REACH)
        environment, apart = RingEnvironment(settings, seed), RingEnvironment(settings, seed)
        learner = make(environment, replace(BASE, updates=updates), seed)
        tested = [int(of) for of in np.random.default_rng([seed, 1]).integers(2**31, size=TESTS)]

        def judged(learner: Learner) -> float:
            return -float(np.mean([_missed(apart, learner, of) for of in tested]))
        return train(environment, learner, seed, steps, 1000, 150, goal=-NEAR, judge=judged, keep=keep)
    return run


def _missed(environment: RingEnvironment, learner: Learner, seed: int) -> float:
    """The mean distance [mm] of the tool to its target in the last half second of an episode."""
    x, ended, away = environment.reset(seed), False, []
    while not ended:
        x, _, terminated, truncated = environment.step(learner.act(x, noise=False))
        ended = terminated or truncated
        away.append(1e3 * float(np.linalg.norm(x[-3:])))
    return float(np.mean(away[-round(0.5 / environment.period):]))


def fresh(make: Make) -> Runner:
    """How wrong the model was on each 200 steps of a swing-up, before it was fitted to them."""
    def run(seed: int, keep: Path | None = None) -> Curve:
        environment = Pendulum()
        learner: Any = make(environment, replace(BASE, updates=1, start=400), seed)
        curve = train(environment, learner, seed, 3000, 3000, 200)
        errors = learner.surprises
        return replace(curve, steps=[600 + 200 * i for i in range(len(errors))], returns=[-e for e in errors])
    return run


class Twice(Mbpo):
    """MBPO with as many steps of fitting as one that adapts, and more: every fit goes on from the last one again."""

    def fit(self) -> None:
        """See Mbpo."""
        super().fit()
        data = self.known.data(*self.lived())
        self.regression = ProbabilisticEnsemble.fit(data, self.model_config, self.seed + self.fits, self.regression)


def twice(known: Environment, config: sac.Settings, seed: int) -> Learner:
    """See Twice."""
    return Twice(known, config, mbpo.Settings(**{**LONG, "every": 200}), seed)


def free(known: Environment, config: sac.Settings, seed: int) -> Learner:
    return Free(known, config, seed)


def branched(**own: Any) -> Make:
    """MBPO."""
    return lambda known, config, seed: Mbpo(known, config, mbpo.Settings(**{**LONG, **own}), seed)


def bidirectional(**own: Any) -> Make:
    """BMPO."""
    return lambda known, config, seed: Bmpo(known, config, bmpo.Settings(**{**LONG, **own}), seed)


def adapting(**own: Any) -> Make:
    """AMPO."""
    return lambda known, config, seed: Ampo(known, config, ampo.Settings(**{**LONG, "every": 200, **own}), seed)


def augmented(**own: Any) -> Make:
    """MAAC."""
    return lambda known, config, seed: Maac(known, config, maac.Settings(**own), seed)


def along(**own: Any) -> Make:
    """SVG(inf)."""
    return lambda known, config, seed: Svg(known, svg.Settings(**own), seed)


TASKS = {
    "inverted": Task(UPRIGHT, 1, "return of a test", "0-4"),
    "swing": Task(-250.0, 5, "return of an episode", "0-4"),
    "reach2": Task(-NEAR, 1, "minus distance in the end [mm]", "0-4"),
    "fresh": Task(0.0, 13, "minus error of the model on new steps [deviations]", "0-9"),
    "compounding": Task(0.0, 1, "minus error of rollouts [deviations]", "0-9"),
    "gradients": Task(0.0, 1, "minus relative error of the gradient", "0-9"),
}
METHODS = {
    "sac_5": Method({"inverted": on_inverted(free, 5), "reach2": on_reach(free, 5, "planar2", 30_000)}),
    "sac_20": Method({"inverted": on_inverted(free, 20)}),
    "sac_1": Method({"swing": on_swing(free, 1)}),
    "mbpo_5": Method({"inverted": on_inverted(branched(), 5),
                      "reach2": on_reach(branched(), 5, "planar2", 10_000)}, "sac_5"),
    "mbpo_20": Method({"inverted": on_inverted(branched(), 20)}, "sac_20"),
    "bmpo_5": Method({"inverted": on_inverted(bidirectional(), 5)}, "mbpo_5"),
    "mbpo_twice": Method({"fresh": fresh(twice)}),
    "ampo": Method({"fresh": fresh(adapting())}, "mbpo_twice"),
    "ampo_mmd": Method({"fresh": fresh(adapting(distance=ampo.MMD))}, "mbpo_twice"),
    "maac_5": Method({"inverted": on_inverted(augmented(), 5),
                      "reach2": on_reach(augmented(), 5, "planar2", 10_000)}, "mbpo_5"),
    "maac_1": Method({"swing": on_swing(augmented(), 1)}, "sac_1"),
    "svg": Method({"swing": on_swing(along(), 0)}, "maac_1"),
    "forwards": Method({"compounding": compounded("forwards")}),
    "both_ways": Method({"compounding": compounded("both ways")}, "forwards"),
    "imagined": Method({"gradients": gradient_errors.errors(gradient_errors.IMAGINED)}),
    "along": Method({"gradients": gradient_errors.errors(gradient_errors.ALONG)}, "imagined"),
}
