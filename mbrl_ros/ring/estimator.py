"""State estimation: a Kalman filter on every joint and object, tool sites by kinematics, past efforts as a shift
register.

Each joint is a double integrator driven by white acceleration (it needs no learned dynamics, which keeps the ring
one-directional): s = [q; qd], s' = [[1, h], [0, 1]] s + noise, measured position and velocity (Bar-Shalom, Li &
Kirubarajan 2001, section 6.3.2). All joints share the arithmetic as one batch. Tool positions and velocities follow by
forward kinematics; their covariance is J P J'. How noisy the readings are is learned where velocities are among them.
Position and velocity of a reading have independent noise, so they are taken one after the other, and every step is
arithmetic on m numbers.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import param
from mbrl_ros.messages.fields import ABSURD, sane
from mbrl_ros.ring.delay import Delay
from mbrl_ros.ring.reading import EffortReading
from mbrl_ros.ring.reading_noise import ReadingNoise
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Gaussian, Observation, StateEstimate

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Config:
    """Parameters `estimator.*`."""

    position_noise: float = param(1e-4, "Least standard deviation of a position reading [rad or m]", 1e-9, 1.0)
    velocity_noise: float = param(0.02, "Least standard deviation of a velocity reading [rad/s or m/s]", 1e-9, 10.0)
    acceleration_noise: float = param(10.0, "Standard deviation of joint acceleration [rad/s^2 or m/s^2]", 1e-6, 1e4)
    noise_memory: float = param(2.0, "Over which it is learned how much noisier than that readings are; "
                                "0: not at all [s]", 0.0, 600.0)
    effort_source: str = param("commands", "What counts as the effort that acted; commands: what was commanded, by the "
                               "delay until it acts; joint_states: what the robot reports",
                               choices=("commands", "joint_states"))
    command_delay: float = param(-1.0, "Periods until commands act; negative: found from the efforts that the robot "
                                 "reports, and none where it reports none", -1.0, 3.0, unit="periods")


class JointFilter:
    """Observation -> StateEstimate, one per control period however fast the observations come.

    A gap of more than 1.1 periods, or a stamp that jumps back by more than a period (a simulator that was restarted),
    starts a new episode.
    """

    def __init__(self, robot: Robot, config: Config):
        self.robot, self.config = robot, config
        least = config.position_noise, config.velocity_noise
        k, o = len(robot.observed), 2 * robot.m + 6 * len(robot.sites)
        self.variance = np.tile(np.square(least)[:, None], k)  # (2, k) of the readings
        self.noise = ReadingNoise(least, k, robot.period, config.noise_memory) if config.noise_memory else None
        self._q = np.r_[: robot.m, o : o + k - robot.m]  # rows of x: positions of all that is observed
        self._v = self._q + np.repeat([robot.m, k - robot.m], [robot.m, k - robot.m])
        self.state: _Filter | None = None
        self._by_command = config.effort_source == "commands"
        self._command: Array | None = None
        self.delay = Delay(robot, config.command_delay)
        self.reading = EffortReading(robot)
        self._reported: Array | None = None  # over the last period

    def commanded(self, effort: Float[Array, " m"]) -> None:
        """The effort [N m or N] that is sent to the robot from now on, by whomever."""
        self._command = np.clip(effort, -self.robot.effort_limit, self.robot.effort_limit)

    def update(self, observation: Observation) -> StateEstimate | None:
        """One measurement in, at most one estimate out; position and velocity are in the order of robot.observed, as
        are efforts, of which those of the joints count.

        None for an observation that is not newer than the last one, and for one that is closer than 0.9 periods to
        the last estimate, which is filtered but not published. Raises MessageError, and forgets the observation, where
        it holds what is not finite, or absurd: no later reading could make up for it. Reported efforts may be so where
        they do not count.
        """
        for what in ("position", "velocity") if self._by_command else ("position", "velocity", "effort"):
            values = getattr(observation, what)
            if values is not None:
                sane(what, values, self.robot.observed)
        last, period = self.state, self.robot.period * 1e9
        if last is not None and 0 <= last.time - observation.time <= period:
            return None
        if last is None or not 0 < observation.time - last.published <= 1.1 * period:
            self.state = self._start(observation, 0 if last is None else last.episode + 1)
        else:
            self.state = self._filter(last, observation)
            if observation.time - last.published < 0.9 * period:
                return None
            self._learn_noise(last, observation)
            self._close_period(self.state)
        return self._estimate(self.state)

    def _close_period(self, s: _Filter) -> None:
        """What acted since the last estimate becomes the newest effort; what was reported is compared with it."""
        commanded, reported = s.impulse / ((s.time - s.published) * 1e-9)
        self.delay.record(commanded)
        known = bool(np.vdot(reported, reported) <= ABSURD**2)  # not where a number is none
        if known and self._reported is not None:
            self.delay.compare(reported - self._reported)
        self._reported = reported if known else None
        acting = self.delay.acting
        if known:
            self.reading.update(reported, acting, *s.mean[:, : self.robot.m])
        s.publish(acting if self._by_command else reported)

    def _start(self, observation: Observation, episode: int) -> _Filter:
        if self._command is None:  # what holds the arm before anybody commands is known from the robot, if at all
            reported = observation.effort[: self.robot.m]
            self.commanded(np.where(np.isfinite(reported), reported, 0.0))
        assert self._command is not None
        k = len(self.robot.observed)
        velocity = np.zeros(k) if observation.velocity is None else observation.velocity
        mean = np.array([observation.position, velocity])
        cov = self.variance[0], np.zeros(k), self.variance[1]
        if self.noise is not None:
            self.noise.restart()
        self.delay.restart(self._command)
        self._reported = None
        effort = self._command if self._by_command else observation.effort[: self.robot.m]
        efforts = np.tile(effort, (self.robot.history * self.robot.stride, 1))
        return _Filter(observation.time, observation.time, episode, 0, mean, cov, efforts,
                       np.zeros((2, self.robot.m)))

    def _learn_noise(self, last: _Filter, observation: Observation) -> None:
        """Of readings a period apart; those in between hold too little of the noise of velocities."""
        if self.noise is None:
            return
        if observation.velocity is None:
            return self.noise.restart()
        self.noise.update(np.array([observation.position, observation.velocity]),
                          (observation.time - last.published) * 1e-9)
        self.variance = self.noise.variance

    def _filter(self, last: _Filter, observation: Observation) -> _Filter:
        h = (observation.time - last.time) * 1e-9
        (q, v), (qq, qv, vv), a = last.mean, last.cov, self.config.acceleration_noise
        q = q + h * v
        g, gv = 0.5 * h * h * a, h * a
        qq, qv, vv = qq + h * (2 * qv + h * vv) + g * g, qv + h * vv + g * gv, vv + gv * gv
        S = qq + self.variance[0]
        Kq, Kv, e = qq / S, qv / S, observation.position - q
        q, v = q + Kq * e, v + Kv * e
        qq, qv, vv = qq - Kq * qq, qv - Kq * qv, vv - Kv * qv
        if observation.velocity is not None:
            S = vv + self.variance[1]
            Kq, Kv, e = qv / S, vv / S, observation.velocity - v
            q, v = q + Kq * e, v + Kv * e
            qq, qv, vv = qq - Kq * qv, qv - Kv * qv, vv - Kv * vv
        return _Filter(observation.time, last.published, last.episode, last.step, np.array([q, v]), (qq, qv, vv),
                       last.efforts,
                       last.impulse + h * np.array([self._command, observation.effort[: self.robot.m]]))

    def _estimate(self, s: _Filter) -> StateEstimate:
        m, n = self.robot.m, self.robot.n
        sites, tangent = self.robot.kinematics(*s.mean[:, :m])
        past = s.efforts if self.robot.stride == 1 else s.efforts.reshape(-1, self.robot.stride, m).mean(1)
        mean = np.concatenate([s.mean[:, :m].ravel(), sites, s.mean[:, m:].ravel(), past.ravel()])
        cov, q, v, tools = np.zeros((n, n)), self._q, self._v, slice(2 * m, 2 * m + len(sites))
        cov[q, q], cov[q, v], cov[v, v] = s.cov
        cov[v, q] = s.cov[1]
        cov[tools, : 2 * m] = tangent @ cov[: 2 * m, : 2 * m]
        cov[: 2 * m, tools] = cov[tools, : 2 * m].T
        cov[tools, tools] = cov[tools, : 2 * m] @ tangent.T
        return StateEstimate(s.time, s.episode, s.step, Gaussian(mean, cov), s.efforts[0].copy())


@dataclass
class _Filter:
    time: int  # [ns] of the last measurement
    published: int  # [ns] of the last estimate
    episode: int
    step: int
    mean: Float[Array, "2 k"]  # position and velocity of joints and objects
    # Variance of position, covariance, variance of velocity.
    cov: tuple[Float[Array, " k"], Float[Array, " k"], Float[Array, " k"]]
    efforts: Float[Array, "past m"]  # newest first, means over a period
    impulse: Float[Array, "2 m"]  # [N m s or N s] since the last estimate, of what was commanded and what was reported

    def publish(self, effort: Float[Array, " m"]) -> None:
        """Close the period, over which `effort` acted."""
        self.efforts = np.concatenate([effort[None], self.efforts[:-1]])
        self.published, self.step, self.impulse = self.time, self.step + 1, np.zeros_like(self.impulse)
