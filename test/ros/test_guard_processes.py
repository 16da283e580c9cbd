"""Nodes that are killed or stopped, each a process of its own in real time: the arm holds, and stays there."""
import json
import os
import signal
import time

import numpy as np
import pytest
from rig import Watcher, end, launch, node_arguments

NODES = ("guard", "estimator", "learner", "controller", "plant", "logger")
AGES = {"guard__state_age": 1.0, "guard__command_age": 1.0}  # [s] a busy machine is not a broken one
LATE = {"controller__watchdog": 1.0}  # likewise
ASLEEP = 2.0  # [s] longer than that
REASONS = ("no joint state for", "no command for", "the controller is in fault",
           "is too fast", "jumped")  # what was done last is done on until it is too old
FIGURES = "MBRL_ROS_FAULT_FIGURES"  # names a file: ages as they are on a robot, and what came out


@pytest.fixture
def watcher(ros):
    made = Watcher()
    yield made
    made.node.destroy_node()


def note(case, milliseconds):
    path = os.environ.get(FIGURES)
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"fault": case, "fault_to_hold_ms": milliseconds}) + "\n")


class Ring:
    """All nodes, each a process of its own in real time."""

    def __init__(self, folder):
        ages = {name: 0.0 if os.environ.get(FIGURES) else age for name, age in AGES.items()}
        self._arguments = node_arguments(plant__pace="realtime", plant__timeout=10.0, logger__folder=folder,
                                         **ages, **({} if os.environ.get(FIGURES) else LATE))
        self.processes = {}
        for name in NODES:
            self.start(name)

    def start(self, name):
        """Once more, where it was killed."""
        if name in self.processes:
            self.processes[name].communicate()
        self.processes[name] = launch(f"mbrl_ros.nodes.{name}_node", *self._arguments)

    def signal(self, name, number):
        """When [ns]."""
        began = time.time_ns()
        self.processes[name].send_signal(number)
        return began

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def ring(ros, tmp_path_factory):
    made = Ring(tmp_path_factory.mktemp("ring") / "recording")
    yield made
    made.close()


def test_a_logger_that_dies_matters_to_nobody_and_a_guard_that_dies_comes_back_in_hold(watcher, ring):
    watcher.call("controller/hold")
    watcher.armed()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        ring.signal("logger", number)
        watcher.spin(lambda: False, 1.0)
        assert watcher.state == "armed", watcher.reason
    ring.signal("guard", signal.SIGSTOP)
    watcher.spin(lambda: False, ASLEEP)
    ring.signal("guard", signal.SIGCONT)
    assert watcher.spin(lambda: watcher.state == "fault")  # it has heard nothing for so long
    ring.signal("guard", signal.SIGKILL)
    ring.start("guard")
    assert watcher.spin(lambda: watcher.state == "hold"), (watcher.state, watcher.reason)
    watcher.spin(lambda: False, 1.0)
    assert watcher.state == "hold"  # commands have gone on coming
    watcher.armed()


@pytest.mark.slow
def test_a_node_that_is_killed_or_stopped_makes_the_guard_hold(watcher, ring):
    for name in ("estimator", "learner", "controller", "plant"):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            watcher.call("controller/hold")
            watcher.armed()
            began = ring.signal(name, number)
            assert watcher.spin(lambda: watcher.state == "fault"), f"{name} {number.name}"
            assert any(words in watcher.reason for words in REASONS), watcher.reason
            note(f"{number.name} of {name}", (watcher.since - began) * 1e-6)
            assert np.isfinite(watcher.sent).all()
            if number == signal.SIGSTOP:
                ring.signal(name, signal.SIGCONT)
                count = watcher.since
                watcher.spin(lambda: False, 0.5)
                assert (watcher.state, watcher.since) == ("fault", count)  # for all that comes late
                assert watcher.spin(lambda: watcher.speed < 0.05)
        ring.start(name)  # what is started again does not move it either
        watcher.spin(lambda: False, 3.0)
        assert watcher.state == "fault"
        assert watcher.spin(lambda: watcher.speed < 0.05)
    code, output = end(ring.processes["guard"])
    assert code == 0 and "Traceback" not in output, output
    assert watcher.spin(lambda: not watcher.sent.any())
