"""Plots and animations: the numbers in them are right, and they show what they say."""
from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from images import ROBOTS, colors_in, config_of
from PIL import Image

from mbrl_ros.drawing import report
from mbrl_ros.drawing import scene as drawing
from mbrl_ros.drawing.report import RunData, animate, plots
from mbrl_ros.robot import Robot

PERIOD = 0.02


@pytest.fixture(params=ROBOTS, scope="module")
def config(request):
    return config_of(request.param)


def run(T=600, payload=106.0, seed=0):
    """A run in which 19 of 20 predictions lie in their 95 % band, exactly."""
    rng = np.random.default_rng(seed)
    time = 100.0 + PERIOD * np.arange(T)
    target = rng.uniform(-0.5, 0.5, (T // 200 + 1, 3))[np.arange(T) // 200]
    tool = target + 0.3 * np.exp(-np.arange(T) % 200 / 40.0)[:, None] * [0.6, 0.0, 0.8]
    std = rng.uniform(1e-4, 1e-3, (T, 3))
    off = np.where(np.arange(3 * T).reshape(T, 3) % 20 == 0, 2.5, 1.0)
    predicted = tool + std * off * rng.choice([-1, 1], (T, 3))
    predicted[0] = np.nan
    error = np.linalg.norm(tool - target, axis=1)
    return RunData(time, tool, 0.5 * (tool + target), target, error, predicted, std, tool, rng.gamma(4.0, 1.0, T),
                   payload, np.zeros((T, 7)))


def test_plots_are_drawn(tmp_path):
    paths = plots(run(), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["tracking.png", "prediction.png", "response.png"]
    for path in paths:
        (width, height), colors = colors_in(path)
        assert width > 800 and height > 300 and colors > 100 and path.stat().st_size > 10_000


@pytest.mark.parametrize("data", [run(2, None), run(3), run(250, None)], ids=["two ticks", "three", "no payload"])
def test_short_runs_can_be_drawn(tmp_path, data):
    assert all(path.stat().st_size > 5_000 for path in plots(data, tmp_path))


def test_gaps_can_be_drawn(tmp_path):
    data = run(300)
    for f in ("predicted_mean", "predicted_std", "measured", "response_ms"):
        getattr(data, f)[:] = np.nan
    assert len(plots(data, tmp_path)) == 3


def test_coverage_is_counted():
    data = run()
    title = report.plot_prediction(data).axes[0].get_title()
    expected = 100 * (1 - np.mean(np.arange(3, 3 * 600) % 20 == 0))  # without the first row
    assert f"{expected:.1f} % of all measurements" in title


def test_the_window_is_where_the_tool_moves_most():
    axes = report.plot_prediction(run(payload=None)).axes[0]
    low, high = axes.get_xlim()
    assert high - low == pytest.approx(report.WINDOW - PERIOD, abs=1e-9)
    assert any(low <= 100.0 + PERIOD * jump <= high for jump in (200, 400))  # where the target changes


def test_error_lines_and_payload_are_marked():
    axes = report.plot_tracking(run()).axes[0]
    assert axes.get_yscale() == "log"
    lines = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert {report.GOAL, report.BOUND} <= set(lines)
    assert any(list(line.get_xdata()) == [106.0, 106.0] for line in axes.lines)
    drawn = next(line for line in axes.lines if line.get_label() == "to the target")
    assert np.allclose(drawn.get_ydata(), 1e3 * run().error)
    assert len([patch for patch in axes.patches if patch.get_width() > 0]) >= 3  # one band per target


def test_response_times_are_marked():
    data = run()
    trace = report.plot_response(data).axes[0]
    marks = [line.get_ydata()[0] for line in trace.lines[1:]]
    assert marks == pytest.approx([*np.percentile(data.response_ms, [50, 99]), 1e3 * PERIOD])


def test_rows_have_one_length():
    parts = {f: getattr(run(), f) for f in RunData.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"RunData\.target: expected 600 rows, got 599"):
        RunData(**{**parts, "target": parts["target"][1:]})


def swing(config, T=120):
    """A sine about the home posture, and a target."""
    home = np.array(config.home)
    q = home + 0.4 * np.sin(2 * np.pi * np.arange(T) / 100)[:, None]
    return q, Robot(config).tool_position(home + 0.4)


def test_animations_are_drawn_of_every_robot(config, tmp_path):
    q, target = swing(config)
    path = animate(config, q, target, tmp_path / "run.gif", events=[(0.0, "start"), (1.0, "end")])
    with Image.open(path) as gif:
        assert gif.size == report.SIZE
        assert gif.n_frames == int(np.ceil(len(q) * config.period / (2.0 * report.FRAME)))
        assert gif.info["duration"] == 80 and gif.info["loop"] == 0
        frames = []
        for k in range(gif.n_frames):
            gif.seek(k)
            frames.append(np.asarray(gif.convert("RGB"), float))
    assert all(np.abs(a - b).mean() > 0.05 for a, b in pairwise(frames))  # it moves


def test_every_frame_is_the_picture_of_its_instant(tmp_path):
    """Only changes are stored; none may be lost, and the palette may not be far off."""
    config = config_of("arm")
    q, target = swing(config)
    targets = np.broadcast_to(target, (len(q), 3))
    path = animate(config, q, target, tmp_path / "run.gif", speed=4.0)
    scene = drawing.Scene(config, q, targets, report.SIZE)
    drawn = list(report._frames(scene, q, targets, 4.0, ()))
    with Image.open(path) as gif:
        for k, image in enumerate(drawn):
            gif.seek(k)
            difference = np.abs(np.asarray(gif.convert("RGB"), float) - np.asarray(image, float))
            assert difference.mean() < 2.5 and np.mean(difference.max(-1) > 48) < 0.002


def test_too_large_an_animation_is_made_smaller(tmp_path, monkeypatch):
    config = config_of("arm")
    q, target = swing(config)
    whole = animate(config, q, target, tmp_path / "whole.gif").stat().st_size
    assert whole < 20_000 * 15  # 20 kB a frame when everything moves, a few when the arm rests
    monkeypatch.setattr(report, "LARGEST", int(0.9 * whole))
    assert animate(config, q, target, tmp_path / "small.gif").stat().st_size <= 0.9 * whole


def test_twice_the_speed_is_half_the_frames(tmp_path):
    config = config_of("pendulum")
    q, target = swing(config, 80)
    lengths = []
    for speed in (1.0, 2.0, 4.0):
        with Image.open(animate(config, q, target, tmp_path / f"{speed}.gif", speed)) as gif:
            lengths.append(gif.n_frames)
    assert lengths == [20, 10, 5]


def test_a_single_posture_can_be_animated(tmp_path):
    config = config_of("pendulum")
    with Image.open(animate(config, [[0.3]], [0.0, 0.0, 0.5], tmp_path / "one.gif")) as gif:
        assert gif.n_frames == 1


@pytest.mark.parametrize("q", [np.zeros((0, 1)), np.full((3, 1), np.nan)])
def test_what_cannot_be_drawn_is_refused(q, tmp_path):
    with pytest.raises(ValueError, match="animate: expected at least one posture, all finite"):
        animate(config_of("pendulum"), q, np.zeros(3), tmp_path / "no.gif")
