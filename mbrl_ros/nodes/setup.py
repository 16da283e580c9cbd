"""`ros2 run mbrl_ros setup [MODEL]`: see mbrl_ros.setup_robot; with topics beside files.

    ros2 run mbrl_ros setup --yes                     # the model on the topic robot_description
    ros2 run mbrl_ros setup my_arm.urdf --joint-states  # home and rate by what the robot says
    ros2 run mbrl_ros setup my_arm.urdf --probe         # small pushes of every joint, behind a guard of its own

Nothing else may command the robot while it is probed. Joints move by hundredths of a radian, by half of one at most.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from mbrl_ros import model_file, robot, setup_robot
from mbrl_ros.config import ConfigError, from_mapping, merge, section
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import MessageError
from mbrl_ros.nodes import spin, topics
from mbrl_ros.ring import guard
from mbrl_ros.ring.guard import FAULT, Guard, Limits
from mbrl_ros.ring.holding import settle_gains
from mbrl_ros.ring.probe import Bounds, Probe
from mbrl_ros.setup_robot import Setup
from mbrl_ros.types import Array

WAITING = 10.0  # [s] for a topic
HEARD = 20  # joint states that their rate is found by
LONGEST = 60.0  # [s] of a probe
GENTLE, DAMPED = 0.2, 0.05  # [effort limit per rad], [per rad/s]: a hold where nothing of the masses is known
STILL, RESTING = 0.05, 1.0  # [velocity limit], and for how long [s], before the first push
LATE = 0.2  # [s] that states and commands may be old: pushes are small
LEAVING = 0.3  # [s] in which the efforts go down to zero


class Listener(Node):
    """Hears what a robot says of itself, and commands it while it is probed."""

    def __init__(self) -> None:
        super().__init__("setup")
        self.description = ""
        self.states: list[JointState] = []
        self.create_subscription(String, "robot_description", self._described, topics.LATCHED)
        self.create_subscription(JointState, topics.JOINTS, self._measured, topics.STATES)
        self.commands = topics.publisher(self, Float64MultiArray, topics.COMMANDS, topics.SENT)
        self.measured: Callable[[JointState], object] | None = None  # who acts on joint states

    def _described(self, message: String) -> None:
        self.description = message.data

    def _measured(self, message: JointState) -> None:
        self.states = [*self.states[-4 * HEARD :], message]
        if self.measured is not None:
            self.measured(message)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = WAITING) -> None:
        """Raises ConfigError where the condition does not come about."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise ConfigError(f"{what}: nothing within {seconds:g} s")
            rclpy.spin_once(self, timeout_sec=0.05)

    def model(self) -> str:
        """The XML on robot_description."""
        self.wait(lambda: self.description, "robot_description: expected a publisher, or a model file")
        return self.description

    def joints(self, model: str, tool: str) -> tuple[list[str], list[float], float]:
        """The joints of the arm from the base on, where they are, and the time between joint states [s].

        joint_states have an order of their own, often that of the alphabet, and controllers that of the chain.

        Raises ConfigError where the joint states are not those of the model.
        """
        made = model_file.read(model)
        chain, _ = setup_robot.chain(made, model_file.skeleton(made), tool)
        of_arm = lambda: [s for s in self.states if set(chain) & set(s.name)]  # noqa: E731
        try:
            self.wait(lambda: len(of_arm()) >= HEARD, "joint_states")
        except ConfigError as error:
            heard = sorted({name for state in self.states for name in state.name})
            if not heard:
                raise
            raise ConfigError(f"joint_states: expected {', '.join(chain)}, as the model has them, got "
                              f"{', '.join(heard)}") from error
        names = of_arm()[-1].name
        missing = [name for name in chain if name not in names]
        if missing:
            raise ConfigError(f"joint_states: expected {', '.join(chain)}, as the model has them; there is no "
                              f"{', '.join(missing)} among {', '.join(names)}")
        states = [state_of(s, chain) for s in of_arm()[-HEARD:]]
        times = np.array([state.time for state in states]) * 1e-9
        return chain, [round(float(q), 4) for q in states[-1].position], float(np.median(np.diff(times)))


def state_of(message: JointState, joints: list[str]) -> Any:
    """The observation of joints that are in the message. Raises ConfigError for one that cannot be used."""
    try:
        state = messages.from_joint_state(message, joints, need_effort=False)
    except MessageError as error:
        raise ConfigError(f"joint_states: {error}") from error
    return state


class Pushes:
    """A probe behind a guard: what the guard lets pass is sent, for every joint state that is a period later."""

    def __init__(self, listener: Listener, arm: robot.Robot, settings: dict[str, Any]):
        of = from_mapping(guard.Config, {"state_age": LATE, "command_age": LATE, **section(settings, "guard")}, "guard")
        self._listener, self._arm = listener, arm
        self.guard = Guard(Limits.of(arm, of), of, arm.period, arm.weight)
        weight = arm.weight if of.gravity == "model" else None
        self.probe = Probe(Bounds.of(arm), arm.period, weight, names=arm.joints)
        self.problem, self._last = "", 0
        self._sent: Array | None = None
        self._rest = 0.0  # [s] for which all joints have been at rest under the hold of the guard
        listener.measured = self._measured

    def _measured(self, message: JointState) -> None:
        if not set(self._arm.joints) & set(message.name):
            return
        state, now = state_of(message, list(self._arm.joints)), time.monotonic()
        if state.velocity is None:
            raise ConfigError("joint_states: expected velocities, got none")
        if state.time - self._last < 0.75e9 * self._arm.period:
            return
        self._last = state.time
        self.guard.measured(state.time, state.position, state.velocity, now)
        slow = (np.abs(state.velocity) < STILL * self._arm.velocity_limit).all()
        self._rest = self._rest + self._arm.period if slow or self._rest > RESTING else 0.0
        if self._rest > RESTING:
            self.guard.commanded(self.probe.act(state.position, state.velocity, self._sent), state.time, now)
            if self.guard.state == guard.HOLD:
                self.guard.arm(now)  # refuses until there were commands in time
        if self.guard.state == FAULT:
            self.problem = f"the guard stopped it: {self.guard.reason}"
        self._send(self.guard.effort(now))

    def _send(self, effort: Array | None) -> None:
        if effort is not None:
            self._sent = effort
            self._listener.commands.publish(messages.to_efforts(Float64MultiArray, effort))

    def run(self) -> None:
        """Until it is done. Raises ConfigError where it finds nothing."""
        listener = self._listener
        try:
            listener.wait(lambda: self.probe.done or self.problem, "the probe", LONGEST)
            if self.problem or self.probe.found is None:
                raise ConfigError(f"the probe: {self.problem or self.probe.reason}; expected joints that are free to "
                                  "move, and that nobody else commands")
        finally:
            listener.measured = None
            self._leave()

    def _leave(self) -> None:
        """Down to zero at the limited rate, as the guard leaves a robot."""
        self.guard.estop()
        end = time.monotonic() + LEAVING
        while time.monotonic() < end:
            self._send(self.guard.release(time.monotonic()))
            time.sleep(self._arm.period)


def probe(listener: Listener, setup: Setup) -> Setup:
    """The same with gains, inertia and brakes by pushes of the robot. Raises ConfigError where that fails."""
    given = setup.settings["robot"]
    effort, m = np.array(given["effort_limit"]), len(given["joints"])
    gentle = {"stiffness": (GENTLE * effort).tolist(), "damping": (DAMPED * effort).tolist(),
              "deceleration": [1.0] * m, **given}
    arm = robot.Robot(from_mapping(robot.Config, gentle, "robot"))
    pushes = Pushes(listener, arm, setup.settings)
    pushes.run()
    assert pushes.probe.found is not None
    of = from_mapping(guard.Config, section(setup.settings, "guard"), "guard")
    settle_gains(arm, pushes.probe.found, of.gravity, of.integral)
    said = [line for line in setup.assumed if "gains" not in line]
    return Setup(merge(setup.settings, {"robot": setup_robot.gains_of(arm)}),
                 [*said, "gains, inertia and brakes: by pushes of the robot"])


def _main(a: argparse.Namespace) -> int:
    listener = Listener()
    try:
        model, more = a.model or listener.model(), {}
        if a.joint_states or a.probe:
            chain, home, between = listener.joints(model, a.tool)
            joints = [name for name in a.joints.split(",") if name] or chain
            if set(joints) != set(chain):
                raise ConfigError(f"--joints: expected {', '.join(chain)} in the order of commands, got {a.joints}")
            home = [home[chain.index(name)] for name in joints]
            more = {"joints": joints, "home": home, "slowest": between}
        return setup_robot.run(a, model, (lambda s: probe(listener, s)) if a.probe else None, **more)
    finally:
        spin.close([listener], None)


def main(args: list[str] | None = None) -> int:
    """Set up; 0: done, 2: a mistake of the user, or an arm for which nothing will do."""
    p = setup_robot.parser("ros2 run mbrl_ros setup")
    p.add_argument("--joint-states", action="store_true", help="home and rate by joint_states")
    p.add_argument("--probe", action="store_true", help="push the joints of the robot to find the gains of its hold")
    words = remove_ros_args(sys.argv if args is None else ["setup", *args])[1:]
    a = p.parse_args(words)
    return spin.guarded(lambda _stop: _main(a), sys.argv if args is None else args)


if __name__ == "__main__":
    raise SystemExit(main())
