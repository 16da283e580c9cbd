"""Joints that swing under a hold, and how it calms: used by the hold of the guard and by that of the controller.

A hold whose gains are too large for what a joint weighs, or for how late they act, makes it swing: its speed changes
sign again and again, and a half swing is about as fast as the one before, or faster. What was pushed comes to rest
instead. The integral is let go of first, since it makes a soft hold unstable, then the gains shrink with every further
half swing. They come back by themselves: soon to half of what they were, and beyond that the slower, the more often
that has made the joint swing again.
"""
from __future__ import annotations

import numpy as np

from mbrl_ros.types import Array

SMALL, NOISY = 0.05, 0.25  # [velocity limit] below which half swings do not count, and where speeds are noisy
NOISE, MEMORY = 5.0, 25  # deviations of the noise of speeds that do not count either; readings that it is found from
KEPT = 0.7  # of the speed of a half swing in the next: less is coming to rest
WOUND, SWINGS = 1, 2  # half swings in a row, after which the integral rests; after which the gains shrink
CALMER, CALMEST = 0.5, 1e-3  # factor on the gains per half swing then, less by as much as it has grown; at least
SOON = 1.0  # [s] in which gains grow by a factor e, up to a part of CALMER of those with which the joint swung
PATIENCE, MOST = 10.0, 300.0  # [s] likewise beyond that: at first; at most, doubled by every relapse


class Calm:
    """Factors on the gains of a hold, one per joint (m,), from the speeds at which its joints deviate."""

    def __init__(self, speed: Array):
        """speed: the velocity limits (m,)."""
        self._limit = speed
        self.begin(np.ones(len(speed)))

    def begin(self, gain: Array) -> None:
        """With these factors (m,), as another hold has had them."""
        m = len(gain)
        self.gain, self.integral = np.array(gain), np.array(gain)  # on stiffness and damping; on the integral besides
        self._patience, self._ceiling = np.full(m, PATIENCE / 2), np.ones(m)
        self.rest()

    def rest(self) -> None:
        """Nobody holds for a while: what comes is no swing that has begun before. Factors stay."""
        m = len(self.gain)
        self._count, self._age = np.zeros(m, int), np.full(m, np.inf)  # half swings in a row; [s] since the last
        self._speed, self._peak, self._before = np.zeros(m), np.zeros(m), np.zeros(m)
        self._last, self._noise = np.zeros((2, m)), np.zeros(m)  # speeds, newest first; square of their noise

    @property
    def swinging(self) -> Array:
        """Which joints do, or are calmed because they did (m,)."""
        return self.gain < 1.0

    def observe(self, speed: Array, elapsed: float) -> None:
        """The speed (m,) at which joints deviate from what they are to do, `elapsed` [s] after the one before."""
        self._noise += (np.square(speed - 2 * self._last[0] + self._last[1]) / 6 - self._noise) / MEMORY
        self._last = np.array([speed, self._last[0]])
        small = np.clip(NOISE * np.sqrt(self._noise), SMALL * self._limit, NOISY * self._limit)
        turned = speed * self._speed < 0
        again = (np.minimum(self._peak, self._before) > small) & (self._peak > KEPT * self._before)
        self._count = np.where(turned, np.where(again, self._count + 1, 0), self._count)
        self._age = np.where(turned & again, 0.0, self._age + elapsed)
        calmer = CALMER * np.minimum(1.0, self._before / np.maximum(self._peak, small))
        shrinks = turned & (self._count >= SWINGS)
        begins = shrinks & (self._count == SWINGS)
        forgotten = np.maximum(PATIENCE / 2, self._patience * np.exp(-elapsed / MOST * (self.gain == 1.0)))
        self._patience = np.where(begins, np.minimum(2 * self._patience, MOST), forgotten)
        self._ceiling = np.where(begins, CALMER * self.gain, self._ceiling)
        self.integral = np.where(self._count >= WOUND, 0.0, self.integral)
        self.gain = np.where(shrinks, np.maximum(calmer * self.gain, CALMEST), self.gain)
        back = self._age > SOON
        up = back & (self.gain >= self._ceiling)
        self._ceiling = np.where(up, np.minimum(1.0, self._ceiling * np.exp(elapsed / self._patience)), self._ceiling)
        self.gain = np.where(back, np.minimum(self._ceiling, self.gain * np.exp(elapsed / SOON)), self.gain)
        self.integral = np.where(back, np.minimum(self.gain, self.integral + elapsed / PATIENCE), self.integral)
        self._count = np.where(back, 0, self._count)
        self._before = np.where(turned, self._peak, self._before)
        self._peak = np.where(turned, np.abs(speed), np.maximum(self._peak, np.abs(speed)))
        self._speed = np.where(speed == 0, self._speed, speed)
