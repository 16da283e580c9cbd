"""The node that draws for RViz and the like: the plan as a path and as markers with its tube, and robot_description.

In a process of its own, so that the ring never waits for a drawing; it subscribes to plans only while somebody
subscribes to what it draws of them, for the controller publishes none where nobody listens.
"""
from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import Point
from nav_msgs.msg import Path
from rclpy.duration import Duration
from std_msgs.msg import ColorRGBA, String
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_ros import options, robot
from mbrl_ros.drawing.tube import quaternions, tube
from mbrl_ros.drawing.urdf import described
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import MessageError, PlanReport
from mbrl_ros.msg import LocalDynamics, Plan
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.parameters import SettingsNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

PARTS = {"robot": robot.Config}
OWN = {"process": options.Process, "display": options.Display}
HEARD = {topics.PLAN: Plan, topics.MODEL: LocalDynamics}
LINE, TUBE, INK = (0.15, 0.33, 0.64, 1.0), (0.36, 0.56, 0.86, 0.25), (0.1, 0.1, 0.1, 1.0)  # red, green, blue, opacity
STAYS = 0.5  # [s] that a plan is seen after the last one


class DisplayNode(SettingsNode):
    """Draws what the controller plans."""

    parts = PARTS
    own = OWN
    all_settings = False

    def __init__(self, **arguments: Any):
        super().__init__("display", **arguments)
        self.process = dataclasses.replace(self.process, priority=0)  # it can wait
        config: robot.Config = self.component(robot.Config, "robot")
        self.robot = Robot(config)
        self._tool = self.robot.slice(f"site/{self.robot.sites[0]}/position")
        self._config = self.declare("display", self.option(options.Display, "display"), self._configure)
        self._newest: dict[str, Any] = {}
        self._subscribed: list[Any] = []
        self._path = topics.publisher(self, Path, topics.PLAN_PATH, 1)
        self._markers = topics.publisher(self, MarkerArray, topics.PLAN_MARKERS, 1)
        if config.simulated:  # a real robot's driver publishes its own
            self._description = topics.publisher(self, String, topics.DESCRIPTION, topics.LATCHED)
            self._description.publish(String(data=described(self.robot)))
        self.create_timer(1.0 / self._config.rate, self._draw)

    def _configure(self, config: options.Display) -> None:
        self._config = config

    def _draw(self) -> None:
        wanted = topics.wanted(self._path) or topics.wanted(self._markers)
        if wanted and not self._subscribed:
            self._subscribed = [
                self.create_subscription(kind, topic, partial(self._newest.__setitem__, topic), topics.NEWEST)
                for topic, kind in HEARD.items()]
        elif not wanted and self._subscribed:
            for subscription in self._subscribed:
                self.destroy_subscription(subscription)
            self._subscribed = []
        plan, model = self._newest.pop(topics.PLAN, None), self._newest.get(topics.MODEL)
        if not wanted or plan is None or model is None:
            return
        try:
            report = messages.from_plan(plan, self.robot)
            local = messages.from_local_dynamics(model, self.robot)
        except MessageError as error:
            self.complaints.warning(f"not drawn: {error}")
            return
        drawn = tube(local.dynamics, report.plan.policy.K, local.state.belief, report.plan.states, self._tool)
        if topics.wanted(self._path):
            self._path.publish(self._as_path(report, drawn[0]))
        if topics.wanted(self._markers):
            self._markers.publish(self._as_markers(*drawn))

    def _as_path(self, report: PlanReport, points: Array) -> Path:
        """Where the tool will be, step by step."""
        path, step = Path(), round(1e9 * self.robot.step)
        frame = self.robot.base_frame
        path.poses = [topics.pose(point, report.time + t * step, frame) for t, point in enumerate(points)]
        path.header.frame_id, path.header.stamp = frame, path.poses[0].header.stamp
        return path

    def _as_markers(self, centers: Array, axes: Array, rotations: Array) -> MarkerArray:
        """A line along the plan, the ellipsoids of the tube about it, and a text that says how large they are drawn."""
        line = self._marker("plan", 0, Marker.LINE_STRIP, LINE, (0.004, 0.0, 0.0))
        line.points = [Point(x=x, y=y, z=z) for x, y, z in centers.tolist()]
        drawn = [line]
        widths = 2 * self._config.magnify * np.maximum(axes, 1e-6)
        for t, (center, width, turn) in enumerate(zip(centers, widths, quaternions(rotations), strict=True)):
            drawn.append(self._marker("tube", t, Marker.SPHERE, TUBE, width, center, turn))
        text = self._marker("tube", len(centers), Marker.TEXT_VIEW_FACING, INK, (0.0, 0.0, 0.02),
                            centers[-1] + [0.0, 0.0, 0.05])
        text.text = f"plan, 95 % tube drawn {self._config.magnify:g} times as wide"
        return MarkerArray(markers=[*drawn, text])

    def _marker(self, namespace: str, number: int, kind: int, color: tuple[float, float, float, float], scale: Any,
                position: Any = (0.0, 0.0, 0.0), turn: Any = (1.0, 0.0, 0.0, 0.0)) -> Marker:
        marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
        marker.header.frame_id = self.robot.base_frame  # without a stamp: where the frame is now
        marker.scale.x, marker.scale.y, marker.scale.z = (float(value) for value in scale)
        at, q = marker.pose.position, marker.pose.orientation
        at.x, at.y, at.z = (float(value) for value in position)
        q.w, q.x, q.y, q.z = (float(value) for value in turn)
        marker.color = ColorRGBA(**dict(zip("rgba", color, strict=True)))
        marker.lifetime = Duration(seconds=STAYS).to_msg()
        return marker


def main(args: list[str] | None = None) -> int:
    return run(DisplayNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
