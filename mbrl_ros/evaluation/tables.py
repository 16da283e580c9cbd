"""The rows of the suite as a table and as a figure per family."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HUES = ("#9aa5b4", "#1f3a5f", "#e0701a", "#4c8c6b", "#b3261e", "#7a5ba6", "#c2a200", "#555555")
Row = Mapping[str, Any]
COLUMNS = {  # name -> how it is written
    "success_5mm": "{:.0%}", "success_20mm": "{:.0%}", "median_error_mm": "{:.2f}", "worst_error_mm": "{:.1f}",
    "oracle_cost_ratio": "{:.2f}", "divergences": "{}", "recovery_s_median": "{:.2f}", "recovery_s_worst": "{:.2f}",
    "peak_mm_worst": "{:.1f}", "median_error_after_mm": "{:.2f}", "rms_mm": "{:.2f}"}
SHOWN, TICKS = (0.1, 100.0), (0.1, 1.0, 10.0, 100.0)  # [mm] of the median error
HEADS = ("scenario", "robot", "prior", "seeds", "in 5 mm", "in 20 mm", "median mm", "worst mm", "cost / oracle",
         "diverged", "recovery s", "worst", "peak mm", "after mm", "rms mm")


def table(rows: Sequence[Row]) -> str:
    """All rows in columns of Markdown."""
    cells = [HEADS, *([str(r[k]) for k in ("scenario", "robot", "prior", "seeds")]
                      + [_written(r[k], form) for k, form in COLUMNS.items()] for r in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADS))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """One figure per family into a folder."""
    paths = []
    for family in dict.fromkeys(r["family"] for r in rows):
        paths.append(folder / f"{family}.png")
        plot_family([r for r in rows if r["family"] == family]).savefig(paths[-1], dpi=110)
    return paths


def plot_family(rows: Sequence[Row]) -> Figure:
    """Success and median error of every method, by scenario and robot; a cross is a divergence in some seed."""
    groups = list(dict.fromkeys((r["scenario"], r["robot"]) for r in rows))
    methods = list(dict.fromkeys(r["prior"] for r in rows))
    figure = Figure(figsize=(11.0, 2.4 + 0.42 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    success, error = figure.subplots(1, 2, sharey=True)
    height = 0.8 / len(methods)
    for i, method in enumerate(methods):
        of_method = {(r["scenario"], r["robot"]): r for r in rows if r["prior"] == method}
        places = np.array([groups.index(key) + height * (i - 0.5 * (len(methods) - 1)) for key in of_method])
        color = HUES[i % len(HUES)]
        success.barh(places, [100 * r["success_5mm"] for r in of_method.values()], height, color=color, label=method)
        medians = np.array([_or_nan(r["median_error_mm"]) for r in of_method.values()])
        error.plot(np.clip(medians, *SHOWN), places, "o", color=color, ms=4)  # nothing where there is no number
        stopped = np.array([r["divergences"] > 0 for r in of_method.values()])
        if stopped.any():  # the layout cannot place a line without points
            error.plot(np.ones(stopped.sum()), places[stopped], "x", color=color, ms=6, clip_on=False,
                       transform=error.get_yaxis_transform())
    success.set(xlabel="targets within 5 mm [%]", xlim=(0, 100), yticks=range(len(groups)),
                yticklabels=[f"{name}, {robot}" for name, robot in groups])
    success.invert_yaxis()
    error.set(xlabel="median error [mm]; cross: diverged", xscale="log", xlim=SHOWN, xticks=TICKS,
              xticklabels=[f"{tick:g}" for tick in TICKS])
    error.minorticks_off()
    for axes in (success, error):
        axes.grid(True, axis="x", color="#e3e7ec", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*success.get_legend_handles_labels(), loc="outside lower center", ncols=len(methods), frameon=False)
    return figure


def _or_nan(value: float | None) -> float:
    return value if value is not None and np.isfinite(value) else np.nan


def _written(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return form.format(value) if np.isfinite(value) else "inf"
