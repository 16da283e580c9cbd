"""The same experiment by the same controller given the true dynamics: the best possible run, in a process beside."""
from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from typing import Any

from mbrl_ros import scenario
from mbrl_ros.scenario import TargetResult

CONTEXT = get_context("spawn")  # nothing of the ring's process is shared


class OracleRun:
    """Started when it disturbs nobody, asked for when it is needed."""

    def __init__(self, settings: Mapping[str, Any], config: scenario.Config, seed: int):
        self._receiver, sender = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_run, args=(sender, settings, config, seed), daemon=True)
        self._sender = sender
        self._results: list[TargetResult] | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._process.pid is None:
            self._process.start()
            self._sender.close()

    def results(self, idle: Callable[[], None]) -> list[TargetResult]:
        """Empty where it failed; `idle` is called while waiting."""
        while not self._receiver.poll(0.1):
            idle()
        try:
            return self._receiver.recv()
        except EOFError:
            return []

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


def _run(sender: Any, settings: Mapping[str, Any], config: scenario.Config, seed: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    import torch

    from mbrl_ros.evaluate import run_oracle

    torch.set_num_threads(1)
    sender.send(run_oracle(settings, config, seed))
