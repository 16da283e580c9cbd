"""Rollouts both ways, with models whose errors are known, and the tasks on which methods that imagine are compared."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mbrl_ros.environments.pendulum import PERIOD, TORQUE, Pendulum
from mbrl_ros.trainers import compounding, imagined_study
from mbrl_ros.trainers.steps import Free


class Off:
    """x' = x + a forwards, or x = x' - a backwards, wrong by a constant at every step."""

    regression = None

    def __init__(self, sign, error):
        self.sign, self.error = sign, error

    def mean(self, x, a):
        return x + self.sign * a + self.error


def test_both_ways_from_the_middle_errors_add_up_half_as_far():
    """With an error of 1 a step, forwards over 4 is 1, 2, 3, 4; both ways it is 1, 2 twice."""
    a = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(0)).double()
    z = torch.cat([torch.zeros(3, 1, 1).double(), a.cumsum(1)], 1)
    scale = torch.tensor([2.0]).double()
    assert compounding.forwards(Off(1, 1.0), z, a, scale) == pytest.approx(2.5 / 2)
    assert compounding.both_ways(Off(1, 1.0), Off(-1, 1.0), z, a, scale) == pytest.approx(1.5 / 2)
    assert compounding.both_ways(Off(1, 0.0), Off(-1, 0.0), z, a, scale) == pytest.approx(0.0, abs=1e-12)


def test_windows_are_of_one_trajectory():
    z = torch.tensor([0.0, 1, 2, 10, 11, 12, 13])[:, None]
    after = torch.tensor([1.0, 2, 3, 11, 12, 13, 14])[:, None]
    x, a = compounding.windows(z, after, -z, 3)
    assert x[..., 0].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]] and torch.equal(a, -x[:, :3])


def test_the_pendulum_is_that_of_gymnasium():
    gymnasium = pytest.importorskip("gymnasium")
    theirs, ours = gymnasium.make("Pendulum-v1").unwrapped, Pendulum()
    theirs.reset(seed=0)
    ours.reset(0)
    theirs.state = np.array([3.0, 0.5])
    ours._x = torch.tensor([3.0, 0.5]).double()
    for a in np.random.default_rng(0).uniform(-1.2, 1.2, 50):
        before = theirs.state.copy()
        theirs.step(np.array([TORQUE * a]))
        step = ours.step(np.array([a]))
        np.testing.assert_allclose(step.observation, theirs.state, atol=1e-6)
        assert step.observation[0] == pytest.approx(before[0] + PERIOD * step.observation[1])
        assert not step.terminated
    angle = np.angle(np.exp(1j * step.observation[0]))
    assert step.reward == pytest.approx(-(angle**2 + 0.1 * step.observation[1] ** 2 + 0.001 * min(TORQUE, abs(
        TORQUE * a)) ** 2))


def test_an_arm_in_the_ring_is_tried_on_targets_of_its_own(monkeypatch):
    monkeypatch.setattr(imagined_study, "TESTS", 1)
    run = imagined_study.on_reach(lambda known, config, seed: Free(known, config, seed), 0, "planar2", 1000)
    first, again = run(100), run(100)
    assert first.steps == [1000] and first.returns == again.returns and -2000.0 < first.returns[0] < -1.0
