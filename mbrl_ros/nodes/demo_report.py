"""What came out of a demonstration: figures, a table, and files."""
from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_ros import scenario
from mbrl_ros.scenario import TargetResult

if TYPE_CHECKING:
    from mbrl_ros.nodes.demo import Demo

PACKAGES = ("mbrl_ros", "numpy", "torch", "mujoco", "rclpy", "ros-rclpy")


def summary(demo: Demo, results: list[TargetResult], oracle: list[TargetResult]) -> dict[str, Any]:
    """All figures of a run, as JSON takes them."""
    operator, period = demo.operator, demo.robot.period
    response = 1e3 * np.array(operator.response[demo.first_response :] or [np.nan])
    p50, p99 = np.percentile(response, (50, 99))
    lockstep = demo.pace == "lockstep"
    return {
        **scenario.summarize(results, oracle),
        "data_seconds": demo.config.data_seconds,
        "ticks": len(operator.stamps),
        "tick_ms_p50": _number(p50), "tick_ms_p99": _number(p99),
        "controller_ms_p50": _number(operator.figure("controller", "tick_ms_p50")),
        "controller_ms_p99": _number(operator.figure("controller", "tick_ms_p99")),
        "missed_deadlines": int((response > 1e3 * period).sum()) if lockstep else _missed(demo),
        "seed": demo.arguments.seed, **vars(demo.names), "pace": demo.pace,
        "processes": demo.arguments.processes, "adapt": not demo.arguments.no_adapt,
        "targets": [_target(demo, i, r, oracle) for i, r in enumerate(results)],
        "fault": operator.fault,
        "versions": versions(),
        "command_line": " ".join(sys.argv),
    }


def _missed(demo: Demo) -> int | None:
    missed = demo.operator.figure("plant", "missed")
    return int(missed) if np.isfinite(missed) else None


def _target(demo: Demo, i: int, result: TargetResult, oracle: list[TargetResult]) -> dict[str, Any]:
    return {"position_m": demo.targets[i].tolist(), "median_mm": _number(result.median_mm),
            "worst_mm": _number(result.worst_mm), "cost": _number(result.cost),
            "oracle_cost": _number(oracle[i].cost) if oracle else None}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def versions() -> dict[str, str]:
    """What the run was made with."""
    found = {"python": platform.python_version(), "ros_distro": os.environ.get("ROS_DISTRO", "unknown")}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(folder: Path, figures: dict[str, Any]) -> None:
    (folder / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")


def table(figures: dict[str, Any]) -> str:
    """The figures as a person reads them."""
    half = (len(figures["targets"]) + 1) // 2
    lines = ["", "target   median error   worst error   within 5 mm   cost / best possible"]
    for i, t in enumerate(figures["targets"]):
        if i == half:
            lines.append("-------  a load is put into the hand")
        ratio = t["cost"] / t["oracle_cost"] if t["cost"] and t["oracle_cost"] else None
        within = "yes" if t["worst_mm"] is not None and t["worst_mm"] <= 5 else "no"
        lines.append(f"{i + 1:6}   {_show(t['median_mm'], '9.2f', 'mm')}   {_show(t['worst_mm'], '8.2f', 'mm')}"
                     f"   {within:>11}   {_show(ratio, '20.2f', '')}")
    lines += ["", _line(figures, "all targets"), _line(figures["before_payload"], "before the load"),
              _line(figures["after_payload"], "with the load"), ""]
    share = 100 * (figures["missed_deadlines"] or 0) / max(1, figures["ticks"])
    lines.append(f"learned from {figures['data_seconds']:g} s of motion; {figures['ticks']} ticks, "
                 f"state to command {_show(figures['tick_ms_p50'], '.1f', 'ms')} (99 %: "
                 f"{_show(figures['tick_ms_p99'], '.1f', 'ms')}), {figures['missed_deadlines']} missed deadlines "
                 f"({share:.2f} %)")
    if figures["diverged"]:
        lines.append(f"the run failed: {figures['fault']}")
    return "\n".join(lines)


def _line(f: dict[str, Any], name: str) -> str:
    if not f:
        return f"{name:16} none"
    return (f"{name:16} within 5 mm {100 * f['success_5mm']:3.0f} %, within 20 mm {100 * f['success_20mm']:3.0f} %, "
            f"median {_show(f['median_error_mm'], '.2f', 'mm')}, worst {_show(f['worst_error_mm'], '.2f', 'mm')}, "
            f"cost {_show(f['oracle_cost_ratio'], '.2f', '')} times the best possible")


def _show(value: float | None, form: str, unit: str) -> str:
    width = int(form.split(".")[0] or 0)
    return f"{value:{form}} {unit}".rstrip() if value is not None else "failed".rjust(width)
