"""The whole thing on a simulated robot: excite, fit a model beside the ring, reach random targets, with a load put into
the hand half-way. Ends with a table, and a folder with figures, a recording, plots and an animation.

    python3 -m mbrl_ros.nodes.demo --robot arm --prior ensemble --seed 0

All nodes in this process in lock-step, faster than real time and repeatable; or, with --processes, each in a process
of its own in real time.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from mbrl_ros import options
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.evaluation import measures
from mbrl_ros.nodes import bringup, demo_report, spin
from mbrl_ros.nodes.domain import stay_apart
from mbrl_ros.nodes.experiment import Experiment, Interrupted
from mbrl_ros.nodes.operator import OperatorError
from mbrl_ros.nodes.oracle_run import OracleRun
from mbrl_ros.options import EXECUTORS


class Parser(argparse.ArgumentParser):
    """An argument parser that says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (--help lists all options)")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="demo", description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    names, run = Names(), measures.Config()
    for name in ("robot", "task", "planner", "prior"):
        p.add_argument(f"--{name}", default=getattr(names, name),
                       help="name of a shipped file or path of a .yaml file (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of noise, excitation, fit and targets (default: %(default)s)")
    p.add_argument("--targets", type=int, default=run.targets, help="how many (default: %(default)s)")
    p.add_argument("--data-seconds", type=float, default=run.data_seconds,
                   help="how long to excite [s] (default: %(default)s)")
    p.add_argument("--pace", choices=("lockstep", "realtime"), help="default: lockstep; realtime with --processes")
    p.add_argument("--processes", action="store_true", help="a process per node")
    p.add_argument("--no-adapt", action="store_true", help="the fitted model as it is, without learning on the way")
    p.add_argument("--executor", choices=EXECUTORS, default="auto",
                   help="for nodes in this process (default: %(default)s)")
    p.add_argument("--dashboard", type=int, metavar="PORT", nargs="?", const=options.Dashboard.port,
                   help="a page that shows the run, on this machine only, at this port (default: %(const)s)")
    p.add_argument("--no-plots", action="store_true", help="neither plots nor animation")
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


def main(args: list[str] | None = None) -> int:
    """Run the demonstration; 0: done, 1: the run failed, 2: a mistake of the user."""
    stay_apart()
    arguments = sys.argv[1:] if args is None else args
    return spin.guarded(lambda stop: _main(arguments, stop), [], Interrupted, bringup.ENDING)


def _main(arguments: list[str], stop: spin.Stop) -> int:
    try:
        experiment = Experiment(parser().parse_args(arguments), stop)
        oracle = OracleRun(experiment.settings, experiment.config, experiment.arguments.seed)
        return _run(experiment, oracle, stop)
    except OperatorError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        print("demo: interrupted", file=sys.stderr)
        return 130


def _run(experiment: Experiment, oracle: OracleRun, stop: spin.Stop) -> int:
    progress = experiment.progress
    stop.calm = True
    try:
        if experiment.lockstep:
            oracle.start()  # on another core; in real time it would disturb the ring
        experiment.start()
        results = experiment.run()
        experiment.close()
        oracle.start()
        stop.calm = False
        if not experiment.arguments.no_plots:
            progress.phase("drawing")
            progress.show()
            demo_report.draw(experiment)
        progress.phase("waiting for the run given the true dynamics")
        figures = demo_report.summary(experiment, results, oracle.results(experiment.idle))
    finally:
        stop.calm = True
        progress.end()
        experiment.close()
        oracle.stop()
    demo_report.write(experiment.folder, figures)
    print(demo_report.table(figures))
    print(f"all of it is in {experiment.folder}")
    return 1 if figures["diverged"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
