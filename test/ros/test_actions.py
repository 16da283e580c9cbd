"""The action controller/reach_target over DDS, under both executors: how a goal can end, each with its code."""
import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from goals import Client, make
from mbrl_ros.action import ReachTarget
from rig import RING, ControllerNode, PlantNode

from mbrl_ros.nodes import follow_action, spin, topics

Result, Goal = ReachTarget.Result, ReachTarget.Goal
EXECUTORS = ["single", *(["events"] if spin.EventsExecutor is not None else [])]


def place(made, dq=(0.3, -0.2), kind=Goal.POSITION, **more):
    """A goal where the tool is with the joints so far from home."""
    robot = made[ControllerNode].robot
    position, rotation, _ = robot.tool(robot.home + np.array(dq))
    goal = Goal(kind=kind, **more)
    goal.pose = topics.pose(position, 0, robot.base_frame)
    if kind == Goal.POSE:
        from scipy.spatial.transform import Rotation
        o = goal.pose.pose.orientation
        o.x, o.y, o.z, o.w = Rotation.from_matrix(rotation).as_quat().tolist()
    return goal


def begun(made, client):
    """Until the arm is on its way."""
    assert made.spin(lambda: client.feedback and made[ControllerNode].controller.mode == "reach")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_how_goals_end(rig, executor):
    made = make(rig, executor)
    client, controller = Client(made), made[ControllerNode].controller
    tool = made[PlantNode].plant.true_tool

    status, result = client.do(place(made))
    assert (status, result.error_code, result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, Result.NONE, "")
    p = place(made).pose.pose.position
    assert np.linalg.norm(tool() - [p.x, p.y, p.z]) < 0.006 and result.distance < 0.005
    assert client.feedback[0].distance > 0.1 and client.feedback[-1].distance < client.feedback[0].distance
    assert client.feedback[-1].predicted_error < 0.01 and client.feedback[-1].trust == 1.0

    robot = made[ControllerNode].robot
    joints = Goal(kind=Goal.JOINTS, joint_names=list(robot.joints[::-1]), joint_positions=[-0.1, 0.2])
    status, result = client.do(joints)
    assert status == GoalStatus.STATUS_SUCCEEDED and result.joint_error < 0.02
    assert np.abs(made[PlantNode].plant.true_state()[0] - [0.2, -0.1]).max() < 0.03

    first = client.send(place(made, (0.4, 0.3)))
    begun(made, client)
    second = client.send(place(made, (-0.3, 0.2)))
    status, result = client.end(first)
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.PREEMPTED)
    client.feedback.clear()
    begun(made, client)
    assert made.spin(lambda: (future := second.cancel_goal_async()) and made.spin(future.done)
                     and future.result().goals_canceling)
    status, result = client.end(second)
    assert (status, result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELED)
    assert made.spin(lambda: controller.mode == "hold")

    for what, goal, code, words in (
            ("kind", Goal(kind=9), Result.INVALID_GOAL, "kind: expected 0, 1 or 2, got 9"),
            ("frame", place(made), Result.UNKNOWN_FRAME, "frame 'moon'; expected 'base_link'"),
            ("far", place(made), Result.UNREACHABLE, "out of reach"),
            ("turned", place(made, kind=Goal.POSE), Result.INVALID_GOAL, "quaternion of length 1"),
            ("names", Goal(kind=Goal.JOINTS, joint_positions=[0.0]), Result.INVALID_GOAL, "expected 2 positions"),
            ("never", place(made, position_tolerance=-1.0), Result.INVALID_GOAL, "position: expected a number from 0")):
        if what == "frame":
            goal.pose.header.frame_id = "moon"
        elif what == "far":
            goal.pose.pose.position.x = 9.0
        elif what == "turned":
            goal.pose.pose.orientation.w = 5.0
        status, result = client.do(goal)
        assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, code) and words in result.error_msg, what
    assert controller.mode == "hold"

    goal = place(made, (0.3, 0.3), position_tolerance=1e-9)
    goal.time_limit.nanosec = 500_000_000
    status, result = client.do(goal)
    assert result.error_code == Result.TIMEOUT and "not there after 0.5 s: the tool is" in result.error_msg

    running = client.send(place(made, (0.5, 0.3)))
    client.feedback.clear()
    begun(made, client)
    assert made.call("guard/estop")[0]
    status, result = client.end(running)
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.STOPPED)
    assert made.spin(lambda: client.do(place(made))[1].error_code == Result.STOPPED)
    ok, reason = made.call("controller/excite")
    assert not ok and "guard does not pass commands on: stopped" in reason


def test_another_target_and_a_service_preempt_a_goal_and_a_fault_ends_it(rig):
    made = make(rig)
    client, node = Client(made), made[ControllerNode]
    running = client.send(place(made))
    begun(made, client)
    made.say(topics.TARGET, place(made, (0.1, 0.1)).pose)
    assert client.end(running)[1].error_code == Result.PREEMPTED
    client.feedback.clear()
    running = client.send(place(made))
    begun(made, client)
    assert made.call("controller/home")[0]
    result = client.end(running)[1]
    assert (result.error_code, result.error_msg) == (Result.PREEMPTED, "home: requested")
    client.feedback.clear()
    running = client.send(place(made))
    begun(made, client)
    node._fault("a reason")
    result = client.end(running)[1]
    assert (result.error_code, result.error_msg) == (Result.FAULT, "a reason")


def test_without_a_model_without_a_guard_and_without_states_a_goal_ends_at_once(rig):
    made = rig(*RING)
    assert Client(made).do(place(made))[1].error_code == Result.NO_MODEL
    made.close()
    made = make(rig, controller__lifecycle="inactive")
    assert Client(made).do(place(made))[1].error_code == Result.NOT_ACTIVE
    made.close()
    made = rig(ControllerNode, plant__pace="realtime", controller__require_model=False)
    assert Client(made).do(place(made))[1].error_code == Result.NO_STATE
    ok, reason = made.call("controller/reach")
    assert not ok and "no state" in reason


def test_a_goal_and_services_are_refused_while_the_guard_holds_and_end_when_it_does(rig):
    made = make(rig, guard__arm_at_start=False)
    client = Client(made)
    assert made.spin(lambda: made[ControllerNode]._guard[0] == "hold")
    assert client.do(place(made))[1].error_code == Result.NOT_ARMED
    ok, reason = made.call("controller/reach")
    assert not ok and "the guard does not pass commands on: hold" in reason and "then guard/arm" in reason
    assert made.call("controller/hold")[0]
    made.arm()
    assert made.spin(lambda: made[ControllerNode]._guard[0] == "armed")
    running = client.send(place(made))
    begun(made, client)
    assert made.call("guard/arm", False)[0]
    assert client.end(running)[1].error_code == Result.NOT_ARMED


def test_poses_joints_trajectories_and_twists_come_by_topics(rig):
    from geometry_msgs.msg import Transform, TwistStamped
    from sensor_msgs.msg import JointState
    from trajectory_msgs.msg import (
        JointTrajectory,
        JointTrajectoryPoint,
        MultiDOFJointTrajectory,
        MultiDOFJointTrajectoryPoint,
    )
    made = make(rig)
    node, robot = made[ControllerNode], made[ControllerNode].robot
    mpc = node.controller.mpc
    goal = place(made, kind=Goal.POSE)
    made.say(topics.TARGET_POSE, goal.pose)
    assert made.spin(lambda: getattr(mpc.goal, "rotation", None) is not None)
    made.say(topics.TARGET_JOINTS, JointState(name=list(robot.joints), position=[0.2, -0.3]))
    assert made.spin(lambda: mpc.goal.joints is not None and np.allclose(mpc.goal.joints, [0.2, -0.3]))
    moving = JointTrajectory(joint_names=list(robot.joints))
    for at in (1, 2):
        moving.points.append(JointTrajectoryPoint(positions=(robot.home + 0.1 * at).tolist()))
        moving.points[-1].time_from_start.sec = at
    made.say(topics.TRAJECTORY, moving)
    assert made.spin(lambda: type(mpc.goal).__name__ == "JointTrajectory")
    led = MultiDOFJointTrajectory(joint_names=["tool"])
    for at in (1, 2):
        t, p = Transform(), robot.tool_position(robot.home + 0.1 * at)
        t.translation.x, t.translation.y, t.translation.z = p.tolist()
        t.rotation.w = 0.0
        led.points.append(MultiDOFJointTrajectoryPoint(transforms=[t]))
        led.points[-1].time_from_start.sec = at
    made.say(topics.TOOL_TRAJECTORY, led)
    assert made.spin(lambda: type(mpc.goal).__name__ == "PoseTrajectory")
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: np.linalg.norm(made[PlantNode].plant.true_tool() - p) < 0.01)
    twist = TwistStamped()
    twist.twist.linear.z = -0.05
    before = made[PlantNode].plant.true_tool()
    made.say(topics.TWIST, twist)
    assert made.spin(lambda: type(mpc.goal).__name__ == "Jog")
    assert made.spin(lambda: made[PlantNode].plant.true_tool()[2] < before[2] - 0.005)


def test_without_control_msgs_there_is_no_such_action(rig):
    made = rig(ControllerNode)
    actions = {type(action).__name__ for action in made[ControllerNode]._actions}
    assert actions == {"ReachAction"} | ({"FollowAction"} if follow_action.FollowJointTrajectory else set())
