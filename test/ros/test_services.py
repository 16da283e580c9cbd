"""What an operator asks for, and what happens when the ring falls silent."""
import re
import threading

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from mbrl_ros.msg import EffortCommand, LocalDynamics, ModelCheckpoint, Plan, Status
from rig import PATIENT, RING, ControllerNode, EstimatorNode, GuardNode, LearnerNode, PlantNode
from sensor_msgs.msg import JointState

from mbrl_ros.config import ConfigError
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.models.linear import NoModel
from mbrl_ros.nodes import controller_node, topics
from mbrl_ros.ring.learner import features_of
from mbrl_ros.ring.trust import MOST
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, StateEstimate


def mode_of(made):
    return made[ControllerNode].controller.mode


def excite_and_fit(made, transitions=300):
    """A model from a short excitation."""
    assert made.call("controller/excite")[0]
    assert made.spin(lambda: made[LearnerNode].learner._stored >= transitions)
    checkpoints = made.listen(ModelCheckpoint, topics.CHECKPOINT, topics.LATCHED)
    made.call("plant/run", False)  # leaves the processor to the fit
    ok, message = made.call("learner/fit")
    assert ok and "fitting gaussian" in message
    assert made.spin(lambda: checkpoints)
    made.call("plant/run", True)
    return checkpoints


def test_from_excitation_to_a_target_and_to_a_stop(rig):
    made = rig(*RING)
    modes = made.listen(Status, topics.MODE, topics.LATCHED)
    references, plans = made.listen(PoseStamped, topics.REFERENCE), made.listen(Plan, topics.PLAN)
    commands = made.listen(EffortCommand, topics.PASSED)
    diagnostics = made.listen(DiagnosticArray, topics.DIAGNOSTICS)
    assert made.spin(lambda: modes) and modes[-1].state == "idle"
    ok, reason = made.call("controller/reach")
    assert not ok and "no model has been fitted: call controller/excite and learner/fit first" in reason
    checkpoint = excite_and_fit(made)[-1]
    assert (checkpoint.kind, checkpoint.version) == ("gaussian", 1) and checkpoint.transitions >= 300
    assert np.isfinite(checkpoint.validation_loss)

    made.say(topics.TARGET, topics.pose(np.array([0.5, 0.0, 0.8]), 0, "base_link"))
    assert made.spin(lambda: made[ControllerNode].controller.mpc.target is not None)
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: mode_of(made) == "reach" and len(references) > 100 and plans)
    p = references[-1].pose.position
    assert np.allclose([p.x, p.y, p.z], [0.5, 0.0, 0.8])
    assert plans[-1].horizon == 20
    assert np.linalg.norm(made[PlantNode].plant.true_tool() - [0.5, 0.0, 0.8]) < 0.02

    assert made.call("controller/stop") == (True, "nothing is asked for: the guard holds")
    assert mode_of(made) == "idle" and made.spin(lambda: made[GuardNode].guard.state == "hold")
    count = len(commands)
    assert made.spin(lambda: len(commands) > count + 100)
    assert np.linalg.norm(made[PlantNode].plant.true_tool() - [0.5, 0.0, 0.8]) < 0.02  # it did not fall
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: mode_of(made) == "hold" and made[GuardNode].guard.state == "armed")
    assert made.spin(lambda: {"idle", "excite", "reach", "hold"} <= {mode.state for mode in modes})
    assert made.spin(lambda: {"plant", "learner", "controller"} <= {
        status.name for message in diagnostics for status in message.status})
    newest = next(m.status[0] for m in reversed(diagnostics) if m.status[0].name == "controller")
    assert {"mode", "reason", "ticks", "tick_ms_p50", "tick_ms_p99", "missed_deadlines", "plan_status", "solver"} <= {
        pair.key for pair in newest.values}


@pytest.mark.slow
def test_a_global_model_is_loaded_from_its_file_and_planned_with(rig, capfd):
    made = rig(*RING, controller__model="global", controller__require_model=False)
    node = made[ControllerNode]
    ok, reason = made.call("controller/reach")
    assert not ok and "there is no global model yet" in reason
    made.say(topics.CHECKPOINT, ModelCheckpoint(path="/nowhere.npz", kind="gaussian", version=7), topics.LATCHED)
    assert made.spin(lambda: node._version == 7)
    assert "global model not taken up: /nowhere.npz" in capfd.readouterr().err
    assert not made.call("controller/reach")[0]
    excite_and_fit(made)
    assert made.spin(lambda: node._model is not None) and made.call("controller/reach")[0]
    made.say(topics.TARGET, topics.pose(np.array([0.5, 0.0, 0.8]), 0, "base_link"))
    assert made.spin(lambda: mode_of(made) == "reach" and node.controller.mpc.plan is not None)
    periods = made[PlantNode].pace.periods
    assert made.spin(lambda: made[PlantNode].pace.periods > periods + 20) and mode_of(made) == "reach"


def test_in_real_time_it_is_loaded_beside_the_ring(rig, tmp_path, monkeypatch):
    """The ring turns on while a thread reads; an older file that takes longer is not taken up."""
    made = rig(ControllerNode, controller__model="global", plant__pace="realtime")
    node, began, go = made[ControllerNode], threading.Event(), threading.Event()

    def slow(path, robot):
        began.set()
        if path == "first":
            go.wait(PATIENT)
        return NoModel(*(torch.ones(k, dtype=torch.float64) for k in (4, 4, features_of(robot).dw)))

    monkeypatch.setattr(controller_node, "load", slow)
    node._checkpoint(ModelCheckpoint(path="first", version=1))
    assert began.wait(PATIENT) and node._model is None
    node._checkpoint(ModelCheckpoint(path="second", version=2))
    assert made.spin(lambda: node._model is not None)
    newest = node._model
    go.set()
    made.spin_for(0.2)
    assert node._model is newest and node._has_model


def test_reach_is_refused_while_the_model_is_not_trusted_and_is_not_once_it_is_again(rig):
    made = rig(*RING, controller__require_model=False, plant__hold_after=0)
    controller = made[ControllerNode].controller
    assert made.call("controller/hold")[0]
    for trust in (1.0, 0.0):
        made[LearnerNode].learner.trust.error = MOST if trust == 0.0 else 1.0
        periods = made[PlantNode].pace.periods
        made.set("plant", "plant.hold_after", 3)
        assert made.spin(lambda first=periods: made[PlantNode].pace.periods == first + 3)
        assert mode_of(made) == "hold" and controller.mpc.trust == trust
    ok, reason = made.call("controller/reach")
    assert not ok and "the model predicts badly; it learns while the arm holds: ask again in some seconds" in reason
    made.set("plant", "plant.hold_after", -1)
    assert made.spin(lambda: controller.mpc.trust == 1.0) and mode_of(made) == "hold"
    assert made.call("controller/reach")[0] and made.spin(lambda: mode_of(made) == "reach")


def test_reach_without_a_model_where_that_is_allowed(rig):
    made = rig(*RING, controller__require_model=False)
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: mode_of(made) == "reach")


def test_reach_from_power_on_fits_by_itself(rig):
    made = rig(*RING, controller__explore=True, learner__fit_after=2.0)
    controller = made[ControllerNode].controller
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: mode_of(made) == "reach") and controller.mpc.plan is None
    assert made.spin(lambda: controller.has_model)
    assert made.spin(lambda: controller.mpc.plan is not None) and mode_of(made) == "reach"


def test_before_arming_nothing_is_learned_and_no_reach_is_promised(rig):
    """However long the guard holds the arm; and from arming to the target it moves no faster than it may."""
    made = rig(*RING, guard__arm_at_start=False, controller__explore=True, learner__fit_after=2.0)
    controller, learner, guard = made[ControllerNode].controller, made[LearnerNode].learner, made[GuardNode].guard
    robot, plant = made[ControllerNode].robot, made[PlantNode]
    made.say(topics.TARGET, topics.pose(robot.tool_position(robot.home + 0.5), 1))
    ok, reason = made.call("controller/reach")
    assert not ok and "the guard does not pass commands on" in reason and "guard/arm" in reason
    assert made.call("controller/hold")[0] and made.spin(lambda: mode_of(made) == "hold")
    begun = plant.pace.periods
    assert made.spin(lambda: plant.pace.periods > begun + 300)
    joints = lambda: plant.plant.true_state()[0]  # noqa: E731
    assert learner._stored == 0 and np.abs(controller.base.posture - joints()).max() < 0.01
    speeds = made.listen(JointState, "joint_states", topics.KEEP_STATES)
    made.arm()
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: controller.mpc.plan is not None) and mode_of(made) == "reach"
    assert guard.state == "armed" and learner._moving >= 0.9 * 2.0 / robot.period
    fastest = np.max([np.abs(s.velocity) / robot.velocity_limit for s in speeds])
    assert fastest < 1.0


def test_fit_is_refused_without_data_and_while_one_runs(rig):
    made = rig(*RING, plant__hold_after=0)
    ok, reason = made.call("learner/fit")
    assert not ok and ("0 transitions within the last 30 s; expected at least 20: call controller/excite first, or set "
                       "learner.fit_seconds") in reason
    made.set("plant", "plant.hold_after", 40)
    made.call("controller/excite")
    assert made.spin(lambda: made[LearnerNode].learner._stored >= 30)
    assert made.call("learner/fit")[0]
    ok, reason = made.call("learner/fit")
    assert not ok and "a fit is running" in reason


def test_without_states_only_the_hold_is_asked_for(rig):
    made = rig(ControllerNode, plant__pace="realtime", controller__require_model=False)
    for service in ("excite", "reach", "home"):
        ok, reason = made.call(f"controller/{service}")
        assert not ok and re.fullmatch(r"no state for [0-9.]+ s: is the robot there, .*", reason)
    assert made.call("controller/hold") == (True, "hold from the next state on")
    assert made.call("controller/stop")[0]


def test_during_a_protective_stop_nothing_is_promised(rig):
    made = rig(ControllerNode, controller__require_model=False)
    controller, robot = made[ControllerNode].controller, made[ControllerNode].robot
    n, m = robot.n, robot.m

    def moves(time, speed):
        x = np.zeros(n)
        x[robot.slice("joint/velocity")] = speed * robot.velocity_limit
        state = StateEstimate(time, 0, time, Gaussian(x, 1e-6 * np.eye(n)), np.zeros(m))
        dynamics = LinearGaussianDynamics(np.eye(n, n + m), np.zeros(n), 1e-6 * np.eye(n))
        model = messages.LocalModel(state, dynamics, robot.period, 1.0, 1.0, 1.0)
        made.say(topics.MODEL, messages.to_local_dynamics(LocalDynamics, model, robot))
        assert made.spin(lambda: made[ControllerNode]._newest == time)

    moves(1, 3.0)
    for service in ("hold", "excite", "reach", "home"):
        ok, reason = made.call(f"controller/{service}")
        assert not ok and reason == "protective stop: shoulder at 3.0 times its velocity limit"
    moves(2, 0.0)
    assert controller.mode == "idle"  # what was refused does not happen later
    assert made.call("controller/hold")[0]
    moves(3, 0.0)
    assert controller.mode == "hold"


def test_a_learner_resumes_with_the_model_of_an_earlier_fit(rig, tmp_path):
    made = rig(*RING, learner__folder=str(tmp_path))
    excite_and_fit(made)
    folder = tmp_path / "version_1"
    assert {path.name for path in folder.iterdir()} == {"data.npz", "settings.yaml", "model.npz"}
    made.close()
    resumed = rig(*RING, learner__resume=str(folder))
    assert resumed.spin(lambda: resumed[ControllerNode]._has_model)
    assert resumed.call("controller/reach")[0]
    assert np.array_equal(resumed[LearnerNode].learner._scale, made[LearnerNode].learner._scale)
    for file, content in (("data.npz", b"nonsense"), ("model.npz", b"nonsense"), ("model.npz", None)):
        (folder / file).unlink()
        if content:
            (folder / file).write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            rig(LearnerNode, learner__resume=str(folder))
        assert file in str(caught.value) and "\n" not in str(caught.value)


def test_a_fit_that_fails_is_said_and_the_ring_goes_on(rig, capfd):
    made = rig(*RING)
    diagnostics = made.listen(DiagnosticArray, topics.DIAGNOSTICS)
    made.call("controller/excite")
    learner = made[LearnerNode]
    assert made.spin(lambda: learner.learner._stored >= 40)
    learner.settings["robot"] = {**learner.settings["robot"], "model": "/nowhere.xml"}
    made.call("plant/run", False)
    assert made.call("learner/fit")[0]
    assert made.spin(lambda: any(m.status[0].message.startswith("the fit failed") for m in diagnostics))
    output = capfd.readouterr().err
    assert "no file '/nowhere.xml'" in output and "Traceback" not in output
    made.call("plant/run", True)
    stored = learner.learner._stored
    assert made.spin(lambda: learner.learner._stored > stored + 10)


def test_a_repeated_state_gets_the_same_command_again(rig):
    made = rig(*RING, plant__hold_after=0, plant__timeout=0.02)
    commands = made.listen(EffortCommand, topics.PASSED)
    made.call("controller/excite")
    made.set("plant", "plant.hold_after", 5)
    assert made.spin(lambda: made[PlantNode].pace.periods == 5)
    newest = made[ControllerNode]._newest
    assert made.spin(lambda: commands and read_stamp(commands[-1].header.stamp) == newest)
    count, stored = len(commands), made[LearnerNode].learner._stored
    made[EstimatorNode]._estimates.publish(made[EstimatorNode]._last)
    assert made.spin(lambda: len(commands) > count)
    assert commands[-1] == commands[count - 1]
    assert made[LearnerNode].learner._stored == stored


def test_watchdog_commands_zero_effort_when_states_stop_coming(rig, capfd):
    made = rig(*RING, plant__pace="realtime", controller__watchdog=1.0)
    commands, modes = made.listen(EffortCommand, topics.ASKED), made.listen(Status, topics.MODE, topics.LATCHED)
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: mode_of(made) == "hold" and commands and np.any(commands[-1].effort))
    made.call("plant/run", False)
    assert made.spin(lambda: mode_of(made) == "fault")
    assert made.spin(lambda: modes[-1].state == "fault" and not np.any(commands[-1].effort))
    assert "no state for " in made[ControllerNode].controller.reason
    assert "zero effort: no state for " in capfd.readouterr().err
    made.call("plant/run", True)
    count = len(commands)
    assert made.spin(lambda: len(commands) > count + 10)
    assert mode_of(made) == "fault" and not np.any(commands[-1].effort)  # until somebody asks
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: mode_of(made) == "hold")


def test_watchdog_is_not_fooled_by_a_stamp_that_stands_still(rig):
    made = rig(*RING, plant__pace="realtime", controller__watchdog=1.0)
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: mode_of(made) == "hold")
    made[PlantNode].pace.run(False)
    estimator = made[EstimatorNode]

    def again():
        estimator._estimates.publish(estimator._last)
        return mode_of(made) == "fault"

    assert made.spin(again)


def test_two_robots_side_by_side_have_modes_of_their_own(rig):
    other, made = rig(*RING, namespace="other"), rig(*RING)
    assert other.call("controller/hold")[0]
    assert other.spin(lambda: mode_of(other) == "hold")
    periods = made[PlantNode].pace.periods
    assert made.spin(lambda: made[PlantNode].pace.periods > periods + 10)
    assert mode_of(made) == "idle"
