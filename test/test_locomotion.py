"""Hopper, Walker2d and HalfCheetah: rewards and ends are those of gymnasium, on ten thousand transitions."""
from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")
from mbrl_ros.environments.locomotion import BODIES, locomotion


@pytest.mark.parametrize("name", BODIES)
def test_rewards_and_ends_are_those_of_gymnasium(name):
    environment, rng = locomotion(name), np.random.default_rng(0)
    way, after, actions, rewards, ends = [], [], [], [], []
    environment.reset(0)
    for i in range(10_000):
        a = rng.uniform(environment.low, environment.high)
        x, reward, ended, _, more = environment.env.step(a.astype(np.float32))
        for of, value in ((way, more["x_velocity"]), (after, x), (actions, a), (rewards, reward), (ends, ended)):
            of.append(value)
        if ended:
            environment.reset(i)
    x, a = torch.as_tensor(np.array(after)), torch.as_tensor(np.array(actions))
    assert np.array_equal(environment.terminated(x).numpy(), ends)
    assert sum(ends) > 100 or name == "cheetah"
    seen, mean = x[:, BODIES[name].way].numpy(), np.array(way)
    assert np.allclose(environment.reward(x, a).numpy() - seen + mean, rewards, rtol=0, atol=1e-6)  # but for the way,
    assert np.corrcoef(seen, mean)[0, 1] > 0.6 and abs((seen - mean).mean()) < 0.1  # which is nearly that
