"""The node behind the page, without a browser: it is in nobody's way, and says what became of what was asked for."""
import socket

import numpy as np
import pytest

from mbrl_ros.nodes.dashboard_node import MISSING, DashboardNode

if MISSING:
    pytest.skip(f"{MISSING} is of the extra `dashboard`, in requirements-dev.txt", allow_module_level=True)

from rig import RING, ControllerNode, GuardNode, PlantNode

from mbrl_ros.nodes.operator import Operator


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def made(rig, monkeypatch):
    """The ring with a page that somebody has open, as far as the node can tell."""
    made = rig(*RING, DashboardNode, dashboard__port=free_port())
    made.page = made[DashboardNode]
    monkeypatch.setattr(made.page._server, "get_clients", lambda: {0: None})
    return made


def line(made):
    return made.page._page._line.content


def test_it_subscribes_only_while_a_page_is_open(made, monkeypatch):
    plans = made[ControllerNode]._plans
    assert made.spin(lambda: plans.get_subscription_count() == 1)
    monkeypatch.setattr(made.page._server, "get_clients", dict)
    assert made.spin(lambda: plans.get_subscription_count() == 0)
    assert made.page._subscribed == []


def test_what_is_pressed_is_asked_for_and_refusals_are_said(made):
    assert made.spin(lambda: all(client.service_is_ready() for client in made.page._asked.values()))
    made.page._page._ask("controller/reach", None)
    assert made.spin(lambda: "no model has been fitted" in line(made)), line(made)
    made.page._page._ask("guard/estop", None)
    assert made.spin(lambda: made[GuardNode].guard.state == "stopped")
    assert made.spin(lambda: "stopped" in made.page._page._states["guard"].content)


def test_a_target_arrives_in_the_frame_of_the_robot(made):
    controller = made[ControllerNode].controller
    assert made.spin(lambda: made.page._targets.get_subscription_count() == 2)
    point = controller.robot.tool_position(controller.robot.home) + np.array([0.0, 0.0, -0.04])
    made.page._scene._aim(point, 0.0)
    assert made.spin(lambda: controller.mpc.target is not None) and np.allclose(controller.mpc.target, point)
    assert made.spin(lambda: np.allclose(made.page._scene._gizmo.position, point))


def test_a_service_that_is_not_there_is_said(rig, monkeypatch):
    made = rig(DashboardNode, dashboard__port=free_port())
    made.page = made[DashboardNode]
    made.page._page._ask("learner/fit", None)
    assert made.spin(lambda: "nobody offers it" in line(made))


def test_settings_of_all_nodes_are_found_and_set(made):
    shown = made.page._sliders._controls
    assert made.spin(lambda: {node for node, _ in shown} == {"controller", "learner", "plant"})
    assert not any(name.startswith(("use_sim_time", "qos_")) for _, name in shown)
    parameter = shown["controller", "task.path.speed"][1]
    assert (parameter.unit, parameter.low, parameter.high, parameter.logarithmic) == ("m/s", 0.01, 5.0, False)
    assert shown["controller", "task.tool.weight"][1].logarithmic
    made.page._live.set("controller", "task.path.speed", 0.7)
    assert made.spin(lambda: made[ControllerNode].get_parameter("task.path.speed").value == 0.7)
    assert made.spin(lambda: "0.7" in shown["controller", "task.path.speed"][0].label)
    made.set("controller", "task.path.speed", 0.3)  # somebody else
    assert made.spin(lambda: "0.3" in shown["controller", "task.path.speed"][0].label)


def run(rig, monkeypatch, *kinds):
    """Efforts (50, m) of a hold and of the way to a target."""
    made = rig(*RING, *kinds, dashboard__port=free_port(), plant__hold_after=0, controller__require_model=False)
    operator = Operator(made[PlantNode].robot, True, lambda seconds: made.executor.spin_once(timeout_sec=seconds))
    made.executor.add_node(operator)
    for kind in kinds:
        monkeypatch.setattr(made[kind]._server, "get_clients", lambda: {0: None})
        assert made.spin(lambda: made[ControllerNode]._beliefs.get_subscription_count() == 1)
    operator.ready()
    operator.request("controller/hold")
    stamps = operator.advance(10)
    operator.set("controller", "task.target", [0.45, 0.0, 0.75])
    operator.request("controller/reach")
    stamps += operator.advance(40)
    efforts = np.array([operator.heard.effort[stamp] for stamp in stamps])
    operator.destroy_node()
    made.close()
    return efforts


def test_the_ring_gives_the_same_efforts_watched_or_not(rig, monkeypatch):
    alone = run(rig, monkeypatch)
    assert len(alone) == 50 and np.ptp(alone[10:], axis=0).min() > 0.1  # it moves [N m]
    np.testing.assert_array_equal(run(rig, monkeypatch, DashboardNode), alone)
