"""The whole thing on a simulated robot: excite, fit a model beside the ring, reach random targets, with a payload put
into the hand half-way. Ends with a table and a folder of figures, a recording and plots.

    python3 -m mbrl_ros.nodes.demo --robot arm --prior ensemble --seed 0

All nodes in this process in lock-step, faster than real time and repeatable; or, with --processes, each in a process
of its own in real time.
"""
from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from rclpy.parameter import Parameter

from mbrl_ros import assembly, config, scenario
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.nodes import bringup, demo_report, spin
from mbrl_ros.nodes.controller_node import ControllerNode
from mbrl_ros.nodes.estimator_node import EstimatorNode
from mbrl_ros.nodes.learner_node import LearnerNode
from mbrl_ros.nodes.logger_node import LoggerNode
from mbrl_ros.nodes.operator import Operator, OperatorError
from mbrl_ros.nodes.oracle_run import OracleRun
from mbrl_ros.nodes.plant_node import PlantNode
from mbrl_ros.nodes.progress import Progress
from mbrl_ros.scenario import FAILED, TargetResult

RESTING = 50  # periods of hold before the excitation and after the fit
NODES = (PlantNode, EstimatorNode, LearnerNode, ControllerNode, LoggerNode)


class Interrupted(Exception):
    """The user has had enough."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A mistake is one line."""
        raise ConfigError(f"{message} (--help lists all options)")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="demo", description=(__doc__ or "").split("\n\n")[0])
    names, run = Names(), scenario.Config()
    for name in ("robot", "task", "planner", "prior"):
        p.add_argument(f"--{name}", default=getattr(names, name), help="name of a shipped file or path of a .yaml file")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--targets", type=int, default=run.targets)
    p.add_argument("--data-seconds", type=float, default=run.data_seconds, help="how long to excite [s]")
    p.add_argument("--pace", choices=("lockstep", "realtime"), help="default: lockstep, realtime with --processes")
    p.add_argument("--processes", action="store_true", help="a process per node")
    p.add_argument("--no-adapt", action="store_true", help="the fitted model as it is, without learning on the way")
    p.add_argument("--executor", choices=("single", "events"), default="events", help="for nodes in this process")
    p.add_argument("--no-plots", action="store_true")
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


class Demo:
    """One run of the demonstration."""

    def __init__(self, a: argparse.Namespace, stop: spin.Stop):
        self.arguments, self._stop = a, stop
        self.pace = a.pace or ("realtime" if a.processes else "lockstep")
        self.names = Names(a.robot, a.task, a.planner, a.prior)
        self.settings = assembly.with_seed(assembly.settings(self.names), a.seed)
        self.robot = assembly.make_robot(self.settings)
        self.config = config.from_mapping(scenario.Config, {
            "targets": a.targets, "data_seconds": a.data_seconds, "seed": a.seed}, "scenario")
        self.targets = scenario.draw_targets(self.robot, self.config)
        self.folder = _new_folder(a.output)
        self.progress = Progress()
        self.first_response = 0  # of operator.response while reaching
        self._nodes: list[Any] = []
        self._processes: bringup.Processes | None = None
        self._overrides = {"plant.pace": self.pace, "plant.hold_after": 0 if self.pace == "lockstep" else -1,
                           "logger.folder": str(self.folder / "recording"),
                           **{f"{part}.seed": a.seed for part in ("plant", "excitation", "controller", "learner")}}

    def start(self) -> None:
        """The ring and its operator."""
        a = self.arguments
        self._executor = spin.make_executor("single" if a.processes else a.executor)
        self.operator = Operator(self.robot, self.pace == "lockstep", self._spin)
        if a.processes:
            values = bringup.parse([f"{n}:={getattr(self.names, n)}" for n in ("robot", "task", "planner", "prior")]
                                   + [f"pace:={self.pace}", f"log:={self._overrides['logger.folder']}"])
            extra = [word for name, value in self._overrides.items() for word in ("-p", f"{name}:={value}")]
            self._processes = bringup.Processes(values, extra)
        else:
            given = {**vars(self.names), **self._overrides}
            overrides = [Parameter(name, value=value) for name, value in given.items()]
            self._nodes = [kind(parameter_overrides=overrides) for kind in NODES]
        for node in (*self._nodes, self.operator):
            self._executor.add_node(node)
        spin.freeze()
        self.operator.ready()

    def _spin(self, seconds: float) -> None:
        self._executor.spin_once(timeout_sec=seconds)
        self.progress.show()
        ended = self._processes.ended() if self._processes else None
        if self._stop:
            raise Interrupted
        if ended is not None:
            raise OperatorError(f"{ended[0]} ended with exit code {ended[1]}")

    def idle(self) -> None:
        """While something outside the ring is waited for."""
        self.progress.show()
        if self._stop:
            raise Interrupted

    def run(self) -> list[TargetResult]:
        """The experiment."""
        operator, run = self.operator, self.config
        self.progress.watch(operator, self.robot.period)
        operator.set("controller", "excitation.duration", run.data_seconds)
        operator.set("learner", "learner.fit_seconds", run.data_seconds)
        self.progress.phase("hold")
        operator.request("controller/hold")
        operator.advance(RESTING)
        self.progress.phase(f"excite {run.data_seconds:g} s")
        operator.request("controller/excite")
        operator.advance(round(run.data_seconds / self.robot.period))
        self.progress.phase("fit")
        operator.fit()
        if self.arguments.no_adapt:
            operator.set("learner", "learner.adapt", False)
        operator.request("controller/hold")
        operator.advance(RESTING)
        results: list[TargetResult] = []
        self.first_response = len(operator.response)
        for i, target in enumerate(self.targets):
            if i == (run.targets + 1) // 2:
                operator.set("plant", "plant.payload", run.payload)
            self.progress.phase(f"target {i + 1}/{run.targets}", target)
            results.append(self._reach(target) if FAILED not in results else FAILED)
        operator.request("controller/stop")
        operator.hear_out()
        return results

    def _reach(self, target: Any) -> TargetResult:
        operator = self.operator
        operator.set("controller", "task.target", target.tolist())
        operator.request("controller/reach")
        stamps = operator.advance(round(self.config.seconds_per_target / self.robot.period))
        if operator.fault:
            return FAILED
        tool, reference, effort = operator.track(stamps)
        return scenario.score(self.robot, tool, reference, target, effort)

    def close(self) -> None:
        """End everything that was started."""
        self.progress.end()
        if self._processes is not None:
            self._processes.stop()
        spin.close([*self._nodes, self.operator])


def _new_folder(parent: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for name in (stamp, *(f"{stamp}-{i}" for i in range(2, 100))):
        try:
            (parent / name).mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"--output: {parent}: {error.strerror}") from error
        return parent / name
    raise ConfigError(f"--output: {parent}: no free name for a new folder")


def main(args: list[str] | None = None) -> int:
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # nobody else's robot
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return spin.guarded(lambda stop: _main(sys.argv[1:] if args is None else args, stop), [])


def _main(arguments: list[str], stop: spin.Stop) -> int:
    demo = Demo(parser().parse_args(arguments), stop)
    stop.calm = True
    oracle = OracleRun(demo.settings, demo.config, demo.arguments.seed)
    try:
        if demo.pace == "lockstep":
            oracle.start()  # on another core; in real time it would disturb the ring
        demo.start()
        results = demo.run()
        demo.close()
        demo.progress.phase("waiting for the best possible run")
        oracle.start()
        figures = demo_report.summary(demo, results, oracle.results(demo.idle))
        demo_report.write(demo.folder, figures)
        print(demo_report.table(figures))
        print(f"all of it is in {demo.folder}")
        return 1 if figures["diverged"] else 0
    except OperatorError as error:
        demo.close()
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        demo.close()
        print("demo: interrupted", file=sys.stderr)
        return 130
    finally:
        oracle.stop()


if __name__ == "__main__":
    raise SystemExit(main())
