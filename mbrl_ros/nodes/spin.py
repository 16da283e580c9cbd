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
from rclpy.signals import SignalHandlerOptions

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # not in every release
    EventsExecutor: Callable[[], Executor] | None = None  # type: ignore[no-redef]

from mbrl_ros import config
from mbrl_ros.config import ConfigError

USER_ERROR = 2  # exit code
CUT = 1  # likewise, of a process that was ended before it was done
PATIENCE = 4.0  # [s] for a process to end, on a busy machine
TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"  # by which Fast DDS speaks, in the environment
RECORDING = 20.0  # [s] likewise where a recording is finished, on a slow disk


HELP = """{about}

usage: ros2 run mbrl_ros {name} [--ros-args [-p NAME:=VALUE | --params-file FILE | -r FROM:=TO] ...]

While it runs, `ros2 param describe` says what each of its parameters is, in which unit and range. The parameters robot,
task, planner and prior name files in config/, or are paths of .yaml files."""


class Ended(Exception):
    """Raised where the process is asked to end."""


class Stop:
    """True once SIGINT or SIGTERM has come.

    Until `calm` is set, a signal raises where the program is. A process that has not ended `patience` [s] after the
    first signal is cut short and says so, unless all that is `left` to do is to destroy the middleware, which may hang.
    """

    def __init__(self, error: type[BaseException], patience: float = PATIENCE):
        self.asked, self.calm, self.left, self._error, self._patience = False, False, True, error, patience
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signal)

    def _signal(self, _number: int, _frame: Any) -> None:
        if not self.asked:
            last_resort = threading.Timer(self._patience, self._cut)
            last_resort.daemon = True
            last_resort.start()
        self.asked = True
        if not self.calm:
            raise self._error

    def _cut(self) -> None:
        if self.left:
            os.write(2, f"{_program()}: cut short {self._patience:g} s after the signal to end\n".encode())
        os._exit(CUT if self.left else 0)

    def __bool__(self) -> bool:
        return self.asked


def init(args: list[str] | None = None) -> None:
    """rclpy.init without its signal handlers, which would invalidate publishers before the last command is sent, and
    over UDP: a process that is killed or stopped while it holds a lock in shared memory keeps all who send to it, or
    hear with it, for up to 3 s (Fast DDS 3.2: one of 30 kills), and with them the guard. Who sets the variable wins;
    with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST rmw_fastrtps takes shared memory, whatever it says."""
    os.environ.setdefault(TRANSPORTS, "UDPv4")
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
    """Keep from stderr what rcl writes there beside the exception it raises."""
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
    """Do now what would stall a tick later.

    Where torch is loaded that is tens of milliseconds: a garbage collection goes through all its modules, and so does
    the first log message of a process, in search of its caller.
    """
    inspect.getframeinfo(inspect.currentframe())  # type: ignore[arg-type]  # fills what the search is kept in
    gc.collect()
    gc.freeze()


def prioritize(priority: int) -> bool:
    """Give all threads of this process this real-time priority, or none (0). False where that is not permitted."""
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), policy, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def close(nodes: list[Any], executor: Executor | None, stop: Stop | None = None) -> None:
    """Let nodes say their last word while they can still publish, then end the executor, then the nodes: all of it
    before the context ends, without which none of them can be destroyed."""
    for node in nodes:
        if hasattr(node, "close"):
            node.close()
    if stop is not None:
        stop.left = False
    if executor is not None:
        executor.shutdown(timeout_sec=PATIENCE)
    for node in nodes:
        node.destroy_node()


def guarded(main: Callable[[Stop], int], args: list[str] | None, interrupt: type[BaseException] = Ended,
            patience: float = PATIENCE) -> int:
    """Call main(stop) between rclpy's start and its end. A ConfigError becomes one line on stderr and exit code 2."""
    stop = Stop(interrupt, patience)
    if "torch" in sys.modules and "OMP_NUM_THREADS" not in os.environ:
        sys.modules["torch"].set_num_threads(1)  # as in __main__.py, for who is started without it
    try:
        init(args)
        return main(stop)
    except interrupt:
        return 0
    except ConfigError as error:
        print(f"{_program()}: {error}", file=sys.stderr, flush=True)
        return USER_ERROR
    finally:
        stop.calm = True
        rclpy.try_shutdown()


def _program() -> str:
    return Path(sys.argv[0]).stem


def run(factory: Callable[[], Any], args: list[str] | None = None, patience: float = PATIENCE) -> int:
    """Spin factory()'s node, which gets `patience` [s] to end."""
    if {"-h", "--help"} & set(sys.argv if args is None else args):
        print(HELP.format(about=(sys.modules[factory.__module__].__doc__ or "").strip(), name=_program()))
        return 0
    return guarded(lambda stop: _spin(factory, sys.argv if args is None else args, stop), args, patience=patience)


def _spin(factory: Callable[[], Any], args: list[str], stop: Stop) -> int:
    for word in rclpy.utilities.remove_ros_args(args)[1:]:
        raise ConfigError(f"unknown argument {word!r}; expected --ros-args and what follows it")
    node, executor = factory(), None
    stop.calm = True
    try:
        executor = make_executor(node.process.executor, node.get_parameter("use_sim_time").value)
        executor.add_node(node)
        settle()
        if node.process.priority and not prioritize(node.process.priority):
            node.get_logger().warning(f"process.priority: {node.process.priority} is not permitted; expected "
                                      "CAP_SYS_NICE or an rtprio limit. Going on without")
        while not stop and rclpy.ok():
            executor.spin_once(timeout_sec=0.1)
    finally:
        close([node], executor, stop)
    return 0
