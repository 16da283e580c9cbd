"""Who carries the weight of an arm, found from the efforts that rest takes.

An arm that carries itself rests at no effort; one that does not takes what its weight is. So wherever all joints have
been at rest for a while, the mean of what was sent says which, whatever the settings say, and about what effort the
guard is to brake.
"""
from __future__ import annotations

import numpy as np

from mbrl_ros.types import Array

ROBOT, MODEL, CARRIED = CARRIERS = ("robot", "model", "carried")  # of guard.gravity
STILL, REST = 0.03, 1.0  # [velocity limit] and for how long [s] all joints have to be slower
MEAN = 0.5  # [s] time constant of the mean
HEAVY = 0.2  # [effort limit] that rest takes at some joint, from which on somebody has to carry it
AGREE = 0.5  # of the weight by the model: what rest takes differs by less, and it is the model's
WORDS = {ROBOT: "the robot carries its weight", MODEL: "the guard carries the weight of the robot, by the model",
         CARRIED: "the guard carries the weight of the robot, by what rest took"}


class Carrying:
    """`by` is one of CARRIERS, at first what the settings say; `rest` (m,) the effort that the last rest took."""

    def __init__(self, by: str, effort: Array, speed: Array):
        """effort, speed: the limits (m,)."""
        self.by, self.rest = by, np.zeros(len(effort))
        self._effort, self._slow = effort, STILL * speed
        self._still = 0.0  # [s]
        self._mean = np.zeros(len(effort))

    def observe(self, qd: Array, sent: Array, weight: Array, elapsed: float) -> bool:
        """The speeds (m,), the effort (m,) that was sent, and the weight (m,) by the model, `elapsed` [s] after those
        before. Whether `by` has changed."""
        self._still = self._still + elapsed if (np.abs(qd) < self._slow).all() else 0.0
        self._mean = self._mean + min(1.0, elapsed / MEAN) * (sent - self._mean)
        if self._still < REST:
            return False
        self.rest = self._mean
        before, took, known = self.by, self._mean / self._effort, weight / self._effort
        if self.by != CARRIED and max(np.abs(took).max(), np.abs(known).max()) > HEAVY:
            if np.abs(known).max() > HEAVY and np.linalg.norm(took - known) < AGREE * np.linalg.norm(known):
                self.by = MODEL
            else:
                self.by = CARRIED if np.abs(took).max() > HEAVY else ROBOT
        return self.by != before
