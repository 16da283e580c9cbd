"""Model files as other people write them: what is taken, what is left out and said, and what is refused."""
from __future__ import annotations

import struct
from pathlib import Path

import mujoco
import numpy as np
import pytest

from mbrl_ros import model_file
from mbrl_ros.config import ConfigError, from_mapping
from mbrl_ros.robot import PAYLOAD, Config, Robot, set_payload
from mbrl_ros.simulation import plant, world

BALL = '<geom size="0.05" mass="1"/>'
ARM = """<mujoco><compiler angle="radian"/>{before}<worldbody>{base}
<body name="upper" pos="0 0 0.2">{first}<joint name="a" axis="0 1 0" range="-2 2" armature="0.1" damping="0.5"/>
<geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.04" mass="2"/>
<body name="lower" pos="0.3 0 0"><joint name="b" axis="0 1 0" range="-2 2" armature="0.1" damping="0.5"/>
<geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.04" mass="1"/>{hand}
<site name="tool" pos="0.3 0 0"/></body></body></worldbody>{after}</mujoco>"""
GRIPPER = """<body name="left" pos="0.3 0 0"><joint name="finger" type="slide" axis="0 1 0" range="0.01 0.04"/>
<geom size="0.01" mass="0.1"/></body><body name="right" pos="0.3 0 0"><joint name="thumb" axis="0 0 1" range="0 0.8"/>
<geom size="0.01" mass="0.1" pos="0.05 0 0"/></body>"""
INERTIAL = """<inertial><mass value="{mass}"/><origin xyz="0.1 0 0"/>
<inertia ixx="{ixx}" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial>"""
URDF = """<robot name="two"><link name="base"/><link name="upper">{inertial}{shape}</link>
<link name="lower">{inertial}</link><link name="payload"/><link name="finger">{inertial}</link>
<joint name="a" type="{kind}"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/><origin xyz="0 0 0.2"/>
<limit lower="-1" upper="2" effort="5" velocity="3"/></joint>
<joint name="b" type="revolute"><parent link="upper"/><child link="lower"/><origin xyz="0.3 0 0"/><axis xyz="0 1 0"/>
<limit lower="-1" upper="2" effort="7" velocity="4"/></joint>
<joint name="c" type="fixed"><parent link="lower"/><child link="payload"/><origin xyz="0.3 0 0"/></joint>
<joint name="d" type="revolute"><parent link="lower"/><child link="finger"/><axis xyz="0 0 1"/>
<limit lower="-1" upper="2" effort="7" velocity="4"/>{mimic}</joint></robot>"""


def robot_of(text: str, **over) -> Robot:
    given = {"model": text, "joints": ["a", "b"], "sites": ["tool"], "home": [0.1, 0.3], "effort_limit": [50.0, 20.0],
             "velocity_limit": [3.0, 3.0], "stiffness": [50.0, 20.0], "damping": [5.0, 2.0], **over}
    return Robot(from_mapping(Config, given, "robot"))


def arm(**parts: str) -> str:
    return ARM.format(**{"before": "", "base": "", "first": "", "hand": "", "after": "", **parts})


def urdf(**parts: str) -> str:
    inertial = INERTIAL.format(mass=parts.pop("mass", "1.5"), ixx=parts.pop("ixx", "0.1"))
    return URDF.format(**{"inertial": inertial, "shape": "", "kind": "revolute", "mimic": "", **parts})


def simulated(robot: Robot) -> plant.MujocoPlant:
    return plant.MujocoPlant(robot, plant.Config(encoder_noise=0.0, disturbance=0.0))


def motion(robot: Robot, effort=(1.0, -2.0), steps: int = 20) -> np.ndarray:
    """Where a constant effort brings the arm."""
    made = simulated(robot)
    for _ in range(steps):
        made.step(np.array(effort))
    return np.concatenate(made.true_state())


# --- what is left out does nothing

@pytest.mark.parametrize("actuator", [
    '<position name="p" joint="a" kp="500"/>', '<velocity name="p" joint="a" kv="50"/>',
    '<general name="p" joint="b" gainprm="100" biastype="affine" biasprm="0 -100 -10"/>'])
def test_actuators_of_the_file_do_not_pull_and_are_said(actuator):
    robot = robot_of(arm(after=f"<actuator>{actuator}</actuator>"))
    assert np.array_equal(motion(robot), motion(robot_of(arm())))
    assert [note for note in robot.notes if "actuators p" in note and "springs" in note]
    assert not robot_of(arm(after='<actuator><motor joint="a"/></actuator>')).notes


def test_tendons_keyframes_and_sensors_are_left_out():
    after = """<tendon><fixed name="string" stiffness="300"><joint joint="a" coef="1"/></fixed></tendon>
    <actuator><motor tendon="string"/></actuator><sensor><jointpos joint="a"/><tendonpos tendon="string"/></sensor>
    <keyframe><key name="home" qpos="0.5 0.5" ctrl="0.2"/></keyframe>"""
    robot = robot_of(arm(after=after))
    assert np.array_equal(motion(robot), motion(robot_of(arm()))) and robot.notes == ["tendons string: left out"]
    assert model_file.read(arm(after=after)).keys["home"].tolist() == [0.5, 0.5]
    made = simulated(robot)
    made.change(world.World(swinging=0.5))  # a keyframe of another size would not compile
    assert made.step(np.zeros(2)).position.shape == (2,)


def test_a_gripper_that_nobody_controls_is_held_where_its_range_or_its_keyframe_says():
    for after, opened in (("", 0.01), ('<keyframe><key qpos="0 0 0.03 0.4"/></keyframe>', 0.03)):
        robot = robot_of(arm(hand=GRIPPER, after=after))
        assert robot.model.nv == 2 and "joints finger, thumb: held where they are" in robot.notes[0]
        data = mujoco.MjData(robot.model)
        mujoco.mj_kinematics(robot.model, data)
        assert data.body("left").xpos == pytest.approx([0.6, opened, 0.2])
        free = mujoco.MjModel.from_xml_string(arm(hand=GRIPPER, after=after))
        posed = mujoco.MjData(free)
        posed.qpos[:] = [0, 0, opened, 0.4 if after else 0.0]
        mujoco.mj_kinematics(free, posed)
        for part in ("left", "right"):
            assert data.body(part).xpos == pytest.approx(posed.body(part).xpos)
            assert data.body(part).xmat == pytest.approx(posed.body(part).xmat)
    assert np.isfinite(motion(robot)).all()


def test_a_body_in_turned_axes_is_held_where_it_is():
    """Euler angles, degrees, a frame about it and a reference that is not zero."""
    text = """<mujoco><compiler angle="degree"/><worldbody><frame pos="0 0 1" euler="0 0 30"><body name="base"
    pos="0.1 0 0" euler="10 20 30"><joint name="lift" axis="1 0 0" range="20 90" ref="5" pos="0 0.1 0"/>
    <geom size="0.1"/><body name="link" pos="0 0.2 0" axisangle="0 0 1 40"><joint name="a" axis="0 1 0"/>
    <geom size="0.1" pos="0.1 0 0"/><site name="tool" pos="0.2 0 0"/></body></body></frame></worldbody></mujoco>"""
    robot = robot_of(text, joints=["a"], home=[0.1], effort_limit=[9.0], velocity_limit=[2.0], stiffness=[9.0],
                     damping=[1.0])
    whole = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(whole)
    data.qpos[:] = [np.deg2rad(20), 0.1]
    mujoco.mj_kinematics(whole, data)
    assert robot.tool_position(np.array([0.1])) == pytest.approx(data.site("tool").xpos, abs=1e-12)


@pytest.mark.parametrize("after", [
    '<equality><joint joint1="finger" joint2="thumb" polycoef="0 0.1 0 0 0"/></equality>',
    '<equality><weld body1="left" body2="lower" active="false"/></equality>',
    '<equality><connect body1="left" body2="right" anchor="0 0 0"/></equality>'])
def test_couplings_within_a_held_gripper_are_dropped(after):
    robot = robot_of(arm(hand=GRIPPER, after=after))
    assert robot.model.neq == 0 and np.isfinite(motion(robot)).all()


def test_a_coupling_between_controlled_joints_stays():
    robot = robot_of(arm(after='<equality><joint joint1="a" joint2="b"/></equality>'))
    assert robot.model.neq == 1


@pytest.mark.parametrize("parts, expected", [
    ({"after": '<equality><connect body1="lower" anchor="0.3 0 0"/></equality>'}, "closed loop"),
    ({"base": "", "first": '<freejoint name="floating"/>'}, "base that floats; expected an arm whose base is fixed"),
])
def test_what_cannot_be_an_arm_is_refused(parts, expected):
    text = arm(**parts)
    if "freejoint" in text:  # beside the hinge it would be an error of MuJoCo's
        text = text.replace('<freejoint name="floating"/>', "").replace(
            "<worldbody>", '<worldbody><body name="ship"><freejoint name="floating"/><geom size="0.1"/>').replace(
            "</worldbody>", "</body></worldbody>")
    with pytest.raises(ConfigError, match=expected) as error:
        robot_of(text)
    assert "\n" not in str(error.value)


def test_a_joint_that_follows_another_and_carries_the_tool_is_refused():
    after = '<equality><joint joint1="b" joint2="a" polycoef="0 -1 0 0 0"/></equality>'
    with pytest.raises(ConfigError, match="joint b follows a and carries lower"):
        robot_of(arm(after=after), joints=["a"], home=[0.0], effort_limit=[9.0], velocity_limit=[2.0],
                 stiffness=[9.0], damping=[1.0])


def test_something_that_lies_about_is_held_in_place():
    robot = robot_of(arm(base='<body name="cup" pos="1 1 1"><freejoint/><geom size="0.1"/></body>'))
    assert robot.model.nv == 2 and robot.model.body("cup").pos.tolist() == [1, 1, 1]


# --- names

def test_a_body_called_payload_is_not_what_is_put_into_the_hand():
    robot = robot_of(arm(hand='<body name="payload" pos="0.1 0 0">' + BALL + "</body>"))
    set_payload(robot.model, 0.5)
    assert robot.model.body("payload").mass == 1.0 and robot.model.body(PAYLOAD).mass == 0.5
    of_urdf = robot_of(urdf(), sites=["payload"])
    assert of_urdf.tool_position(np.zeros(2)) == pytest.approx([0.6, 0.0, 0.2])
    made = simulated(of_urdf)
    made.set_payload(0.7)
    assert made.model.body(PAYLOAD).mass == 0.7 and np.isfinite(made.step(np.zeros(2)).position).all()


def test_the_tool_may_be_a_body_with_an_offset():
    robot = robot_of(arm(), sites=["lower"], tool_offset=[0.3, 0.0, 0.0])
    plain, q = robot_of(arm()), np.array([0.3, -0.8])
    assert robot.tool_position(q) == pytest.approx(plain.tool_position(q), abs=1e-12)
    turned = robot_of(arm(), tool_offset=[0.0, 0.0, 0.1, 0.0, np.pi / 2, 0.0])  # about the y axis, by a quarter
    place, R, _ = turned.tool(q)
    before, axes, _ = plain.tool(q)
    assert place == pytest.approx(before + 0.1 * axes[:, 2]) and R[:, 2] == pytest.approx(axes[:, 0])


# --- URDF

def test_continuous_and_mimic_joints_of_a_urdf():
    continuous = robot_of(urdf(kind="continuous"), sites=["lower"])
    assert continuous.position_high.tolist() == [np.inf, 2.0]
    assert continuous.model.nv == 2 and "joints d: held" in continuous.notes[0]
    follows = robot_of(urdf(mimic='<mimic joint="b" multiplier="-1"/>'), sites=["payload"])
    assert follows.model.neq == 0 and np.isfinite(motion(follows)).all()
    with pytest.raises(ConfigError, match="joint d follows b and carries finger"):
        robot_of(urdf(mimic='<mimic joint="b" multiplier="-1"/>'), sites=["finger"])


def stl(path: Path) -> None:
    """A tetrahedron."""
    corners = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    faces = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *corners[list(face)].ravel(), 0) for face in faces)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(80) + struct.pack("<I", 4) + body)


def test_meshes_of_packages_are_found_beside_the_file_and_on_the_paths_of_ros(tmp_path, monkeypatch):
    shape = '<collision><geometry><mesh filename="package://my_arm/meshes/link.stl"/></geometry></collision>'
    file = tmp_path / "my_arm" / "urdf" / "arm.urdf"
    stl(tmp_path / "my_arm" / "meshes" / "link.stl")
    file.parent.mkdir()
    file.write_text(urdf(shape=shape))
    robot = robot_of(str(file), sites=["lower"])
    assert robot.model.nmesh == 1 and not any("meshes" in note for note in robot.notes)
    stl(tmp_path / "install" / "share" / "my_arm" / "meshes" / "link.stl")
    text = urdf(shape=shape)
    assert robot_of(text, sites=["lower"]).model.nmesh == 0
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    assert robot_of(text, sites=["lower"]).model.nmesh == 1


@pytest.mark.parametrize("content", [None, b"solid ascii\nfacet normal 0 0 1\nendsolid", b"x" * 90])
def test_meshes_that_are_missing_or_unreadable_are_said_and_kinematics_is_the_same(tmp_path, content):
    if content is not None:
        (tmp_path / "link.stl").write_bytes(content)
    shape = f'<collision><geometry><mesh filename="file://{tmp_path}/link.stl"/></geometry></collision>'
    robot, bare = robot_of(urdf(shape=shape), sites=["lower"]), robot_of(urdf(), sites=["lower"])
    assert robot.tool_position(robot.home) == pytest.approx(bare.tool_position(bare.home))
    assert [note for note in robot.notes if "link.stl" in note and "left out" in note]


def test_missing_files_of_an_mjcf_are_said(tmp_path):
    before = '<asset><mesh name="m" file="gone.stl"/><texture name="t" type="2d" file="gone.png"/>' \
             '<material name="wood" texture="t"/></asset>'
    path = tmp_path / "arm.xml"
    hand = '<geom type="mesh" mesh="m" mass="0"/><geom size="0.01" material="wood"/>'
    path.write_text(arm(before=before, hand=hand))
    robot = robot_of(str(path))
    assert robot.model.nmesh == robot.model.ntex == 0 and "files gone.stl, gone.png: left out" in robot.notes[0]


def test_includes_are_read(tmp_path):
    (tmp_path / "hand.xml").write_text(f"<mujoco><body name='palm'>{BALL}</body></mujoco>")
    (tmp_path / "arm.xml").write_text(arm(hand='<include file="hand.xml"/>'))
    assert robot_of(str(tmp_path / "arm.xml")).model.body("palm").mass == 1.0


@pytest.mark.parametrize("parts", [{"inertial": ""}, {"mass": "0", "ixx": "0"}])
def test_links_without_mass_are_enough_for_kinematics_and_too_little_for_a_simulation(parts):
    robot = robot_of(urdf(**parts), sites=["lower"])
    assert robot.tool_position(np.zeros(2)) == pytest.approx([0.3, 0.0, 0.2])
    assert [note for note in robot.notes if "enough for kinematics, not for a simulation" in note]
    with pytest.raises(ConfigError, match="joint a moves links without mass; expected inertials"):
        simulated(robot)


def test_absurd_inertias_are_those_of_a_ball():
    robot = robot_of(urdf(ixx="-1"), sites=["lower"])
    assert robot.notes[0].startswith("links upper, lower, finger: their inertia is none that a body can have")
    assert np.isfinite(motion(robot)).all()
    assert np.isfinite(motion(robot_of(urdf(ixx="5"), sites=["lower"]))).all()  # breaks the triangle inequality


def test_limits_come_from_the_file():
    of_urdf = model_file.read(urdf())
    assert of_urdf.effort == {"a": 5.0, "b": 7.0, "d": 7.0} and of_urdf.velocity == {"a": 3.0, "b": 4.0, "d": 4.0}
    of_mjcf = model_file.read(arm(after="""<actuator><motor joint="a" gear="10" ctrlrange="-2 2"/>
    <velocity joint="b" kv="3" ctrlrange="-4 4" forcerange="-6 6"/></actuator>"""))
    assert of_mjcf.effort == {"a": 20.0, "b": 6.0} and of_mjcf.velocity == {"b": 4.0}


@pytest.mark.parametrize("text, expected", [
    ("<sdf/>", "expected <mujoco> or <robot>, got <sdf>"), ("<robot", "no XML"),
    ('<robot name="r"><link name="a"/><link name="a"/></robot>', "repeated|duplicate|already|unique")])
def test_what_is_no_model_is_one_line(text, expected):
    with pytest.raises(ConfigError, match=expected) as error:
        robot_of(text)
    assert "\n" not in str(error.value)


# --- contacts

def test_neighbours_do_not_collide_and_others_do():
    """The first link starts within the pedestal, the floor is where the arm falls to."""
    pedestal = '<body name="pedestal"><geom type="box" size="0.1 0.1 0.3"/>'
    floor = '<geom type="plane" size="1 1 1" pos="0 0 -0.1"/>'
    robot = robot_of(arm(base=floor).replace('<body name="upper"', pedestal + '<body name="upper"').replace(
        "</worldbody>", "</body></worldbody>"))
    made = simulated(robot)
    fallen = [made.step(np.zeros(2)).position for _ in range(150)]
    free = simulated(robot_of(arm()))
    assert np.allclose(fallen[5], [free.step(np.zeros(2)).position for _ in range(6)][5], atol=1e-9)
    mujoco.mj_forward(made.model, made.data)
    assert {int(made.model.geom_type[c.geom[0]]) for c in made.data.contact} == {int(mujoco.mjtGeom.mjGEOM_PLANE)}


def test_shapes_that_are_within_each_other_at_home_do_not_collide_and_do_elsewhere_where_they_are_not():
    hand = '<body name="palm" pos="0.05 0 0.0"><geom size="0.06" mass="0.1"/></body>'
    base = '<body name="post" pos="0.3 0 0.3"><geom name="post" size="0.05"/></body>'
    inside, beside = robot_of(arm(hand=hand, base=base), home=[-0.3, 0.0]), robot_of(arm(hand=hand, base=base))
    pairs = [simulated(r).model.nexclude for r in (inside, beside)]
    assert pairs[0] > pairs[1]


# --- public arms

PUBLIC = {"panda": ("panda_description/urdf/panda.urdf", "panda_hand_tcp"),
          "ur5": ("ur_description/urdf/ur5_robot.urdf", "tool0"),
          "z1": ("z1_description/urdf/z1.urdf", "gripperStator")}


def public() -> Path:
    """The folder of the models of example-robot-data."""
    found = Path(pytest.__file__).parents[1] / "cmeel.prefix" / "share" / "example-robot-data" / "robots"
    if not found.is_dir():
        pytest.skip("example-robot-data, of requirements-dev.txt, is not installed")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_public_arms_are_as_pinocchio_reads_them(name):
    """Weight and place of the tool, in postures at random; the gripper is held open at zero in both."""
    pinocchio = pytest.importorskip("pinocchio")
    file, tool = PUBLIC[name]
    path = public() / file
    made = model_file.read(str(path))
    joints = [j for j in model_file.joint_names(model_file.skeleton(made)) if "finger" not in j and "Grip" not in j]
    m = len(joints)
    home = [float(np.clip(0.0, *made.spec.joint(j).range)) for j in joints]
    robot = robot_of(str(path), joints=joints, sites=[tool], home=home, stiffness=[1.0] * m, damping=[1.0] * m,
                     effort_limit=[made.effort[j] for j in joints], velocity_limit=[made.velocity[j] for j in joints])
    model = pinocchio.buildModelFromUrdf(str(path))
    frame = model.getFrameId(tool, pinocchio.FrameType.BODY)
    data, rng = model.createData(), np.random.default_rng(0)
    for _ in range(10):
        q = rng.uniform(np.maximum(robot.position_low, -3), np.minimum(robot.position_high, 3))
        full = pinocchio.neutral(model)
        for joint, value in zip(joints, q, strict=True):
            full[model.joints[model.getJointId(joint)].idx_q] = value
        pinocchio.framesForwardKinematics(model, data, full)
        assert robot.tool_position(q) == pytest.approx(data.oMf[frame].translation, abs=1e-9)
        weight = pinocchio.computeGeneralizedGravity(model, data, full)
        columns = [model.joints[model.getJointId(joint)].idx_v for joint in joints]
        assert robot.weight(q) == pytest.approx(weight[columns], abs=1e-6)
    assert np.isfinite(simulated(robot).step(np.zeros(m)).position).all()
