"""The action controller/follow_joint_trajectory, which MoveIt calls, where control_msgs is installed."""
import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from goals import Client, make
from rig import ControllerNode, PlantNode
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.nodes import spin
from mbrl_ros.nodes.follow_action import NAME

control_msgs = pytest.importorskip("control_msgs", reason="control_msgs is not in the wheels")
from control_msgs.action import FollowJointTrajectory  # noqa: E402
from control_msgs.msg import JointTolerance  # noqa: E402

Result, Goal = FollowJointTrajectory.Result, FollowJointTrajectory.Goal
EXECUTORS = ["single", *(["events"] if spin.EventsExecutor is not None else [])]
WAY = ((0.0, 0.0), (0.15, -0.1), (0.3, -0.2), (0.3, -0.2))  # from home [rad], a second apart


def along(made, way=WAY, turned=False, apart=1.0):
    """A goal as MoveIt sends it: the first point is where the arm is."""
    robot, trajectory = made[ControllerNode].robot, JointTrajectory()
    order = slice(None, None, -1) if turned else slice(None)
    trajectory.joint_names = list(robot.joints[order])
    for i, dq in enumerate(way):
        point = JointTrajectoryPoint(positions=(robot.home + dq)[order].tolist())
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(1e9 * i * apart), 10**9)
        trajectory.points.append(point)
    return Goal(trajectory=trajectory)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_trajectory_is_followed_to_its_end_in_any_order_of_joints(rig, executor):
    made = make(rig, executor)
    client, robot = Client(made, FollowJointTrajectory, NAME), made[ControllerNode].robot
    status, result = client.do(along(made, turned=True))
    assert (status, result.error_code, result.error_string) == (GoalStatus.STATUS_SUCCEEDED, Result.SUCCESSFUL, "")
    assert np.abs(made[PlantNode].plant.true_state()[0] - robot.home - WAY[-1]).max() < 0.02
    assert client.feedback[-1].desired.time_from_start.sec >= 2  # not there before its time
    for said in client.feedback:
        assert said.joint_names == list(robot.joints)
        assert np.allclose(np.subtract(said.desired.positions, said.actual.positions), said.error.positions)
    middle = [said for said in client.feedback if 1.4 < said.desired.time_from_start.sec
              + 1e-9 * said.desired.time_from_start.nanosec < 1.6]
    assert middle and np.allclose(middle[0].desired.positions, np.add(robot.home, (0.225, -0.15)), atol=0.05)


def test_a_goal_that_cannot_be_followed_is_refused_with_its_code_and_one_that_is_left_ends(rig):
    made = make(rig)
    client, robot = Client(made, FollowJointTrajectory, NAME), made[ControllerNode].robot

    for what, words in (("names", "elbow_of_another"), ("none", "expected"), ("tolerance", "tolerances: expected")):
        goal = along(made)
        if what == "names":
            goal.trajectory.joint_names[0] = "elbow_of_another"
        elif what == "none":
            goal.trajectory.points = []
        else:
            goal.path_tolerance = [JointTolerance(name="elbow_of_another", position=0.1)]
        status, result = client.do(goal)
        assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.INVALID_GOAL), what
        assert words in result.error_string, (what, result.error_string)

    goal = along(made, ((0.0, 0.0), (0.8, 0.5)), apart=0.3)
    goal.path_tolerance = [JointTolerance(name=robot.joints[0], position=1e-4)]
    status, result = client.do(goal)
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.PATH_TOLERANCE_VIOLATED)
    assert f"{robot.joints[0]} is" in result.error_string and "off its path" in result.error_string

    goal = along(made)
    goal.goal_tolerance = [JointTolerance(name=robot.joints[1], position=1e-9)]
    goal.goal_time_tolerance.nanosec = 300_000_000
    status, result = client.do(goal)
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.GOAL_TOLERANCE_VIOLATED)
    assert "off its goal" in result.error_string


def test_a_trajectory_is_cancelled_preempted_and_stopped(rig):
    made = make(rig)
    client, controller = Client(made, FollowJointTrajectory, NAME), made[ControllerNode].controller
    first = client.send(along(made))
    assert made.spin(lambda: client.feedback and controller.mode == "reach")
    second = client.send(along(made))
    status, result = client.end(first)
    assert status == GoalStatus.STATUS_ABORTED and "another goal" in result.error_string
    client.feedback.clear()
    assert made.spin(lambda: client.feedback and controller.mode == "reach")
    assert made.spin(lambda: (future := second.cancel_goal_async()) and made.spin(future.done)
                     and future.result().goals_canceling)
    status, result = client.end(second)
    assert status == GoalStatus.STATUS_CANCELED and made.spin(lambda: controller.mode == "hold")
    third = client.send(along(made))
    client.feedback.clear()
    assert made.spin(lambda: client.feedback and controller.mode == "reach")
    assert made.call("guard/estop")[0]
    status, result = client.end(third)
    assert status == GoalStatus.STATUS_ABORTED and "guard stopped" in result.error_string
