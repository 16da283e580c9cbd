"""The loops of model-based reinforcement learning side by side: what replanning, refitting and feedback are worth.

    python3 -m mbrl_ros.evaluation.loops --robot arm --seeds 0-9 [--loops v0.5,v1.0,v1.5] [--refit-every 2]

All of them excite the arm and fit a global model. Then the hand is given a load, and one target is reached for again
and again from the same start:

    v0.5  a plan for the whole trial by that model, once and for all
    v1.0  a plan for every trial, by the model fitted anew to all motion before it
    v1.5  a plan for every period (model-predictive control), and every transition counts at once

A plan for a trial is played with its efforts alone (`open`), with its gains (`feedback`), or with noise of covariance
Q_uu^-1 besides, which explores (`noise`). Costs of the same seed are compared in pairs. Leaves loops.json and loops.png
in runs/<time>/. Seeds to tune on are those from 100 up.
"""
from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, merge, new_folder, parse_overrides
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import add_jobs, chosen, parse_seeds, write
from mbrl_ros.evaluation.pool import in_order
from mbrl_ros.evaluation.procedure import RESET, Run, Stopped, collect, data_of, trial_of
from mbrl_ros.models.dynamics import linearize
from mbrl_ros.ring.controller import REACH
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.mpc import GLOBAL
from mbrl_ros.ring.policy import policy_of
from mbrl_ros.task.goal import Goal
from mbrl_ros.types import Array, LinearGaussianDynamics, StateEstimate, TimedPolicy, Trial

Settings = Mapping[str, Any]


class Loop(NamedTuple):
    """How often there is a plan, and whether its model learns from trials."""

    replans: bool  # in every period
    refits: bool


LOOPS = {"v0.5": Loop(False, False), "v1.0": Loop(False, True), "v1.5": Loop(True, True)}
EXECUTIONS = OPEN, FEEDBACK, NOISE = ("open", "feedback", "noise")  # of a plan that is made once
ITERATIONS = 50  # of a plan for a whole trial


def cases(loops: Sequence[str]) -> list[tuple[str, str]]:
    """Every loop with every way to play its plans; one that replans plays only the first step of each."""
    return [(loop, how) for loop in loops for how in ([""] if LOOPS[loop].replans else EXECUTIONS)]


def run_case(settings: Settings, loop: str, how: str, config: measures.Config, seconds: float, trials: int, every: int,
             seed: int) -> dict[str, Any]:
    """Cost and last error [mm] of every trial of one loop; a trial that stops early counts on with its last cost."""
    torch.set_num_threads(1)
    of = LOOPS[loop]
    given = {"learner": {"adapt": of.replans}, "controller": {"policy_noise": float(how == NOISE)}}
    settings = merge(settings, given)
    states: list[StateEstimate] = []
    run = Run(settings, config, seed, listen=states.append)
    run.excite(config.data_seconds)
    seen, run.listen = [trial_of(run.robot, states)], None
    run.fit_to(data_of(run.robot, seen))
    run.plant.change(replace(run.plant.world, payload=config.payload))
    target = measures.draw_targets(run.robot, replace(config, seed=seed, targets=1))[0]
    run.controller.set_target(target)
    steps, rows, plan = round(seconds / run.robot.period), [], None
    for i in range(trials):
        if i and of.refits and i % every == 0:
            run.fit_to(data_of(run.robot, seen))
            plan = None
        if plan is None and not of.replans:
            plan = planned(run, settings, target, seconds, 1000 * seed + i)
        played = REACH if plan is None else LinearPolicy(_without_gains(plan) if how == OPEN else plan, run.robot)
        seen += collect(run, played, 1, steps, 1000 * seed + i)
        rows.append(score(run, seen[-1], target, steps))
    return {"loop": loop, "execution": how, "seed": seed, "costs": [cost for cost, _ in rows],
            "final_mm": [mm for _, mm in rows]}


def planned(run: Run, settings: Settings, target: Array, seconds: float, seed: int) -> TimedPolicy:
    """The plan for a whole trial from the start posture, by the global model. Raises Stopped where there is none."""
    run.back(RESET, seed)
    state, model = run.tick()[0], run.learner.model
    over = {run.controller.config.planner: {"horizon": seconds, "iterations": ITERATIONS},
            "controller": {"model": GLOBAL, "delay": 0.0}}
    mpc = assembly.make_controller(merge(settings, over), run.robot).mpc
    mpc.start(state)
    mpc.goal = Goal(target)
    at = linearize(model, torch.as_tensor(state.belief.mean), torch.as_tensor(state.effort))
    mpc.act(state, LinearGaussianDynamics(at.F.numpy(), at.f.numpy(), at.Sigma.numpy()), state.effort, model)
    if mpc.plan is None:
        raise Stopped(f"no plan: {mpc.status}")
    return policy_of(mpc.plan, run.robot)


def _without_gains(timed: TimedPolicy) -> TimedPolicy:
    return replace(timed, policy=replace(timed.policy, K=np.zeros_like(timed.policy.K)))


def score(run: Run, trial: Trial, target: Array, steps: int) -> tuple[float, float]:
    """Cost of a trial against the path to its target (measures.py), and the last error [mm]."""
    robot, sites = run.robot, run.robot.slice(f"site/{run.robot.sites[0]}/position")
    path = run.controller.mpc.task.path_to(target, trial.x[0, sites], int(trial.time[0]),
                                           trial.x[0, robot.slice("joint/position")])
    reference, _ = path.at(int(trial.time[0]), robot.period, len(trial.x))
    return measures.score_trial(robot, trial, target, steps, reference[1:])


def totals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each case over its seeds: the cost of a trial, its median and worst over seeds, and the last trial's error."""
    found = []
    for (loop, how), group in itertools.groupby(rows, lambda row: (row["loop"], row["execution"])):
        of = list(group)
        costs = np.array([np.mean(row["costs"]) for row in of])
        last = [row["final_mm"][-1] for row in of]
        found.append({"loop": loop, "execution": how, "seeds": len(of), "cost_median": float(np.median(costs)),
                      "cost_worst": float(costs.max()), "last_mm_median": float(np.median(last)),
                      "last_mm_worst": float(max(last)), "costs": costs.tolist()})
    return found


def paired(better: Mapping[str, Any], worse: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % interval of the median ratio of costs, better to worse."""
    return measures.interval(np.array(better["costs"]) / np.array(worse["costs"]), np.median)


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """The totals as a table, the ratio being to v1.5."""
    best = next((of for of in found if LOOPS[of["loop"]].replans), None)
    lines = ["| loop | plan played | cost of a trial | worst seed | last error [mm] | worst | v1.5 against it, 95 % |",
             "|---|---|---|---|---|---|---|"]
    for of in found:
        interval = "" if best in (None, of) else "{:.2f} to {:.2f}".format(*paired(best, of))
        lines.append(f"| {of['loop']} | {of['execution'] or 'first step'} | {of['cost_median']:.4f} | "
                     f"{of['cost_worst']:.4f} | {of['last_mm_median']:.1f} | {of['last_mm_worst']:.1f} | {interval} |")
    return "\n".join(lines)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Cost by trial, a line for each case: the median over seeds, with quartiles."""
    figure = Figure(figsize=(7.0, 4.2))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colors = dict(zip(LOOPS, ("#9aa5b4", "#e0701a", "#1f3a5f"), strict=True))
    styles = {OPEN: ":", FEEDBACK: "-", NOISE: "--", "": "-"}
    for (loop, how), group in itertools.groupby(rows, lambda row: (row["loop"], row["execution"])):
        low, middle, high = np.percentile([row["costs"] for row in group], [25, 50, 75], axis=0)
        trial = np.arange(1, len(middle) + 1)
        axes.plot(trial, middle, styles[how], color=colors[loop], label=f"{loop} {how}".strip())
        axes.fill_between(trial, low, high, color=colors[loop], alpha=0.12, linewidth=0)
    axes.set(xlabel="trial", ylabel="cost of a trial", yscale="log", xticks=trial)
    axes.legend(fontsize=8, ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.loops",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--task", default="reach")
    p.add_argument("--prior", default="ensemble")
    p.add_argument("--loops", default=",".join(LOOPS), help="(%(default)s)")
    p.add_argument("--seeds", default="0-9")
    p.add_argument("--trials", type=int, default=5, help="(%(default)s)")
    p.add_argument("--seconds", type=float, default=2.0, help="of a trial (%(default)s)")
    p.add_argument("--refit-every", type=int, default=1, help="trials, in the loops that refit (%(default)s)")
    p.add_argument("--data-seconds", type=float, default=10.0, help="of excitation (%(default)s)")
    p.add_argument("--set", default="{}", help="more settings, as YAML")
    add_jobs(p)
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    try:
        loops = chosen("--loops", a.loops, LOOPS)
        if a.refit_every < 1 or a.trials < 1:
            raise ConfigError("--refit-every, --trials: expected 1 or more")
        over = merge({"plant": {"pace": "lockstep"}}, parse_overrides(a.set))
        settings = assembly.settings(Names(a.robot, a.task, prior=a.prior), over)
        config = measures.config_of(settings, {"data_seconds": a.data_seconds})
        folder, rows = new_folder(a.output), []
        jobs = [(settings, loop, how, config, a.seconds, a.trials, a.refit_every, seed)
                for loop, how in cases(loops) for seed in parse_seeds(a.seeds)]
        for row in in_order(run_case, jobs, a.jobs):
            rows.append(row)
            print("  ".join([f"{row['loop']} {row['execution']:8s} seed {row['seed']}  costs",
                             *(f"{cost:.4f}" for cost in row["costs"])]), flush=True)
    except (ConfigError, Stopped) as error:
        print(f"loops: {error}", file=sys.stderr)
        return 2
    found = totals(rows)
    write(folder / "loops.json", a, all=found, rows=rows)
    draw(rows, folder / "loops.png")
    print(markdown(found))
    print(f"loops.json and loops.png are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
