"""Guided policy search: the linearised network, where its tasks are, and rounds of it."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import make, settings

from mbrl_ros.ring.network_policy import View
from mbrl_ros.simulation.world import World
from mbrl_ros.trainers.__main__ import train
from mbrl_ros.trainers.gps import conditions, linearised
from mbrl_ros.trainers.network import PolicyNetwork

ROBOT = make()


def test_a_network_that_is_linear_is_its_own_linearisation():
    view, rng = View(ROBOT), np.random.default_rng(0)
    network = PolicyNetwork(view.size, ROBOT.m, 4, 0)
    x, target = rng.standard_normal((3, 6, ROBOT.n)), np.array([0.3, 0.0, 0.8])
    network.seen(view(x.reshape(-1, ROBOT.n), target), np.array([40.0, 15.0]))
    with torch.no_grad():
        network.A.copy_(torch.as_tensor(rng.standard_normal(network.A.shape)))
    policy = network.policy(ROBOT, np.diag([4.0, 1.0]))
    policy.target = target
    near, other = linearised(policy, x), rng.standard_normal(ROBOT.n)
    assert near.K.shape == (6, ROBOT.m, ROBOT.n) and np.array_equal(near.Sigma[3], np.diag([4.0, 1.0]))
    for t in range(6):
        assert np.allclose(near.u_hat[t] + near.K[t] @ (other - near.x_hat[t]), policy.act(other, t)[0])


def test_tasks_are_places_of_the_slot_where_the_world_has_one_and_targets_else():
    worlds, targets = conditions(ROBOT, settings(), 3, 0.08, 100)
    assert worlds == [] and len(targets) == 3
    worlds, targets = conditions(ROBOT, settings(world={"slot": True, "slot_beside": 0.05}), 3, 0.08, 100)
    assert [round(of.slot_beside, 6) for of in worlds] == [-0.03, 0.05, 0.13] and isinstance(worlds[0], World)
    assert np.linalg.norm(targets[2] - targets[0]) == pytest.approx(0.16)


@pytest.mark.slow
def test_rounds_get_cheaper_within_the_bound_and_leave_a_network(tmp_path):
    given = settings("planar2", "gaussian", trainer={"seconds": 1.0, "trials": 4}, gps={"targets": 2, "steps": 500})
    rows = list(train(given, "gps", 6, 100, tmp_path))
    assert [row["target"] for row in rows] == [0.0, 1.0] * 3
    rounds = [row for row in rows if "round" in row]
    assert len(rounds) == 3 and (tmp_path / "policy.npz").exists()
    assert rounds[-1]["task_cost"] < 0.95 * rounds[0]["task_cost"]
    for row in rounds:
        assert row["kl"] <= 1.1 * row["bound"] and row["promised"] > 0
