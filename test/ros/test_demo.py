"""The demonstration, end to end over DDS: tick for tick what the plain loop does, and what it leaves behind."""
import json
import signal
import subprocess
import sys

import pytest
import yaml
from rig import AGE, PATIENT, ROOT, end, launch

from mbrl_ros import assembly
from mbrl_ros.config import Names, find, merge, read
from mbrl_ros.evaluation.measures import Config
from mbrl_ros.evaluation.procedure import Run

SMALL = ["--robot", "planar2", "--prior", "gaussian", "--data-seconds", "8", "--seed", "1"]
KEYS = {"success_5mm", "success_20mm", "median_error_mm", "worst_error_mm", "oracle_cost_ratio", "data_seconds",
        "ticks", "tick_ms_p50", "tick_ms_p99", "missed_deadlines", "seed", "robot", "prior", "versions", "planner",
        "pace", "before_payload", "after_payload", "diverged", "command_line", "stages"}


@pytest.mark.slow
def test_demo_does_what_the_plain_loop_does_and_leaves_a_report(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mbrl_ros.nodes.demo", *SMALL, "--targets", "2", "--output", tmp_path],
                          cwd=ROOT, text=True, capture_output=True, timeout=4 * PATIENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    folder, = tmp_path.iterdir()
    figures = json.loads((folder / "summary.json").read_text())
    assert set(figures) >= KEYS
    assert {"plant", "estimator", "learner", "controller", "guard"} == set(figures["stages"])
    assert figures["stages"]["learner"]["fit_us_p50"] > 0
    assert figures["ticks"] == 50 + 400 + 50 + 2 * 150
    left = {"tracking.png", "prediction.png", "response.png", "run.gif", "report.html", "recording", "summary.json"}
    assert left == {path.name for path in folder.iterdir()}
    assert "cost / true dynamics" in done.stdout and str(folder) in done.stdout

    settings = assembly.settings(Names("planar2", "reach", "ilqr", "gaussian"))
    expected = Run(settings, Config(targets=2, data_seconds=8.0, seed=1), 1).results()
    for got, want in zip(figures["targets"], expected, strict=True):
        assert (got["median_mm"], got["worst_mm"], got["cost"]) == (want.median_mm, want.worst_mm, want.cost)


@pytest.mark.slow
def test_demo_with_processes_in_real_time_reports_and_ends(tmp_path):
    """With all the time in the world, which the robot's file gives: nothing is asked of how well it reaches. Where the
    machine is so busy that efforts act for far too long, the guard stops the arm all the same, and that is said."""
    patient = merge(read(find("robots", "planar2")), {
        "robot": {"model": str(find("robots", "planar2").parent / "planar2.xml")}, "controller": {"watchdog": 10.0},
        "plant": {"timeout": 10.0}, "guard": {"state_age": AGE, "command_age": AGE, "silence": AGE,
                                              "overspeed": 20.0}})
    file = tmp_path / "patient.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": patient}}))
    done = subprocess.run([sys.executable, "-m", "mbrl_ros.nodes.demo", *SMALL, "--robot", file, "--targets", "1",
                           "--data-seconds", "3", "--processes", "--no-plots", "--output", tmp_path / "runs"], cwd=ROOT,
                          text=True, capture_output=True, timeout=4 * PATIENT)
    said = done.stdout + done.stderr
    assert "Traceback" not in done.stderr, said
    folder, = (tmp_path / "runs").iterdir()
    assert (folder / "recording" / "metadata.yaml").is_file()
    if not (folder / "summary.json").exists():
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode and last.startswith("demo: ") and "fault: " in last, said
        return
    figures = json.loads((folder / "summary.json").read_text())
    assert set(figures) >= KEYS and figures["processes"] and figures["pace"] == "realtime"
    assert done.returncode == int(figures["diverged"])


def test_nothing_is_learned_on_the_way_in_lockstep(tmp_path):
    words = ["--robot", "planar2", "--prior", "gaussian", "--data-seconds", "0", "--output", tmp_path]
    done = subprocess.run([sys.executable, "-m", "mbrl_ros.nodes.demo", *words], cwd=ROOT, text=True,
                          capture_output=True, timeout=PATIENT)
    assert done.returncode == 2 and "--data-seconds: expected more than 0 in lock-step" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_ends_when_asked(tmp_path, number):
    process = launch("mbrl_ros.nodes.demo", *SMALL, "--output", str(tmp_path), PYTHONUNBUFFERED="1")
    try:
        line = ""
        while "excite" not in line:
            line = process.stdout.readline()
            assert line, f"ended with {process.wait()}"
        code, output = end(process, number)
        assert code == 130 and "interrupted" in output and "Traceback" not in output, output
    finally:
        process.kill()
        process.communicate()
