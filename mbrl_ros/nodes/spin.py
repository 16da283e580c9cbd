"""Run a node until SIGINT or SIGTERM, leave without a traceback, and say a user's mistake in one line."""
from __future__ import annotations

import gc
import inspect
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
import rclpy.utilities
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # not in every release
    EventsExecutor = None

from mbrl_ros import config
from mbrl_ros.config import ConfigError

USER_ERROR = 2  # exit code
PATIENCE = 1.5  # [s]


class Ended(Exception):
    """Asked to end."""


class Stop:
    """True once SIGINT or SIGTERM came. Until `calm` is set, a signal raises where the program is. A process that has
    not ended `patience` [s] after the first signal (a middleware that hangs while it is destroyed) is ended hard."""

    def __init__(self, error: type[BaseException], patience: float = PATIENCE):
        self.asked, self.calm, self._error, self._patience = False, False, error, patience
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signal)

    def _signal(self, _number: int, _frame: Any) -> None:
        if not self.asked:
            last_resort = threading.Timer(self._patience, os._exit, [0])
            last_resort.daemon = True
            last_resort.start()
        self.asked = True
        if not self.calm:
            raise self._error

    def __bool__(self) -> bool:
        return self.asked


def stay_apart() -> None:
    """On this machine only, and in a DDS domain of this process, unless the environment says otherwise."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # nobody else's robot
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def init(args: list[str] | None = None) -> None:
    """rclpy.init without its signal handlers, which would invalidate publishers before the last command is sent."""
    try:
        with _quiet():
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy has no common class for what a command line or parameter file can have wrong
        for path in _parameter_files(sys.argv if args is None else args):
            config.read(path)  # says more clearly what is wrong with it
        reason = re.sub(r",? at /\S+?:\d+", "", " ".join(str(error).split()))
        raise ConfigError(f"ROS arguments: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what rcl writes to stderr beside the exception it raises."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _parameter_files(args: list[str]) -> list[Path]:
    return [Path(after) for word, after in zip(args, args[1:], strict=False) if word == "--params-file"]


def make_executor(kind: str, sim_time: bool = False) -> Executor:
    """The executor of that name. On simulated time the timers of the one for events are late: `auto` takes the other.
    It is spun by spin_once with a timeout only, and its subscriptions take no message infos: rclpy 9.1 fails there."""
    if kind == "single" or (kind == "auto" and (EventsExecutor is None or sim_time)):
        return SingleThreadedExecutor()
    if EventsExecutor is None:
        raise ConfigError("process.executor: this release of rclpy has no events executor; choose single")
    return EventsExecutor()


def settle() -> None:
    """Do now what would stall a tick later, for tens of milliseconds where torch is loaded: a garbage collection goes
    through all its modules, and so does the first log message of a process, in search of its caller."""
    inspect.getframeinfo(inspect.currentframe())  # type: ignore[arg-type]  # fills what the search is kept in
    gc.collect()
    gc.freeze()


def prioritize(priority: int) -> bool:
    """All threads of this process at this real-time priority, or at none (0); False where that is not permitted."""
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), policy, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def close(nodes: list[Node]) -> None:
    """Let nodes say their last word while they can still publish, then destroy them."""
    for node in nodes:
        if hasattr(node, "close"):
            node.close()
    for node in nodes:
        node.destroy_node()


def guarded(main: Callable[[Stop], int], args: list[str] | None, interrupt: type[BaseException] = Ended,
            patience: float = PATIENCE) -> int:
    """main(stop) within rclpy's lifetime; a ConfigError becomes one line on stderr and exit code 2."""
    stop = Stop(interrupt, patience)
    try:
        init(args)
        return main(stop)
    except interrupt:
        return 0
    except ConfigError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr, flush=True)
        return USER_ERROR
    finally:
        stop.calm = True
        rclpy.try_shutdown()


def run(factory: Callable[[], Any], args: list[str] | None = None) -> int:
    """Spin factory()'s node."""
    return guarded(lambda stop: _spin(factory, sys.argv if args is None else args, stop), args)


def _spin(factory: Callable[[], Any], args: list[str], stop: Stop) -> int:
    for word in rclpy.utilities.remove_ros_args(args)[1:]:
        raise ConfigError(f"unknown argument {word!r}; expected --ros-args and what follows it")
    node = factory()
    executor = make_executor(node.process.executor, node.get_parameter("use_sim_time").value)
    executor.add_node(node)
    settle()
    if node.process.priority and not prioritize(node.process.priority):
        node.get_logger().warning(f"process.priority: {node.process.priority} is not permitted; expected CAP_SYS_NICE "
                                  "or an rtprio limit. Going on without")
    stop.calm = True
    parent = node.process.parent  # killed, it could not end this process
    while not stop and rclpy.ok() and parent in (0, os.getppid()):
        executor.spin_once(timeout_sec=0.1)
    close([node])
    return 0
