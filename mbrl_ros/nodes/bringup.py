"""The ring as processes, one per node: what launch/bringup.launch.py does, for where there is no launch_ros.

    python3 -m mbrl_ros.nodes.bringup robot:=arm task:=reach planner:=ilqr prior:=ensemble plant:=true log:=false

Ends, with all processes, on SIGINT or SIGTERM, or when the guard ends. Any other node that ends is started again, while
the guard holds the arm, unless it never came up because of a mistake of the user.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from mbrl_ros.config import ConfigError
from mbrl_ros.nodes.spin import PATIENCE, RECORDING, USER_ERROR, Ended, Stop

ARGUMENTS = {  # name: (default, description)
    "robot": ("arm", "name of a file in config/robots or path of a .yaml file"),
    "task": ("reach", "name of a file in config/tasks or path of a .yaml file"),
    "planner": ("ilqr", "name of a file in config/planners or path of a .yaml file"),
    "prior": ("ensemble", "name of a file in config/models or path of a .yaml file"),
    "plant": ("true", "true: a simulated robot; false: whatever publishes joint_states and takes "
                      "effort_controller/commands"),
    "pace": ("realtime", "of the simulated robot: realtime or lockstep"),
    "log": ("", "folder to record into; empty: no recording"),
    "params_file": ("", "a ROS parameter file for all nodes; it wins over the four files named above"),
    "priority": ("0", "real-time priority (SCHED_FIFO) of the ring, 1 to 99; 0: none"),
    "namespace": ("", "in front of all relative names, for a second robot"),
    "enclave": ("", "SROS 2: the node NAME runs in the enclave <this>/NAME; empty: in the default one"),
}
LAST = ("guard", "plant")  # to end, in this order
RESPAWN = 1.0  # [s] after its end a node is started again


def grace(name: str) -> float:
    """How long a node may take to end after SIGINT [s]: longer than it grants itself, so that it says itself what was
    cut short."""
    return 1.0 + (RECORDING if name == "logger" else PATIENCE)


ENDING = 1.0 + grace("logger") + sum(map(grace, LAST))  # [s] for all of them


def ends_all(name: str, code: int, again: bool) -> bool:
    """The others end with this node: with the guard, without which nothing reaches the robot, and where it is the
    user's mistake that a node cannot start. No later end of another node is a reason to let the arm fall."""
    return name == "guard" or (code == USER_ERROR and not again)


def parse(arguments: list[str]) -> dict[str, str]:
    """Read `name:=value` pairs; what is not among them has its default. Raises ConfigError."""
    values = {name: default for name, (default, _) in ARGUMENTS.items()}
    for argument in arguments:
        name, assigned, value = argument.partition(":=")
        if not assigned or name not in values:
            raise ConfigError(f"{argument!r}: expected NAME:=VALUE; the names are {', '.join(values)}")
        values[name] = value
    return check(values)


def check(values: dict[str, str]) -> dict[str, str]:
    """The values again. Raises ConfigError for those of no use; what the nodes check themselves is left to them."""
    if not values["priority"].isdecimal():
        raise ConfigError(f"priority: expected a whole number from 0 to 99, got {values['priority']!r}")
    if values["plant"] not in ("true", "false"):
        raise ConfigError(f"plant: expected true or false, got {values['plant']!r}")
    return values


def suited(pace: str) -> dict[str, int]:
    """Parameters that suit a pace; a file given as `params_file` wins over them.

    In real time commands arrive in the middle of a period, so that the effort before the last tells something as well.
    """
    return {"robot.effort_history": 2} if pace == "realtime" else {}


def parameters(values: dict[str, str]) -> dict[str, str | int]:
    """The parameters that every node gets; they win over a file given as `params_file`."""
    given: dict[str, str | int] = {name: values[name] for name in ("robot", "task", "planner", "prior")}
    given["robot.simulated"] = values["plant"]
    given["plant.pace"], given["process.priority"] = values["pace"], int(values["priority"])
    if values["log"]:
        given["logger.folder"] = values["log"]
    return given


def node_arguments(values: dict[str, str]) -> list[str]:
    """All parameters of a node, and its namespace, as ROS arguments."""
    arguments = ["--ros-args", *assigned(suited(values["pace"]))]
    if values["params_file"]:
        arguments += ["--params-file", values["params_file"]]
    arguments += assigned(parameters(values))
    if values["namespace"]:
        arguments += ["-r", f"__ns:=/{values['namespace'].lstrip('/')}"]
    return arguments


def assigned(given: Mapping[str, object]) -> list[str]:
    """Parameters as ROS arguments."""
    return [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]


def enclave(values: dict[str, str], name: str) -> list[str]:
    """ROS arguments that put this node into its enclave."""
    return ["--enclave", f"{values['enclave'].rstrip('/')}/{name}"] if values["enclave"] else []


def node_names(values: dict[str, str]) -> list[str]:
    """Which nodes run; the guard first, and the plant last, so that the others miss little of it."""
    names = ["estimator", "learner", "controller"]
    return ["guard", *(["logger"] if values["log"] else []), *names, *(["plant"] if values["plant"] == "true" else [])]


class Processes:
    """The nodes, each in a session of its own: Ctrl-C reaches them through `stop`, in order."""

    def __init__(self, values: dict[str, str], extra: Mapping[str, object] | None = None):
        arguments = [*node_arguments(values), *assigned({"process.parent": os.getpid(), **(extra or {})})]
        self._commands = {name: [sys.executable, "-m", "mbrl_ros.nodes", f"{name}_node", *arguments,
                                 *enclave(values, name)] for name in node_names(values)}
        self._all = {name: self._start(name) for name in self._commands}
        self._due: dict[str, float] = {}  # when a node that has ended is started again
        self._again: set[str] = set()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._commands[name], start_new_session=True, env=dict(os.environ))

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
                self._due[name] = now + RESPAWN
            elif now >= self._due[name]:
                del self._due[name]
                self._again.add(name)
                self._all[name] = self._start(name)
        return None

    def stop(self) -> None:
        """SIGINT to all, the controller first; to the guard when they have ended, so that it has the last word; to the
        plant, which is the robot, after that."""
        running = sorted(((n, p) for n, p in self._all.items() if p.poll() is None), key=lambda item: item[0])
        _end([(n, p) for n, p in running if n not in LAST])
        for last in LAST:
            _end([(n, p) for n, p in running if n == last])


def _end(running: list[tuple[str, subprocess.Popen[bytes]]]) -> None:
    """SIGINT to all of them, and SIGKILL to those that have not ended in time."""
    for _, process in running:
        process.send_signal(signal.SIGINT)
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
    except ConfigError as error:
        print(f"bringup: {error}", file=sys.stderr)
        return USER_ERROR
    stop.calm = True
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


if __name__ == "__main__":
    raise SystemExit(main())
