"""setup over topics: a description that somebody publishes, joint states, and pushes of a robot that is not ours."""
import subprocess
import sys

import pytest
import rclpy
import yaml
from rig import ROOT, end
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from mbrl_ros.nodes import setup, topics

MODEL = str(ROOT / "config" / "robots" / "planar2.xml")


@pytest.fixture
def talker(ros):
    """Says robot_description and joint_states, from a node of its own."""
    node = rclpy.create_node("talker")
    said = {}

    def say():
        for publisher, message in said.values():
            message.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(message)

    def start(names, positions):
        message = JointState(name=names, position=positions, velocity=[0.0] * len(names))
        said["states"] = node.create_publisher(JointState, "joint_states", 10), message

    node.create_timer(0.01, say)
    executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(node)
    yield node, start, executor
    executor.shutdown()
    node.destroy_node()


def heard(executor, listener, what):
    """The answer of a listener while somebody else talks."""
    def waited(condition, topic, seconds=3.0):
        end_of = listener.get_clock().now().nanoseconds + 1e9 * seconds
        while not condition():
            if listener.get_clock().now().nanoseconds > end_of:
                raise setup.ConfigError(f"{topic}: nothing within {seconds:g} s")
            executor.spin_once(timeout_sec=0.01)

    listener.wait = waited
    executor.add_node(listener)
    try:
        return what(listener)
    finally:
        executor.remove_node(listener)
        listener.destroy_node()


def test_the_description_and_the_joints_are_heard(talker):
    node, start, executor = talker
    described = node.create_publisher(String, "robot_description", topics.LATCHED)
    described.publish(String(data="<robot name='r'/>"))
    assert heard(executor, setup.Listener(), lambda n: n.model()) == "<robot name='r'/>"
    start(["elbow", "gripper", "shoulder"], [0.9, 0.04, 0.6])
    joints, home, between = heard(executor, setup.Listener(), lambda n: n.joints(MODEL, ""))
    assert joints == ["shoulder", "elbow"] and home == [0.6, 0.9] and 0.003 < between < 0.1


@pytest.mark.parametrize(("names", "expected"), [
    (["left", "right"], "joint_states: expected shoulder, elbow, as the model has them, got left, right"),
    (["elbow", "right"], "there is no shoulder among elbow, right")])
def test_joint_states_of_another_robot_are_said(talker, names, expected):
    _, start, executor = talker
    start(names, [0.0, 0.0])
    with pytest.raises(setup.ConfigError, match=expected):
        heard(executor, setup.Listener(), lambda n: n.joints(MODEL, ""))


def test_a_foreign_robot_is_pushed_behind_a_guard_for_the_gains_of_its_hold(tmp_path):
    foreign = subprocess.Popen([sys.executable, str(ROOT / "test" / "ros" / "foreign_plant.py")], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        path = tmp_path / "foreign.yaml"
        done = subprocess.run([sys.executable, "-m", "mbrl_ros.nodes", "setup", MODEL, "--probe", "--yes", "--rate",
                               "50", "--output", str(path)], text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr
        robot = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]["robot"]
        assert robot["joints"] == ["shoulder", "elbow"]  # the order of the commands; joint_states have another
        assert all(value > 0 for key in ("stiffness", "damping", "deceleration", "inertia") for value in robot[key])
        assert "by pushes of the robot" in done.stdout
        heavy, light = robot["inertia"]
        assert light < heavy and 0.03 < light < 0.4  # of the elbow: 0.08 kg m^2 with the shoulder at rest
    finally:
        end(foreign)
