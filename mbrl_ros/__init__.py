"""Model-based reinforcement learning for robot arms on ROS 2."""
# One package in two places: the source tree (or a pip install) and the colcon
# install space. This finds mbrl_ros.msg whichever of them comes first.
from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
