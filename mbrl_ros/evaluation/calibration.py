"""What is left of wrong kinematics after calibration (calibrate.py), by how many readings of the tool there are.

    python3 -m mbrl_ros.evaluation.calibration --robots arm,arm6 --seeds 0-9

Every seed has an arm with links up to 1 % longer or shorter than its file says, and readings of its tool with noise at
postures of its own, drawn about home. Errors are those of the tool in the corrected model, at POSTURES others.
"""
from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.calibrate import calibrate, positions
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.evaluation.command import parse_seeds
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

WRONG, SPREAD = 0.01, 1.0  # of the lengths; [rad or m] that postures are about home
POSTURES = 200


def measure(name: str, seed: int, counts: list[int], noise: float) -> dict[int, Array]:
    """Errors (POSTURES,) [m] after so many readings; 0: before."""
    settings = assembly.settings(Names(robot=name), {"world": {"length_error": WRONG, "length_seed": seed}})
    robot = assembly.make_robot(settings)
    truth, rng = assembly.make_plant(settings, robot).model, np.random.default_rng([seed, 5])
    low, high = (np.clip(end, robot.home - SPREAD, robot.home + SPREAD)
                 for end in (robot.position_low, robot.position_high))
    q, fresh = (rng.uniform(low, high, (n, robot.m)) for n in (max(counts), POSTURES))
    tool = positions(robot, q, truth)[0] + noise * rng.standard_normal((len(q), 3))
    there = positions(robot, fresh, truth)[0]
    found = {0: np.linalg.norm(there - positions(robot, fresh)[0], axis=-1)}
    for n in counts:
        offsets = calibrate(robot, q[:n], tool[:n], noise).offsets
        corrected = Robot(replace(robot.config, link_offsets=tuple(offsets.ravel())))
        found[n] = np.linalg.norm(there - positions(corrected, fresh)[0], axis=-1)
    return found


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.calibration",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robots", default="arm,arm6")
    p.add_argument("--seeds", default="100-102")
    p.add_argument("--readings", default="10,30,100", help="how many (%(default)s)")
    p.add_argument("--noise", type=float, default=5e-4, help="of a reading [m] (default: %(default)s)")
    a = p.parse_args(arguments)
    try:
        counts, seeds = [int(n) for n in a.readings.split(",")], parse_seeds(a.seeds)
        print(f"| robot | {' | '.join(f'{n} readings' if n else 'as the file says' for n in (0, *counts))} |")
        print("|---" * (2 + len(counts)) + "|")
        for name in a.robots.split(","):
            runs = [measure(name, seed, counts, a.noise) for seed in seeds]
            cells = [f"{1e3 * np.median([np.median(run[n]) for run in runs]):.2f}, "
                     f"{1e3 * max(run[n].max() for run in runs):.2f} mm" for n in (0, *counts)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    except (ConfigError, ValueError) as error:
        print(f"calibration: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
