"""The same experiment by the same controller given the true dynamics, in a process beside.

    python3 -m mbrl_ros.nodes.oracle_run job.json results.json
"""
from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.measures import TargetResult


class OracleRun:
    """A process that is started when it disturbs nobody, and whose results are asked for when they are needed."""

    def __init__(self, settings: Mapping[str, Any], config: measures.Config, seed: int):
        self._job = {"settings": settings, "config": dataclasses.asdict(config), "seed": seed}
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="mbrl_ros_oracle_")
        self._results = Path(self._folder.name) / "results.json"

    def start(self) -> None:
        """Start the process, unless it has been started."""
        if self._process is None:
            job = Path(self._folder.name) / "job.json"
            job.write_text(json.dumps(self._job))
            self._process = subprocess.Popen([sys.executable, "-m", "mbrl_ros.nodes.oracle_run", job, self._results])

    def results(self, idle: Callable[[], None]) -> list[TargetResult]:
        """Wait for the results, which are empty where it failed; `idle` is called meanwhile."""
        while self._process is not None and self._process.poll() is None:
            idle()
            time.sleep(0.1)
        if not self._results.is_file():
            return []
        return [TargetResult(**row) for row in json.loads(self._results.read_text())]

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def main(arguments: list[str]) -> None:
    """Run the job in the first file, write the results into the second."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import torch

    from mbrl_ros.evaluation.reach import run_oracle

    torch.set_num_threads(1)
    job = json.loads(Path(arguments[0]).read_text())
    results = run_oracle(job["settings"], measures.Config(**job["config"]), job["seed"])
    Path(arguments[1]).write_text(json.dumps([dataclasses.asdict(result) for result in results]))


if __name__ == "__main__":
    main(sys.argv[1:])
