"""PILCO: it learns a small environment by either way of expecting, and both expect the same."""
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from arms import settings
from test_pets import Mass, shaken

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.environments.cartpole import CartPole
from mbrl_ros.environments.environment import episode
from mbrl_ros.models.features import Data
from mbrl_ros.models.gp import GaussianProcess
from mbrl_ros.models.integrated import Integrated
from mbrl_ros.models.radial import RadialPolicy
from mbrl_ros.ring.policy import load, save
from mbrl_ros.trainers.__main__ import begin, rows_of
from mbrl_ros.trainers.pilco import MOMENTS, PARTICLES, Agent, Settings, descend

torch.set_num_threads(1)
SMALL = Settings(horizon=25, bases=4, iterations=30, particles=50, width=0.5, start=0.02)
GP = GaussianProcess.Config(inducing=30, steps=20)


class Sled(Mass):
    """A mass whose goal PILCO knows."""

    period = 0.1
    TIP, GOAL = torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1).double()

    def away(self, x):
        return x[..., :1]


def learned(way, **more):
    environment = Sled()
    agent = Agent(environment, replace(SMALL, way=way, **more), GP, seed=100)
    e = episode(environment, shaken(0), 0, 40)
    agent.learn(e.x[:-1], environment.data(e.x[:-1], e.a, e.x[1:]))
    return environment, agent


@pytest.mark.parametrize(("way", "starts"), [(MOMENTS, {"restarts": 1, "iterations": 20}), (PARTICLES, {})])
def test_after_one_random_trial_it_brings_a_mass_to_rest(way, starts):
    environment, agent = learned(way, **starts)
    e = episode(environment, agent.act, 1, 25)
    assert np.abs(e.x[-10:, 0]).mean() < 0.15


def test_moments_and_particles_expect_the_same():
    """Of the mass, which is nearly linear, so that states are nearly Gaussian; with a policy that is hardly bent."""
    environment, agent = learned(MOMENTS, iterations=1, start=0.1)
    policy = RadialPolicy.drawn(environment.seen(torch.as_tensor(episode(environment, shaken(1), 1, 40).x)), 1, 4,
                                np.random.default_rng(0), torch.zeros(2).double())
    exact = agent.expected_cost()(policy)
    agent.config = replace(agent.config, way=PARTICLES, particles=20_000)
    assert float(exact) == pytest.approx(float(agent.expected_cost()(policy)), rel=0.02)


def test_what_it_cannot_do_is_refused():
    arm = SimpleNamespace(low=-np.ones(1), high=np.ones(1))
    with pytest.raises(ConfigError, match=r"pilco.way: moments are of goals .* expected particles"):
        Agent(arm, Settings(way=MOMENTS), GP, 0)
    arm.high = 2 * arm.high
    with pytest.raises(ConfigError, match=r"expected actions in \[-1, 1\]"):
        Agent(arm, SMALL, GP, 0)


def test_an_optimisation_sees_the_same_draws_every_time_and_gets_better():
    _, agent = learned(PARTICLES, iterations=1)
    cost = agent.expected_cost()
    before = cost(agent.policy)
    assert torch.equal(before, cost(agent.policy))
    after, better = descend(cost, agent.policy, 5)
    assert after < float(before) and float(cost(better)) == pytest.approx(after)


def test_moments_of_a_step_of_the_cart_pole_are_finite_and_differentiable():
    """Through sines, policy, squash, processes and integration, against finite differences."""
    environment = CartPole(period=0.1)
    agent = Agent(environment, Settings(way=MOMENTS, horizon=3, bases=3, iterations=1, restarts=1, width=1.0), GP, 0)
    e = episode(environment, shaken(0), 0, 15)
    agent.learn(e.x[:-1], environment.data(e.x[:-1], e.a, e.x[1:]))
    cost, p = agent.expected_cost(), agent.policy.parameters()
    value = lambda p: cost(agent.policy.with_parameters(p))  # noqa: E731
    gradient = torch.func.grad(value)(p)
    along = torch.randn(len(p), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = 1e-5
    difference = (value(p + h * along) - value(p - h * along)) / (2 * h)
    assert float(gradient @ along) == pytest.approx(float(difference), rel=1e-5)


def test_positions_follow_speeds():
    """Exactly where the acceleration is constant over a step, whatever the process says."""
    rng, h = np.random.default_rng(0), 0.1
    w = rng.standard_normal((40, 3))  # position, speed, action
    dv = 0.3 * w[:, 2:] + 0.1 * w[:, 1:2]
    data = Data(None, w, np.hstack([h * (w[:, 1:2] + 0.5 * dv), dv]))
    model = Integrated.fit(data, h, GP, 0)
    found = model.mean(torch.as_tensor(w)).numpy()
    assert np.allclose(found[:, 0], h * (w[:, 1] + 0.5 * found[:, 1]), rtol=1e-12)
    assert np.allclose(found, data.y, atol=0.02)


@pytest.fixture(scope="module")
def of_ring():
    """A trainer of a planar arm after one random trial, without an optimisation worth the name."""
    chosen = settings("planar2", "gaussian", robot={"step": 0.1}, gp={"inducing": 10, "steps": 5},
                      pilco={"horizon": 2, "particles": 5, "bases": 6, "iterations": 1, "restarts": 1},
                      trainer={"seconds": 2.0})
    config, run, trainer = begin(chosen, "pilco", 0)
    list(rows_of(config, run, trainer, 1, 0))
    return run, trainer


def test_its_policy_is_played_from_a_file_as_it_was_learned(of_ring, tmp_path):
    run, trainer = of_ring
    save(trainer.learned(), tmp_path / "policy.npz")
    policy, robot = load(tmp_path / "policy.npz", run.robot), run.robot
    policy.target = trainer.target
    learned, x = trainer.policy(), np.zeros(robot.n)
    assert all(np.abs(policy.arrays[name]).max() > 1e-6 for name in ("weights", "linear", "bias"))
    for step in range(6):
        q = robot.home + 0.1 + 0.02 * step
        x[robot.slice("joint/position")] = q
        x[robot.slice(f"site/{robot.sites[0]}/position")] = robot.tool_position(q)
        expected = trainer.known.scale * trainer.agent.act(trainer.known.observe(x, trainer.target))
        if step == 0:
            first = expected
        effort, noise = policy.act(x, step)
        assert noise is None and np.allclose(effort, first if step < 5 else expected, rtol=1e-9)  # it lasts for 0.1 s
    assert np.abs(first - expected).max() > 1e-6 and learned.horizon is policy.horizon is None
    assert policy.distance(x, 0) < 10.0
    x[robot.slice("joint/velocity")] = 100.0
    assert policy.distance(x, 0) > 10.0


def test_a_file_for_another_robot_or_with_nonsense_is_refused(of_ring, tmp_path):
    run, trainer = of_ring
    save(trainer.learned(), tmp_path / "policy.npz")
    other = assembly.make_robot(settings("planar2", "gaussian", robot={"period": 0.01}))
    with pytest.raises(ConfigError, match=r"policy.npz: policy: made for a period of 0.02 s"):
        load(tmp_path / "policy.npz", other)
    broken = trainer.learned()
    broken.arrays["spread"] = 0 * broken.arrays["spread"]
    save(broken, tmp_path / "broken.npz")
    with pytest.raises(ConfigError, match="expected positive spreads"):
        load(tmp_path / "broken.npz", run.robot)
