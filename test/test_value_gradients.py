"""Backpropagation into a policy: the gradient is right by either way, and it learns a small environment."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import settings
from test_pets import MODEL, Mass, shaken

from mbrl_ros.environments.environment import episode
from mbrl_ros.models.rollout import MEMBER, stepper
from mbrl_ros.ring.policy import load
from mbrl_ros.trainers.__main__ import begin, rows_of
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.trainers.value_gradients import Agent, Settings, imagined, likelihood_ratio, pathwise

torch.set_num_threads(1)
SMALL = Settings(horizon=25, rollouts=20, updates=80, hidden=8, learning_rate=1e-2)


class Centred(Mass):
    """As a policy sees it."""

    period = 0.1


@pytest.fixture(scope="module")
def learned():
    """After one trial of random actions."""
    environment = Centred()
    agent = Agent(environment, SMALL, MODEL, seed=100)
    e = episode(environment, shaken(0), 0, 60)
    agent.learn(e.x, environment.data(e.x[:-1], e.a, e.x[1:]))
    return environment, agent, torch.as_tensor(e.x[:10])


def mean_return(environment, agent, z, horizon=12):
    step = stepper(environment.model(agent.regression), MEMBER, 7)  # the same worlds every time
    return imagined(environment, step, lambda z: agent.policy(environment.seen(z)), z, horizon).mean()


def test_the_gradient_is_that_of_finite_differences(learned):
    environment, agent, z = learned
    parameters = list(agent.policy.parameters())
    gradient = torch.autograd.grad(mean_return(environment, agent, z), parameters)
    found, expected, h = [], [], 1e-6
    with torch.no_grad():
        for p, g in zip(parameters, gradient, strict=True):
            flat = p.flatten()
            for i in range(0, len(flat), 5):
                values = []
                for sign in (1.0, -1.0):
                    p.view(-1)[i] += sign * h
                    values.append(float(mean_return(environment, agent, z)))
                    p.view(-1)[i] -= sign * h
                expected.append((values[0] - values[1]) / (2 * h))
                found.append(float(g.flatten()[i]))
    assert np.linalg.norm(np.subtract(found, expected)) < 1e-5 * np.linalg.norm(expected)


def test_likelihood_ratio_has_the_same_mean_and_more_variance(learned):
    environment, agent, z = learned
    deviation, horizon, ways = 0.3, 4, {"pathwise": [], "ratio": []}
    policy = PolicyNetwork(2, 1, 8, 0)  # which has something to learn yet
    policy.seen(z.numpy(), np.ones(1))
    z = z.repeat(8, 1)
    generator = torch.Generator().manual_seed(0)
    for i in range(100):
        noise = deviation * torch.randn(horizon, len(z), 1, generator=generator, dtype=torch.float64)
        step = stepper(environment.model(agent.regression), MEMBER, i)
        ways["pathwise"].append(pathwise(environment, step, policy, z, horizon, noise))
        step = stepper(environment.model(agent.regression), MEMBER, i)
        ways["ratio"].append(likelihood_ratio(environment, step, policy, z, horizon, noise, deviation))
    means, spreads = ({name: of(torch.stack(g)) for name, g in ways.items()} for of in (
        lambda g: g.mean(0), lambda g: g.std(0).norm() / len(g) ** 0.5))
    assert (means["ratio"] - means["pathwise"]).norm() < 3 * spreads["ratio"]
    assert spreads["ratio"] > 3 * spreads["pathwise"]
    assert means["pathwise"].norm() > 3 * spreads["ratio"]  # so that the first says something


def test_a_mass_comes_to_rest_after_one_random_trial(learned):
    environment, agent, _ = learned
    e = episode(environment, agent.act, 1, 40)
    assert np.abs(e.x[-10:, 0]).mean() < 0.15
    still = episode(environment, lambda x: np.zeros(1), 1, 40)
    assert e.reward.sum() > 0.5 * still.reward.sum()


def test_the_same_seed_learns_the_same(learned):
    environment, agent, _ = learned
    again = Agent(environment, SMALL, MODEL, seed=100)
    e = episode(environment, shaken(0), 0, 60)
    again.learn(e.x, environment.data(e.x[:-1], e.a, e.x[1:]))
    for p, q in zip(again.policy.parameters(), agent.policy.parameters(), strict=True):
        assert torch.equal(p, q)


def test_its_policy_is_left_as_a_file_that_acts_alike(tmp_path):
    chosen = settings("planar2", "gaussian", trainer={"seconds": 1.0}, pe={"epochs": 1, "hidden": 8},
                      backprop={"horizon": 3, "rollouts": 5, "updates": 2, "hidden": 8})
    config, run, trainer = begin(chosen, "backprop", 0)
    assert trainer.learned() is None
    list(rows_of(config, run, trainer, 1, 0, tmp_path))
    policy, robot, known = load(tmp_path / "policy.npz", run.robot), run.robot, trainer.known
    policy.target = trainer.target
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, q = 0.1 * rng.standard_normal(robot.n), robot.home + 0.1 * rng.standard_normal(robot.m)
        x[robot.slice("joint/position")] = q
        x[robot.slice(f"site/{robot.sites[0]}/position")] = robot.tool_position(q)
        seen = known.seen(known.inner(torch.as_tensor(known.observe(x, trainer.target))))
        assert np.allclose(policy.act(x, 0)[0], known.scale * trainer.agent.policy(seen).detach().numpy())
    far = x.copy()
    far[robot.slice("joint/velocity")] += 100.0
    assert policy.distance(x, 0) < 10.0 < policy.distance(far, 0)
