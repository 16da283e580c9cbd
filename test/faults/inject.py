"""Seeded faults into the guard and the ring behind it, and what comes out at the guard.

    PYTHONPATH=.:test:$PYTHONPATH python3 test/faults/inject.py --ticks 10000        # make faults TICKS=10000

The parts are those of the nodes, in the plain loop: what a node does with an exception or with a message that it cannot
use is done here as well. A fault lasts some periods; then the arm is given a second to come to rest, and all is reset
and armed again. Ends with one line of figures and writes runs/<time>/faults.json. Long runs are cut into parts of
PART ticks with seeds of their own, on all cores.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from truths import violated

from mbrl_ros import assembly, config
from mbrl_ros.config import Names
from mbrl_ros.evaluation.procedure import excited
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.models.prior import fit
from mbrl_ros.ring import guard
from mbrl_ros.ring.controller import EXCITE, FAULT, HOLD, REACH
from mbrl_ros.ring.guard import ARMED, Guard, Limits

QUIET, LONGEST, REST = 40, 12, 50  # periods between faults, of a fault, and of rest afterwards
SLOW = 0.05  # [rad/s]
PART = 100_000  # ticks
RESTLESS = {"stuck_joint"}  # the joint is not free to come to rest
PLANNING = {"model_not_finite", "planner_exception", "planner_hangs", "memory_error", "gpu_error"}  # need a planner
NUMBERS = (np.nan, np.inf, -np.inf, 1e300)


class Hung(BaseException):
    """The controller says nothing any more; nobody catches that."""


def spoiled(rng, values):
    values = np.array(values, dtype=float)
    values.flat[rng.integers(values.size)] = rng.choice(NUMBERS)
    return values


def raising(error):
    def plan(*_):
        raise error
    return plan


class Injector:
    """A ring with a guard; `tick` lets one period pass under the present fault."""

    FAULTS = ("state_not_finite", "velocity_not_finite", "estimate_not_finite", "model_not_finite", "gains_not_finite",
              "command_not_finite", "state_missing", "state_stale", "state_reordered", "state_duplicated",
              "command_missing", "command_late", "command_reordered", "command_duplicated", "command_size",
              "command_wild", "names", "clock_forward", "clock_backward", "encoder_jump", "stuck_joint",
              "planner_exception", "planner_hangs", "model_not_positive", "model_wound_up", "model_wrong",
              "memory_error", "gpu_error", "parameter_storm", "learner_dead", "estimator_dead")
    MUST_HOLD = frozenset(FAULTS) - {
        "state_reordered", "state_duplicated", "command_reordered", "command_duplicated", "command_wild",
        "clock_forward", "clock_backward", "stuck_joint", "model_not_positive", "model_wound_up", "model_wrong",
        "parameter_storm"}  # those that a ring may live with; within the limits all the same

    def __init__(self, robot, seed):
        self.rng = np.random.default_rng(seed)
        settings = assembly.settings(Names(robot, "reach", "ilqr", "gaussian"), {"plant": {"pace": "lockstep"}})
        run, data = excited(settings, 4.0, seed)
        run.use(fit("gaussian", data, settings, seed), data)
        run.hold()
        self.robot, self.plant = run.robot, run.plant
        self.estimator, self.learner, self.controller = run.ring.estimator, run.learner, run.controller
        self.settings = config.from_mapping(guard.Config, settings["guard"], "guard")
        self.guard = Guard(Limits.of(self.robot, self.settings), self.settings, self.robot.period, self.robot.weight)
        self.observation = run.ring.observation
        self.planner = self.controller.mpc.planner
        self.fault, self.k, self.offset = None, 0, 0  # [ns] that the clock of the stamps is ahead
        self.sent, self.sent_at, self.late = np.zeros(self.robot.m), 0.0, deque(maxlen=4)
        self.first = (self.robot.home, np.zeros(self.robot.m))
        self.violations, self.samples = Counter(), 0

    # --- one period, part by part, as the nodes do it

    def tick(self):
        self.k += 1
        now = self.k * self.robot.period
        self._plant_faults()
        shown = self._shown()
        believed = None
        if shown is not None:
            if self.fault == "names":
                self.guard.fail("JointState: no joint")
            elif self.guard.measured(shown.time, shown.position, shown.velocity, now):
                believed = (shown.position, shown.velocity)
        effort, answers = self._ring(shown)
        self._command(effort, answers, now)
        if believed is not None:
            self.first = believed
        u = self.guard.effort(now)
        fresh = self.guard.fresh(now)
        if u is None:
            u = np.zeros(self.robot.m)
        bad = violated(self.guard.limits, self.robot.period, u, self.sent, now - self.sent_at,
                       self.first if fresh else None, self._weight(self.first[0]))
        self.violations.update(bad)
        self.samples += 1
        self.sent, self.sent_at = u, now
        self.observation = self.plant.step(np.nan_to_num(u))

    def _weight(self, q):
        carries = self.settings.gravity == "model"
        return np.clip(self.robot.weight(q), -self.robot.effort_limit, self.robot.effort_limit) if carries else 0.0

    def _plant_faults(self):
        damping = self.plant.model.dof_damping
        if not hasattr(self, "_damping"):
            self._damping, self._joint = damping.copy(), 0
        damping[:] = self._damping
        if self.fault == "stuck_joint":
            damping[self._joint] = 1e4

    def _shown(self):
        """The joint state as it comes, or None."""
        true, rng = self.observation, self.rng
        seen = dataclasses.replace(true, time=true.time + self.offset)
        self.late.append(seen)
        match self.fault:
            case "state_not_finite":
                return dataclasses.replace(seen, position=spoiled(rng, seen.position))
            case "velocity_not_finite":
                return dataclasses.replace(seen, velocity=spoiled(rng, seen.velocity))
            case "state_missing":
                return None
            case "state_stale":
                return self._stale
            case "state_reordered":
                return self.late[rng.integers(len(self.late))]
            case "state_duplicated":
                return self.late[-1] if rng.random() < 0.5 else self.late[0]
            case "encoder_jump":
                return dataclasses.replace(seen, position=seen.position + self._jump)
        self._stale = seen
        return seen

    def _ring(self, shown):
        """Command and the stamp it answers; None where none is sent."""
        if shown is None or self.fault in ("estimator_dead", "names"):
            return None, None
        try:
            state = self.estimator.update(shown)
        except MessageError:  # what the estimator's node drops
            return None, None
        try:
            if state is None:
                return None, None
            if self.fault == "learner_dead":
                return None, None
            dynamics = self._model(self.learner.update(state))
            if self.fault == "estimate_not_finite":
                raise ValueError("expected finite values")  # no message is made of it
            effort = self.controller.act(state, dynamics)
        except Hung:
            return None, None
        except Exception as error:  # what the controller's node does with any
            if self.fault == "estimate_not_finite":
                return None, None
            self.controller.stop(FAULT, type(error).__name__)
            effort = np.zeros(self.robot.m)
        if self.controller.mode == FAULT:
            self.guard.fail("the controller is in fault")
        return effort, shown.time

    def _model(self, model):
        rng, n = self.rng, self.robot.n
        match self.fault:
            case "model_not_finite":
                return dataclasses.replace(model, F=spoiled(rng, model.F), f=spoiled(rng, model.f))
            case "model_not_positive":
                return dataclasses.replace(model, Sigma=-np.eye(n))
            case "model_wound_up":
                return dataclasses.replace(model, Sigma=1e12 * model.Sigma)
            case "model_wrong":
                return dataclasses.replace(model, F=self._wrong * model.F)
        return model

    def _command(self, effort, answers, now):
        rng, period = self.rng, round(self.robot.period * 1e9)
        if effort is None:
            return
        match self.fault:
            case "command_missing":
                return
            case "command_late":
                answers -= 4 * period
            case "command_reordered":
                answers -= int(rng.integers(2)) * period
            case "command_duplicated":
                self.guard.commanded(effort, answers, now)
            case "command_not_finite" | "gains_not_finite":
                effort = spoiled(rng, effort)
            case "command_size":
                effort = effort[: -1] if rng.random() < 0.5 else np.append(effort, 0.0)
            case "command_wild":
                effort = self._wild * self.robot.effort_limit
        self.guard.commanded(effort, answers, now)

    # --- faults begin and end

    def begin(self, fault):
        rng, mpc = self.rng, self.controller.mpc
        self.fault = fault
        self._joint = int(rng.integers(self.robot.m))
        self._jump = rng.choice([-1, 1]) * rng.uniform(0.6, 3.0) * (np.arange(self.robot.m) == self._joint)
        self._wrong = 1 + rng.normal(0, 0.5, (self.robot.n, self.robot.n + self.robot.m))
        self._wild = rng.uniform(-3, 3, self.robot.m)
        errors = {"planner_exception": ValueError("deliberate"), "memory_error": MemoryError(),
                  "gpu_error": RuntimeError("CUDA error: unspecified launch failure"), "planner_hangs": Hung()}
        if fault in errors:
            mpc.planner = Broken(self.planner, errors[fault])
        if fault.startswith("clock"):
            self.offset += (1 if fault == "clock_forward" else -1) * int(rng.integers(3 * 10**7, 4 * 10**12))
        self.stormed = self.controller.config

    def storm(self):
        if self.fault == "parameter_storm":
            new = dataclasses.replace(self.stormed, exploration=float(self.rng.uniform(0, 10)),
                                      effort_mean_time=float(self.rng.uniform(0.02, 60)))
            self.controller.config = self.controller.mpc.config = new
            self.aim(1.0)

    def aim(self, far):
        """At where the tool is with joints up to `far` [rad] from home."""
        q = self.robot.home + self.rng.uniform(-far, far, self.robot.m)
        self.controller.set_target(self.robot.tool_position(q))

    def end(self):
        if self.fault is not None:
            self.controller.config = self.controller.mpc.config = self.stormed
        self.fault, self.controller.mpc.planner = None, self.planner
        self.offset = max(self.offset, -self.observation.time + 10**9)  # stamps are not negative

    def recover(self, fault):
        """Reset and arm, with the controller at something that moves."""
        self.guard.reset()
        self.controller.request(HOLD)
        for _ in range(3 * guard.WARM):
            self.tick()
            if not self.guard.arm(self.k * self.robot.period):
                break
        self.aim(0.6)
        excite = fault not in PLANNING and self.rng.random() < 0.3
        self.controller.request(EXCITE if excite else REACH)


class Broken:
    """A planner that raises."""

    def __init__(self, planner, error):
        self.horizon, self.plan = planner.horizon, raising(error)


def run(robot, ticks, seed):
    """The figures of so many ticks."""
    injector = Injector(robot, seed)
    by_fault = {name: {"times": 0, "held": 0, "to_hold_periods_max": 0} for name in Injector.FAULTS}
    missed, n = Counter(), 0
    restless = Counter()
    slowest = 0
    order = list(Injector.FAULTS)
    while injector.samples < ticks:
        if n % len(order) == 0:
            injector.rng.shuffle(order)
        name, n = order[n % len(order)], n + 1
        injector.recover(name)
        for _ in range(int(injector.rng.integers(5, QUIET))):
            injector.tick()
        if injector.guard.state != ARMED:
            continue  # it did not get that far; the next round tries again
        injector.begin(name)
        began, held, of = injector.k, None, by_fault[name]
        of["times"] += 1
        for _ in range(int(injector.rng.integers(3, LONGEST))):
            injector.storm()
            injector.tick()
            if held is None and injector.guard.state != ARMED:
                held = injector.k - began - 1
        if held is not None:
            of["held"] += 1
            of["to_hold_periods_max"] = max(of["to_hold_periods_max"], held)
        elif name in Injector.MUST_HOLD:
            missed[name] += 1
        injector.end()
        injector.guard.fail("end of the fault")
        speeds = []
        for _ in range(REST):
            injector.tick()
            speeds.append(float(np.abs(injector.plant.true_state()[1]).max()))
        if name not in RESTLESS:  # at rest, the disturbance alone moves a joint beyond SLOW now and then
            slowest = max(slowest, next((i for i, speed in enumerate(speeds, 1) if speed <= SLOW), REST))
            if min(speeds) > SLOW:
                restless[name] += 1
    must = [by_fault[name]["to_hold_periods_max"] for name in Injector.MUST_HOLD]
    return {"robot": robot, "ticks": injector.samples, "violations": sum(injector.violations.values()),
            "violations_by_limit": dict(injector.violations), "fault_to_hold_periods_max": max(must),
            "fault_to_hold_ms_max": max(must) * 1e3 * injector.robot.period, "not_held": dict(missed),
            "to_rest_periods_max": slowest, "moving_after_a_second": dict(restless), "by_fault": by_fault}


def together(parts):
    """One figure of several: numbers add up, but of those that end in _max the largest counts."""
    whole = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict):
                whole[key] = together([whole.get(key, {}), value])
            elif isinstance(value, str) or key not in whole:
                whole[key] = value
            else:
                whole[key] = max(whole[key], value) if key.endswith("_max") else whole[key] + value
    return whole


def main():
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--ticks", type=int, default=10_000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--robot", default="planar2")
    p.add_argument("--output", type=Path, default=Path("runs"))
    a = p.parse_args()
    began = time.monotonic()
    parts = max(1, round(a.ticks / PART))
    with ProcessPoolExecutor(min(parts, os.cpu_count() or 1), get_context("spawn")) as pool:
        runs = pool.map(partial(run, a.robot, -(-a.ticks // parts)), range(a.seed, a.seed + parts))
        figures = {"seeds": list(range(a.seed, a.seed + parts)), **together(runs),
                   "seconds": round(time.monotonic() - began, 1)}
    folder = config.new_folder(a.output)
    (folder / "faults.json").write_text(json.dumps(figures, indent=1))
    shown = ("ticks", "violations", "fault_to_hold_periods_max", "not_held", "to_rest_periods_max",
             "moving_after_a_second", "seconds")
    print("  ".join(f"{key} {figures[key]}" for key in shown), f"-> {folder / 'faults.json'}")
    return int(any(figures[key] for key in ("violations", "not_held", "moving_after_a_second")))


if __name__ == "__main__":
    sys.exit(main())
