"""Skills by trials: how many trials a contact task takes, and what it takes them for.

    python3 -m mbrl_ros.trainers.skills --only peg,door,push --seeds 0-9

A peg goes into a slot that is 2 mm, 1 mm or 0.5 mm wider, a door is pulled open, a block is pushed to its place
(TASKS): by `lqr_flm`, by the same without the bound on how far a policy may go from the one before, and by MPC with
online adaptation, which does the same task from the first attempt. A skill is there when three trials in a row without
noise, which nobody learns from, end within so many mm (`missed` of simulation/world.py). Leaves skills.json,
skills.png, and of the first seed of every task the first and the last trial side by side, such as peg.gif, in
runs/<time>/.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, from_mapping, merge, new_folder, section
from mbrl_ros.drawing.report import animate_beside
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import add_run_options, chosen, parse_seeds, write_rows
from mbrl_ros.evaluation.pool import alike, told
from mbrl_ros.evaluation.procedure import Run, Stopped, collect
from mbrl_ros.evaluation.tables import HUES
from mbrl_ros.ring.controller import REACH
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.robot import Robot
from mbrl_ros.simulation import world
from mbrl_ros.trainers.lqr_flm import EXECUTIONS, FEEDBACK, LqrFlm, Settings
from mbrl_ros.trainers.trainer import Config, target_of
from mbrl_ros.types import Array, Trial

TESTS = 3  # trials in a row
DATA = 10.0  # [s] of excitation before the attempts of MPC
FAR = {"kl": 1e6, "kl_least": 1e6, "kl_most": 1e6}  # no bound
QUADRATIC = {"norm": "quadratic", "weight": 8000.0}  # in place of `log` for MPC, as in reach.yaml: compiled, for every
# period
METHODS: dict[str, Mapping[str, Any]] = {"lqr_flm": {}, "without bound": {"lqr_flm": FAR}, "mpc": {}}
Row = dict[str, Any]


class Place(NamedTuple):
    """Where a task is learned."""

    robot: str
    task: str
    world: Mapping[str, Any]
    rollouts: int  # at most
    within: float  # [mm]


TASKS = {"peg": Place("planar3", "peg", {"slot_clearance": 0.002}, 30, 5.0),
         "peg_1_mm": Place("planar3", "peg", {"slot_clearance": 0.001}, 30, 5.0),
         "peg_half_mm": Place("planar3", "peg", {"slot_clearance": 0.0005}, 30, 5.0),
         "peg_arm": Place("arm", "peg", {"slot_clearance": 0.002}, 50, 5.0),
         "door": Place("arm", "door", {}, 60, 10.0), "push": Place("arm", "push", {}, 60, 10.0)}


class Job(NamedTuple):
    """One seed of a method on a task."""

    task: str
    method: str
    seed: int


@dataclass
class Learned:
    """What became of it."""

    rollouts: int | None = None  # until the skill was there
    error: list[float] = field(default_factory=list)  # [mm], worst of the tests after every update, or of an attempt
    cost: list[float] = field(default_factory=list)  # of that one
    robot_seconds: float = 0.0
    first: Array | None = None  # (T + 1, k) joints and objects in the first trial, and in the last test
    last: Array | None = None
    executions: dict[str, list[float]] = field(default_factory=dict)  # [mm] errors of the last policy
    seconds: float = 0.0


def settings_of(job: Job) -> dict[str, Any]:
    """Of a robot with the task, in lock-step."""
    place = TASKS[job.task]
    over = {"plant": {"pace": "lockstep"}, "world": place.world}
    settings = merge(assembly.settings(Names(place.robot, place.task, "ilqr", "gaussian"), over), METHODS[job.method])
    if job.method != "mpc":
        return settings
    logs = [name for name in settings["task"]["terms"] if settings["task"][name].get("norm") == "log"]
    return merge(settings, {"task": dict.fromkeys(logs, QUADRATIC)})


def run(job: Job) -> Learned:
    """One job, in a process that may be its own."""
    torch.set_num_threads(1)
    began = time.monotonic()
    result = _planned(job) if job.method == "mpc" else _trained(job)
    result.seconds = time.monotonic() - began
    return result


def _trained(job: Job) -> Learned:
    settings, result = merge(LqrFlm.SETTINGS, settings_of(job)), Learned()
    config = from_mapping(Config, section(settings, "trainer"), "trainer")
    ring = Run(settings, measures.Config(data_seconds=config.seconds), job.seed)
    robot, steps = ring.robot, round(config.seconds / ring.robot.period)
    trainer = LqrFlm(from_mapping(Settings, section(settings, "lqr_flm"), "lqr_flm"), robot, settings, job.seed)
    seed, place = 1000 * job.seed, TASKS[job.task]
    for i in range(place.rollouts // config.trials):
        trials = collect(ring, trainer.policy(), config.trials, steps, seed + i * config.trials, config.back)
        result.robot_seconds += robot.period * sum(len(trial.u) for trial in trials)
        result.first = _shown(robot, trials[0]) if result.first is None else result.first
        try:
            trainer.update(trials)
        except (ConfigError, np.linalg.LinAlgError):  # where there is no bound, the arm may not even last
            result.error.append(float("inf"))
            result.cost.append(float("inf"))
            break
        tests: list[tuple[float, float]] = []
        while len(tests) < TESTS and (not tests or tests[-1][0] <= place.within):
            mm, cost, result.last = _tested(ring, trainer, FEEDBACK, steps, seed + 900 + len(tests))
            tests.append((mm, cost))
        result.error.append(max(tests)[0])
        result.cost.append(max(tests)[1])
        if result.error[-1] <= place.within:
            result.rollouts = (i + 1) * config.trials
            break
    for how in EXECUTIONS if result.rollouts else ():
        result.executions[how] = [_tested(ring, trainer, how, steps, seed + 950 + k)[0] for k in range(TESTS)]
    return result


def _tested(ring: Run, trainer: LqrFlm, execution: str, steps: int, seed: int) -> tuple[float, float, Array]:
    """How far from done a trial ends [mm], in truth; its cost, as of any arm that is to be at a target; and its joints
    and objects (T + 1, k)."""
    robot = ring.robot
    trial, = collect(ring, LinearPolicy(trainer.timed(execution), robot), 1, steps, seed)
    cost = measures.score_trial(robot, trial, trainer.target, steps)[0]
    return _missed(ring), cost, _shown(robot, trial)


def _missed(ring: Run) -> float:
    """How far the task is from done now [mm]."""
    plant = ring.plant
    return 1e3 * world.missed(ring.robot, plant.world, plant.true_tool(), plant.true_objects()[0])


def _shown(robot: Robot, trial: Trial) -> Array:
    """Joints and objects (T + 1, k) in a trial."""
    seen = ["joint/position", "object/position"][: 2 if robot.objects else 1]
    return np.hstack([trial.x[:, robot.slice(name)] for name in seen])


def _planned(job: Job) -> Learned:
    settings, result = settings_of(job), Learned()
    config = from_mapping(Config, section(settings, "trainer"), "trainer")
    ring = Run(settings, measures.Config(data_seconds=DATA), job.seed)
    robot, steps = ring.robot, round(config.seconds / ring.robot.period)
    target = target_of(config, robot, settings, job.seed)
    try:
        ring.hold()
        ring.excite(DATA)
        ring.fit(DATA)
    except Stopped:
        pass  # what it has learned until then
    result.robot_seconds = DATA
    ring.controller.set_target(target)
    for i in range(TESTS):
        trial, = collect(ring, REACH, 1, steps, 1000 * job.seed + i)
        result.robot_seconds += robot.period * len(trial.u)
        result.error.append(_missed(ring))
        result.cost.append(measures.score_trial(robot, trial, target, steps)[0])
    if max(result.error) <= TASKS[job.task].within:
        result.rollouts = 1
    return result


def summary(jobs: Sequence[Job], runs: Sequence[Learned]) -> Row:
    """The row of one method on one task."""
    took = sorted(r.rollouts for r in runs if r.rollouts is not None)
    tried = [np.inf if r.rollouts is None else r.rollouts for r in runs]
    final = [max(r.error) if jobs[0].method == "mpc" else r.error[-1] for r in runs]  # its attempts are all alike
    return {"method": jobs[0].method, "task": jobs[0].task, "seeds": [job.seed for job in jobs],
            "success": len(took) / len(runs), "rollouts_to_success_median": float(np.median(tried)),
            "rollouts_to_success_worst": float(max(tried)), "robot_seconds": [r.robot_seconds for r in runs],
            "final_error_mm": float(np.median(final)), "final_error_mm_worst": float(max(final)),
            "cost_median": float(np.median([r.cost[-1] for r in runs])),
            "error_mm": [r.error for r in runs], "cost": [r.cost for r in runs],
            "executions_mm": [r.executions for r in runs], "seconds": sum(r.seconds for r in runs)}


def table(rows: Sequence[Row]) -> str:
    """In columns of Markdown."""
    lines = ["| task | method | success | trials to it, median (worst) | robot s | "
             "final error mm, median (worst) | cost |",
             "|---|---|---|---|---|---|---|"]
    said = lambda value: f"{value:.0f}" if np.isfinite(value) else "-"  # noqa: E731
    for r in rows:
        done, n = round(r["success"] * len(r["seeds"])), len(r["seeds"])
        lines.append(f"| {r['task']} | {r['method']} | {done} of {n} | {said(r['rollouts_to_success_median'])} "
                     f"({said(r['rollouts_to_success_worst'])}) | {np.median(r['robot_seconds']):.0f} | "
                     f"{r['final_error_mm']:.1f} ({r['final_error_mm_worst']:.1f}) | {r['cost_median']:.2f} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row]) -> Figure:
    """A column for each task: above the error over trials, a line for each seed; below the three executions of the last
    policies."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = Figure(figsize=(1.0 + 3.6 * len(tasks), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(tasks), height_ratios=(2, 1), squeeze=False, sharey=True)
    for (above, below), task in zip(axes.T, tasks, strict=True):
        for r in (row for row in rows if row["task"] == task):
            color = HUES[(1 + list(METHODS).index(r["method"])) % len(HUES)]
            trained = section(settings_of(Job(task, r["method"], 0)), "trainer")
            step = 1 if r["method"] == "mpc" else int(trained["trials"])
            for k, error in enumerate(r["error_mm"]):
                above.plot(step * np.arange(1, len(error) + 1), error, lw=0.9, marker="o", ms=2.5, alpha=0.8,
                           color=color, label=r["method"] if k == 0 else None)
            for i, how in enumerate(EXECUTIONS):
                errors = [mm for of in r["executions_mm"] for mm in of.get(how, [])]
                shift = 0.25 * (list(METHODS).index(r["method"]) - 1) + np.linspace(-0.1, 0.1, len(errors))
                below.plot(i + shift, errors, ".", ms=3, color=color)
        for axis in (above, below):
            axis.axhline(TASKS[task].within, color="0.6", lw=0.8)
        above.set(xlabel="trials", yscale="log", title=task.replace("_", " "))
        below.set(xticks=range(len(EXECUTIONS)), xticklabels=[how.replace("_", " ") for how in EXECUTIONS],
                  yscale="log")
    axes[0, 0].set_ylabel("error of the worst test [mm]")
    axes[1, 0].set_ylabel("of the last policies [mm]")
    axes[0, 0].legend(fontsize="x-small", frameon=False)
    return figure


def jobs_of(a: argparse.Namespace) -> list[Job]:
    """What the command line asks for. Raises ConfigError that names what there is."""
    tasks, methods = chosen("--only", a.only, TASKS), chosen("--methods", a.methods, METHODS)
    return [Job(task, method, seed) for task in tasks for method in methods for seed in parse_seeds(a.seeds)]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers.skills",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default=",".join(TASKS), help="what to learn (%(default)s)")
    p.add_argument("--methods", default=",".join(METHODS), help="(%(default)s)")
    add_run_options(p, "0-9")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    try:
        jobs, folder = jobs_of(a), new_folder(a.output)
    except ConfigError as error:
        print(f"skills: {error}", file=sys.stderr)
        return 2
    for done in told(run, jobs, a.jobs, lambda found: f"{' '.join(f'{mm:.1f}' for mm in found.error)} mm"):
        rows = [summary(group, [done[each] for each in group]) for group in alike(jobs, done)]
        write_rows(folder / "skills.json", rows)
    plot(rows).savefig(folder / "skills.png", dpi=110)
    for task in dict.fromkeys(job.task for job in jobs):
        _animate([job for job in jobs if job.task == task], done, folder / f"{task}.gif")
    print(table(rows))
    print(f"skills.json, skills.png and pictures that move are in {folder}")
    return 0


def _animate(jobs: Sequence[Job], done: Mapping[Job, Learned], path: Path) -> None:
    """The first and the last trial of the first seed that has learned."""
    for job in jobs:
        of = done[job]
        if of.first is None or of.last is None:
            continue
        settings = settings_of(job)
        robot = assembly.make_robot(settings)
        target = target_of(from_mapping(Config, section(settings, "trainer"), "trainer"), robot, settings, job.seed)
        animate_beside(robot.config, [("the first trial", of.first), ("the last", of.last)], target, path,
                       assembly.make_plant(settings, robot).model)
        return


if __name__ == "__main__":
    raise SystemExit(main())
