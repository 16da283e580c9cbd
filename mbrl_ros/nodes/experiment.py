"""The demonstration as an operator runs it over ROS: what evaluation/ does in the plain loop, tick for tick."""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Any

from rclpy.parameter import Parameter

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, flatten, new_folder, section, unflatten
from mbrl_ros.evaluation import measures, procedure
from mbrl_ros.evaluation.measures import FAILED, TargetResult
from mbrl_ros.nodes import bringup, spin
from mbrl_ros.nodes.controller_node import ControllerNode
from mbrl_ros.nodes.estimator_node import EstimatorNode
from mbrl_ros.nodes.guard_node import GuardNode
from mbrl_ros.nodes.learner_node import LearnerNode
from mbrl_ros.nodes.logger_node import LoggerNode
from mbrl_ros.nodes.operator import Operator, OperatorError
from mbrl_ros.nodes.plant_node import PlantNode
from mbrl_ros.nodes.progress import Progress
from mbrl_ros.types import Array

NODES = (GuardNode, PlantNode, EstimatorNode, LearnerNode, ControllerNode, LoggerNode)
LATE = 0.2  # [s] for the guard in real time: a virtual machine may lose its processor for 50 ms
PRIORITY = 10  # of the ring in real time, where permitted: other work on the machine then costs no deadline


class Interrupted(Exception):
    """Raised where the user has interrupted the run."""


class Experiment:
    """One run: the ring in this process or in processes of its own, and the operator. A procedure.Driver."""

    def __init__(self, a: argparse.Namespace, stop: spin.Stop):
        self.arguments, self._stop = a, stop
        self.pace = a.pace or ("realtime" if a.processes else "lockstep")
        self.lockstep = self.pace == "lockstep"
        self.names = Names(a.robot, a.task, a.planner, a.prior)
        self._suited = bringup.suited(self.pace)
        self.settings = assembly.with_seed(assembly.settings(self.names, unflatten(self._suited)), a.seed)
        self.robot = assembly.make_robot(self.settings)
        self.config = measures.config_of(self.settings, {
            "targets": a.targets, "data_seconds": a.data_seconds, "seed": a.seed})
        if self.lockstep and self.config.data_seconds == 0:
            raise ConfigError("--data-seconds: expected more than 0 in lock-step, whose clock runs on during a fit; "
                              "with --pace realtime it can learn on the way")
        self.targets = measures.draw_targets(self.robot, self.config)
        self.folder = new_folder(a.output)
        self.progress = Progress()
        self.first_response = 0  # of those heard, while reaching
        self.before_armed = 0, 0  # ticks; of those, deadlines missed
        self.reaches: list[list[int]] = []  # stamps [ns] of the ticks of every target
        self._armed = False
        self._nodes: list[Any] = []
        self._executor: Any = None
        self._processes: bringup.Processes | None = None
        self._page: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Bring up the ring and its operator."""
        given = {"plant.pace": self.pace, "guard.arm_at_start": self.lockstep,
                 "plant.hold_after": 0 if self.lockstep else -1,
                 **({} if self.lockstep else self._patience()),
                 "logger.folder": str(self.folder / "recording"),
                 **flatten(procedure.learning(self.config.data_seconds)),
                 **{f"{part}.seed": self.arguments.seed for part in ("plant", "excitation", "controller", "learner")}}
        apart = self.arguments.processes
        self._open_page()
        self._executor = spin.make_executor("auto" if apart else self.arguments.executor)
        self.operator = Operator(self.robot, self.lockstep, self._spin)
        self._nodes.append(self.operator)
        if apart:
            values = bringup.parse([f"{name}:={value}" for name, value in vars(self.names).items()]
                                   + [f"pace:={self.pace}", f"log:={given['logger.folder']}",
                                      f"priority:={PRIORITY if self._may_prioritize() else 0}"])
            self._processes = bringup.Processes(values, given)
        else:
            all_given = {**vars(self.names), **self._suited, **given}
            overrides = [Parameter(name, value=value) for name, value in all_given.items()]
            for kind in NODES:
                self._nodes.append(kind(parameter_overrides=overrides))
                self.idle()
        for node in self._nodes:
            self._executor.add_node(node)
        spin.settle()
        self.operator.ready()
        self.operator.wait(lambda: "logger" in self.operator.heard.said, "waiting for the logger")

    def _open_page(self) -> None:
        """Start the page, if it is asked for, in a process of its own."""
        if self.arguments.dashboard is None:
            return
        given = {**vars(self.names), **self._suited, "dashboard.port": self.arguments.dashboard}
        self._page = subprocess.Popen([sys.executable, "-m", "mbrl_ros.nodes", "dashboard_node", "--ros-args",
                                       *bringup.assigned(given)], env={**os.environ, **bringup.environment()})

    def _patience(self) -> dict[str, float]:
        """Of the guard in real time, where the settings say nothing."""
        return {f"guard.{name}": LATE for name in ("state_age", "command_age")
                if name not in section(self.settings, "guard")}

    def _may_prioritize(self) -> bool:
        return not self.lockstep and spin.prioritize(PRIORITY) and spin.prioritize(0)

    def _spin(self, seconds: float) -> None:
        self._executor.spin_once(timeout_sec=seconds)
        self.idle()
        ended = self._processes.ended() if self._processes else None
        if self._page is not None and self._page.poll() is not None:
            ended = "page", self._page.returncode
        if ended is not None:
            raise OperatorError(f"the process of the {ended[0]} ended with exit code {ended[1]}")

    def idle(self) -> None:
        """What is done while something is waited for: show the progress. Raises Interrupted."""
        self.progress.show()
        if self._stop:
            raise Interrupted

    def process_ids(self) -> dict[str, int]:
        """Process ids of the nodes that have processes of their own, by name."""
        return self._processes.ids() if self._processes else {}

    def learn(self) -> None:
        """Excite, and fit a model."""
        self.progress.watch(self.operator.heard, self.robot.period)
        procedure.learn(self, self.config.data_seconds)

    def run(self) -> list[TargetResult]:
        """Learn, and reach every target; after a fault the remaining targets have failed."""
        operator = self.operator
        self.learn()
        self.first_response = len(operator.heard.response)
        results = procedure.follow_all(self, self.config, self.targets)
        operator.request("controller/stop")
        operator.hear_out()
        if not self.lockstep:
            operator.disarm()
        return results

    def _let(self, phase: str, service: str, seconds: float) -> None:
        self.progress.phase(phase)
        self.operator.request(service)
        self.operator.advance(round(seconds / self.robot.period))

    def hold(self, seconds: float) -> None:
        """Hold, and let the arm come to rest."""
        self._let("hold", "controller/hold", seconds)

    def _arm(self) -> None:
        """Arm the guard: from here on it passes on what the controller asks for."""
        if self.lockstep or self._armed:
            return
        self.operator.request("controller/hold")
        self.operator.arm()
        self.operator.hear_out()
        heard = self.operator.heard
        self._armed, self.before_armed = True, (len(heard.stamps), int(heard.figure("plant", "missed")))

    def excite(self, seconds: float) -> None:
        """Excite: move all joints."""
        self._arm()
        self._let(f"excite {seconds:g} s", "controller/excite", seconds)

    def fit(self, seconds: float) -> None:
        """Fit a model to as much motion as the learner has been told to take; then learn no more, if that is asked."""
        self.progress.phase(f"fit {self.settings['learner']['prior']}")
        self.operator.fit()
        if self.arguments.no_adapt:
            self.operator.set("learner", "learner.adapt", False)

    def disturb(self) -> None:
        """Put the load into the hand."""
        self.operator.set("plant", "plant.payload", self.config.payload)

    def follow(self, target: Array) -> TargetResult:
        """Reach one target, and measure how well."""
        self._arm()
        self.progress.phase(f"target {len(self.reaches) + 1}/{self.config.targets}", target)
        self.operator.set("controller", "task.target", target.tolist())
        self.operator.request("controller/reach")
        stamps = self.operator.advance(round(self.config.seconds_per_target / self.robot.period))
        self.reaches.append(stamps)
        if self.operator.heard.fault:
            return FAILED
        tool, reference, effort = self.operator.heard.track(stamps)
        return measures.score(self.robot, tool, reference, target, effort)

    def close(self) -> None:
        """End everything that was started; repeated calls do nothing."""
        if self._processes is not None:
            self._processes.stop()
        if self._page is not None:
            bringup.end([("page", self._page)])
            self._page = None
        nodes, self._nodes, self._processes = self._nodes, [], None
        executor, self._executor = self._executor, None
        spin.close(nodes, executor)
