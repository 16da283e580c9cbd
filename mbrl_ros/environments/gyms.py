"""To and from gymnasium: our robots for other people's learners, and other people's environments for ours.

gymnasium is not required by the ring, and imported here only.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import ConfigError
from mbrl_ros.environments.environment import Observed, Step
from mbrl_ros.environments.ring import RingEnvironment
from mbrl_ros.types import Array

try:
    import gymnasium
except ImportError as error:
    raise ConfigError("environments: gymnasium is missing: pip install gymnasium") from error

if TYPE_CHECKING:
    from jaxtyping import Float


class ArmEnv(gymnasium.Env[Array, Array]):
    """A RingEnvironment as a gymnasium.Env."""

    def __init__(self, environment: RingEnvironment):
        self.environment = environment
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (environment.n,), np.float64)
        self.action_space = gymnasium.spaces.Box(environment.low, environment.high, dtype=np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Another target every time; where they begin is up to the seed that was given last."""
        super().reset(seed=seed)
        return self.environment.reset(int(self.np_random.integers(2**31))), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """The information is the distance to the target [m], as the sensors have it."""
        x, reward, terminated, truncated = self.environment.step(np.asarray(action, float))
        return x, reward, terminated, truncated, {"distance": float(np.linalg.norm(x[-3:]))}


class GymEnvironment(Observed):
    """Any gymnasium.Env whose observations and actions are numbers in a row, as an Environment.

    Rewards and ends are known to a learner where they are given as functions of (x', a) and of x', batched, in torch.
    Raises ConfigError for spaces of another kind, and for actions without limits.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], reward: Callable[[Tensor, Tensor], Tensor] | None = None,
                 terminated: Callable[[Tensor], Tensor] | None = None, angles: tuple[int, ...] = ()):
        for what, space in (("observation", env.observation_space), ("action", env.action_space)):
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise ConfigError(f"environment: expected {what}s in a Box of one axis, got {space}")
        box: Any = env.action_space
        shape: Any = env.observation_space.shape
        if not np.isfinite([box.low, box.high]).all():
            raise ConfigError(f"environment: expected finite limits of actions, got {box}")
        super().__init__(shape[0], box.low, box.high, angles)
        self.env, self._reward, self._terminated, self._dtype = env, reward, terminated, box.dtype

    def reset(self, seed: int) -> Float[Array, " n"]:
        """See Environment."""
        return np.asarray(self.env.reset(seed=seed)[0], float)

    def step(self, a: Float[Array, " m"]) -> Step:
        """See Environment."""
        x, reward, terminated, truncated, _ = self.env.step(np.clip(a, self.low, self.high).astype(self._dtype))
        return Step(np.asarray(x, float), float(reward), bool(terminated), bool(truncated))

    def reward(self, x_next: Float[Tensor, "*b n"], a: Float[Tensor, "*b m"]) -> Float[Tensor, " *b"]:
        """See Known."""
        if self._reward is None:
            raise ConfigError("environment: expected its reward as a function of (x', a), to plan with")
        return self._reward(x_next, a)

    def terminated(self, x_next: Float[Tensor, "*b n"]) -> Tensor:
        """See Known; nowhere, where no function says it."""
        nowhere = torch.zeros(x_next.shape[:-1], dtype=torch.bool, device=x_next.device)
        return nowhere if self._terminated is None else self._terminated(x_next)
