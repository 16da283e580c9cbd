"""What to do about it: planners turn a problem over one horizon (problem.py) into a plan."""
from __future__ import annotations

from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.lqr import Lqr

PLANNERS: dict[str, type] = {"lqr": Lqr, "ilqr": Ilqr}
