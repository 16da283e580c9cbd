"""The soak, short: it counts, and it says."""
import json
import subprocess
import sys

import pytest
from rig import PATIENT, ROOT


@pytest.mark.slow
def test_nothing_is_lost_in_some_seconds(tmp_path):
    done = subprocess.run([sys.executable, "test/faults/soak.py", "--robot", "planar2", "--prior", "gaussian",
                           "--data-seconds", "3", "--minutes", "0.2", "--output", tmp_path], cwd=ROOT, text=True,
                          capture_output=True, timeout=4 * PATIENT)
    said = done.stdout + done.stderr
    assert list(tmp_path.rglob("soak.json")), said
    figures = json.loads(next(tmp_path.rglob("soak.json")).read_text())
    assert figures["ticks"] == 4 * 150 and figures["missed_messages"] == 0, said
    assert set(figures["memory_mib"]) == {"guard", "plant", "estimator", "learner", "controller", "logger"}
    assert all(0 < after < 2000 for _, after in figures["memory_mib"].values())
    assert figures["error_mm_last_tenth"] < 20.0
    assert not list(tmp_path.rglob("recording"))
