"""A policy by message: into the mode, to its end, and what is refused."""
from __future__ import annotations

import numpy as np
import torch
from arms import make
from mbrl_ros.msg import LinearGaussianPolicy as Message
from mbrl_ros.msg import Status
from rig import RING, ControllerNode, PlantNode

from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import PolicyReport
from mbrl_ros.nodes import topics
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.network_policy import NetworkPolicy, View
from mbrl_ros.ring.policy import save
from mbrl_ros.trainers.network import PolicyNetwork
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
    made.say(topics.POLICY, messages.to_linear_gaussian_policy(Message, report), topics.LATCHED)


def test_a_published_policy_is_played_to_its_end(rig):
    made = rig(*RING)
    modes = made.listen(Status, topics.MODE, topics.LATCHED)
    publish(made, hold_of(controller(made).robot))
    assert made.spin(lambda: isinstance(controller(made).player.policy, LinearPolicy))
    assert made.call("controller/home") == (True, "home from the next state on")
    assert made.spin(lambda: controller(made).mode == "home")
    assert made.call("controller/policy") == (True, "policy from the next state on")
    assert made.spin(lambda: controller(made).reason == "the policy is over")
    assert made.spin(lambda: {"home", "policy", "hold"} <= {mode.state for mode in modes})
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


def hold_network(robot):
    """A network that carries the arm at home, pulls the tool to its target by J' and damps the joints, trained on
    nothing farther than some centimetres."""
    view, m = View(robot), robot.m
    network, rng = PolicyNetwork(view.size, m, 8, 0), np.random.default_rng(0)
    x = 0.1 * rng.standard_normal((500, robot.n))
    x[:, :m] += robot.home
    x[:, 2 * m : 2 * m + 6] = [robot.kinematics(row[:m], row[m : 2 * m])[0] for row in x]
    x[:, robot.slice("effort/1")] *= 50.0
    targets = robot.tool_position(robot.home) + 0.05 * rng.standard_normal((500, 3)) * [1, 0, 1]
    network.seen(view(x, targets), np.ones(m))
    K = np.zeros((m, view.size))
    K[:, -3:] = 300.0 * robot.tool(robot.home)[2].T
    K[:, m : 2 * m] = -np.diag(robot.damping)
    with torch.no_grad():
        network.A.copy_(torch.as_tensor(K) * network.scale)
        network.b.copy_(torch.as_tensor(K) @ network.mean + torch.as_tensor(robot.weight(robot.home)))
    return network.policy(robot)


def test_a_network_from_a_file_is_run_follows_its_target_is_stopped_and_hands_over(rig, tmp_path):
    robot = make()
    save(hold_network(robot), tmp_path / "policy.npz")
    made = rig(*RING, controller__policy=str(tmp_path / "policy.npz"))
    assert isinstance(controller(made).player.policy, NetworkPolicy)
    plant, home = made[PlantNode].plant, robot.tool_position(robot.home)
    near, far = home + np.array([0.04, 0.0, 0.03]), home - np.array([0.0, 0.0, 0.6])
    made.say(topics.TARGET, topics.pose(near, 0, "base_link"))
    assert made.spin(lambda: controller(made).mpc.target is not None)
    assert made.call("controller/policy") == (True, "policy from the next state on")
    assert made.spin(lambda: np.linalg.norm(plant.true_tool() - near) < 0.02)  # [m]; what pulls is a spring
    assert controller(made).mode == "policy"
    assert made.call("controller/hold")[0] and made.spin(lambda: controller(made).mode == "hold")  # stopped
    assert controller(made).reason == "requested"
    assert made.call("controller/policy")[0] and made.spin(lambda: controller(made).mode == "policy")
    made.say(topics.TARGET, topics.pose(far, 0, "base_link"))
    assert made.spin(lambda: controller(made).mode == "hold")
    assert controller(made).reason.startswith("the policy is left: at step ")
    ok, said = made.call("controller/policy")
    assert not ok and said.startswith("the policy is left: at step 0 the state is ")
