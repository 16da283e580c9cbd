"""Pictures of a robot, drawn in software: no GPU, no display.

The camera frames whatever the robot will do; a robot that moves in a plane is seen from the side.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import mujoco
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mbrl_ros.drawing.raycast import LIGHT, Camera, Shape, corners, frame_all, render
from mbrl_ros.robot import Config, Robot, addresses
from mbrl_ros.types import Array

REACHED = 0.01  # [m] from the target the dot turns green
TARGET_RADIUS, TOOL_RADIUS = 0.02, 0.012  # [m]
RED, GREEN, ORANGE, GRAY = (np.array(c) for c in
                            ((0.85, 0.20, 0.18), (0.13, 0.66, 0.34), (0.96, 0.52, 0.08), (0.45, 0.48, 0.53)))
SKY, FLOOR, LINES, INK = (np.array(c, float) for c in
                          ((250, 251, 253), (233, 236, 240), (208, 213, 220), (40, 46, 56)))
SHADOW_MAP = 256  # [px]
KINDS = {int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind.upper()}")): kind
         for kind in ("plane", "sphere", "capsule", "cylinder", "box", "ellipsoid", "mesh")}


class Scene:
    """A robot, a floor and a camera that has all of q (T, m) and targets (k, 3) in view; `model` is that of the world
    the robot is in, where there is more to see than the robot: q then goes on with its objects."""

    def __init__(self, config: Config, q: Array, targets: Array, size: tuple[int, int],
                 model: mujoco.MjModel | None = None):
        self.robot = Robot(config)
        self._qpos = self.robot.qpos if model is None else addresses(model, self.robot.observed)[0]
        self.model = model = model or self.robot.model
        self._data = mujoco.MjData(model)
        self._joints = [model.joint(name).id for name in self.robot.joints]
        planes = [g for g in range(model.ngeom) if KINDS.get(int(model.geom_type[g])) == "plane"]
        self.floor = float(model.geom_pos[planes[0], 2]) if planes else 0.0
        shown = q[:: max(1, len(q) // 40)]
        points = np.concatenate([self._extent(row) for row in shown] + [targets])
        foot = np.array([*self._data.xanchor[self._joints[0], :2], self.floor])
        self.camera = frame_all(np.vstack([points, foot]), self.viewpoint(), size)
        self.middle = 0.5 * (points.min(0) + points.max(0))
        self.reach = 0.7 + np.ptp(points, axis=0).max()  # [m] from the middle to the edge of the shadow map

    def shapes(self, q: Array) -> list[Shape]:
        """What is visible of the robot, and of its world, at q."""
        model, data = self.model, self._data
        data.qpos[self._qpos] = q
        mujoco.mj_kinematics(model, data)
        shapes = []
        for g in range(model.ngeom):
            kind, rgba = KINDS.get(int(model.geom_type[g])), model.geom_rgba[g]
            if model.geom_matid[g] >= 0:
                rgba = model.mat_rgba[model.geom_matid[g]]
            if kind in (None, "plane") or model.geom_group[g] > 2 or rgba[3] == 0:  # MuJoCo's viewer hides these, too
                continue
            size, position, rotation = model.geom_size[g], data.geom_xpos[g], data.geom_xmat[g].reshape(3, 3)
            if kind == "mesh":  # as the ellipsoid that fits into its box
                kind, size = "ellipsoid", model.geom_aabb[g, 3:]
                position = position + rotation @ model.geom_aabb[g, :3]
            shapes.append(Shape(kind, np.maximum(size, 1e-4), position.copy(), rotation.copy(), rgba[:3].copy()))
        tool = data.site(self.robot.sites[0]).xpos.copy()
        ball = Shape("sphere", np.full(3, TOOL_RADIUS), tool, np.eye(3), ORANGE, 0.6)
        return [*self._stand, *(shapes or self._sticks(tool)), ball]

    def _sticks(self, tool: Array) -> list[Shape]:
        """A robot that has no shape: from joint to joint to tool."""
        points = np.vstack([self._data.xanchor[self._joints], tool])
        sticks = []
        for start, end in pairwise(points):
            length = float(np.linalg.norm(end - start))
            if length > 1e-3:
                axis = (end - start) / length
                side = np.linalg.svd(axis[None])[2][1:]  # two directions across
                rotation = np.stack([*side, axis], -1)
                rotation[:, 0] *= np.sign(np.linalg.det(rotation))
                size = np.array([0.02, 0.5 * length, 0.0])
                sticks.append(Shape("capsule", size, 0.5 * (start + end), rotation, GRAY))
        return sticks

    def colors(self, q: Array) -> Array:
        """What occurs in its pictures besides the floor: (k, 3) 0..1."""
        return np.unique([RED, GREEN, *(shape.color for shape in self.shapes(q))], axis=0)

    def draw(self, q: Array, target: Array | None, trail: Array | None = None, caption: str = "", note: str = ""
             ) -> Image.Image:
        """The picture at q (m,) with the target (3,), the way of the tool (k, 3), and text below and above."""
        shapes = self.shapes(q)
        image = Image.composite(self._shaded, self._empty, self._shadow(shapes))  # bytes: PIL is fast at that
        canvas = self._draw_solid(shapes, target, np.zeros((0, 3)) if trail is None else trail)
        left, top, right, bottom = canvas.getbbox() or (0, 0, 2, 2)
        left, top = left // 2 * 2, top // 2 * 2
        small = canvas.crop((left, top, right, bottom)).reduce(2)
        image.paste(small, (left // 2, top // 2), small)
        _write(image, caption, note)
        return image

    def _draw_solid(self, shapes: Sequence[Shape], target: Array | None, trail: Array) -> Image.Image:
        """All but the floor, twice as large as the picture: averaged, it has smooth edges."""
        fine = self.camera.scaled(2)
        canvas = Image.new("RGBA", (fine.width, fine.height))
        pen = ImageDraw.Draw(canvas)
        if target is not None:
            color = GREEN if np.linalg.norm(shapes[-1].position - target) <= REACHED else RED
            shapes = [*shapes, Shape("sphere", np.full(3, TARGET_RADIUS), target, np.eye(3), color, 1.0)]
            self._draw_plumb_line(pen, fine, target)
        colors, depth = render(shapes, fine)
        _draw_trail(pen, fine, trail, None)
        solid = np.isfinite(depth)
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        if len(rows):
            part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            colors[part][_edges(depth[part])] //= 2
            canvas.paste(Image.fromarray(colors[part]), (int(columns[0]), int(rows[0])), Image.fromarray(solid[part]))
        _draw_trail(pen, fine, trail, depth)
        if target is not None:  # a ring that nothing hides
            x, y, z = fine.project(target)
            r = 1.7 * TARGET_RADIUS * fine.focal / z
            pen.ellipse([x - r, y - r, x + r, y + r], outline=(*(255 * color).astype(int).tolist(), 255), width=4)
        return canvas

    def _draw_plumb_line(self, pen: ImageDraw.ImageDraw, camera: Camera, target: Array) -> None:
        """From the target to the floor: shows where in space it is."""
        foot = np.array([target[0], target[1], self.floor])
        angle = np.linspace(0, 2 * np.pi, 33)
        ring = foot + 0.03 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
        for points, width in ((np.stack([foot, target]), 2), (ring, 3)):
            pen.line([tuple(p) for p in camera.project(points)[:, :2].tolist()], fill=(150, 156, 168, 255), width=width)

    @cached_property
    def _stand(self) -> list[Shape]:
        """What holds a robot that has no base and moves in a plane: an axle and a post behind it."""
        model, data = self.model, self._data
        joint = self._joints[0]
        anchor, axis = data.xanchor[joint].copy(), data.xaxis[joint].copy()
        based = any(model.geom_bodyid[g] == 0 and KINDS.get(int(model.geom_type[g])) != "plane"
                    for g in range(model.ngeom))
        if based or not self._planar or anchor[2] < self.floor + 0.1:
            return []
        back = -axis * np.sign(axis @ self.viewpoint())
        side = np.stack([np.cross([0.0, 0.0, 1.0], back), [0.0, 0.0, 1.0], back], -1)
        post = anchor + 0.15 * back
        half = 0.5 * (anchor[2] + 0.05 - self.floor)
        post[2] = self.floor + half
        return [Shape("cylinder", np.array([0.02, 0.1, 0.0]), anchor + 0.05 * back, side, GRAY),
                Shape("cylinder", np.array([0.025, half, 0.0]), post, np.eye(3), GRAY)]

    @cached_property
    def _planar(self) -> bool:
        """All joints turn about the same horizontal direction."""
        axes = self._axes
        return bool(np.abs(axes @ axes[0]).min() > 0.999 and abs(axes[0, 2]) < 0.3)

    def _extent(self, q: Array) -> Array:
        points = []
        for shape in self.shapes(q):
            centers, radius = corners(shape)
            points += [centers - radius, centers + radius]
        return np.concatenate(points)

    def viewpoint(self) -> Array:
        """Direction (3,) from the robot to the camera."""
        axis = self._axes[0]
        toward = -axis * np.sign(axis @ [-0.3, 1.0, 0.0]) if self._planar else np.array([0.8, -1.0, 0.0])
        turn, elevation = np.radians((18, 12) if self._planar else (0, 20))
        x, y = toward[:2] / np.linalg.norm(toward[:2])
        c, s = np.cos(turn), np.sin(turn)
        return np.array([np.cos(elevation) * (c * x - s * y), np.cos(elevation) * (s * x + c * y), np.sin(elevation)])

    @cached_property
    def _axes(self) -> Array:
        """Of the joints, at some posture: (m, 3)."""
        mujoco.mj_kinematics(self.model, self._data)
        return self._data.xaxis[self._joints].copy()

    @cached_property
    def _empty(self) -> Image.Image:
        """Sky and floor, with lines every quarter of a meter that fade into the distance."""
        camera = self.camera.scaled(2)
        points = camera.floor_points(self.floor)  # (rows, columns, 2)
        distance = np.linalg.norm(points - self.middle[:2], axis=-1) / self.reach
        floor = np.nan_to_num(np.exp(-((0.55 * distance) ** 2)))[..., None]
        step = np.maximum(np.abs(np.gradient(points, axis=0)), np.abs(np.gradient(points, axis=1)))  # [m] per pixel
        away = np.abs(points - 0.25 * np.round(points / 0.25))
        lines = np.clip(1.5 - away / step, 0, 1).max(-1)  # about three of the fine pixels wide
        lines = np.nan_to_num(lines * np.exp(-((0.9 * distance) ** 2)))[..., None]
        color = SKY + floor * (FLOOR - SKY)
        return Image.fromarray((color + lines * (LINES - FLOOR)).astype(np.uint8)).reduce(2)

    @cached_property
    def _shaded(self) -> Image.Image:
        return Image.fromarray((np.asarray(self._empty) * np.array([0.66, 0.68, 0.72])).astype(np.uint8))

    def _shadow(self, shapes: Sequence[Shape]) -> Image.Image:
        """How dark the floor is at each pixel, 0..255: shapes drawn onto a map of the floor, blurred and seen from the
        camera."""
        mask = Image.new("L", (SHADOW_MAP, SHADOW_MAP))
        pen, scale = ImageDraw.Draw(mask), SHADOW_MAP / (2 * self.reach)
        for shape in shapes:
            points, radius = corners(shape)
            points = points - LIGHT * ((points[:, 2:] - self.floor) / LIGHT[2])
            on_map = (points[:, :2] - self.middle[:2] + self.reach) * scale
            _draw_hull(pen, on_map, radius * scale)
        seen = mask.filter(ImageFilter.GaussianBlur(2.5)).transform(
            (self.camera.width, self.camera.height), Image.Transform.PERSPECTIVE, self._floor_to_map,
            Image.Resampling.BILINEAR)
        return Image.composite(seen, Image.new("L", seen.size), self._below_horizon)

    @cached_property
    def _floor_to_map(self) -> list[float]:
        """Eight numbers of the homography from pixels of the picture to pixels of the shadow map."""
        camera, scale = self.camera, SHADOW_MAP / (2 * self.reach)
        right, up, forward = camera.rotation
        # a pixel (u, v) looks along R (u, v, 1) and meets the floor at position + t R (u, v, 1)
        R = np.stack([right / camera.focal, -up / camera.focal,
                      forward - right * camera.width / 2 / camera.focal + up * camera.height / 2 / camera.focal], -1)
        down = (self.floor - camera.position[2]) * np.eye(3)[:2] + np.outer(
            camera.position[:2] - self.middle[:2] + self.reach, [0, 0, 1])
        H = np.vstack([scale * down @ R, R[2]])
        return [float(h) for h in (H / H[2, 2]).ravel()[:8]]

    @cached_property
    def _below_horizon(self) -> Image.Image:
        below = np.isfinite(self.camera.floor_points(self.floor)[..., 0])
        return Image.fromarray(below.astype(np.uint8) * 255)


def _draw_hull(pen: ImageDraw.ImageDraw, points: Array, radius: float) -> None:
    """A ball, a stadium, or a box by its six faces; points (k, 2) [px]."""
    if len(points) == 8:
        for face in ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)):
            pen.polygon([tuple(points[i]) for i in face], fill=255)
        return
    for x, y in points:
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    if len(points) == 2:
        along = points[1] - points[0]
        across = radius * np.array([-along[1], along[0]]) / max(1e-6, float(np.hypot(*along)))
        pen.polygon([tuple(points[0] + across), tuple(points[1] + across), tuple(points[1] - across),
                     tuple(points[0] - across)], fill=255)


def _draw_trail(pen: ImageDraw.ImageDraw, camera: Camera, trail: Array, depth: Array | None) -> None:
    """The way (k, 3), newest last and strongest; with depths (rows, columns) only what is in front of them."""
    pixels = camera.project(trail)
    for i in range(len(pixels) - 1):
        (x0, y0, _), (x1, y1, z1) = pixels[i], pixels[i + 1]
        if depth is not None:
            row, column = int(np.clip(y1, 0, camera.height - 1)), int(np.clip(x1, 0, camera.width - 1))
            if z1 > depth[row, column] + 0.5 * TOOL_RADIUS:
                continue
        strength = (i + 1) / (len(pixels) - 1)
        color = FLOOR + strength**1.5 * (255 * ORANGE - FLOOR)
        pen.line([x0, y0, x1, y1], fill=(*color.astype(int).tolist(), 255), width=3 + round(3 * strength))


def _edges(depth: Array) -> Array:
    """Where a surface ends before one that lies 2 cm or more behind it."""
    nearer = np.zeros(depth.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        nearer[:, 1:] |= depth[:, :-1] - depth[:, 1:] > 0.02
        nearer[:, :-1] |= depth[:, 1:] - depth[:, :-1] > 0.02
        nearer[1:] |= depth[:-1] - depth[1:] > 0.02
        nearer[:-1] |= depth[1:] - depth[:-1] > 0.02
    return nearer


def _write(image: Image.Image, caption: str, note: str) -> None:
    pen, height = ImageDraw.Draw(image), image.height
    font = ImageFont.load_default(round(height / 24))
    ink = tuple(INK.astype(int).tolist())
    pen.text((0.03 * image.width, height - 0.035 * height), caption, ink, font, anchor="ls")
    pen.text((0.03 * image.width, 0.035 * height), note, ink, font, anchor="lt")
