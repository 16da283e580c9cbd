"""Plots, pictures and animations: the numbers in them are right, and they show what they say."""
from itertools import pairwise

import mujoco
import numpy as np
import pytest
from PIL import Image

from mbrl_ros import drawing, report
from mbrl_ros.config import find, from_mapping, read, section
from mbrl_ros.raycast import Camera, Shape, frame_all, render
from mbrl_ros.report import RunData, animate, picture, plots
from mbrl_ros.robot import Config, Robot

ROBOTS = ("arm", "arm4", "arm6", "planar2", "pendulum")
PERIOD = 0.02


def config_of(name):
    path = find("robots", name)
    settings = section(read(path), "robot")
    return from_mapping(Config, {**settings, "model": str(path.parent / settings["model"])}, "robot")


def run(T=600, payload=106.0, seed=0):
    """A run in which 19 of 20 predictions lie in their 95 % band, exactly."""
    rng = np.random.default_rng(seed)
    time = 100.0 + PERIOD * np.arange(T)
    target = rng.uniform(-0.5, 0.5, (T // 200 + 1, 3))[np.arange(T) // 200]
    tool = target + 0.3 * np.exp(-np.arange(T) % 200 / 40.0)[:, None] * [0.6, 0.0, 0.8]
    std = rng.uniform(1e-4, 1e-3, (T, 3))
    off = np.where(np.arange(3 * T).reshape(T, 3) % 20 == 0, 2.5, 1.0)
    predicted = tool + std * off * rng.choice([-1, 1], (T, 3))
    predicted[0] = np.nan
    error = np.linalg.norm(tool - target, axis=1)
    return RunData(time, tool, 0.5 * (tool + target), target, error, predicted, std, tool, rng.gamma(4.0, 1.0, T),
                   payload, np.zeros((T, 7)))


def colors_in(path):
    with Image.open(path) as image:
        return image.size, len(image.convert("RGB").getcolors(10**6))


# --- plots


def test_plots_are_drawn(tmp_path):
    paths = plots(run(), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["tracking.png", "prediction.png", "response.png"]
    for path in paths:
        (width, height), colors = colors_in(path)
        assert width > 800 and height > 300 and colors > 100 and path.stat().st_size > 10_000


@pytest.mark.parametrize("data", [run(2, None), run(3), run(250, None)], ids=["two ticks", "three", "no payload"])
def test_short_runs_can_be_drawn(tmp_path, data):
    assert all(path.stat().st_size > 5_000 for path in plots(data, tmp_path))


def test_gaps_can_be_drawn(tmp_path):
    data = run(300)
    for f in ("predicted_mean", "predicted_std", "measured", "response_ms"):
        getattr(data, f)[:] = np.nan
    assert len(plots(data, tmp_path)) == 3


def test_coverage_is_counted():
    data = run()
    title = report.plot_prediction(data).axes[0].get_title()
    expected = 100 * (1 - np.mean(np.arange(3, 3 * 600) % 20 == 0))  # without the first row
    assert f"{expected:.1f} % of all measurements" in title


def test_the_window_is_where_the_tool_moves_most():
    axes = report.plot_prediction(run(payload=None)).axes[0]
    low, high = axes.get_xlim()
    assert high - low == pytest.approx(report.WINDOW - PERIOD, abs=1e-9)
    assert any(low <= 100.0 + PERIOD * jump <= high for jump in (200, 400))  # where the target changes


def test_error_lines_and_payload_are_marked():
    axes = report.plot_tracking(run()).axes[0]
    assert axes.get_yscale() == "log"
    lines = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert {report.GOAL, report.BOUND} <= set(lines)
    assert any(list(line.get_xdata()) == [106.0, 106.0] for line in axes.lines)
    drawn = next(line for line in axes.lines if line.get_label() == "to the target")
    assert np.allclose(drawn.get_ydata(), 1e3 * run().error)
    assert len([patch for patch in axes.patches if patch.get_width() > 0]) >= 3  # one band per target


def test_response_times_are_marked():
    data = run()
    trace = report.plot_response(data).axes[0]
    marks = [line.get_ydata()[0] for line in trace.lines[1:]]
    assert marks == pytest.approx([*np.percentile(data.response_ms, [50, 99]), 1e3 * PERIOD])


def test_rows_have_one_length():
    parts = {f: getattr(run(), f) for f in RunData.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"RunData\.target: expected 600 rows, got 599"):
        RunData(**{**parts, "target": parts["target"][1:]})


# --- rays


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
    from mbrl_ros import raycast

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


# --- pictures of robots


@pytest.fixture(params=ROBOTS, scope="module")
def config(request):
    return config_of(request.param)


def test_pictures_are_drawn_of_every_robot(config, tmp_path):
    target = Robot(config).tool_position(np.array(config.home)) + 0.1
    path = picture(config, np.array(config.home), tmp_path / "robot.png", target, (480, 400))
    size, colors = colors_in(path)
    assert size == (480, 400) and colors > 500


def test_all_of_the_robot_is_in_the_picture(config):
    rng = np.random.default_rng(0)
    q = np.array(config.home) + rng.uniform(-0.5, 0.5, (30, len(config.home)))
    scene = drawing.Scene(config, q, np.zeros((0, 3)), (480, 400))
    for row in q:
        for shape in scene.shapes(row):
            x, y, depth = scene.camera.project(shape.position)
            assert 0 < x < 480 and 0 < y < 400 and depth > 0


def test_shapes_stand_where_mujoco_has_them(config):
    robot = Robot(config)
    q = np.array(config.home) + 0.2
    shapes = drawing.Scene(config, q[None], np.zeros((0, 3)), (480, 400)).shapes(q)
    assert np.allclose(shapes[-1].position, robot.tool_position(q), atol=1e-12)


def test_a_robot_without_shapes_is_drawn_as_sticks(tmp_path):
    inertial = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
    urdf = f'''<robot name="bare"><link name="base"/><link name="a">{inertial}</link><link name="b">{inertial}</link>
      <joint name="j1" type="continuous"><parent link="base"/><child link="a"/><axis xyz="0 0 1"/></joint>
      <joint name="j2" type="continuous"><parent link="a"/><child link="b"/><origin xyz="0 0 0.4"/><axis xyz="0 1 0"/>
      </joint></robot>'''
    (tmp_path / "bare.urdf").write_text(urdf)
    two = (1.0, 1.0)
    config = Config(str(tmp_path / "bare.urdf"), ("j1", "j2"), ("b",), home=two, effort_limit=two,
                    effort_rate_limit=two, velocity_limit=two, stiffness=two, damping=two)
    assert colors_in(picture(config, np.ones(2), tmp_path / "bare.png", None, (480, 400)))[1] > 100
    scene = drawing.Scene(config, np.ones((1, 2)), np.zeros((0, 3)), (480, 400))
    stick = scene.shapes(np.ones(2))[0]
    assert np.allclose(stick.position, [0, 0, 0.2]) and stick.size[1] == pytest.approx(0.2)
    assert np.allclose(stick.rotation[:, 2], [0, 0, 1]) and np.linalg.det(stick.rotation) == pytest.approx(1)


def pixels_like(image, color, tolerance=0.12):
    """Columns and rows (k, 2) of the pixels of a hue, in whatever light."""
    pixels = np.asarray(image, float)
    saturation = np.ptp(pixels, axis=-1)
    hue = (pixels - pixels.min(-1, keepdims=True)) / np.maximum(saturation, 1)[..., None]
    wanted = (color - color.min()) / np.ptp(color)
    rows, columns = np.nonzero((np.abs(hue - wanted).max(-1) < tolerance) & (saturation > 90))
    return np.column_stack([columns, rows]) + 0.5


@pytest.mark.parametrize("name", ROBOTS)
def test_the_target_is_where_the_camera_says(name):
    config = config_of(name)
    q = np.array(config.home)
    near = 0.2 if name == "arm4" else 1.0  # in the picture of a small robot a dot is large
    target = Robot(config).tool_position(q) + near * np.array([0.0, -0.25, -0.1])  # before it, seen from any camera
    scene = drawing.Scene(config, q[None], target[None], (480, 400))
    found = pixels_like(scene.draw(q, target), drawing.RED)
    assert len(found) > 30
    expected = scene.camera.project(target)[:2]
    assert np.allclose(0.5 * (found.min(0) + found.max(0)), expected, atol=2.0)


def test_the_tool_is_where_the_camera_says():
    """Of the arm, whose tool is not inside a link."""
    config = config_of("arm")
    q = np.array(config.home)
    scene = drawing.Scene(config, q[None], np.zeros((0, 3)), (480, 400))
    found = pixels_like(scene.draw(q, None), drawing.ORANGE)
    assert len(found) > 10
    expected = scene.camera.project(Robot(config).tool_position(q))[:2]
    assert np.allclose(found.mean(0), expected, atol=1.5)


def test_the_target_turns_green_when_reached():
    config = config_of("arm")
    q = np.array(config.home)
    tool = Robot(config).tool_position(q)
    scene = drawing.Scene(config, q[None], tool[None], (480, 400))
    near, far = (scene.draw(q, tool + np.array([0, 0, z])) for z in (0.009, 0.011))
    assert len(pixels_like(near, drawing.GREEN)) > 30 and len(pixels_like(near, drawing.RED)) == 0
    assert len(pixels_like(far, drawing.RED)) > 30 and len(pixels_like(far, drawing.GREEN)) == 0


def test_shadows_fall_where_the_light_goes():
    """The homography that draws the shadow agrees with the camera."""
    config = config_of("arm")
    scene = drawing.Scene(config, np.array(config.home)[None], np.zeros((0, 3)), (480, 400))
    a, b, c, d, e, f, g, h = scene._floor_to_map
    for point in np.random.default_rng(0).uniform(-0.5, 0.5, (20, 2)):
        x, y, _ = scene.camera.project(np.array([*point, scene.floor]))
        on_map = np.array([a * x + b * y + c, d * x + e * y + f]) / (g * x + h * y + 1)
        expected = (point - scene.middle[:2] + scene.reach) * drawing.SHADOW_MAP / (2 * scene.reach)
        assert np.allclose(on_map, expected, atol=1e-6)


# --- animations


def swing(config, T=120):
    """A sine about the home posture, and a target."""
    home = np.array(config.home)
    q = home + 0.4 * np.sin(2 * np.pi * np.arange(T) / 100)[:, None]
    return q, Robot(config).tool_position(home + 0.4)


def test_animations_are_drawn_of_every_robot(config, tmp_path):
    q, target = swing(config)
    path = animate(config, q, target, tmp_path / "run.gif", events=[(0.0, "start"), (1.0, "end")])
    with Image.open(path) as gif:
        assert gif.size == report.SIZE
        assert gif.n_frames == int(np.ceil(len(q) * config.period / (2.0 * report.FRAME)))
        assert gif.info["duration"] == 80 and gif.info["loop"] == 0
        frames = []
        for k in range(gif.n_frames):
            gif.seek(k)
            frames.append(np.asarray(gif.convert("RGB"), float))
    assert all(np.abs(a - b).mean() > 0.05 for a, b in pairwise(frames))  # it moves


def test_every_frame_is_the_picture_of_its_instant(tmp_path):
    """Only changes are stored; none may be lost, and the palette may not be far off."""
    config = config_of("arm")
    q, target = swing(config)
    targets = np.broadcast_to(target, (len(q), 3))
    path = animate(config, q, target, tmp_path / "run.gif", speed=4.0)
    scene = drawing.Scene(config, q, targets, report.SIZE)
    drawn = list(report._frames(scene, q, targets, 4.0, ()))
    with Image.open(path) as gif:
        for k, image in enumerate(drawn):
            gif.seek(k)
            difference = np.abs(np.asarray(gif.convert("RGB"), float) - np.asarray(image, float))
            assert difference.mean() < 2.5 and np.mean(difference.max(-1) > 48) < 0.002


def test_large_animations_get_fewer_colors(tmp_path, monkeypatch):
    config = config_of("arm")
    q, target = swing(config)
    whole = animate(config, q, target, tmp_path / "whole.gif").stat().st_size
    assert whole < 20_000 * 15  # 20 kB a frame when everything moves, a few when the arm rests
    monkeypatch.setattr(report, "LARGEST", int(0.9 * whole))
    assert animate(config, q, target, tmp_path / "small.gif").stat().st_size <= 0.9 * whole


def test_speed(tmp_path):
    config = config_of("pendulum")
    q, target = swing(config, 80)
    lengths = []
    for speed in (1.0, 2.0, 4.0):
        with Image.open(animate(config, q, target, tmp_path / f"{speed}.gif", speed)) as gif:
            lengths.append(gif.n_frames)
    assert lengths == [20, 10, 5]


def test_a_single_posture_can_be_animated(tmp_path):
    config = config_of("pendulum")
    with Image.open(animate(config, [[0.3]], [0.0, 0.0, 0.5], tmp_path / "one.gif")) as gif:
        assert gif.n_frames == 1


@pytest.mark.parametrize("q", [np.zeros((0, 1)), np.full((3, 1), np.nan)])
def test_what_cannot_be_drawn_is_refused(q, tmp_path):
    with pytest.raises(ValueError, match="animate: expected at least one posture, all finite"):
        animate(config_of("pendulum"), q, np.zeros(3), tmp_path / "no.gif")
