"""The process in which the trainer of a node learns, so that nothing of it delays anybody.

    python3 -m mbrl_ros.nodes.training_work FOLDER

It learns from the trials in the folder (training.py), then from those that are new at every line of its input, and says
each time in a line of JSON what to play next. It ends with its input. A mistake of the user is one line on stderr and
exit code 2.
"""
from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from mbrl_ros.evaluation.command import finite
from mbrl_ros.nodes.__main__ import PARENT, end_with
from mbrl_ros.recordings.fit import NICENESS
from mbrl_ros.trainers.training import Training, opened


def said(training: Training, before: int) -> Any:
    """What to play next, by file, and the rows of the updates since `before`."""
    saved, model = training.announced()
    of = training.policy
    return finite({"trials": len(training.trials), "updates": len(training.rows), "policy": saved, "model": model,
                   "plays": of if isinstance(of, str) else "policy", "target": training.target.tolist(),
                   "rows": training.rows[before:]})


def main(arguments: list[str] | None = None) -> int:
    folder, = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the node, which ends this
    parent = os.environ.pop(PARENT, "")
    if parent:
        end_with(int(parent))
    torch.set_num_threads(1)
    os.nice(NICENESS)
    out = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):  # whatever a library says
            training = opened(Path(folder))
            print(json.dumps(said(training, 0)), file=out, flush=True)
            for _ in sys.stdin:
                before = len(training.rows)
                training.look()
                print(json.dumps(said(training, before)), file=out, flush=True)
    except (ValueError, OSError) as error:  # ConfigError, RecordingError and MessageError are ValueErrors
        print(f"trainer: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
