"""Online system identification: a stream of states in, local linear-Gaussian dynamics out, every period.

Only joints, and objects where there are, are fitted; tools follow by kinematics (Robot.lift). Transitions enter
exponentially forgotten moments of z = [w; r]: w = [q; qd; u] are the regressors, y is the change of [q; qd], and
r = y - g(w) is what a global model g leaves of it. A normal-inverse-Wishart prior around no residual completes them;
the maximum a posteriori joint Gaussian, conditioned on w, corrects the first order of g at the present point:
y ~ N(F w + f, Sigma) (docs/design.md, section 3; Levine & Abbeel 2014; Fu, Levine & Abbeel 2016). The offset f comes
from a mean that forgets faster than the moments behind F: a payload shifts y at once, and following it is the integral
action that leaves no steady-state error, while F needs more transitions than that to be told from noise.
"""
from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.gaussian import JITTER, leverage, leverage_growth, map_mean, niw_map
from mbrl_ros.kernels import local_fit
from mbrl_ros.models import MODELS
from mbrl_ros.models.dynamics import DynamicsModel
from mbrl_ros.models.features import Features
from mbrl_ros.models.prior import FlatPrior, LinearizedPrior, LocalPrior, Prior
from mbrl_ros.models.robot_model import RobotModel
from mbrl_ros.ring.trust import Trust
from mbrl_ros.robot import Robot
from mbrl_ros.types import (
    Array,
    Gaussian,
    LinearGaussianDynamics,
    Moments,
    NormalInverseWishart,
    StateEstimate,
    Transitions,
)

if TYPE_CHECKING:
    from jaxtyping import Float

# In units of the standard deviations of the excitation data; keeps directions no datum has moved finite.
CONDITION_JITTER = 1e-6
# Gated forgetting: an output whose mean innovation is this many standard deviations from zero begins to open the gate,
# and has it open OPEN standard deviations further on. Smoothing and widths from tuning seeds 100-105.
SURPRISING, OPEN, SMOOTHING = 3.0, 2.0, 0.05  # the last in [s]
MOVING = 0.03  # of the velocity limit: joints slower than this are at rest
SPARE = 100  # more transitions have room than are kept, so that those can be read while others are stored
ADOPTED = ("prior", "model", "_scale", "moments", "_mean", "_squares", "_drift", "trust", "prediction_error")
REMEMBERED = 3  # memories of the moments that a new prior is shown at once: exp(-3) is left of what was before
LEAST = 1.0  # transitions that stay behind a model without any trust, or a prior that is off could not be mended: they
# carry f (prior.m0 is a tenth of one) and leave F to the prior (prior.n0 is ten)


@dataclass(frozen=True)
class Config:
    """Parameters `learner.*`."""

    prior: str = param("ensemble", "Global model behind the prior", choices=MODELS)
    forgetting_time: float = param(0.4, "Time constant of the moments [s]", 1e-3, 600.0)
    offset_time: float = param(0.2, "Time constant of the mean behind the offset f [s]", 1e-3, 600.0)
    surprised_time: float = param(0.04, "The same when predictions are off by more than noise explains [s]", 1e-3,
                                  600.0)
    effective_count: float = param(40.0, "How many steps (robot.step) of motion the moments are worth", 1.0, 1e4,
                                   unit="steps", scale=LOGARITHMIC)
    adapt: bool = param(True, "Off: the prior alone, no adaptation", live=True)
    caution: float = param(0.0, "Factor on what the planner is told about F being known less well away from the data; "
                           "1 is what the posterior says, 0 tells it nothing", 0.0, 100.0)
    fit_seconds: float = param(30.0, "How much of the latest motion a global model is fitted to [s]", 0.1, 600.0,
                               live=True, scale=LOGARITHMIC)
    fit_after: float = param(0.0, "Fit without being asked after so much motion, once; 0: do not [s]", 0.0, 600.0)
    memory: float = param(600.0, "How much motion is kept for fitting [s]", 1.0, 36000.0)
    seed: int = param(0, "Seed of the fit of global models", 0)


class OnlineLearner:
    """Keeps the moments, the latest transitions and the prior."""

    def __init__(self, robot: Robot, config: Config):
        self.robot, self.config = robot, config
        self.features = features_of(robot)
        self._scale = initial_scale(robot, self.features)
        self.prior: Prior = FlatPrior(self._scale)
        self.model: DynamicsModel | None = None  # the global model behind the prior, over the x of the ring
        self.adapt = config.adapt
        self._empty = Moments(np.zeros(len(self._scale)), np.zeros((len(self._scale),) * 2), 0.0)
        self._start_over()
        self._last: deque[StateEstimate] = deque(maxlen=robot.stride)  # newest last, without a gap
        self._part = 1.0 / robot.stride  # of a transition: they overlap, a new one begins every period
        self._local: LocalPrior | None = None
        self._predicted: tuple[Array, Array, Array] | None = None  # F, f, Sigma
        self._slow = MOVING * robot.velocity_limit
        self.trust = Trust()
        self.prediction_error = 1.0  # squared Mahalanobis error of the last prediction, over its dimension
        self._kept = max(1, round(config.memory / robot.period))
        n = self.features.n
        self._x, self._u, self._x_next = (np.empty((self._kept + SPARE, k)) for k in (n, robot.m, n))
        self._stored, self._moving = 0, 0  # ever; of those, in motion
        self.acts = True  # whether what the controller asks for reaches the robot; whoever knows sets it
        self._fit_waits = config.fit_after > 0

    def set_prior(self, prior: Prior, scale: Float[Array, " d"]) -> None:
        """Use another prior from the next update on; scale is the spread of [w; y] in its training data.

        What recent motion says about it is worked out at once, so that a disturbance stays compensated.
        """
        self.prior, self._scale = prior, scale
        self.model = None
        if isinstance(prior, LinearizedPrior):
            self.model = RobotModel(self.robot, self.features, prior.model)
        self._local = self._predicted = None
        self.trust, self.prediction_error = Trust(), 1.0
        self._start_over()
        self._replay(self._latest(self._remembered))

    def prepared(self, prior: Prior, scale: Float[Array, " d"]) -> OnlineLearner:
        """A copy that has taken up another prior as `set_prior` does, for `adopt`. It may be made in another thread
        than `update` runs in, which is neither disturbed nor waited for; what a first use costs is spent here."""
        other = copy.copy(self)
        if len(self._last) > 0:
            other.prior, other._scale = copy.deepcopy(prior), scale
            other._model(self._last[-1])
        other._stored = self._stored
        other.set_prior(prior, scale)
        return other

    def adopt(self, other: OnlineLearner) -> None:
        """Go on with the prior of a `prepared` copy, between two updates; what came since is made up for."""
        other._replay(self._latest(min(self._stored - other._stored, self._remembered)))
        for name in ADOPTED:
            setattr(self, name, getattr(other, name))
        self._local = self._predicted = None

    @property
    def _remembered(self) -> int:
        """How many transitions a new prior is shown."""
        return round(REMEMBERED * self.config.forgetting_time / self.robot.period)

    def _replay(self, past: Transitions) -> None:
        if len(past.x) == 0:  # in lock-step none comes while a model is fitted
            return
        w = self.features.w(past.x, past.u)
        for z in np.hstack([w, self.features.y(past.x, past.x_next) - self.prior.mean(w)]):
            self._add(z)

    def _start_over(self) -> None:
        """Without any recent transition."""
        self.moments = self._empty
        self._mean = self._empty.mean  # behind the offset
        self._squares = 1.0  # sum of the squared weights of the vectors in that mean: 1 / their effective number
        self._drift = np.zeros(len(self._scale) - self.features.dw)  # mean innovation [standard deviations]

    def update(self, state: StateEstimate) -> LinearGaussianDynamics:
        """The newest state in, the model at that state out. A gap in the stream is no transition."""
        if self._last and (state.episode, state.step) != (self._last[-1].episode, self._last[-1].step + 1):
            self._last.clear()
        if len(self._last) == self.robot.stride:
            rows = self.robot.joint_rows
            self._learn(self._last[0].belief.mean[rows], self._acted(state), state.belief.mean[rows])
        self._last.append(state)
        return self._model(state)

    def _acted(self, state: StateEstimate) -> Array:
        """The mean effort (m,) over the last step."""
        return state.effort if self.robot.stride == 1 else state.belief.mean[self.robot.slice("effort/1")]

    def _learn(self, x: Array, u: Array, x_next: Array) -> None:
        if self.acts:
            self._store(x, u, x_next)
        w, y = self.features.w(x, u), self.features.y(x, x_next)
        if self._predicted is not None:
            squared, deviations, good = local_fit.innovation(*self._predicted, w, y, JITTER)
            if not good:
                raise np.linalg.LinAlgError("the covariance of the prediction is not positive definite")
            self.prediction_error = squared / len(y)
            if self.trust.update(self.prediction_error, self.robot.period):
                self._start_over()  # what made it predict badly must not be there when it is better
            self._drift += min(1.0, self.robot.period / SMOOTHING) * (deviations - self._drift)
        g = self.prior.mean(w) if self._local is None else self._local.mean(w)
        self._add(np.concatenate([w, y - g]))

    def _store(self, x: Array, u: Array, x_next: Array) -> None:
        """Keep a transition for fits. One of an arm that somebody else holds is none: a standstill would crowd out what
        was learned from motion, and be taken for it."""
        slot = self._stored % len(self._x)
        self._x[slot], self._u[slot], self._x_next[slot] = x, u, x_next
        self._stored += 1
        velocity = x_next[self.robot.slice("joint/velocity")]
        self._moving += bool((np.abs(velocity) > self._slow).any())

    def _add(self, z: Array) -> None:
        """One transition z = [w; r] (d,)."""
        before = self.moments
        forgetting = min(1.0, self.robot.period / self.config.forgetting_time)
        limit = max(self._part / forgetting, self.config.effective_count)
        self.moments = Moments(*local_fit.forget_and_add(before.mean, before.cov, before.count, z, self._part,
                                                          forgetting, limit))
        gain = max(self._offset_gain(), self._part / self.moments.count)
        self._mean = self._mean + gain * (z - self._mean)
        self._squares = (1 - gain) ** 2 * self._squares + gain**2

    def _offset_gain(self) -> float:
        """Larger where predictions have been off to one side for some periods: something has changed."""
        part = min(1.0, self.robot.step / SMOOTHING)  # errors a step apart are independent
        surprise = float(np.abs(self._drift).max()) / (part / (2 - part)) ** 0.5
        slow, fast = (min(1.0, self.robot.period / time) for time in (
            self.config.offset_time, min(self.config.offset_time, self.config.surprised_time)))
        return slow + (fast - slow) * min(max((surprise - SURPRISING) / OPEN, 0.0), 1.0)

    def _model(self, state: StateEstimate) -> LinearGaussianDynamics:
        z = state.belief.mean[self.robot.joint_rows]
        u = self._acted(state)
        w = self.features.w(z, u)
        moments = Moments(self.moments.mean, self.moments.cov, self.sample_weight)
        self._local = local = self.prior.at(w, moments)
        count = min(moments.count, self._part / self._squares)
        F, f, Sigma = posterior(local, moments, self._mean, count, self._scale)
        self._predicted = F, f, Sigma
        dynamics = self.robot.lift(self.features.dynamics(F, f, Sigma), z, u)
        if self.config.caution == 0.0:
            return dynamics
        growth = self.config.caution * spread(local, moments, self._mean, count, self._scale)
        n, m = self.robot.n, self.robot.m
        index = np.array([-1, *np.array(self.robot.joint_rows)[list(self.features.reg)], *range(n, n + m)]) + 1
        lifted = np.zeros((1 + n + m, 1 + n + m))
        lifted[np.ix_(index, index)] = growth
        return replace(dynamics, leverage=lifted)

    @property
    def model_trust(self) -> float:
        """From 1, as good as it says, to 0, not to be used."""
        return self.trust.value

    @property
    def sample_weight(self) -> float:
        """The effective number of transitions behind the model; fewer where they have made it predict badly."""
        count = min(self.moments.count, self.config.effective_count)
        return max(self.trust.value * count, min(count, LEAST)) if self.adapt else 0.0

    @property
    def prior_weight(self) -> float:
        """How many transitions the prior of the newest model counts for, for its Jacobian."""
        return 0.0 if self._local is None else self._local.strength

    def fit_due(self) -> bool:
        """Whether it is time for the fit that nobody asks for, to transitions(fit_after); says so once."""
        due = self._fit_waits and self._moving * self.robot.period >= self.config.fit_after
        self._fit_waits &= not due
        return due

    def transitions(self, seconds: float) -> Transitions:
        """The latest transitions, oldest first, at most `seconds` of them: one for every step, without overlap."""
        every, latest = self.robot.stride, self._latest(round(seconds / self.robot.period))
        return Transitions(*(part[(len(part) - 1) % every :: every] for part in vars(latest).values()))

    def _latest(self, count: int) -> Transitions:
        count = min(self._stored, self._kept, count)
        index = (self._stored - count + np.arange(count)) % len(self._x)
        return Transitions(self._x[index], self._u[index], self._x_next[index])


def posterior(prior: LocalPrior, moments: Moments, mean: Float[Array, " d"], count: float, scale: Float[Array, " d"]
              ) -> tuple[Float[Array, "dy dw"], Float[Array, " dy"], Float[Array, "dy dy"]]:
    """Maximum a posteriori F and f of y ~ N(F w + f, Sigma), given moments over [w; y - g] of `moments.count` vectors.

    `mean` of `count` transitions stands behind f; `scale` holds the units in which S_ww is inverted. Sigma is
    that of a prediction at prior.w: the noise, and what is not known of F and f. Raises numpy.linalg.LinAlgError where
    S_ww is not positive definite; what is not a number arrives.
    """
    F, f, Sigma, good = local_fit.posterior(prior.w, prior.y, prior.J, *prior.residual, moments.mean, moments.cov,
                                            moments.count, mean, count, scale, CONDITION_JITTER)
    if not good:
        raise np.linalg.LinAlgError("the covariance of the regressors is not positive definite")
    return F, f, Sigma


def spread(prior: LocalPrior, moments: Moments, mean: Float[Array, " d"], count: float, scale: Float[Array, " d"]
           ) -> Float[Array, "h h"]:
    """By which part the Sigma of `posterior` is larger at another w: G in h' G h, h = [1; w]."""
    known, niw = len(prior.w), prior.residual
    joint, s = _joint(niw, moments, mean, count, scale), np.concatenate([[1.0], scale[:known]])
    at, total = prior.w / scale[:known], moments.count + niw.n0
    here = leverage(joint, known, at, total, count + niw.m0, CONDITION_JITTER) if count > 0 else 0.0
    grown: Array = leverage_growth(joint, known, at, total, CONDITION_JITTER) / (1 + here) / np.outer(s, s)
    return grown


def _joint(prior: NormalInverseWishart, moments: Moments, mean: Array, count: float, scale: Array) -> Gaussian:
    """The estimate over [w; y - g], in units of `scale`."""
    return Gaussian(map_mean(mean, count, prior) / scale, niw_map(moments, prior).cov / np.outer(scale, scale))


def features_of(robot: Robot) -> Features:
    """Over the joint rows of x: the motion of joints and objects is fitted and a regressor. Past efforts are regressors
    only where a delay makes them act (effort_history > 1)."""
    n, motion = len(robot.joint_rows), tuple(range(2 * len(robot.observed)))
    return Features(tuple(range(n)) if robot.history > 1 else motion, motion, n, robot.m)


def initial_scale(robot: Robot, features: Features) -> Float[Array, " d"]:
    """A spread of z before there are data: fractions of the robot's limits."""
    x = np.ones(robot.n)
    span = robot.position_high - robot.position_low
    x[robot.slice("joint/position")] = np.where(np.isfinite(span), 0.1 * span, 0.3)
    x[robot.slice("joint/velocity")] = 0.2 * robot.velocity_limit
    if robot.objects:
        x[robot.slice("object/position")], x[robot.slice("object/velocity")] = 0.1, 0.1
    x[robot.slice("effort")] = np.tile(0.1 * robot.effort_limit, robot.history)
    x = x[robot.joint_rows]
    w = features.w(x, 0.1 * robot.effort_limit)
    y = 0.1 * features.y(np.zeros(features.n), x)
    return np.concatenate([w, y])
