"""The ring on a simulated or a real robot, one process per node; when one ends, all end.

    ros2 launch mbrl_ros bringup.launch.py robot:=arm task:=reach planner:=ilqr prior:=ensemble
    ros2 launch mbrl_ros bringup.launch.py robot:=/path/my_arm.yaml plant:=false
"""
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription
from mbrl_ros.nodes.bringup import ARGUMENTS, MANAGED, check, enclave, node_names, parameters, suited


def nodes(context):
    """The nodes, with the same parameters for all."""
    values = check({name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS})
    first, given = ({name: ParameterValue(value, value_type=type(value)) for name, value in some.items()}
                    for some in (suited(values["pace"]), parameters(values)))
    settings = [*([first] if first else []), *([values["params_file"]] if values["params_file"] else []), given]
    kinds = {"controller": LifecycleNode}
    made = {name: kinds.get(name, Node)(
        package="mbrl_ros", executable=f"{name}_node", name=name, namespace=values["namespace"],
        parameters=[*settings, *([MANAGED] if name in kinds else [])], ros_arguments=enclave(values, name),
        output="screen", emulate_tty=True, on_exit=Shutdown(reason=f"{name} has ended"))
        for name in node_names(values)}
    return [*driven(made["controller"]), *made.values()]


def driven(node):
    """From its start to `inactive`, and from there to `active`; not back to it after a `deactivate`."""
    def change(transition):
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    return [RegisterEventHandler(OnProcessStart(target_action=node,
                                                on_start=[change(Transition.TRANSITION_CONFIGURE)])),
            RegisterEventHandler(OnStateTransition(target_lifecycle_node=node, start_state="configuring",
                                                   goal_state="inactive",
                                                   entities=[change(Transition.TRANSITION_ACTIVATE)]))]


def generate_launch_description():
    """Arguments and nodes."""
    arguments = [DeclareLaunchArgument(name, default_value=default, description=description)
                 for name, (default, description) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])
