from dataclasses import dataclass

import torch

from mbrl_ros.config import ConfigError, param
from mbrl_ros.robot import Robot
from mbrl_ros.task.residuals import Curved


@dataclass(frozen=True)
class KeepOut:
    """How deep the tool is in a sphere [m]; negative outside."""

    center: tuple[float, ...] = param((0.0, 0.0, 0.0), "Centre of the sphere in the base frame [m]", live=True)
    radius: float = param(0.1, "Radius of the sphere [m]", 0.0, 10.0, live=True)

    def __post_init__(self) -> None:
        if len(self.center) != 3:
            raise ConfigError(f"center: expected 3 coordinates [m], got {len(self.center)}")

    def on(self, robot: Robot) -> Curved:
        tool, center = robot.slice(f"site/{robot.sites[0]}/position"), torch.tensor(self.center, dtype=torch.float64)
        return Curved(lambda x, u, window: self.radius - (x[..., tool] - center).norm(dim=-1, keepdim=True))
