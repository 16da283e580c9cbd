"""Trials in a latent space that is known: a point that is pushed about, of which z is position and velocity."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mbrl_ros.models.latent import Sequences, sums, vague
from mbrl_ros.models.lds import predicted
from mbrl_ros.trainers.latent import Config, Goal, LatentLqr, LatentMpc, in_newtons
from mbrl_ros.trainers.lqr_flm import Settings
from mbrl_ros.types import Gaussian

STEPS, N, M = 25, 4, 2
A = np.block([[np.eye(2), 0.04 * np.eye(2)], [np.zeros((2, 2)), 0.98 * np.eye(2)]])
B = np.vstack([np.zeros((2, 2)), 0.02 * np.eye(2)])
LIMIT, HOLD, GOAL = np.array([20.0, 10.0]), np.array([3.0, -1.0]), np.array([0.25, -0.15])
ROBOT = SimpleNamespace(m=M, effort_limit=LIMIT, period=0.04)


def move(z, u):
    return A @ z + B @ (u - HOLD)


def play(act, seed, noise=0.002):
    rng, z, u = np.random.default_rng(seed), [np.zeros(N)], []
    for t in range(STEPS):
        u.append(act(z[-1], t))
        z.append(move(z[-1], u[-1]) + noise * rng.standard_normal(N))
    return np.array(u), np.array(z)


def trials(acts, seed):
    u, z = (np.array(part) for part in zip(*(play(act, seed + i) for i, act in enumerate(acts)), strict=True))
    distance = np.linalg.norm(z[..., :2] - GOAL, axis=-1)
    return Sequences(np.zeros((*z.shape[:2], 1, 1, 1), np.uint8), u, distance), z


@pytest.fixture
def model():
    """What is learned from random motion; the distance that it believes in is wrong."""
    rng = np.random.default_rng(0)
    pushes = HOLD + 0.2 * LIMIT * rng.standard_normal((30, STEPS, M))
    data, z = trials([lambda _z, t, i=i: pushes[i, t] for i in range(30)], 100)
    C = torch.tensor(np.eye(3, 2) + 0.1 * rng.standard_normal((3, 2)))
    made = SimpleNamespace(config=SimpleNamespace(size=N // 2), C=C, c=-C @ torch.tensor(GOAL) + 0.03, unit=1.0,
                           u_mean=torch.as_tensor(HOLD + 0.5), u_scale=torch.as_tensor(LIMIT))
    made.in_units = lambda u: (u - made.u_mean) / made.u_scale
    pairs = sums(torch.as_tensor(z), made.in_units(torch.as_tensor(data.u)))
    made.belief = vague(N // 2, M).worth(0.01).posterior(*pairs)
    return made


def test_dynamics_with_efforts_in_their_units_are_the_same(model):
    known = model.belief.expected
    of = in_newtons(model, known.F, known.Sigma)
    z, u = torch.randn(N, dtype=torch.float64), torch.tensor([4.0, -2.0], dtype=torch.float64)
    wanted = predicted(Gaussian(z, torch.zeros(N, N, dtype=torch.float64)), model.in_units(u), known).mean
    assert torch.allclose(of.F @ torch.cat([z, u]) + of.f, wanted)
    assert np.allclose(of.F, np.hstack([A, B]), atol=0.02)


def test_the_distance_follows_what_was_measured_and_the_cost_is_made_of_it(model):
    goal = Goal(Config(near=1.0), ROBOT, HOLD, model)
    z = 0.3 * np.random.default_rng(1).standard_normal((40, N))
    measured = np.linalg.norm(z[:, :2] - GOAL, axis=1)
    before = np.abs(np.linalg.norm(z @ goal.C.T + goal.c, axis=1) - measured).mean()
    goal.adapt(z, measured)
    after = np.linalg.norm(z @ goal.C.T + goal.c, axis=1)
    assert np.abs(after - measured).mean() < 0.1 * before
    x, u = torch.as_tensor(z[: STEPS + 1]), torch.as_tensor(HOLD + np.ones((STEPS, M)))
    weight, (c, speeds) = np.ones(STEPS + 1), (goal.config, np.square(z[: STEPS + 1, N // 2 :]).sum(-1))
    weight[-1] = 5.0
    effort = 0.5 * c.effort * STEPS * (1 / LIMIT**2).sum()
    cost = 0.5 * (weight * (c.weight * after[: STEPS + 1] ** 2 + c.speed * speeds)).sum() + effort
    assert float(goal.over(STEPS, 5.0).evaluate(x, u)) == pytest.approx(cost)
    goal.adapt(z[: STEPS + 1], measured[: STEPS + 1])  # as if of one trial: what is left, c makes up for
    cost = 0.5 * (weight * (c.weight * measured[: STEPS + 1] ** 2 + c.speed * speeds)).sum() + effort
    assert float(goal.over(STEPS, 5.0, True).evaluate(x, u)) == pytest.approx(cost)
    assert float(goal.over(STEPS, 5.0).evaluate(x, u)) != pytest.approx(cost)
    seen = Sequences(np.zeros((1, STEPS + 1, 1, 1, 1)), u[None].numpy(), measured[None, : STEPS + 1])
    terminal = 0.5 * (c.terminal - 5.0) * (c.weight * measured[STEPS] ** 2 + c.speed * speeds[-1])
    assert goal.cost(seen, z[None, : STEPS + 1]) == pytest.approx(cost + terminal)


def test_a_policy_does_the_same_once_z_is_another_affine_one(model):
    learner = LatentLqr(model, Goal(Config(), ROBOT, HOLD, model), Settings(), STEPS)
    for i in range(2):
        learner.update(*trials([learner.act(1.0, 10 * i + k) for k in range(8)], 10 * i))
    rng = np.random.default_rng(2)
    A, b, before = np.eye(N) + 0.2 * rng.standard_normal((N, N)), rng.standard_normal(N), learner.now
    seen = rng.standard_normal((5, STEPS + 1, N))  # z as it was
    new = lambda z: np.linalg.solve(A, (z - b)[..., None])[..., 0]  # noqa: E731
    learner.see_anew(seen, new(seen), new(learner.best[3]))
    at = rng.standard_normal((STEPS, N))
    was, now = (p.u_hat + np.einsum("tmn,tn->tm", p.K, x - p.x_hat) + p.k
                for p, x in ((before, at), (learner.now, new(at))))
    assert np.allclose(was, now) and np.allclose(learner.now.Sigma, before.Sigma)
    learner.settle()
    assert learner.now is learner.best[1]


def test_a_policy_gets_there_by_trials_and_goes_back_where_they_were_dearer(model):
    learner = LatentLqr(model, Goal(Config(), ROBOT, HOLD, model), Settings(kl=5.0, kl_most=10.0, kl_least=0.5), STEPS)
    figures = []
    for i in range(8):
        figures.append(learner.update(*trials([learner.act(1.0, 10 * i + k) for k in range(8)], 10 * i)))
        assert figures[-1]["kl"] <= 1.01 * figures[-1]["bound"]
    final = trials([learner.act(0.0, 0)] * 3, 500)[0].distance
    assert final[:, 0].mean() > 0.25 and final[:, -1].mean() < 0.02
    worse, z = trials([lambda _z, _t: HOLD - 5.0] * 3, 600)
    kl, (_, policy, *_) = learner.kl, learner.best
    found = learner.update(worse, z)
    assert found["restored"] and learner.kl == max(0.5, 0.25 * kl)
    assert learner.best[1] is policy


def test_planning_anew_gets_there_at_once_and_stays_within_the_limits(model):
    learner = LatentMpc(model, Goal(Config(horizon=0.6), ROBOT, HOLD, model))
    somewhere = 0.3 * np.random.default_rng(1).standard_normal((40, N))
    learner.goal.adapt(somewhere, np.linalg.norm(somewhere[:, :2] - GOAL, axis=1))
    tests, z = trials([learner.act(0.0, 0)] * 2, 700)
    assert tests.distance[:, -1].mean() < 0.03
    assert (np.abs(tests.u) <= LIMIT).all() and (np.abs(tests.u) == LIMIT).any()
    before = learner.model.belief.nu
    learner.update(tests, z)
    assert float(learner.model.belief.nu - before) == 2 * STEPS

