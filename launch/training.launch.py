"""The ring of bringup.launch.py with a trainer beside it, which learns from trials once trainer/start is called.

    ros2 launch mbrl_ros training.launch.py robot:=planar2 trainer:=refit trials:=runs/training
    ros2 service call /controller/hold std_srvs/srv/Trigger && ros2 service call /guard/arm std_srvs/srv/SetBool '{data: true}'
    ros2 service call /trainer/start std_srvs/srv/Trigger

Arguments are those of bringup.launch.py. Where trials are in the folder already, it goes on from them.
"""  # noqa: E501
import sys
from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription
from mbrl_ros.nodes.bringup import ARGUMENTS, known

DEFAULT = "refit"


def checked(context):
    """Nothing; raises ConfigError for an argument that is none of ours, which ends the launch with that line."""
    if any(Path(word).name == Path(__file__).name for word in sys.argv):  # else those of whoever includes this file
        known(context.argv)
    return []


def generate_launch_description():
    """Arguments, and what bringup starts with them."""
    given = {**{name: default for name, (default, _) in ARGUMENTS.items()}, "trainer": DEFAULT}
    arguments = [DeclareLaunchArgument(name, default_value=given[name], description=description)
                 for name, (_, description) in ARGUMENTS.items()]
    ring = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("bringup.launch.py"))),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in ARGUMENTS])
    return LaunchDescription([*arguments, OpaqueFunction(function=checked), ring])
