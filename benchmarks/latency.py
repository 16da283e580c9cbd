"""Joint states in to command out, over real DDS in real time with learning on, at several control rates.

    . .venv/bin/activate && . install/setup.sh && python3 benchmarks/latency.py --robots planar2 arm --rates 50 100 200

Brings the ring up in a DDS domain of its own, fits a model to some seconds of excitation, then reaches for a new target
every few seconds and listens: the middleware stamps every message when it is published, so latencies between topics do
not depend on when the listener is scheduled. `processes` is a process per node, `composed` all nodes on one executor.
A deadline is missed where no command that answers a state is out before the next state is due.
"""
from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from mbrl_ros.msg import EffortCommand, LocalDynamics, StateEstimate
from rclpy.node import Node
from sensor_msgs.msg import JointState

from mbrl_ros import assembly
from mbrl_ros.config import Names, unflatten
from mbrl_ros.evaluation import measures
from mbrl_ros.nodes import bringup, spin, topics
from mbrl_ros.nodes.domain import stay_apart
from mbrl_ros.nodes.experiment import PRIORITY
from mbrl_ros.nodes.operator import Operator, OperatorError
from mbrl_ros.ring.stages import Stages
from mbrl_ros.robot import Robot

NEW_TARGET = 2.0  # [s]
SETTLE = 2.0  # [s] of reaching before it counts
HOPS = (topics.STATE, topics.MODEL, topics.ASKED, topics.PASSED)  # in the order of the ring
PATIENT = {"guard.state_age": 0.5, "guard.command_age": 0.5, "controller.watchdog": 0.5}  # [s] late is counted, no end
TICK = os.sysconf("SC_CLK_TCK")


class Case(NamedTuple):
    """What is measured."""

    robot: str = "arm"
    prior: str = "gaussian"
    rate: int = 100  # [Hz]
    composed: bool = False
    executor: str = ""  # the nodes' default
    priority: int = 0
    seconds: float = 20.0
    page: bool = False  # `dashboard:=true`

    def __str__(self) -> str:
        return (f"{self.robot}, {self.prior}, {self.rate} Hz, {'composed' if self.composed else 'processes'}"
                f"{', ' * bool(self.executor)}{self.executor}{f', FIFO {self.priority}' if self.priority else ''}")


class Ring(NamedTuple):
    """What runs."""

    robot: Robot
    settings: Any
    ids: Callable[[], dict[str, int]]  # of its processes, by name
    watch: Callable[[], Any]  # starts again what has ended


class Figures(NamedTuple):
    """What came out."""

    latency: np.ndarray  # (N,) [s] from joint_states to guard/effort_command, of all states that were answered
    hops: dict[str, np.ndarray]  # by topic: (N,) [s] from joint_states on
    ticks: int
    missed: int
    late_states: int  # published by the simulator more than half a period late
    cpu: dict[str, float]  # by process: share of one core
    load: float  # average of the machine over a minute
    mode: str  # of the guard at the end
    stages: dict[str, dict[str, float]]  # [us] by node, then "STAGE_us_p50" and so on


class Probe(Node):
    """Stamps of what is published, from the bytes: [ns] of the state that a message is about, and when it was sent."""

    def __init__(self) -> None:
        super().__init__("probe")
        self.sent: dict[str, dict[int, int]] = {}
        self.mode = ""  # of the guard
        self.stages: dict[str, dict[str, float]] = {}  # by node: "STAGE_us_p50" and so on
        for name in topics.TIMED:
            self.create_subscription(DiagnosticArray, topics.stages(name), self._timed, topics.KEEP)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._said, topics.KEEP)
        self._target = self.create_publisher(PoseStamped, topics.TARGET, topics.RING)
        kinds = {topics.JOINTS: JointState, topics.STATE: StateEstimate, topics.MODEL: LocalDynamics,
                 topics.ASKED: EffortCommand, topics.PASSED: EffortCommand}
        for topic, kind in kinds.items():
            self.create_subscription(kind, topic, self._heard(self.sent.setdefault(topic, {})), topics.KEEP, raw=True)

    def _heard(self, sent: dict[int, int]) -> Any:
        def heard(data: bytes, info: dict[str, Any]) -> None:
            sent.setdefault(_stamp(data), info["source_timestamp"])
        return heard

    def _said(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "guard":
                self.mode = status.message.partition(":")[0]

    def _timed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.stages[status.name] = {pair.key: float(pair.value) for pair in status.values}

    def aim(self, target: Any) -> None:
        """A new target for the tool."""
        self._target.publish(topics.pose(target, time.time_ns()))


def _stamp(data: bytes) -> int:
    """The stamp of a header at the beginning of a serialized message."""
    seconds, nanoseconds = struct.unpack_from("<iI", data, 4)
    return int(seconds * 1_000_000_000 + nanoseconds)


def prioritized() -> bool:
    """Real-time priorities are permitted here."""
    return spin.prioritize(PRIORITY) and spin.prioritize(0)


def _start(case: Case) -> tuple[Callable[[], dict[str, int]], Callable[[], Any], Callable[[], Any]]:
    """Process ids by name, what starts again those that have ended, and what ends them all."""
    names = Names(robot=case.robot, prior=case.prior)
    values = bringup.parse([f"{name}:={value}" for name, value in vars(names).items()]
                           + [f"priority:={case.priority}", f"dashboard:={str(case.page).lower()}"])
    extra = {"robot.period": 1 / case.rate, **PATIENT, **({"process.executor": case.executor} if case.executor else {})}
    if not case.composed:
        processes = bringup.Processes(values, extra)
        return processes.ids, processes.watch, processes.stop
    child = subprocess.Popen([sys.executable, __file__, "--serve", *bringup.node_arguments(values),
                              *bringup.assigned(extra)])
    return lambda: {"ring": child.pid}, lambda: None, lambda: (child.terminate(), child.wait())


def serve(arguments: list[str]) -> int:
    """All nodes of the ring on one executor, until a signal."""
    from mbrl_ros.nodes.experiment import NODES
    from mbrl_ros.nodes.logger_node import LoggerNode

    def run(stop: spin.Stop) -> int:
        nodes = [kind() for kind in NODES if kind is not LoggerNode]
        executor = spin.make_executor(nodes[-1].process.executor)
        for node in nodes:
            executor.add_node(node)
        spin.settle()
        spin.prioritize(nodes[0].process.priority)
        stop.calm = True
        while not stop:
            executor.spin_once(timeout_sec=0.1)
        spin.close(nodes, executor, stop)
        return 0

    return spin.guarded(run, ["latency", *arguments])


def measure(case: Case) -> Figures:
    """Bring up, excite, fit, reach and listen."""
    with running(case) as ring:
        return listen(case, ring)


def alone() -> None:
    """In a domain that nobody else has, with logs in a folder of their own."""
    os.environ.pop("ROS_DOMAIN_ID", None)
    stay_apart()
    os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="ros_log_")


@contextmanager
def running(case: Case) -> Iterator[Ring]:
    """A ring that has excited its arm, fitted a model and reaches."""
    alone()
    ids, watch, end = _start(case)
    spin.init([])
    try:
        yield Ring(*_prepare(case), ids, watch)
    finally:
        end()
        rclpy.try_shutdown()


def _prepare(case: Case) -> tuple[Robot, Any]:
    """The robot and its settings, once it reaches."""
    suited = bringup.suited("realtime")
    settings = assembly.settings(Names(robot=case.robot, prior=case.prior),
                                 unflatten({"robot.period": 1 / case.rate, **suited}))
    robot = assembly.make_robot(settings)
    executor = spin.make_executor("auto")
    operator = Operator(robot, False, lambda seconds: executor.spin_once(timeout_sec=seconds))
    executor.add_node(operator)
    operator.ready()
    operator.request("controller/hold")
    operator.advance(case.rate)
    operator.arm()
    operator.set("controller", "excitation.duration", 4.0)
    operator.set("learner", "learner.fit_seconds", 4.0)
    operator.request("controller/excite")
    operator.advance(round(4.5 * case.rate))
    operator.fit()
    if operator.heard.fault:
        operator.request("controller/hold")
        operator.arm()
    operator.request("controller/reach")
    executor.remove_node(operator)
    operator.destroy_node()
    executor.shutdown()
    return robot, settings


def listen(case: Case, ring: Ring) -> Figures:
    """Of `case.seconds` in which the tool goes to one target after the other."""
    load = os.getloadavg()[0]
    probe = Probe()
    sent, cpu = _listen(case, ring, probe)
    probe.destroy_node()
    return _figures(case, sent, cpu, (load + os.getloadavg()[0]) / 2, probe)


def _listen(case: Case, ring: Ring, probe: Probe) -> tuple[dict[str, dict[int, int]], dict[str, float]]:
    """What was sent, and shares of one core."""
    executor = spin.make_executor("single")  # callbacks with message infos fail in that for events (rclpy 9.1)
    executor.add_node(probe)
    targets = iter(measures.draw_targets(ring.robot, measures.config_of(ring.settings, {"targets": 100, "seed": 0})))
    while not all(probe.sent.values()):  # discovery takes up to seconds, topic by topic
        executor.spin_once(timeout_sec=0.05)
    began, aimed = time.monotonic() + SETTLE, -np.inf
    before: dict[str, float] = {}
    while time.monotonic() < began + case.seconds:
        now = time.monotonic()
        ring.watch()
        if now > aimed + NEW_TARGET:
            aimed = now
            probe.aim(next(targets))
        if now >= began and not before:
            ids, started = {**ring.ids(), "listener": os.getpid()}, now
            before = {name: cpu_time(pid) for name, pid in ids.items()}
            for of in probe.sent.values():
                of.clear()
        executor.spin_once(timeout_sec=0.05)
    passed = time.monotonic() - started
    executor.shutdown()
    still = [name for name, pid in ids.items() if Path(f"/proc/{pid}").exists()]
    return probe.sent, {name: (cpu_time(ids[name]) - before[name]) / passed for name in still}


def cpu_time(pid: int) -> float:
    """[s] in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _figures(case: Case, sent: dict[str, dict[int, int]], cpu: dict[str, float], load: float,
             probe: Probe) -> Figures:
    """Without the last two states, to which the answer may not have been heard yet."""
    period = 1e9 / case.rate
    states = dict(sorted(sent[topics.JOINTS].items())[:-2])
    hops = {topic: 1e-9 * np.array([sent[topic][s] - at for s, at in states.items() if s in sent[topic]])
            for topic in HOPS}
    due = np.array(list(states), float)
    late = np.array(list(states.values())) - due
    late -= np.median(late)
    answered = sum(sent[topics.PASSED].get(s, np.inf) < at + period for s, at in states.items())
    return Figures(hops[topics.PASSED], hops, len(states), len(states) - answered, int((late > period / 2).sum()),
                   cpu, load, probe.mode, probe.stages)


def table(case: object, f: Figures) -> str:
    p50, p99 = np.percentile(1e3 * f.latency, (50, 99)) if len(f.latency) else (np.nan, np.nan)
    share = ", ".join(f"{name} {100 * value:.0f}" for name, value in f.cpu.items())
    between = np.diff([0.0] + [1e3 * np.median(f.hops[topic]) if len(f.hops[topic]) else np.nan for topic in HOPS])
    return (f"| {case} | {p50:.2f} | {p99:.2f} | {1e3 * f.latency.max(initial=0):.2f} "
            f"| {f.missed} of {f.ticks} ({100 * f.missed / max(1, f.ticks):.2f} %) | {f.late_states} "
            f"| {', '.join(f'{x:.2f}' for x in between)} | {_ring_share(f):.0f}: {share} | {f.load:.1f} | {f.mode} |")


def _ring_share(f: Figures) -> float:
    """CPU of the ring without the simulator [% of a core]."""
    return 100 * sum(value for name, value in f.cpu.items() if name not in ("plant", "listener"))


def _stages(f: Figures) -> str:
    """A line per node: median and 99 % of every stage."""
    lines = []
    for node, of in f.stages.items():
        stages = (key.removesuffix("_us_p50") for key in of if key.endswith("_us_p50"))
        lines.append(f"  {node:10} [us] " + ", ".join(f"{s} {of[s + '_us_p50']:.0f} ({of[s + '_us_p99']:.0f})"
                                                     for s in stages))
    return "\n".join(lines)


HEAD = ("| ring | p50 [ms] | p99 [ms] | max [ms] | missed | states late "
        "| estimator, learner, controller, guard p50 [ms] | CPU without plant [% of a core] | load | mode |\n"
        + 10 * "|---" + "|")


def stage_timer_us() -> float:
    """What a tick of five stages costs the node that times it, least of many."""
    stages, stamp = Stages(), time.time_ns()

    def tick() -> None:
        stages.start()
        stages.received(time.time_ns() - stamp)
        for stage in ("convert", "fit", "fill", "publish"):
            stages.done(stage)
        stages.end()

    return 1e6 * min(timeit.repeat(tick, number=1000, repeat=20)) / 1000


def rows(rates: tuple[int, ...] = (50, 100, 200), robots: tuple[str, ...] = ("planar2", "arm"),
         seconds: float = 20.0) -> list[dict[str, Any]]:
    """For a table of all benchmarks; missed deadlines, CPU and load of the machine are in `size`. There is no peer."""
    row = lambda what, size, value: {"what": what, "size": size, "ours_us": value, "peer": None,  # noqa: E731
                                     "peer_us": None, "ratio": None}
    found = [row("stage timer", "5 stages", stage_timer_us())]
    for case in (Case(robot, rate=rate, priority=PRIORITY if prioritized() else 0, seconds=seconds)
                 for robot in robots for rate in rates):
        f = measure(case)
        size = f"{case}, load {f.load:.1f}, missed {f.missed} of {f.ticks}, CPU {_ring_share(f):.0f} % of a core"
        p50, p99, largest = 1e6 * np.percentile(f.latency, (50, 99, 100))
        found += [row(f"joint_states to command, {name}", size, float(value))
                  for name, value in (("p50", p50), ("p99", p99), ("max", largest))]
    return found


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2:])
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robots", nargs="+", default=["arm"])
    p.add_argument("--rates", nargs="+", type=int, default=[50, 100, 200, 500])
    p.add_argument("--priors", nargs="+", default=["gaussian"])
    p.add_argument("--executors", nargs="+", default=[""], help="of the nodes (default: theirs)")
    p.add_argument("--priority", type=int, default=PRIORITY if prioritized() else 0,
                   help="real-time priority of the ring, 0: none (default: as in the demonstration, %(default)s)")
    p.add_argument("--seconds", type=float, default=20.0, help="that count (default: %(default)s)")
    p.add_argument("--composed", action="store_true", help="all nodes on one executor")
    p.add_argument("--stages", action="store_true", help="median (99 %%) of the stages of each node's ticks")
    a = p.parse_args()
    print(f"The stage timer costs {stage_timer_us():.1f} us a tick.\n")
    print(HEAD)
    for case in (Case(robot, prior, rate, a.composed, executor, a.priority, a.seconds)
                 for robot in a.robots for prior in a.priors for rate in a.rates for executor in a.executors):
        try:
            figures = measure(case)
        except OperatorError as error:
            print(f"| {case} | {error} |", flush=True)
            continue
        print(table(case, figures), flush=True)
        if a.stages:
            print(_stages(figures), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
