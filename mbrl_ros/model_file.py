"""Model files as they come: an MJCF or a URDF, a path or the XML itself, made into an arm that commands efforts.

What is not part of that arm is left out or held where it is, and said in a line each (`Model.notes`): meshes that are
not there, actuators, tendons, joints that nobody controls. What cannot be an arm on a fixed base is refused. The
dynamics of what remains are those of the file.
"""
from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.types import Array

READABLE = (".stl", ".obj", ".msh")  # meshes that MuJoCo reads
MOST_FACES = 200000  # of an STL file, likewise
HOME = "home"  # the keyframe that is preferred
WEIGHTLESS = 1e-4  # [kg] that links beyond a joint weigh at least, or it has no inertia
LIGHT = 500.0  # [rad/s^2 or m/s^2] at most, of a joint of which the file gives no inertia
KINEMATICS = "they move links without mass; that is enough for kinematics, not for a simulation"
LEAST_MASS, LEAST_INERTIA = 1e-6, 1e-9  # [kg], [kg m^2] of links that move and have none
FREE, BALL = mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_BALL


@dataclass
class Model:
    """A model as it came, with what its file says of joints that MuJoCo has no place for, by their names."""

    spec: mujoco.MjSpec
    name: str  # for messages
    notes: list[str] = field(default_factory=list)  # what was left out or assumed, a line each
    effort: dict[str, float] = field(default_factory=dict)  # [N m or N] limits
    velocity: dict[str, float] = field(default_factory=dict)  # [rad/s or m/s]
    keys: dict[str, Array] = field(default_factory=dict)  # keyframes: qpos of the file's own joints
    root: str = ""  # of a URDF: the link that all others hang on, in whose frame its kinematics are

    def refuse(self, reason: object) -> ConfigError:
        """The error that this model cannot be used."""
        return ConfigError(f"robot.model: {self.name}: {' '.join(str(reason).split())}")

    def note(self, what: str, names: Iterable[str], why: str) -> None:
        """Say once that some of its parts are not as they were."""
        listed = list(dict.fromkeys(name or "(unnamed)" for name in names))
        if listed:
            shown = ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
            self.notes.append(f"{what} {shown}: {why}")


def is_text(model: str) -> bool:
    """Whether a setting is the XML itself, as of the topic robot_description, not the path of a file."""
    return model.lstrip().startswith("<")


def read(model: str) -> Model:
    """A file, or the XML itself. Raises ConfigError for what is neither MJCF nor URDF."""
    text, folder, name = model, Path.cwd(), "robot_description"
    if not is_text(model):
        path = Path(model).expanduser()
        if not path.is_file():
            raise ConfigError(f"robot.model: no file {model!r}; expected an MJCF or URDF file")
        text, folder, name = path.read_text(errors="replace"), path.resolve().parent, str(path)
    made = Model(mujoco.MjSpec(), name)
    try:
        root = ElementTree.fromstring(text.lstrip())
    except ElementTree.ParseError as error:
        raise made.refuse(f"no XML: {error}") from error
    try:
        if root.tag == "robot":
            _read_urdf(made, root, folder)
        elif root.tag == "mujoco":
            spec = mujoco.MjSpec.from_string(text.lstrip()) if is_text(model) else mujoco.MjSpec.from_file(name)
            _read_mjcf(made, spec, folder)
        else:
            raise made.refuse(f"expected <mujoco> or <robot>, got <{root.tag}>")
    except (ValueError, RuntimeError) as error:
        raise error if isinstance(error, ConfigError) else made.refuse(error) from error
    _tidy(made)
    return made


# --- URDF

def _read_urdf(made: Model, root: ElementTree.Element, folder: Path) -> None:
    """Meshes that can be read are named by their absolute paths, links without an inertial weigh nothing, and static
    links keep their names."""
    missing: list[str] = []
    extra = root.find("mujoco/compiler")
    meshdir = "" if extra is None else extra.get("meshdir", "")
    for link in root.findall("link"):
        for kind in ("visual", "collision"):
            for part in link.findall(kind):
                mesh = part.find("geometry/mesh")
                if mesh is None:
                    continue
                path = _find_mesh(mesh.get("filename", ""), folder, meshdir)
                if path is None:
                    link.remove(part)
                    if kind == "collision":
                        missing.append(mesh.get("filename", ""))
                else:
                    mesh.set("filename", str(path))
    hanging = {child.get("link") for child in root.findall("joint/child")}
    made.root = next((name for link in root.findall("link") if (name := link.get("name", "")) not in hanging), "")
    for joint in root.findall("joint"):
        name, limit = joint.get("name", ""), joint.find("limit")
        if limit is not None and float(limit.get("velocity", 0.0)) > 0:
            made.velocity[name] = float(limit.get("velocity", 0.0))
    made.spec = spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    spec.compiler.fusestatic, spec.strippath = False, False
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    made.note("collision meshes", missing, "left out, since there is no such file that MuJoCo reads")


def _find_mesh(name: str, folder: Path, meshdir: str) -> Path | None:
    """The file of a mesh of a URDF, if it is there and can be read."""
    scheme, _, rest = name.rpartition("://")
    if scheme == "package":
        package, _, inside = rest.partition("/")
        prefixes = [Path(p) / "share" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
        places = [*folder.parents, folder, *prefixes, *map(Path, os.environ.get("ROS_PACKAGE_PATH", "").split(":"))]
        found = [place / rest for place in places] + [up / inside for up in (folder, *folder.parents)
                                                      if up.name == package]
    else:
        found = [Path(rest)] if Path(rest).is_absolute() else [folder / meshdir / rest, folder / rest]
    return next((path.resolve() for path in found if _readable(path)), None)


def _readable(path: Path) -> bool:
    """Whether MuJoCo reads this mesh: of STL files, the binary ones."""
    if path.suffix.lower() not in READABLE or not path.is_file():
        return False
    if path.suffix.lower() != ".stl":
        return True
    with path.open("rb") as file:
        head = file.read(84)
    faces = struct.unpack("<I", head[80:])[0] if len(head) == 84 else 0
    return 1 <= faces <= MOST_FACES and path.stat().st_size >= 84 + 50 * faces


# --- MJCF

def _read_mjcf(made: Model, spec: mujoco.MjSpec, folder: Path) -> None:
    """Without assets whose files are not there."""
    made.spec = spec
    missing: list[str] = []
    for kind, inside in (("mesh", spec.meshdir), ("hfield", spec.meshdir), ("texture", spec.texturedir)):
        for asset in list(getattr(spec, "meshes" if kind == "mesh" else f"{kind}s")):
            files = [asset.file] if kind != "texture" else [asset.file, *asset.cubefiles]
            lost = [f for f in files if f and not _exists(folder / inside, f, spec.strippath)]
            if not lost:
                continue
            name = asset.name or Path(asset.file).stem
            missing += lost
            if kind == "texture":
                for material in list(spec.materials):
                    if name in list(material.textures):
                        for geom in spec.geoms:
                            geom.material = "" if geom.material == material.name else geom.material
                        spec.delete(material)
            for geom in list(spec.geoms):
                if kind != "texture" and name == getattr(geom, f"{kind}name"):
                    spec.delete(geom)
            spec.delete(asset)
    made.note("files", missing, "left out with what is made of them, since they are not there")


def _exists(folder: Path, file: str, strip: bool) -> bool:
    path = folder / (Path(file).name if strip else file)
    return path.is_file() and (path.suffix.lower() != ".stl" or _readable(path))


# --- both

def _tidy(made: Model) -> None:
    """Every body has a name, inertias that no body has are those of a ball, limits are read from actuators, which go,
    as do keyframes, sensors and tendons."""
    spec = made.spec
    spec.compiler.fusestatic, spec.compiler.balanceinertia = False, True
    for i, body in enumerate(spec.bodies):
        body.name = body.name or f"body{i}"
    _mend_inertias(made)
    _read_limits(made)
    made.keys = {key.name or f"key{i}": np.array(key.qpos) for i, key in enumerate(spec.keys)}
    acting = [a for a in spec.actuators if a.biastype != mujoco.mjtBias.mjBIAS_NONE]
    made.note("actuators", [a.name or a.target for a in acting], "left out, since efforts are commanded; they would "
              "pull like springs")
    made.note("tendons", [t.name for t in spec.tendons], "left out")
    for group in (spec.keys, spec.sensors, spec.actuators):
        for item in list(group):
            spec.delete(item)
    for equality in list(spec.equalities):
        if equality.type in (mujoco.mjtEq.mjEQ_TENDON, mujoco.mjtEq.mjEQ_FLEX) or not equality.active:
            spec.delete(equality)
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    for joint in spec.joints:
        joint.actgravcomp = False


def _mend_inertias(made: Model) -> None:
    """A matrix that no body has becomes that of a ball of the same trace."""
    mended = []
    for body in made.spec.bodies[1:]:
        xx, yy, zz, xy, xz, yz = body.fullinertia
        full = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
        values = np.array(body.inertia) if np.isnan(xx) else np.linalg.eigvalsh(full)
        if body.explicitinertial and values.min() <= 0:
            body.fullinertia[:], body.inertia[:] = np.nan, np.abs(values).sum() / 3
            mended += [body.name] if body.mass > 0 and values.any() else []
    made.note("links", mended, "their inertia is none that a body can have; taken as that of a ball")


def _read_limits(made: Model) -> None:
    """Efforts by the joints and their actuators, speeds by actuators that take them."""
    effort, velocity = made.effort, made.velocity
    for joint in made.spec.joints:
        if joint.actfrcrange[1] > 0:
            effort[joint.name] = float(joint.actfrcrange[1])
    for a in made.spec.actuators:
        if a.trntype not in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT):
            continue
        motor, gear = a.biastype == mujoco.mjtBias.mjBIAS_NONE, abs(float(a.gear[0]))
        most = float(a.forcerange[1]) or (float(a.ctrlrange[1] * a.gainprm[0]) if motor else 0.0)
        if most > 0:
            effort[a.target] = min(gear * most, effort.get(a.target, np.inf))
        if not motor and a.biasprm[1] == 0.0 and a.biasprm[2] < 0 and a.ctrlrange[1] > 0 and gear > 0:
            velocity.setdefault(a.target, float(a.ctrlrange[1]) / gear)


def skeleton(made: Model) -> mujoco.MjModel:
    """The tree of bodies and joints without anything else, compiled: names, ranges [rad or m], reference posture."""
    spec = made.spec.copy()
    for group in (spec.equalities, spec.excludes, spec.pairs, spec.skins, spec.flexes, spec.geoms, spec.meshes,
                  spec.hfields, spec.textures, spec.materials):
        for item in list(group):
            spec.delete(item)
    spec.compiler.boundmass, spec.compiler.boundinertia = LEAST_MASS, LEAST_INERTIA
    try:
        return spec.compile()
    except (ValueError, RuntimeError) as error:
        raise made.refuse(error) from error


def joint_names(model: mujoco.MjModel) -> list[str]:
    """Names of joints of one degree of freedom, in the order of the file."""
    return [model.joint(i).name for i in range(model.njnt)
            if mujoco.mjtJoint(model.jnt_type[i]) not in (FREE, BALL) and model.joint(i).name]


def above(model: mujoco.MjModel, body: int) -> list[int]:
    """The joints that move a body, those nearest to it first."""
    joints: list[int] = []
    while body:
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        joints += reversed(range(first, first + count)) if count else []
        body = int(model.body_parentid[body])
    return joints


def posture(made: Model, tree: mujoco.MjModel) -> Array:
    """The keyframe `home`, else the first, else the reference posture within the ranges (nq,) of a skeleton."""
    keys = sorted(made.keys.items(), key=lambda item: item[0] != HOME)
    for _, q in keys:
        if len(q) == tree.nq:
            return q
    q = np.array(tree.qpos0)
    for i in np.flatnonzero(tree.jnt_limited):
        if mujoco.mjtJoint(tree.jnt_type[i]) != BALL:
            at = tree.jnt_qposadr[i]
            q[at] = np.clip(q[at], *tree.jnt_range[i])
    return q


def hold_others(made: Model, joints: Sequence[str], bodies: Sequence[str]) -> None:
    """Hold all joints but those named, where `posture` has them; `bodies` are those that the tools are on.

    Raises ConfigError for a base that floats, for closed loops, and for joints that follow others on the way to a tool.
    """
    spec = made.spec
    if all(joint.name in joints for joint in spec.joints) and not list(spec.equalities):
        return
    tree = skeleton(made)
    wanted = {i for i in range(tree.njnt) if tree.joint(i).name in joints}
    for i in wanted:
        for j in above(tree, int(tree.jnt_bodyid[i])):
            if mujoco.mjtJoint(tree.jnt_type[j]) == FREE:
                raise made.refuse(f"joint {tree.joint(i).name} is carried by a base that floats; expected an arm whose "
                                  f"base is fixed (remove the free joint of body {tree.body(tree.jnt_bodyid[j]).name})")
    _uncouple(made, tree, wanted, bodies)
    others = [i for i in range(tree.njnt) if i not in wanted]
    _place(made, tree, others)
    for joint in list(spec.joints):
        if joint.name not in joints:
            spec.delete(joint)
    made.note("joints", [tree.joint(i).name for i in others], "held where they are, since robot.joints does not name "
              "them")


def _uncouple(made: Model, tree: mujoco.MjModel, wanted: set[int], bodies: Sequence[str]) -> None:
    """Drop equalities between what is held; refuse those that move a tool."""
    spec = made.spec
    movers = lambda body: {j for j in above(tree, body) if j in wanted}  # noqa: E731
    for equality in list(spec.equalities):
        first, second = equality.name1, equality.name2
        if equality.type == mujoco.mjtEq.mjEQ_JOINT:
            ids = [tree.joint(name).id for name in (first, second) if name]
            if all(i in wanted for i in ids):
                continue
            follower = next((i for i in ids if i not in wanted), None)
            carries = [b for b in bodies if follower in above(tree, tree.body(b).id)]
            if carries and any(i in wanted for i in ids):
                raise made.refuse(f"joint {tree.joint(follower).name} follows {tree.joint(ids[-1]).name} and carries "
                                  f"{carries[0]}; expected a chain of joints that move by themselves")
        elif equality.type in (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD):
            if equality.objtype == mujoco.mjtObj.mjOBJ_SITE:
                first, second = spec.site(first).parent.name, spec.site(second).parent.name
            if movers(tree.body(first).id) != (movers(tree.body(second).id) if second else set()):
                raise made.refuse(f"{first} and {second or 'the world'} are tied into a closed loop of joints; "
                                  "expected a chain")
        spec.delete(equality)


def _place(made: Model, tree: mujoco.MjModel, others: Sequence[int]) -> None:
    """Put bodies where joints that will be held hold them."""
    at, data = posture(made, tree), mujoco.MjData(tree)
    q = np.array(tree.qpos0)
    for i in others:
        width = {FREE: 7, BALL: 4}.get(mujoco.mjtJoint(tree.jnt_type[i]), 1)
        where = slice(tree.jnt_qposadr[i], tree.jnt_qposadr[i] + width)
        q[where] = at[where]
    moved = {int(tree.jnt_bodyid[i]) for i in others if not np.array_equal(q, tree.qpos0)}
    frames = []
    for posed in (tree.qpos0, q):
        data.qpos[:] = posed
        mujoco.mj_kinematics(tree, data)
        frames.append({b: _relative(tree, data, b) for b in moved})
    for b in moved:
        turn, way = _product(_inverse(frames[0][b]), frames[1][b])
        body = made.spec.body(tree.body(b).name)
        turned, put = _product((_quat(body), np.array(body.pos)), (turn, way))
        body.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        body.quat, body.pos = turned, put


def _quat(part: Any) -> Array:
    """The orientation of a body or site of a spec (4,), however the file gives it."""
    if part.alt.type == mujoco.mjtOrientation.mjORIENTATION_QUAT:
        return np.array(part.quat)
    of = part.compiler
    return np.array(mujoco.MjSpec().resolve_orientation(degree=of.degree, sequence=of.eulerseq, orientation=part.alt))


Frame = tuple[Array, Array]  # quaternion (4,), position (3,)


def _relative(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> Frame:
    parent = int(model.body_parentid[body])
    return _product(_inverse((data.xquat[parent], data.xpos[parent])), (data.xquat[body], data.xpos[body]))


def _product(a: Frame, b: Frame) -> Frame:
    quat, position = np.empty(4), np.empty(3)
    mujoco.mju_mulPose(position, quat, a[1], a[0], b[1], b[0])
    return quat, position


def _inverse(a: Frame) -> Frame:
    quat, position = np.empty(4), np.empty(3)
    mujoco.mju_negPose(position, quat, a[1], a[0])
    return quat, position


def shift(site: Any, offset: Sequence[float]) -> None:
    """Move a site of a spec by x, y, z [m], and turn it by roll, pitch, yaw [rad] where given, in its own axes."""
    roll, pitch, yaw = (*offset[3:], 0.0, 0.0, 0.0)[:3]
    turn = np.empty(4)
    mujoco.mju_euler2Quat(turn, [roll, pitch, yaw], "XYZ")
    quat, position = _product((_quat(site), np.array(site.pos)), (turn, np.array(offset[:3], float)))
    site.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
    site.quat, site.pos = quat, position


def part_neighbours(spec: mujoco.MjSpec) -> None:
    """Let links on both sides of a joint not collide.

    MuJoCo does so itself, but for a base that is fixed, and where a link between has no shape.
    """
    collides = {g.parent.name for g in spec.geoms if g.contype or g.conaffinity}
    group: dict[str, str] = {"world": "world"}  # which body a body moves with
    members: dict[str, list[str]] = {"world": []}
    outer: dict[str, str] = {}  # the group before
    for body in spec.bodies[1:]:
        parent = group[body.parent.name]
        if len(body.joints):
            group[body.name], outer[body.name], members[body.name] = body.name, parent, []
        else:
            group[body.name] = parent
        members[group[body.name]] += [body.name] if body.name in collides else []
    for inner in outer:
        before = outer[inner]
        while before != "world" and not members[before]:
            before = outer[before]
        if before == "world" or before != outer[inner]:
            separate(spec, [(a, b) for a in members[before] for b in members[inner]])


def separate(spec: mujoco.MjSpec, pairs: Iterable[tuple[str, str]]) -> None:
    """Let these pairs of bodies not collide."""
    for a, b in pairs:
        spec.add_exclude(bodyname1=a, bodyname2=b)


def touching(model: mujoco.MjModel, q: Array, at: Array) -> tuple[tuple[str, str], ...]:
    """The pairs of bodies that are within each other at q (m,), of which `at` are the addresses; without planes."""
    data = mujoco.MjData(model)
    data.qpos[at] = q
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_collision(model, data)
    plane = mujoco.mjtGeom.mjGEOM_PLANE
    pairs = {tuple(sorted(model.body(model.geom_bodyid[g]).name for g in contact.geom)) for contact in data.contact
             if contact.dist < 0 and plane not in model.geom_type[list(contact.geom)]}
    return tuple(sorted((a, b) for a, b in pairs))


def compiled(made: Model) -> mujoco.MjModel:
    """The compiled model. Links that move and have no mass get a trace of it."""
    spec = made.spec
    try:
        return spec.compile()
    except (ValueError, RuntimeError) as error:
        if "mass and inertia" not in str(error):
            raise made.refuse(error) from error
    spec.compiler.boundmass, spec.compiler.boundinertia = LEAST_MASS, LEAST_INERTIA
    try:
        return spec.compile()
    except (ValueError, RuntimeError) as error:
        raise made.refuse(error) from error


def bare_joints(model: mujoco.MjModel) -> list[int]:
    """The joints that move nothing that weighs, and have no rotor."""
    return [i for i in range(model.njnt) if mujoco.mjtJoint(model.jnt_type[i]) not in (FREE, BALL)
            and model.body_subtreemass[model.jnt_bodyid[i]] < WEIGHTLESS
            and model.dof_armature[model.jnt_dofadr[i]] <= 0]


def assume_rotors(made: Model, model: mujoco.MjModel, efforts: Mapping[str, float], masses: bool) -> None:
    """Give a joint that moves nothing that weighs the rotor that its effort limit, by its name, moves at LIGHT.

    Where that is so of all joints, only kinematics is known of the arm: refused where `masses` are asked for.
    """
    bare = bare_joints(model)
    names = [model.joint(i).name for i in bare]
    if len(bare) < model.njnt:
        for i, name in zip(bare, names, strict=True):
            model.dof_armature[model.jnt_dofadr[i]] = efforts.get(name, 1.0) / LIGHT
        if bare:
            mujoco.mj_setConst(model, mujoco.MjData(model))
        made.note("joints", names, f"they move links without mass; assumed is a rotor that the effort limit "
                  f"accelerates by {LIGHT:g} rad/s^2")
    elif masses:
        raise made.refuse(f"joint {names[0]} moves links without mass; expected inertials, without which an arm "
                          "cannot be simulated")
    else:
        made.note("joints", names, KINEMATICS)
