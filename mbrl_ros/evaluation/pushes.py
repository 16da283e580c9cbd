"""What feedback between plans is worth: the hand is pushed, by a plant that gives joint states at every timestep.

    python3 -m mbrl_ros.evaluation.pushes --robot arm --seeds 0-4

Plans come once a period, with the latency of a real ring, and pass a guard at every joint state. Prints, with and
without `controller.feedback`, the largest error in the second after a push, the error at rest before it, and the time
that the guard takes for a joint state. Seeds to tune on are those from 100 up.
"""
from __future__ import annotations

import argparse
import time
from typing import Any

import mujoco
import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import Names, from_mapping, merge, section
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import parse_seeds
from mbrl_ros.evaluation.procedure import Run, learn
from mbrl_ros.ring import guard
from mbrl_ros.ring.controller import REACH, Controller
from mbrl_ros.ring.guard import Guard, Limits
from mbrl_ros.robot import Robot
from mbrl_ros.simulation import plant
from mbrl_ros.types import Array, Observation

LATENCY = 0.003  # [s] from a joint state to the command that answers it
LATE = 0.005  # [s] until that acts, with the ramp of the guard
REST, AFTER = 1.5, 1.0  # [s] before a push; in which its effect is looked at


class QuickPlant(plant.MujocoPlant):
    """Joint states at every timestep, and a guard that answers each of them; `push` (3,) [N] acts at the tool."""

    def __init__(self, robot: Robot, config: plant.Config, limits: guard.Config, controller: Controller):
        self.push, self.seconds, self.states = np.zeros(3), 0.0, 0  # the guard's, in all; joint states
        self._mpc, self._errors = controller.mpc, list[float]()
        self._make = lambda: Guard(Limits.of(robot, limits), limits, robot.period, robot.weight)
        super().__init__(robot, config)

    def reset(self, seed: int) -> Observation:
        """See MujocoPlant."""
        first = super().reset(seed)
        self.guard = self._make()
        self.guard.measured(first.time, first.position, np.zeros(self.robot.m), 1e-9 * first.time)
        return first

    def step(self, effort: Array, fraction: float = 0.0, previous: Array | None = None) -> Observation:
        """See MujocoPlant; what the guard makes of `effort` acts, from LATENCY on."""
        answers, dt, acted = self._time, self.model.opt.timestep, np.zeros(self.robot.m)
        late = round(LATENCY / dt)
        for i in range(self.substeps):
            now, began = 1e-9 * self._time, time.perf_counter()
            if i == late:
                self.guard.feedback = self._mpc.feedback
                self.guard.commanded(effort, answers, now)
            u = self.guard.effort(now)
            self.seconds += time.perf_counter() - began
            assert u is not None
            acted += u
            q = self.data.qpos[self._qpos]
            self.data.qfrc_applied[self._dofs] = u + self._disturbance + self.robot.tool(q)[2].T @ self.push
            mujoco.mj_step(self.model, self.data)
            self._disturb()
            self._sense(self.data.qpos[self._qpos][None])
            self._time += round(1e9 * dt)
            began = time.perf_counter()
            self.guard.measured(self._time, self._encoder, self._velocity, 1e-9 * self._time)
            self.seconds, self.states = self.seconds + time.perf_counter() - began, self.states + 1
        return Observation(self._time, self._encoder.copy(), self._velocity.copy(), acted / self.substeps)


def pushed(robot: str, prior: str, feedback: bool, seed: int, force: float, lasting: float, more: Any) -> list[float]:
    """Largest error after a push along x, y, z, mean error before [mm], and microseconds of the guard per state."""
    settings = assembly.settings(Names(robot, "reach", prior=prior), merge(
        {"controller": {"feedback": feedback}, "guard": {"arm_at_start": True}}, more))
    if feedback:  # the controller's own, which come late
        settings = merge(settings, {"estimator": {"effort_source": "commands"},
                                    "controller": {"delay": LATE / settings["robot"]["period"]}})
    run = Run(settings, measures.config_of(settings, {"data_seconds": 10.0, "seed": seed}), seed)
    of = from_mapping(guard.Config, section(run.settings, "guard"), "guard")
    quick = QuickPlant(run.robot, run.plant.config, of, run.controller)
    run.plant = run.ring.plant = quick
    run.ring.begin(quick.reset(seed))
    learn(run, 10.0)
    target, period, peaks, before = run.robot.tool_position(run.robot.home), run.robot.period, [], []
    run.controller.set_target(target)
    run.controller.request(REACH)

    def errors(seconds: float) -> list[float]:
        found = []
        for _ in range(round(seconds / period)):
            run.tick()
            found.append(1e3 * float(np.linalg.norm(quick.true_tool() - target)))
        return found

    for axis in np.eye(3):
        before += errors(REST)[-round(measures.SETTLED / period):]
        quick.push = force * axis
        during = errors(lasting)
        quick.push = np.zeros(3)
        peaks.append(max(during + errors(AFTER)))
    return [*peaks, float(np.mean(before)), 1e6 * quick.seconds / quick.states]


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.pushes",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--prior", default="ensemble")
    p.add_argument("--seeds", default="100-101")
    p.add_argument("--force", type=float, default=20.0, help="[N]")
    p.add_argument("--lasting", type=float, default=0.3, help="[s]")
    p.add_argument("--rate", type=float, default=50.0, help="of plans [Hz]")
    a = p.parse_args(arguments)
    torch.set_num_threads(1)
    print("feedback  peak x [mm]  peak y  peak z  at rest [mm]  guard per joint state [us]")
    for feedback in (False, True):
        rows = [pushed(a.robot, a.prior, feedback, seed, a.force, a.lasting, {"robot": {"period": 1 / a.rate}})
                for seed in parse_seeds(a.seeds)]
        print("on " if feedback else "off", "  ".join(f"{value:8.2f}" for value in np.median(rows, axis=0)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
