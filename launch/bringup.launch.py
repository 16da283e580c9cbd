"""The ring on a simulated or a real robot, one process per node; when one ends, all end.

    ros2 launch mbrl_ros bringup.launch.py robot:=arm task:=reach planner:=ilqr prior:=ensemble
    ros2 launch mbrl_ros bringup.launch.py robot:=/path/my_arm.yaml plant:=false
"""
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from mbrl_ros.nodes.bringup import ARGUMENTS, check, enclave, node_names, parameters


def nodes(context):
    """The nodes, with the same parameters for all."""
    values = check({name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS})
    given = {name: ParameterValue(value, value_type=type(value)) for name, value in parameters(values).items()}
    files = [values["params_file"]] if values["params_file"] else []
    return [Node(package="mbrl_ros", executable=f"{name}_node", name=name, namespace=values["namespace"],
                 parameters=[*files, given], ros_arguments=enclave(values, name), output="screen", emulate_tty=True,
                 on_exit=Shutdown(reason=f"{name} has ended"))
            for name in node_names(values)]


def generate_launch_description():
    """Arguments and nodes."""
    arguments = [DeclareLaunchArgument(name, default_value=default, description=description)
                 for name, (default, description) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])
