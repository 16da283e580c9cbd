"""Environments: their physics, what ends them and what only stops them, and what a model of them is given."""
from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pytest
import torch
from arms import make, settings
from checks import check_jacobian
from regressions import linear

from mbrl_ros.config import ConfigError
from mbrl_ros.environments.cartpole import CART, GRAVITY, LENGTH, POLE, RAIL, CartPole
from mbrl_ros.environments.environment import Observed, Return, episode
from mbrl_ros.environments.ring import FAULT, RingEnvironment
from mbrl_ros.models.angles import AngleModel
from mbrl_ros.models.features import Data, Features
from mbrl_ros.models.kinematics import Kinematics
from mbrl_ros.models.prior import fit

torch.set_num_threads(1)


@cache
def ring(robot: str = "planar2", **more) -> RingEnvironment:
    return RingEnvironment(settings(robot, environment={"steps": 20, **more}), seed=100)


def random_actions(environment, seed):
    rng = np.random.default_rng(seed)
    return lambda x: rng.uniform(environment.low, environment.high)


def test_without_friction_and_force_a_cart_pole_keeps_energy_and_momentum():
    pole = CartPole(friction=0.0)
    x = np.random.default_rng(0).standard_normal((50, 4)) * [1.0, 2.0, 1.0, 3.0]

    def kept(x):
        _, angle, v, rate = x.T
        tip = np.stack([v + LENGTH * rate * np.cos(angle), -LENGTH * rate * np.sin(angle)])
        energy = 0.5 * CART * v**2 + 0.5 * POLE * (tip**2).sum(0) + POLE * GRAVITY * LENGTH * np.cos(angle)
        return np.stack([energy, CART * v + POLE * tip[0]])
    before, a = kept(x), np.zeros((50, 1))
    for _ in range(25):
        x = pole.after(x, a)
    assert np.allclose(kept(x), before, atol=1e-4)


def test_a_cart_pole_without_a_pole_to_move_is_a_mass():
    """Hanging at rest, a push of one step moves the centre of mass by F h^2 / 2 (M + m)."""
    pole = CartPole(friction=0.0)
    x = pole.after(np.array([0.0, np.pi, 0.0, 0.0]), np.array([1.0]))
    centre = x[0] + POLE / (CART + POLE) * LENGTH * np.sin(x[1])
    assert centre == pytest.approx(10.0 * 0.04**2 / 2 / (CART + POLE), rel=1e-5)


def test_a_time_limit_is_no_end_and_the_end_of_the_rail_is():
    pole = CartPole(steps=5)
    pole.reset(0)
    steps = [pole.step(np.zeros(1)) for _ in range(5)]
    assert [s.truncated for s in steps] == [False] * 4 + [True] and not any(s.terminated for s in steps)
    e = episode(CartPole(), lambda x: np.ones(1), 0, 200)
    assert e.terminated and len(e.a) < 200 and abs(e.x[-1, 0]) > RAIL >= abs(e.x[-2, 0])


@pytest.mark.parametrize("make_one", [CartPole, ring])
def test_rewards_and_ends_of_steps_are_those_of_batches_and_a_seed_is_an_episode(make_one):
    environment = make_one()
    e, again, other = (episode(environment, random_actions(environment, 0), seed, 60) for seed in (1, 1, 2))
    assert np.array_equal(e.x, again.x) and np.array_equal(e.reward, again.reward)
    assert not np.array_equal(e.x[0], other.x[0])
    z = environment.inner(torch.as_tensor(e.x[1:]))
    assert np.allclose(environment.reward(z, torch.as_tensor(e.a)).numpy(), e.reward, rtol=0, atol=1e-9)
    ends = environment.terminated(z).numpy()
    assert not ends[:-1].any() and ends[-1] == e.terminated
    assert e.x.shape == (len(e.a) + 1, environment.n) and e.a.shape[1] == environment.m


def test_what_comes_after_an_end_is_not_earned():
    pole = CartPole()
    x = torch.zeros(2, 4, 4, dtype=torch.float64)  # upright all the time: a reward of one each
    x[1, 2, 0] = RAIL + 1.0
    J = Return(pole).evaluate(x, torch.zeros(2, 3, 1, dtype=torch.float64))
    assert J[0] == pytest.approx(-3.0) and J[1] == pytest.approx(-1.0, abs=1e-6)
    with pytest.raises(ConfigError, match="planner that draws candidates"):
        Return(pole).quadratize(x, x)


# --- the ring


def test_the_ring_ends_in_time_keeps_its_limits_and_shows_the_target():
    environment = ring("arm")
    robot, x = environment.robot, environment.reset(3)
    tool = robot.slice("site/tool/position")
    efforts = [x[robot.slice("effort/1")]]
    for i in range(20):
        step = environment.step(np.full(7, 1.0 if i % 2 else -1.0))
        efforts.append(step.observation[robot.slice("effort/1")])
        assert np.allclose(step.observation[-3:], environment.target - step.observation[tool])
    assert step.truncated and not step.terminated
    changes = np.abs(np.diff(efforts, axis=0))
    assert (np.abs(efforts) <= 0.25 * robot.effort_limit + 1e-9).all()
    assert (changes <= robot.effort_rate_limit * robot.period + 1e-9).all() and changes.max() > 19.0


def test_a_model_of_the_ring_knows_the_limit_on_the_rate_of_efforts():
    """From rest, where no brake acts: what it says acts is what did."""
    environment = ring("arm")
    robot, rng = environment.robot, np.random.default_rng(0)
    x, model = environment.reset(0), environment.model(None)
    for _ in range(4):
        a = rng.uniform(-0.3, 0.3, 7) + np.array([1.0, 0, 0, 0, 0, 0, 0]) * rng.choice([-0.7, 0.7])
        said = model._effort(environment.inner(torch.as_tensor(x)), torch.as_tensor(a)).numpy()
        x_next = environment.step(a).observation
        assert np.allclose(said, x_next[robot.slice("effort/1")], atol=1e-4)
        x = x_next


def test_rewards_of_the_ring():
    z = ring("arm").inner(torch.as_tensor(ring("arm").reset(0)))
    a = torch.full((7,), 0.5, dtype=torch.float64)
    square = float(np.square(ring("arm").reset(0)[-3:]).sum())
    assert float(ring("arm").reward(z, a)) == pytest.approx(-square - 0.01 * 7 * 0.25)
    task = ring("arm", reward="task")
    expected = -task.robot.step * (1e3 * min(square, 0.09) + 0.01 * 7 * (0.25 * 0.5) ** 2)
    assert float(task.reward(z, a)) == pytest.approx(expected)
    z[7] = 1.01 * task.limits.overspeed[0]
    assert bool(task.terminated(z)) and float(task.reward(z, a)) == -FAULT


def test_a_model_of_the_ring_moves_by_its_regression():
    environment = ring("arm")
    e = episode(environment, random_actions(environment, 0), 0, 20)
    data = environment.data(e.x[:-1], e.a, e.x[1:])
    model = environment.model(fit("none", data, {}, 0))
    z = environment.inner(torch.as_tensor(e.x[:-1]))
    a = torch.as_tensor(environment.acted(e.x[1:], e.a))
    assert np.allclose(model.w(z, a).numpy(), data.w, atol=1e-9)  # what acted is what is learned from
    exact = model.next_state(z, a, torch.as_tensor(data.y))
    assert torch.allclose(exact, environment.inner(torch.as_tensor(e.x[1:])), atol=1e-9)
    p = model.predict(z, a)
    assert torch.allclose(p.mean, model.mean(z, a)) and not p.cov[:, 14:].any()


def test_kinematics_of_the_tool_alone_are_those_of_all():
    for name in ("planar2", "arm", "arm6"):
        robot = make(name)
        q = torch.as_tensor(robot.home + np.random.default_rng(0).standard_normal((3, 4, robot.m)))
        kinematics = Kinematics(robot)
        assert torch.allclose(kinematics.tool(q), kinematics(q, torch.zeros_like(q))[..., :3], atol=1e-12)


# --- angles


def test_angles_are_seen_as_sines_and_cosines():
    known = Observed(3, -np.ones(1), np.ones(1), angles=(1,))
    data = known.data(*(np.random.default_rng(0).standard_normal((60, k)) for k in (3, 1, 3)))
    model = known.model(fit("gaussian", data, {}, 0))
    x, u = torch.tensor([0.3, 1.0, -0.2], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    assert model.w(x, u).tolist() == pytest.approx([0.3, np.sin(1.0), -0.2, np.cos(1.0), 0.5])
    turned = x + torch.tensor([0.0, 2 * np.pi, 0.0], dtype=torch.float64)
    assert torch.allclose(model.mean(turned, u) - turned, model.mean(x, u) - x)
    check_jacobian(lambda xu: model.mean(xu[:3], xu[3:]), torch.cat([x, u]), model.jacobian(x, u)[1])


def test_without_angles_it_is_the_feature_model():
    data = linear(50, 4, 3, seed=0)[0]
    features = Features((0, 1, 2), (0, 1, 2), 3, 1)
    regression = fit("gaussian", Data(features, data.w, data.y), {}, 0)
    x, u = torch.as_tensor(data.w[:5, :3]), torch.as_tensor(data.w[:5, 3:])
    model = AngleModel(features, regression)
    assert torch.allclose(model.mean(x, u), x + regression.mean(torch.as_tensor(data.w[:5])))
    assert model.predict(x, u).cov.shape == (5, 3, 3)


# --- gymnasium


def test_without_gymnasium_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "mbrl_ros.environments.gyms", raising=False)
    with pytest.raises(ConfigError, match=r"^environments: gymnasium is missing: pip install gymnasium$"):
        __import__("mbrl_ros.environments.gyms")


@pytest.fixture
def gyms():
    pytest.importorskip("gymnasium")
    from mbrl_ros.environments import gyms
    return gyms


@pytest.mark.filterwarnings("ignore:.*Box observation space.*infinity")  # nor has a position any bound
def test_gymnasium_has_nothing_to_say_against_our_arm(gyms):
    from gymnasium.utils.env_checker import check_env
    env = gyms.ArmEnv(ring("planar2"))
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    first, second = env.reset()[0], env.reset()[0]
    assert not np.allclose(first[-3:], second[-3:])  # another target every time
    assert np.allclose(env.reset(seed=0)[0], env.reset(seed=0)[0])


def test_an_environment_of_gymnasium_is_one_of_ours(gyms):
    import gymnasium
    angle = lambda x: torch.atan2(x[..., 1], x[..., 0])  # noqa: E731
    theirs = gymnasium.make("Pendulum-v1")
    ours = gyms.GymEnvironment(theirs)
    e = episode(ours, random_actions(ours, 0), 3, 1000)
    assert len(e.a) == 200 and not e.terminated  # its time limit is not an end
    assert e.x.shape[1] == ours.n == 3 and ours.low == -2.0
    again = gymnasium.make("Pendulum-v1")
    x, _ = again.reset(seed=3)
    for t in range(10):
        assert np.allclose(x, e.x[t])
        x, reward, *_ = again.step(e.a[t].astype(np.float32))
        assert reward == pytest.approx(e.reward[t], abs=1e-5)
    a, x_next = torch.as_tensor(e.a), torch.as_tensor(e.x)
    with pytest.raises(ConfigError, match="reward as a function"):
        ours.reward(x_next[1:], a)
    # theirs is of the state before the action, which is a function of two
    known = gyms.GymEnvironment(theirs, reward=lambda z, a: -angle(z).square() - 0.1 * z[..., 2].square())
    before = known.reward(x_next[:-1], a) - 0.001 * a[:, 0].square()
    assert np.allclose(before.numpy(), e.reward, atol=1e-4)


def test_what_is_no_row_of_numbers_is_refused(gyms):
    import gymnasium
    with pytest.raises(ConfigError, match="expected actions in a Box"):
        gyms.GymEnvironment(gymnasium.make("CartPole-v1"))
