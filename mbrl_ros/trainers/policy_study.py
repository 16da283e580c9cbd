"""Policies by trials in learned models: PILCO, and backpropagation into a network, with MPC in the same model beside.

    python3 -m mbrl_ros.trainers.policy_study --only cartpole,pendulum --seeds 0-4

`cartpole` is PILCO by moments (trials of 4 s), `particles2` and `particles7` PILCO by particles on arms of two and
seven joints. They go on until a trial is solved: the mean distance over its last second is at most 100 mm of the tip of
the pole, 20 mm of the tool. `pendulum` and `reach2` are backpropagation, for at most 60 s of trials: solved is a return
over episodes of other seeds of at least 95 % of that of MPC (CEM of PETS) with the last model. `gradients` draws bias
and variance of pathwise and likelihood-ratio gradients over the horizon. Leaves policies.json and figures in
runs/<time>/.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, new_folder
from mbrl_ros.drawing.gradients import Spread, draw_curves, draw_gradients
from mbrl_ros.environments.cartpole import CartPole
from mbrl_ros.environments.environment import episode
from mbrl_ros.environments.ring import RingEnvironment
from mbrl_ros.evaluation.command import chosen, parse_seeds, write_rows
from mbrl_ros.models.gp import GaussianProcess
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import MEMBER, stepper
from mbrl_ros.trainers import pets, pilco, value_gradients
from mbrl_ros.trainers.study import TRIALS, tip_distance, tool_distance
from mbrl_ros.types import Array

NEARLY = 0.95  # of the return of MPC
ELSEWHERE = 500  # seeds of episodes to compare in, from that of the run
HORIZONS = (1, 2, 4, 8, 16, 32, 64)
BATCHES, BATCH, DEVIATION = 40, 20, 0.2  # gradients of so many rollouts each, with noise of actions

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """An environment by seed, who learns in it, and what counts as solved."""

    make: Callable[[int], Any]
    agent: Callable[[Any, int], Any]
    distance: Callable[[Any, Array], Array]  # [m] from the goal, of observations
    period: float  # [s]
    steps: int  # of a trial
    trials: int
    bound: float = 0.0  # [m] in the last second of a trial, with which it is solved; 0: by the return of MPC
    mpc: pets.Settings | None = None
    compared: int = 2  # episodes with MPC


def _ring(robot: str, step: float, steps: int, effort: float) -> Callable[[int], RingEnvironment]:
    """Trials of one seed have one target."""
    def make(seed: int) -> RingEnvironment:
        over = {"plant": {"pace": "lockstep"}, "robot": {"step": step},
                "environment": {"steps": steps, "effort": effort}}
        environment = RingEnvironment(assembly.settings(Names(robot), over), seed)
        environment.reset(seed)
        environment._given = environment.target
        return environment
    return make


def _gym_pendulum(_: int) -> Any:
    """gymnasium's, whose reward is that of the state before; here of the state after, which a learner needs."""
    import gymnasium

    from mbrl_ros.environments.gyms import GymEnvironment
    return GymEnvironment(gymnasium.make("Pendulum-v1"), lambda x, a: -(
        torch.atan2(x[..., 1], x[..., 0]).square() + 0.1 * x[..., 2].square() + 0.001 * a[..., 0].square()))


def _upright(_: Any, x: Array) -> Array:
    away: Array = np.hypot(x[..., 0] - 1, x[..., 1])
    return away


def _pilco(**settings: Any) -> Callable[[Any, int], pilco.Agent]:
    return lambda known, seed: pilco.Agent(known, pilco.Settings(**settings), GaussianProcess.Config(inducing=100),
                                           seed)


def _backprop(**settings: Any) -> Callable[[Any, int], value_gradients.Agent]:
    return lambda known, seed: value_gradients.Agent(known, value_gradients.Settings(**settings),
                                                     ProbabilisticEnsemble.Config(), seed)


ARMS = {"horizon": 25, "width": 0.12, "start": 0.02}
TASKS = {
    "cartpole": Task(lambda _: CartPole(40, period=0.1),
                     _pilco(way=pilco.MOMENTS, horizon=40, width=0.42, bases=40, lengthscale=0.45, anew=True,
                            iterations=140, restarts=1), tip_distance, 0.1, 40, 12, 0.1),
    "particles2": Task(_ring("planar2", 0.1, 40, 0.25), _pilco(**ARMS), tool_distance, 0.1, 40, 5, 0.02),
    "particles7": Task(_ring("arm", 0.1, 40, 0.25), _pilco(**ARMS), tool_distance, 0.1, 40, 5, 0.02),
    "pendulum": Task(_gym_pendulum, _backprop(horizon=40), _upright, 0.05, 200, 6,
                     mpc=pets.Settings(horizon=25, knots=8, noise=0.5)),
    "reach2": Task(_ring("planar2", 0.02, 150, 0.25), _backprop(horizon=30), tool_distance, 0.02, 150, 8,
                   mpc=pets.Settings()),
}
METHODS = {"cartpole": "pilco", "particles2": "pilco, particles", "particles7": "pilco, particles",
           "pendulum": "backprop", "reach2": "backprop"}


@dataclass
class Result:
    """Of one seed."""

    distance: list[float] = field(default_factory=list)  # [m] in the last second of every trial
    returns: list[float] = field(default_factory=list)  # of the policy in other episodes, after every trial
    mpc: float | None = None  # with the last model, in the same
    solved: int | None = None  # trials
    robot_seconds: float = 0.0
    seconds: float = 0.0


def run(name: str, seed: int, say: Callable[[str], object] = print) -> Result:
    """The trials of one seed."""
    task, began, result = TASKS[name], time.monotonic(), Result()
    environment = task.make(seed)
    agent = task.agent(environment, seed)
    last = round(1.0 / task.period)
    for trial in range(task.trials):
        agent.begin()
        e = episode(environment, agent.act, TRIALS * seed + trial, task.steps)
        away = task.distance(environment, e.x[1:])
        ended = e.terminated and len(e.a) < task.steps
        result.distance.append(float("inf") if ended else float(away[-last:].mean()))
        result.robot_seconds += task.period * len(e.a)
        say(f"{name}, seed {seed}, trial {trial + 1}: {1e3 * result.distance[-1]:.0f} mm, return {e.reward.sum():.1f}, "
            f"{time.monotonic() - began:.0f} s")
        if result.distance[-1] <= task.bound:
            result.solved = trial + 1
            break
        if task.bound > 0 and trial == task.trials - 1:
            break  # nothing comes of what would be learned now
        z = environment.inner(torch.as_tensor(e.x[:-1])).numpy()
        figures = agent.learn(z, environment.data(e.x[:-1], e.a, e.x[1:]))
        say("    " + "  ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        if task.mpc is not None:
            result.returns.append(compare(task, environment, agent.act, agent, seed))
    if task.mpc is not None:
        planner = pets.Agent(environment, task.mpc, agent.model_config, seed)
        planner.regression = agent.regression
        result.mpc = compare(task, environment, planner.act, planner, seed)
        result.solved = next((i + 1 for i, r in enumerate(result.returns) if share(r, result.mpc) >= NEARLY), None)
        say(f"{name}, seed {seed}: returns {' '.join(f'{r:.1f}' for r in result.returns)}, MPC {result.mpc:.1f}")
    result.seconds = time.monotonic() - began
    return result


def compare(task: Task, environment: Any, act: Callable[[Array], Array], agent: Any, seed: int) -> float:
    """The mean return in episodes that nobody learns from."""
    returns = []
    for i in range(task.compared):
        agent.begin()
        agent.exploring = False
        returns.append(episode(environment, act, TRIALS * seed + ELSEWHERE + i, task.steps).reward.sum())
        agent.exploring = True
    return float(np.mean(returns))


def share(of: float, best: float) -> float:
    """Which part of a return another one is, of returns that are minus a cost."""
    return best / of


def rows(only: Sequence[str], seeds: Sequence[int], say: Callable[[str], object] = print,
         done: Callable[[list[Row]], object] = lambda rows: None) -> list[Row]:
    """One for every task; `done` has those so far, after every seed."""
    found: list[Row] = []
    for name in only:
        results: list[Result] = []
        for i, seed in enumerate(seeds):
            results.append(run(name, seed, say))
            found = [*(r for r in found if r["task"] != name), summary(name, seeds[: i + 1], results)]
            done(found)
    return found


def summary(name: str, seeds: Sequence[int], results: Sequence[Result]) -> Row:
    """The row of one task."""
    task, solved = TASKS[name], [r.solved for r in results]
    counted = [np.inf if s is None else s for s in solved]
    return {"method": METHODS[name], "task": name, "seeds": list(seeds),
            "success": float(np.mean([s is not None for s in solved])), "rollouts_to_success": solved,
            "rollouts_to_success_median": float(np.median(counted)), "rollouts_to_success_worst": float(max(counted)),
            "robot_seconds": float(np.mean([r.robot_seconds for r in results])),
            "final_error_mm": float(np.median([1e3 * r.distance[-1] for r in results])),
            "bound_mm": 1e3 * task.bound, "distance_mm": [[1e3 * d for d in r.distance] for r in results],
            "returns": [r.returns for r in results], "mpc_return": [r.mpc for r in results],
            "seconds": sum(r.seconds for r in results)}


def gradients(seed: int, horizons: Sequence[int] = HORIZONS, batches: int = BATCHES) -> dict[str, list[Spread]]:
    """Bias and deviation of both estimators on the model of a pendulum after two trials, by horizon."""
    task = TASKS["pendulum"]
    environment = task.make(seed)
    agent = task.agent(environment, seed)
    visited = []
    for trial in range(2):
        e = episode(environment, agent.act, TRIALS * seed + trial, task.steps)
        agent.learn(e.x[:-1], environment.data(e.x[:-1], e.a, e.x[1:]))
        visited.append(e.x)
    starts = torch.as_tensor(np.concatenate(visited))
    found: dict[str, list[Spread]] = {"pathwise": [], "likelihood ratio": []}
    for horizon in horizons:
        drawn: dict[str, list[Any]] = {name: [] for name in found}
        for i in range(2 * batches):
            generator = torch.Generator().manual_seed(1000 * horizon + i)
            z = starts[torch.randint(len(starts), (BATCH,), generator=generator)]
            noise = DEVIATION * torch.randn(horizon, BATCH, environment.m, generator=generator, dtype=torch.float64)
            step, again = (stepper(environment.model(agent.regression), MEMBER, i) for _ in range(2))  # the same worlds
            common = (agent.policy, z, horizon, noise)
            drawn["pathwise"].append(value_gradients.pathwise(environment, step, *common))
            if i < batches:
                ratio = value_gradients.likelihood_ratio(environment, again, *common, DEVIATION)
                drawn["likelihood ratio"].append(ratio)
        truth = torch.stack(drawn["pathwise"][batches:]).mean(0)  # of draws that nothing else uses
        for name, g in drawn.items():
            found[name].append(Spread.of(horizon, torch.stack(g[:batches]), truth))
    return found


def table(found: Sequence[Row]) -> str:
    """In columns of Markdown."""
    lines = ["| method | task | seeds | solved | in trials | robot s | last error mm | return / MPC |",
             "|---|---|---|---|---|---|---|---|"]
    for r in found:
        trials = ", ".join("-" if s is None else str(s) for s in r["rollouts_to_success"])
        shares = ", ".join(f"{share(of[-1], best):.0%}" for of, best in zip(r["returns"], r["mpc_return"], strict=True)
                           if best is not None)
        lines.append(f"| {r['method']} | {r['task']} | {len(r['seeds'])} | {r['success']:.0%} | {trials} | "
                     f"{r['robot_seconds']:.0f} | {r['final_error_mm']:.0f} | {shares} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers.policy_study",
                                description=(__doc__ or "").partition("\n")[0])
    known = [*TASKS, "gradients"]
    p.add_argument("--only", default=",".join(known), help="what to run (%(default)s)")
    p.add_argument("--seeds", default="0-4", help="such as 0-9 or 1,4,7; tune on those from 100 up (%(default)s)")
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    a = p.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        only, seeds = chosen("--only", a.only, known), parse_seeds(a.seeds)
        folder = new_folder(a.output)
    except ConfigError as error:
        print(f"policies: {error}", file=sys.stderr)
        return 2

    def keep(found: list[Row]) -> None:
        write_rows(folder / "policies.json", found)
        draw_curves(found).savefig(folder / "policies.png", dpi=110)
    found = rows([name for name in only if name in TASKS], seeds, lambda line: print(line, flush=True), keep)
    if "gradients" in only:
        draw_gradients(gradients(seeds[0])).savefig(folder / "gradients.png", dpi=110)
    print(table(found))
    print(f"policies.json and figures are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
