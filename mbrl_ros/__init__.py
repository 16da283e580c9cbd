"""Model-based reinforcement learning for robot arms on ROS 2."""
# One package in two places: the source tree (or a pip install) and the colcon install space. This finds mbrl_ros.msg
# whichever of them comes first. The install space links file by file to the source tree, which is looked into first:
# so a module that is new works before the next build.
from pathlib import Path
from pkgutil import extend_path

__path__ = [str(Path(__file__).resolve().parent), *extend_path(__path__, __name__)]
