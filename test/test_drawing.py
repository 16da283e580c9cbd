"""Pictures of robots: all of the robot is in them, and things are where the camera says."""
from __future__ import annotations

import numpy as np
import pytest
from images import ROBOTS, colors_in, config_of

from mbrl_ros.drawing import scene as drawing
from mbrl_ros.drawing.report import picture
from mbrl_ros.robot import Config, Robot


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
