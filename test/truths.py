"""What no effort may be, said without the guard's gains: used on any sequence of inputs."""
from __future__ import annotations

import numpy as np

NAMES = FINITE, EFFORT, RATE, SPEED, END = ("finite", "effort", "rate", "speed", "end")


def violated(limits, period, effort, before, elapsed, believed=None, weight=0.0):
    """The names of the limits that `effort` (m,) breaks, sent `elapsed` [s] after `before`.

    believed: (q, qd) where the joint state is fresh. Too fast, or too close to an end to stop at the stated
    deceleration, no joint may be pushed on: but for what the limited rate leaves of the effort before. Efforts count
    from the `weight` (m,) that the guard has to carry.
    """
    if not np.isfinite(effort).all():
        return [FINITE]
    step = limits.effort_rate * period
    found = [EFFORT] if (np.abs(effort) > limits.effort).any() else []
    if (np.abs(effort - before) > step * (1 + 1e-9)).any():
        found.append(RATE)
    for sign in (1, -1) if believed is not None else ():
        q, v = sign * believed[0], sign * believed[1]
        room = (limits.position_high if sign > 0 else -limits.position_low) - q
        ramped = sign * (before - weight) - 0.999 * limits.effort_rate * min(elapsed, period)
        pushed = sign * (effort - weight) > np.maximum(ramped, 0.0) + 1e-9
        if (pushed & (v > limits.speed)).any():
            found.append(SPEED)
        if (pushed & (v > 0) & (v**2 > 2 * limits.deceleration * np.maximum(room, 0.0))).any():
            found.append(END)
    return found
