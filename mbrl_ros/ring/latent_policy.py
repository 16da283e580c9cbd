"""A policy that sees: linear in z, the few numbers that a latent model makes of the pictures of a camera.

Nobody waits for a picture: it is drawn or sent while the arm moves on, so z now is what became of the newest one by
the efforts that acted since, as the model expects it. The policy is left where there is no newer picture for longer
than that takes, and where the camera shows the same picture again and again while the tool moves: so the joints say, of
which the policy knows nothing else.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from mbrl_ros.messages.camera import fitted
from mbrl_ros.models import latent_file
from mbrl_ros.models.latent import Latent, predicted_means
from mbrl_ros.ring import linear_policy
from mbrl_ros.ring.latent_filter import LatentFilter
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Picture, StateEstimate, TimedPolicy

if TYPE_CHECKING:
    from jaxtyping import Float

LATE = 2  # periods that the newest picture may be old
MOVED = 0.01  # [m] by which the tool moves in one picture for another to differ from it
KEPT = 50  # periods of states
WAITING = 8  # pictures that may come between two states
NO_PICTURE = "no picture has come: is there a camera (camera.width)?"


class LatentPolicy:
    """A Policy; who plays it gives it pictures (`look`) and states (`observe`). Raises ConfigError or MessageError for
    numbers of another robot or period, of wrong shapes, or not finite."""

    KIND = "latent"

    def __init__(self, arrays: Mapping[str, Array], robot: Robot):
        self.model, self._period = latent_file.of_numbers(arrays), robot.period
        self.filter = LatentFilter(self.model, robot.period)
        self._linear = LinearPolicy(linear_policy.timed_of(arrays), robot, self.filter.state_names)
        self.horizon = self._linear.horizon
        self._tool = robot.slice(f"site/{robot.sites[0]}/position")
        self._came = deque[tuple[int, Array]](maxlen=WAITING)
        self._states: dict[int, StateEstimate] = {}  # by their time [ns]
        self._seen: tuple[StateEstimate, Array] | None = None  # by the newest picture; and that picture
        self._other = 0  # [ns] when the picture before it was another one
        self.blind, self.z = NO_PICTURE, np.zeros(0)  # why it does not see, empty where it does; what it sees

    @classmethod
    def made(cls, model: Latent, policy: TimedPolicy, robot: Robot) -> LatentPolicy:
        """Of a model and a policy of its z."""
        return cls({**linear_policy.numbers(policy), **latent_file.numbers(model)}, robot)

    def numbers(self) -> dict[str, Array]:
        """What a file has of it."""
        return {**linear_policy.numbers(self._linear.timed), **latent_file.numbers(self.model),
                "kind": np.array(self.KIND)}

    def look(self, time: int, pixels: Array) -> None:
        """A picture (rows, columns, channels), 0 to 255, that was seen at `time` [ns]. Raises MessageError for one that
        is no picture."""
        self._came.append((time, fitted(pixels, *self.model.shape[:2])))

    def observe(self, state: StateEstimate) -> None:
        """It is the time of this state, and its effort acted in the period before."""
        self._states[state.time] = state
        for time in [time for time in self._states if not 0 <= self._periods(state.time - time) <= KEPT]:
            del self._states[time]
        while self._came and self._came[0][0] <= state.time:
            self._take(*self._came.popleft())
        self.blind = self._why(state)
        if self._seen is not None and not self.blind:
            self.z = self._ahead(self._seen[0], state.time)

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], Float[Array, "m m"] | None]:
        """See Policy; x is what the joints do, of which it knows nothing."""
        return self._linear.act(self.z, step)

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy."""
        return self._linear.distance(self.z, step)

    def _periods(self, time: int) -> int:
        return round(1e-9 * time / self._period)

    def _at(self, time: int) -> StateEstimate:
        return self._states[min(self._states, key=lambda at: abs(at - time))]

    def _take(self, time: int, pixels: Array) -> None:
        state = self.filter.update(Picture(time, pixels, np.nan_to_num(self._at(time).effort)))
        if state is None:
            return
        if self._seen is None or state.step == 0 or not np.array_equal(pixels, self._seen[1]):
            self._other = time
        self._seen = state, pixels

    def _why(self, state: StateEstimate) -> str:
        """Why it does not see; empty where it does."""
        if self._seen is None:
            return NO_PICTURE
        newest = self._seen[0].time
        age = self._periods(state.time - newest)
        if age > LATE:
            return f"no picture for {age * self._period:.3g} s"
        before, after = (self._at(time).belief.mean[self._tool] for time in (self._other, newest))
        moved = float(np.linalg.norm(after - before))
        return "" if moved <= MOVED else (f"the camera shows the same picture for {1e-9 * (newest - self._other):.3g} "
                                          f"s, in which the tool moved by {1e3 * moved:.0f} mm")

    def _ahead(self, state: StateEstimate, time: int) -> Array:
        """What z has become by then."""
        steps = self._periods(time - state.time)
        mean: Array = state.belief.mean
        if steps > 0:
            times = [state.time + round(1e9 * self._period * (1 + i)) for i in range(steps)]
            efforts = np.nan_to_num([self._at(at).effort for at in times])
            mean = predicted_means(self.model, torch.as_tensor(mean), efforts)[-1].numpy()
        return mean
