"""Methods beside their parents: what a run leaves, what a task and a method are, and rows, table and figure of many.

A method is one function from a seed to a Curve, with the name of the method that it has to be better than. Both get the
same seeds, so differences are those of pairs, each with its 95 % interval by bootstrap.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mbrl_ros.evaluation.measures import interval
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]


@dataclass
class Curve:
    """What one run of a method has earned: the return of each trial or test, and after how many steps of the
    environment it ended."""

    steps: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)  # of the method's own
    seconds: float = 0.0  # on the clock


@dataclass(frozen=True)
class Task:
    """What is to be done, and what counts."""

    goal: float  # the return from which a run has it
    last: int  # returns at the end that are averaged into the return of a run
    words: str  # what a return is
    seeds: str  # to report on
    by_trial: bool = False  # the figure is over trials, with returns in powers of ten, not over steps


class Runner(Protocol):
    """One seed of a method on a task, which goes on from the file `keep` and keeps it, where it takes long."""

    def __call__(self, seed: int, keep: Path | None = None) -> Curve: ...


@dataclass(frozen=True)
class Method:
    """A run for each task that it is for, and the method that it stands beside."""

    runs: Mapping[str, Runner]
    parent: str | None = None


def row(method: str, parent: str | None, name: str, task: Task, runs: Mapping[int, Curve],
        before: Mapping[int, Curve]) -> Row:
    """One method on one task; differences to its parent over the seeds that both have run, None without any."""
    seeds = sorted(runs)
    returns, trials = ({s: of(task, c) for s, c in runs.items()} for of in (earned, needed))
    parents, waited = ({s: of(task, before[s]) for s in seeds if s in before} for of in (earned, needed))
    one: Row = {
        "method": method, "parent": parent, "task": name, "seeds": seeds,
        "steps": max(c.steps[-1] for c in runs.values()),
        "return_median": float(np.median(list(returns.values()))), "return_worst": min(returns.values()),
        "parent_median": float(np.median(list(parents.values()))) if parents else None,
        **difference("difference", returns, parents),
        "seconds": float(np.median([c.seconds for c in runs.values()])),
        # the first trial whose return reaches the goal; one more than there were, where none did
        "trials_to_goal": [trials[s] for s in seeds], **difference("trials_difference", trials, waited),
        "curves": [{"steps": runs[s].steps, "returns": runs[s].returns, **runs[s].figures} for s in seeds]}
    return one


def earned(task: Task, curve: Curve) -> float:
    """The mean return at the end of a run."""
    return float(np.mean(curve.returns[-task.last:]))


def needed(task: Task, curve: Curve) -> float:
    """The trial, from 1, at which a run first reaches the goal; one more than it had, where it does not."""
    reached = np.flatnonzero(np.array(curve.returns) >= task.goal)
    return float(reached[0] + 1 if len(reached) else len(curve.returns) + 1)


def difference(name: str, of: Mapping[int, float], before: Mapping[int, float]) -> Row:
    """The interval (95 %) of differences by pairs of a seed; None where there are not two."""
    pairs = np.array([of[s] - before[s] for s in of if s in before])
    low, high = interval(pairs) if len(pairs) > 1 else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def table(rows: Sequence[Row]) -> str:
    """In columns of Markdown."""
    lines = ["| task | method | parent | seeds | return, median | worst | parent's | difference, 95 % | trials to goal "
             "| difference, 95 % | s |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        cells = [r["task"], r["method"], r["parent"] or "", len(r["seeds"]), f"{r['return_median']:.4g}",
                 f"{r['return_worst']:.4g}", "" if r["parent_median"] is None else f"{r['parent_median']:.4g}",
                 between(r, "difference"), f"{np.median(r['trials_to_goal']):g}", between(r, "trials_difference"),
                 f"{r['seconds']:.1f}"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def between(r: Row, name: str) -> str:
    """A difference in a table."""
    low, high = r[f"{name}_low"], r[f"{name}_high"]
    return "" if low is None else f"{low:+.3g} to {high:+.3g}"


def plot(rows: Sequence[Row], tasks: Mapping[str, Task]) -> Figure:
    """Returns over steps, or trials: a panel for each task, a hue for each method; its median, and every seed as a thin
    line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # trainers are imported by nodes, which draw nothing
    from matplotlib.figure import Figure

    from mbrl_ros.evaluation.tables import HUES
    names = list(dict.fromkeys(r["task"] for r in rows))
    figure = Figure(figsize=(6.4 * len(names), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        task = tasks[name]
        for i, r in enumerate(r for r in rows if r["task"] == name):
            color = HUES[(i + 1) % len(HUES)]
            curves = [{"steps": range(1, len(c["steps"]) + 1), "returns": c["returns"]} if task.by_trial else c
                      for c in r["curves"]]
            for curve in curves:
                axes.plot(curve["steps"], curve["returns"], color=color, lw=0.5, alpha=0.35)
            axes.plot(*median(curves), color=color, lw=1.8, label=r["method"])
        axes.axhline(task.goal, color="0.6", lw=0.8)
        axes.set(title=name, xlabel="trial" if task.by_trial else "steps of the environment", ylabel=task.words,
                 yscale="symlog" if task.by_trial else "linear")
        if task.by_trial:
            axes.set_ylim(top=task.goal / 4)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize="x-small", frameon=False, loc="lower right")
    return figure


def median(curves: Sequence[Mapping[str, Any]]) -> tuple[Array, Array]:
    """Of the i-th returns of all runs, as far as all of them go, and of the steps at which they were."""
    count = min(len(c["returns"]) for c in curves)
    steps, returns = (np.median([c[key][:count] for c in curves], 0) for key in ("steps", "returns"))
    return steps, returns
