"""The arm in 3D from its own model, its plan with the tube, and a target that can be dragged."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from mbrl_ros.dashboard.server import LocalServer
from mbrl_ros.drawing.scene import KINDS
from mbrl_ros.drawing.triangles import of_geom, shown
from mbrl_ros.drawing.tube import quaternions, tube
from mbrl_ros.messages.ring import LocalModel
from mbrl_ros.robot import Robot
from mbrl_ros.task.reachable import Reachable
from mbrl_ros.types import Array, Plan

MAGNIFIED = 10.0  # the tube is some millimetres wide
TRACE = 90  # points of the way of the tool that are shown: 3 s at 30 Hz
PLANNED, TUBE, WAY, AIM, FAR = (38, 84, 163), (92, 142, 219), (236, 133, 20), (34, 160, 84), (204, 51, 46)
STILL = 1e-5  # [m or rad] that nobody sees
FINE = 1e-3  # [m] that nobody is told of
POSTURES = 400  # that say how far the target can be dragged


class ArmScene:
    """What is seen. `aim(point (3,) [m], beyond)` is called when the target has been let go, with the point that can be
    reached, and how far from it the target was left [m]."""

    def __init__(self, server: LocalServer, robot: Robot, aim: Callable[[Array, float], None]):
        self._server, self.robot, self._aim = server, robot, aim
        self._model, self._data = robot.model, mujoco.MjData(robot.model)
        self._tool_rows = robot.slice(f"site/{robot.sites[0]}/position")
        self._reachable = Reachable(robot)
        self._trace = np.empty((0, 3), np.float32)
        self._q = robot.home
        self._dragging = self._aimed = False
        self._sent: dict[int, Array] = {}  # of every body: position and quaternion (7,) in its parent, as drawn
        self._names, self._bodies = {0: "/arm"}, {0: server.scene.add_frame("/arm", show_axes=False)}
        for body in range(1, self._model.nbody):  # each within its parent: then a joint that turns is one thing to send
            self._names[body] = f"{self._names[int(self._model.body_parentid[body])]}/{body}"
            self._bodies[body] = server.scene.add_frame(self._names[body], show_axes=False)
        self._add_shapes()
        low, high = self._bounds()
        self._add_plan()
        self._add_target(low, high)
        server.scene.add_grid("/floor", 4.0, 4.0, position=(0.0, 0.0, self._floor), cell_size=0.1, section_size=0.5,
                              plane="xy", shadow_opacity=0.2)
        self.move(robot.home)
        points = np.vstack([self._data.xpos[1:], self._tool.position])
        middle, size = 0.5 * (points.min(0) + points.max(0)), float(np.linalg.norm(np.ptp(points, axis=0))) + 0.2
        planar = np.ptp(np.stack([low, high])[:, 1]) < 0.1
        toward = np.array([0.15, -1.0, 0.25] if planar else [0.9, -1.0, 0.6])
        server.initial_camera.position = tuple(middle + 1.6 * size * toward / np.linalg.norm(toward))
        server.initial_camera.look_at = tuple(middle)

    # --- what stands there

    def _add_shapes(self) -> None:
        """One mesh per body and colour: each is a message a frame at most, and a draw call of the browser."""
        groups: dict[tuple[int, tuple[float, ...]], list[tuple[Array, Array]]] = {}
        self._floor = 0.0
        for geom in range(self._model.ngeom):
            color, kind = shown(self._model, geom), KINDS.get(int(self._model.geom_type[geom]))
            if kind == "plane":
                self._floor = float(self._model.geom_pos[geom, 2])
            if color is None or kind in (None, "plane"):
                continue
            rotation = np.empty(9)
            mujoco.mju_quat2Mat(rotation, self._model.geom_quat[geom])
            vertices, faces = of_geom(self._model, geom)
            placed = vertices @ rotation.reshape(3, 3).T + self._model.geom_pos[geom]
            groups.setdefault((int(self._model.geom_bodyid[geom]), tuple(color)), []).append((placed, faces))
        for i, ((body, color), parts) in enumerate(groups.items()):
            start = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
            self._server.scene.add_mesh_simple(
                f"{self._names[body]}/shape{i}", np.concatenate([vertices for vertices, _ in parts]).astype(np.float32),
                np.concatenate([faces + at for (_, faces), at in zip(parts, start, strict=False)]).astype(np.uint32),
                color=np.array(color[:3]), opacity=color[3] if color[3] < 1 else None,
                flat_shading=False)

    def _add_plan(self) -> None:
        scene = self._server.scene
        ball = _ball()
        self._way = scene.add_line_segments("/way", np.zeros((1, 2, 3)), WAY, thickness=0.004)
        self._planned = scene.add_line_segments("/plan/line", np.zeros((1, 2, 3)), PLANNED, thickness=0.006)
        self._tube = scene.add_batched_meshes_simple(
            "/plan/tube", *ball, np.array([[1.0, 0, 0, 0]]), np.zeros((1, 3)), batched_scales=np.full((1, 3), 1e-3),
            batched_colors=np.array([TUBE], np.uint8), opacity=0.22, cast_shadow=False, receive_shadow=False, lod="off")
        self._label = scene.add_label("/plan/label", f"plan, 95 % tube drawn {MAGNIFIED:g} times as wide",
                                      font_screen_scale=0.8)
        self._tool = scene.add_icosphere("/tool", 0.012, color=WAY, subdivisions=2)
        self._show_plan(False)

    def _add_target(self, low: Array, high: Array) -> None:
        scene, start = self._server.scene, self.robot.tool_position(self.robot.home)
        self._gizmo = scene.add_transform_controls("/target", 0.16, disable_rotations=True, disable_sliders=True,
                                                   depth_test=False, position=tuple(start))
        self._ball = scene.add_icosphere("/target/ball", 0.018, color=AIM, subdivisions=2, opacity=0.8)

        @self._gizmo.on_update
        async def dragged(event: Any) -> None:  # in the order of what happened, which threads would not keep
            if event.phase == "start":
                self._dragging = True
            dragged_to = np.array(self._gizmo.position, float)
            point = np.clip(dragged_to, low, high)  # here: limits of the gizmo count from where a drag begins
            reached = self._reachable.nearest(point, self._q)
            self._ball.color = FAR if reached.distance else AIM
            if event.phase != "end":
                return
            self._dragging = False
            if event.client_id not in server.get_clients():  # the page went away while it dragged: nobody let it go
                return
            self._aimed = True
            beyond = float(np.linalg.norm(reached.point - dragged_to))
            if beyond > FINE:
                point = reached.point
                self._gizmo.position, self._ball.color = tuple(point), AIM
            self._aim(point, beyond if beyond > FINE else 0.0)

        server = self._server

    def _bounds(self) -> tuple[Array, Array]:
        """A box that holds where the tool can be, above the floor: (3,), (3,) [m]."""
        robot, rng = self.robot, np.random.default_rng(0)
        low = np.where(np.isfinite(robot.position_low), robot.position_low, robot.home - np.pi)
        high = np.where(np.isfinite(robot.position_high), robot.position_high, robot.home + np.pi)
        points = np.array([robot.tool_position(q) for q in rng.uniform(low, high, (POSTURES, robot.m))])
        lowest = np.maximum(points.min(0), [-np.inf, -np.inf, self._floor + 0.01])
        return lowest, np.maximum(points.max(0), lowest + 0.01)

    # --- what moves

    def move(self, q: Array) -> None:
        """The arm to the joint positions q (m,); the target follows the tool until one was given."""
        self._q = q
        self._data.qpos[self.robot.qpos] = q
        mujoco.mj_kinematics(self._model, self._data)
        for body in range(1, self._model.nbody):
            self._place(body)
        tool = self._data.site(self.robot.sites[0]).xpos.copy()
        self._tool.position = tuple(tool)
        if not (self._aimed or self._dragging) and np.abs(tool - self._gizmo.position).max() > FINE:
            self._gizmo.position = tuple(tool)
        self._trace = np.concatenate([self._trace[-TRACE:], tool[None]], dtype=np.float32)

    def _place(self, body: int) -> None:
        """Send what has changed of the pose of a body within its parent: each costs a tenth of a millisecond."""
        parent, back, pose = int(self._model.body_parentid[body]), np.empty(4), np.empty(7)
        mujoco.mju_negQuat(back, self._data.xquat[parent])
        mujoco.mju_rotVecQuat(pose[:3], self._data.xpos[body] - self._data.xpos[parent], back)
        mujoco.mju_mulQuat(pose[3:], back, self._data.xquat[body])
        moved = np.abs(pose - self._sent[body]) > STILL if body in self._sent else np.ones(7, bool)
        if moved[:3].any():
            self._bodies[body].position = tuple(pose[:3])
        if moved[3:].any():
            self._bodies[body].wxyz = tuple(pose[3:])
        if moved.any():
            self._sent[body] = pose

    def aimed(self, point: Array) -> None:
        """A target was given, by whomever."""
        self._aimed = True
        if not self._dragging:
            self._gizmo.position = tuple(point)

    def way(self) -> None:
        """Where the tool has been of late."""
        if len(self._trace) > 1:
            self._way.points = np.stack([self._trace[:-1], self._trace[1:]], 1)

    def plan(self, plan: Plan | None, model: LocalModel | None) -> None:
        """The newest plan, and the model for its tube; nothing where there is none."""
        if plan is None or model is None:
            self._show_plan(False)
            return
        centers, axes, rotations = tube(model.dynamics, plan.policy.K, model.state.belief, plan.states, self._tool_rows)
        self._planned.points = np.stack([centers[:-1], centers[1:]], 1).astype(np.float32)
        self._tube.batched_positions = centers.astype(np.float32)
        self._tube.batched_scales = (MAGNIFIED * np.maximum(axes, 1e-5)).astype(np.float32)
        self._tube.batched_wxyzs = quaternions(rotations).astype(np.float32)
        self._label.position = tuple(centers[-1] + [0.0, 0.0, 0.06])
        self._show_plan(True)

    def _show_plan(self, visible: bool) -> None:
        for part in (self._planned, self._tube, self._label):
            if part.visible != visible:
                part.visible = visible


def _ball() -> tuple[Array, Array]:
    """A sphere of radius 1: vertices (k, 3), triangles (f, 3)."""
    model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
    vertices, faces = of_geom(model, 0)
    return vertices.astype(np.float32), faces.astype(np.uint32)
