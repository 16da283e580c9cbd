"""Where the links of an arm truly begin, from tool positions that somebody has measured: the last percent of a model.

    python3 -m mbrl_ros.calibrate my_arm.yaml readings.csv [--noise 0.001] [--output offsets.yaml]

readings.csv names the joints and x, y, z in its first line; every other line is a posture at rest [rad or m] and where
the tool was in it [m], in the robot's base frame: by a tracker, a camera, or a tip put into holes of known places.
Prints robot.link_offsets for the robot file, and writes them as parameters where asked to.

A tool that is known to stand at p in posture q tells of the offsets d_i of all links, which are small against them:

    p = p_model(q) + sum_i R_i(q) d_i + N(0, noise^2),    d_i ~ N(0, spread^2)

with R_i how the link before joint i is turned, and last the one that carries the tool: linear, since no offset turns
anything, so the posterior mean is a ridge regression (Hollerbach & Wampler 1996 give the ways to more: turned axes, and
zeros of encoders, are not looked for here). Joints alone tell nothing of lengths: without such readings an error in
them stays, and the tool is off by it.
"""
from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from mbrl_ros.config import ConfigError, Names, from_mapping, section
from mbrl_ros.models.kinematics import chain_of
from mbrl_ros.robot import Config, Robot
from mbrl_ros.types import Array

NOISE, SPREAD = 1e-3, 1e-2  # [m], of a reading and of an offset
FOLDS = 5
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Calibration:
    """What was found, and how far the tool is from N readings [m]."""

    offsets: Array  # (m + 1, 3) [m], robot.link_offsets
    before: Array  # (N,)
    held_out: Array  # (N,), of each fifth by what the others say; of less than five readings none, not a number


def calibrate(robot: Robot, q: Array, tool: Array, noise: float = NOISE, spread: float = SPREAD) -> Calibration:
    """From positions tool (N, 3) [m] of the first site at q (N, m) [rad or m]; what the robot is told already stays in.

    `noise` and `spread` are deviations [m] of a reading and of an offset. Raises ConfigError for another shape and for
    what is not finite.
    """
    q, tool = np.asarray(q, float), np.asarray(tool, float)
    N = len(q)
    if q.shape != (N, robot.m) or tool.shape != (N, 3):
        raise ConfigError(f"readings: expected (N, {robot.m}) joint positions and (N, 3) of the tool, got {q.shape} "
                          f"and {tool.shape}")
    if not (np.isfinite(q).all() and np.isfinite(tool).all()):
        raise ConfigError("readings: expected finite numbers")
    if not (noise > 0 and spread > 0):
        raise ConfigError(f"noise and spread: expected more than 0 m, got {noise:g} and {spread:g}")
    there, A = positions(robot, q)
    error = tool - there
    held_out, fold = np.full(N, np.nan), np.arange(N) % FOLDS
    for k in range(FOLDS if N >= FOLDS else 0):
        out = fold == k
        d = _offsets(A[~out], error[~out], noise / spread)
        held_out[out] = np.linalg.norm(error[out] - A[out] @ d, axis=-1)
    known = np.zeros(A.shape[-1]) if not robot.config.link_offsets else np.array(robot.config.link_offsets)
    offsets = (known + _offsets(A, error, noise / spread)).reshape(-1, 3)
    return Calibration(offsets, np.linalg.norm(error, axis=-1), held_out)


def positions(robot: Robot, q: Array, model: mujoco.MjModel | None = None) -> tuple[Array, Array]:
    """Of the tool (N, 3) [m] at q (N, m), and its derivative (N, 3, 3 (m + 1)) by robot.link_offsets; by the robot's
    own model, or another of the same joints."""
    model = robot.model if model is None else model
    data, site = mujoco.MjData(model), model.site(robot.sites[0])
    carrier, moving = int(site.bodyid[0]), set(chain_of(robot, robot.sites[0]).index.tolist())
    before = [int(model.body_parentid[model.jnt_bodyid[model.joint(name).id]]) if i in moving else -1
              for i, name in enumerate(robot.joints)]
    there, A = np.empty((len(q), 3)), np.zeros((len(q), 3, 3 * (robot.m + 1)))
    for i, posture in enumerate(q):
        data.qpos[robot.qpos] = posture
        mujoco.mj_kinematics(model, data)
        there[i] = data.site_xpos[site.id]
        for k, body in enumerate([*before, carrier]):
            if body >= 0:
                A[i, :, 3 * k : 3 * k + 3] = data.xmat[body].reshape(3, 3)
    return there, A


def _offsets(A: Array, error: Array, strength: float) -> Array:
    """The ridge regression of errors (N, 3) on A (N, 3, k): (k,)."""
    rows = A.reshape(-1, A.shape[-1])
    d: Array = np.linalg.solve(rows.T @ rows + strength**2 * np.eye(A.shape[-1]), rows.T @ error.ravel())
    return d


def read(path: Path, joints: tuple[str, ...]) -> tuple[Array, Array]:
    """q (N, m) and tool positions (N, 3) of a file. Raises ConfigError that says which column or line is wrong."""
    try:
        with path.open(newline="") as file:
            lines = csv.DictReader(file, skipinitialspace=True)
            wanted = (*joints, *AXES)
            missing = [name for name in wanted if name not in (lines.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path}: expected the columns {', '.join(wanted)}; {missing[0]} is missing")
            found = []
            for line in lines:
                try:
                    found.append([float(line[name]) for name in wanted])
                except (TypeError, ValueError) as error:
                    raise ConfigError(f"{path}, line {lines.line_num}: expected numbers ({error})") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    values = np.array(found).reshape(-1, len(joints) + 3)
    return values[:, :-3], values[:, -3:]


def text_of(calibration: Calibration) -> str:
    """As a parameter file."""
    numbers = ", ".join(f"{x:.6f}" for x in calibration.offsets.ravel())
    return f"/**:\n  ros__parameters:\n    robot:\n      link_offsets: [{numbers}]\n"


def robot_of(name: str) -> Robot:
    """A robot by the name of a file in config/robots or the path of one, for its kinematics alone."""
    return Robot(from_mapping(Config, section(Names(robot=name).settings(), "robot"), "robot"))


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.calibrate", description=(__doc__ or "").partition("\n")[0])
    p.add_argument("robot", help="name of a file in config/robots or path of a .yaml file")
    p.add_argument("readings", type=Path, help="CSV file: joints, x, y, z")
    p.add_argument("--noise", type=float, default=NOISE, help="deviation of a reading [m] (default: %(default)s)")
    p.add_argument("--spread", type=float, default=SPREAD, help="of an offset [m] (default: %(default)s)")
    p.add_argument("--output", type=Path, help="parameter file to write, for params_file:=")
    a = p.parse_args(arguments)
    try:
        robot = robot_of(a.robot)
        found = calibrate(robot, *read(a.readings, robot.joints), a.noise, a.spread)
        if a.output:
            a.output.write_text(text_of(found))
    except (ConfigError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    shown = lambda of: f"{1e3 * np.median(of):.2f} mm in the median, {1e3 * of.max():.2f} mm at worst"  # noqa: E731
    print(f"{len(found.before)} readings of the tool: off by {shown(found.before) if len(found.before) else '-'}")
    if np.isfinite(found.held_out).all() and len(found.held_out):
        print(f"those that were left out, by what the others say: {shown(found.held_out)}")
    print(text_of(found), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
