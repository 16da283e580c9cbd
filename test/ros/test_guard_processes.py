"""Nodes that are killed or stopped, each a process of its own in real time: the arm holds, and stays there."""
import json
import os
import signal
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rig import PATIENT, UNHEARD, end, launch, node_arguments
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import topics

NODES = ("guard", "estimator", "learner", "controller", "plant", "logger")
AGES = {"guard__state_age": 0.5, "guard__command_age": 0.5}  # a busy machine is not a broken one
LATE = {"controller__watchdog": 0.5}  # likewise
REASONS = ("no joint state for", "no command for", "the controller is in fault",
           "is too fast", "jumped")  # what was done last is done on until it is too old
FIGURES = "MBRL_ROS_FAULT_FIGURES"  # names a file: ages as they are on a robot, and what came out


class Watcher:
    """What the guard says of itself, and what it sends."""

    def __init__(self):
        self.node = rclpy.create_node("watcher")
        self.state, self.reason, self.since, self.sent, self.speed = "", "", 0, None, np.inf
        self.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._said, topics.KEEP)
        self.node.create_subscription(Float64MultiArray, topics.COMMANDS, self._commanded, topics.RING)
        self.node.create_subscription(JointState, "joint_states", self._moved, topics.RING)

    def _said(self, message):
        status = message.status[0]
        if status.name == "guard":
            state, _, reason = status.message.partition(": ")
            if state != self.state:
                self.since = read_stamp(message.header.stamp)
            self.state, self.reason = state, reason

    def _commanded(self, message):
        self.sent = np.array(message.data)

    def _moved(self, message):
        self.speed = np.abs(message.velocity).max()

    def spin(self, condition, seconds=PATIENT):
        limit = time.monotonic() + seconds
        while not condition() and time.monotonic() < limit:
            rclpy.spin_once(self.node, timeout_sec=0.02)
        return condition()

    def call(self, service, kind=Trigger, **request):
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_sec=3 * PATIENT), service
        for _ in range(round(PATIENT / UNHEARD)):
            future = client.call_async(kind.Request(**request))
            if self.spin(future.done, UNHEARD):
                return future.result()
        raise AssertionError(f"{service} does not answer")

    def armed(self):
        """Until it is: a busy machine may miss a deadline at once."""
        def again():
            self.call("guard/reset")
            return (self.call("guard/arm", SetBool, data=True).success
                    and self.spin(lambda: self.state == "armed", 1.0))

        assert self.spin(again), (self.state, self.reason)


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
    watcher.spin(lambda: False, 1.0)
    ring.signal("guard", signal.SIGCONT)
    assert watcher.spin(lambda: watcher.state == "fault")  # it has heard nothing for a second
    ring.signal("guard", signal.SIGKILL)
    ring.start("guard")
    assert watcher.spin(lambda: watcher.state == "hold"), (watcher.state, watcher.reason)
    watcher.spin(lambda: False, 1.0)
    assert watcher.state == "hold"  # commands have gone on coming
    watcher.armed()


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
    code, output, _ = end(ring.processes["guard"])
    assert code == 0 and "Traceback" not in output, output
    assert watcher.spin(lambda: not watcher.sent.any())
