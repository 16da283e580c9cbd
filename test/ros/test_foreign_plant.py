"""plant:=false: the ring drives a robot it did not make, by services and topics alone."""
import subprocess
import sys

import numpy as np
import pytest
from mbrl_ros.msg import ModelCheckpoint, StateEstimate
from rig import ROOT, ControllerNode, EstimatorNode, GuardNode, LearnerNode, end
from std_msgs.msg import Float64MultiArray

from mbrl_ros.nodes import topics

TARGET = np.array([0.5, 0.0, 0.75])  # [m]
WATCHDOG = 5.0  # [s] a busy machine is not a broken one


@pytest.fixture
def foreign():
    process = subprocess.Popen([sys.executable, str(ROOT / "test" / "ros" / "foreign_plant.py")], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_drives_a_foreign_plant_to_a_target(rig, foreign):
    made = rig(EstimatorNode, LearnerNode, ControllerNode, GuardNode, executor="events", plant__pace="realtime",
               controller__watchdog=WATCHDOG, learner__fit_seconds=6.0, excitation__duration=6.0)
    robot, controller = made[ControllerNode].robot, made[ControllerNode].controller
    estimates = made.listen(StateEstimate, topics.STATE)
    commands = made.listen(Float64MultiArray, topics.COMMANDS)
    tool = robot.slice("site/tool/position")
    assert made.call("controller/hold")[0]
    made.arm()
    assert made.call("controller/excite")[0]
    assert made.spin(lambda: controller.mode == "excite")
    assert made.spin(lambda: controller.mode == "hold"), controller.reason  # excitation is over
    checkpoints = made.listen(ModelCheckpoint, topics.CHECKPOINT, topics.LATCHED)
    assert made.call("learner/fit")[0]
    assert made.spin(lambda: checkpoints)
    made.say(topics.TARGET, topics.pose(TARGET, 0, "base_link"))
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: controller.mode == "reach")

    def settled():
        last = np.array([e.mean[tool] for e in estimates[-10:]])
        return np.linalg.norm(last - TARGET, axis=1).max() < 5e-3

    assert made.spin(settled), controller.reason
    assert controller.mode == "reach"
    assert made.call("controller/stop") == (True, "nothing is asked for: the guard holds")
    assert made.spin(lambda: made[GuardNode].guard.state == "hold")
    count, there = len(commands), estimates[-1].mean[tool]
    assert made.spin(lambda: len(commands) > count + 50)
    assert np.linalg.norm(np.array(estimates[-1].mean[tool]) - there) < 0.02
    code, output = end(foreign)
    assert code == 0 and "Traceback" not in output
