"""Ten thousand periods of faults: no effort beyond a limit, and a hold within two periods."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from arms import make
from inject import Injector, run
from truths import violated

from mbrl_ros.ring.guard import Config, Limits

ROOT = Path(__file__).parents[2]
TICKS = 4_000  # `make faults` has more
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]  # overflow is what they are about


def test_no_fault_gets_past_the_guard():
    figures = run("planar2", TICKS, seed=1)
    assert figures["ticks"] >= TICKS
    assert figures["violations_by_limit"] == {} and figures["not_held"] == {}
    assert figures["fault_to_hold_periods_max"] <= 2
    assert figures["moving_after_a_second"] == {} and figures["to_rest_periods_max"] > 1
    assert set(figures["by_fault"]) == set(Injector.FAULTS)
    assert all(of["times"] for of in figures["by_fault"].values())


def test_the_command_leaves_a_file_and_a_line(tmp_path):
    path = os.pathsep.join([str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, ROOT / "test/faults/inject.py", "--ticks", "200", "--output", tmp_path],
                          text=True, capture_output=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    figures = json.loads(next(tmp_path.rglob("faults.json")).read_text())
    assert set(figures) >= {"ticks", "violations", "fault_to_hold_periods_max", "fault_to_hold_ms_max", "by_fault"}


@pytest.mark.parametrize(("effort", "q", "qd", "found"), [
    ([np.nan, 0.0], [0.0, 0.0], [0.0, 0.0], ["finite"]), ([41.0, 0.0], [0.0, 0.0], [0.0, 0.0], ["effort"]),
    ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], ["rate"]), ([39.0, 0.0], [0.0, 0.0], [7.0, 0.0], ["speed"]),
    ([39.0, 0.0], [3.06, 0.0], [0.1, 0.0], ["end"]), ([39.0, 0.0], [2.6, 0.0], [4.0, 0.0], ["end"]),
    ([39.0, 0.0], [0.0, 0.0], [4.0, 0.0], [])])
def test_the_truths_see_what_is_wrong(effort, q, qd, found):
    limits = Limits.of(make(), Config(speed=1.5))
    assert violated(limits, 0.02, np.array(effort), np.array([39.0, 0.0]), 0.02, (np.array(q), np.array(qd))) == found
