"""The mode `policy` without a plant: what is played when, why it is left, and policy files."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import double_integrator, make, settings
from shapes import unchecked

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.ring.controller import HOLD, POLICY
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.policy import load, policy_of, read, save
from mbrl_ros.types import Gaussian, LinearGaussianPolicy, Plan, StateEstimate, TimedPolicy

PERIOD, T = 20_000_000, 6  # [ns], periods
ROBOT = make()
MODEL = double_integrator(ROBOT)


def timed(seed=0, spread=None):
    """Small random efforts and gains about the posture at home."""
    rng, (n, m) = np.random.default_rng(seed), (ROBOT.n, ROBOT.m)
    W = rng.standard_normal((T, m, m))
    policy = LinearGaussianPolicy(np.tile(x_of(), (T, 1)), rng.standard_normal((T, m)), rng.standard_normal((T, m, n)),
                                  0.1 * rng.standard_normal((T, m)), W @ W.swapaxes(1, 2))
    return TimedPolicy(policy, ROBOT.period, ROBOT.state_names, ROBOT.joints, spread)


def x_of(away=0.0):
    x = np.zeros(ROBOT.n)
    x[: ROBOT.m] = ROBOT.home + away
    return x


def controller(policy=None, **config):
    made = assembly.make_controller(settings(controller=config), ROBOT)
    if policy is not None:
        made.set_policy(policy)
    return made


def play(made, steps, x=None, first=0):
    """The efforts (steps, m) at a state that stays what it is."""
    belief = Gaussian(x_of() if x is None else x, 1e-6 * np.eye(ROBOT.n))
    return np.array([made.act(StateEstimate(k * PERIOD, 0, k, belief, np.zeros(ROBOT.m)), MODEL)
                     for k in range(first, first + steps)])


def test_it_is_played_step_by_step_from_when_the_mode_is_entered_and_ends_in_hold():
    p, x = timed().policy, x_of(0.01)
    made = controller(LinearPolicy(timed(), ROBOT))
    play(made, 3)
    made.request(POLICY)
    expected = [p.u_hat[t] + p.K[t] @ (x - p.x_hat[t]) + p.k[t] for t in range(T)]
    assert np.allclose(play(made, T, x, first=3), expected) and made.mode == POLICY
    play(made, 1, x, first=3 + T)
    assert (made.mode, made.reason) == (HOLD, "the policy is over")


def test_asked_for_again_it_begins_again():
    made = controller(LinearPolicy(timed(), ROBOT))
    made.request(POLICY)
    first = play(made, 3)
    made.request(POLICY)
    assert np.allclose(play(made, 3, first=3), first)


def test_a_missed_period_is_a_step_too():
    made = controller(LinearPolicy(timed(), ROBOT))
    made.request(POLICY)
    play(made, 2)
    assert np.allclose(play(made, 1, first=4), timed().policy.u_hat[4] + timed().policy.k[4])


def test_a_new_policy_waits_for_the_end_of_the_old():
    made = controller(LinearPolicy(timed(), ROBOT))
    made.request(POLICY)
    play(made, 2)
    made.set_policy(LinearPolicy(timed(1), ROBOT))
    assert np.allclose(play(made, 1, first=2), timed().policy.u_hat[2] + timed().policy.k[2])
    made.request(POLICY)
    assert np.allclose(play(made, 1, first=3), timed(1).policy.u_hat[0] + timed(1).policy.k[0])


def test_it_is_within_the_limits_of_effort():
    wild = replace(timed(), policy=replace(timed().policy, u_hat=np.full((T, ROBOT.m), 1e5)))
    made = controller(LinearPolicy(wild, ROBOT))
    made.request(POLICY)
    efforts = play(made, T)
    steps = np.diff([np.zeros(ROBOT.m), *efforts], axis=0)
    assert (efforts <= ROBOT.effort_limit).all() and np.array_equal(efforts[-1], ROBOT.effort_limit)
    assert (steps <= ROBOT.effort_rate_limit * ROBOT.period + 1e-9).all()


def test_it_is_left_only_beyond_its_reach():
    """Of the coordinates that have a spread; the reach is a multiple of it."""
    spread = np.zeros((T, ROBOT.n))
    spread[:, 0] = 0.01
    for away, mode in ((0.029, POLICY), (0.031, HOLD)):
        x = x_of()
        x[0], x[1] = x[0] - away, x[1] + 1.0
        made = controller(LinearPolicy(timed(spread=spread), ROBOT), policy_reach=3.0)
        made.request(POLICY)
        play(made, 1, x)
        assert made.mode == mode
    assert made.reason == "the policy is left: at step 0 the state is 3.1 deviations from those it was made for"


def test_where_it_would_be_left_at_once_the_request_is_refused_with_the_reason():
    made = controller(LinearPolicy(timed(spread=np.full((T, ROBOT.n), 0.01)), ROBOT), policy_reach=3.0)
    left = "the policy is left: at step 0 the state is 3.1 deviations from those it was made for"
    for away, refused in ((0.029, ""), (0.031, left), (0.0, "")):
        play(made, 1, x_of(away))
        assert made.refusal(POLICY) == refused and made.refusal(HOLD) == ""
    made.set_policy(Sick(lambda: None))
    made.player.policy.distance = lambda x, step: 1 / 0
    assert made.refusal(POLICY) == "the policy failed: division by zero"


class Sick:
    """A policy that does what it is told to at step 1."""

    horizon = None

    def __init__(self, act):
        self._act = act

    def act(self, x, step):
        return (np.zeros(ROBOT.m), None) if step == 0 else self._act()

    def distance(self, x, step):
        return 0.0


@pytest.mark.parametrize(("act", "reason"), [
    (lambda: 1 / 0, "the policy failed: division by zero"),
    (lambda: (np.full(ROBOT.m, np.nan), None), "the policy failed: its effort of shoulder is nan"),
    (lambda: (np.zeros(ROBOT.m + 1), None), "the policy failed: its effort: expected shape"),
    (lambda: (np.zeros(ROBOT.m), np.full((ROBOT.m, ROBOT.m), np.nan)), "the policy failed: "),
    (lambda: None, "the policy failed: "),
])
def test_a_policy_that_fails_is_left_for_hold(act, reason):
    made = controller(Sick(act), policy_noise=1.0)
    made.request(POLICY)
    assert np.isfinite(play(made, 2)).all()
    assert made.mode == HOLD and made.reason.startswith(reason) and "\n" not in made.reason


def test_noise_has_the_covariance_of_the_policy_and_is_off_unless_asked_for():
    N, Sigma = 20_000, np.array([[2.0, -0.6], [-0.6, 0.5]])
    still = TimedPolicy(LinearGaussianPolicy(np.zeros((N, ROBOT.n)), np.zeros((N, 2)), np.zeros((N, 2, ROBOT.n)),
                                             np.zeros((N, 2)), np.tile(Sigma, (N, 1, 1))),
                        ROBOT.period, ROBOT.state_names, ROBOT.joints, None)
    made = controller(LinearPolicy(still, ROBOT), policy_noise=0.5)
    made.request(POLICY)
    player, config = made.player, made.config
    state = StateEstimate(0, 0, 0, Gaussian(x_of(), np.eye(ROBOT.n)), np.zeros(2))
    player.start(state)
    drawn = np.array([player.act(replace(state, time=k * PERIOD), config)[0] for k in range(N)])
    assert np.allclose(drawn.T @ drawn / N, 0.25 * Sigma, atol=4 * 0.25 * 2.0 * np.sqrt(2 / N))
    player.seed(7)
    first = player.act(state, config)[0]
    player.seed(7)
    assert np.array_equal(player.act(state, config)[0], first)
    assert np.array_equal(player.act(state, replace(config, policy_noise=0.0))[0], np.zeros(2))


def test_without_a_policy_the_mode_is_refused():
    with pytest.raises(ConfigError, match=r"there is no policy to play: .* controller\.policy"):
        controller().request(POLICY)


def test_there_and_back_by_file_is_exact(tmp_path):
    for spread in (None, np.ones((T, ROBOT.n))):
        save(timed(spread=spread), tmp_path / "p.npz")
        back = read(tmp_path / "p.npz")
        assert (back.period, back.state_names, back.joint_names) == (ROBOT.period, ROBOT.state_names, ROBOT.joints)
        for name, value in vars(timed().policy).items():
            assert np.array_equal(getattr(back.policy, name), value)
        assert back.spread is None if spread is None else np.array_equal(back.spread, spread)
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_a_file_can_be_there_from_the_beginning(tmp_path):
    save(timed(), tmp_path / "p.npz")
    made = assembly.make_controller(settings(controller={"policy": str(tmp_path / "p.npz")}), ROBOT)
    made.request(POLICY)
    assert np.allclose(play(made, 1), timed().policy.u_hat[0] + timed().policy.k[0])


def test_nothing_in_a_file_is_executed_and_other_files_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    save(timed(), path)
    with np.load(path) as content:
        good = dict(content)
    for change, expected in [({"policy_format": np.array(2)}, "expected a policy of format 1, got format 2"),
                             ({"K": np.array([object()])}, "not a policy file"),
                             ({"K": good["K"][:-1]}, "policy: K: expected shape"),
                             ({"k": np.full((T, ROBOT.m), np.nan)}, "policy: k"),
                             ({"period": np.array(0.01)}, "made for a period of 0.01 s"),
                             ({"joint_names": np.array(["elbow", "shoulder"])}, "the order differs")]:
        np.savez(path, **{**good, **change})
        with unchecked(), pytest.raises(ConfigError, match=expected) as caught:
            load(path, ROBOT)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for content in (b"", b"text", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="not a policy file"):
            load(path, ROBOT)


def test_values_are_checked_too():
    with pytest.raises(MessageError, match="not this robot's names; missing: shoulder"):
        LinearPolicy(replace(timed(), joint_names=("base", "elbow")), ROBOT)
    empty = LinearGaussianPolicy(*(value[:0] for value in vars(timed().policy).values()))
    with pytest.raises(ConfigError, match="at least one step"):
        LinearPolicy(replace(timed(), policy=empty), ROBOT)


def test_the_policy_of_a_plan_repeats_its_efforts_along_its_states():
    p, states = timed().policy, np.vstack([timed().policy.x_hat, x_of(0.1)])
    plan = Plan(replace(p, x_hat=p.x_hat + 1.0), states, p.u_hat, 0.0, "converged", 1)
    made = LinearPolicy(policy_of(plan, ROBOT), ROBOT)
    assert made.horizon == T
    for t in range(T):
        assert np.array_equal(made.act(states[t], t)[0], p.u_hat[t])
