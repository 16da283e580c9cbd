"""What to do about it: planners turn a problem over one horizon (problem.py) into a plan."""
from __future__ import annotations

from typing import Any

from mbrl_ros.planners.ilqr import Ilqr, Lqr

PLANNERS: dict[str, Any] = {"lqr": Lqr, "ilqr": Ilqr}
