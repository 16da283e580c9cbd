"""The guard between controller and robot: what it passes on, and what it does when the others fall silent."""
import subprocess
import sys

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from mbrl_ros.msg import EffortCommand, Status
from rig import PATIENT, RING, ControllerNode, GuardNode, LearnerNode, PlantNode
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import spin, topics

SHORT = {"plant__timeout": 0.01, "guard__patience": 50}  # on a busy machine an answer may take a while
NAN = float("nan")
HANGING = [1.57, 0.0]  # [rad] where a machine too busy for its period drops nothing
PERIOD = 20_000_000  # [ns]


def state_of(made):
    return made[GuardNode].guard.state


def in_lockstep(rig, **parameters):
    """Plant and guard; an answer to the newest state as a controller gives it."""
    made = rig(GuardNode, PlantNode, **{**SHORT, **parameters})
    states, sent = made.listen(JointState, "joint_states"), made.listen(EffortCommand, topics.PASSED)

    def answer(effort=(1.0, 0.5)):
        newest = read_stamp(states[-1].header.stamp)  # which the plant repeats

        def again():
            made.say(topics.ASKED, topics.command(np.array(effort), newest))
            return made.spin(lambda: read_stamp(states[-1].header.stamp) != newest, 1.0)

        assert made.spin(again)

    assert made.spin(lambda: states and made[GuardNode]._passed.get_subscription_count() == 2)  # plant and probe
    return made, states, sent, answer


@pytest.mark.parametrize(("wanted", "taken"), [("auto", "single"), ("events", "events")])
def test_it_runs_on_the_executor_that_rclpy_supports_unless_told_otherwise(rig, wanted, taken):
    assert rig(GuardNode, process__executor=wanted)[GuardNode].process.executor == taken


def test_its_module_imports_neither_torch_nor_numba_nor_scipy():
    code = ("import sys\nimport mbrl_ros.nodes.guard_node\n"
            "sys.exit(', '.join({'torch', 'numba', 'scipy', 'gpytorch'} & set(sys.modules)) or 0)")
    done = subprocess.run([sys.executable, "-c", code], timeout=PATIENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nobody_else_publishes_efforts(rig):
    made = rig(*RING)
    for kind, topic in ((Float64MultiArray, topics.COMMANDS), (EffortCommand, topics.PASSED)):
        made.listen(kind, topic)
        publishers = made.probe.get_publishers_info_by_topic(topic)
        assert [publisher.node_name for publisher in publishers] == ["guard"]


def test_in_lockstep_every_state_is_answered_once_in_order(rig):
    made, states, sent, answer = in_lockstep(rig, guard__patience=10**6)
    for k in range(20):
        answer((0.1 * k, 0.0))
    answered = list(dict.fromkeys(read_stamp(state.header.stamp) for state in states))[:-1]
    stamp = lambda command: read_stamp(command.header.stamp)  # noqa: E731
    assert made.spin(lambda: sent and stamp(sent[-1]) == answered[-1])
    efforts = {stamp(command): command.effort[0] for command in sent}  # repeated ones are the same
    assert list(efforts) == answered
    assert np.allclose(list(efforts.values()), 0.1 * np.arange(20))
    assert state_of(made) == "armed"


def test_a_silent_controller_is_a_fault_and_the_guard_holds_by_itself(rig, capfd):
    made, states, sent, answer = in_lockstep(rig)
    answer()
    answer()
    assert state_of(made) == "armed"
    periods = made[PlantNode].pace.periods
    assert made.spin(lambda: made[PlantNode].pace.periods > periods + 20)
    assert state_of(made) == "fault"
    reason = "no command while a state was repeated 50 times"
    assert made[GuardNode].guard.reason == reason and f"fault: {reason}" in capfd.readouterr().err
    assert np.abs(states[-1].velocity).max() < 0.5 and np.isfinite(sent[-1].effort).all()
    ok, why = made.call("guard/arm", True)
    assert not ok and why == f"fault: {reason}"
    for _ in range(12):
        answer()
    assert state_of(made) == "fault"
    assert made.call("guard/reset") == (True, "hold")


def test_an_arm_whose_controller_is_idle_is_held_and_in_step_with_it(rig):
    """Armed at start, for as long as nobody has called a service, and at every state that the controller has seen."""
    made = rig(*RING, plant__timeout=1.0)
    states, pace = made.listen(JointState, "joint_states"), made[PlantNode].pace
    assert made.spin(lambda: pace.periods)
    repeated = pace.repeated  # before all had found each other
    assert made.spin(lambda: pace.periods > 150)
    assert state_of(made) == "hold" and pace.repeated == repeated
    assert max(np.abs(state.velocity).max() for state in states) < 0.5
    assert np.allclose(states[-1].position, made[GuardNode].robot.home, atol=0.05)
    assert made[LearnerNode].learner._stored > 100  # the others see what happens
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: state_of(made) == "armed")
    answered = made[GuardNode].guard.answered
    assert made.spin(lambda: made[GuardNode].guard.answered > answered + 10 * PERIOD)
    assert pace.repeated == repeated and np.abs(states[-1].velocity).max() < 0.5


def test_without_a_controller_it_holds_from_the_start(rig):
    made, states, *_ = in_lockstep(rig, guard__arm_at_start=False)
    assert made.spin(lambda: made[PlantNode].pace.periods > 20)
    assert state_of(made) == "hold"
    assert np.allclose(states[-1].position, made[GuardNode].robot.home, atol=0.05)
    ok, why = made.call("guard/arm", True)
    assert not ok and "the controller is not warmed up" in why


def lifecycle(made, kind, service, **request):
    client = made.probe.create_client(kind, f"guard/{service}")
    assert made.spin(client.service_is_ready)
    return made.ask(lambda: client.call_async(kind.Request(**request)))


def transition(made, label):
    request = ChangeState.Request()
    request.transition.label = label
    client = made.probe.create_client(ChangeState, "guard/change_state")
    assert made.spin(client.service_is_ready)
    return made.ask(lambda: client.call_async(request)).success


def test_states_services_lifecycle_and_diagnostics_in_real_time(rig, capfd):
    made = rig(*RING, plant__pace="realtime", plant__timeout=10.0, controller__watchdog=0.0, robot__home=HANGING)
    diagnostics = made.listen(DiagnosticArray, topics.DIAGNOSTICS)
    states = made.listen(Status, topics.GUARD, topics.LATCHED)
    label = lambda: lifecycle(made, GetState, "get_state").current_state.label  # noqa: E731
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: state_of(made) == "hold")
    assert label() == "inactive"
    made.arm()
    assert state_of(made) == "armed" and label() == "active"
    assert transition(made, "deactivate") and state_of(made) == "hold"
    assert transition(made, "activate") and state_of(made) == "armed"
    assert made.call("guard/arm", False) == (True, "hold") and label() == "inactive"
    made.arm()
    assert made.call("guard/estop") == (True, "stopped until guard/reset")
    assert state_of(made) == "stopped" and label() == "inactive"
    assert not transition(made, "activate") and label() == "inactive"
    assert "not armed: stopped: emergency stop" in capfd.readouterr().err
    assert not transition(made, "cleanup") and label() == "inactive"
    assert made.call("guard/reset") == (True, "hold")
    made.arm()
    made.say(topics.MODE, Status(state="fault"), topics.LATCHED)
    assert made.spin(lambda: state_of(made) == "fault")
    assert made[GuardNode].guard.reason == "the controller is in fault"
    assert made.spin(lambda: (states[-1].state, states[-1].reason) == ("fault", "the controller is in fault"))
    late = made.listen(Status, topics.GUARD, topics.LATCHED)
    assert made.spin(lambda: late[-1:] == states[-1:])  # whoever comes later hears it too
    said = lambda: [m.status[0] for m in diagnostics if m.status[0].name == "guard"]  # noqa: E731
    assert made.spin(lambda: said()[-1].message == "fault: the controller is in fault")
    values = {pair.key: pair.value for pair in said()[-1].values}
    assert {"state", "reason", "state_age_ms", "command_age_ms", "commands_in_time", "dropped", "faults"} <= set(values)
    assert said()[-1].level == topics.ERROR and values["faults"] == "1" and said()[-1].hardware_id == "planar2"
    seen = [status.message.split(":")[0] for status in said()]
    assert {"hold", "armed", "stopped", "fault"} <= set(seen)


@pytest.mark.parametrize(("topic", "message", "words"), [
    (topics.ASKED, EffortCommand(effort=[1.0]), "EffortCommand.effort: expected 2 values, got 1"),
    (topics.ASKED, EffortCommand(effort=[1.0, NAN]), "expected finite values"),
    ("joint_states", JointState(name=["shoulder"], position=[0.0], velocity=[0.0]), "no joint elbow"),
    ("joint_states", JointState(name=["shoulder", "elbow"], position=[NAN, 0.0], velocity=[0.0] * 2), "finite"),
    ("joint_states", JointState(name=["shoulder", "elbow"], position=[0.0] * 2), "JointState.velocity: expected one"),
])
def test_messages_that_cannot_be_used_are_faults(rig, capfd, topic, message, words):
    made, _, _, answer = in_lockstep(rig, guard__patience=10**6)
    answer()

    def again():
        made.say(topic, message)  # a queue of one: a state may take its place
        return made.spin(lambda: state_of(made) == "fault", 1.0)

    assert made.spin(again)
    assert words in made[GuardNode].guard.reason
    assert f"{topic} dropped" in capfd.readouterr().err


@pytest.mark.parametrize("names", [[], ["gripper"], ["left_finger", "right_finger"]])
def test_states_of_other_joints_only_are_no_fault(rig, capfd, names):
    made, _, sent, answer = in_lockstep(rig, guard__patience=10**6)
    answer()
    foreign = JointState(name=names, position=[NAN] * len(names))
    words, end = f"joint_states of {', '.join(names) or 'no joint'}: ignored", []

    def again():
        made.say("joint_states", foreign)
        made.spin_for(0.02)
        end.append(capfd.readouterr().err)
        return words in "".join(end)

    assert made.spin(again)
    assert state_of(made) == "armed" and "joint_states dropped" not in "".join(end)
    count = len(sent)
    answer()
    assert made.spin(lambda: len(sent) > count) and state_of(made) == "armed"


def test_where_a_joint_cannot_be_braked_nothing_is_sent(rig, capfd):
    made = rig(GuardNode, PlantNode, robot__deceleration=[], **SHORT)
    sent = made.listen(Float64MultiArray, topics.COMMANDS)
    said = []
    assert made.spin(lambda: said.append(capfd.readouterr().err) or "no limit without deceleration" in "".join(said))
    made.spin_for(0.5)
    assert not sent and state_of(made) == "unconfigured"


def test_states_that_stop_in_real_time_are_a_fault_and_the_effort_goes_to_zero(rig):
    made = rig(*RING, plant__pace="realtime", guard__state_age=1.0, guard__gravity="robot",
               controller__watchdog=0.0)
    sent = made.listen(Float64MultiArray, topics.COMMANDS)
    assert made.call("controller/hold")[0]
    made.arm()
    assert made.spin(lambda: any(np.any(command.data) for command in sent))
    made[PlantNode].pace.run(False)
    assert made.spin(lambda: state_of(made) == "fault")
    assert "no joint state for" in made[GuardNode].guard.reason
    assert made.spin(lambda: not np.any(sent[-1].data))
    count = len(sent)
    assert made.spin(lambda: len(sent) > count + 5)  # and goes on saying so


def test_before_there_is_a_state_there_is_nothing_to_reset_or_to_arm(rig):
    made = rig(GuardNode)
    assert made.call("guard/reset") == (False, "unconfigured: no joint state yet")
    assert made.call("guard/arm", True) == (False, "unconfigured: no joint state yet")


def test_its_last_effort_is_zero(rig):
    made = rig(PlantNode, GuardNode, plant__pace="realtime", guard__gravity="model")
    sent = made.listen(Float64MultiArray, topics.COMMANDS)
    assert made.spin(lambda: sent and np.abs(sent[-1].data).max() > 5.0)
    made[GuardNode].close()
    assert made.spin(lambda: not np.any(sent[-1].data))
    steps = np.abs(np.diff([command.data for command in sent], axis=0))
    assert (steps <= made[GuardNode].robot.effort_rate_limit * 0.02 * (1 + 1e-9)).all()


def test_armed_at_start_is_for_lockstep_only(rig):
    with pytest.raises(ConfigError, match=r"guard.arm_at_start: only where plant.pace is lockstep"):
        rig(GuardNode, plant__pace="realtime", guard__arm_at_start=True)


def test_a_controller_that_faults_makes_the_arm_hold(rig):
    made = rig(*RING)
    made.call("controller/hold")
    assert made.spin(lambda: made[ControllerNode].controller.mode == "hold" and state_of(made) == "armed")
    made[ControllerNode]._fault("deliberate")
    assert made.spin(lambda: state_of(made) == "fault")
    periods = made[PlantNode].pace.periods
    assert made.spin(lambda: made[PlantNode].pace.periods > periods + 60)
    assert np.abs(made[PlantNode].plant.true_state()[1]).max() < 0.05
    assert made.call("guard/reset") == (True, "hold")
    ok, why = made.call("guard/arm", True)  # its efforts, which are zero, must not reach the arm
    assert not ok and "0 commands in time" in why
    periods = made[PlantNode].pace.periods
    assert made.spin(lambda: made[PlantNode].pace.periods > periods + 60)
    assert np.abs(made[PlantNode].plant.true_state()[1]).max() < 0.05
    made.call("controller/hold")
    assert made.spin(lambda: state_of(made) == "armed")


@pytest.mark.parametrize("executor", ["single", "events"])
def test_a_guard_that_slept_does_not_go_on_as_if_nothing_had_been(rig, executor):
    made = rig(*RING, plant__pace="realtime", guard__state_age=0.4, guard__command_age=0.4,
               controller__watchdog=0.0)
    guard, own = made[GuardNode], spin.make_executor(executor)
    made.executor.remove_node(guard)
    own.add_node(guard)
    guard.create_timer(0.005, lambda: None)  # so that it wakes up
    both = lambda condition, seconds: made.spin(lambda: own.spin_once(timeout_sec=0.0) or condition(), seconds)  # noqa: E731

    def armed():  # a busy machine may have faulted guard or controller
        guard.guard.reset()
        both(lambda: made[ControllerNode].controller.mode == "hold" or made.call("controller/hold")[0], 10.0)
        guard.guard.arm(guard._now())
        return not both(lambda: state_of(made) != "armed", 0.5)

    try:
        assert made.spin(armed)
        made.spin_for(1.0)  # the others go on: there are new states and commands when it wakes up
        both(lambda: state_of(made) != "armed", 5.0)
        assert state_of(made) == "fault"
        assert "no joint state for" in guard.guard.reason
    finally:
        own.remove_node(guard)
        own.shutdown()
