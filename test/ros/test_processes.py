"""Nodes as processes: they come up, end cleanly and in time, and say a user's mistake in one line."""
import signal
import subprocess
import time

import pytest
import rclpy
from rig import PATIENT, end, launch, node_arguments

NODES = ("plant", "estimator", "learner", "controller", "logger")
PROMPT = 2.0  # [s] to end


def wait_for(names):
    """Until all these nodes are in the graph and their services, hence their spinning, answer."""
    probe = rclpy.create_node("watcher")
    try:
        deadline = time.monotonic() + PATIENT
        for name in names:
            client = probe.create_client(rclpy.parameter_service.GetParameters, f"{name}/get_parameters")
            while not client.wait_for_service(timeout_sec=0.5):
                assert time.monotonic() < deadline, f"{name} did not come up"
            future = client.call_async(rclpy.parameter_service.GetParameters.Request(names=["robot"]))
            rclpy.spin_until_future_complete(probe, future, timeout_sec=PATIENT)
            assert future.done()
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
            code, output, took = end(process, number)
            assert (code, "Traceback" in output) == (0, False), f"{name}: {output}"
            assert took < PROMPT, f"{name} took {took:.1f} s"
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def test_bringup_starts_and_stops_them_all(ros, tmp_path):
    process = launch("mbrl_ros.nodes.bringup", "robot:=planar2", "prior:=gaussian", f"log:={tmp_path / 'recording'}")
    try:
        wait_for(NODES)
        code, output, took = end(process)
        assert (code, "Traceback" in output) == (0, False), output
        assert "killed" not in output
        assert took < 2 * PROMPT
        assert (tmp_path / "recording" / "metadata.yaml").is_file()
    finally:
        process.kill()


def test_mistakes_of_the_user_are_one_line_and_exit_code_2(tmp_path):
    broken, wrong = tmp_path / "broken.yaml", tmp_path / "wrong.yaml"
    broken.write_text("/**:\n  ros__parameters:\n    robot: {period: [0.02\n")
    wrong.write_text("/**:\n  ros__parameters:\n    robot: {home: [1, 2.0]}\n")
    cases = {
        "unknown robot": ("plant_node", ["--ros-args", "-p", "robot:=nobody"], "unknown robot 'nobody'; choose one of"),
        "missing file": ("estimator_node", ["--ros-args", "--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
        "malformed file": ("learner_node", ["--ros-args", "--params-file", str(broken)], "broken.yaml"),
        "mixed list": ("plant_node", ["--ros-args", "--params-file", str(wrong)], "wrong.yaml"),
        "out of range": ("controller_node", ["--ros-args", "-p", "ilqr.horizon:=100000"], "ilqr.horizon: expected"),
        "bringup": ("bringup", ["robo:=arm"], "expected NAME:=VALUE; the names are robot"),
        "demo": ("demo", ["--targets", "none"], "invalid int value: 'none'"),
        "demo robot": ("demo", ["--robot", "nobody", "--output", str(tmp_path)], "unknown robot 'nobody'"),
    }
    processes = {name: launch(f"mbrl_ros.nodes.{module}", *arguments) for name, (module, arguments, _) in cases.items()}
    for name, process in processes.items():
        try:
            output, _ = process.communicate(timeout=2 * PATIENT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        assert process.returncode == 2, f"{name}: {process.returncode} {output}"
        assert cases[name][2] in output, f"{name}: {output}"
        assert len(output.strip().splitlines()) == 1, f"{name}: {output}"
