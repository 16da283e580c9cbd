"""What a run looked like: three plots, an animation, a picture; from plain arrays to files, without a display."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mbrl_ros.drawing.scene import Scene
from mbrl_ros.gaussian import Z95
from mbrl_ros.robot import Config
from mbrl_ros.types import Array

MEASURED, PREDICTED, SECOND, MARK = "#1f3a5f", "#e0701a", "#9aa5b4", "#b3261e"
GOAL, BOUND = 5.0, 20.0  # [mm] lines in the plot of errors
WINDOW = 3.0  # [s] of prediction that can be read
SIZE = (480, 400)  # [px] of an animation
FRAME = 0.08  # [s]; GIF counts in hundredths
TRAIL = 3.0  # [s] of the tool's way that stay visible
COLORS = (170, 80, 30)  # of a GIF; fewer where it would be larger than
LARGEST = 3_000_000  # [bytes]
CLEAR = 255  # the index of what stays as it was


@dataclass(frozen=True)
class RunData:
    """One run of T ticks. Rows may be NaN where there is nothing, as for the first prediction."""

    time: Array  # (T,) [s]
    tool: Array  # (T, 3) [m] where it truly was
    reference: Array  # (T, 3) [m] where the path to the target was
    target: Array  # (T, 3) [m]
    error: Array  # (T,) [m] from the tool to the target
    predicted_mean: Array  # (T, 3) [m] tool position at `time`, predicted one tick before
    predicted_std: Array  # (T, 3) [m]
    measured: Array  # (T, 3) [m] tool position at `time`, estimated from measurements
    response_ms: Array  # (T,) [ms] from a state to its command
    payload_time: float | None  # [s] when the hand was given a mass
    q: Array  # (T, m) [rad or m]

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "payload_time" and len(value) != len(self.time):
                raise ValueError(f"RunData.{f.name}: expected {len(self.time)} rows, got {len(value)}")

    @property
    def period(self) -> float:
        """[s]"""
        return float(np.median(np.diff(self.time))) if len(self.time) > 1 else 0.0


def plots(data: RunData, folder: Path | str) -> list[Path]:
    """Draw tracking.png, prediction.png and response.png into a folder, which is made where it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = {"tracking.png": plot_tracking, "prediction.png": plot_prediction, "response.png": plot_response}
    for name, function in draw.items():
        function(data).savefig(folder / name, dpi=110)
    return [folder / name for name in draw]


def plot_tracking(data: RunData) -> Figure:
    """Distance to the target and to the path, over time."""
    figure, axes = _figure(9.0, 4.2)
    path_error = np.linalg.norm(data.tool - data.reference, axis=-1)
    axes.semilogy(data.time, _visible(1e3 * path_error), color=SECOND, lw=1.0, label="to the planned path")
    axes.semilogy(data.time, _visible(1e3 * data.error), color=MEASURED, lw=1.6, label="to the target")
    low, high = 0.1, 2.0 * max(100.0, np.nanmax(1e3 * data.error, initial=0.0))
    starts = _segments(data.target)
    for i, (begin, end) in enumerate(zip(starts, [*starts[1:], len(data.time)], strict=True)):
        left, right = data.time[begin], data.time[min(end, len(data.time) - 1)]
        axes.axvspan(left, right, color="#eef1f5" if i % 2 else "white", lw=0, zorder=0)
        axes.text(0.5 * (left + right), 0.98, str(i + 1), ha="center", va="top", color="#5b6675", fontsize=9,
                  transform=axes.get_xaxis_transform())
    for value in (GOAL, BOUND):
        axes.axhline(value, color=SECOND, lw=0.9, ls="--")
        axes.text(data.time[-1], value, f" {value:.0f} mm", va="center", color="#5b6675", fontsize=9)
    if data.payload_time is not None and data.time[0] <= data.payload_time <= data.time[-1]:
        axes.axvline(data.payload_time, color=MARK, lw=1.4)
        axes.text(data.payload_time, 0.90, " payload", va="top", color=MARK, fontsize=10,
                  transform=axes.get_xaxis_transform(), bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 1})
    axes.set(xlabel="time [s]", ylabel="distance of the tool [mm]", ylim=(low, high),
             xlim=(data.time[0], data.time[-1]), title="Tracking: targets are the numbered bands")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def plot_prediction(data: RunData) -> Figure:
    """The tool's motion in one tick, predicted before and measured after, where it moves most."""
    figure, all_axes = _figure(9.0, 5.6, rows=3)
    before = np.vstack([np.full((1, 3), np.nan), data.measured[:-1]])
    measured, mean, band = (1e3 * a for a in (data.measured - before, data.predicted_mean - before,
                                              Z95 * data.predicted_std))  # (T, 3) [mm]
    inside = np.abs(measured - mean) <= band
    known = np.isfinite(measured + mean + band)
    coverage = 100.0 * inside[known].mean() if known.any() else np.nan
    shown = _busiest(data, measured)
    time = data.time[shown]
    for i, axes in enumerate(all_axes):
        axes.fill_between(time, (mean - band)[shown, i], (mean + band)[shown, i], color=PREDICTED, alpha=0.25, lw=0,
                          label="95 % band")
        axes.plot(time, mean[shown, i], color=PREDICTED, lw=1.2, label="predicted one tick before")
        axes.plot(time, measured[shown, i], ".", color=MEASURED, ms=3.5, label="measured")
        axes.set(ylabel=f"{'xyz'[i]} [mm per tick]", xlim=(time[0], time[-1]))
    all_axes[0].set_title(f"Motion of the tool: {coverage:.1f} % of all measurements lie in the 95 % band")
    all_axes[-1].set_xlabel("time [s]")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def plot_response(data: RunData) -> Figure:
    """Time from a state to its command, over time and as a histogram."""
    figure, (trace, histogram) = _figure(9.0, 3.6, columns=2)
    response = data.response_ms[np.isfinite(data.response_ms)]
    if len(response) == 0:
        response = np.zeros(1)
    p50, p99 = np.percentile(response, [50, 99])
    deadline = 1e3 * data.period
    top = max(1.05 * deadline, 1.02 * response.max())
    trace.plot(data.time, data.response_ms, ".", color=MEASURED, ms=2.0, alpha=0.6)
    histogram.hist(response, bins=np.linspace(0.0, top, 80), color=MEASURED, orientation="horizontal", log=True)
    for value, label, color, style, above in ((p50, f"median {p50:.1f}", PREDICTED, "-", "top"),
                                              (p99, f"99 % {p99:.1f}", PREDICTED, "--", "bottom"),
                                              (deadline, f"deadline {deadline:.0f}", MARK, "-", "center")):
        trace.axhline(value, color=color, lw=1.2, ls=style)
        histogram.axhline(value, color=color, lw=1.2, ls=style)
        histogram.text(1.02, value, label, va=above, color=color, fontsize=9, transform=histogram.get_yaxis_transform())
    trace.set(xlabel="time [s]", ylabel="state to command [ms]", ylim=(0.0, top),
              title="Response")  # how many deadlines were missed is the plant's to say
    histogram.set(xlabel="ticks", ylim=(0.0, top), yticklabels=[])
    return figure


def picture(config: Config, q: Array, path: Path | str, target: Array | None = None,
            size: tuple[int, int] = (960, 800)) -> Path:
    """Draw the robot at q (m,) [rad or m], and a target (3,) [m], into a PNG."""
    scene = Scene(config, np.reshape(q, (1, -1)), np.reshape([] if target is None else target, (-1, 3)), size)
    scene.draw(np.asarray(q, float), None if target is None else np.asarray(target, float)).save(path)
    return Path(path)


def animate(config: Config, q: Array, target: Array, path: Path | str, speed: float = 2.0,
            events: Sequence[tuple[float, str]] = ()) -> Path:
    """Draw a run into a GIF that plays `speed` times as fast.

    q (T, m) [rad or m] and target (T, 3) or (3,) [m] come once per control period; each of `events` (time [s], text) is
    shown from its time on.
    """
    q = np.asarray(q, float)
    target = np.broadcast_to(np.asarray(target, float), (len(q), 3))
    if len(q) == 0 or not (np.isfinite(q).all() and np.isfinite(target).all()):
        raise ValueError("animate: expected at least one posture, all finite")
    scene = Scene(config, q, target, SIZE)
    frames, hues = list(_frames(scene, q, target, speed, events)), scene.colors(q[0])
    for count in COLORS:
        _write_gif(frames, _palette(frames, hues, count), Path(path))
        if Path(path).stat().st_size <= LARGEST:
            break
    return Path(path)


def animate_beside(config: Config, runs: Sequence[tuple[str, Array]], target: Array, path: Path | str,
                   model: mujoco.MjModel | None = None, speed: float = 0.5) -> Path:
    """Draw runs, each a title and q (T, m) [rad or m], side by side into a GIF; one that is over stays as it is.

    `model` is that of the world, whose objects follow the joints in q. At `speed` 0.5 it takes twice the time it took.
    """
    longest = max(len(q) for _, q in runs)
    both = [np.concatenate([q, np.repeat(q[-1:], longest - len(q), 0)]) for _, q in runs]
    scene = Scene(config, np.concatenate(both), np.reshape(target, (1, 3)), (SIZE[0] // 2, SIZE[1]), model)
    parts = [list(_frames(scene, q, np.broadcast_to(target, (longest, 3)), speed, [(0.0, title)]))
             for (title, _), q in zip(runs, both, strict=True)]
    frames = []
    for pictures in zip(*parts, strict=True):
        frame = Image.new("RGB", (sum(picture.width for picture in pictures), pictures[0].height))
        for i, picture in enumerate(pictures):
            frame.paste(picture, (i * picture.width, 0))
        frames.append(frame)
    _write_gif(frames, _palette(frames, scene.colors(both[0][0]), COLORS[0]), Path(path))
    return Path(path)


def _frames(scene: Scene, q: Array, target: Array, speed: float, events: Sequence[tuple[float, str]]
            ) -> Iterator[Image.Image]:
    period = scene.robot.period
    tool = np.array([scene.robot.tool_position(row[: scene.robot.m]) for row in q])  # (T, 3)
    for at in np.arange(0, len(q), speed * FRAME / period):
        k = int(at)
        trail = tool[max(0, k - round(TRAIL / period)) : k : max(1, round(0.04 / period))]
        error = 1e3 * float(np.linalg.norm(tool[k] - target[k]))
        said = [text for since, text in events if since <= k * period]
        yield scene.draw(q[k], target[k], np.vstack([trail, tool[k]]),
                         f"{k * period:5.1f} s    error {error:5.1f} mm", said[-1] if said else "")


def _write_gif(frames: Sequence[Image.Image], palette: Image.Image, path: Path) -> None:
    """One palette and no dithering: what stands still stays the same, and only what changes is stored."""
    pages: list[Image.Image] = []
    before = np.full((frames[0].height, frames[0].width), CLEAR, dtype=np.uint8)
    for frame in frames:
        indices = np.asarray(frame.quantize(palette=palette, dither=Image.Dither.NONE))
        page = Image.fromarray(np.where(indices == before, CLEAR, indices).astype(np.uint8))
        page.putpalette(palette.getpalette() or [])
        pages.append(page)
        before = indices
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=round(1000 * FRAME), loop=0, disposal=1,
                  transparency=CLEAR, optimize=False)


def _palette(frames: Sequence[Image.Image], hues: Array, count: int) -> Image.Image:
    """`count` colors of twelve of the frames, and hues (k, 3) 0..1 in more or less light: those of small things, and of
    faces that shine in none of the twelve."""
    width, height = frames[0].size
    sample = Image.new("RGB", (width, height * 12))
    for i in range(12):
        sample.paste(frames[i * (len(frames) - 1) // 11], (0, i * height))
    common = sample.quantize(count, Image.Quantize.MEDIANCUT).getpalette() or []
    light = np.array([(a, b) for a in (0.6, 0.85, 1.05) for b in (0.0, 0.11, 0.22)])  # diffuse, gloss
    bright = np.clip(hues[:, None] * light[:, :1] + light[:, 1:], 0, 1).reshape(-1, 3)[: CLEAR - count]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*common[: 3 * count], *(255 * bright).astype(int).ravel().tolist()])
    return palette


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex="col", width_ratios=[3, 1] if columns == 2 else None)
    for one in np.atleast_1d(axes):
        one.grid(True, color="#e3e7ec", lw=0.6)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _visible(values: Array) -> Array:
    """For a logarithmic axis."""
    return np.maximum(values, 1e-3)


def _segments(target: Array) -> list[int]:
    """First rows of the stretches of constant target."""
    changed = np.any(np.diff(target, axis=0) != 0, axis=-1)
    return [0, *(np.flatnonzero(changed) + 1).tolist()]


def _busiest(data: RunData, motion: Array) -> slice:
    """The stretch of WINDOW seconds in which the tool moves most."""
    count = min(len(data.time), max(2, round(WINDOW / max(data.period, 1e-6))))
    way = np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.linalg.norm(motion, axis=-1)))])
    start = int(np.argmax(way[count:] - way[:-count]))
    return slice(start, start + count)
