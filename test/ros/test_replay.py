"""A recorded run explained on a page, and repeated bit for bit."""
import re

import pytest
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped, Vector3
from rig import PATIENT, RING, ControllerNode, LearnerNode, PlantNode, Rig
from sensor_msgs.msg import JointState

from mbrl_ros.drawing.explained import LARGEST, explain
from mbrl_ros.nodes import replay as command
from mbrl_ros.nodes import report, topics
from mbrl_ros.nodes.logger_node import LoggerNode
from mbrl_ros.recordings import recording
from mbrl_ros.recordings.bags import records
from mbrl_ros.recordings.read_run import read_run

ALL = (*RING, LoggerNode)
STAMP = slice(4, 12)  # of a message with a header, behind the four bytes that name the encoding


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ros):
    """Of a run with everything in it that a recording has to tell: data, a fit, targets, a change, and the end."""
    path = tmp_path_factory.mktemp("runs") / "recording"
    made = Rig(*ALL, plant__hold_after=0, logger__folder=str(path), logger__every=20)
    assert made.spin(lambda: not made[LoggerNode]._snapshots.waiting)
    assert made.spin(lambda: made[LearnerNode]._models.get_subscription_count() == 2)

    def go(periods):
        before = made[PlantNode].pace.periods
        made.set("plant", "plant.hold_after", periods)
        assert made.spin(lambda: made[PlantNode].pace.periods == before + periods)
        made.spin_for(0.3)  # what came of the last state

    assert made.call("controller/excite")[0]
    go(100)
    assert made.call("controller/hold")[0] and made.call("learner/fit")[0]
    assert made.spin(lambda: made[ControllerNode].controller.has_model and made[ControllerNode]._has_model, 4 * PATIENT)
    assert made.call("controller/reach")[0]
    go(40)
    assert made.set("controller", "task.target", [0.5, 0.0, 0.3])[0]
    go(40)
    joints = JointState(name=["elbow", "shoulder"], position=[1.0, 0.5])
    made.say(topics.TARGET_JOINTS, joints)
    go(40)
    pose = PoseStamped()
    pose.pose.position.x, pose.pose.position.z = 0.3, 0.5
    made.say(topics.TARGET, pose)
    go(40)
    made.say(topics.TWIST, TwistStamped(twist=Twist(linear=Vector3(x=0.05))))
    go(40)
    assert made.set("controller", "controller.exploration", 0.1)[0]
    assert made.set("learner", "learner.adapt", False)[0]
    go(40)
    assert made.call("controller/stop")[0]
    made.spin_for(0.3)
    made[LoggerNode].close()
    made.close()
    return path


def test_a_replay_is_identical_bit_for_bit(folder, capsys):
    assert command.main([str(folder)]) == 0
    output = capsys.readouterr().out
    assert output.endswith("identical\n") and "not identical" not in output
    for part in ("estimator", "learner", "controller"):
        compared, same = re.search(rf"{part} +(\d+) +(\d+)", output).groups()
        assert compared == same and int(compared) >= (10 if part == "learner" else 200)


def test_one_bit_of_one_effort_is_found(folder, tmp_path, capsys):
    """Of the least significant ones, in a copy that is the same else."""
    asked = [bytes(r.data[STAMP]) for r in records(folder) if r.topic == f"/{topics.ASKED}"]
    definitions = {}
    with recording.Recorder(tmp_path / "copy", definitions.__getitem__) as recorder:
        for r in records(folder):
            definitions.setdefault(r.type_name, r.definition)
            data = r.data
            if r.topic == f"/{topics.ASKED}" and bytes(data[STAMP]) == asked[150]:  # twice if a state was said again
                data = bytearray(data)
                data[-16] ^= 1  # of the first of two efforts, which are the end of the message
            recorder.write(r.topic, r.type_name, bytes(data), r.log_time, r.publish_time)
    (tmp_path / "copy" / "models").symlink_to(folder / "models")
    assert command.main([str(tmp_path / "copy")]) == 1
    output = capsys.readouterr().out
    compared, same = re.search(r"controller +(\d+) +(\d+)", output).groups()
    assert int(compared) == int(same) + 1 and "not identical" in output and "first difference" in output


def test_the_page_says_what_happened_and_needs_nobody(folder, tmp_path, capsys):
    assert report.main([str(folder), "--output", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert len(text) < LARGEST and "<script" not in text and "http" not in text and "url(" not in text
    for sentence in (r"Not one of \d+ states is missing", r"At 2\.\d s a new model was taken up: gaussian",
                     r"controller\.exploration of /controller was set to 0\.1", r"\d of \d targets were reached"):
        assert re.search(sentence, text), sentence
    for chart in ("Distance of the tool", "Time of planning", "Effort of elbow", "Belief against what came"):
        assert f"<strong>{chart}" in text, chart
    assert "prefers-color-scheme:dark" in text and "@media print" in text
    assert "learner.forgetting_time" in text and "excite" in text


def test_another_namespace_and_no_recording_are_one_line(folder, tmp_path, capsys):
    for main in (report.main, command.main):
        for arguments in ([str(tmp_path / "nothing")], [str(folder), "--namespace", "/other"]):
            assert main(arguments) == 2
            assert capsys.readouterr().err.count("\n") == 1


def test_the_recording_is_small(folder, tmp_path):
    """Matrices that can be worked out anew are not most of it."""
    run = read_run(folder)
    matrices = sum(size for kind, _, size in run.topics.values() if kind.endswith(("/LocalDynamics", "/Plan")))
    assert matrices < 0.5 * sum(size for _, _, size in run.topics.values())
    kept = "controller/plan", "learner/stages", "parameters", "parameter_events", "controller/mode", "guard/state"
    assert {f"/{name}" for name in kept} <= set(run.topics)
    explain(folder, tmp_path / "again.html")
