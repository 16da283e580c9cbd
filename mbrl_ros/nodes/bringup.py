"""The ring as processes, one per node: what launch/bringup.launch.py does, for where there is no launch_ros.

    python3 -m mbrl_ros.nodes.bringup robot:=arm task:=reach planner:=ilqr prior:=ensemble plant:=true log:=false

Ends, with all processes, on SIGINT or SIGTERM, or when the guard ends by itself. A node that is killed is started
again, the guard at once, while the spare holds the arm in its place; so is any other that ends, while the guard holds
the arm, unless it never came up because of a mistake of the user.
"""
from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from mbrl_ros import config
from mbrl_ros.config import ConfigError
from mbrl_ros.nodes.__main__ import PARENT
from mbrl_ros.nodes.domain import ring_name
from mbrl_ros.nodes.parameters import KINDS
from mbrl_ros.nodes.spin import PATIENCE, RECORDING, USER_ERROR, Ended, Stop

ARGUMENTS = {  # name: (default, description)
    "robot": ("arm", "name of a file in config/robots or path of a .yaml file"),
    "task": ("reach", "name of a file in config/tasks or path of a .yaml file"),
    "planner": ("ilqr", "name of a file in config/planners or path of a .yaml file"),
    "prior": ("ensemble", "name of a file in config/models or path of a .yaml file"),
    "plant": ("true", "true: a simulated robot; false: whatever publishes joint_states and takes "
                      "effort_controller/commands"),
    "pace": ("realtime", "of the simulated robot: realtime or lockstep"),
    "spare": ("true", "true: in real time a second guard stands by, and holds the arm where the first is killed or "
                      "stopped"),
    "log": ("", "folder to record into; empty: no recording"),
    "params_file": ("", "a ROS parameter file for all nodes, as of ros2 param dump; it wins over arguments that are "
                    "not given"),
    "trainer": ("", "name of a trainer, which learns from trials once trainer/start is called; empty: none"),
    "trials": ("runs/training", "folder of its trials; where there are some already, it goes on from them"),
    "dashboard": ("false", "true: a page that shows the ring, on this machine only: http://127.0.0.1:8080"),
    "display": ("false", "true: plan and tube as markers, and robot_description of a simulated robot, for RViz"),
    "priority": ("0", "real-time priority (SCHED_FIFO) of the ring, 1 to 99; 0: none"),
    "namespace": ("", "in front of all relative names, for a second robot"),
    "enclave": ("", "SROS 2: the node NAME runs in the enclave <this>/NAME; empty: in the default one"),
}
BESIDE = ("dashboard", "display")  # nodes that only show something
FIRST, LAST = "controller", ("guard", "spare", "plant")  # to end; the others between them, at once
PACES = ("realtime", "lockstep")
PRIORITIES = 99  # of SCHED_FIFO, and none


def grace(name: str) -> float:
    """How long a node may take to end after SIGINT or SIGTERM [s]: longer than it grants itself, so that it says what
    was cut short."""
    return 1.0 + (RECORDING if name == "logger" else PATIENCE)


ENDING = 1.0 + grace("logger") + sum(map(grace, (FIRST, *LAST)))  # [s] for all of them


def respawn(name: str) -> float:
    """After how long a node that has ended is started again [s]: without a guard nothing reaches the robot."""
    return 0.0 if name == "guard" else 1.0


def ends_all(name: str, code: int, again: bool) -> bool:
    """The others end with this node: with a guard that ends by itself, as one that was killed does not, and where it is
    the user's mistake that a node cannot start. No later end of another node is a reason to let the arm fall."""
    return (name == "guard" and code >= 0) or (code == USER_ERROR and not again)


def parse(arguments: list[str]) -> dict[str, str]:
    """Read `name:=value` pairs; what is not among them has its default. Raises ConfigError."""
    known(arguments)
    given = dict(argument.split(":=", 1) for argument in arguments)
    return check({name: given.get(name, default) for name, (default, _) in ARGUMENTS.items()})


def known(arguments: Iterable[str]) -> None:
    """Raises ConfigError for what is no NAME:=VALUE of one of our names."""
    for argument in arguments:
        name, assigned, _ = argument.partition(":=")
        if not assigned or name not in ARGUMENTS:
            raise ConfigError(f"{argument!r}: expected NAME:=VALUE; the names are {', '.join(ARGUMENTS)}")


def check(values: dict[str, str]) -> dict[str, str]:
    """The values again. Raises ConfigError for those of no use, before anything is started."""
    for name, kind in KINDS.items():
        config.find(kind, values[name])
    if values["params_file"]:
        config.read(Path(values["params_file"]))
    switches = ((name, ("true", "false")) for name in ("plant", "spare", *BESIDE))
    for name, choices in (*switches, ("pace", PACES)):
        if values[name] not in choices:
            raise ConfigError(f"{name}: expected {' or '.join(choices)}, got {values[name]!r}")
    if not values["priority"].isdecimal() or int(values["priority"]) > PRIORITIES:
        raise ConfigError(f"priority: expected a whole number from 0 to {PRIORITIES}, got {values['priority']!r}")
    if not re.fullmatch(r"/?([A-Za-z_]\w*(/[A-Za-z_]\w*)*)?", values["namespace"]):
        raise ConfigError(f"namespace: expected letters, digits and _ between slashes, got {values['namespace']!r}")
    return values


def claim(values: dict[str, str]) -> IO[str]:
    """What says, as long as it is open, that a ring of this user runs in this namespace of this DDS domain.

    Raises ConfigError where there is one already on this machine: two guards would command one robot.
    """
    namespace = "/" + values["namespace"].strip("/")
    place = Path(tempfile.gettempdir()) / ring_name(namespace)
    file = place.open("a+")  # the system lets go of it, however this process ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise ConfigError(f"namespace: a ring runs in {namespace} already (process {owner}); expected another one, or "
                          "another ROS_DOMAIN_ID") from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def suited(pace: str) -> dict[str, int]:
    """Parameters that suit a pace.

    In real time commands arrive in the middle of a period, so that the effort before the last tells something as well.
    """
    return {"robot.effort_history": 2} if pace == "realtime" else {}


def defaults(values: dict[str, str]) -> dict[str, str | int]:
    """The parameters of every node that a file given as `params_file` wins over, so that `ros2 param dump` of a ring
    gives that ring again: what suits the pace, and arguments that were not given, or are what they are without."""
    return {**suited(values["pace"]), **{f"files.{name}": values[name] for name in KINDS if not _chosen(values, name)}}


def parameters(values: dict[str, str]) -> dict[str, str | int]:
    """The parameters of every node that win over a file given as `params_file`."""
    given: dict[str, str | int] = {name: values[name] for name in KINDS if _chosen(values, name)}
    given["robot.simulated"] = values["plant"] == "true"
    given["guard.spare"] = spared(values)
    for name, parameter, value in (("pace", "plant.pace", values["pace"]), ("log", "logger.folder", values["log"]),
                                   ("trainer", "trainer.method", values["trainer"]),
                                   ("trials", "trainer.folder", values["trials"]),
                                   ("priority", "process.priority", int(values["priority"]))):
        if _chosen(values, name):
            given[parameter] = value
    return given


def spared(values: dict[str, str]) -> bool:
    """Whether a second guard stands by: not in lock-step, where time stands still with the first."""
    return values["spare"] == "true" and values["pace"] == "realtime"


def _chosen(values: dict[str, str], name: str) -> bool:
    return values[name] != ARGUMENTS[name][0]


def node_arguments(values: dict[str, str]) -> list[str]:
    """All parameters of a node, and its namespace, as ROS arguments."""
    arguments = ["--ros-args", *assigned(defaults(values))]
    if values["params_file"]:
        arguments += ["--params-file", values["params_file"]]
    arguments += assigned(parameters(values))
    if values["namespace"]:
        arguments += ["-r", f"__ns:=/{values['namespace'].strip('/')}"]
    return [*arguments, *(word for pair in remappings(values) for word in ("-r", ":=".join(pair)))]


def remappings(values: dict[str, str]) -> list[tuple[str, str]]:
    """A simulated robot in a namespace has a clock of its own there, by which a node with use_sim_time goes."""
    return [("/clock", "clock")] if values["namespace"].strip("/") and values["plant"] == "true" else []


def environment() -> dict[str, str]:
    """Of the nodes: they end with this process, however it ends."""
    return {PARENT: str(os.getpid())}


def assigned(given: Mapping[str, object]) -> list[str]:
    """Parameters as ROS arguments."""
    text = lambda value: str(value).lower() if isinstance(value, bool) else value  # noqa: E731
    return [word for name, value in given.items() for word in ("-p", f"{name}:={text(value)}")]


def enclave(values: dict[str, str], name: str) -> list[str]:
    """ROS arguments that put this node into its enclave."""
    return ["--enclave", f"{values['enclave'].rstrip('/')}/{name}"] if values["enclave"] else []


def node_names(values: dict[str, str]) -> list[str]:
    """Which nodes run; the guard first, and the plant last, so that the others miss little of it."""
    beside = [*(name for name, wanted in (("logger", values["log"]), ("trainer", values["trainer"])) if wanted),
              *(name for name in BESIDE if values[name] == "true")]
    guards = ["guard", *(["spare"] if spared(values) else [])]
    return [*guards, *beside, "estimator", "learner", "controller", *(["plant"] if values["plant"] == "true" else [])]


class Processes:
    """The nodes, each in a session of its own: Ctrl-C reaches them through `stop`, in order."""

    def __init__(self, values: dict[str, str], extra: Mapping[str, object] | None = None):
        arguments = [*node_arguments(values), *assigned(extra or {})]
        self._commands = {name: [sys.executable, "-m", "mbrl_ros.nodes", f"{name}_node", *arguments,
                                 *enclave(values, name)] for name in node_names(values)}
        self._all = {name: self._start(name) for name in self._commands}
        self._due: dict[str, float] = {}  # when a node that has ended is started again
        self._again: set[str] = set()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._commands[name], start_new_session=True,
                                env={**os.environ, **environment()})

    def ids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._all.items()}

    def ended(self) -> tuple[str, int] | None:
        """Name and exit code of a process that has ended."""
        for name, process in self._all.items():
            code = process.poll()
            if code is not None:
                return name, code
        return None

    def watch(self) -> tuple[str, int] | None:
        """Start again what has ended; name and exit code of a node that ends all."""
        now = time.monotonic()
        for name, process in self._all.items():
            code = process.poll()
            if code is None:
                continue
            if ends_all(name, code, name in self._again):
                return name, code
            if name not in self._due:
                print(f"bringup: the {name} ended with exit code {code}; starting it again", file=sys.stderr)
                self._due[name] = now + respawn(name)
            if now >= self._due[name]:
                del self._due[name]
                self._again.add(name)
                self._all[name] = self._start(name)
        return None

    def stop(self) -> None:
        """SIGTERM to all: first the controller, which says that it ends while states still come, so that an armed guard
        has no fault to report; the guard after all others, so that it has the last word; then the plant, the robot."""
        running = [(n, p) for n, p in self._all.items() if p.poll() is None]
        between = [n for n, _ in running if n not in (FIRST, *LAST)]
        for names in ([FIRST], between, *([last] for last in LAST)):
            end([(n, p) for n, p in running if n in names])


def end(running: list[tuple[str, subprocess.Popen[bytes]]]) -> None:
    """SIGTERM to all of them, which one that has hardly begun ends by without a word, as it does not by SIGINT; and
    SIGKILL to those that have not ended in time."""
    for _, process in running:
        process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    for name, process in running:
        try:
            process.wait(max(0.0, began + grace(name) - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"bringup: the {name} did not end within {grace(name):g} s: killed", file=sys.stderr)
            process.kill()
            process.wait()


def main(args: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if args is None else args
    if {"-h", "--help"} & set(arguments):
        print((__doc__ or "").strip())
        for name, (default, description) in ARGUMENTS.items():
            print(f"  {name + ':=' + default:22} {description}")
        return 0
    stop = Stop(Ended, ENDING)
    try:
        values = parse(arguments)
        lock = claim(values)
    except ConfigError as error:
        print(f"bringup: {error}", file=sys.stderr)
        return USER_ERROR
    stop.calm = True
    print(f"bringup: {', '.join(node_names(values))} start; the controller says when they are ready", file=sys.stderr)
    processes = Processes(values)
    try:
        while not stop:
            ended = processes.watch()
            if ended is not None:
                print(f"bringup: the {ended[0]} ended with exit code {ended[1]}; ending the others", file=sys.stderr)
                return ended[1] or 1
            time.sleep(0.05)
        return 0
    finally:
        processes.stop()
        lock.close()


if __name__ == "__main__":
    raise SystemExit(main())
