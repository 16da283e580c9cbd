"""Where to plan."""
from __future__ import annotations

import torch

from mbrl_ros.config import ConfigError

# From how many problems a GPU pays. Not measured: an iteration of a batch there is some hundred launches of expansion
# and line search, about 1 ms whatever the batch, and one fused kernel; a compiled problem on a CPU is 15 to 40 us.
GPU_BATCH = 64


def device_for(choice: str, problems: int, setting: str = "device") -> torch.device:
    """The device for so many problems at once; `choice` is auto, cpu or cuda. Raises ConfigError without that GPU."""
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise ConfigError(f"{setting}: cuda asked for, but torch finds no CUDA device; use auto or cpu")
    on_gpu = choice == "cuda" or (choice == "auto" and available and problems >= GPU_BATCH)
    return torch.device("cuda" if on_gpu else "cpu")
