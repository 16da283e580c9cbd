"""A policy that goes by the topic of a camera, with the guard in the path: played, and left where the camera fails."""
import os
import signal

import numpy as np
import pytest
from mbrl_ros.msg import Status
from rig import RING, ControllerNode, PlantNode
from sensor_msgs.msg import Image

from mbrl_ros import assembly
from mbrl_ros.config import Names, merge
from mbrl_ros.messages.camera import to_image
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.models.latent import Config as LatentConfig
from mbrl_ros.models.latent import SingleStep
from mbrl_ros.nodes import topics
from mbrl_ros.ring.latent_filter import state_names
from mbrl_ros.ring.latent_policy import LATE, LatentPolicy
from mbrl_ros.ring.policy import save
from mbrl_ros.trainers.latent import Config, SeenRobot, played
from mbrl_ros.types import LinearGaussianPolicy, TimedPolicy

PERIOD, STEPS, T = 0.1, 20, 400  # slow: no busy machine is late by two such periods
SLOW = {"plant__pace": "realtime", "robot__period": PERIOD, "plant__timeout": 10.0, "guard__state_age": 1.0,
        "guard__command_age": 1.0, "controller__watchdog": 0.0, "controller__require_model": False}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A policy that moves the first joint to and fro, with what a model of a few trials sees as its state."""
    settings = merge(assembly.settings(Names("planar2", "reach", "ilqr", "gaussian")),
                     {"robot": {"period": PERIOD}, "camera": {"width": 32, "color": False},
                      "plant": {"pace": "lockstep"}})
    robot = assembly.make_robot(settings)
    sees = SeenRobot(robot, assembly.make_plant(settings, robot), settings, robot.tool_position(robot.home))
    data, _ = played(sees, [sees.random(Config(shake=0.05), STEPS, i) for i in range(8)], None, STEPS, 0)
    model = SingleStep.of(LatentConfig(size=4, passes=20, rate=5e-3), data, robot.effort_limit, 0)
    model.fit(data, 0)
    n, m = 8, robot.m
    u = np.tile(sees.hold, (T, 1))
    u[:, 0] += 0.03 * robot.effort_limit[0] * np.sin(2 * np.pi * PERIOD * np.arange(T))
    policy = LinearGaussianPolicy(np.zeros((T, n)), u, np.zeros((T, m, n)), np.zeros((T, m)), np.zeros((T, m, m)))
    path = tmp_path_factory.mktemp("seen") / "policy.npz"
    save(LatentPolicy.made(model, TimedPolicy(policy, PERIOD, state_names(n), robot.joints, None), robot), path)
    return path


def plays(made):
    """Until the mode is policy and the guard lets it pass."""
    controller = made[ControllerNode].controller

    def again():
        made.call("guard/reset")
        made.call("controller/hold")
        if not made.call("guard/arm", True)[0] or not made.call("controller/policy")[0]:
            return False
        return made.spin(lambda: controller.mode == "policy" and controller.acts, 2.0)
    assert made.spin(again)
    return controller


def test_it_is_played_by_the_topic_and_left_into_hold_once_the_camera_is_lost(rig, file):
    made = rig(*RING, **SLOW, camera__width=32, camera__color=False, controller__policy=str(file))
    modes, pictures = made.listen(Status, topics.MODE, topics.LATCHED), made.listen(Image, topics.CAMERA)
    controller = plays(made)
    seen = controller.player.policy
    before, z = made[PlantNode].plant.true_state()[0], seen.z
    assert made.spin(lambda: np.abs(made[PlantNode].plant.true_state()[0] - before).max() > 0.02
                     and np.abs(seen.z - z).max() > 0.01)  # it sees that, too
    assert controller.mode == "policy"
    os.kill(made[PlantNode].camera.pid, signal.SIGSTOP)
    try:
        assert made.spin(lambda: controller.mode == "hold")
        last = read_stamp(pictures[-1].header.stamp)
        assert controller.reason.startswith("the policy is left: no picture for ")
        assert made.spin(lambda: modes[-1].state == "hold")
        assert read_stamp(modes[-1].header.stamp) - last <= 1e9 * PERIOD * (LATE + 1.5)
        ok, said = made.call("controller/policy")
        assert not ok and "no picture for" in said
    finally:
        os.kill(made[PlantNode].camera.pid, signal.SIGCONT)
    assert made.spin(lambda: made.call("controller/policy")[0])


def test_it_is_left_once_the_camera_shows_the_same_while_the_arm_moves_and_bad_pictures_are_said(rig, file, capfd):
    made = rig(*RING, **SLOW, camera__width=32, camera__color=False, controller__policy=str(file))
    controller = plays(made)
    frozen, seen = made[PlantNode], controller.player.policy
    frozen.camera._show = lambda time, pixels, focal: None  # what it draws from now on does not leave
    same = seen._seen[1]
    told = set()

    def again():
        now = controller._newest.time
        if now not in told:
            told.add(now)
            made.say(topics.CAMERA, to_image(Image, same, now))
        return controller.mode == "hold"
    assert made.spin(again)
    assert controller.reason.startswith("the policy is left: the camera shows the same picture for "), controller.reason
    made.say(topics.CAMERA, Image(encoding="jpeg"))
    said = []

    def heard():
        said.append(capfd.readouterr().err)
        return "picture dropped: image: expected an encoding of mono8" in "".join(said)
    assert made.spin(heard)


def test_without_a_camera_the_mode_is_refused_with_what_is_missing(rig, file):
    made = rig(*RING, controller__policy=str(file), robot__period=PERIOD)
    assert made.spin(lambda: made[ControllerNode].controller._newest is not None)
    ok, said = made.call("controller/policy")
    assert not ok and "no picture has come: is there a camera (camera.width)?" in said
