"""A ray caster in numpy for a handful of round shapes: pictures of a robot without GPU, display or OpenGL.

For every shape, the rays through the pixels it may cover are intersected with it in its own frame, in closed form, and
the nearest hit is kept. A picture of an arm takes some 20 ms on one core.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mbrl_ros.types import Array

LIGHT = np.array([-0.2, -0.4, 0.9]) / np.linalg.norm([-0.2, -0.4, 0.9])  # towards the light


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; pixels are counted from the upper left corner of the picture."""

    position: Array  # (3,) [m]
    rotation: Array  # (3, 3), rows: right, up, forward
    focal: float  # [px]
    width: int  # [px]
    height: int

    def project(self, points: Array) -> Array:
        """points (*b, 3) [m] -> (*b, 3): column and row [px], distance along the viewing direction [m]."""
        right, up, forward = np.moveaxis((points - self.position) @ self.rotation.T, -1, 0)
        return np.stack([self.width / 2 + self.focal * right / forward, self.height / 2 - self.focal * up / forward,
                         forward], -1)

    def scaled(self, factor: int) -> Camera:
        """The same view with `factor` times as many pixels each way."""
        return Camera(self.position, self.rotation, self.focal * factor, self.width * factor, self.height * factor)

    def floor_points(self, height: float) -> Array:
        """Where the ray of each pixel meets the plane z = height: (rows, columns, 2) [m]; NaN above the horizon."""
        across = (np.arange(self.width) + 0.5 - self.width / 2) / self.focal
        upward = (self.height / 2 - np.arange(self.height) - 0.5) / self.focal
        right, up, forward = self.rotation
        direction = forward + across[:, None] * right + upward[:, None, None] * up
        down = direction[..., 2]
        distance = np.where(down < -1e-3, (height - self.position[2]) / np.where(down < -1e-3, down, -1.0), np.nan)
        return self.position[:2] + distance[..., None] * direction[..., :2]


def frame_all(points: Array, toward: Array, size: tuple[int, int], field: float = 28.0, margin: float = 0.12) -> Camera:
    """The camera in direction `toward` (3,) that sees all points (k, 3) with a margin; field of view [deg]."""
    width, height = size
    forward = -toward / np.linalg.norm(toward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(right, forward), forward])
    focal = 0.5 * min(size) / np.tan(0.5 * np.radians(field))
    center, distance = points.mean(0), 10.0 * np.ptp(points, axis=0).max() + 0.1
    for _ in range(30):  # both corrections shrink quickly, as the view is nearly orthographic
        camera = Camera(center - distance * forward, rotation, focal, width, height)
        pixels = camera.project(points)[:, :2]
        low, high = pixels.min(0), pixels.max(0)
        shift = (0.5 * (low + high) - [width / 2, height / 2]) * distance / focal
        center = center + shift[0] * rotation[0] - shift[1] * rotation[1]
        distance *= float(((high - low) / ((1 - margin) * np.array(size))).max()) ** 0.7
    return Camera(center - distance * forward, rotation, focal, width, height)


class Shape(NamedTuple):
    """kind and size as in MuJoCo: sphere (r), capsule and cylinder (r, half length along z), box and ellipsoid (half
    lengths of the axes)."""

    kind: str
    size: Array  # (3,) [m]
    position: Array  # (3,) [m]
    rotation: Array  # (3, 3), from the frame of the shape
    color: Array  # (3,) 0..1
    glow: float = 0.0  # 0: lit; 1: shines by itself


def render(shapes: Sequence[Shape], camera: Camera) -> tuple[Array, Array]:
    """Colors (rows, columns, 3) 0..255 and depths (rows, columns) [m], infinite where there is nothing."""
    depth = np.full((camera.height, camera.width), np.inf, dtype=np.float32)
    colors = np.zeros((camera.height, camera.width, 3), dtype=np.uint8)
    for shape in shapes:
        window = _window(shape, camera)
        if window is None:
            continue
        origin, rays = _local_rays(shape, camera, *window)
        t = INTERSECT[shape.kind](origin, rays, shape.size)
        nearer = t < depth[window] + 3e-4  # of two surfaces in one place, the later is seen
        depth[window][nearer] = t[nearer]
        hit = [o + t[nearer] * d[nearer] for o, d in zip(origin, rays, strict=True)]
        normal = NORMAL[shape.kind](hit, shape.size) @ shape.rotation.T.astype(np.float32)  # (k, 3)
        view = np.stack([d[nearer] for d in rays], -1) @ shape.rotation.T.astype(np.float32)
        colors[window][nearer] = shade(shape, normal, view)
    return colors, depth


def shade(shape: Shape, normal: Array, view: Array) -> Array:
    """Colors (k, 3) 0..255 of surfaces with unit normals (k, 3) seen along view (k, 3)."""
    view = view / np.linalg.norm(view, axis=-1, keepdims=True)
    diffuse = np.clip(normal @ LIGHT.astype(np.float32), 0, None)
    half = LIGHT.astype(np.float32) - view
    gloss = np.clip(np.einsum("ki,ki->k", normal, half) / np.linalg.norm(half, axis=-1), 0, None) ** 40
    rim = (1 + np.einsum("ki,ki->k", normal, view)) ** 3  # surfaces seen from the side fall off into the dark
    sky = 0.50 + 0.14 * normal[:, 2]
    light = (sky + 0.52 * diffuse) * (1 - 0.40 * np.clip(rim, 0, 1))
    lit = shape.color * light[:, None] + 0.22 * gloss[:, None]
    glowing = shape.color * (0.72 + 0.28 * diffuse)[:, None] + 0.25 * gloss[:, None]
    return (255 * np.clip((1 - shape.glow) * lit + shape.glow * glowing, 0, 1)).astype(np.uint8)


def corners(shape: Shape) -> tuple[Array, float]:
    """Points (k, 3) [m] and a radius: the shape lies within the convex hull of the balls around the points."""
    r, h = shape.size[0], shape.size[1]
    if shape.kind == "sphere":
        return shape.position[None], r
    if shape.kind in ("capsule", "cylinder"):
        return shape.position + np.outer([-h, h], shape.rotation[:, 2]), r
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return shape.position + (signs * shape.size) @ shape.rotation.T, 0.0


def _window(shape: Shape, camera: Camera) -> tuple[slice, slice] | None:
    """Rows and columns that the shape may cover."""
    points, radius = corners(shape)
    x, y, z = camera.project(points).T
    if z.min() <= radius + 1e-3:
        return None  # behind the camera
    r = camera.focal * radius / (z - radius) + 1
    left, right = max(0, int((x - r).min())), min(camera.width, int((x + r).max()) + 2)
    top, bottom = max(0, int((y - r).min())), min(camera.height, int((y + r).max()) + 2)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _local_rays(shape: Shape, camera: Camera, rows: slice, columns: slice) -> tuple[Array, list[Array]]:
    """Camera and rays in the frame of the shape: origin (3,), directions 3 x (rows, columns) of unit depth."""
    origin = (shape.rotation.T @ (camera.position - shape.position)).astype(np.float32)
    right, up, forward = (camera.rotation @ shape.rotation).astype(np.float32)
    across = ((np.arange(columns.start, columns.stop) + 0.5 - camera.width / 2) / camera.focal).astype(np.float32)
    upward = ((camera.height / 2 - np.arange(rows.start, rows.stop) - 0.5) / camera.focal).astype(np.float32)
    return origin, [(forward[i] + across * right[i]) + (upward * up[i])[:, None] for i in range(3)]


def _first_root(a: Array, b: Array, c: Array) -> Array:
    """Smaller root of a t^2 + 2 b t + c; infinite where there is none."""
    d = b * b - a * c
    return np.where(d >= 0, (-b - np.sqrt(np.maximum(d, 0))) / a, np.float32(np.inf))


def _ball(o: Array, d: list[Array], size: Array) -> Array:
    dx, dy, dz = d
    return _first_root(dx * dx + dy * dy + dz * dz, o[0] * dx + o[1] * dy + o[2] * dz,
                       np.float32(o @ o - size[0] ** 2))


def _tube(o: Array, d: list[Array], r: float) -> Array:
    """The infinite cylinder about z."""
    dx, dy, _ = d
    a = np.maximum(dx * dx + dy * dy, np.float32(1e-12))
    return _first_root(a, o[0] * dx + o[1] * dy, np.float32(o[0] ** 2 + o[1] ** 2 - r * r))


def _capsule(o: Array, d: list[Array], size: Array) -> Array:
    t, h = _tube(o, d, size[0]), np.float32(size[1])
    hit = np.isfinite(t)
    z = o[2] + np.where(hit, t, 0) * d[2]
    end = np.where(z > 0, h, -h)  # beside the straight part, the ray meets the ball at this end or nothing
    dx, dy, dz = d
    oz = o[2] - end
    ball = _first_root(dx * dx + dy * dy + dz * dz, o[0] * dx + o[1] * dy + oz * dz,
                       o[0] ** 2 + o[1] ** 2 + oz * oz - np.float32(size[0] ** 2))
    return np.where(hit & (np.abs(z) > h), ball, t)


def _cylinder(o: Array, d: list[Array], size: Array) -> Array:
    t, r, h = _tube(o, d, size[0]), np.float32(size[0]), np.float32(size[1])
    z = o[2] + np.where(np.isfinite(t), t, 0) * d[2]
    dz = np.where(np.abs(d[2]) < 1e-9, np.float32(1e-9), d[2])
    lid = (-np.sign(dz) * h - o[2]) / dz
    x, y = o[0] + lid * d[0], o[1] + lid * d[1]
    lid = np.where((x * x + y * y <= r * r) & (lid > 0), lid, np.float32(np.inf))
    return np.where(np.abs(z) <= h, t, lid)


def _box(o: Array, d: list[Array], size: Array) -> Array:
    enter, leave = np.float32(-np.inf), np.float32(np.inf)
    for i in range(3):
        di = np.where(np.abs(d[i]) < 1e-9, np.float32(1e-9), d[i])
        middle, half = -o[i] / di, np.abs(np.float32(size[i]) / di)
        enter, leave = np.maximum(enter, middle - half), np.minimum(leave, middle + half)
    return np.where(enter <= leave, enter, np.float32(np.inf))


def _ellipsoid(o: Array, d: list[Array], size: Array) -> Array:
    s = size.astype(np.float32)
    return _ball(o / s, [di / si for di, si in zip(d, s, strict=True)], np.ones(1, np.float32))


def _normal_ball(p: list[Array], size: Array) -> Array:
    return np.stack(p, -1) / np.float32(size[0])


def _normal_capsule(p: list[Array], size: Array) -> Array:
    h = np.float32(size[1])
    return np.stack([p[0], p[1], p[2] - np.clip(p[2], -h, h)], -1) / np.float32(size[0])


def _normal_cylinder(p: list[Array], size: Array) -> Array:
    x, y, z = p
    lid = x * x + y * y < np.float32((0.999 * size[0]) ** 2)
    side = np.stack([x, y, np.zeros_like(z)], -1) / np.float32(size[0])
    side[lid] = 0
    side[lid, 2] = np.sign(z[lid])
    return side


def _normal_box(p: list[Array], size: Array) -> Array:
    q = np.stack(p, -1) / size.astype(np.float32)  # (k, 3), +-1 on the face that was hit
    axis = np.abs(q).argmax(-1)
    return np.sign(q) * (np.arange(3) == axis[:, None])


def _normal_ellipsoid(p: list[Array], size: Array) -> Array:
    n = np.stack(p, -1) / size.astype(np.float32) ** 2
    return n / np.linalg.norm(n, axis=-1, keepdims=True)


INTERSECT: dict[str, Callable[[Array, list[Array], Array], Array]] = {
    "sphere": _ball, "capsule": _capsule, "cylinder": _cylinder, "box": _box, "ellipsoid": _ellipsoid}
NORMAL: dict[str, Callable[[list[Array], Array], Array]] = {
    "sphere": _normal_ball, "capsule": _normal_capsule, "cylinder": _normal_cylinder, "box": _normal_box,
    "ellipsoid": _normal_ellipsoid}
