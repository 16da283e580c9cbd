"""The node behind the page: what the ring says -> the page; what is asked for on the page -> services and parameters.

It is in nobody's way: it subscribes only while a page is open, keeps the newest message of each topic as bytes and
reads those once a frame; it is best effort, so that nobody waits for it, and the page's own threads only put what they
want into a queue.
"""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from mbrl_ros import options, robot
from mbrl_ros.config import ConfigError
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.belief import from_belief
from mbrl_ros.messages.ring import MessageError
from mbrl_ros.msg import Belief, LocalDynamics, Plan, Status
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.live_parameters import LiveParameters
from mbrl_ros.nodes.parameters import SettingsNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

try:
    from mbrl_ros.dashboard.page import BUTTONS, ESTOP, Page
    from mbrl_ros.dashboard.scene import ArmScene
    from mbrl_ros.dashboard.server import HOST, LocalServer
    from mbrl_ros.dashboard.sliders import Sliders
except ModuleNotFoundError as error:
    if error.name not in ("viser", "websockets"):
        raise
    MISSING = error.name
else:
    MISSING = ""

HEARD = {topics.JOINTS: (JointState, topics.NEWEST), topics.MODEL: (LocalDynamics, topics.NEWEST),
         topics.PLAN: (Plan, topics.NEWEST), topics.BELIEF: (Belief, topics.NEWEST),
         topics.MODE: (Status, topics.LATCHED), topics.GUARD: (Status, topics.LATCHED),
         topics.TARGET: (PoseStamped, topics.NEWEST)}
PARTS = {"robot": robot.Config}
OWN = {"process": options.Process, "dashboard": options.Dashboard}
STATES = {topics.MODE: "controller", topics.GUARD: "guard"}
PATIENCE = 5.0  # [s] for an answer
OLD = 0.5  # [s] after which a plan is not shown any more
CURVES, TABLES = 4.0, 1.0  # [Hz]


class DashboardNode(SettingsNode):
    """Shows the ring in a browser on this machine."""

    parts = PARTS
    own = OWN
    all_settings = False

    def __init__(self, **arguments: Any):
        super().__init__("dashboard", **arguments)
        if MISSING:
            raise ConfigError(f"dashboard: {MISSING} is not installed; expected the extra `dashboard` of this package")
        self.process = dataclasses.replace(self.process, priority=0)  # it can wait
        self.robot = Robot(self.component(robot.Config, "robot"))
        own = self.declare("dashboard", self.option(options.Dashboard, "dashboard"))
        self._server = LocalServer(own.port, f"mbrl_ros {self.names.robot}")
        self._wanted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._page = Page(self._server, self.robot.joints, lambda *asked: self._wanted.put(partial(self._ask, *asked)),
                          self.names.robot)
        self._scene = ArmScene(self._server, self.robot, lambda *aimed: self._wanted.put(partial(self._aim, *aimed)))
        self._sliders = Sliders(self._server, self._page.settings,
                                lambda *change: self._wanted.put(partial(self._live.set, *change)))
        self._live = LiveParameters(self, self._sliders.show, self._sliders.changed, self._page.say)
        self._asked: dict[str, Any] = {name: self.create_client(Trigger if value is None else SetBool, name)
                         for name, value in {**{of[0]: of[1] for of in BUTTONS.values()}, ESTOP[0]: ESTOP[1]}.items()}
        self._pending: list[tuple[float, str, Any]] = []  # until when [s], what, its answer
        self._targets = topics.publisher(self, PoseStamped, topics.TARGET, topics.KEEP)
        self._newest: dict[str, bytes] = {}
        self._stages: dict[str, dict[str, float]] = {}
        self._subscribed: list[Any] = []
        self._frames = 0
        self._planned, self._drawn, self._tabled = 0.0, 0.0, 0.0  # monotonic [s]
        self.create_timer(1.0 / own.rate, self._frame)
        self.get_logger().info(f"the page is http://{HOST}:{own.port}, on this machine only")

    # --- what is heard

    def _listen(self) -> None:
        hear = lambda kind, topic, heard, qos, raw=False: self._subscribed.append(  # noqa: E731
            self.create_subscription(kind, topic, heard, qos, raw=raw))
        for topic, (kind, qos) in HEARD.items():
            hear(kind, topic, partial(self._newest.__setitem__, topic), qos, True)
        for name in topics.TIMED:
            hear(DiagnosticArray, topics.stages(name), partial(self._timed, name), topics.NEWEST)
        hear(DiagnosticArray, topics.DIAGNOSTICS, self._diagnosed, topics.KEEP)

    def _listen_no_more(self) -> None:
        for subscription in self._subscribed:
            self.destroy_subscription(subscription)
        self._subscribed.clear()
        self._newest.clear()

    def _take(self, topic: str) -> Any:
        """The newest message of a topic since the last call, or None."""
        data = self._newest.pop(topic, None)
        return None if data is None else deserialize_message(data, HEARD[topic][0])

    def _timed(self, name: str, message: DiagnosticArray) -> None:
        for status in message.status:
            self._stages[name] = {pair.key: float(pair.value) for pair in status.values}

    def _diagnosed(self, message: DiagnosticArray) -> None:
        learner = f"{self.get_namespace().strip('/')}/learner".lstrip("/")
        for status in message.status:
            if status.name == learner:
                version = next((pair.value for pair in status.values if pair.key == "version"), "0")
                known = f"model {version}" if version != "0" else "no model"
                self._page.state("learner", known if status.level == topics.OK else "fault", status.message)

    # --- what is shown

    def _frame(self) -> None:
        while True:
            try:
                self._wanted.get_nowait()()
            except Empty:
                break
        self._hear_answers()
        self._live.poll()
        watched = bool(self._server.get_clients())
        if watched and not self._subscribed:
            self._listen()
        elif not watched and self._subscribed:
            self._listen_no_more()
        if watched:
            with self._server.atomic():
                try:
                    self._show(time.monotonic())
                except MessageError as error:
                    self.complaints.warning(f"not shown: {error}")

    def _show(self, now: float) -> None:
        joints = self._take(topics.JOINTS)
        measured = joints and messages.from_joint_state(joints, self.robot.joints, need_effort=False)
        if measured:
            self._scene.move(measured.position)
        self._frames += 1
        if self._frames % 2:  # the arm in every frame, plan and way by turns: they cost as much
            self._show_plan(now)
        else:
            self._scene.way()
        if (target := self._take(topics.TARGET)) is not None:
            self._scene.aimed(messages.from_target(target).position)
        for topic, node in STATES.items():
            if (status := self._take(topic)) is not None:
                self._page.state(node, status.state, status.reason)
        if now - self._drawn >= 1.0 / CURVES:
            self._drawn = now
            if (belief := self._take(topics.BELIEF)) is not None:
                self._page.believe(from_belief(belief))
                self._page.draw()
        if now - self._tabled >= 1.0 / TABLES:
            self._tabled = now
            self._page.stages(self._stages, self.robot.period)

    def _show_plan(self, now: float) -> None:
        plan, model = self._take(topics.PLAN), self._take(topics.MODEL)
        if plan is not None and model is not None:
            self._planned = now
            self._scene.plan(messages.from_plan(plan, self.robot).plan,
                             messages.from_local_dynamics(model, self.robot))
        elif now - self._planned > OLD:
            self._scene.plan(None, None)

    # --- what is asked for

    def _aim(self, point: Array, beyond: float) -> None:
        self._targets.publish(topics.pose(point, self.get_clock().now().nanoseconds, self.robot.base_frame))
        where = ", ".join(f"{value:.3f}" for value in point)
        nearest = f", the nearest that can be reached, {1e3 * beyond:.0f} mm from there" if beyond else ""
        self._page.say(f"target: {where} m{nearest}. Reach goes there, if it is not under way")

    def _ask(self, service: str, value: bool | None) -> None:
        client = self._asked[service]
        if not client.service_is_ready():
            self._page.say(f"{service}: nobody offers it; is that node there?", False)
            return
        request = Trigger.Request() if value is None else SetBool.Request(data=value)
        self._page.say(f"{service} ...")
        self._pending.append((time.monotonic() + PATIENCE, service, client.call_async(request)))

    def _hear_answers(self) -> None:
        now, waiting = time.monotonic(), []
        for until, service, future in self._pending:
            if future.done():
                answer = future.result()
                self._page.say(f"{service}{'' if answer.success else ' refused'}: {answer.message}", answer.success)
            elif now > until:
                future.cancel()
                self._page.say(f"{service}: no answer within {PATIENCE:g} s", False)
            else:
                waiting.append((until, service, future))
        self._pending = waiting

    def close(self) -> None:
        """End the server."""
        self._server.stop()


def main(args: list[str] | None = None) -> int:
    return run(DashboardNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
