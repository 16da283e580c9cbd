"""Fit a global model: to a recording, or as the job of the learner, in a process of its own so that training never
delays a tick.

    python3 -m mbrl_ros.recordings.fit RECORDING --model ensemble --robot arm [--hold-out 0.2] [--output FOLDER]
    python3 -m mbrl_ros.recordings.fit data.npz settings.yaml model.npz

A recording is a folder or .mcap file with state estimates. The first form prints how well the model predicts blocks of
time that were held out, fits it to all, and writes a folder that the learner can start with (learner.resume).

The second is a job as write_job leaves it: data.npz holds transitions (x, u, x_next), settings.yaml the nested
parameters of the learner. It prints one line of JSON. In both, a mistake of the user is one line on stderr and exit
code 2.
"""
from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

NICENESS = 5  # the ring goes first


def write_job(folder: Path, transitions: Any, settings: Any) -> list[str]:
    """Write the files of a job into `folder`; returns the arguments of `main`."""
    import numpy as np
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    data, parameters, model = folder / "data.npz", folder / "settings.yaml", folder / "model.npz"
    np.savez(data, x=transitions.x, u=transitions.u, x_next=transitions.x_next)
    parameters.write_text(yaml.safe_dump(json.loads(json.dumps(settings))))  # tuples become lists
    return [str(data), str(parameters), str(model)]


def run_job(data: str, parameters: str, model: str) -> dict[str, Any]:
    """Fit and save. Raises ConfigError or ValueError for settings or data that cannot be used."""
    import torch
    import yaml

    from mbrl_ros import assembly
    from mbrl_ros.models.features import Data
    from mbrl_ros.models.prior import fit, residuals, save
    from mbrl_ros.ring.learner import features_of

    torch.set_num_threads(1)
    settings = yaml.safe_load(Path(parameters).read_text())
    robot = assembly.make_robot(settings)
    config = assembly.make_learner(settings, robot).config
    pairs = Data.of(read_transitions(Path(data)), features_of(robot), robot)
    fitted = fit(config.prior, pairs, settings, config.seed)
    save(fitted, model)
    return {"transitions": len(pairs.w), "loss": residuals(fitted, pairs.w, pairs.y)[2]}


def read_transitions(path: Path) -> Any:
    """What `write_job` wrote."""
    import numpy as np

    from mbrl_ros.types import Transitions

    with np.load(path, allow_pickle=False) as file:
        return Transitions(file["x"], file["u"], file["x_next"])


def fit_recording(a: argparse.Namespace) -> None:
    """Report on the blocks held out, then fit to all as a job would and save."""
    import torch

    from mbrl_ros import assembly
    from mbrl_ros.config import ConfigError, Names, merge, new_folder, parse_overrides
    from mbrl_ros.models.prior import load
    from mbrl_ros.recordings import fit_recording as recorded

    torch.set_num_threads(1)
    more = parse_overrides(a.set)
    if not 0 <= a.hold_out < 1 or (a.seconds is not None and a.seconds <= 0):
        raise ConfigError("expected --hold-out from 0 to below 1, and --seconds above 0")
    path = Path(a.paths[0])
    trials = recorded.read(path, a.topic)
    as_recorded = {"robot": {"effort_history": recorded.effort_history(trials)}}
    settings = assembly.settings(Names(robot=a.robot, prior=a.model), merge(as_recorded, more))
    robot = assembly.make_robot(settings)
    config = assembly.make_learner(settings, robot).config
    transitions = recorded.motion(trials, path, robot, a.seconds)
    if a.hold_out:
        print(recorded.table(recorded.score(config.prior, transitions, robot, settings, config.seed, a.hold_out)),
              flush=True)
    folder = a.output or new_folder(Path("runs"), "fit_")
    job = write_job(folder, transitions, settings)
    figures = run_job(*job)
    estimate = getattr(load(job[-1], robot), "estimate", None)
    if estimate is not None:
        print(estimate.table())
    print(f"{config.prior}, fitted to all {figures['transitions']} transitions ({figures['loss']:.2f} nats): start the "
          f"learner with learner.resume:={folder.resolve()}")


def parser() -> argparse.ArgumentParser:
    """The command line of both forms."""
    p = argparse.ArgumentParser(prog="fit", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    p.add_argument("paths", nargs="+", metavar="PATH", help="a recording; or the three files of a job")
    p.add_argument("--model", default="ensemble", help="a name in config/models or path of a .yaml file (%(default)s)")
    p.add_argument("--robot", default="arm", help="a name in config/robots or path of a .yaml file (%(default)s)")
    p.add_argument("--topic", help="which state estimates, where a recording has those of several robots")
    p.add_argument("--seconds", type=float, help="how much of the latest motion; without it, all")
    p.add_argument("--hold-out", type=float, default=0.2, help="part of the motion to test on; 0: none (%(default)s)")
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{nominal: {identify: true}}'")
    p.add_argument("--output", type=Path, help="folder for the model; without it, a new one in runs/")
    return p


def main(arguments: list[str] | None = None) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    p = parser()
    a = p.parse_args(arguments)
    if len(a.paths) not in (1, 3):
        p.error("expected a recording, or the three files of a job")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # where the ring has real-time priority
    os.nice(NICENESS)
    try:
        if len(a.paths) == 1:
            fit_recording(a)
        else:
            print(json.dumps(run_job(*a.paths)), flush=True)
    except (ValueError, OSError) as error:  # ConfigError, RecordingError and MessageError are ValueErrors
        print(f"fit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
