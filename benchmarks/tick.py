"""Time of one tick of the core, stage by stage: estimate, moments and fit, cost and plan, all of it.

    . .venv/bin/activate && . install/setup.sh && OMP_NUM_THREADS=1 python3 benchmarks/tick.py [--hour]

Prints a table with minimum and median in microseconds. What has a peer takes turns with it, so that whatever else the
machine does meets both; everything is timed once per round, because in the ring too other code runs in between and
leaves the caches to nobody. `--hour` adds ticks after an hour at 50 Hz, in which all that remembers has
been given every state.
"""
from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import Names, merge
from mbrl_ros.evaluation.procedure import excited
from mbrl_ros.gaussian import condition, forget_and_add, leverage, map_mean, niw_map
from mbrl_ros.kernels import local_fit
from mbrl_ros.models import prior as priors
from mbrl_ros.models.prior import LocalPrior
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.problem import Problem
from mbrl_ros.ring.learner import CONDITION_JITTER, posterior
from mbrl_ros.ring.network_policy import View
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.types import Array, LinearGaussianDynamics, Moments, NormalInverseWishart, Observation, StateEstimate

Row = dict[str, Any]
HOUR = 180_000  # ticks at 50 Hz
SEED = 100


def interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Microseconds of every call, once per round in turn."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            spent[name].append(1e6 * (time.perf_counter() - began))
    return spent


def row(what: str, size: str, ours: list[float], peer: str = "", theirs: list[float] | None = None) -> Row:
    """Medians; the ratio is how many times the peer takes."""
    median, other = statistics.median(ours), statistics.median(theirs) if theirs else None
    return {"what": what, "size": size, "ours_us": median, "ours_min_us": min(ours),
            "ours_p99_us": float(np.percentile(ours, 99)), "peer": peer, "peer_us": other,
            "peer_min_us": min(theirs) if theirs else None, "ratio": other / median if other else None}


# --- the fit alone


def fit_in_numpy(prior: LocalPrior, moments: Moments, z: Array, mean: Array, count: float, scale: Array) -> Any:
    """One more vector z, and learner.posterior, by gaussian.py."""
    moments = forget_and_add(moments, z, 0.05, 40.0)
    known, niw = len(prior.w), prior.residual
    joint = replace(niw_map(moments, niw), mean=map_mean(mean, count, niw) / scale)
    joint = replace(joint, cov=joint.cov / np.outer(scale, scale))
    dF, df, Sigma = condition(joint, known, CONDITION_JITTER)
    s_w, s_y = scale[:known], scale[known:]
    wider = 1 + leverage(joint, known, prior.w / s_w, moments.count + niw.n0, count + niw.m0, CONDITION_JITTER)
    return (prior.J + s_y[:, None] * dF / s_w, prior.y - prior.J @ prior.w + s_y * df,
            wider * Sigma * np.outer(s_y, s_y))


def fit_compiled(prior: LocalPrior, moments: Moments, z: Array, mean: Array, count: float, scale: Array) -> Any:
    """The same by kernels/local_fit.py."""
    added = local_fit.forget_and_add(moments.mean, moments.cov, moments.count, z, 1.0, 0.05, 40.0)
    return posterior(prior, Moments(*added), mean, count, scale)


def fit_rows(rounds: int) -> list[Row]:
    """d = 35 is the 7-joint arm (21 regressors, 14 outputs), d = 71 a state of 32."""
    result = []
    for dw, dy in ((7, 3), (21, 14), (39, 32)):
        rng, d = np.random.default_rng(SEED), dw + dy
        root, w = rng.standard_normal((d, d)), rng.standard_normal(dw)
        niw = NormalInverseWishart(np.append(w, np.zeros(dy)), 10.0 * np.eye(d), 0.1, 10.0)
        known = (LocalPrior(w, rng.standard_normal(dy), rng.standard_normal((dy, dw)), niw),
                 Moments(rng.standard_normal(d), root @ root.T / d, 40.0), rng.standard_normal(d),
                 rng.standard_normal(d), 19.0, np.ones(d))
        t = interleaved({"kernel": lambda k=known: fit_compiled(*k), "numpy": lambda k=known: fit_in_numpy(*k)}, rounds)
        result.append(row("moments and fit", f"d = {d}", t["kernel"], "numpy, scipy", t["numpy"]))
    return result


# --- the tick of a robot


class Bench:
    """A ring that reaches for a target, with both priors fitted, briefly, to what it did under excitation."""

    def __init__(self, robot: str, horizon: int):
        settings = merge(assembly.settings(Names(robot=robot)), {"ensemble": {"steps": 200}, "ilqr": {
            "horizon": 0.02 * horizon, "iterations": 2}, "task": {"path": {"speed": 0.1}}})
        self.states: list[StateEstimate] = []
        self.run, data = excited(settings, 4.0, SEED, self.states.append)
        self.w = data.w[100].copy()
        self.models = {kind: priors.fit(kind, data, settings, SEED) for kind in ("mixture", "ensemble")}
        for model in self.models.values():
            self.run.use(model, data)  # the ensemble stays
            self.run.hold()
        self.robot, self.controller = self.run.robot, self.run.controller
        self.controller.set_target(self.robot.tool_position(self.robot.home) + np.array([0.1, 0.0, 0.0]))
        self.run.let("reach", 0.2)
        self.size = f"{self.robot.n}, {self.robot.m}, {horizon}"

    def ticks(self, count: int) -> dict[str, list[float]]:
        """Microseconds of each stage of so many ticks in closed loop."""
        ring, now = self.run.ring, time.perf_counter
        spent: dict[str, list[float]] = {name: [] for name in ("estimate", "fit", "plan", "tick")}
        for _ in range(count):
            t0 = now()
            state = ring.estimator.update(ring.observation)
            assert state is not None
            t1 = now()
            dynamics = ring.learner.update(state)
            t2 = now()
            effort = ring.controller.act(state, dynamics, ring.learner.model_trust)
            t3 = now()
            ring.observation = ring.plant.step(effort)
            for name, span in zip(spent, (t1 - t0, t2 - t1, t3 - t2, t3 - t0), strict=True):
                spent[name].append(1e6 * span)
        assert self.controller.mode == "reach", self.controller.reason
        return spent

    def rows(self, count: int) -> list[Row]:
        """Stages in closed loop, and the models alone beside torch."""
        spent = self.ticks(count)
        names = {"estimate": "estimate", "fit": "moments and fit, ensemble", "plan": "cost and plan",
                 "tick": "whole tick in closed loop"}
        result = [row(what, self.size, spent[name]) for name, what in names.items()]
        for kind, model in self.models.items():
            w = self.w
            t = interleaved({"kernel": lambda m=model, w=w: m.expand(w),
                             "torch": lambda m=model, w=w: in_torch(m, torch.as_tensor(w))}, count)
            result.append(row(f"{kind} at a point", f"{len(w)}, {len(self.models[kind].expand(w)[1])}", t["kernel"],
                              "torch", t["torch"]))
        return result

    def live(self, count: int) -> None:
        """All that remembers sees so many periods: what was recorded, forwards and backwards in turn; then it reaches
        again."""
        ring, period = self.run.ring, round(self.robot.period * 1e9)
        joints = 2 * self.robot.m
        past = [s.belief.mean[:joints].reshape(2, -1) for s in self.states[-200:]]
        efforts = [s.effort for s in self.states[-200:]]
        learner, delay, time_ = self.run.learner, self.controller.mpc.delay, ring.observation.time
        for k in range(count):
            lap, i = divmod(k, len(past))
            sign, i = (1.0, i) if lap % 2 == 0 else (-1.0, -1 - i)
            time_ += period
            state = ring.estimator.update(Observation(time_, past[i][0], sign * past[i][1], efforts[i]))
            assert state is not None
            last, learner._last = learner._last, state
            if last is not None and state.step == last.step + 1:
                rows = self.robot.joint_rows
                learner._learn(last.belief.mean[rows], state.effort, state.belief.mean[rows])
            delay.observe(state)
            delay.record(efforts[i])
        ring.observation = replace(ring.observation, time=time_ + 10 * period)  # a gap: a new episode
        self.run.hold()
        self.run.let("reach", 0.2)


def hour_row(rounds: int) -> Row:
    """Ticks of a ring that has run for an hour, in turn with those of one that has just begun."""
    old, new = Bench("arm", 20), Bench("arm", 20)
    old.live(HOUR)
    spent: dict[str, list[float]] = {"old": [], "new": []}
    for _ in range(rounds // 10):
        spent["old"] += old.ticks(10)["tick"]
        spent["new"] += new.ticks(10)["tick"]
    return row("whole tick after an hour", old.size, spent["old"], "before it", spent["new"])


def policy_rows(rounds: int) -> list[Row]:
    """A network policy at a state of the arm as a tick plays it, with its distance, beside the network in torch."""
    robot, result = assembly.make_robot(assembly.settings(Names("arm"))), []
    view, rng = View(robot), np.random.default_rng(SEED)
    for hidden in (64, 128):
        network = PolicyNetwork(view.size, robot.m, hidden, SEED)
        network.seen(rng.standard_normal((1000, view.size)), np.ones(robot.m))
        policy, x, target = network.policy(robot), rng.standard_normal(robot.n), np.zeros(3)
        policy.target, o = target, torch.as_tensor(view(x, target))
        t = interleaved({"kernel": lambda p=policy, x=x: (p.distance(x, 0), p.act(x, 0)),
                         "torch": torch.no_grad()(lambda n=network, o=o: n(o))}, rounds)
        size = f"2 x {hidden}, {view.size}, {robot.m}"
        result.append(row("policy, a network", size, t["kernel"], "torch", t["torch"]))
    return result


def in_torch(model: Any, w: torch.Tensor) -> Any:
    """The same as `expand`, by what the model has for batches."""
    return model.predict(w), model.jacobian(w)


# --- one size, two iterations


def two_iterations(bench: Bench, n: int, limits: bool) -> dict[str, Callable[[], Any]]:
    """One tick without estimate, and its plan alone, for the first n rows of x (joints and tool, without past efforts):
    moments, fit with the ensemble, cost, and a plan of two iterations with their line searches. Norms of the tool are
    smooth absolute values, so that no step is exact, or limits act as well."""
    robot, learner, mpc = bench.robot, bench.run.learner, bench.controller.mpc
    state = bench.states[-1]
    columns = np.array([*range(n), *range(robot.n, robot.n + robot.m)])
    planner: Ilqr = mpc.planner  # type: ignore[assignment]
    limit = (0.1 if limits else 100.0) * mpc._limit
    width = np.where(mpc.task.R[:, 2 * robot.m : n].any(1), 0.001, mpc.task._width)
    x, u, x_next = (np.asarray(a[-1]) for a in vars(learner.transitions(1.0)).values())
    kept = mpc.task.R[:, columns]
    def problem() -> Problem:
        learner._learn(x, u, x_next)
        dynamics = learner._model(state)
        small = LinearGaussianDynamics(dynamics.F[:n, columns], dynamics.f[:n], dynamics.Sigma[:n, :n])
        start = state.belief.mean
        path = mpc._path_from(start, state.time)
        window = mpc.task.window(path, state.time, start[: robot.m], planner.horizon, mpc.effort_mean)
        cost = mpc.task.cost(window, None, 1.0)
        cost = ResidualCost(kept, cost.reference, cost.scale, width, cost.dead)
        return Problem(start[:n].copy(), small, cost, -limit, limit)

    now = problem()
    plan = planner.plan(now, None)
    assert plan.iterations == 2, f"{plan.iterations} iterations: {plan.status}"
    return {"moments, fit, cost, plan": lambda: planner.plan(problem(), None), "plan": lambda: planner.plan(now, None)}


def rows(rounds: int = 300, hour: bool = False) -> list[Row]:
    """{what, size, ours_us, peer, peer_us, ratio} of everything; sizes are n, m, T where no more is said."""
    torch.set_num_threads(1)
    result = fit_rows(rounds) + policy_rows(rounds)
    for robot, horizon in (("planar2", 20), ("arm", 20)):
        result += Bench(robot, horizon).rows(rounds)
    for horizon in (10, 25, 50):
        bench = Bench("arm", horizon)
        for limits in (False, True):
            end = ", two iterations" + (", limits act" if limits else "")
            for what, spent in interleaved(two_iterations(bench, 20, limits), rounds).items():
                result.append(row(what + end, f"20, 7, {horizon}", spent))
    if hour:
        result.append(hour_row(rounds))
    return result


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=300)
    arguments.add_argument("--hour", action="store_true", help="also after an hour of ticks; takes a minute")
    a = arguments.parse_args()
    print("| what | size | ours min, median [us] | peer | peer min, median [us] | ratio of medians |\n"
          "|---|---|---|---|---|---|")
    for r in rows(a.rounds, a.hour):
        peer = f"{r['peer_min_us']:.0f}, {r['peer_us']:.0f}" if r["peer"] else ""
        print(f"| {r['what']} | {r['size']} | {r['ours_min_us']:.1f}, {r['ours_us']:.1f} | {r['peer']} | {peer} "
              f"| {format(r['ratio'], '.1f') if r['peer'] else ''} |", flush=True)


if __name__ == "__main__":
    main()
