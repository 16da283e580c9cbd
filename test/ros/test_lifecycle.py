"""The controller as a managed node: what each state allows, and who takes it there."""
import numpy as np
import pytest
from lifecycle_msgs.srv import ChangeState, GetState
from mbrl_ros.msg import EffortCommand
from rig import RING, ControllerNode, EstimatorNode, GuardNode, LearnerNode, PlantNode

from mbrl_ros.config import ConfigError
from mbrl_ros.nodes import topics

CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, INACTIVE_SHUTDOWN = 1, 2, 3, 4, 6


def change(made, transition, node="controller"):
    """Whether it did."""
    client = made.probe.create_client(ChangeState, f"{node}/change_state")
    assert made.spin(client.service_is_ready)
    request = ChangeState.Request()
    request.transition.label = "nothing of the kind"
    assert not made.ask(lambda: client.call_async(request)).success  # from here on its answers find their way
    request = ChangeState.Request()
    request.transition.id = transition
    future = client.call_async(request)  # not asked twice: it would be refused
    assert made.spin(future.done)
    return future.result().success


def state(made):
    client = made.probe.create_client(GetState, "controller/get_state")
    assert made.spin(client.service_is_ready)
    return made.ask(lambda: client.call_async(GetState.Request())).current_state.label


def mode_of(made):
    return made[ControllerNode].controller.mode


def test_nothing_is_loaded_before_it_is_configured_and_nothing_moves_before_it_is_active(rig):
    made = rig(*RING, controller__lifecycle="unconfigured", controller__require_model=False)
    assert state(made) == "unconfigured" and not hasattr(made[ControllerNode], "controller")
    assert change(made, CONFIGURE) and state(made) == "inactive"
    commands = made.listen(EffortCommand, topics.ASKED)
    assert made.spin(lambda: mode_of(made) == "hold" and commands)
    for service in ("reach", "excite"):
        ok, reason = made.call(f"controller/{service}")
        assert not ok and "the controller is not active: activate it first" in reason
    assert made.call("controller/stop")[0] and made.call("controller/hold")[0]
    assert made.spin(lambda: mode_of(made) == "hold")
    assert change(made, ACTIVATE) and made.call("controller/reach")[0]
    assert made.spin(lambda: mode_of(made) == "reach")
    assert change(made, DEACTIVATE)
    assert made.spin(lambda: mode_of(made) == "hold")
    assert not made.call("controller/reach")[0] and not change(made, CLEANUP)
    assert state(made) == "inactive"
    assert change(made, INACTIVE_SHUTDOWN) and mode_of(made) == "idle"
    assert not made.call("controller/excite")[0]


def test_a_request_that_waits_for_a_state_is_cancelled_by_deactivate(rig):
    made = rig(*RING, plant__hold_after=0, controller__require_model=False)
    assert made.call("controller/reach")[0] and change(made, DEACTIVATE)
    made.set("plant", "plant.hold_after", 5)
    assert made.spin(lambda: made[PlantNode].pace.periods == 5) and mode_of(made) == "hold"


@pytest.mark.parametrize("lifecycle", ["inactive", "active"])
def test_by_itself_it_goes_as_far_as_its_setting_says(rig, lifecycle):
    made = rig(ControllerNode, controller__lifecycle=lifecycle)
    assert state(made) == lifecycle
    assert made[ControllerNode].controller.mode == "idle"


def test_what_cannot_be_configured_says_why(rig, capfd):
    with pytest.raises(ConfigError, match="speed_stop"):
        rig(ControllerNode, controller__speed_stop=1e9)
    made = rig(ControllerNode, controller__lifecycle="unconfigured")
    made[ControllerNode].settings["robot"]["model"] = "/nowhere.xml"
    assert not change(made, CONFIGURE) and state(made) == "unconfigured"
    output = capfd.readouterr().err
    assert "not configured: robot.model: no file '/nowhere.xml'" in output and "Traceback" not in output


def test_a_controller_that_comes_later_holds_and_the_guard_with_it(rig):
    """In one process: test_guard_processes.py kills real ones."""
    made = rig(PlantNode, EstimatorNode, LearnerNode, GuardNode, guard__arm_at_start=False, plant__pace="realtime")
    again = rig(ControllerNode, plant__pace="realtime", controller__lifecycle="unconfigured", controller__watchdog=0.0)
    for node in again.nodes.values():
        made.executor.add_node(node)
    sent = made.listen(EffortCommand, topics.PASSED)
    assert change(made, CONFIGURE)
    assert made.spin(lambda: again[ControllerNode].controller.mode == "hold" and sent)
    assert made[GuardNode].guard.state == "hold" and np.isfinite(sent[-1].effort).all()
