"""The ring on a simulated or a real robot, one process per node. The guard's end ends all; another node that ends is
started again, while the guard holds the arm.

    ros2 launch mbrl_ros bringup.launch.py robot:=arm task:=reach planner:=ilqr prior:=ensemble
    ros2 launch mbrl_ros bringup.launch.py robot:=/path/my_arm.yaml plant:=false
"""
from functools import partial

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from mbrl_ros.nodes.bringup import (
    ARGUMENTS,
    RESPAWN,
    check,
    enclave,
    ends_all,
    grace,
    node_names,
    parameters,
    suited,
)


def nodes(context):
    """The nodes, with the same parameters for all."""
    values = check({name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS})
    first, given = ({name: ParameterValue(value, value_type=type(value)) for name, value in some.items()}
                    for some in (suited(values["pace"]), parameters(values)))
    settings = [*([first] if first else []), *([values["params_file"]] if values["params_file"] else []), given]
    return [Node(package="mbrl_ros", executable=f"{name}_node", name=name, namespace=values["namespace"],
                 parameters=settings, ros_arguments=enclave(values, name), output="screen", emulate_tty=True,
                 sigterm_timeout=str(grace(name)), respawn=True, respawn_delay=RESPAWN,
                 on_exit=partial(ended, name, set()))
            for name in node_names(values)]


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
