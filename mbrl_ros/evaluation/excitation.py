"""What a model is worth on task motion after so many seconds of either excitation, over many seeds.

    python3 -m mbrl_ros.evaluation.excitation --seeds 100-109 --models gaussian,ensemble --plot excitation.png

Held-out motion is what the oracle (the controller given the true dynamics) visits on the way to random targets, the
same for all. On it, of the rows of joint speeds:
    one-step   |y - g(w)| over |y|, root mean squares; that of the true dynamics is above zero, for y has noise
    Jacobian   |(J - J*) D|_F over |J* D|_F, with J* of the true dynamics and D the deviations of w in that motion
Beside it, how much the excitation asked of the robot. Each duration is an excitation of its own.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, merge, parse_overrides
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import parse_seeds
from mbrl_ros.evaluation.procedure import Run, Stopped, data_of, trial_of
from mbrl_ros.models.features import Data
from mbrl_ros.models.physics import PhysicsModel
from mbrl_ros.models.prior import fit
from mbrl_ros.ring.excitation import KINDS
from mbrl_ros.types import Array, StateEstimate

Settings = Mapping[str, Any]
HELD_OUT = (10_000, 10_001, 10_002)  # seeds, of no excitation
TARGETS = 10
JACOBIANS = 200
TICKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
MEASURES = ("one-step", "Jacobian")
ASKED = ("from home [rad]", "speed", "effort")  # the last two of the limit


@dataclass(frozen=True)
class TaskMotion:
    """Task motion, and the truth about it."""

    data: Data
    expected: Array  # (N, m), change of the speeds by the true dynamics
    points: Array  # (K,), rows at which
    J: Array  # (K, m, dw) is the derivative of `expected`

    @classmethod
    def record(cls, settings: Settings, seeds: tuple[int, ...] = HELD_OUT, targets: int = TARGETS) -> TaskMotion:
        """By the oracle, without a payload."""
        trials = []
        for seed in seeds:
            states: list[StateEstimate] = []
            given = {"targets": targets, "data_seconds": 0.1, "payload": 0.0, "seed": seed}
            run = Run(settings, measures.config_of(settings, given), seed, oracle=True, listen=states.append)
            run.results()
            trials.append(trial_of(run.robot, states[-len(run.tick_ms) :]))  # ticks on the way to targets are timed
        data = data_of(run.robot, trials)
        m, w = run.robot.m, data.w
        physics = PhysicsModel(run.robot, run.plant.model)
        after = physics.step(w[:, :m], w[:, m : 2 * m], w[:, 2 * m :])[1]
        points = np.linspace(0, len(w) - 1, JACOBIANS).astype(int)
        J = np.stack([physics.linearize_step(*np.split(w[i], 3))[2][m:] for i in points])
        J[:, :, m : 2 * m] -= np.eye(m)
        return cls(data, after - w[:, m : 2 * m], points, J)

    def errors(self, model: Any) -> tuple[float, float]:
        """One-step and Jacobian error of a Regression."""
        m = self.expected.shape[1]
        with torch.no_grad():
            g = model.mean(torch.as_tensor(self.data.w)).numpy()[:, m:]
        J = model.jacobian(torch.as_tensor(self.data.w[self.points]))[1].detach().numpy()[:, m:]
        D = self.data.w.std(0)
        return self.one_step(g), float(np.linalg.norm((J - self.J) * D) / np.linalg.norm(self.J * D))

    def one_step(self, predicted: Array) -> float:
        """Error of predicted changes of the speeds (N, m)."""
        y = self.data.y[:, self.expected.shape[1] :]
        return float(np.linalg.norm(y - predicted) / np.linalg.norm(y))


def excite(settings: Settings, seconds: float, seed: int) -> tuple[Data, Array]:
    """The data of one excitation, and what was asked of the robot (3,), see ASKED: the largest of all joints."""
    run = Run(settings, measures.Config(data_seconds=seconds), seed)
    try:
        run.hold()
        run.excite(seconds)
    except Stopped as stopped:
        raise ConfigError(f"excitation: seed {seed}, {seconds} s: {stopped}") from stopped
    data, robot = run.data(seconds), run.robot
    q, qd, u = data.w[:, : robot.m], data.w[:, robot.m : 2 * robot.m], data.w[:, -robot.m :]
    return data, np.array([np.abs(q - robot.home).max(), np.abs(qd / robot.velocity_limit).max(),
                           np.abs(u / robot.effort_limit).max()])


def earlier(seconds: Array, reference: Array, error: Array) -> Array:
    """At which of the data time an error curve falls to each value of the reference, as a fraction of the time that
    took; log-linear between points (k,), nan where it does not fall so far or starts below."""
    falling, times = np.minimum.accumulate(error), np.log(seconds)
    found = np.exp(np.interp(-np.log(reference), -np.log(falling), times, left=np.nan, right=np.nan))
    return np.asarray(found / seconds)


def table(seconds: Array, errors: Mapping[tuple[str, str], Array], asked: Mapping[str, Array], floor: float) -> str:
    """Medians over seeds; errors (seeds, durations, 2) by model and kind, asked (seeds, durations, 3) by kind."""
    lines = [f"| {'median error after' :18s} | {' | '.join(f'{t:g} s' for t in seconds)} |",
             "|---|" + "---|" * len(seconds)]
    for model in dict.fromkeys(model for model, _ in errors):
        for i, measure in enumerate(MEASURES):
            median = {kind: np.median(errors[model, kind][..., i], 0) for kind in KINDS}
            for kind, values in median.items():
                lines.append(f"| {model}, {measure}, {kind} | {' | '.join(f'{v:.3f}' for v in values)} |")
            part = earlier(seconds, median["random"], median["informative"])
            lines.append("| ... informative had it after | "
                         + " | ".join("-" if np.isnan(p) else f"{100 * p:.0f} % of the time" for p in part) + " |")
    lines += ["", f"one-step error of the true dynamics: {floor:.3f}", "",
              "| largest of all runs | " + " | ".join(ASKED) + " |", "|---|---|---|---|"]
    lines += [f"| {kind} | {' | '.join(f'{v:.2f}' for v in a.reshape(-1, 3).max(0))} |" for kind, a in asked.items()]
    return "\n".join(lines)


def figure(path: Path, seconds: Array, errors: Mapping[tuple[str, str], Array], floor: float) -> None:
    """Error against seconds of data: medians, and the quartiles of the seeds."""
    fig = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(fig)
    for i, (measure, axes) in enumerate(zip(MEASURES, fig.subplots(1, 2), strict=True)):
        for (model, kind), e in errors.items():
            low, middle, high = np.quantile(e[..., i], [0.25, 0.5, 0.75], axis=0)
            colour = {"random": "tab:orange", "informative": "tab:blue"}[kind]
            dashed = "-" if model == next(iter(errors))[0] else "--"
            axes.plot(seconds, middle, dashed, marker="o", color=colour, label=f"{model}, {kind}")
            axes.fill_between(seconds, low, high, color=colour, alpha=0.15, linewidth=0)
        if i == 0:
            axes.axhline(floor, color="grey", linestyle=":", label="true dynamics")
        axes.set(xscale="log", yscale="log", xlabel="excitation [s]", title=f"{measure} error on task motion")
        low, high = axes.get_ylim()
        ticks = [t for t in TICKS if low <= t <= high]
        axes.set_xticks(seconds, [f"{t:g}" for t in seconds])
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    fig.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.excitation",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--seeds", default="100-109")
    p.add_argument("--models", default="gaussian", help="with commas between")
    p.add_argument("--seconds", default="2,4,8,16,30", help="of data, with commas between")
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{excitation: {range: 0.3}}'")
    p.add_argument("--plot", type=Path, help="where to write a figure")
    a = p.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        more, models = parse_overrides(a.set), a.models.split(",")
        seconds, seeds = np.array([float(t) for t in a.seconds.split(",")]), parse_seeds(a.seeds)
        settings = assembly.settings(Names(robot=a.robot, prior=models[0]), more)
        of_model = {model: assembly.settings(Names(robot=a.robot, prior=model), more) for model in models}
        motion = TaskMotion.record(settings)
        errors = {(model, kind): np.empty((len(seeds), len(seconds), 2)) for model in models for kind in KINDS}
        asked = {kind: np.empty((len(seeds), len(seconds), 3)) for kind in KINDS}
        for kind in KINDS:
            for at in np.ndindex(len(seeds), len(seconds)):
                seed, t = seeds[at[0]], float(seconds[at[1]])
                data, asked[kind][at] = excite(merge(settings, {"excitation": {"kind": kind}}), t, seed)
                for model in models:
                    errors[model, kind][at] = motion.errors(fit(model, data, of_model[model], seed))
    except ConfigError as error:
        print(f"evaluate_excitation: {error}", file=sys.stderr)
        return 2
    floor = motion.one_step(motion.expected)
    print(table(seconds, errors, asked, floor))
    if a.plot:
        figure(a.plot, seconds, errors, floor)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
