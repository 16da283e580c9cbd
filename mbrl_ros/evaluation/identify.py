"""How well masses, damping and friction are found from motion, and whether the intervals hold, over many seeds.

    python3 -m mbrl_ros.evaluation.identify --robot arm --seeds 100-149 --data-seconds 30

Every seed has a data sheet of its own, wrong by nominal.error (30 %), and noise, disturbance and excitation of its own.
`--excitation identify` is a motion made for this, wider and faster than what a learner is shown by default.
"""
from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, find, merge, parse_overrides, read
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import parse_seeds
from mbrl_ros.evaluation.procedure import Run, Stopped
from mbrl_ros.gaussian import Z95
from mbrl_ros.models.identify import Estimate
from mbrl_ros.models.inverse_dynamics import KINDS, Parameters
from mbrl_ros.models.prior import fit
from mbrl_ros.types import Array


def estimate(settings: dict[str, Any], seconds: float, seed: int) -> tuple[Estimate, Array]:
    """The estimate from one excitation, and the true parameters (p,). Raises Stopped where the controller faults."""
    settings = merge(settings, {"nominal": {"identify": True, "seed": seed}})
    run = Run(settings, measures.Config(data_seconds=seconds), seed)
    run.hold()
    run.excite(seconds)
    return fit("nominal", run.data(seconds), settings, seed).estimate, Parameters.of(run.robot, run.plant.model).theta


def report(found: list[tuple[Estimate, Array]]) -> str:
    """Coverage and error of every parameter; errors are relative to the truth, or to one where that is zero."""
    error = np.array([e.parameters.theta - truth for e, truth in found])
    inside = np.abs(error) <= Z95 * np.array([e.std for e, _ in found])
    relative = np.abs(error) / np.where(found[0][1] > 0, found[0][1], 1.0)
    known = np.mean([e.from_data for e, _ in found], 0)
    parameters = found[0][0].parameters
    lines = [f"| {len(found)} runs | truth in the 95 % interval | median error | root mean square | within 5 % | "
             "from data |", "|---|---|---|---|---|---|"]

    def line(name: str, rows: Array) -> str:
        r = relative[:, rows]
        return (f"| {name} | {100 * inside[:, rows].mean():.0f} % | {np.median(r):.3f} | "
                f"{np.sqrt((r**2).mean()):.3f} | {100 * (r < 0.05).mean():.0f} % | {100 * known[rows].mean():.0f} % |")

    lines += [line(f"all: {kind}", parameters.rows(kind)) for kind in KINDS]
    lines += [line(f"{kind} {of}", np.array([i])) for i, (kind, of) in enumerate(parameters.names)]
    masses = parameters.rows(KINDS[0])
    left = np.array([e.combinations()[1] for e, _ in found])
    away = np.array([e.combinations()[0] @ (d / e.deviation)[masses] for (e, _), d in zip(found, error, strict=True)])
    lines += ["", "combinations of masses, best known first, in units of the prior deviation:",
              f"deviation left {np.round(left.mean(0), 3).tolist()}",
              f"error (rms)    {np.round(np.sqrt((away**2).mean(0)), 3).tolist()}",
              f"all intervals hold the truth in {100 * inside.mean():.1f} %"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.identify",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--seeds", default="100-149")
    p.add_argument("--data-seconds", type=float, default=30.0)
    p.add_argument("--excitation", help="a file of config/excitations, identify for example, or the path of one")
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{plant: {payload: 1.0}}'")
    a = p.parse_args(arguments)
    try:
        more = merge(read(find("excitations", a.excitation)) if a.excitation else {}, parse_overrides(a.set))
        settings = assembly.settings(Names(robot=a.robot, prior="nominal"), more)
        print(report([estimate(settings, a.data_seconds, seed) for seed in parse_seeds(a.seeds)]))
    except (ConfigError, Stopped) as error:
        print(f"evaluate_identify: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
