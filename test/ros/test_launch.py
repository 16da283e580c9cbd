"""The ring as a person starts it, by bringup and, where there is one, by a real launch_ros: who ends with whom."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from drill import MISSING, WAYS, nodes
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rig import PATIENT, ROOT, Watcher

from mbrl_ros.recordings.recording import read_trials

PATIENT_RING = """/**: {ros__parameters: {plant: {timeout: 10.0}, controller: {watchdog: 1.0},
  guard: {state_age: 1.0, command_age: 1.0, silence: 30.0}}}"""  # a busy machine is not a broken one
LINES = 15  # to ready: two of launch_ros, one for each of seven nodes, and six of ours
HELD = 0.5  # [rad/s] an arm that is held stays slower, one that is let go does not


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
        for pid in nodes(process.pid).values():
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


@pytest.fixture
def watcher(ros):
    made = Watcher()
    yield made
    made.node.destroy_node()


def up(process, watcher):
    """Once the guard holds."""
    assert watcher.spin(lambda: watcher.state == "hold" or process.poll() is not None, 3 * PATIENT)
    assert process.poll() is None, process.communicate()[0]


def active(watcher):
    """The controller has taken itself there, and answers."""
    return watcher.call("controller/get_state", GetState).current_state.id == State.PRIMARY_STATE_ACTIVE


@pytest.mark.slow
def test_nodes_that_are_killed_come_back_while_the_guard_holds_and_ctrl_c_ends_all(watcher, start, tmp_path):
    process = start(f"log:={tmp_path / 'recording'}")
    up(process, watcher)
    assert active(watcher)
    watcher.call("controller/hold")
    watcher.armed()
    fastest, before = [0.0], nodes(process.pid)
    for name in ("logger", "controller", "estimator"):
        os.kill(before[name], signal.SIGKILL)
        if name != "logger":  # the last effort goes on until it is too old, from then on the guard's own
            assert watcher.spin(lambda: watcher.state == "fault" and watcher.speed < 0.05), watcher.state

        def again(name=name):
            fastest.append(watcher.speed if watcher.state == "fault" else 0.0)
            return nodes(process.pid).get(name, before[name]) != before[name] and (name != "logger" or len(
                list(tmp_path.glob("recording*"))) == 2)

        assert watcher.spin(again), name
    assert active(watcher) and watcher.state == "fault", watcher.reason  # until a person says otherwise
    assert max(fastest) < HELD
    watcher.call("controller/hold")
    watcher.armed()
    assert nodes(process.pid)["guard"] == before["guard"]
    os.kill(before["guard"], signal.SIGKILL)
    assert watcher.spin(lambda: watcher.state == "hold"), (watcher.state, watcher.reason)  # another, in its hold
    assert watcher.spin(lambda: nodes(process.pid).get("guard", before["guard"]) != before["guard"])
    watcher.armed()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate(timeout=PATIENT)
    assert process.returncode == 0, output
    to_ready, ready, _ = output.partition("ready; waited for loading")
    lines = [line for line in to_ready.splitlines() if "WARN" not in line]  # of a busy machine
    assert ready and len(lines) <= LINES, output
    after = output.rpartition("armed: asked for")[2].splitlines()
    wrong = ("ERROR", "Traceback", "killed", "cut short", "died")
    assert not [line for line in after if any(word in line for word in wrong)], output
    assert read_trials(tmp_path / "recording_2")


def gone(watcher, pids):
    return watcher.spin(lambda: not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()])


def test_all_end_with_a_guard_that_ends_by_itself(watcher, start):
    process = start()
    up(process, watcher)
    pids = nodes(process.pid)
    os.kill(pids["guard"], signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENT)
    assert "exit code 0" in output and "Traceback" not in output, output
    assert gone(watcher, pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("late", [False, True])
def test_nothing_outlives_the_launcher(watcher, start, late, number):
    """Neither a ring nor what still imports and compiles."""
    process = start()
    if late:
        up(process, watcher)
    assert watcher.spin(lambda: len(nodes(process.pid)) == 6)
    pids = nodes(process.pid)
    process.send_signal(number)
    assert gone(watcher, pids)
    if number == signal.SIGTERM:
        output, _ = process.communicate(timeout=PATIENT)
        assert "Traceback" not in output, output


def test_a_second_ring_in_the_namespace_is_refused(watcher, start):
    first = start("namespace:=/twice")
    assert watcher.spin(lambda: nodes(first.pid))
    for namespace in ("twice", "/twice"):
        output, _ = start(f"namespace:={namespace}").communicate(timeout=PATIENT)
        assert f"a ring runs in /twice already (process {first.pid})" in output


@pytest.mark.parametrize(("argument", "words"), [
    ("robt:=arm", "'robt:=arm': expected NAME:=VALUE; the names are robot, task"),
    ("robot:=nobody", "unknown robot 'nobody'; choose one of arm"),
    ("planner:=best", "unknown planner 'best'; choose one of"), ("prior:=mine", "unknown model 'mine'; choose one of"),
    ("task:=/nowhere.yaml", "task: no file /nowhere.yaml"), ("params_file:=/nowhere.yaml", "/nowhere.yaml: cannot"),
    ("pace:=fast", "pace: expected realtime or lockstep, got 'fast'"), ("namespace:=a b", "namespace: expected lett"),
    ("priority:=100", "priority: expected a whole number from 0 to 99, got '100'")])
def test_a_mistake_is_one_line_before_anything_starts(start, argument, words):
    process = start(argument)
    output, _ = process.communicate(timeout=PATIENT)
    lines = [line for line in output.splitlines() if not line.startswith("[INFO] [launch]")]
    assert process.returncode != 0 and len(lines) == 1 and words in lines[0], output


def test_a_mistake_that_keeps_a_node_from_starting_is_not_tried_again(start, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text("/**: {ros__parameters: {controller: {delay: 9.0}}}")
    process = start(f"params_file:={file}")
    output, _ = process.communicate(timeout=2 * PATIENT)
    assert "controller.delay: expected a value from -1.0 to 3.0" in output and "exit code 2" in output
    assert "Traceback" not in output, output
