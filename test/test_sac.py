"""SAC and its replay: densities against torch's, a bandit whose best policy is known, ends against time limits."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from mbrl_ros.environments.environment import Observed, Step
from mbrl_ros.trainers.replay import Batch, Replay
from mbrl_ros.trainers.sac import Sac, Settings, squashed
from mbrl_ros.trainers.steps import Free, train

torch.set_num_threads(1)
QUICK = Settings(hidden=32, rate=3e-3, batch=128, polyak=0.05)


def of(count, n=1, m=1, reward=0.0, end=0.0):
    ones = torch.ones(count)
    return Batch(torch.zeros(count, n), torch.rand(count, m) * 2 - 1, reward * ones, torch.zeros(count, n), end * ones)


def test_the_log_probability_is_that_of_a_transformed_gaussian():
    agent = Sac(3, 2, Settings(), 0)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    mean, log_std = agent.gaussian(x)
    a, log_p = agent.draw(x)
    true = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform()])
    torch.testing.assert_close(log_p, true.log_prob(a), rtol=1e-3, atol=1e-3)
    assert math.isclose(squashed(torch.tensor([30.0])).item(), math.log(4.0) - 60.0, rel_tol=1e-6)  # where tanh is 1


def test_the_best_policy_of_a_bandit_that_rewards_a_tanh_gaussian():
    """At temperature 1 the best policy has the density exp r(a) / Z: with r = log p, it is p."""
    agent = Sac(1, 1, replace(QUICK, gamma=0.0, temperature=1.0), 0)
    true = TransformedDistribution(Normal(0.5, 0.5), [TanhTransform(cache_size=1)])
    torch.manual_seed(0)
    for _ in range(1500):
        batch = of(256)
        agent.update(batch._replace(reward=true.log_prob(batch.a.clamp(-0.999, 0.999)).squeeze(-1)))
    mean, log_std = agent.gaussian(torch.zeros(1, 1))
    assert mean.item() == pytest.approx(0.5, abs=0.1) and log_std.exp().item() == pytest.approx(0.5, abs=0.1)


def test_the_temperature_brings_the_entropy_to_where_it_is_to_be():
    """With the reward -k a^2 the best policy is nearly a Gaussian of variance temperature / 2 k, whose entropy says
    what both are."""
    agent = Sac(1, 1, replace(QUICK, gamma=0.0, entropy=-1.0), 0)
    torch.manual_seed(0)
    k, entropy = 20.0, []
    for _ in range(1200):
        batch = of(128)
        entropy.append(agent.update(batch._replace(reward=-k * batch.a.square().squeeze(-1)))["entropy"].item())
    assert np.mean(entropy[-100:]) == pytest.approx(-1.0, abs=0.1)
    variance = math.exp(2 * -1.0) / (2 * math.pi * math.e)
    assert agent.temperature.item() == pytest.approx(2 * k * variance, rel=0.3)


@pytest.mark.parametrize(("end", "value"), [(1.0, 1.0), (0.0, 2.0)])
def test_nothing_comes_after_an_end_and_a_time_limit_is_none(end, value):
    """A state that leads to itself, with a reward of 1 and gamma = 1/2, is worth 1 if that is an end, else 2."""
    agent = Sac(1, 1, replace(QUICK, gamma=0.5, temperature=1e-6), 0)
    torch.manual_seed(0)
    for _ in range(400):
        agent.update(of(64, reward=1.0, end=end))
    batch = of(64)
    torch.testing.assert_close(agent.values(agent.critics, batch.x, batch.a), torch.full((2, 64), value), atol=0.05,
                               rtol=0.0)


class Endless(Observed):
    """A coordinate to be kept at zero, with a time limit of 5 steps, which are counted by who asks."""

    def __init__(self) -> None:
        super().__init__(1, np.array([-2.0]), np.array([4.0]))
        self.actions: list[float] = []

    def reset(self, seed):
        self._left = 5
        return np.zeros(1)

    def step(self, a):
        self._left -= 1
        self.actions.append(a[0])
        return Step(np.zeros(1), 1.0, False, self._left == 0)


def test_training_keeps_no_time_limit_as_an_end_and_acts_within_the_limits(monkeypatch):
    kept = []
    monkeypatch.setattr(Replay, "add", lambda self, batch: kept.append(batch))
    monkeypatch.setattr(Replay, "draw", lambda self, count, generator: of(count))
    environment = Endless()
    learner = Free(environment, replace(QUICK, start=10, updates=1, batch=4), 0)
    curve = train(environment, learner, 0, 40, 20, 100)
    assert curve.steps == [20, 40] and curve.returns == [5.0, 5.0]
    assert len(kept) == 40 and sum(float(batch.end) for batch in kept) == 0.0
    assert -2.0 <= min(environment.actions) < 0.0 and 2.0 < max(environment.actions) <= 4.0


def test_the_same_seed_learns_the_same():
    def learned(seed):
        agent = Sac(2, 1, QUICK, seed)
        torch.manual_seed(0)
        agent.update(of(8, n=2, reward=1.0))
        return agent.act(np.ones(2)).item()
    assert learned(0) == learned(0) != learned(1)


# --- the replay

def numbered(first, count):
    i = torch.arange(first, first + count, dtype=torch.float32)
    return Batch(i[:, None].expand(-1, 2), -i[:, None], 10 * i, i[:, None].expand(-1, 2) + 1, i % 2)


def test_the_oldest_transitions_are_overwritten_and_rows_stay_together():
    replay = Replay(2, 1, 10)
    for first in range(0, 28, 4):
        replay.add(numbered(first, 4))
    batch = replay.draw(2000, torch.Generator().manual_seed(0))
    i = batch.x[:, 0]
    assert set(i.tolist()) == set(range(18, 28)) and len(replay) == 10
    assert torch.equal(batch.a[:, 0], -i) and torch.equal(batch.reward, 10 * i) and torch.equal(batch.end, i % 2)
    assert torch.equal(batch.x_next, batch.x + 1)
    counts = torch.bincount(i.long())[18:]
    assert counts.min() > 140 and counts.max() < 260  # four deviations about 200
    replay.add(numbered(100, 25))
    assert set(replay.draw(2000, torch.Generator().manual_seed(0)).x[:, 0].tolist()) == set(range(115, 125))


def test_a_mixed_batch_is_two_draws_and_an_empty_replay_says_so():
    replay = Replay(2, 1, 10)
    with pytest.raises(ValueError, match="expected transitions"):
        replay.draw(1, torch.Generator())
    replay.add(numbered(0, 3))
    both = replay.draw(3, torch.Generator()).joined(numbered(50, 2))
    assert both.x.shape == (5, 2) and both.end.shape == (5,) and both.x[3:, 0].tolist() == [50.0, 51.0]
    replay.clear()
    assert len(replay) == 0
