"""The ring as a person starts it, by bringup and, where there is one, by a real launch_ros: who ends with whom."""
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rig import PATIENT, ROOT, Watcher

from mbrl_ros.recordings.recording import read_trials

RUNNER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=[a.split(":=") for a in sys.argv[2:]])]))
sys.exit(service.run())
"""
WAYS = {"bringup": ["-m", "mbrl_ros.nodes", "bringup"],
        "launch_ros": ["-c", RUNNER, str(ROOT / "launch" / "bringup.launch.py")]}
PATIENT_RING = """/**: {ros__parameters: {plant: {timeout: 10.0}, guard: {state_age: 1.0, command_age: 1.0},
  controller: {watchdog: 1.0}}}"""  # a busy machine is not a broken one
HELD = 0.5  # [rad/s] an arm that is held stays slower, one that is let go does not
MISSING = pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="launch_ros cannot be imported: it "
                             "comes with a ROS 2 distribution, not with its wheels")


@pytest.fixture(params=["bringup", pytest.param("launch_ros", marks=MISSING)])
def start(request, ros, tmp_path):
    """Starts the small robot with more arguments, in a process group as a terminal makes one."""
    started = []
    file = tmp_path / "patient.yaml"
    file.write_text(PATIENT_RING)

    def make(*arguments):
        started.append(subprocess.Popen([sys.executable, *WAYS[request.param], "robot:=planar2", "prior:=gaussian",
                                         f"params_file:={file}", *arguments], cwd=ROOT, text=True, process_group=0,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        return started[-1]

    yield make
    for process in started:
        for pid in nodes(process).values():
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


@pytest.fixture
def watcher(ros):
    made = Watcher()
    yield made
    made.node.destroy_node()


def nodes(process):
    """Process ids of its nodes by name."""
    found = {}
    try:
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            name = next((Path(word).name for word in words if word.endswith("_node")), None)
            found.update({} if name is None else {name.removesuffix("_node"): int(pid)})
    except (FileNotFoundError, ProcessLookupError):  # it, or one of them, ends just now
        pass
    return found


def up(process, watcher):
    """Once the guard holds."""
    assert watcher.spin(lambda: watcher.state == "hold" or process.poll() is not None, 3 * PATIENT)
    assert process.poll() is None, process.communicate()[0]


def active(watcher):
    """The controller has taken itself there, and answers."""
    return watcher.call("controller/get_state", GetState).current_state.id == State.PRIMARY_STATE_ACTIVE


def test_nodes_that_are_killed_come_back_while_the_guard_holds_and_ctrl_c_ends_all(watcher, start, tmp_path):
    process = start(f"log:={tmp_path / 'recording'}")
    up(process, watcher)
    assert active(watcher)
    watcher.call("controller/hold")
    watcher.armed()
    fastest, before = [0.0], nodes(process)
    for name in ("logger", "controller", "estimator"):
        os.kill(before[name], signal.SIGKILL)
        if name != "logger":  # the last effort goes on until it is too old, from then on the guard's own
            assert watcher.spin(lambda: watcher.state == "fault" and watcher.speed < 0.05), watcher.state

        def again(name=name):
            fastest.append(watcher.speed if watcher.state == "fault" else 0.0)
            return nodes(process).get(name, before[name]) != before[name] and (name != "logger" or len(
                list(tmp_path.glob("recording*"))) == 2)

        assert watcher.spin(again), name
    assert active(watcher) and watcher.state == "fault", watcher.reason  # until a person says otherwise
    assert max(fastest) < HELD
    watcher.call("controller/hold")
    watcher.armed()
    assert nodes(process)["guard"] == before["guard"]
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate(timeout=PATIENT)
    assert process.returncode == 0, output
    after = output.rpartition("hold: reset")[2].splitlines()
    wrong = ("ERROR", "Traceback", "killed", "cut short", "died")
    assert not [line for line in after if any(word in line for word in wrong)], output
    assert read_trials(tmp_path / "recording_2")


def test_all_end_with_the_guard(watcher, start):
    process = start()
    up(process, watcher)
    pids = nodes(process)
    os.kill(pids["guard"], signal.SIGKILL)
    output, _ = process.communicate(timeout=PATIENT)
    assert "exit code -9" in output and "Traceback" not in output, output
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]


def test_a_mistake_that_keeps_a_node_from_starting_is_not_tried_again(start, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text("/**: {ros__parameters: {controller: {delay: 9.0}}}")
    process = start(f"params_file:={file}")
    output, _ = process.communicate(timeout=2 * PATIENT)
    assert "controller.delay: expected a value from -1.0 to 3.0" in output and "exit code 2" in output
    assert "Traceback" not in output, output
