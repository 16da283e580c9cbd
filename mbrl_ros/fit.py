"""Fit a global model in a process of its own, so that training never delays a tick.

    python3 -m mbrl_ros.fit data.npz settings.yaml model.npz

data.npz holds transitions (x, u, x_next), settings.yaml the nested parameters of the learner. Prints one line of JSON;
a mistake of the user is one line on stderr and exit code 2.
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
    from mbrl_ros.learner import features_of
    from mbrl_ros.models.features import Data
    from mbrl_ros.models.prior import fit, save

    torch.set_num_threads(1)
    settings = yaml.safe_load(Path(parameters).read_text())
    robot = assembly.make_robot(settings)
    config = assembly.make_learner(settings, robot).config
    pairs = Data.of(read_transitions(Path(data)), features_of(robot), robot)
    fitted = fit(config.prior, pairs, settings, config.seed)
    save(fitted, model)
    return {"transitions": len(pairs.w), "loss": _loss(fitted, pairs)}


def read_transitions(path: Path) -> Any:
    """What `write_job` wrote."""
    import numpy as np

    from mbrl_ros.types import Transitions

    with np.load(path, allow_pickle=False) as file:
        return Transitions(file["x"], file["u"], file["x_next"])


def _loss(model: Any, data: Any) -> float:
    """Mean negative log-likelihood of the data it was fitted to [nats per transition]; 0 for `none`, which has none."""
    import torch

    if not hasattr(model, "predict"):
        return 0.0
    y = model.predict(torch.as_tensor(data.w))
    normal = torch.distributions.MultivariateNormal(y.mean, y.cov)
    return float(-normal.log_prob(torch.as_tensor(data.y)).mean())


def main(arguments: list[str] | None = None) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser(prog="python3 -m mbrl_ros.fit", description=(__doc__ or "").split("\n\n")[0])
    for name in ("data", "settings", "model"):
        parser.add_argument(name)
    a = parser.parse_args(arguments)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # where the ring has real-time priority
    os.nice(NICENESS)
    try:
        print(json.dumps(run_job(a.data, a.settings, a.model)), flush=True)
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        print(f"fit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
