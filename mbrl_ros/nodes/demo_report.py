"""What came out of a demonstration: figures, a table for a person, plots and an animation."""
from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_ros.drawing import report
from mbrl_ros.drawing.explained import explain
from mbrl_ros.drawing.report import RunData
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.measures import TargetResult
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from mbrl_ros.nodes.experiment import Experiment

PACKAGES = ("mbrl_ros", "numpy", "torch", "mujoco", "rclpy", "ros-rclpy")


def summary(demo: Experiment, results: list[TargetResult], oracle: list[TargetResult]) -> dict[str, Any]:
    """All figures of a run, as JSON takes them."""
    heard = demo.operator.heard
    response = 1e3 * np.array(heard.response[demo.first_response :] or [np.nan])
    p50, p99 = np.percentile(response, (50, 99))
    ticks, missed = demo.before_armed
    late = (response > 1e3 * demo.robot.period).sum() if demo.lockstep else heard.figure("plant", "missed") - missed
    return {
        **measures.summarize(results, oracle),
        "data_seconds": demo.config.data_seconds,
        "ticks": len(heard.stamps) - ticks,
        "tick_ms_p50": _number(p50), "tick_ms_p99": _number(p99),
        "controller_ms_p50": _number(heard.figure("controller", "tick_ms_p50")),
        "controller_ms_p99": _number(heard.figure("controller", "tick_ms_p99")),
        "stages": heard.stages,
        "missed_deadlines": int(late) if np.isfinite(late) else None,
        "seed": demo.arguments.seed, **vars(demo.names), "pace": demo.pace,
        "processes": demo.arguments.processes, "adapt": not demo.arguments.no_adapt,
        "targets": [_target(demo, i, r, oracle) for i, r in enumerate(results)],
        "fault": heard.fault,
        "versions": versions(),
        "command_line": " ".join(sys.argv),
    }


def _target(demo: Experiment, i: int, result: TargetResult, oracle: list[TargetResult]) -> dict[str, Any]:
    return {"position_m": demo.targets[i].tolist(), "median_mm": _number(result.median_mm),
            "worst_mm": _number(result.worst_mm), "cost": _number(result.cost),
            "oracle_cost": _number(oracle[i].cost) if oracle else None}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def versions() -> dict[str, str]:
    """Versions of what the run was made with."""
    found = {"python": platform.python_version(), "ros_distro": os.environ.get("ROS_DISTRO", "unknown")}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(folder: Path, figures: dict[str, Any]) -> None:
    """Write the figures as summary.json."""
    (folder / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")


def draw(demo: Experiment) -> None:
    """The page about the recording; and three plots and an animation of the time with targets, where there was one."""
    try:
        explain(demo.folder / "recording", demo.folder / "report.html")
    except RecordingError as error:  # the disk was full
        print(f"demo: no page: {error}", file=sys.stderr)
    data = _run_data(demo)
    if data is None:
        return
    report.plots(data, demo.folder)
    load = [] if data.payload_time is None else [(data.payload_time, f"{demo.config.payload:g} kg in the hand")]
    report.animate(demo.robot.config, data.q, data.target, demo.folder / "run.gif", events=load)


def _run_data(demo: Experiment) -> RunData | None:
    heard, stamps = demo.operator.heard, [s for reach in demo.reaches for s in reach]
    if len(stamps) < 2:
        return None
    counts = [len(reach) for reach in demo.reaches]
    target = np.repeat(np.array(demo.targets[: len(counts)]), counts, axis=0)
    tool, reference, _ = heard.track(stamps)
    mean, deviation = heard.predicted(stamps)
    q, measured = heard.posture(stamps)
    half = (demo.config.targets + 1) // 2
    return RunData(time=1e-9 * (np.array(stamps) - stamps[0]), tool=tool, reference=reference, target=target,
                   error=np.linalg.norm(tool - target, axis=-1), predicted_mean=mean, predicted_std=deviation,
                   measured=measured, response_ms=_spread(heard.response[demo.first_response :], len(stamps)),
                   payload_time=1e-9 * (demo.reaches[half][0] - stamps[0]) if len(demo.reaches) > half else None, q=q)


def _spread(response: list[float], count: int) -> Array:
    """Response times [ms] stretched over the ticks (count,), in order, because they carry no stamps."""
    spread = np.full(count, np.nan)
    given = 1e3 * np.array(response[:count])
    spread[np.linspace(0, count - 1, len(given)).round().astype(int)] = given
    return spread


def table(figures: dict[str, Any]) -> str:
    """The figures as a person reads them."""
    half = (len(figures["targets"]) + 1) // 2
    lines = ["", "target   median error   worst error   within 5 mm   cost / true dynamics"]
    for i, t in enumerate(figures["targets"]):
        if i == half:
            lines.append("-------  a load is put into the hand")
        ratio = t["cost"] / t["oracle_cost"] if t["cost"] and t["oracle_cost"] else None
        within = "yes" if t["worst_mm"] is not None and t["worst_mm"] <= 5 else "no"
        lines.append(f"{i + 1:6}   {_show(t['median_mm'], 9, 'mm')}   {_show(t['worst_mm'], 8, 'mm')}"
                     f"   {within:>11}   {_show(ratio, 20)}")
    lines += ["", _line(figures, "all targets"), _line(figures["before_payload"], "before the load"),
              _line(figures["after_payload"], "with the load"), ""]
    missed, ticks = figures["missed_deadlines"] or 0, max(1, figures["ticks"])
    lines.append(f"learned from {figures['data_seconds']:g} s of motion; state to command "
                 f"{_show(figures['tick_ms_p50'], 0, 'ms')} (99 %: {_show(figures['tick_ms_p99'], 0, 'ms')}); "
                 f"{missed} of {ticks} deadlines missed ({100 * missed / ticks:.2f} %)")
    if figures["fault"]:
        lines.append(f"the run failed: {figures['fault']}")
    return "\n".join(lines)


def _line(f: dict[str, Any], name: str) -> str:
    if not f:
        return f"{name:16} none"
    return (f"{name:16} within 5 mm {100 * f['success_5mm']:3.0f} %, within 20 mm {100 * f['success_20mm']:3.0f} %, "
            f"median {_show(f['median_error_mm'], 0, 'mm')}, worst {_show(f['worst_error_mm'], 0, 'mm')}, "
            f"cost {_show(f['oracle_cost_ratio'], 0)} times that of the true dynamics")


def _show(value: float | None, width: int, unit: str = "") -> str:
    text = f"{value:.2f} {unit}".rstrip() if value is not None else "failed"
    return text.rjust(width + len(unit) + bool(unit)) if width else text
