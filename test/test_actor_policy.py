"""The actor of SAC as a policy of the ring: the same in torch and without, its noise, its file, and what is far."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import settings
from shapes import unchecked

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.ring.network_policy import TRAINED
from mbrl_ros.ring.policy import load, save
from mbrl_ros.trainers.on_steps import SacOnRobot
from mbrl_ros.trainers.sac import Settings
from mbrl_ros.types import Trial

CONFIG = Settings(hidden=16, start=40, batch=32)


def trainer(seed=0):
    made = settings("planar2", "gaussian", trainer={"target": [0.3, 0.0, 1.0]})
    return SacOnRobot(CONFIG, assembly.make_robot(made), made, seed)


def states(robot, count, seed=0):
    """Random states about home (count, n), the tool where the joints put it."""
    rng, m = np.random.default_rng(seed), robot.m
    x = 0.2 * rng.standard_normal((count, robot.n))
    x[:, :m] += robot.home
    x[:, 2 * m : 2 * m + 6] = [robot.kinematics(row[:m], row[m : 2 * m])[0] for row in x]
    return x


def trial(robot, count=60, seed=0):
    x = states(robot, count + 1, seed)
    u = 0.1 * np.random.default_rng(seed).uniform(-1, 1, (count, robot.m)) * robot.effort_limit
    return Trial(x, u, np.arange(count + 1) * 20_000_000, robot.state_names, robot.joints)


@pytest.fixture(scope="module")
def learned():
    made = trainer()
    made.update([trial(made.robot)])
    return made


def test_in_the_ring_it_is_what_was_learned(learned):
    played, known, x = learned.learned(), learned.known, states(learned.robot, 20, seed=1)
    played.target = learned.target
    expected = [known.scale * learned.agent.act(known.observe(row, learned.target), noise=False) for row in x]
    assert np.allclose([played.act(row, 0)[0] for row in x], expected, rtol=1e-4, atol=1e-4 * known.scale)
    assert (np.abs(expected) <= known.scale).all() and np.abs(expected).max() > 0.01


def test_its_noise_is_that_of_the_actor_to_first_order(learned):
    agent, known, x = learned.agent.agent, learned.known, states(learned.robot, 1, seed=2)[0]
    with torch.no_grad():
        bias = agent.actor.b[-1]
        before, bias[..., learned.robot.m :] = bias.clone(), -6.0
    played = learned.learned()
    played.target = learned.target
    seen = learned.agent.seen(known.observe(x, learned.target)).expand(20_000, -1)
    drawn = known.scale * agent.draw(seen)[0].detach().double().numpy()
    effort, Sigma = played.act(x, 0)
    with torch.no_grad():
        bias.copy_(before)
    assert np.allclose(drawn.mean(0), effort, atol=4 * np.sqrt(np.diag(Sigma) / len(drawn)).max())
    assert np.allclose(np.cov(drawn.T), Sigma, atol=0.05 * Sigma.max())


def test_an_effort_lasts_as_long_as_a_step(learned):
    arrays = learned.learned().numbers()
    held = type(learned.learned())({**arrays, "every": np.array(3)}, learned.robot)
    held.target = learned.target
    x = states(learned.robot, 4)
    first, *others, later = (held.act(row, step)[0] for step, row in enumerate(x))
    assert all(np.array_equal(first, other) for other in others) and not np.array_equal(first, later)


def test_nothing_it_has_seen_is_far_and_before_that_nothing_is_known(learned):
    played, known, seen = learned.learned(), learned.known, trial(learned.robot)
    played.target = learned.target
    assert max(played.distance(x, 0) for x in seen.x[:-1]) <= TRAINED + 0.01
    assert played.distance(seen.x[0] + 10.0, 0) > 2 * TRAINED
    assert known.scale.shape == (learned.robot.m,)
    new = trainer().policy()
    new.target = learned.target
    assert new.distance(seen.x[0] + 10.0, 0) == 0.0


def test_there_and_back_by_file_is_exact_and_other_files_are_refused_in_a_line(learned, tmp_path):
    path, x = tmp_path / "p.npz", states(learned.robot, 1)[0]
    save(learned.learned(), path)
    back, played = load(path, learned.robot), learned.learned()
    back.target = played.target = learned.target
    assert all(np.array_equal(*pair) for pair in zip(back.act(x, 0), played.act(x, 0), strict=True))
    with np.load(path) as content:
        good = dict(content)
    for change, expected in [({"W1": good["W1"][:-1]}, "policy: W1: expected shape"),
                             ({"every": np.array(0)}, "every: expected at least one period"),
                             ({"b2": good["b2"] * np.nan}, "policy: b2"),
                             ({"scale": -good["scale"]}, "expected positive scales"),
                             ({"period": np.array(0.01)}, "made for a period of 0.01 s")]:
        np.savez(path, **{**good, **change})
        with unchecked(), pytest.raises(ConfigError, match=expected) as caught:
            load(path, learned.robot)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_same_trials_teach_the_same_and_every_step_counts():
    first, again = trainer(seed=3), trainer(seed=3)
    figures = [made.update([trial(made.robot, 60), trial(made.robot, 30, seed=1)]) for made in (first, again)]
    assert figures[0] == figures[1] and figures[0]["transitions"] == 90.0
    arrays = [made.learned().arrays for made in (first, again)]
    assert all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])


def test_a_joint_that_gets_too_fast_is_an_end():
    made = trainer()
    fast = trial(made.robot, 10)
    fast.x[-1, made.robot.m] = 2 * made.known.limits.overspeed[0]
    made.update([fast])
    ends = made.agent.replay._rows[:10, -1]
    assert ends.tolist() == [0.0] * 9 + [1.0]
