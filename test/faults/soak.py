"""Hours of reaching in lock-step, every node a process of its own: is anything lost, does anything grow or complain?

    PYTHONPATH=.:$PYTHONPATH python3 test/faults/soak.py --minutes 60        # make soak MINUTES=60

Minutes are the robot's. The arm learns as in the demonstration and then goes from target to target, one every two
seconds. Ends with one line of figures and writes runs/<time>/soak.json; the recording it makes on the way is deleted.
"""
from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace

import numpy as np
import yaml
from rcl_interfaces.msg import Log

from mbrl_ros.evaluation import measures
from mbrl_ros.nodes import bringup, demo, spin, topics
from mbrl_ros.nodes.domain import stay_apart
from mbrl_ros.nodes.experiment import Experiment, Interrupted

WARM = 0.1  # part of the run after which memory should have settled
SHOWN = 10  # warnings that are kept
WARN = 30  # level of a log message; the type of its constants differs between releases


def memory(ids):
    """Resident [MiB] of processes."""
    found = {}
    for name, pid in ids.items():
        with open(f"/proc/{pid}/status") as status:
            kib = next(line.split()[1] for line in status if line.startswith("VmRSS"))
        found[name] = int(kib) / 1024
    return found


def recorded(folder):
    """How many estimates of the state the recording holds."""
    with open(folder / "metadata.yaml") as file:
        found = yaml.safe_load(file)["rosbag2_bagfile_information"]["topics_with_message_count"]
    return next(t["message_count"] for t in found if t["topic_metadata"]["name"] == f"/{topics.STATE}")


class Soak:
    """One run, and what is counted on the way."""

    def __init__(self, experiment):
        self.experiment, self.heard = experiment, experiment.operator.heard
        self.ticks, self.gaps, self.unanswered, self.unmodelled = 0, 0, 0, 0
        self.warnings, self.errors_mm = [], []
        experiment.operator.create_subscription(Log, "/rosout", self._logged, topics.KEEP)
        self._last = self.heard.stamps[-1]

    def counted(self):
        """How often the plant repeated a state, and the guard could not use something."""
        return np.array([self.heard.figure("plant", "repeated"), self.heard.figure("guard", "dropped")], int)

    def _logged(self, message):
        if message.level >= WARN:
            self.warnings.append(f"{message.name}: {message.msg}")

    def reach(self, aim):
        """Go there, and count what was missed."""
        experiment, heard = self.experiment, self.heard
        experiment.operator.set("controller", "task.target", aim.tolist())
        stamps = experiment.operator.advance(round(experiment.config.seconds_per_target / experiment.robot.period))
        end = time.monotonic() + 1.0
        experiment.operator.wait(lambda: stamps[-1] in heard.prediction or time.monotonic() > end, "the last model")
        off = np.diff([self._last, *stamps]) - 1e9 * experiment.robot.period
        self.gaps += int((np.abs(off) > 1e3).sum())
        self.unanswered += sum(stamp not in heard.effort for stamp in stamps)
        self.unmodelled += sum(stamp not in heard.prediction for stamp in stamps)
        self.ticks += len(stamps)
        self.errors_mm.append(1e3 * float(np.linalg.norm(heard.tool[stamps[-1]] - aim)))
        self._last = stamps[-1]
        for kept in (heard.x, heard.acted, heard.tool, heard.reference, heard.prediction, heard.response):
            kept.clear()
        heard.effort = {self._last: heard.effort[self._last]}
        heard.stamps[:] = [self._last]


def run(experiment, minutes):
    """The figures of so many minutes."""
    experiment.start()
    experiment.learn()
    soak = Soak(experiment)
    experiment.operator.request("controller/reach")
    count = max(2, round(60 * minutes / experiment.config.seconds_per_target))
    settled, began = {}, time.monotonic()
    experiment.progress.phase("reaching")
    experiment.operator.hear_out()
    before = soak.counted()
    for i, aim in enumerate(measures.draw_targets(experiment.robot, replace(experiment.config, targets=count))):
        soak.reach(aim)
        if soak.heard.fault:
            break
        if i == int(WARM * count):
            settled = memory(experiment.process_ids())
    took, last = time.monotonic() - began, memory(experiment.process_ids())
    experiment.operator.hear_out()
    repeated, dropped = (int(n) for n in soak.counted() - before)
    dropped = max(0, dropped - 2 * repeated)  # of a state that is said again the guard drops that, and its answer
    tenth = max(1, len(soak.errors_mm) // 10)
    return {
        "ticks": soak.ticks, "missed_messages": soak.gaps + soak.unanswered + soak.unmodelled + dropped,
        "gaps": soak.gaps, "unanswered": soak.unanswered, "unmodelled": soak.unmodelled, "dropped": dropped,
        "asked_again": repeated,
        "periods": int(soak.heard.figure("plant", "periods")),
        "warnings": len(soak.warnings), "first_warnings": soak.warnings[:SHOWN], "fault": soak.heard.fault,
        "memory_growth_max": max((last[name] / settled[name] - 1 for name in settled), default=0.0),
        "memory_mib": {name: [round(settled[name], 1), round(last[name], 1)] for name in settled},
        "error_mm_first_tenth": float(np.median(soak.errors_mm[:tenth])),
        "error_mm_last_tenth": float(np.median(soak.errors_mm[-tenth:])),
        "ticks_per_second": round(soak.ticks / took, 1), "robot": experiment.names.robot,
        "prior": experiment.names.prior, "seed": experiment.arguments.seed}


def main():
    p = demo.parser()
    p.prog, p.description = "soak", (__doc__ or "").partition("\n")[0]
    p.add_argument("--minutes", type=float, default=60.0, help="of the robot's time (default: %(default)g)")
    p.add_argument("--keep", action="store_true", help="the recording as well, some 30 kB a period of the arm")
    p.set_defaults(processes=True, pace="lockstep")
    a = p.parse_args()
    stay_apart()

    def soak(stop):
        experiment = Experiment(a, stop)
        stop.calm = True
        try:
            figures = run(experiment, a.minutes)
        finally:
            experiment.progress.end()
            experiment.close()
        figures["unrecorded"] = max(0, figures["periods"] - recorded(experiment.folder / "recording"))
        figures["missed_messages"] += figures["unrecorded"]
        if not a.keep:
            shutil.rmtree(experiment.folder / "recording")
        (experiment.folder / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
        shown = ("ticks", "missed_messages", "warnings", "memory_growth_max", "error_mm_first_tenth",
                 "error_mm_last_tenth", "ticks_per_second", "fault")
        print("  ".join(f"{key} {figures[key]:.4g}" if isinstance(figures[key], float) else f"{key} {figures[key]}"
                        for key in shown), f"-> {experiment.folder / 'soak.json'}")
        return int(bool(figures["missed_messages"] or figures["warnings"] or figures["fault"]
                        or figures["memory_growth_max"] > 0.02))

    return spin.guarded(soak, [], Interrupted, bringup.ENDING)


if __name__ == "__main__":
    sys.exit(main())
