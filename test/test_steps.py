"""Learning after every step: each learner on a point to be brought to zero, and what a learner is handed."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mbrl_ros.config import ConfigError
from mbrl_ros.environments.environment import Observed, Step
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers import ampo, bmpo, checkpoints, maac, mbpo, svg
from mbrl_ros.trainers.sac import Settings
from mbrl_ros.trainers.steps import Free, train

torch.set_num_threads(1)
QUICK = Settings(hidden=32, rate=3e-3, batch=64, gamma=0.9, polyak=0.02, start=50, updates=2)
MODEL = ProbabilisticEnsemble.Config(members=2, hidden=16, epochs=20, patience=5)
PAST = 3.0  # where it ends


class Point(Observed):
    """x' = x + a / 4, with a in [-1, 3] about 1, to be brought to zero from anywhere in [-1, 1] within 20 steps."""

    def __init__(self):
        super().__init__(1, np.array([-1.0]), np.array([3.0]))

    def reset(self, seed):
        self._x, self._left = np.random.default_rng(seed).uniform(-1.0, 1.0, 1), 20
        return self._x.copy()

    def step(self, a):
        self._x, self._left = self._x + 0.25 * (np.clip(a, self.low, self.high) - 1.0), self._left - 1
        x = torch.as_tensor(self._x)
        return Step(self._x.copy(), float(self.reward(x, a)), bool(self.terminated(x)), self._left == 0)

    def reward(self, x_next, a):
        return -x_next.square().sum(-1)

    def terminated(self, x_next):
        return x_next[..., 0].abs() > PAST


def lived_through(learner, steps, seed=0):
    """Random steps, observed."""
    environment, rng = Point(), np.random.default_rng(seed)
    x = environment.reset(seed)
    for i in range(steps):
        a = rng.uniform(-1.0, 1.0, 1)
        step = environment.step(1.0 + 2.0 * a)
        learner.observe(x, a, step)
        x = environment.reset(seed + i) if step.terminated or step.truncated else step.observation
    return learner


LEARNERS = {
    "sac": lambda known: Free(known, QUICK, 0),
    "mbpo": lambda known: mbpo.Mbpo(known, QUICK, mbpo.Settings(every=100, rollouts=500, longest=3), 0, MODEL),
    "bmpo": lambda known: bmpo.Bmpo(known, QUICK, bmpo.Settings(every=100, rollouts=500, shortest=2, longest=4,
                                                                refined=50), 0, MODEL),
    "ampo": lambda known: ampo.Ampo(known, QUICK, ampo.Settings(every=100, rollouts=500, longest=3), 0, MODEL),
    "maac": lambda known: maac.Maac(known, QUICK, maac.Settings(every=100), 0, MODEL),
    "svg": lambda known: svg.Svg(known, svg.Settings(every=100, updates=50, window=8), 0, MODEL),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_brings_a_point_to_zero(name):
    """The point stays where it is without an action: minus 20 x^2, in the mean over where it begins -6.7."""
    environment = Point()
    curve = train(environment, LEARNERS[name](environment), 0, 600, 100, 20)
    assert curve.steps == [100, 200, 300, 400, 500, 600]
    assert np.mean(curve.returns[-2:]) > -2.0


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(name, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    keep = tmp_path / "deeper" / "run.checkpoint"
    whole = train(Point(), LEARNERS[name](Point()), 3, 160, 80, 20)
    for last in (110, 40):
        environment = Killed(last)
        with pytest.raises(KeyboardInterrupt):
            train(environment, LEARNERS[name](environment), 3, 160, 80, 20, keep=keep)
    environment = Point()
    again = train(environment, LEARNERS[name](environment), 3, 160, 80, 20, keep=keep)
    assert (again.steps, again.returns, again.figures) == (whole.steps, whole.returns, whole.figures)


class Killed(Point):
    """So many steps after it was made."""

    def __init__(self, last):
        super().__init__()
        self._last = last

    def step(self, a):
        self._last -= 1
        if self._last < 0:
            raise KeyboardInterrupt
        return super().step(a)


def test_a_checkpoint_that_cannot_be_read_is_one_line(tmp_path):
    keep = tmp_path / "run.checkpoint"
    keep.write_bytes(b"not one")
    with pytest.raises(ConfigError, match="no checkpoint that can be read") as error:
        train(Point(), LEARNERS["sac"](Point()), 3, 260, 100, 20, keep=keep)
    assert "\n" not in str(error.value)


def test_training_ends_with_the_goal():
    environment = Point()
    curve = train(environment, LEARNERS["sac"](environment), 0, 600, 100, 20, goal=-1e9)
    assert curve.steps == [100]
