"""What the guard's process takes of a core by the rate of joint states, with and without gains between plans.

    . .venv/bin/activate && . install/setup.sh && python3 benchmarks/joint_states.py --robot arm --rates 50 200 1000

A guard over topics as it comes, armed; this process is robot and controller: joint states of an arm at rest, a command
every control period, and with it (`controller.feedback`) the gains of a plan, which the guard plays on every joint
state. Beside it stands how many of the states it answered, and what this process takes.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rclpy
from latency import PATIENT, alone, cpu_time
from mbrl_ros.msg import EffortCommand, FeedbackCommand
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

from mbrl_ros import assembly
from mbrl_ros.config import Names
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import Command
from mbrl_ros.nodes import bringup, spin, topics
from mbrl_ros.ring.feedback import FED_BACK, Feedback
from mbrl_ros.robot import Robot
from mbrl_ros.types import Observation

SETTLE, PATIENCE = 3.0, 10.0  # [s] of this until it counts; for the guard to let itself be armed


class Peer(Node):
    """Robot and controller of one guard."""

    def __init__(self, robot: Robot, rate: float, feedback: bool):
        super().__init__("peer")
        self.robot, self.every, self.feedback = robot, round(rate * robot.period), feedback
        self.sent = self.answered = 0
        self._states = self.create_publisher(JointState, topics.JOINTS, topics.RING)
        self._commands = self.create_publisher(EffortCommand, topics.ASKED, topics.RING)
        self._gains = self.create_publisher(FeedbackCommand, topics.FEEDBACK, topics.SENT)
        self.create_subscription(Float64MultiArray, topics.COMMANDS, self._heard, topics.KEEP, raw=True)
        self.arm = self.create_client(SetBool, "guard/arm")
        self.create_timer(1 / rate, self._next)

    def _heard(self, _: bytes) -> None:
        self.answered += 1

    def _next(self) -> None:
        robot, now = self.robot, time.time_ns()
        still = np.zeros(robot.m)
        at = Observation(now, robot.home, still, still)
        self._states.publish(messages.to_joint_state(JointState, at, robot.joints))
        if self.sent % self.every == 0:
            self._commands.publish(messages.to_effort_command(EffortCommand, Command(still, now)))
            if self.feedback:
                planned = np.tile(np.concatenate([robot.home, still]), (FED_BACK, 1))
                K = -np.hstack([np.diag(robot.stiffness), np.diag(robot.damping)])
                self._gains.publish(messages.to_feedback_command(FeedbackCommand, Feedback(
                    now, now, robot.period, still, planned, K)))
        self.sent += 1


@contextmanager
def guard(robot: str) -> Iterator[int]:
    """The process id of one that runs by itself."""
    arguments = bringup.node_arguments(bringup.parse([f"robot:={robot}", "spare:=false"]))
    process = subprocess.Popen([sys.executable, "-m", "mbrl_ros.nodes", "guard_node", *arguments,
                                *bringup.assigned(PATIENT)], env={**os.environ, **bringup.environment()})
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def measure(robot: Robot, pid: int, rate: float, feedback: bool, seconds: float) -> tuple[float, float, float]:
    """Shares of a core of the guard and of this process, and the part of the states that were answered."""
    peer, executor = Peer(robot, rate, feedback), spin.make_executor("single")
    executor.add_node(peer)
    while not (peer.arm.service_is_ready() and peer.answered):
        executor.spin_once(timeout_sec=0.1)
    said, patient = "no answer", time.monotonic() + PATIENCE
    while said:
        if time.monotonic() > patient:
            raise RuntimeError(f"guard/arm: {said}")
        asked = peer.arm.call_async(SetBool.Request(data=True))
        rclpy.spin_until_future_complete(peer, asked, executor, timeout_sec=PATIENCE)
        said = "" if asked.done() and asked.result().success else getattr(asked.result(), "message", said)
    of = pid, os.getpid()
    began = before = None
    ends = time.monotonic() + SETTLE + seconds
    while time.monotonic() < ends:
        executor.spin_once(timeout_sec=0.1)
        if began is None and time.monotonic() > ends - seconds:
            began, before, counts = time.monotonic(), [cpu_time(p) for p in of], (peer.sent, peer.answered)
    passed = time.monotonic() - began
    guards, own = ((cpu_time(p) - b) / passed for p, b in zip(of, before, strict=True))
    answered = (peer.answered - counts[1]) / (peer.sent - counts[0])
    executor.shutdown()
    peer.destroy_node()
    return guards, own, answered


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--rates", nargs="+", type=float, default=[50.0, 200.0, 1000.0], help="of joint states [Hz]")
    p.add_argument("--seconds", type=float, default=15.0, help="that count (default: %(default)s)")
    a = p.parse_args()
    alone()
    robot = assembly.make_robot(assembly.settings(Names(robot=a.robot)))
    print("| joint states | gains between plans | guard, of a core | states answered | robot and controller |\n"
          "|---|---|---|---|---|")
    for rate in a.rates:
        for feedback in (False, True):
            spin.init([])
            with guard(a.robot) as pid:
                guards, own, answered = measure(robot, pid, rate, feedback, a.seconds)
            rclpy.try_shutdown()
            cells = f"{rate:g} Hz", "on" if feedback else "off", f"{guards:.0%}", f"{answered:.0%}", f"{own:.0%}"
            print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
