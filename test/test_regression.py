"""The regression under imitation and guided policy search, and distillation: closed forms, orderings, soft targets."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import make

from mbrl_ros.models.ensemble import Ensemble, Training
from mbrl_ros.models.features import Data
from mbrl_ros.ring.learner import features_of
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.network_policy import View
from mbrl_ros.trainers.distil import asked, one_model
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.trainers.regression import CLIP, Wanted, clipped, covariance, regress
from mbrl_ros.types import LinearGaussianPolicy, TimedPolicy, Trial

ROBOT = make()
VIEW = View(ROBOT)
N, K_IN, M = 400, 5, 2


def linear_data(seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    o = rng.standard_normal((N, K_IN)) * [1, 10, 0.1, 1, 1] + [0, 5, 1, 0, 0]
    F = rng.standard_normal((M, K_IN))
    return o, o @ F.T + 3.0 + noise * rng.standard_normal((N, M)), F


def network(hidden=8, seed=0):
    return PolicyNetwork(K_IN, M, hidden, seed)


def test_what_is_linear_is_found_at_once():
    o, u, F = linear_data()
    made = network()
    missing = regress(made, Wanted(o, u, np.tile(np.eye(M), (N, 1, 1))), 0, 32, 1e-3, 0)
    assert missing < 0.01
    assert np.allclose(made.A.detach().numpy(), F * o.std(0) / u.std(0)[:, None], atol=0.005)  # in deviations


def test_inputs_are_scaled_once():
    made, (o, u, _) = network(), linear_data()
    regress(made, Wanted(o, u, np.tile(np.eye(M), (N, 1, 1))), 1, 32, 1e-3, 0)
    mean, whiten = made.mean.clone(), made.whiten.clone()
    regress(made, Wanted(3 * o + 1, u, np.tile(np.eye(M), (N, 1, 1))), 1, 32, 1e-3, 0)
    assert torch.equal(made.mean, mean) and not torch.equal(made.whiten, whiten)


def test_where_two_are_wanted_the_more_precise_one_counts_by_its_precision():
    """The same input with the effort 0 of precision 1, and 1 of precision 3: 3/4 of it, in each joint its own."""
    o = np.repeat(np.random.default_rng(0).standard_normal((N // 2, K_IN)), 2, 0)
    u = np.tile([[0.0, 1.0], [1.0, 0.0]], (N // 2, 1))
    P = np.tile(np.stack([np.diag([1.0, 1.0]), np.diag([3.0, 0.5])]), (N // 2, 1, 1))
    made = network()
    for seed in range(2):
        regress(made, Wanted(o, u, P), 1500, N, 0.02, seed)
    with torch.no_grad():
        acted = made(torch.as_tensor(o)).mean(0).numpy()
    assert np.allclose(acted, [0.75, 1.0 / 1.5], atol=0.03)


def test_precisions_are_clipped_and_the_covariance_is_the_inverse_of_their_mean():
    P = np.array([1.0, 1.0, 1.0, 1e6])[:, None, None] * np.eye(M)
    assert np.allclose(clipped(P)[:, 0, 0], [1.0, 1.0, 1.0, CLIP])
    wanted = Wanted(np.zeros((4, K_IN)), np.zeros((4, M)), clipped(P))
    assert np.allclose(covariance(wanted), np.eye(M) / (5.0 / 4.0))


def test_it_is_repeatable_and_more_steps_miss_less():
    o, _, _ = linear_data()
    u = np.stack([np.sin(2 * o[:, 0]), o[:, 3] * o[:, 4]], -1)
    wanted = Wanted(o, u, np.tile(np.eye(M), (N, 1, 1)))
    missing = [regress(network(32), wanted, steps, 128, 5e-3, 0) for steps in (0, 300, 300, 1500)]
    assert missing[1] == missing[2] and missing[3] < 0.5 * missing[1] < 0.5 * missing[0]


# --- several policies into one


def pulling(target, stiffness=30.0, T=20):
    """A linear policy of the joints to where the tool is at its target, with noise."""
    n, m = ROBOT.n, ROBOT.m
    K = np.zeros((m, n))
    K[:, VIEW.tool] = -stiffness * ROBOT.tool(ROBOT.home)[2].T
    K[:, m : 2 * m] = -np.diag(ROBOT.damping)
    x = np.zeros(n)
    x[VIEW.tool] = target
    arrays = (np.tile(a, (T, *np.ones(a.ndim, int))) for a in (x, np.zeros(m), K, np.zeros(m), 0.5 * np.eye(m)))
    return LinearPolicy(TimedPolicy(LinearGaussianPolicy(*arrays), ROBOT.period, ROBOT.state_names, ROBOT.joints, None),
                        ROBOT)


def near_home(seed, T=20):
    rng, m = np.random.default_rng(seed), ROBOT.m
    x = 0.3 * rng.standard_normal((T + 1, ROBOT.n))
    x[:, :m] += ROBOT.home
    x[:, 2 * m : 2 * m + 6] = [ROBOT.kinematics(row[:m], row[m : 2 * m])[0] for row in x]
    return Trial(x, np.zeros((T, m)), np.arange(T + 1) * 20_000_000, ROBOT.state_names, ROBOT.joints)


def test_several_policies_become_one_that_is_told_the_task_and_knows_those_in_between():
    home = ROBOT.tool_position(ROBOT.home)
    targets = [home + np.array([dx, 0.0, dz]) for dx in (-0.08, 0.08) for dz in (-0.08, 0.08)]
    wanted = Wanted.together([asked(pulling(target), [near_home(10 * i + j) for j in range(4)], target, VIEW)
                              for i, target in enumerate(targets)])
    made = PolicyNetwork(VIEW.size, ROBOT.m, 16, 0)
    regress(made, wanted, 200, 64, 3e-3, 0)
    one = made.policy(ROBOT, covariance(wanted))
    assert np.allclose(one.arrays["Sigma"], 0.5 * np.eye(ROBOT.m))  # as sure as all its teachers
    states = near_home(99).x
    for target in (*targets, home + 0.03):
        one.target = target
        said = np.array([one.act(x, 0)[0] for x in states])
        true = np.array([pulling(target).act(x, 0)[0] for x in states])
        assert np.abs(said - true).mean() < 0.1 * np.abs(true).mean()


# --- an ensemble into one network


@pytest.fixture(scope="module")
def ensemble():
    rng, features = np.random.default_rng(0), features_of(ROBOT)
    w = rng.standard_normal((600, features.dw))
    y = 0.1 * np.tanh(w @ rng.standard_normal((features.dw, features.dy))) + 0.01 * rng.standard_normal(
        (600, features.dy))
    data = Data(features, w, y)
    return Ensemble.fit(data, Ensemble.Config(members=3, hidden=16, steps=300), 0), data


def test_one_network_has_the_mean_and_the_covariance_of_an_ensemble(ensemble):
    model, data = ensemble
    student = one_model(model, data, Training(hidden=32, steps=1500), 0)
    assert student.count == 1
    w = torch.as_tensor(data.w[:200])
    taught, said = model.predict(w), student.predict(w)
    away = float((said.mean - taught.mean).square().mean().sqrt())
    single = Ensemble.fit(data, Ensemble.Config(members=1, hidden=32, steps=1500), 7)
    assert away < 0.7 * float((single.mean(w) - taught.mean).square().mean().sqrt())  # than one that saw the data only
    parts = [of.diagonal(dim1=-2, dim2=-1).mean() for of in (said.cov, taught.cov)]
    assert 1.0 <= float(parts[0] / parts[1]) < 1.5  # it counts what it misses, too
    assert torch.allclose(said.cov, said.cov.mT) and (torch.linalg.eigvalsh(student.R) > 0).all()


def test_surer_members_make_a_surer_network(ensemble):
    model, data = ensemble
    sure = replace(model, R=0.01 * model.R)
    config = Training(hidden=16, steps=100)
    assert torch.trace(one_model(sure, data, config, 0).R) < torch.trace(one_model(model, data, config, 0).R)
