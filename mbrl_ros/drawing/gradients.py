"""Figures of policies by trials: learning curves with every seed, and what two gradients are worth over the horizon."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mbrl_ros.evaluation.tables import HUES


class Spread(NamedTuple):
    """Of an estimate of a gradient, relative to the norm of the true one."""

    horizon: int
    bias: float  # the norm of its mean error
    unsure: float  # the norm of the error that the mean has for its finite number of draws
    deviation: float  # of one draw

    @classmethod
    def of(cls, horizon: int, drawn: Tensor, truth: Tensor) -> Spread:
        """From draws (N, p)."""
        norm, deviation = float(truth.norm()), float(drawn.var(0).sum().sqrt())
        return cls(horizon, float((drawn.mean(0) - truth).norm()) / norm, deviation / norm / len(drawn) ** 0.5,
                   deviation / norm)


def draw_gradients(found: Mapping[str, Sequence[Spread]]) -> Figure:
    """Deviation and bias of each estimator, by horizon."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    spread, bias = figure.subplots(1, 2)
    for color, (name, points) in zip(HUES[1:], found.items(), strict=False):
        horizons = [p.horizon for p in points]
        spread.plot(horizons, [p.deviation for p in points], color=color, marker="o", ms=3, label=name)
        bias.plot(horizons, [p.bias for p in points], color=color, marker="o", ms=3, label=name)
        bias.plot(horizons, [p.unsure for p in points], color=color, lw=0.8, ls=":")
    spread.set(title="deviation of one gradient", ylabel="in norms of the gradient")
    bias.set(title="distance of the mean from the gradient", ylabel="in norms of it; dotted: by chance")
    for axes in (spread, bias):
        axes.set(xlabel="horizon [steps]", xscale="log", yscale="log")
        axes.legend(fontsize="x-small", frameon=False)
    return figure


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Distance from the goal over trials, a panel for every task, a line for every seed, a thick one their median."""
    figure = Figure(figsize=(3.6 * max(1, len(rows)), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for i, r in enumerate(rows):
        axes = figure.add_subplot(1, len(rows), i + 1)
        longest = max(len(d) for d in r["distance_mm"])
        curves = np.array([d + [d[-1]] * (longest - len(d)) for d in r["distance_mm"]])  # solved, and left at that
        curves[~np.isfinite(curves)] = np.nan
        trials = np.arange(1, longest + 1)
        axes.plot(trials, curves.T, color=HUES[1], lw=0.6, alpha=0.6, marker=".", ms=3)
        middle = [np.nanmedian(of) if np.isfinite(of).any() else np.nan for of in curves.T]
        axes.plot(trials, middle, color=HUES[2], lw=1.8)
        if r["bound_mm"] > 0:
            axes.axhline(r["bound_mm"], color="0.6", lw=0.8)
        axes.set(title=f"{r['method']}: {r['task']}", xlabel="trial", yscale="log",
                 ylabel="distance in the last second [mm]")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
