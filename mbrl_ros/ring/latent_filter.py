"""State estimation from pictures: what x is for a robot that is only seen is z, a few numbers of a learned model."""
from __future__ import annotations

from typing import TYPE_CHECKING

from mbrl_ros.models.latent import Latent
from mbrl_ros.types import Array, Gaussian, Picture, StateEstimate

if TYPE_CHECKING:
    from jaxtyping import Float

GAP = 1.5  # periods without a picture after which an episode begins anew


def state_names(count: int) -> tuple[str, ...]:
    """Of z."""
    return tuple(f"z{i}" for i in range(count))


class LatentFilter:
    """Picture -> StateEstimate over z, in the place of JointFilter: one for every picture that is newer than the last.

    A picture that comes more than GAP periods after the last one begins an episode: how fast the arm is can only be
    seen in pictures a period apart."""

    def __init__(self, model: Latent, period: float):
        self.model, self._period = model, period
        self.state_names = state_names(2 * model.config.size)
        self._last: tuple[Picture, Gaussian] | None = None
        self._episode = self._step = 0

    def commanded(self, effort: Float[Array, " m"]) -> None:
        """What acted comes with the pictures."""

    def update(self, picture: Picture) -> StateEstimate | None:
        """None for a picture that is not newer than the last one."""
        last = self._last
        if last is not None and picture.time <= last[0].time:
            return None
        if last is None or picture.time - last[0].time > GAP * self._period * 1e9:
            z = self.model.begin(picture.pixels)
            self._episode, self._step = self._episode + (last is not None), 0
        else:
            z = self.model.step(last[1], picture.effort, picture.pixels)
            self._step += 1
        self._last = picture, z
        belief = Gaussian(z.mean.numpy(), z.cov.numpy())
        return StateEstimate(picture.time, self._episode, self._step, belief, picture.effort)
