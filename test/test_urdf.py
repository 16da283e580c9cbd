"""The URDF that is written, read by Pinocchio, against the MuJoCo model that it was written from."""
from pathlib import Path
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
from arms import make

from mbrl_ros.config import ConfigError
from mbrl_ros.drawing.triangles import of_geom
from mbrl_ros.drawing.urdf import stl, urdf
from mbrl_ros.evaluation.arms import DATA, folder_of
from mbrl_ros.robot import Config, Robot

pin = pytest.importorskip("pinocchio", reason="pin is a wheel of requirements-dev.txt")

SHIPPED = ("pendulum", "planar2", "arm4", "arm6", "arm")
PUBLIC = {  # model, joints, tool, home
    "panda": ("panda_description/urdf/panda.urdf", [f"panda_joint{i}" for i in range(1, 8)], "panda_hand",
              [0.0, -0.8, 0.0, -2.3, 0.0, 1.6, 0.8]),
    "ur5": ("ur_description/urdf/ur5_robot.urdf", [f"{joint}_joint" for joint in (
        "shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")], "tool0", [0.0] * 6),
    "z1": ("z1_description/urdf/z1.urdf", [f"joint{i}" for i in range(1, 7)], "link06",
           [0.0, 1.0, -1.0, 0.0, 0.0, 0.0])}
ODD = """<mujoco><compiler angle="radian"/><worldbody>
  <body name="ns/a" pos="0.1 0.2 0.3" quat="0.9 0.1 -0.3 0.2">
    <joint name="turn" type="hinge" axis="0.3 -0.5 0.8" pos="0.05 -0.02 0.1" ref="0.7"/>
    <joint name="shift" type="slide" axis="1 1 0" pos="0 0.1 0" ref="-0.2" range="-1 1"/>
    <geom type="capsule" size="0.02 0.1" mass="1.3" pos="0.1 0 0" euler="0 1.57079632679 0"/>
    <geom type="ellipsoid" size="0.02 0.1 0.05" mass="0.4" pos="0 0.2 0.1"/>
    <body pos="0.4 0 0" euler="0 1.57079632679 0">
      <joint name="last" type="hinge" axis="0 1 0" pos="0.1 0 0"/>
      <geom type="box" size="0.1 0.02 0.03" mass="0.7"/>
      <site name="tool" pos="0.1 0.02 0" euler="0.4 0.5 0.6"/>
    </body></body></worldbody></mujoco>"""


def of(model, joints, tool, home):
    many = dict.fromkeys(("effort_limit", "velocity_limit"), (1.0,) * len(joints))
    return Robot(Config(model=str(model), joints=tuple(joints), sites=(tool,), home=tuple(home), **many))


def public(name):
    try:
        path, *rest = PUBLIC[name]
        return of(folder_of(DATA) / path, *rest)
    except ConfigError as error:
        if "requirements-dev" in str(error):
            pytest.skip(str(error))
        raise


ROBOTS = {**{name: lambda name=name: make(name) for name in SHIPPED},
          **{name: lambda name=name: public(name) for name in PUBLIC},
          "anchors, references, slides": lambda: of(ODD, ["turn", "shift", "last"], "tool", [0.0] * 3)}


def mujoco_frames(robot, q):
    data = mujoco.MjData(robot.model)
    data.qpos[robot.qpos] = q
    mujoco.mj_forward(robot.model, data)
    return data


@pytest.mark.parametrize("name", ROBOTS)
def test_frames_and_weights_are_those_of_the_model(name):
    robot = ROBOTS[name]()
    model = pin.buildModelFromXML(urdf(robot, "base_link"))
    data, rng, ours = model.createData(), np.random.default_rng(0), robot.model
    index = [model.joints[model.getJointId(name)].idx_v for name in robot.joints]
    for _ in range(5):
        q = rng.uniform(-1.5, 1.5, robot.m)
        placed, full = mujoco_frames(robot, q), pin.neutral(model)
        for joint_name, value in zip(robot.joints, q, strict=True):
            joint = model.joints[model.getJointId(joint_name)]
            full[joint.idx_q : joint.idx_q + joint.nq] = [np.cos(value), np.sin(value)] if joint.nq == 2 else value
        pin.framesForwardKinematics(model, data, full)
        for body in range(1, ours.nbody):
            link = (ours.body(body).name or f"body{body}").replace("/", "_")
            frame = data.oMf[model.getFrameId(link if model.existFrame(link, pin.FrameType.BODY) else f"{link}_")]
            assert np.abs(frame.translation - placed.xpos[body]).max() < 1e-6
            assert np.abs(frame.rotation - placed.xmat[body].reshape(3, 3)).max() < 1e-6
        tool = [f for f in model.frames if f.name in (robot.sites[0], f"{robot.sites[0]}_site")][-1]
        assert np.abs(data.oMf[model.getFrameId(tool.name)].translation - robot.tool_position(q)).max() < 1e-6
        weight = pin.computeGeneralizedGravity(model, data, full)[index]
        assert np.allclose(weight, robot.weight(q), rtol=1e-6, atol=1e-6)


def test_limits_and_the_name_of_the_root():
    tree = ElementTree.fromstring(urdf(make("arm"), "base_link"))
    limits = {j.get("name"): j.find("limit").attrib for j in tree.findall("joint") if j.get("type") != "fixed"}
    arm = make("arm")
    assert list(limits) == list(arm.joints)
    assert float(limits["joint4"]["upper"]) == arm.position_high[3]
    assert float(limits["joint5"]["effort"]) == 12.0 and float(limits["joint1"]["velocity"]) == 2.175
    joints = tree.findall("joint")
    parents, children = ({joint.find(end).get("link") for joint in joints} for end in ("parent", "child"))
    assert parents - children == {"base_link"}


def test_every_shape_is_there_and_meshes_are_files(tmp_path):
    robot = make("arm")
    tree = ElementTree.fromstring(urdf(robot, "base_link", tmp_path))
    kinds = [robot.model.geom_type[g] for g in range(robot.model.ngeom)]
    drawn = sum(kind != mujoco.mjtGeom.mjGEOM_PLANE for kind in kinds)
    assert len(tree.findall("link/visual")) == drawn
    for mesh in tree.findall("link/visual/geometry/mesh"):
        file = unquote(urlparse(mesh.get("filename")).path)
        assert Path(file).parent == tmp_path
        assert mujoco.MjModel.from_xml_string(  # somebody else reads it
            f'<mujoco><asset><mesh name="m" file="{file}"/></asset><worldbody><geom type="mesh" mesh="m"/></worldbody>'
            '</mujoco>').nmesh == 1
    assert len(ElementTree.fromstring(urdf(robot, "base_link")).findall("link/visual")) < drawn


VOLUMES = {"sphere": ("0.1", 4 / 3 * np.pi * 0.1**3), "ellipsoid": ("0.1 0.2 0.3", 4 / 3 * np.pi * 0.006),
           "capsule": ("0.1 0.2", np.pi * 0.01 * (0.4 + 4 / 30)), "cylinder": ("0.1 0.2", np.pi * 0.01 * 0.4),
           "box": ("0.1 0.2 0.3", 8 * 0.006)}


@pytest.mark.parametrize("kind", VOLUMES)
def test_triangles_close_and_look_outward(kind):
    """The volume within, by the divergence theorem: right only where all triangles are there and look outward."""
    size, volume = VOLUMES[kind]
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><geom type="{kind}" size="{size}"/></worldbody></mujoco>')
    vertices, faces = of_geom(model, 0)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert np.einsum("fi,fi", a, np.cross(b, c)) / 6 == pytest.approx(volume, rel=1e-9 if kind == "box" else 0.05)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert len(stl(vertices, faces)) == 84 + 50 * len(faces) and len(edges) == 3 * len(faces)
