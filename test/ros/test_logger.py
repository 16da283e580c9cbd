"""A recording holds what was said, and survives its writer."""
import os
import signal
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from mbrl_ros.msg import LocalDynamics, StateEstimate
from rig import PATIENT, RING, ControllerNode, EstimatorNode, GuardNode, PlantNode, launch, node_arguments

from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.logger_node import LoggerNode
from mbrl_ros.recordings.read_run import read_run
from mbrl_ros.recordings.recording import read_trials


def test_recording_gives_the_states_back(rig, tmp_path):
    made = rig(*RING, LoggerNode, plant__hold_after=0, logger__folder=str(tmp_path / "recording"), logger__plan=True,
               logger__belief=True)
    estimates = made.listen(StateEstimate, topics.STATE)
    assert made.call("controller/excite")[0]
    heard_by = made[EstimatorNode]._estimates.get_subscription_count
    assert made.spin(lambda: heard_by() == 3)  # learner, logger and probe
    made.set("plant", "plant.hold_after", 50)
    assert made.spin(lambda: made[PlantNode].pace.periods == 50)
    heard = lambda: {read_stamp(e.header.stamp): list(e.mean) for e in estimates}  # noqa: E731  a plant may say one again
    assert made.spin(lambda: len(heard()) >= 50)
    made[LoggerNode].close()
    trial, = read_trials(tmp_path / "recording")
    assert trial.joint_names == ("shoulder", "elbow")
    both = min(len(trial.x), len(heard()))  # the first may have been said before one of the two was heard of
    assert np.array_equal(trial.x[-both:], np.array(list(heard().values()))[-both:]) and both >= 45
    metadata = (tmp_path / "recording" / "metadata.yaml").read_text()
    for topic in (topics.JOINTS, topics.MODEL, topics.PASSED, topics.MODE, topics.GUARD, topics.BELIEF,
                  "/diagnostics"):
        assert topic in metadata
    assert made[ControllerNode].controller.mode == "excite"


def test_a_recording_says_what_the_nodes_were_set_to_and_what_has_changed(rig, tmp_path):
    made = rig(*RING, LoggerNode, logger__folder=str(tmp_path / "recording"), logger__every=10)
    written = lambda: sum(1 for t, _ in made[LoggerNode]._recorder._topics if t == "/parameters")  # noqa: E731
    assert made.spin(written)
    asked = made[LoggerNode]._snapshots
    assert made.spin(lambda: not asked.waiting)
    assert made.set("controller", "controller.exploration", 0.25)[0]
    assert made.call("controller/hold")[0]
    models = made.listen(LocalDynamics, topics.MODEL)
    assert made.spin(lambda: len(models) > 60)
    made[LoggerNode].close()
    read = read_run(tmp_path / "recording")
    for kind in RING:
        node, name = made[kind], made[kind].get_name()
        there = {key: parameter.value for key, parameter in node._parameters.items()}
        changed = {c.name: c.value for c in read.changes if c.node == f"/{name}"}
        told = {**read.parameters[f"/{name}"], **changed}
        for key, value in there.items():
            assert np.array_equal(told[key], [] if value is None else value), (name, key)
    assert [(c.node, c.value) for c in read.changes if c.name == "controller.exploration"] == [("/controller", 0.25)]
    assert 5 < len(read.models) < len(read.states.time) / 4


def test_a_full_disk_ends_the_recording_and_nothing_else(rig, tmp_path, monkeypatch, capfd):
    made = rig(*RING, LoggerNode, logger__folder=str(tmp_path / "recording"))
    diagnostics = made.listen(DiagnosticArray, topics.DIAGNOSTICS)
    said = lambda: [s for m in diagnostics for s in m.status if s.name == "logger"]  # noqa: E731
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: said() and said()[-1].level == topics.OK and int(said()[-1].values[0].value) > 0)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert made.spin(lambda: said()[-1].level == topics.ERROR)
    assert "recording ended" in said()[-1].message and "No space left on device" in said()[-1].message
    periods = made[PlantNode].pace.periods
    assert made.spin(lambda: made[PlantNode].pace.periods > periods + 200)
    assert made[ControllerNode].controller.mode == "hold" and made[GuardNode].guard.state == "armed"
    count = len(said())
    assert made.spin(lambda: len(said()) > count + 1) and said()[-1].level == topics.ERROR
    made[LoggerNode].close()
    output = capfd.readouterr().err
    assert output.count("recording ends") == 1 and "Traceback" not in output
    monkeypatch.undo()
    assert sum(len(trial.x) for trial in read_trials(tmp_path / "recording")) > 0


def test_a_failed_recorder_is_an_error_on_diagnostics_while_nothing_is_said(rig, tmp_path, monkeypatch):
    made = rig(LoggerNode, logger__folder=str(tmp_path / "recording"))
    diagnostics = made.listen(DiagnosticArray, topics.DIAGNOSTICS)
    made[LoggerNode]._recorder._failure = OSError(28, "No space left on device")
    assert made.spin(lambda: diagnostics and diagnostics[-1].status[0].level == topics.ERROR)


def test_a_killed_logger_loses_no_more_than_the_last_seconds(rig, tmp_path):
    made = rig(*RING, plant__pace="realtime", controller__watchdog=0.0)
    process = launch("mbrl_ros.nodes.logger_node", *node_arguments(logger__folder=tmp_path / "recording"))
    try:
        metadata = tmp_path / "recording" / "metadata.yaml"
        assert made.spin(lambda: metadata.is_file() and topics.STATE in metadata.read_text(), 2 * PATIENT)
        estimates = made.listen(StateEstimate, topics.STATE)
        assert made.spin(lambda: len(estimates) > 100)
        killed = time.time_ns()
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.kill()
        process.communicate()
    trials = read_trials(tmp_path / "recording")
    assert (killed - trials[-1].time[-1]) * 1e-9 < 5.0  # 1 s, and what a busy machine adds
