"""The ring on a simulated or a real robot, one process per node. A node that is killed is started again, the guard
or its spare holding meanwhile; all end with a guard that ends by itself.

    ros2 launch mbrl_ros bringup.launch.py robot:=arm task:=reach planner:=ilqr prior:=ensemble
    ros2 launch mbrl_ros bringup.launch.py robot:=/path/my_arm.yaml plant:=false
"""
import sys
from functools import partial
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from mbrl_ros.nodes.bringup import (
    ARGUMENTS,
    check,
    claim,
    defaults,
    enclave,
    ends_all,
    environment,
    grace,
    known,
    node_names,
    parameters,
    remappings,
    respawn,
)
from mbrl_ros.nodes.description import description

LINKS = "robot_state_publisher"
LOCKS = []  # kept until this process ends, in whatever way


def nodes(context):
    """The nodes, with the same parameters for all. Raises ConfigError, which ends the launch with that line."""
    if any(Path(word).name == Path(__file__).name for word in sys.argv):  # else those of whoever includes this file
        known(context.argv)
    values = check({name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS})
    LOCKS.append(claim(values))
    first, given = ({name: ParameterValue(value, value_type=type(value)) for name, value in some.items()}
                    for some in (defaults(values), parameters(values)))
    settings = [first, *([values["params_file"]] if values["params_file"] else []), given]
    return [Node(package="mbrl_ros", executable=f"{name}_node", name=name, namespace=values["namespace"],
                 parameters=settings, remappings=remappings(values), ros_arguments=enclave(values, name),
                 additional_env=environment(), output="screen", emulate_tty=True, sigterm_timeout=str(grace(name)),
                 respawn=True, respawn_delay=respawn(name), on_exit=partial(ended, name, set()))
            for name in node_names(values)] + links(values)


def links(values):
    """robot_state_publisher for a simulated robot that is displayed, where it is installed; a real one has its own."""
    try:
        get_package_prefix(LINKS)
    except PackageNotFoundError:
        return []
    if values["display"] != "true" or values["plant"] != "true":
        return []
    return [Node(package=LINKS, executable=LINKS, namespace=values["namespace"], output="screen",
                 parameters=[{"robot_description": ParameterValue(description(values), value_type=str)}])]


def ended(name, lives, event, context):
    """Everything ends with the guard. Where all end already there is nothing to do, and a second shutdown an error."""
    again = bool(lives)
    lives.add(event.pid)
    if ends_all(name, event.returncode, again) and not context.is_shutdown:
        return Shutdown(reason=f"the {name} ended with exit code {event.returncode}")
    return None


def generate_launch_description():
    """Arguments and nodes."""
    arguments = [DeclareLaunchArgument(name, default_value=default, description=description)
                 for name, (default, description) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])
