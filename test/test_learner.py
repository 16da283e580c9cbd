"""The online fit: its limits, a known linear system, gaps, and the memory it keeps."""
from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from arms import make

from mbrl_ros.gaussian import Z95, empirical_moments
from mbrl_ros.models.prior import LocalPrior
from mbrl_ros.ring.learner import LEAST, Config, OnlineLearner, features_of, posterior, spread
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, Moments, NormalInverseWishart, StateEstimate


class KnownPrior:
    """y = J w + g, n0 transitions strong."""

    def __init__(self, J, g, n0=10.0):
        self.J, self.g, self.n0 = J, g, n0

    def at(self, w, recent):
        Phi = self.n0 * np.diag(np.concatenate([np.ones(len(w)), 1e-4 * np.ones(len(self.J))]))
        mu0 = np.concatenate([w, np.zeros(len(self.J))])
        return LocalPrior(w, self.mean(w), self.J, NormalInverseWishart(mu0, Phi, 1.0, self.n0))

    def mean(self, w):
        return w @ self.J.T + self.g


class Bent(KnownPrior):
    """y = J w + g + |w|^2 in every row."""

    def at(self, w, recent):
        return super().at(w, recent)._replace(J=self.J + 2 * w)

    def mean(self, w):
        return super().mean(w) + np.square(w).sum(-1, keepdims=True)


def linear_prior(robot, seed=0):
    features, rng = features_of(robot), np.random.default_rng(seed)
    return KnownPrior(0.1 * rng.standard_normal((features.dy, features.dw)), rng.standard_normal(features.dy))


def seen(learner, k, step, z, u):
    """A state with these joint rows; its sites are not read."""
    x = np.zeros(learner.robot.n)
    x[learner.robot.joint_rows] = z
    return StateEstimate(2 * k + step, k, step, Gaussian(x, np.eye(len(x))), u)


def feed(learner, z_u_next):
    """Independent transitions: each (z, u, z') as an episode of two states. The model of the joint rows after them."""
    rows = learner.robot.joint_rows
    for k, (z, u, z_next) in enumerate(z_u_next):
        learner.update(seen(learner, k, 0, z, u))
        dynamics = learner.update(seen(learner, k, 1, z_next, u))
    F = dynamics.F[rows][:, [*rows, *range(learner.robot.n, learner.robot.n + learner.robot.m)]]
    return LinearGaussianDynamics(F, dynamics.f[rows], dynamics.Sigma[np.ix_(rows, rows)])


def test_without_data_the_model_is_the_prior():
    robot = make()
    learner, prior = OnlineLearner(robot, Config()), linear_prior(robot)
    learner.set_prior(prior, np.ones(learner.features.dw + learner.features.dy))
    z, u = np.zeros(learner.features.n), np.zeros(2)
    dynamics = learner.update(seen(learner, 0, 0, z, u))
    expected = robot.lift(learner.features.dynamics(prior.J, prior.g, 1e-4 * np.eye(learner.features.dy)), z, u)
    assert np.allclose(dynamics.F, expected.F, atol=1e-12)
    assert np.allclose(dynamics.f, expected.f, atol=1e-12) and np.allclose(dynamics.Sigma, expected.Sigma, atol=1e-12)


def test_much_data_give_the_true_system_whatever_the_prior():
    robot = make()
    features, rng = features_of(robot), np.random.default_rng(1)
    F, f = 0.3 * rng.standard_normal((features.dy, features.dw)), rng.standard_normal(features.dy)
    learner = OnlineLearner(robot, Config(forgetting=1e-3, offset_forgetting=1e-3, effective_count=1e4))
    learner.set_prior(linear_prior(robot), np.ones(features.dw + features.dy))
    data = []
    for _ in range(3000):
        z, u = rng.standard_normal(features.n), rng.standard_normal(robot.m)
        data.append((z, u, features.next_state(z, u, F @ features.w(z, u) + f)))
    dynamics = feed(learner, data)
    expected = features.dynamics(F, f, np.zeros((features.dy, features.dy)))
    assert np.allclose(dynamics.F, expected.F, atol=0.02)  # n0 / N = 1 % of the prior is left
    assert np.allclose(dynamics.f, expected.f, atol=0.05)


def test_a_constant_disturbance_is_in_the_offset_within_a_second():
    robot = make()
    learner, prior = OnlineLearner(robot, Config()), linear_prior(robot)
    features = learner.features
    learner.set_prior(prior, np.ones(features.dw + features.dy))
    rng, shift = np.random.default_rng(0), 0.5 * np.ones(features.dy)
    z, states = np.zeros(features.n), []
    for _ in range(50):
        u = 0.01 * rng.standard_normal(robot.m)
        states.append((z, u, features.next_state(z, u, prior.mean(features.w(z, u)) + shift)))
    predicted = feed(learner, states).f[: features.dy]
    assert np.allclose(predicted, prior.g + shift, atol=0.06)  # m0 / (m0 + 19) of the shift is left


@pytest.mark.parametrize(("shift", "periods"), [(0.0, 0), (10.0, 5)])
def test_the_offset_forgets_faster_only_after_a_surprise(shift, periods):
    """A jump of ten standard deviations is in the offset after 5 periods; noise alone leaves the slow average."""
    robot, rng = make(), np.random.default_rng(0)
    learner, prior = OnlineLearner(robot, Config()), linear_prior(robot)
    features = learner.features
    learner.set_prior(prior, np.ones(features.dw + features.dy))
    u, noise = np.zeros(robot.m), 0.01  # of KnownPrior

    def transitions(count, offset):
        z = rng.standard_normal((count, features.n))
        y = prior.mean(features.w(z, np.tile(u, (count, 1)))) + offset
        y = y + noise * rng.standard_normal(y.shape)
        return [(a, u, features.next_state(a, u, b)) for a, b in zip(z, y, strict=True)]

    feed(learner, transitions(200, 0.0))
    assert 1 / learner._squares == pytest.approx(2 / learner.config.offset_forgetting - 1, rel=0.3)
    if periods:
        found = feed(learner, transitions(periods, noise * shift)).f[: features.dy]
        slow = 1 - (1 - learner.config.offset_forgetting) ** periods
        assert np.median(found - prior.g) > 1.5 * slow * noise * shift


def test_what_a_global_model_knows_needs_no_data():
    """Along a fast motion through a bent model, the local model is its tangent all the way."""
    robot = make()
    learner = OnlineLearner(robot, Config())
    features, line = learner.features, linear_prior(robot)
    prior = Bent(line.J, line.g)
    learner.set_prior(prior, np.ones(features.dw + features.dy))
    u, rows = np.zeros(robot.m), robot.joint_rows
    for k in range(30):
        z = 0.02 * k * np.ones(features.n)
        z_next = features.next_state(z, u, prior.mean(features.w(z, u)))
        state = seen(learner, k, 0, z, u)
        dynamics = learner.update(state)
        learner.update(seen(learner, k, 1, z_next, u))
        x_next = dynamics.F @ np.concatenate([state.belief.mean, u]) + dynamics.f
        assert np.allclose(x_next[rows], z_next, atol=1e-9)


def test_a_new_prior_is_corrected_by_what_was_seen_before():
    robot = make()
    learner, prior = OnlineLearner(robot, Config()), linear_prior(robot)
    features, rng = learner.features, np.random.default_rng(0)
    learner.set_prior(prior, np.ones(features.dw + features.dy))
    states = [(z, u, features.next_state(z, u, prior.mean(features.w(z, u)))) for z, u in
              zip(rng.standard_normal((50, features.n)), rng.standard_normal((50, robot.m)), strict=True)]
    feed(learner, states)
    learner.set_prior(KnownPrior(prior.J, prior.g + 1.0), np.ones(features.dw + features.dy))
    dynamics = learner.update(seen(learner, 200, 0, np.zeros(features.n), np.zeros(robot.m)))
    assert np.allclose(dynamics.f[list(features.fit)], prior.g, atol=0.1)  # of 1, m0 / (m0 + 19) is left


def periods(robot, prior, count, offset, rng):
    """z, u and z' of independent transitions of a system that is the prior with another offset, and a little noise."""
    features = features_of(robot)
    for _ in range(count):
        z, u = rng.standard_normal(features.n), rng.standard_normal(robot.m)
        y = prior.mean(features.w(z, u)) + offset + 0.01 * rng.standard_normal(features.dy)  # that of KnownPrior
        yield z, u, features.next_state(z, u, y)


def test_a_model_that_lost_all_trust_mends_itself_however_wrong_its_prior():
    """The prior is off by 30 deviations, which recent data carried; then one joint after the other hits something."""
    robot, rng = make("arm"), np.random.default_rng(3)
    learner, prior = OnlineLearner(robot, Config()), linear_prior(robot)
    learner.set_prior(prior, np.ones(learner.features.dw + learner.features.dy))
    off, seconds = 0.3, []
    feed(learner, periods(robot, prior, 100, off, rng))
    assert learner.model_trust == 1.0
    for hit in 2.0 * np.eye(learner.features.dy)[:8]:
        feed(learner, periods(robot, prior, 1, off + hit, rng))
    assert learner.model_trust == 0.0 and learner.sample_weight == LEAST
    for k in range(100):
        feed(learner, periods(robot, prior, 1, off, rng))
        seconds += [k * robot.period] if learner.model_trust == 1.0 else []
    assert seconds and seconds[0] <= 1.5 and learner.model_trust == 1.0
    assert learner.sample_weight == learner.config.effective_count


def test_taking_a_prior_up_from_a_copy_is_taking_it_up():
    """Also where states came between the two, and none of them is forgotten."""
    robot = make()
    prior, rng = linear_prior(robot), np.random.default_rng(4)
    scale = np.ones(len(prior.J) + len(prior.J.T))
    data = list(periods(robot, prior, 80, 0.1, rng))
    at_once, beside = OnlineLearner(robot, Config()), OnlineLearner(robot, Config())
    for learner in (at_once, beside):
        feed(learner, data[:73])
    other = linear_prior(robot, seed=5)
    at_once.set_prior(other, scale)
    before = vars(beside).copy()
    prepared = beside.prepared(other, scale)
    assert all(vars(beside)[name] is value for name, value in before.items())
    for learner in (at_once, beside):
        feed(learner, data[73:])
    assert at_once.trust.error < 15.0 and at_once._offset_gain() == at_once.config.offset_forgetting
    beside.adopt(prepared)
    assert beside.prior is other and beside.model_trust == 1.0
    one, two = (feed(learner, data[:1]) for learner in (at_once, beside))
    assert np.allclose(one.F, two.F, atol=1e-9) and np.allclose(one.f, two.f, atol=1e-9)


def test_what_is_heavy_about_a_prior_is_not_done_where_it_is_taken_up():
    """A prior that counts: all that remains is one value of g for each state that came meanwhile."""
    asked = []

    class Counting(KnownPrior):
        def at(self, w, recent):
            asked.append("at")
            return super().at(w, recent)

        def mean(self, w):
            asked.append(w.shape[:-1])
            return super().mean(w)

        def __deepcopy__(self, memo):
            return self

    robot, rng = make(), np.random.default_rng(4)
    learner, prior = OnlineLearner(robot, Config()), linear_prior(robot)
    feed(learner, periods(robot, prior, 100, 0.1, rng))
    prepared = learner.prepared(Counting(prior.J, prior.g), np.ones(len(prior.J) + len(prior.J.T)))
    assert asked == ["at", (), (60,)]
    feed(learner, periods(robot, prior, 3, 0.1, rng))
    learner.adopt(prepared)
    assert asked == ["at", (), (60,), (3,)]


def test_efforts_in_the_state_are_an_exact_shift_register():
    robot = make(effort_history=3)
    learner = OnlineLearner(robot, Config())
    x, u = np.arange(robot.n, dtype=float), np.array([100.0, 200.0])
    dynamics = learner.update(StateEstimate(0, 0, 0, Gaussian(x, np.eye(robot.n)), u))
    x_next = dynamics.F @ np.concatenate([x, u]) + dynamics.f
    assert np.array_equal(x_next[robot.slice("effort/1")], u)
    assert np.allclose(x_next[robot.slice("effort/3")], x[robot.slice("effort/2")])


def test_a_fit_is_due_once_after_enough_motion():
    robot = make()
    learner = OnlineLearner(robot, Config(fit_after=0.1))  # 5 periods
    assert not learner.fit_due()
    due = []
    for step in range(30):
        x = np.zeros(robot.n)
        x[robot.slice("joint/velocity")] = 0.1 * robot.velocity_limit if step > 10 else 0.0
        learner.update(StateEstimate(0, 0, step, Gaussian(x, np.eye(robot.n)), np.zeros(robot.m)))
        due.append(learner.fit_due())
    assert np.flatnonzero(due).tolist() == [15]


def test_gaps_are_no_transitions():
    robot = make()
    learner = OnlineLearner(robot, Config())
    for episode, step in [(0, 0), (0, 1), (0, 3), (1, 4), (1, 5)]:
        learner.update(StateEstimate(0, episode, step, Gaussian(np.zeros(robot.n), np.eye(robot.n)), np.zeros(2)))
    assert len(learner.transitions(100).x) == 2


def test_memory_is_bounded_and_returns_the_latest_in_order():
    robot = make()
    learner = OnlineLearner(robot, Config(memory=1.0))
    for k in range(80):
        x = np.full(robot.n, float(k))
        learner.update(StateEstimate(k, 0, k, Gaussian(x, np.eye(robot.n)), np.zeros(2)))
    kept = learner.transitions(100)
    assert kept.x[:, 0].tolist() == list(range(29, 79))
    assert learner.transitions(0.1).x[:, 0].tolist() == list(range(74, 79))


def test_switched_off_it_stays_the_prior():
    robot = make()
    learner, prior = OnlineLearner(robot, Config(adapt=False)), linear_prior(robot)
    learner.set_prior(prior, np.ones(learner.features.dw + learner.features.dy))
    rng = np.random.default_rng(0)
    dynamics = feed(learner, [tuple(rng.standard_normal(k) for k in (6, 2, 6)) for _ in range(30)])
    assert np.allclose(dynamics.B[: learner.features.dy], prior.J[:, -2:], atol=1e-5)
    assert learner.sample_weight == 0.0


def test_prediction_error_is_one_when_calibrated():
    robot = make()
    learner, prior = OnlineLearner(robot, Config(adapt=False)), linear_prior(robot)
    features, rng = learner.features, np.random.default_rng(0)
    learner.set_prior(prior, np.ones(features.dw + features.dy))
    errors = []
    for _ in range(300):
        z, u = rng.standard_normal(features.n), rng.standard_normal(2)
        y = prior.mean(features.w(z, u)) + 1e-2 * rng.standard_normal(features.dy)
        # the model is that of the prior at every point, so the last prediction is the right one
        feed(learner, [(z, u, features.next_state(z, u, y))])
        errors.append(learner.prediction_error)
    deviation = np.sqrt(2 / (features.dy * len(errors)))
    assert np.mean(errors[1:]) == pytest.approx(1.0, abs=6 * deviation + 0.02)  # plus the conditioning's jitter


def test_bands_hold_what_a_bayesian_linear_regression_expects():
    """Noise, slopes and offset drawn from the prior, then data, then one more y. Given the data that is Student-t with
    n0 + N + 2 degrees of freedom and the covariance of `posterior`; without what is not known of slopes and offset, the
    bands would be too narrow by that. At another w the covariance is larger by what `spread` says."""
    rng, dw, dy, N, n0, m0 = np.random.default_rng(0), 6, 2, 20, 4.0, 0.5
    R = np.array([[1.0, 0.6], [0.6, 2.0]])
    draws, inside, distance, further, grown = 2000, [], [], [], []
    for Sigma in scipy.stats.invwishart(n0 + dy + 1, n0 * R).rvs(draws, random_state=1):
        L, w, at = np.linalg.cholesky(Sigma), rng.standard_normal((N, dw)) + 1, 0.7 * rng.standard_normal(dw)
        slopes, offset = L @ rng.standard_normal((dy, dw)) / np.sqrt(n0), L @ rng.standard_normal(dy) / np.sqrt(m0)
        y = (w - at) @ slopes.T + offset + rng.standard_normal((N, dy)) @ L.T
        niw = NormalInverseWishart(np.append(at, np.zeros(dy)), n0 * np.diag(np.append(np.ones(dw), [0, 0])), m0, n0)
        niw.Phi[dw:, dw:] = n0 * R
        moments = empirical_moments(np.hstack([w, y]))
        known = LocalPrior(at, np.zeros(dy), np.zeros((dy, dw)), niw), moments, moments.mean, N, np.ones(dw + dy)
        F, f, cov = posterior(*known)
        error = offset + L @ rng.standard_normal(dy) - F @ at - f
        inside.append(np.abs(error) <= Z95 * np.sqrt(np.diag(cov)))
        distance.append(error @ np.linalg.solve(cov, error))
        other = at + 2 * rng.standard_normal(dw)
        h = np.append(1.0, other)
        grown.append(h @ spread(*known) @ h)
        error = slopes @ (other - at) + offset + L @ rng.standard_normal(dy) - F @ other - f
        further.append(error @ np.linalg.solve((1 + grown[-1]) * cov, error))
    nu = n0 + N + 2
    expected = 2 * scipy.stats.t(nu).cdf(Z95 * np.sqrt(nu / (nu - 2))) - 1
    assert np.mean(inside) == pytest.approx(expected, abs=4 * np.sqrt(0.95 * 0.05 / draws))  # 0.02; the leverage is 0.5
    for squares in (distance, further):
        assert np.mean(squares) == pytest.approx(dy, abs=4 * np.std(squares) / np.sqrt(draws))
    assert np.mean(grown) > 0.5  # so that leaving it out would show


@pytest.mark.parametrize("history", [1, 2])
def test_a_cautious_learner_says_the_same_and_where_it_knows_less(history):
    """Its leverage is zero at the present point, does not see the tool, and is proportional to the setting."""
    robot, rng = make(effort_history=history), np.random.default_rng(5)
    n, features = robot.n, features_of(robot)
    found = []
    for caution in (0.0, 1.0, 3.0):
        learner = OnlineLearner(robot, Config(caution=caution))
        learner.set_prior(linear_prior(robot), np.ones(features.dw + features.dy))
        data = np.random.default_rng(6)
        for k in range(30):
            state = seen(learner, 0, k, data.standard_normal(features.n), data.standard_normal(robot.m))
            found_now = learner.update(state)
        found.append(found_now)
    plain, cautious, more = found
    assert plain.leverage is None
    assert np.array_equal(plain.F, cautious.F) and np.array_equal(plain.Sigma, cautious.Sigma)
    assert np.allclose(more.leverage, 3 * cautious.leverage, rtol=1e-12)
    here = np.concatenate([[1.0], state.belief.mean, state.effort])
    assert here @ cautious.leverage @ here == pytest.approx(0.0, abs=1e-9)
    tool = 1 + 2 * robot.m + np.arange(6)
    assert not cautious.leverage[tool].any() and not cautious.leverage[:, tool].any()
    other = np.concatenate([[1.0], rng.standard_normal(n + robot.m)])
    moments = Moments(learner.moments.mean, learner.moments.cov, learner.sample_weight)
    G = spread(learner._local, moments, learner._mean, min(moments.count, 1 / learner._squares), learner._scale)
    w = np.append(1.0, features.w(other[1 : 1 + n][robot.joint_rows], other[1 + n :]))
    assert other @ cautious.leverage @ other == pytest.approx(w @ G @ w, rel=1e-9)


def test_what_an_arm_does_that_somebody_else_holds_is_adapted_to_but_not_kept_for_fits():
    robot = make()
    learner = OnlineLearner(robot, Config(fit_after=0.1))
    x = np.zeros(robot.n)
    x[robot.slice("joint/velocity")] = robot.velocity_limit
    moving = lambda k: StateEstimate(k, 0, k, Gaussian(x, np.eye(robot.n)), np.zeros(robot.m))  # noqa: E731
    learner.acts = False
    for k in range(50):
        learner.update(moving(k))
    assert len(learner.transitions(10.0).x) == 0 and not learner.fit_due() and learner.moments.count > 10
    learner.acts = True
    for k in range(50, 60):
        learner.update(moving(k))
    assert len(learner.transitions(10.0).x) == 10 and learner.fit_due()
