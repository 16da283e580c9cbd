"""Two rings at once, each in a namespace of its own: neither hears of the other."""
import numpy as np
from mbrl_ros.msg import StateEstimate
from rig import RING, ControllerNode, GuardNode, PlantNode
from rosgraph_msgs.msg import Clock

from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import bringup, topics

SHARED = {"/diagnostics", "/rosout", "/parameter_events"}  # by convention of ROS


def test_one_moves_and_the_other_does_not_notice(rig):
    left, right = (rig(*RING, namespace=f"/{side}", plant__hold_after=0) for side in ("left", "right"))
    ticks = [made.listen(StateEstimate, topics.STATE) for made in (left, right)]
    clocks = [made.listen(Clock, topics.CLOCK) for made in (left, right)]
    both = lambda condition: left.spin(lambda: right.executor.spin_once(timeout_sec=0.0) or condition())  # noqa: E731
    assert left.call("controller/excite")[0]
    assert left.set("plant", "plant.hold_after", 200) == (True, "")
    assert right.set("plant", "plant.hold_after", 50) == (True, "")
    assert both(lambda: left[PlantNode].pace.periods == 200 and right[PlantNode].pace.periods == 50)
    assert left[ControllerNode].controller.mode == "excite" and right[ControllerNode].controller.mode == "idle"
    assert left[GuardNode].guard.state == "armed" and right[GuardNode].guard.state == "hold"
    home = right[PlantNode].robot.home
    assert np.abs(left[PlantNode].plant.true_state()[0] - home).max() > 0.1
    assert np.abs(right[PlantNode].plant.true_state()[0] - home).max() < 0.05
    times = [[read_stamp(clock.clock) for clock in of] for of in clocks]
    assert all(np.all(np.diff(of) >= 0) for of in times)  # neither jumps to the other's
    assert times[0][-1] > times[1][-1] and len(ticks[0]) > len(ticks[1])
    names = {name for name, _ in left.probe.get_topic_names_and_types() if {"/left", "/right"} & {
        info.node_namespace for info in left.probe.get_publishers_info_by_topic(name)}}  # of these two rings
    assert {name for name in names if not name.startswith(("/left/", "/right/"))} <= SHARED and "/left/clock" in names


def test_a_node_with_simulated_time_goes_by_the_clock_of_its_namespace():
    words = bringup.node_arguments(bringup.parse(["namespace:=left", "pace:=lockstep"]))
    assert "/clock:=clock" in words and "/clock:=clock" not in bringup.node_arguments(bringup.parse([]))
