"""The safe base policy: hold a joint posture, and excite the joints about it for a bounded time.

Hold: u = P (q_ref - q) - D qd + I, with a slow integral that carries what gravity is not compensated. Excite: q_ref
moves and an effort is added (excitation.py), so that the data contain motion of every joint and efforts that are not a
function of the state. Whatever is added stays within `excitation.range`, `speed` and `effort`. While there is no model
yet, the posture can follow a path of the tool: kinematics are known. Where joints swing, because an arm is lighter than
the gains of its file are made for, the gains shrink until they do not, and the integral with their square, or it would
make the softer hold unstable: it needs 2 D > integral I (Routh), for a joint of inertia I.
"""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.ring.excitation import KINDS, Config, Excitation, margins
from mbrl_ros.ring.swing import Calm
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, StateEstimate

if TYPE_CHECKING:
    from jaxtyping import Float

SWINGING = 0.9  # [velocity limit] of a joint under hold: its gains are too large for what it carries
CALMER, RECOVERY, CALMEST = 0.8, 1.005, 0.1  # factor on the gains per UNIT of swinging, per UNIT without, at least
UNIT = 0.02  # [s]
CATCH_UP = 0.2  # [s] in which a posture that follows a point makes up for most of an error


class BasePolicy:
    """Hold and excite. `start` resets it; `act` gives the effort (m,) [N m or N], not yet clamped."""

    def __init__(self, robot: Robot, config: Config):
        self.robot, self.config = robot, config
        self.caution = 1.0  # factor on the gains, from whoever knows how late they act
        self._calm = 1.0  # another, by how fast the joints are
        self._lively = 1.0  # factor on efforts that excite: neighbours shake a light joint, which its gains cannot help
        self.calm = Calm(robot.velocity_limit)  # and one for each joint, by whether it swings
        self._low, self._high = margins(robot)
        self.start(robot.home, np.zeros(robot.m))

    def start(self, posture: Float[Array, " m"], effort: Float[Array, " m"], seconds: float | None = None) -> None:
        """From now on about `posture`, with `effort` as what rest takes until the integral knows better.

        An excitation is designed for so many seconds; None: `excitation.duration`.
        """
        self._seconds = seconds
        self.posture = np.array(posture, float)
        self.posture_speed = np.zeros(self.robot.m)
        self._integral = np.array(effort, float)
        self._excitation: Excitation | None = None  # made when it is asked for: the design takes some ms

    def act(self, state: StateEstimate, excite: bool) -> Float[Array, " m"]:
        """One period of the hold, with excitation on top where asked for."""
        robot, config, h = self.robot, self.config, self.robot.period
        q = state.belief.mean[robot.slice("joint/position")]
        qd = state.belief.mean[robot.slice("joint/velocity")]
        offset, speed, added = self._excite(q, qd) if excite else np.zeros((3, robot.m))
        goal = np.clip(self.posture + offset, self._low, self._high)
        swings = (np.abs(qd) > SWINGING * robot.velocity_limit).any()
        change = (CALMER if swings else RECOVERY) ** (h / UNIT)
        first = excite and self._lively > CALMEST  # an arm that does not carry itself falls where its gains shrink
        self._lively = min(1.0, max(CALMEST, change * self._lively))
        if not (swings and first):
            self._calm = min(1.0, max(CALMEST, change * self._calm))
        caution = self.caution * self._calm * self.calm.gain
        gain = config.gain * caution
        bound, pull = 0.5 * robot.effort_limit, gain * robot.stiffness * (goal - q)
        integral = config.integral * self._calm * self.calm.integral
        self._integral = np.clip(self._integral + h * integral * pull, -bound, bound)
        speed = speed + self.posture_speed
        if excite:
            self.calm.rest()  # it is to swing
        else:
            self.calm.observe(qd - speed, h)
        u: Array = pull + gain * robot.damping * (speed - qd) + self._integral + np.sqrt(caution) * self._lively * added
        return u

    def follow(self, position: Float[Array, " 3"], velocity: Float[Array, " 3"]) -> None:
        """Move the posture by one period so that its tool follows a point [m] with its velocity [m/s]."""
        robot, q = self.robot, self.posture
        catch_up = (position - robot.tool_position(q)) / CATCH_UP
        self._move(robot.joint_velocity(q, velocity + catch_up))

    def approach(self, posture: Float[Array, " m"]) -> None:
        """Move the posture by one period towards another, at most as fast as an excitation."""
        self._move((posture - self.posture) / CATCH_UP)

    def _move(self, speed: Array) -> None:
        fastest = self.config.speed * self.robot.velocity_limit
        self.posture_speed = np.clip(speed, -fastest, fastest)
        self.posture = np.clip(self.posture + self.robot.period * self.posture_speed, self._low, self._high)

    def _excite(self, q: Array, qd: Array) -> tuple[Array, Array, Array]:
        """Offset and speed of the posture and the effort on top, within the limits."""
        robot, config = self.robot, self.config
        if self._excitation is None:
            designed = config if self._seconds is None else replace(config, duration=self._seconds)
            self._excitation = KINDS[config.kind](robot, designed, config.gain * self.caution)
        offset, speed, effort = self._excitation.next()
        limit, away = config.effort * robot.effort_limit, q - self.posture
        effort = np.clip(effort, -limit, limit)
        beyond = (np.abs(qd) > config.speed * robot.velocity_limit) & (effort * qd > 0)
        beyond |= (np.abs(away) > config.range) & (effort * away > 0)
        fastest = config.speed * robot.velocity_limit
        return (np.clip(offset, -config.range, config.range), np.clip(speed, -fastest, fastest),
                np.where(beyond, 0.0, effort))
