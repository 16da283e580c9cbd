"""Shapes of a compiled MuJoCo model as triangles, for what draws meshes: a page, RViz."""
from __future__ import annotations

import mujoco
import numpy as np

from mbrl_ros.drawing.scene import KINDS
from mbrl_ros.types import Array

AROUND = 24  # corners of a round shape
HIDDEN = 3  # groups from here on are not drawn, as in MuJoCo's own viewer


def of_geom(model: mujoco.MjModel, geom: int) -> tuple[Array, Array]:
    """Vertices (k, 3) [m] in the frame of the shape, and corners (f, 3) of its triangles, counter-clockwise seen from
    outside. Nothing of a plane and of a height field."""
    kind, size = KINDS.get(int(model.geom_type[geom])), model.geom_size[geom]
    if kind == "mesh":
        mesh = model.geom_dataid[geom]
        vertices, faces = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
        return (model.mesh_vert[vertices : vertices + model.mesh_vertnum[mesh]].astype(float),
                model.mesh_face[faces : faces + model.mesh_facenum[mesh]].copy())
    if kind == "box":
        return _box(size)
    angle = np.linspace(0.5 * np.pi, -0.5 * np.pi, AROUND // 2 + 1)
    half = np.stack([np.cos(angle), np.sin(angle)], -1)  # of a circle: distance from the axis, height; top to bottom
    if kind in ("sphere", "ellipsoid"):
        vertices, faces = _turned(half)
        return vertices * (size if kind == "ellipsoid" else size[0]), faces
    if kind == "capsule":
        middle = len(half) // 2
        profile = size[0] * np.concatenate([half[: middle + 1], half[middle:]])
        profile[: middle + 1, 1] += size[1]
        profile[middle + 1 :, 1] -= size[1]
        return _turned(profile)
    if kind == "cylinder":
        return _turned(np.array([[0.0, size[1]], [size[0], size[1]], [size[0], -size[1]], [0.0, -size[1]]]))
    return np.empty((0, 3)), np.empty((0, 3), int)


def shown(model: mujoco.MjModel, geom: int) -> Array | None:
    """Red, green, blue and opacity (4,) of a shape; None for one that is not drawn."""
    color = model.geom_rgba[geom] if model.geom_matid[geom] < 0 else model.mat_rgba[model.geom_matid[geom]]
    return None if model.geom_group[geom] >= HIDDEN or color[3] == 0 else np.asarray(color, float)


def _turned(profile: Array) -> tuple[Array, Array]:
    """A profile (k, 2) of distances from the z axis and heights, from top to bottom, turned about that axis."""
    angle = np.arange(AROUND) * 2 * np.pi / AROUND
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)  # (AROUND, 2)
    heights = np.broadcast_to(profile[:, None, 1:], (len(profile), AROUND, 1))
    vertices = np.concatenate([profile[:, None, :1] * ring, heights], -1).reshape(-1, 3)
    row, column = np.divmod(np.arange((len(profile) - 1) * AROUND), AROUND)
    a, b = row * AROUND + column, row * AROUND + (column + 1) % AROUND
    faces = np.concatenate([np.stack([a, a + AROUND, b], -1), np.stack([b, a + AROUND, b + AROUND], -1)])
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    return vertices, faces[area > 1e-15]  # at the poles corners are one point


def _box(half: Array) -> tuple[Array, Array]:
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return signs * half, np.array([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))])
