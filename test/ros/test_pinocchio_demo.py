"""The whole ring over topics around a plant that is not MuJoCo: every target is reached."""
import json
import subprocess
import sys

import pytest
from rig import PATIENT, ROOT

pytest.importorskip("pinocchio", reason="pin is a wheel of requirements-dev.txt")

SMALL = ["--robot", "planar2", "--prior", "gaussian", "--data-seconds", "5", "--targets", "2", "--no-plots"]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "limit"), [("20 ms and 4 ms of jitter", 20), ("without gravity compensation", 5)])
def test_every_target_is_reached_over_topics(case, limit, tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "test" / "ros" / "pinocchio_demo.py"), case, *SMALL, "--output",
                           tmp_path], cwd=ROOT, text=True, capture_output=True, timeout=4 * PATIENT)
    assert done.returncode == 0, done.stdout + done.stderr
    folder, = tmp_path.iterdir()
    worst = [target["worst_mm"] for target in json.loads((folder / "summary.json").read_text())["targets"]]
    assert len(worst) == 2 and max(worst) < limit
