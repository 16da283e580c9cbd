"""Targets people mean, by a learned model: poses beside places, a trajectory, a sphere in the way.

    python3 -m mbrl_ros.evaluation.targets --seeds 0-4 --poses 20 --spheres 4

Every seed excites and fits; then it goes to poses, and to the same places with any orientation; follows waypoints, as
does the controller that is given the true dynamics; and goes to places with a sphere on the straight way there. Errors
are those of the true tool, without sensor noise. Seeds to tune on are those from 100 up.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, merge, parse_overrides
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import parse_seeds, write
from mbrl_ros.evaluation.procedure import Run, Stopped, learn
from mbrl_ros.ring.controller import REACH
from mbrl_ros.task.reachable import angle_between
from mbrl_ros.task.task import Task
from mbrl_ros.types import Array

Settings = Mapping[str, Any]
REST = 1.5  # [s] after a path that anything gets
RADIUS = 0.06  # [m] of the sphere
WAY = 0.25  # [m] at least, past the sphere
MILLIMETRES, DEGREES = 5.0, 1.0  # within which a pose is reached
WAYPOINTS, APART, FARTHEST = 10, 1.5, 0.35  # of the trajectory; [s] and [m] from one to the next
KEEP_OUT = {"residual": "keep_out_sphere", "norm": "hinge", "weight": 1e5, "radius": RADIUS}


class Session:
    """A ring that has learned, or knows, its dynamics, and what is tried with it."""

    def __init__(self, settings: Settings, config: measures.Config, seed: int, oracle: bool = False):
        self.run = Run(settings, config, seed, oracle=oracle)
        learn(self.run, config.data_seconds)
        self.robot, self.controller, self.seconds = self.run.robot, self.run.controller, config.seconds_per_target

    def follow(self, seconds: float) -> tuple[Array, Array, Array]:
        """Of every period the tool, the path (T, 3), and the effort (T, m), for so long, and at least REST longer than
        the path. Raises Stopped."""
        tool: list[Array] = []
        path: list[Array] = []
        efforts: list[Array] = []
        self.controller.request(REACH)
        course = self.controller.mpc.course
        while course is None or len(tool) * self.robot.period < max(seconds, course.duration + REST):
            tool.append(self.run.plant.true_tool())
            efforts.append(self.run.tick()[1])
            path.append(self.controller.mpc.reference)
            course = self.controller.mpc.course
        return np.array(tool), np.array(path), np.array(efforts)

    def pose(self, joints: Array, turned: bool) -> tuple[float, float, float]:
        """Largest error of the last half second [mm], that of the turn at the end [degrees], and the cost
        (measures.py), of a target where the tool is with these joints."""
        position, rotation, _ = self.robot.tool(joints)
        self.controller.set_target(position, rotation if turned else None)
        tool, path, efforts = self.follow(self.seconds)
        scored = measures.score(self.robot, tool, path, position, efforts)
        angle = angle_between(self.robot.tool(self.run.plant.true_state()[0])[1], rotation)
        return scored.worst_mm, float(np.degrees(angle)), scored.cost

    def rms_mm(self, points: Array) -> float:
        """Of the error to a trajectory through points (N, 3) [m]."""
        times = APART * np.arange(1, len(points) + 1)
        for slower in (1.0, 1.5, 2.0, 3.0):  # the first that is within the speeds of the joints
            try:
                self.controller.set_pose_trajectory(slower * times, points)
            except ConfigError:
                continue
            times = slower * times
            break
        tool, path, _ = self.follow(float(times[-1]))
        return 1e3 * float(np.sqrt(np.mean(np.sum((tool - path) ** 2, axis=1))))

    def past(self, task: Settings, target: Array, rng: np.random.Generator) -> tuple[float, float]:
        """How deep the tool gets into a sphere on its way to a target, and how far it is from that in the end [mm]."""
        start, old = self.run.plant.true_tool(), self.controller.mpc.task
        center = 0.5 * (start + target) + 0.3 * RADIUS * rng.uniform(-1.0, 1.0, 3)
        terms = {"terms": [*task["terms"], "sphere"], "sphere": {**KEEP_OUT, "center": center.tolist()}}
        self.controller.mpc.task = Task(merge(task, terms), self.robot)
        self.controller.set_target(target)
        tool, _, _ = self.follow(2 * self.seconds)
        self.controller.mpc.task = old
        depth = RADIUS - np.linalg.norm(tool - center, axis=1).min()
        return 1e3 * float(depth), 1e3 * float(np.linalg.norm(tool[-1] - target))


def run_seed(settings: Settings, config: measures.Config, poses: int, spheres: int, seed: int) -> dict[str, Any]:
    """All figures of one seed; of what a fault ended they are infinite."""
    config, rng = replace(config, seed=seed), np.random.default_rng([seed, 3])
    ring = Session(settings, config, seed)
    reachable = ring.controller.mpc.task.reachable
    room = np.where(np.isfinite(reachable.low), 0.03, 0.0)
    joints = [np.clip(ring.robot.home + rng.uniform(-config.spread, config.spread, ring.robot.m), reachable.low + room,
                      reachable.high - room) for _ in range(poses)]
    points = np.array(measures.draw_targets(ring.robot, replace(config, targets=WAYPOINTS, farthest=FARTHEST)))
    past: list[tuple[float, float]] = []
    found: dict[str, Any] = {"seed": seed, "fault": "", "poses": [], "places": [], "past": past, "rms_mm": np.inf,
                             "oracle_rms_mm": Session(settings, config, seed, oracle=True).rms_mm(points)}
    try:
        for kind, turned in (("poses", True), ("places", False)):
            for q in joints:
                found[kind].append(ring.pose(q, turned))
        found["rms_mm"] = ring.rms_mm(points)
        while len(past) < spheres:
            target = ring.robot.tool_position(ring.robot.home + rng.uniform(-0.6, 0.6, ring.robot.m))
            if np.linalg.norm(target - ring.run.plant.true_tool()) >= WAY and reachable.nearest(
                    target, ring.robot.home).distance == 0.0:
                past.append(ring.past(settings["task"], target, rng))
    except Stopped as stopped:
        found["fault"] = str(stopped)
        for kind, count, width in (("poses", poses, 3), ("places", poses, 3), ("past", spheres, 2)):
            found[kind] += [(np.inf,) * width] * (count - len(found[kind]))
    return found


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of all seeds together."""
    poses, places, past = (np.concatenate([np.array(r[kind]).reshape(len(r[kind]), -1) for r in rows])
                           for kind in ("poses", "places", "past"))
    ratio = [r["rms_mm"] / r["oracle_rms_mm"] for r in rows]
    return {"poses": len(poses), "reached": float(np.mean((poses[:, 0] <= MILLIMETRES) & (poses[:, 1] <= DEGREES))),
            "median_mm": float(np.median(poses[:, 0])), "worst_mm": float(poses[:, 0].max()),
            "median_degrees": float(np.median(poses[:, 1])), "worst_degrees": float(poses[:, 1].max()),
            "places_reached": float(np.mean(places[:, 0] <= MILLIMETRES)),
            "cost_of_poses": float(poses[:, 2].sum() / places[:, 2].sum()),
            "rms_mm": float(np.median([r["rms_mm"] for r in rows])), "rms_ratio": float(np.median(ratio)),
            "worst_rms_ratio": float(max(ratio)), "spheres": len(past),
            "deepest_mm": float(past[:, 0].max()), "avoided": float(np.mean(past[:, 0] <= MILLIMETRES)),
            "arrived": float(np.mean(past[:, 1] <= MILLIMETRES))}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.targets",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--prior", default="ensemble")
    p.add_argument("--seeds", default="100-101")
    p.add_argument("--poses", type=int, default=20, help="of every seed")
    p.add_argument("--spheres", type=int, default=4, help="of every seed")
    p.add_argument("--data-seconds", type=float, default=30.0)
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{task: {turn: {weight: 100.0}}}'")
    p.add_argument("--json", type=Path, help="where to write the rows")
    return p


def main(arguments: list[str] | None = None) -> int:
    a = parser().parse_args(arguments)
    try:
        settings = assembly.settings(Names(a.robot, "reach", prior=a.prior), parse_overrides(a.set))
        config = measures.config_of(settings, {"data_seconds": a.data_seconds})
        rows = []
        for seed in parse_seeds(a.seeds):
            rows.append(run_seed(settings, config, a.poses, a.spheres, seed))
            print("  ".join([f"seed {seed}", *(f"{key} {value:.4g}" for key, value in figures(rows[-1:]).items()),
                             rows[-1]["fault"]]), flush=True)
    except ConfigError as error:
        print(f"targets: {error}", file=sys.stderr)
        return 2
    total = figures(rows)
    print("  ".join(["all", *(f"{key} {value:.4g}" for key, value in total.items())]))
    if a.json:
        write(a.json, a, all=total, seeds=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
