"""A network as a policy: the same in torch and in the ring, its slope, its file, its target, and where it is left."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import double_integrator, make, settings
from shapes import unchecked

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.ring.controller import HOLD, POLICY
from mbrl_ros.ring.network_policy import TRAINED, View
from mbrl_ros.ring.policy import load, save
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.types import Gaussian, StateEstimate

PERIOD = 20_000_000  # [ns]
ROBOT = make()
VIEW = View(ROBOT)
TARGET = ROBOT.tool_position(ROBOT.home) + np.array([0.05, 0.0, 0.02])


def states(count, seed=0, spread=0.2):
    """Random states about home (count, n), the tool where the joints put it."""
    rng, m = np.random.default_rng(seed), ROBOT.m
    x = spread * rng.standard_normal((count, ROBOT.n))
    x[:, :m] += ROBOT.home
    x[:, 2 * m : 2 * m + 6] = [ROBOT.kinematics(row[:m], row[m : 2 * m])[0] for row in x]
    return x


def network(seed=0, spread=0.2):
    """Random weights, scaled by random states."""
    made = PolicyNetwork(VIEW.size, ROBOT.m, 16, seed)
    made.seen(VIEW(states(500, seed, spread), TARGET), ROBOT.effort_limit)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in made.parameters():
            value += 0.02 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    return made


def policy(**given):
    made = network(**given).policy(ROBOT, 0.04 * np.eye(ROBOT.m))
    made.target = TARGET
    return made


def test_what_it_sees_is_named_and_the_target_is_seen_from_the_tool():
    x = states(3)
    o = VIEW(x, TARGET)
    assert VIEW.names[-4:] == ("effort/1/elbow", "target/x", "target/y", "target/z") and o.shape == (3, VIEW.size)
    assert np.allclose(o[:, -3:] + x[:, VIEW.tool], TARGET)
    assert np.array_equal(o[:, :-3], x[:, : VIEW.size - 3])  # with one past effort all of x is seen
    older = make(effort_history=3)
    assert View(older).names == VIEW.names


def test_in_the_ring_it_is_what_was_trained():
    made, x = network(), states(20, seed=1)
    expected = made(torch.as_tensor(VIEW(x, TARGET))).detach().numpy()
    played = policy()
    assert np.allclose([played.act(row, 7)[0] for row in x], expected, rtol=1e-12, atol=1e-12)
    assert np.allclose(played.act(x[0], 0)[1], 0.04 * np.eye(ROBOT.m))


def test_slope_equals_finite_differences():
    played, x, h = policy(), states(1, seed=2)[0], 1e-6
    u, slope = played.slope(x)
    assert np.allclose(u, played.act(x, 0)[0], rtol=1e-12)
    differences = [(played.act(x + h * e, 0)[0] - played.act(x - h * e, 0)[0]) / (2 * h) for e in np.eye(ROBOT.n)]
    assert np.allclose(slope, np.transpose(differences), rtol=1e-6, atol=1e-6)


def test_there_and_back_by_file_is_exact(tmp_path):
    save(policy(), tmp_path / "p.npz")
    back, x = load(tmp_path / "p.npz", ROBOT), states(1)[0]
    back.target = TARGET
    assert np.array_equal(back.act(x, 0)[0], policy().act(x, 0)[0])
    assert back.distance(x, 0) == policy().distance(x, 0)


def test_other_files_are_refused_in_a_line(tmp_path):
    path = tmp_path / "p.npz"
    save(policy(), path)
    with np.load(path) as content:
        good = dict(content)
    for change, expected in [({"kind": np.array("magic")}, "linear, network, radial, actor, latent, got 'magic'"),
                             ({"W2": good["W2"][:-1]}, "policy: W2: expected shape"),
                             ({"A": np.full_like(good["A"], np.nan)}, "policy: A"),
                             ({"A": np.array([object()])}, "not a policy file"),
                             ({"scale": -good["scale"]}, "expected positive scales"),
                             ({"period": np.array(0.01)}, "made for a period of 0.01 s"),
                             ({"observation": good["observation"][1:]}, "missing: joint/shoulder/position"),
                             ({"joint_names": np.array(["elbow", "shoulder"])}, "the order differs")]:
        np.savez(path, **{**good, **change})
        with unchecked(), pytest.raises(ConfigError, match=expected) as caught:
            load(path, ROBOT)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_it_was_trained_on_is_far_and_redundant_coordinates_that_disagree_are():
    played, known = policy(), states(500)
    assert max(played.distance(x, 0) for x in known) <= TRAINED + 1e-9
    x = known[0].copy()
    x[VIEW.tool] = x[VIEW.tool] + 0.8 * (ROBOT.tool_position(ROBOT.home + 1.0) - x[VIEW.tool])
    single = np.abs((VIEW(x, TARGET) - played.arrays["mean"]) / played.arrays["scale"]).max()
    assert played.distance(x, 0) > 1.5 * single  # each of its coordinates alone is common
    farther = [played.distance(ROBOT.n * [0.0] + known[0] * s, 0) for s in (1.0, 10.0, 100.0)]
    assert farther[1] > TRAINED and farther[2] > 9 * farther[1]


def controller(given, **config):
    made = assembly.make_controller(settings(controller=config), ROBOT)
    made.set_policy(given)
    return made


def play(made, x, step):
    belief = Gaussian(x, 1e-6 * np.eye(ROBOT.n))
    return made.act(StateEstimate(step * PERIOD, 0, step, belief, np.zeros(ROBOT.m)), double_integrator(ROBOT))


def test_it_follows_the_target_of_the_controller_and_without_one_the_tool_is_to_stay():
    x, rate = states(1, spread=0.05)[0], np.inf
    for target in (None, TARGET, TARGET + 0.03):
        played = policy()
        made = controller(played)
        made.robot.effort_rate_limit = np.full(ROBOT.m, rate)
        if target is not None:
            made.set_target(target)
        made.request(POLICY)
        effort = play(made, x, 0)
        played.target = x[VIEW.tool] if target is None else made.mpc.target
        assert made.mode == POLICY and np.allclose(effort, np.clip(played.act(x, 0)[0], -40.0, 40.0)[:2])
    made.set_target(TARGET)
    again = play(made, x, 1)
    played.target = made.mpc.target
    assert np.allclose(again, played.act(x, 1)[0])  # the one that is asked for now


def test_far_from_what_it_was_trained_on_it_hands_over_to_hold_with_the_reason():
    made, x = controller(policy()), states(1, spread=0.05)[0]
    made.set_target(TARGET)
    made.request(POLICY)
    play(made, x, 0)
    assert made.mode == POLICY
    x[ROBOT.m : 2 * ROBOT.m] = 3.5  # [rad/s], below a protective stop
    play(made, x, 1)
    assert made.mode == HOLD
    assert made.reason.startswith("the policy is left: at step 1 the state is ")
    assert made.refusal(POLICY).startswith("the policy is left: at step 0")
