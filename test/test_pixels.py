"""The command that reaches by pictures: what it refuses, and what it leaves."""
from __future__ import annotations

import json

import numpy as np
from PIL import Image

from mbrl_ros.trainers import pixels


def test_an_unknown_method_is_refused(tmp_path, capsys):
    assert pixels.main(["--only", "state,dreams", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == ("pixels: --only: unknown 'dreams'; choose from state, single_step, "
                                       "solar, mpc\n")


def test_a_row_has_the_error_on_the_state_beside_its_own():
    jobs = [pixels.Job("planar2", method, seed) for method in ("state", "solar") for seed in (0, 1)]
    runs = [pixels.Learned([10], [50.0], final) for final in (1.0, 3.0, 20.0, 60.0)]
    rows = pixels.with_state([pixels.summary(jobs[i : i + 2], runs[i : i + 2]) for i in (0, 2)])
    assert [row["final_error_mm_mean"] for row in rows] == [2.0, 40.0] and rows[1]["within"] == 1
    assert [row["state_error_mm_mean"] for row in rows] == [2.0, 2.0]
    assert pixels.with_state([rows[1]])[0]["state_error_mm_mean"] is None


def test_the_command_leaves_rows_a_plot_and_what_was_seen(tmp_path, monkeypatch):
    for name, value in (("RANDOM", 4), ("TRIALS", 2), ("UPDATES", 2), ("TESTS", 1)):
        monkeypatch.setattr(pixels, name, value)
    monkeypatch.setattr(pixels, "GIVEN", {**pixels.GIVEN, "latent": {"passes": 1}})
    assert pixels.main(["--only", "single_step", "--seeds", "100", "--jobs", "0", "--output", str(tmp_path)]) == 0
    folder, = tmp_path.iterdir()
    row, = json.loads((folder / "pixels.json").read_text())
    assert row["rollouts"] == 8 and row["counts"] == [[6, 8]] and np.isfinite(row["final_error_mm_mean"])
    assert {"method", "robot", "seeds", "state_error_mm_mean"} <= set(row)
    with Image.open(folder / "seen.png") as seen:
        assert seen.size == (6 * 32 * 4, 3 * 32 * 4)  # six pictures, as seen, reconstructed and predicted, enlarged
    assert (folder / "pixels.png").stat().st_size > 0
