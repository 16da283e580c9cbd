"""Global models as priors over the local dynamics (docs/design.md, section 3).

Over z = [w; y] a model y = g(w) + N(0, R) with Jacobian J says, about a point w and with D = diag(deviation of w)^2,
    mu0 = [w; g(w)],   S0 = [[D, D J'], [J D, J D J' + R]],   Phi = n0 S0,
so that without data the conditional is y ~ N(g(w) + J (. - w), R), and with data a ridge regression towards J, n0
transitions strong (Fu, Levine & Abbeel 2016). A mixture gives its own joint covariance (Levine & Abbeel 2014).
"""
from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import ConfigError, from_mapping, param, section
from mbrl_ros.models import MODELS
from mbrl_ros.models.features import Data
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Moments, NormalInverseWishart

FORMAT = 1  # of the files of `save`


@dataclass(frozen=True)
class Config:
    """Parameters `prior.*`."""

    n0: float = param(10.0, "Transitions the prior's covariance, hence its Jacobian, is worth", 1e-6, 1e6)
    m0: float = param(1.0, "Transitions the prior's mean is worth", 1e-6, 1e6)


class Prior(Protocol):
    """What the local fit is pulled towards at w (dw,), given the recent moments over z = [w; y]."""

    def at(self, w: Array, recent: Moments) -> NormalInverseWishart: ...
