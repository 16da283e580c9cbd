"""Starts a node, or the demonstration or bringup, as the installed executables do.

    python3 -m mbrl_ros.nodes NAME ARGUMENTS
"""
import importlib
import os
import signal
import sys
import threading
import time

from mbrl_ros.nodes.readiness import announce

PARENT = "MBRL_ROS_PARENT"  # environment variable: id of the process without which this one ends


def end_with(parent: int) -> None:
    """End as by SIGTERM, also in the midst of compiling, once the parent is another: if killed it ends nobody."""
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def start(name: str) -> int:
    """main() of that module, in a process that is fit for it; nothing is set where modules are only imported."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # quiet until main() takes over; importing torch takes a second
    # Matrices are small here: threads cost more than they give, and the ring runs as several processes. Read when numpy
    # and torch are imported, which is now.
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    parent = os.environ.pop(PARENT, "")
    if parent:
        end_with(int(parent))
    if name == "controller_node" and not {"-h", "--help"} & set(sys.argv):
        announce(name)
    return int(importlib.import_module(f"mbrl_ros.nodes.{name}").main())


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        asked = sys.argv[1:] in (["-h"], ["--help"])
        print((__doc__ or "").strip() + "\n\nNAME: demo, setup, bringup, fit, or estimator_node and so on",
              file=sys.stdout if asked else sys.stderr)
        raise SystemExit(0 if asked else 2)
    sys.argv[:2] = sys.argv[1:2]
    raise SystemExit(start(sys.argv[0]))
