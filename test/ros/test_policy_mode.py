"""A policy by message: into the mode, to its end, and what is refused."""
from __future__ import annotations

import numpy as np
from mbrl_ros.msg import LinearGaussianPolicy as Message
from rig import RING, ControllerNode, PlantNode
from std_msgs.msg import String

from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import PolicyReport
from mbrl_ros.nodes import topics
from mbrl_ros.ring.policy import LinearPolicy
from mbrl_ros.types import LinearGaussianPolicy, TimedPolicy

T = 40


def hold_of(robot, period=None, away=0.2):
    """A policy that holds both joints `away` [rad] from home, softly."""
    n, m = robot.n, robot.m
    x, K = np.zeros(n), np.zeros((m, n))
    x[:m] = robot.home + away
    K[:, :m], K[:, m : 2 * m] = -np.diag(robot.stiffness), -np.diag(robot.damping)
    arrays = [np.tile(a, (T, *np.ones(np.ndim(a), int))) for a in (x, np.zeros(m), K, np.zeros(m), np.zeros((m, m)))]
    return PolicyReport(0, 1, TimedPolicy(LinearGaussianPolicy(*arrays), period or robot.period, robot.state_names,
                                          robot.joints, None))


def controller(made):
    return made[ControllerNode].controller


def publish(made, report):
    made.say("policy", messages.to_linear_gaussian_policy(Message, report), topics.LATCHED)


def test_a_published_policy_is_played_to_its_end(rig):
    made = rig(*RING)
    modes = made.listen(String, "mode", topics.LATCHED)
    publish(made, hold_of(controller(made).robot))
    assert made.spin(lambda: isinstance(controller(made).player.policy, LinearPolicy))
    assert made.call("controller/home") == (True, "home from the next state on")
    assert made.spin(lambda: controller(made).mode == "home")
    assert made.call("controller/policy") == (True, "policy from the next state on")
    assert made.spin(lambda: controller(made).reason == "the policy is over")
    assert made.spin(lambda: {"home", "policy", "hold"} <= {mode.data for mode in modes})
    q, _ = made[PlantNode].plant.true_state()
    assert (np.abs(q - controller(made).robot.home) > 0.05).all()  # it has moved


def test_without_a_policy_the_mode_is_refused(rig):
    made = rig(*RING)
    ok, said = made.call("controller/policy")
    assert not ok and said.startswith("there is no policy to play: publish one on the topic policy")
    assert controller(made).mode == "idle"


def test_a_policy_of_another_robot_or_period_is_ignored(rig, capfd):
    made = rig(*RING)
    robot = controller(made).robot
    publish(made, hold_of(robot, period=0.01))
    output = []

    def said():
        output.append(capfd.readouterr().err)
        return "policy ignored: policy: made for a period of 0.01 s" in "".join(output)

    assert made.spin(said)
    assert controller(made).player.policy is None and not made.call("controller/policy")[0]


def test_an_inactive_controller_plays_nothing(rig):
    made = rig(*RING, controller__lifecycle="inactive")
    publish(made, hold_of(controller(made).robot))
    assert made.spin(lambda: controller(made).player.policy is not None)
    for service in ("policy", "home"):
        ok, said = made.call(f"controller/{service}")
        assert not ok and "not active" in said
