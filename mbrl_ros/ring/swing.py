"""Joints that swing under a hold, and how it calms: used by the hold of the guard and by that of the controller.

A hold whose gains are too large for what a joint weighs, or for how late they act, makes it swing: its speed changes
sign again and again, and a half swing is about as fast as the one before, or faster. What was pushed comes to rest
instead. The integral is let go of first, since it makes a soft hold unstable, then the gains shrink with every further
half swing. They come back by themselves, the slower, the more often that has made the joint swing again.
"""
from __future__ import annotations

import numpy as np

from mbrl_ros.types import Array

SMALL = 0.1  # [velocity limit] below which half swings do not count
KEPT = 0.7  # of the speed of a half swing in the next: less is coming to rest
WOUND, SWINGS = 2, 3  # half swings in a row, after which the integral rests; after which the gains shrink
CALMER, CALMEST = 0.5, 1e-3  # factor on the gains per half swing then; of all of them at least
PATIENCE, MOST = 2.0, 300.0  # [s] in which gains grow by a factor e at first; at most, doubled by every relapse


class Calm:
    """Factors on the gains of a hold, one per joint (m,), from the speeds at which its joints deviate."""

    def __init__(self, speed: Array):
        """speed: the velocity limits (m,)."""
        m, self._small = len(speed), SMALL * speed
        self.gain, self.integral = np.ones(m), np.ones(m)  # on stiffness and damping; on the integral besides
        self._patience = np.full(m, PATIENCE)
        self.rest()

    def rest(self) -> None:
        """Nobody holds for a while: what comes is no swing that has begun before. Factors stay."""
        m = len(self.gain)
        self._count, self._age = np.zeros(m, int), np.full(m, np.inf)  # half swings in a row; [s] since the last of them
        self._speed, self._peak, self._before = np.zeros(m), np.zeros(m), np.zeros(m)

    @property
    def swinging(self) -> Array:
        """Which joints do, or are calmed because they did (m,)."""
        return self.gain < 1.0

    def observe(self, speed: Array, elapsed: float) -> None:
        """The speed (m,) at which joints deviate from what they are to do, `elapsed` [s] after the one before."""
        turned = speed * self._speed < 0
        again = (np.minimum(self._peak, self._before) > self._small) & (self._peak > KEPT * self._before)
        self._count = np.where(turned, np.where(again, self._count + 1, 0), self._count)
        self._age = np.where(turned & again, 0.0, self._age + elapsed)
        shrinks = turned & (self._count >= SWINGS)
        self._patience = np.where(shrinks & (self._count == SWINGS) & (self.gain < 1.0),
                                  np.minimum(2 * self._patience, MOST), self._patience)
        self.integral = np.where(self._count >= WOUND, 0.0, self.integral)
        self.gain = np.where(shrinks, np.maximum(CALMER * self.gain, CALMEST), self.gain)
        back = self._age > self._patience
        self.gain = np.where(back, np.minimum(1.0, self.gain * np.exp(elapsed / self._patience)), self.gain)
        self.integral = np.where(back, np.minimum(self.gain, self.integral + elapsed / self._patience), self.integral)
        self._count = np.where(back, 0, self._count)
        self._before = np.where(turned, self._peak, self._before)
        self._peak = np.where(turned, np.abs(speed), np.maximum(self._peak, np.abs(speed)))
        self._speed = np.where(speed == 0, self._speed, speed)
