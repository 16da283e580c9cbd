"""What comes over topics and cannot be used: one line says what was expected, and the ring goes on."""
from time import sleep

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from mbrl_ros.msg import EffortCommand, LocalDynamics, StateEstimate
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rig import RING, ControllerNode, EstimatorNode, GuardNode, LearnerNode
from sensor_msgs.msg import JointState

from mbrl_ros.messages.fields import read_stamp, write_stamp
from mbrl_ros.nodes import topics

PERIOD = 20_000_000  # [ns]
NAN, INF = float("nan"), float("inf")


def state(time, names=("shoulder", "elbow"), position=(0.6, 0.9), velocity=(0.0, 0.0), effort=(0.0, 0.0)):
    message = JointState(name=list(names), position=list(position), velocity=list(velocity), effort=list(effort))
    write_stamp(message.header.stamp, time)
    return message


def heard(made, capfd, words):
    """What the nodes logged until these words came."""
    output = []

    def said():
        output.append(capfd.readouterr().err)
        return words in "".join(output)

    assert made.spin(said), f"nobody said {words!r}: {''.join(output)}"
    assert "Traceback" not in "".join(output)
    return "".join(output)


@pytest.fixture
def estimator(rig):
    """An estimator alone, and what it says."""
    made = rig(EstimatorNode, estimator__effort_source="joint_states")
    return made, made.listen(StateEstimate, topics.STATE)


@pytest.mark.parametrize(("bad", "words"), [
    ({"names": ("shoulder", "wrist")}, "no joint elbow; it has shoulder, wrist"),
    ({"names": ("elbow",), "position": (0.9,), "velocity": (0.0,), "effort": (0.0,)}, "no joint shoulder"),
    ({"names": ("elbow", "elbow")}, "no joint shoulder"),
    ({"position": (0.6,)}, "position: expected 2 values, one per name, got 1"),
    ({"velocity": (0.0, 0.0, 0.0)}, "velocity: expected 2 values, one per name, got 3"),
    ({"effort": ()}, "effort: expected 2 values, one per name, got 0"),
    ({"position": (NAN, 0.9)}, "position of shoulder is nan; expected finite values"),
    ({"velocity": (0.0, INF)}, "velocity of elbow is inf; expected finite values"),
    ({"position": (0.6, 1e300)}, "position of elbow is 1e+300; expected finite values of at most 1e+06"),
    ({"effort": (-INF, 0.0)}, "effort of shoulder is -inf; expected finite values"),
])
def test_states_that_cannot_be_used_are_dropped(estimator, capfd, bad, words):
    made, estimates = estimator
    made.say("joint_states", state(PERIOD, **bad))
    output = heard(made, capfd, words)
    made.say("joint_states", state(2 * PERIOD))
    assert made.spin(lambda: estimates)
    assert len(estimates) == 1 and estimates[0].header.stamp.nanosec == 2 * PERIOD
    assert output.count("[ERROR]") == 1


@pytest.mark.parametrize("names", [(), ("gripper",)])
def test_states_of_other_joints_only_are_ignored(estimator, capfd, names):
    made, estimates = estimator
    made.say("joint_states", state(PERIOD))
    for time in (2, 3):
        made.say("joint_states", state(time * PERIOD, names, (NAN,) * len(names), (), ()))
    sleep(0.1)  # all are there when the estimator looks
    assert made.spin(lambda: estimates)
    output = heard(made, capfd, f"joint_states of {', '.join(names) or 'no joint'}: ignored, because none of shoulder, "
                                "elbow is there")
    assert output.count("ignored") == 1 and "[ERROR]" not in output


def test_a_guard_that_waits_for_joints_says_for_which(rig):
    made = rig(GuardNode)
    made.say("joint_states", state(PERIOD, ("left", "right"), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)))
    expected = "unconfigured: joint_states: expected shoulder, elbow, got left, right"
    assert made.spin(lambda: made[GuardNode].guard.reason != "no joint state yet")
    assert made.call("guard/arm", True) == (False, expected)


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_drivers_of_either_reliability_are_heard_in_real_time(rig, reliability):
    made = rig(EstimatorNode, plant__pace="realtime")
    estimates = made.listen(StateEstimate, topics.STATE)
    made.say("joint_states", state(PERIOD), QoSProfile(depth=1, reliability=reliability))
    assert made.spin(lambda: estimates)


@pytest.mark.filterwarnings("ignore:Deprecated in favor:DeprecationWarning")  # how rclpy says it
@pytest.mark.parametrize("executor", ["single", "events"])
@pytest.mark.parametrize(("node", "kind", "topic"), [
    (ControllerNode, PoseStamped, topics.TARGET), (ControllerNode, LocalDynamics, topics.MODEL),
    (LearnerNode, StateEstimate, topics.STATE), (GuardNode, EffortCommand, topics.ASKED)])
def test_a_publisher_that_cannot_be_heard_is_said(rig, capfd, executor, node, kind, topic):
    made = rig(node, executor=executor)
    made.probe.create_publisher(kind, topic, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    output = heard(made, capfd, f"[{made[node].get_name()}]: New publisher discovered on topic '{topic}'")
    assert "Last incompatible policy: RELIABILITY" in output


def test_joints_are_picked_by_name(estimator):
    made, estimates = estimator
    made.say("joint_states", state(PERIOD, ("gripper", "elbow", "shoulder"), (5.0, 0.9, 0.6), (5.0, 0.2, 0.1),
                                   (5.0, 2.0, 1.0)))
    assert made.spin(lambda: estimates)
    assert list(estimates[0].mean[:4]) == [0.6, 0.9, 0.1, 0.2] and list(estimates[0].effort) == [1.0, 2.0]


def test_no_velocity_is_fine(estimator):
    made, estimates = estimator
    made.say("joint_states", state(PERIOD, velocity=()))
    assert made.spin(lambda: estimates)


def test_a_repeated_stamp_gets_the_same_answer_and_is_not_counted_twice(estimator):
    made, estimates = estimator
    for time in (PERIOD, 2 * PERIOD, 2 * PERIOD, 3 * PERIOD):
        count = len(estimates)
        made.say("joint_states", state(time))
        assert made.spin(lambda: len(estimates) > count)  # noqa: B023
    assert [e.step for e in estimates] == [0, 1, 1, 2]
    assert estimates[1].mean == estimates[2].mean


def test_stamps_that_stand_still_are_no_estimates_and_are_said(estimator, capfd):
    made, estimates = estimator
    words, end = "stands still at 0 ns; expected one period more with every message", []

    def again():
        made.probe.get_clock().sleep_for(Duration(seconds=0.01))
        made.say("joint_states", state(0))
        end.append(capfd.readouterr().err)
        return words in "".join(end)

    assert made.spin(again)
    assert not estimates


def test_a_stamp_a_little_back_is_dropped_and_one_far_back_begins_an_episode(estimator, capfd):
    made, estimates = estimator
    half = PERIOD // 2
    for i, time in enumerate((100 * PERIOD, 101 * PERIOD, 101 * PERIOD - half, 102 * PERIOD, 5 * PERIOD, 6 * PERIOD)):
        made.say("joint_states", state(time))
        if i == 2:
            heard(made, capfd, "the stamp went back by 0.01 s; expected stamps that only grow")
        else:
            assert made.spin(lambda: len(estimates) == (i + 1 if i < 2 else i))  # noqa: B023
    assert [(e.episode, e.step) for e in estimates] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_gaps_and_other_clocks_are_said(rig, capfd):
    made = rig(EstimatorNode, plant__pace="realtime")
    estimates = made.listen(StateEstimate, topics.STATE)
    made.say("joint_states", state(PERIOD))
    heard(made, capfd, "expected this machine's clock. Set use_sim_time")
    made.say("joint_states", state(50 * PERIOD))
    heard(made, capfd, "a new episode begins after a gap of 0.98 s; expected one period, 0.02 s")
    assert made.spin(lambda: len(estimates) == 2)


def test_stale_stamps_are_dropped_and_said(rig, capfd):
    made = rig(EstimatorNode, plant__pace="realtime", estimator__max_age=0.5)
    estimates = made.listen(StateEstimate, topics.STATE)
    now = made.probe.get_clock().now().nanoseconds
    made.say("joint_states", state(now - 3_000_000_000))
    heard(made, capfd, "expected at most 0.5 s (estimator.max_age)")
    assert not estimates
    assert made.spin(lambda: made.say("joint_states", state(made.probe.get_clock().now().nanoseconds)) or estimates)


@pytest.mark.parametrize("delay", [0, 2])
def test_efforts_may_be_those_of_the_commands_within_limits_and_late(rig, delay):
    made = rig(EstimatorNode, estimator__effort_source="commands", estimator__command_delay=delay)
    estimates = made.listen(StateEstimate, topics.STATE)
    made.say(topics.PASSED, EffortCommand(effort=[3.0, 99.0]))
    assert made.spin(lambda: np.any(made[EstimatorNode].estimator._command))
    made.say("joint_states", state(PERIOD, effort=()))
    assert made.spin(lambda: estimates)
    assert list(estimates[0].effort) == [3.0, 15.0]  # within the limit, as it acts


def test_readings_that_are_not_what_was_commanded_are_named_in_diagnostics(rig):
    """In words, for each joint; the estimates have what was commanded."""
    made = rig(EstimatorNode)
    said, estimates = made.listen(DiagnosticArray, topics.DIAGNOSTICS), made.listen(StateEstimate, topics.STATE)
    rng, stamp = np.random.default_rng(0), 0
    for k in range(1, 400):
        effort = rng.uniform(-1, 1, 2)
        stamp = k * PERIOD
        if k > 1:
            made.say(topics.PASSED, topics.command(effort, stamp - PERIOD))
        made.say("joint_states", state(stamp, effort=tuple(effort + 0.05 * made[EstimatorNode].robot.effort_limit)))
        assert made.spin(lambda: estimates and read_stamp(estimates[-1].header.stamp) == stamp)  # noqa: B023
        assert k == 1 or np.allclose(estimates[-1].effort, effort)
    assert made.spin(lambda: any("effort reading of shoulder: offset 5.0 % of the limit" in s.message
                                 for m in said for s in m.status if s.name == "estimator"))


def test_in_lockstep_a_state_waits_for_the_command_that_led_to_it(rig):
    """In whichever order they come; but a state that is repeated was led to by none."""
    made = rig(EstimatorNode)
    estimates = made.listen(StateEstimate, topics.STATE)
    made.say("joint_states", state(PERIOD))
    assert made.spin(lambda: len(estimates) == 1)
    made.say("joint_states", state(2 * PERIOD))
    assert made.spin(lambda: made[EstimatorNode]._waiting is not None) and len(estimates) == 1
    made.say(topics.PASSED, topics.command(np.array([3.0, 1.0]), PERIOD))
    assert made.spin(lambda: len(estimates) == 2) and list(estimates[1].effort) == [3.0, 1.0]
    made.say("joint_states", state(3 * PERIOD))
    assert made.spin(lambda: made[EstimatorNode]._waiting is not None) and len(estimates) == 2
    made.say("joint_states", state(3 * PERIOD))
    assert made.spin(lambda: len(estimates) == 3)


def test_an_estimate_of_another_robot_is_dropped(rig, capfd):
    made = rig(LearnerNode)
    models = made.listen(LocalDynamics, topics.MODEL)
    made.say(topics.STATE, StateEstimate(state_names=["a"], joint_names=["b"], mean=[0.0], covariance=[1.0],
                                             effort=[0.0]))
    heard(made, capfd, "not this robot's names; missing: joint/shoulder/position")
    assert not models


def test_a_model_that_is_not_finite_is_not_answered_and_the_ring_goes_on(rig, capfd):
    made = rig(*RING)
    commands = made.listen(EffortCommand, topics.PASSED)
    assert made.spin(lambda: len(commands) > 3)
    made.nodes[RING[0]].pace.run(False)

    def quiet():
        before = len(commands)
        made.spin_for(0.2)
        return len(commands) == before

    assert made.spin(quiet)
    count = len(commands)
    bad = LocalDynamics()
    bad.state = made[EstimatorNode]._last
    bad.period = 0.02
    bad.state_matrix = [NAN] * len(bad.state.covariance)
    bad.input_matrix = [0.0] * (2 * len(bad.state.mean))
    bad.offset, bad.covariance = [0.0] * len(bad.state.mean), list(bad.state.covariance)
    made.say(topics.MODEL, bad)
    assert "expected finite values" in heard(made, capfd, "LocalDynamics.state_matrix")
    assert len(commands) == count
    made.nodes[RING[0]].pace.run(True)
    assert made.spin(lambda: len(commands) > count + 3)


@pytest.mark.parametrize(("position", "frame", "words"), [
    ((NAN, 0.0, 0.5), "", "expected finite values"), ((0.4, 0.0, INF), "base_link", "expected finite values"),
    ((0.4, 0.0, 0.5), "camera", "frame 'camera'; expected 'base_link' (robot.base_frame), none, or one")])
def test_targets_that_cannot_be_used_are_ignored_and_said(rig, capfd, position, frame, words):
    made = rig(ControllerNode)
    message = PoseStamped()
    message.header.frame_id = frame
    message.pose.position.x, message.pose.position.y, message.pose.position.z = position
    made.say(topics.TARGET, message)
    assert "target ignored" in heard(made, capfd, words)
    assert made[ControllerNode].controller.mpc.target is None


def test_an_unexpected_error_in_the_controller_ends_in_zero_effort(rig, capfd):
    made = rig(*RING)
    commands = made.listen(EffortCommand, topics.ASKED)
    made.call("controller/hold")
    assert made.spin(lambda: commands and np.any(commands[-1].effort))

    def broken(*_):
        raise RuntimeError("deliberate")

    controller = made[ControllerNode].controller
    right, controller.base.act = controller.base.act, broken
    assert made.spin(lambda: controller.mode == "fault")
    assert made.spin(lambda: not np.any(commands[-1].effort))
    assert "zero effort: RuntimeError: deliberate" in capfd.readouterr().err
    controller.base.act = right
    made.call("controller/hold")
    assert made.spin(lambda: np.any(commands[-1].effort))
