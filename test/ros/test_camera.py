"""What the camera of the simulated robot sees goes round as a picture, and never holds anything up."""
import os
import signal

import numpy as np
import pytest
from rig import PlantNode
from sensor_msgs.msg import CameraInfo, Image, JointState

from mbrl_ros.drawing.camera import Config, RobotCamera
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import topics


def stamp(message):
    return read_stamp(message.header.stamp)


def step(made, states, effort):
    """One period in lock-step."""
    before = stamp(states[-1])
    made.say(topics.PASSED, topics.command(np.array(effort), before))
    assert made.spin(lambda: stamp(states[-1]) > before)


@pytest.mark.parametrize("color", [True, False])
def test_a_picture_is_of_the_state_that_its_stamp_says(rig, color):
    made = rig(PlantNode, plant__timeout=0.05, camera__width=32, camera__color=color)
    states, pictures = made.listen(JointState, topics.JOINTS), made.listen(Image, topics.CAMERA)
    infos = made.listen(CameraInfo, topics.CAMERA_INFO)
    plant, sees = made[PlantNode].plant, RobotCamera(made[PlantNode].robot, Config(width=32, color=color))
    seen = []
    for _ in range(3):
        assert made.spin(lambda: pictures and stamp(pictures[-1]) == stamp(states[-1]))  # it is repeated
        image = pictures[-1]
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, -1)
        assert image.encoding == ("rgb8" if color else "mono8") and image.step == pixels[0].size
        assert np.array_equal(pixels, sees.picture(plant.true_state()[0]))
        seen.append(pixels)
        for _ in range(3):
            step(made, states, [30.0, -10.0])
    assert (seen[0] != seen[1]).any() and (seen[1] != seen[2]).any()
    column, row, away = sees.view.project(plant.true_tool())
    K = np.reshape(infos[-1].k, (3, 3))
    right, up, forward = sees.view.rotation @ (plant.true_tool() - sees.view.position)
    assert np.allclose(K @ [right / away, -up / away, forward / away], [column - 0.5, row - 0.5, 1.0])


def test_a_camera_that_stands_still_holds_up_no_period_and_then_shows_the_newest(rig):
    made = rig(PlantNode, plant__timeout=0.05, camera__width=32)
    states, pictures = made.listen(JointState, topics.JOINTS), made.listen(Image, topics.CAMERA)
    assert made.spin(lambda: pictures)
    camera = made[PlantNode].camera
    os.kill(camera.pid, signal.SIGSTOP)
    try:
        for i in range(20_000):  # far more than its pipe holds
            camera.offer(i, np.zeros(2))
        for _ in range(5):
            step(made, states, [0.0, 0.0])
    finally:
        os.kill(camera.pid, signal.SIGCONT)
    assert made.spin(lambda: stamp(pictures[-1]) == stamp(states[-1]))


def test_without_a_width_there_is_no_camera_and_one_that_has_ended_is_in_the_diagnostics(rig):
    made = rig(PlantNode, plant__timeout=0.05)
    assert made[PlantNode].camera is None and not made.probe.count_publishers(topics.CAMERA)
    made.close()
    made = rig(PlantNode, plant__timeout=0.05, camera__width=32)
    os.kill(made[PlantNode].camera.pid, signal.SIGKILL)
    assert made.spin(lambda: "exit code -9" in made[PlantNode].camera.failed)
