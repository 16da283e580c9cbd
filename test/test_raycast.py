"""Rays: depths are those of MuJoCo, normals those of the depths, and the camera agrees with itself."""
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from mbrl_ros.drawing import raycast
from mbrl_ros.drawing.raycast import Camera, Shape, frame_all, render


def some_shapes(seed, kinds=("sphere", "capsule", "cylinder", "box", "ellipsoid")):
    rng = np.random.default_rng(seed)
    for kind in kinds:
        rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        rotation[:, 0] *= np.sign(np.linalg.det(rotation))
        yield Shape(kind, rng.uniform(0.05, 0.3, 3), rng.uniform(-0.4, 0.4, 3), rotation, rng.uniform(0, 1, 3))


def mujoco_scene(shapes):
    spec = mujoco.MjSpec()
    for s in shapes:
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, s.rotation.ravel())
        spec.worldbody.add_geom(type=getattr(mujoco.mjtGeom, f"mjGEOM_{s.kind.upper()}"), size=s.size, pos=s.position,
                                quat=quat)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def camera_at(position, width=60, height=48):
    rotation = frame_all(np.array([[-0.5] * 3, [0.5] * 3]), np.asarray(position, float), (width, height)).rotation
    return Camera(np.asarray(position, float), rotation, 60.0, width, height)


@pytest.mark.parametrize("seed", range(6))
def test_depths_are_those_of_mujoco(seed):
    """MuJoCo intersects rays with the same shapes in double precision."""
    shapes = list(some_shapes(seed))
    camera = camera_at(np.random.default_rng(seed).uniform([1, -2, 0.2], [2, 2, 1.5]))
    _, depth = render(shapes, camera)
    model, data = mujoco_scene(shapes)
    right, up, forward = camera.rotation
    disagree = 0
    for row in range(camera.height):
        for column in range(camera.width):
            ray = (forward + right * (column + 0.5 - camera.width / 2) / camera.focal
                   + up * (camera.height / 2 - row - 0.5) / camera.focal)
            hit = mujoco.mj_ray(model, data, camera.position, ray, None, 1, -1, np.zeros(1, np.int32))
            hit = np.inf if hit < 0 else hit
            if np.isinf(hit) != np.isinf(depth[row, column]):
                disagree += 1  # a ray that grazes
            elif np.isfinite(hit):
                # 3e-4: of surfaces closer than that, either may be seen; at grazing incidence float32 is rough
                assert depth[row, column] == pytest.approx(hit, abs=3e-3)
    assert np.isfinite(depth).sum() > 100 and disagree <= 5


@pytest.mark.parametrize("kind", ["sphere", "capsule", "cylinder", "box", "ellipsoid"])
def test_normals_are_those_of_the_depths(kind):
    """The normal in closed form is across the surface that the depths describe."""
    [shape] = some_shapes(3, [kind])
    rng = np.random.default_rng(0)
    origin = rng.standard_normal(3)
    origin *= 2 / np.linalg.norm(origin)
    rays = [r[None] for r in (-origin[:, None] + 0.02 * rng.standard_normal((3, 50)))]
    o = origin.astype(np.float32)

    def point(rays):
        t = raycast.INTERSECT[kind](o, [r.astype(np.float32) for r in rays], shape.size)[0]
        return [o[i] + t * r[0].astype(np.float32) for i, r in enumerate(rays)]

    here = point(rays)
    normal = raycast.NORMAL[kind](here, shape.size)
    assert np.allclose(np.linalg.norm(normal, axis=-1), 1, atol=1e-3)
    for axis in range(3):
        beside = point([r + 2e-3 * (i == axis) for i, r in enumerate(rays)])
        along = np.stack(beside, -1) - np.stack(here, -1)
        # curvature 1/0.05 over a step of 4 mm tilts by 0.04; edges of boxes and lids are few
        tilt = np.abs(np.einsum("ki,ki->k", normal, along)) / np.maximum(np.linalg.norm(along, axis=-1), 1e-6)
        assert np.median(tilt) < 0.05


def test_projection_and_floor_points_are_inverse():
    camera = camera_at([1.5, -1.2, 0.9])
    points = camera.floor_points(0.1)
    rows, columns = np.nonzero(np.isfinite(points[..., 0]))
    back = camera.project(np.column_stack([points[rows, columns], np.full(len(rows), 0.1)]))
    assert len(rows) > 500
    assert np.allclose(back[:, :2], np.column_stack([columns, rows]) + 0.5, atol=1e-6)


def test_framing_leaves_the_margin():
    points = np.random.default_rng(0).uniform([-0.2, -0.3, 0.0], [0.9, 0.4, 1.2], (50, 3))
    for toward in ([0.8, -1.0, 0.4], [0.0, -1.0, 0.1], [-1.0, 0.2, 0.8]):
        pixels = frame_all(points, np.array(toward), (480, 400)).project(points)[:, :2]
        low, high = pixels.min(0), pixels.max(0)
        assert ((high - low) / (480, 400)).max() == pytest.approx(0.88, abs=0.02)
        assert np.allclose(0.5 * (low + high), (240, 200), atol=2)
