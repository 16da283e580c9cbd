"""State estimation: a Kalman filter on every joint, tool sites by kinematics, past efforts as a shift register.

Each joint is a double integrator driven by white acceleration (it needs no learned dynamics, which keeps the ring
one-directional): s = [q; qd], s' = [[1, h], [0, 1]] s + noise, measured position and velocity (Bar-Shalom, Li &
Kirubarajan 2001, section 6.3.2). All joints share the arithmetic as one batch. Tool positions and velocities follow by
forward kinematics; their covariance is J P J'. How noisy the readings are is learned where velocities are among them.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import param
from mbrl_ros.fields import sane
from mbrl_ros.reading_noise import ReadingNoise
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Gaussian, Observation, StateEstimate

I = np.eye(2)


@dataclass(frozen=True)
class Config:
    """Parameters `estimator.*`."""

    position_noise: float = param(1e-4, "Least standard deviation of a position reading [rad or m]", 1e-9, 1.0)
    velocity_noise: float = param(0.02, "Least standard deviation of a velocity reading [rad/s or m/s]", 1e-9, 10.0)
    acceleration_noise: float = param(10.0, "Standard deviation of joint acceleration [rad/s^2 or m/s^2]", 1e-6, 1e4)
    noise_memory: float = param(2.0, "Over which it is learned how much noisier than that readings are; "
                                "0: not at all [s]", 0.0, 600.0)
    effort_source: str = param("joint_states", "Where the effort that acted is read: joint_states, or commands "
                               "for a robot that reports measured torque", choices=("joint_states", "commands"))
    command_delay: int = param(0, "Where it is read from commands: periods until they act", 0, 3)


class JointFilter:
    """Observation -> StateEstimate, one per control period however fast the observations come.

    A gap of more than 1.1 periods, or a stamp that jumps back by more than a period (a simulator that was restarted),
    starts a new episode.
    """

    def __init__(self, robot: Robot, config: Config):
        self.robot, self.config = robot, config
        least = config.position_noise, config.velocity_noise
        self.R = np.tile(np.diag(np.square(least)), (robot.m, 1, 1))  # (m, 2, 2)
        self.noise = ReadingNoise(least, robot.m, robot.period, config.noise_memory) if config.noise_memory else None
        self.state: _Filter | None = None

    def update(self, observation: Observation) -> StateEstimate | None:
        """One measurement in, at most one estimate out; position and velocity are in the order of robot.joints.

        None for an observation that is not newer than the last one, and for one that is closer than 0.9 periods to
        the last estimate, which is filtered but not published. Raises MessageError, and forgets the observation, where
        it holds what is not finite, or absurd: no later reading could make up for it.
        """
        for what in ("position", "velocity", "effort"):
            values = getattr(observation, what)
            if values is not None:
                sane(what, values, self.robot.joints)
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
            self.state.publish()
        return self._estimate(self.state)

    def _start(self, observation: Observation, episode: int) -> _Filter:
        velocity = np.zeros(self.robot.m) if observation.velocity is None else observation.velocity
        mean = np.stack([observation.position, velocity], -1)  # (m, 2)
        if self.noise is not None:
            self.noise.restart()
        efforts = np.tile(observation.effort, (self.robot.history, 1))
        return _Filter(observation.time, observation.time, episode, 0, mean, self.R, efforts, np.zeros(self.robot.m))

    def _learn_noise(self, last: _Filter, observation: Observation) -> None:
        """Of readings a period apart; those in between hold too little of the noise of velocities."""
        if self.noise is None:
            return
        if observation.velocity is None:
            return self.noise.restart()
        self.noise.update(np.stack([observation.position, observation.velocity]),
                          (observation.time - last.published) * 1e-9)
        self.R = self.noise.variance.T[:, :, None] * I

    def _filter(self, last: _Filter, observation: Observation) -> _Filter:
        h = (observation.time - last.time) * 1e-9
        A = np.array([[1.0, h], [0.0, 1.0]])
        G = np.array([0.5 * h * h, h]) * self.config.acceleration_noise
        mean = last.mean @ A.T  # (m, 2)
        cov = A @ last.cov @ A.T + np.outer(G, G)  # (m, 2, 2)
        known = 2 if observation.velocity is not None else 1
        measured = [observation.position, observation.velocity][:known]
        S = cov[:, :known, :known] + self.R[:, :known, :known]
        gain = np.linalg.solve(S, cov[:, :known, :]).transpose(0, 2, 1)  # (m, 2, known)
        innovation = np.stack(measured, -1) - mean[:, :known]
        mean = mean + (gain @ innovation[..., None])[..., 0]
        cov = cov - gain @ cov[:, :known, :]
        return _Filter(observation.time, last.published, last.episode, last.step, mean,
                       0.5 * (cov + cov.transpose(0, 2, 1)), last.efforts, last.impulse + h * observation.effort)

    def _estimate(self, s: _Filter) -> StateEstimate:
        m, n = self.robot.m, self.robot.n
        sites, tangent = self.robot.kinematics(s.mean[:, 0], s.mean[:, 1])
        mean = np.concatenate([s.mean[:, 0], s.mean[:, 1], sites, s.efforts.ravel()])
        G = np.zeros((n, 2 * m))  # d x / d [q; qd]
        G[: 2 * m], G[2 * m : 2 * m + len(sites)] = np.eye(2 * m), tangent
        P = np.zeros((2 * m, 2 * m))
        joints = np.arange(m)
        P[joints, joints], P[joints + m, joints + m] = s.cov[:, 0, 0], s.cov[:, 1, 1]
        P[joints, joints + m] = P[joints + m, joints] = s.cov[:, 0, 1]
        return StateEstimate(s.time, s.episode, s.step, Gaussian(mean, G @ P @ G.T), s.efforts[0].copy())


@dataclass
class _Filter:
    time: int  # [ns] of the last measurement
    published: int  # [ns] of the last estimate
    episode: int
    step: int
    mean: Array  # (m, 2)
    cov: Array  # (m, 2, 2)
    efforts: Array  # (H, m), newest first, means over a period
    impulse: Array  # (m,) [N m s or N s] since the last estimate

    def publish(self) -> None:
        """Close the period: what acted since the last estimate becomes the newest effort."""
        effort = self.impulse / ((self.time - self.published) * 1e-9)
        self.efforts = np.vstack([effort, self.efforts[:-1]])
        self.published, self.step, self.impulse = self.time, self.step + 1, np.zeros_like(effort)
