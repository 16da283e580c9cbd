"""Every node of a moving arm that would fall, killed and stopped in turn: who holds it, how soon, how long?

    PYTHONPATH=.:test/ros:$PYTHONPATH python3 test/faults/kill_nodes.py --seconds 60        # 15 minutes
    PYTHONPATH=.:test/ros:$PYTHONPATH python3 test/faults/kill_nodes.py --launcher launch_ros

Starts the ring as a person does, in real time, on a simulated arm whose weight only the guard carries. Before each
signal the arm is armed and excited. Figures by case are a line each and a row of runs/kill_nodes.json: control periods,
by the robot's stamps, between two commands at most; how long after the signal the guard said that it holds; how far
the tool sank below where it was at the signal, and how fast it did so then already: asked to hold, it does the
same; how fast any joint got in the last half of the time; and the largest step of the robot's own stamps, which is
more than one period where the whole machine was suspended.
The simulated robot is not killed: it is the robot.
"""
from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from drill import WAYS, Drill

from mbrl_ros.nodes import domain, spin

CASES = [(name, number) for name in ("estimator", "learner", "controller", "logger", "acting", "standing", "acting")
         for number in (signal.SIGKILL, signal.SIGSTOP)] + [("nobody", None)] * 2
SETTINGS = """/**: {ros__parameters: {excitation: {duration: 600.0, speed: 0.1, effort: 0.05}}}"""  # slow


def main():
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--seconds", type=float, default=10.0, help="to watch after each signal")
    p.add_argument("--launcher", choices=WAYS, default="bringup")
    p.add_argument("--priority", type=int, default=0, help="of the ring (SCHED_FIFO), beside other work")
    p.add_argument("--only", default="", help="names of nodes or parts, with commas between")
    p.add_argument("--output", default="runs/kill_nodes.json")
    a = p.parse_args()
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"  # as it is for a person: over LOCALHOST they share memory
    domain.stay_apart()
    spin.init([])
    spin.prioritize(a.priority)
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(a.launcher, Path(folder), SETTINGS, a.priority)
        rows, code, said = [], 1, ""
        try:
            for name, number in CASES:
                if not a.only or name in a.only.split(","):
                    rows.append(drill.case(name, number, a.seconds))
                    print(json.dumps(rows[-1]), flush=True)
        finally:
            code, said = drill.close()
            print(said, file=sys.stderr)
    print(f"Ctrl-C: exit code {code}")
    Path(a.output).parent.mkdir(parents=True, exist_ok=True)
    Path(a.output).write_text(json.dumps({"launcher": a.launcher, "seconds": a.seconds, "exit_code": code,
                                          "cases": rows}, indent=1))
    return 0 if code == 0 and "Traceback" not in said else 1


if __name__ == "__main__":
    raise SystemExit(main())
