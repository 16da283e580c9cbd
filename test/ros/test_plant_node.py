"""How the simulated robot keeps time, and which commands it takes."""
import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from mbrl_ros.msg import EffortCommand, StateEstimate
from rig import RING, EstimatorNode, PlantNode
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray

from mbrl_ros import assembly
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import topics
from mbrl_ros.robot import PAYLOAD

PERIOD = 20_000_000  # [ns]


def stamps(states):
    return [read_stamp(state.header.stamp) for state in states]


def answer(state, effort=(0.0, 0.0)):
    return topics.command(np.array(effort), read_stamp(state.header.stamp))


def keep(made, effort, condition):
    """Command it until the condition holds."""
    assert made.spin(lambda: made.say(topics.COMMANDS, Float64MultiArray(data=effort)) or condition())


def acted(made):
    """Makes states into those but of a start, which report what held the arm until then."""
    held = assembly.make_plant(made[PlantNode].settings, made[PlantNode].robot).reset(0).effort
    return lambda states: [state for state in states if not np.array_equal(state.effort, held)]


@pytest.fixture
def plant(rig):
    """A lock-step plant alone, and what it says."""
    made = rig(PlantNode, plant__timeout=0.05)
    states = made.listen(JointState, "joint_states")
    assert made.spin(lambda: states)
    return made, states


def test_objects_come_in_joint_states_and_are_in_the_estimate(rig):
    made = rig(PlantNode, EstimatorNode, robot="arm", task="door")
    states, estimates = made.listen(JointState, "joint_states"), made.listen(StateEstimate, topics.STATE)
    assert made.spin(lambda: states and estimates)
    seen, said = states[-1], estimates[-1]
    assert seen.name[-1] == "door" and len(seen.name) == len(seen.position) == len(seen.effort) == 8
    assert seen.effort[-1] == 0.0 and len(said.effort) == 7
    assert said.mean[list(said.state_names).index("object/door/position")] == pytest.approx(seen.position[-1])


def test_repeats_its_state_until_the_answer_comes(plant):
    made, states = plant
    assert made.spin(lambda: len(states) >= 3)
    assert len(set(stamps(states))) == 1
    made.say(topics.PASSED, answer(states[-1]))
    before = stamps(states)[0]
    assert made.spin(lambda: stamps(states)[-1] == before + PERIOD)


def test_steps_on_an_answer_to_the_present_state_or_to_none_in_particular(plant):
    made, states = plant
    first = states[-1]
    made.say(topics.PASSED, answer(first))
    assert made.spin(lambda: made[PlantNode].pace.periods == 1)
    made.say(topics.PASSED, EffortCommand(effort=[0.0, 0.0]))
    assert made.spin(lambda: stamps(states)[-1] == stamps([first])[0] + 2 * PERIOD)
    made.say(topics.PASSED, answer(first))  # late: this one was answered
    made.spin_for(0.3)
    assert made[PlantNode].pace.periods == 2


@pytest.mark.parametrize(("data", "words"), [([1.0], "expected 2 values, got 1"),
                                             ([1.0, float("nan")], "expected finite values"),
                                             ([float("inf"), 0.0], "expected finite values")])
def test_drops_commands_that_cannot_be_used(plant, capfd, data, words):
    made, _ = plant
    made.say(topics.PASSED, EffortCommand(effort=data))
    output = []
    assert made.spin(lambda: output.append(capfd.readouterr().err) or words in "".join(output))
    assert made[PlantNode].pace.periods == 0 and "Traceback" not in "".join(output)


def test_reset_goes_home_and_never_back_in_time(plant):
    made, states = plant
    for _ in range(3):
        count, last = len(states), states[-1]
        made.say(topics.PASSED, answer(last, (20.0, 10.0)))
        assert made.spin(lambda: stamps(states[count:])[-1:] > [stamps([last])[0]])  # noqa: B023
    moved = states[-1]
    assert made.call("plant/reset") == (True, "at rest at robot.home")
    assert made.spin(lambda: stamps(states)[-1] == stamps([moved])[0] + 2 * PERIOD)
    robot = made[PlantNode].robot
    assert np.allclose(states[-1].position, robot.home, atol=1e-3)
    assert not np.allclose(moved.position, robot.home, atol=1e-3)


def test_pause_and_hold_keep_the_next_state_back(plant):
    made, states = plant
    assert made.call("plant/run", False) == (True, "paused")
    made.say(topics.PASSED, answer(states[-1]))
    assert made.spin(lambda: made[PlantNode].pace.periods == 1)
    made.spin_for(0.3)
    before = stamps(states)[-1]
    assert before == stamps(states)[0]  # the step was made, and is not shown
    assert made.call("plant/run", True)[0]
    assert made.spin(lambda: stamps(states)[-1] == before + PERIOD)
    assert made.set("plant", "plant.hold_after", 1) == (True, "")
    made.say(topics.PASSED, answer(states[-1]))
    assert made.spin(lambda: made[PlantNode].pace.periods == 2)
    made.spin_for(0.3)
    assert stamps(states)[-1] == before + PERIOD
    assert made.set("plant", "plant.hold_after", -1) == (True, "")
    assert made.spin(lambda: stamps(states)[-1] == before + 2 * PERIOD)


def test_it_publishes_clock_truth_and_response_time(plant):
    made, states = plant
    clocks, tools = made.listen(Clock, topics.CLOCK), made.listen(PoseStamped, topics.TOOL)
    times = made.listen(Float64, topics.RESPONSE)
    assert made.spin(lambda: clocks and tools)
    made.say(topics.PASSED, answer(states[-1]))
    assert made.spin(lambda: times)
    assert 0 < times[0].data < 60
    assert read_stamp(clocks[0].clock) == stamps(states)[0]
    robot = made[PlantNode].robot
    p = tools[0].pose.position
    assert np.allclose([p.x, p.y, p.z], robot.tool_position(robot.home))


def test_payload_is_a_live_parameter(plant):
    made, _ = plant
    assert made.set("plant", "plant.payload", 1.5) == (True, "")
    assert made[PlantNode].plant.model.body(PAYLOAD).mass[0] == 1.5
    ok, reason = made.set("plant", "plant.payload", 50.0)
    assert not ok and "plant.payload" in reason and "20" in reason


def test_real_time_applies_nothing_before_the_first_command_and_nothing_long_after_the_last(rig):
    made = rig(PlantNode, plant__pace="realtime", plant__timeout=1.0)
    states = made.listen(JointState, "joint_states")
    commanded = acted(made)
    assert made.spin(lambda: len(commanded(states)) > 5)
    assert not any(np.any(state.effort) for state in commanded(states))
    keep(made, [3.0, 1.0], lambda: np.allclose(states[-1].effort, [3.0, 1.0]))  # held over the whole period
    assert made.spin(lambda: not np.any(states[-1].effort))
    assert np.median(np.diff(stamps(states))) == PERIOD  # one that came late may be lost, or its plant suspended


def test_real_time_reports_no_more_than_was_commanded_and_then_all_of_it(rig):
    made = rig(PlantNode, plant__pace="realtime", plant__timeout=5.0)
    states = made.listen(JointState, "joint_states")
    keep(made, [4.0, 0.0], lambda: states and states[-1].effort[0] == 4.0)
    first = next(state for state in acted(made)(states) if np.any(state.effort))
    assert 0 < first.effort[0] <= 4.0 and first.effort[1] == 0


def test_real_time_takes_no_efforts_of_others_while_a_guard_commands(rig):
    made = rig(PlantNode, plant__pace="realtime", plant__timeout=10.0)
    states = made.listen(JointState, "joint_states")
    of_guard = lambda: made.say(topics.PASSED, EffortCommand(effort=[2.0, 0.0]))  # noqa: E731
    assert made.spin(lambda: of_guard() or (states and states[-1].effort[0] == 2.0))
    for _ in range(20):
        made.say(topics.COMMANDS, Float64MultiArray(data=[4.0, 0.0]))
        made.spin_for(0.02)
    assert states[-1].effort[0] == 2.0


def test_real_time_goes_on_after_a_pause_with_a_gap(rig):
    made = rig(PlantNode, plant__pace="realtime")
    states = made.listen(JointState, "joint_states")
    assert made.spin(lambda: len(states) > 3)
    made.call("plant/run", False)
    made.spin_for(0.3)
    count, before = len(states), time.time_ns()
    made.call("plant/run", True)
    assert made.spin(lambda: len(states) > count)
    assert stamps(states)[count] >= before
    made.call("plant/reset")
    assert np.all(np.diff(stamps(states)) > 0)


def test_real_time_goes_on_with_the_effort_that_acted_where_nobody_had_a_processor(rig):
    made = rig(PlantNode, plant__pace="realtime", plant__timeout=10.0)
    states = made.listen(JointState, "joint_states")
    keep(made, [3.0, 1.0], lambda: states and np.allclose(states[-1].effort, [3.0, 1.0]))
    count = len(states)
    time.sleep(0.3)
    assert made.spin(lambda: len(states) > count + 5)
    assert np.diff(stamps(states[count - 1:])).max() > 3 * PERIOD
    assert all(np.allclose(state.effort, [3.0, 1.0]) for state in states[count:])


def test_ring_survives_a_reset(rig):
    made = rig(*RING)
    states = made.listen(JointState, "joint_states")
    assert made.call("controller/excite")[0]
    assert made.spin(lambda: len(states) > 30)
    made.call("plant/reset")
    count = len(states)
    assert made.spin(lambda: len(states) > count + 30)
    assert made[RING[1]].estimator.state.episode >= 1
