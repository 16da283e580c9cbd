"""Nodes as processes: they come up, end cleanly and in time, and say a user's mistake in one line."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import rclpy
from rcl_interfaces.srv import GetParameters
from rig import PATIENT, ROOT, UNHEARD, end, launch, node_arguments

from mbrl_ros.nodes import bringup
from mbrl_ros.nodes.__main__ import PARENT
from mbrl_ros.nodes.plant_node import PlantNode
from mbrl_ros.nodes.spin import PATIENCE, RECORDING, TRANSPORTS

NODES = ("guard", "plant", "estimator", "learner", "controller", "logger")


def wait_for(names):
    """Until all these nodes are in the graph and their services, hence their spinning, answer."""
    probe = rclpy.create_node("watcher")
    try:
        deadline = time.monotonic() + 3 * PATIENT
        for name in names:
            client = probe.create_client(GetParameters, f"{name}/get_parameters")
            while not client.wait_for_service(timeout_sec=0.5):
                assert time.monotonic() < deadline, f"{name} did not come up"
            answered = False
            while not answered:
                assert time.monotonic() < deadline, f"{name} does not answer"
                future = client.call_async(GetParameters.Request(names=["robot"]))
                rclpy.spin_until_future_complete(probe, future, timeout_sec=UNHEARD)
                answered = future.done()
    finally:
        probe.destroy_node()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_node_ends_cleanly_and_in_time(ros, tmp_path, number):
    arguments = node_arguments(plant__pace="realtime", logger__folder=tmp_path / "recording")
    processes = {name: launch(f"mbrl_ros.nodes.{name}_node", *arguments) for name in NODES}
    try:
        wait_for(NODES)
        for name, process in processes.items():
            assert process.poll() is None, f"{name}: {process.communicate()[0]}"
            code, output = end(process, number)  # within the node's own patience, else the code is another
            assert (code, "Traceback" in output) == (0, False), f"{name}: {output}"
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def test_bringup_starts_and_stops_them_all(ros, tmp_path):
    process = launch("mbrl_ros.nodes.bringup", "robot:=planar2", "prior:=gaussian", f"log:={tmp_path / 'recording'}")
    try:
        wait_for(NODES)
        code, output = end(process)
        assert (code, "Traceback" in output) == (0, False), output
        assert "killed" not in output
        assert (tmp_path / "recording" / "metadata.yaml").is_file()
    finally:
        process.kill()


SLOW = """
import sys, time
from functools import partial
from mbrl_ros.nodes import logger_node, spin
from mbrl_ros.recordings.recording import Recorder
patience, disk = float(sys.argv.pop(1)), float(sys.argv.pop(1))
finish = Recorder.close
Recorder.close = lambda self: (time.sleep(disk), finish(self))
if patience:
    logger_node.RECORDING = patience
sys.exit(logger_node.main())
"""


@pytest.mark.parametrize(("patience", "disk", "expected"), [(0.0, 3.0, 0), (0.5, 60.0, 1)])
def test_a_recording_is_finished_on_a_slow_disk_or_it_is_said(ros, tmp_path, patience, disk, expected):
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(patience), str(disk),
                                *node_arguments(logger__folder=tmp_path / "recording")], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(["logger"])
        code, output = end(process)
        assert code == expected and ("cut short" in output) == bool(expected), output
        finished = (tmp_path / "recording" / "metadata.yaml").read_text().startswith("rosbag2")  # not the interim JSON
        assert finished == (not expected)
    finally:
        process.kill()
        process.communicate()


def test_launchers_wait_for_a_node_longer_than_it_waits_itself():
    assert all(bringup.grace(name) > PATIENCE for name in NODES) and bringup.grace("logger") > RECORDING
    assert sum(bringup.grace(name) for name in ("logger", *bringup.LAST)) < bringup.ENDING


IMPORTED = """
import importlib, os, pkgutil, signal, sys
state = lambda: (dict(os.environ), [signal.getsignal(number) for number in signal.valid_signals()])
sys.argv[0] = "-m"
before = state()
import mbrl_ros.nodes
for module in pkgutil.iter_modules(mbrl_ros.nodes.__path__, "mbrl_ros.nodes."):
    importlib.import_module(module.name)
sys.exit(state() != before)
"""


@pytest.mark.parametrize("chosen", ["", "DEFAULT"])
def test_nodes_share_no_memory_that_one_could_lock_and_leave_unless_that_is_chosen(chosen):
    code = ("import rclpy; from mbrl_ros.nodes import spin; spin.init([]); node = rclpy.create_node('alone'); "
            "print('/dev/shm/fast' in open('/proc/self/maps').read())")
    environment = {key: value for key, value in os.environ.items() if key != TRANSPORTS}
    environment |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"} | ({TRANSPORTS: chosen} if chosen else {})
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(bool(chosen))


def test_importing_the_nodes_changes_neither_environment_nor_signal_handlers():
    alone = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    assert subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, env=alone, timeout=2 * PATIENT).returncode == 0


BROKEN = """
from mbrl_ros.nodes import guard_node, spin
class Broken(guard_node.GuardNode):
    def __init__(self):
        super().__init__()
        self.create_timer(0.01, self.tick)
    def tick(self):
        raise RuntimeError("deliberate")
    def close(self):
        print("last word", flush=True)
spin.run(Broken)
"""


@pytest.mark.parametrize("executor", ["single", "events"])
def test_a_node_that_fails_has_its_last_word_and_ends_in_order(executor):
    """Its error would keep the executor alive until the context is gone."""
    arguments = node_arguments(process__executor=executor)
    done = subprocess.run([sys.executable, "-c", BROKEN, *arguments], cwd=ROOT, text=True,
                          capture_output=True, timeout=PATIENT)
    assert done.returncode == 1 and done.stdout == "last word\n"
    assert "RuntimeError: deliberate" in done.stderr and "InvalidHandle" not in done.stderr, done.stderr


@pytest.mark.parametrize(("pace", "written", "expected"), [("realtime", None, 2), ("lockstep", None, 1),
                                                            ("realtime", 3, 3)])
def test_a_parameter_file_wins_over_what_suits_the_pace(ros, tmp_path, pace, written, expected):
    words = [f"pace:={pace}", "robot:=planar2"]
    if written is not None:
        file = tmp_path / "mine.yaml"
        file.write_text(f"/**: {{ros__parameters: {{robot: {{effort_history: {written}}}}}}}")
        words.append(f"params_file:={file}")
    values = bringup.parse(words)
    node = rclpy.create_node("estimator", cli_args=bringup.node_arguments(values), use_global_arguments=False,
                             automatically_declare_parameters_from_overrides=True)
    try:
        found = node.get_parameter_or("robot.effort_history").value
        assert (1 if found is None else found) == expected  # the default of the robot is 1
    finally:
        node.destroy_node()


def test_what_is_given_wins_over_a_parameter_file_and_that_over_what_is_not_given(ros, tmp_path):
    """So that a dump of a ring, whose robot is in it, is a ring of that robot again."""
    file = tmp_path / "dump.yaml"
    file.write_text("/**: {ros__parameters: {files: {robot: planar2, prior: gp}, plant: {pace: lockstep}}}")
    given = {}
    for words in ([], ["robot:=arm4", "prior:=none"]):
        values = bringup.parse([f"params_file:={file}", *words])
        node = PlantNode(cli_args=bringup.node_arguments(values), use_global_arguments=False)
        given[len(words)] = (node.names.robot, node.names.prior, node.names.planner, node.plant.config.pace)
        node.destroy_node()
    assert given == {0: ("planar2", "gp", "ilqr", "lockstep"), 2: ("arm4", "none", "ilqr", "lockstep")}


HELPED = "import sys; from mbrl_ros.nodes.__main__ import start; sys.argv = sys.argv[1:]; sys.exit(start(sys.argv[0]))"


@pytest.mark.parametrize("name", ["guard_node", "controller_node", "bringup", "demo", "fit", "setup"])
def test_every_executable_has_a_help(name):
    done = subprocess.run([sys.executable, "-c", HELPED, name, "--help"], cwd=ROOT, text=True, capture_output=True,
                          timeout=2 * PATIENT)
    assert done.returncode == 0 and not done.stderr and len(done.stdout.splitlines()) > 4, done
    assert name.removesuffix("_node") in done.stdout


def test_a_node_does_not_outlive_the_process_that_started_it(ros):
    """bringup, killed, cannot end the nodes: they notice."""
    arguments = [*node_arguments(), "-r", "__ns:=/orphan"]
    command = f"{PARENT}=$$ {sys.executable} -m mbrl_ros.nodes plant_node {' '.join(arguments)}"
    shell = subprocess.Popen(["sh", "-c", f"{command} & wait"], cwd=ROOT)
    probe = rclpy.create_node("mourner")
    there = lambda: ("plant", "/orphan") in probe.get_node_names_and_namespaces()  # noqa: E731
    try:
        for condition in (there, lambda: not there()):
            deadline = time.monotonic() + 2 * PATIENT
            while not condition():
                assert time.monotonic() < deadline
                rclpy.spin_once(probe, timeout_sec=0.1)
            shell.kill()
    finally:
        shell.kill()
        shell.wait()
        probe.destroy_node()


DRIVER = """
import importlib, json, sys
for module, arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = []
    code = importlib.import_module(f"mbrl_ros.nodes.{module}").main(arguments)
    print(f"exit code {code}", file=sys.stderr, flush=True)
"""  # one process for all: most of the time goes into importing torch


def test_mistakes_of_the_user_are_one_line_and_exit_code_2(tmp_path):
    broken, wrong = tmp_path / "broken.yaml", tmp_path / "wrong.yaml"
    broken.write_text("/**:\n  ros__parameters:\n    robot: {period: [0.02\n")
    wrong.write_text("/**:\n  ros__parameters:\n    robot: {home: [1, 2.0]}\n")
    ros = ["node", "--ros-args"]
    cases = [
        ("plant_node", [*ros, "-p", "robot:=nobody"], "unknown robot 'nobody'; choose one of"),
        ("estimator_node", [*ros, "--params-file", "/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
        ("learner_node", [*ros, "--params-file", str(broken)], "broken.yaml: cannot be read as YAML"),
        ("plant_node", [*ros, "--params-file", str(wrong)], "Sequence should be of same type"),
        ("plant_node", [*ros, "-p", "robot.period"], "Couldn't parse parameter override rule"),
        ("controller_node", [*ros, "-p", "controller.delay:=9.0"], "delay: expected a value from -1.0 to 3.0"),
        ("controller_node", ["node", "--fast"], "unknown argument '--fast'; expected --ros-args"),
        ("logger_node", [*ros, "-p", "logger.folder:=/proc/nowhere"], "/proc/nowhere: cannot record there"),
        ("bringup", ["robo:=arm"], "expected NAME:=VALUE; the names are robot"),
        ("demo", ["--targets", "none"], "invalid int value: 'none'"),
        ("demo", ["--targets", "0", "--output", str(tmp_path)], "scenario.targets: expected a value from 1 to"),
        ("demo", ["--robot", "nobody", "--output", str(tmp_path)], "unknown robot 'nobody'"),
    ]
    done = subprocess.run([sys.executable, "-c", DRIVER, json.dumps([case[:2] for case in cases])], cwd=ROOT, text=True,
                          stderr=subprocess.PIPE, timeout=2 * PATIENT)
    lines = done.stderr.splitlines()
    assert len(lines) == 2 * len(cases), done.stderr
    for (module, _, words), said, code in zip(cases, lines[::2], lines[1::2], strict=True):
        assert words in said, f"{module}: {said}"
        assert code == "exit code 2"
    assert done.returncode == 0
