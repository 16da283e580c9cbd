"""Reaching from pictures: how near to its goal the tool gets when all that is known of the arm is what a camera sees.

    python3 -m mbrl_ros.trainers.pixels --only single_step,solar --seeds 0-4

A latent model (models/latent.py) is learned from random motion, then trials of 1 s get better by `lqr_flm` in the
latent space (single_step, solar) or by planning anew in every period (mpc), beside `lqr_flm` on the state (state). The
error is that of the true tool at the end of trials without noise. Leaves pixels.json, pixels.png, a policy file of
every seed, which the controller plays from the topic of a camera, and of the first seed what was seen, what was
reconstructed and what was predicted ten steps ahead, seen.png, in runs/<time>/.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, from_mapping, merge, new_folder, section
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import add_run_options, chosen, parse_seeds, write_rows
from mbrl_ros.evaluation.pool import alike, told
from mbrl_ros.evaluation.procedure import Run, collect
from mbrl_ros.evaluation.tables import HUES
from mbrl_ros.models.latent import LATENTS, Latent, Sequences, predicted_means
from mbrl_ros.models.latent import Config as LatentConfig
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.policy import write
from mbrl_ros.trainers.latent import Config, Goal, LatentLqr, LatentMpc, SeenRobot, played
from mbrl_ros.trainers.lqr_flm import FEEDBACK, LqrFlm, Settings
from mbrl_ros.trainers.trainer import Config as Trials
from mbrl_ros.trainers.trainer import target_of
from mbrl_ros.types import Array

WITHIN = 30.0  # [mm]
TESTS = 5  # trials without noise, whose errors are averaged
AHEAD = 10  # steps of prediction that are shown
RANDOM, TRIALS, UPDATES = 200, 10, 20  # rollouts of random motion, then of each update
ANEW = 4  # updates after which the latent model learns from all trials so far
STATE, MPC = "state", "mpc"
METHODS = (STATE, *LATENTS, MPC)
LATENT_OF_MPC = "solar"
GIVEN: Mapping[str, Any] = {  # of the robot, on top of its files
    "trainer": {"trials": TRIALS, "seconds": 1.0},
    "lqr_flm": {"noise": 0.03, "kl": 1.0, "kl_most": 1.5, "kl_least": 0.3},
    "camera": {"width": 32, "color": False, "spread": 1.0}, "plant": {"pace": "lockstep"}}
BOLD = {"lqr_flm": {"noise": 0.1, "kl": 5.0, "kl_most": 10.0, "kl_least": 0.5}}  # what the state allows, and z does not
Row = dict[str, Any]


class Job(NamedTuple):
    """One seed of a method on a robot."""

    robot: str
    method: str
    seed: int


@dataclass
class Learned:
    """What became of it."""

    rollouts: list[int] = field(default_factory=list)  # so far, after every update
    error: list[float] = field(default_factory=list)  # [mm] mean of the trials that it was by
    final: float = float("inf")  # [mm] mean of the tests
    bounds: list[float] = field(default_factory=list)  # of the latent model after every pass [nats per step]
    seen: Array | None = None  # what was seen, reconstructed, predicted: (3, pictures, H, W, C)
    seconds: float = 0.0
    policy: Mapping[str, Array] = field(default_factory=dict)  # as a file has it, where it is of a kind that has files


def settings_of(job: Job) -> dict[str, Any]:
    """Of the robot."""
    return merge(assembly.settings(Names(job.robot, "reach", "ilqr", "gaussian")), GIVEN)


def run(job: Job) -> Learned:
    """One job, in a process that may be its own."""
    torch.set_num_threads(1)
    began = time.monotonic()
    result = by_state(job) if job.method == STATE else by_pictures(job)
    result.seconds = time.monotonic() - began
    return result


def by_state(job: Job) -> Learned:
    """lqr_flm on joints and tool, for as many rollouts."""
    settings, result = merge(merge(LqrFlm.SETTINGS, settings_of(job)), BOLD), Learned()
    trials = from_mapping(Trials, section(settings, "trainer"), "trainer")
    ring = Run(settings, measures.Config(data_seconds=trials.seconds), job.seed)
    trainer = LqrFlm(from_mapping(Settings, section(settings, "lqr_flm"), "lqr_flm"), ring.robot, settings, job.seed)
    steps, seed, tool = trainer.steps, 1000 * job.seed, ring.robot.slice(f"site/{ring.robot.sites[0]}/position")
    for i in range(UPDATES):
        these = collect(ring, trainer.policy(), TRIALS, steps, seed + i * TRIALS)
        result.rollouts.append((i + 1) * TRIALS)
        result.error.append(1e3 * float(np.mean([np.linalg.norm(of.x[-1, tool] - trainer.target) for of in these])))
        trainer.update(these)
    errors = []
    for k in range(TESTS):
        collect(ring, LinearPolicy(trainer.timed(FEEDBACK), ring.robot), 1, steps, seed + 900 + k)
        errors.append(1e3 * float(np.linalg.norm(ring.plant.true_tool() - trainer.target)))
    result.final = float(np.mean(errors))
    return result


def by_pictures(job: Job) -> Learned:
    """A latent model from random motion, then trials."""
    settings, result = settings_of(job), Learned()
    trials = from_mapping(Trials, section(settings, "trainer"), "trainer")
    config = from_mapping(Config, section(settings, "pixels"), "pixels")
    latent = from_mapping(LatentConfig, section(settings, "latent"), "latent")
    robot = assembly.make_robot(settings)
    sees = SeenRobot(robot, assembly.make_plant(settings, robot), settings,
                     target_of(trials, robot, settings, job.seed))
    steps, seed = round(trials.seconds / robot.period), 1000 * job.seed
    data, _ = played(sees, [sees.random(config, steps, seed + i) for i in range(RANDOM)], None, steps, seed)
    kind = LATENTS[LATENT_OF_MPC if job.method == MPC else job.method]
    model = kind.of(latent, data, robot.effort_limit, job.seed)
    result.bounds = model.fit(data, job.seed)
    held_out, _ = played(sees, [sees.random(config, steps, seed + 800)], None, steps, seed + 800)
    result.seen = side_by_side(model, held_out)
    goal = Goal(config, robot, sees.hold, model)
    learner: LatentLqr | LatentMpc = LatentMpc(model, goal) if job.method == MPC else LatentLqr(
        model, goal, from_mapping(Settings, section(settings, "lqr_flm"), "lqr_flm"), steps)
    for i in range(UPDATES):
        first = seed + RANDOM + i * TRIALS
        these, z = played(sees, [learner.act(1.0, first + k) for k in range(TRIALS)], model, steps, first)
        result.rollouts.append(RANDOM + (i + 1) * TRIALS)
        result.error.append(1e3 * float(these.distance[:, -1].mean()))
        learner.update(these, z)
        data = Sequences.together([data, these])
        if i % ANEW == ANEW - 1 and i < UPDATES - 1:
            learner.learn_more(data, job.seed + i)
    learner.settle()
    tests, _ = played(sees, [learner.act(0.0, 0)] * TESTS, model, steps, seed + 900)
    result.final = 1e3 * float(tests.distance[:, -1].mean())
    result.policy = learner.numbers()
    return result


@torch.no_grad()
def side_by_side(model: Latent, trial: Sequences, count: int = 6) -> Array:
    """Pictures of a trial, what the model makes of them, and what it predicted of them AHEAD steps before."""
    z = model.filtered(trial)[0]
    at = np.linspace(AHEAD, len(z) - 1, count).round().astype(int)
    ahead = [predicted_means(model, z[t - AHEAD], trial.u[0, t - AHEAD : t])[-1] for t in at]
    return np.stack([trial.pictures[0, at], model.pictures.picture(z[at, : model.config.size]),
                     model.pictures.picture(torch.stack(ahead)[:, : model.config.size])])


def summary(jobs: Sequence[Job], runs: Sequence[Learned]) -> Row:
    """The row of one method."""
    final = [of.final for of in runs]
    return {"method": jobs[0].method, "robot": jobs[0].robot, "seeds": [job.seed for job in jobs],
            "rollouts": max(of.rollouts[-1] for of in runs), "final_error_mm_mean": float(np.mean(final)),
            "final_error_mm": final, "within": sum(mm <= WITHIN for mm in final),
            "error_mm": [of.error for of in runs], "counts": [of.rollouts for of in runs],
            "bounds": [of.bounds for of in runs], "seconds": [of.seconds for of in runs]}


def with_state(rows: Sequence[Row]) -> list[Row]:
    """Each with the mean error on the state beside it, where that was measured."""
    by = {row["robot"]: row["final_error_mm_mean"] for row in rows if row["method"] == STATE}
    return [{**row, "state_error_mm_mean": by.get(row["robot"])} for row in rows]


def table(rows: Sequence[Row]) -> str:
    """In columns of Markdown."""
    lines = ["| robot | method | rollouts | final error mm, mean of seeds | each seed | within 30 mm |",
             "|---|---|---|---|---|---|"]
    for r in rows:
        each = ", ".join(f"{mm:.0f}" for mm in r["final_error_mm"])
        lines.append(f"| {r['robot']} | {r['method']} | {r['rollouts']} | {r['final_error_mm_mean']:.1f} | {each} | "
                     f"{r['within']} of {len(r['seeds'])} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row]) -> Figure:
    """Errors over rollouts, a line for each seed; at the right end those of the tests."""
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for r in rows:
        color = HUES[METHODS.index(r["method"]) % len(HUES)]
        for k, (counts, error, final) in enumerate(zip(r["counts"], r["error_mm"], r["final_error_mm"], strict=True)):
            axis.plot(counts, error, lw=0.9, alpha=0.8, color=color, label=r["method"] if k == 0 else None)
            axis.plot(r["rollouts"] + 4, final, "o", ms=3, color=color)
    axis.axhline(WITHIN, color="0.6", lw=0.8)
    axis.set(xlabel="rollouts of 1 s", ylabel="tool to goal at the end [mm]", yscale="log")
    axis.legend(fontsize="x-small", frameon=False)
    return figure


def picture(seen: Mapping[str, Array], enlarge: int = 4) -> Image.Image:
    """For each method three rows: seen, reconstructed, predicted."""
    rows = [np.concatenate(list(row), axis=1) for of in seen.values() for row in of]
    sheet = np.concatenate(rows, axis=0)
    image = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    return image.resize((enlarge * image.width, enlarge * image.height), Image.Resampling.NEAREST)


def jobs_of(a: argparse.Namespace) -> list[Job]:
    """What the command line asks for. Raises ConfigError that names what there is."""
    return [Job(a.robot, method, seed) for method in chosen("--only", a.only, METHODS) for seed in parse_seeds(a.seeds)]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers.pixels",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default=",".join(METHODS), help="methods (%(default)s)")
    p.add_argument("--robot", default="planar2", help="(%(default)s)")
    add_run_options(p, "0-4")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    try:
        jobs, folder = jobs_of(a), new_folder(a.output)
        settings_of(jobs[0])
    except ConfigError as error:
        print(f"pixels: {error}", file=sys.stderr)
        return 2
    for done in told(run, jobs, a.jobs, lambda of: f"{of.final:.1f} mm after {of.rollouts[-1]} rollouts"):
        job, found = list(done.items())[-1]
        if found.policy:
            write(found.policy, folder / f"policy_{job.method}_{job.seed}.npz")
        rows = with_state([summary(group, [done[each] for each in group]) for group in alike(jobs, done)])
        write_rows(folder / "pixels.json", rows)
    plot(rows).savefig(folder / "pixels.png", dpi=110)
    shown = {job.method: of.seen for job, of in done.items() if of.seen is not None and job.seed == jobs[0].seed}
    if shown:
        picture(shown).save(folder / "seen.png")
    print(table(rows))
    print(f"pixels.json, pixels.png and seen.png are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
