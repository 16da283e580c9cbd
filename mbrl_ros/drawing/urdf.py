"""URDF of a robot as it is here: what robot_state_publisher and RViz read, whatever the model file was.

Every joint of the compiled model turns or slides as in MuJoCo, and its zero is that of joint_states. Shapes that URDF
does not know, ellipsoids and capsules, are written as meshes, like those of the model file.
"""
from __future__ import annotations

import hashlib
import os
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.drawing.scene import KINDS
from mbrl_ros.drawing.triangles import of_geom, shown
from mbrl_ros.models.kinematics import transform
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

Element = ElementTree.Element
FREE = 1e3  # [m] to which an axis without ends slides: URDF asks for ends


class _Writer:
    """Builds the tree; poses are 4 x 4 matrices from a frame to the one it is in."""

    def __init__(self, robot: Robot, root: str, folder: Path | None):
        self.robot, self.model, self.folder = robot, robot.model, folder
        xml = robot.config.model.lstrip().startswith("<")
        self.robot_element = Element("robot", name="robot" if xml else Path(robot.config.model).stem)
        self.links: set[str] = set()
        self.named = {0: root}  # the link of every body

    def write(self) -> str:
        model = self.model
        self._link(self.named[0], 0)
        for body in range(1, model.nbody):
            self._body(body)
        for site, name in enumerate(self.robot.sites):
            at = model.site(name).id
            frame = self._unique(name if site or name not in self.links else f"{name}_site")
            self._link(frame)
            self._joint("fixed", f"{frame}_fixed", self.named[int(model.site_bodyid[at])], frame,
                        transform(model.site_pos[at], model.site_quat[at]))
        ElementTree.indent(self.robot_element)
        return ElementTree.tostring(self.robot_element, encoding="unicode")

    def _body(self, body: int) -> None:
        """A link, and what leads to it: a joint for every joint of the body, with links without mass between."""
        model = self.model
        name = self._unique(model.body(body).name or f"body{body}")
        parent = self.named[int(model.body_parentid[body])]
        pose, first = transform(model.body_pos[body], model.body_quat[body]), int(model.body_jntadr[body])
        joints = [first + i for i in range(int(model.body_jntnum[body]))]
        self.named[body] = name
        for joint in joints:
            anchor = transform(model.jnt_pos[joint])
            last = joint == joints[-1] and not model.jnt_pos[joint].any()
            child = name if last else self._unique(f"{name}_{model.joint(joint).name}")
            self._link(child, body if last else None)
            self._moving(joint, parent, child, pose @ anchor @ self._back(joint))
            pose, parent = np.linalg.inv(anchor), child
            if last:
                return
        self._link(name, body)
        self._joint("fixed", f"{name}_fixed", parent, name, pose)

    def _back(self, joint: int) -> Array:
        """From where MuJoCo has the joint in its reference posture to where it is at zero."""
        axis, reference = self.model.jnt_axis[joint], float(self.model.qpos0[self.model.jnt_qposadr[joint]])
        if self.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE:
            return transform(-reference * axis)
        turn = np.empty(4)
        mujoco.mju_axisAngle2Quat(turn, axis, -reference)
        return transform(np.zeros(3), turn)

    def _moving(self, joint: int, parent: str, child: str, pose: Array) -> None:
        model, name = self.model, self.model.joint(joint).name
        kind = {mujoco.mjtJoint.mjJNT_SLIDE: "prismatic", mujoco.mjtJoint.mjJNT_HINGE: "revolute"}.get(
            mujoco.mjtJoint(model.jnt_type[joint]))
        if kind is None or name not in self.robot.joints:
            raise ConfigError(f"robot.joints: URDF has no joint like {name!r}")
        low, high = model.jnt_range[joint] if model.jnt_limited[joint] else (-FREE, FREE)
        if kind == "revolute" and not model.jnt_limited[joint]:
            kind = "continuous"
        element = self._joint(kind, name, parent, child, pose)
        ElementTree.SubElement(element, "axis", xyz=_text(model.jnt_axis[joint]))
        i = self.robot.joints.index(name)
        ElementTree.SubElement(element, "limit", lower=repr(float(low)), upper=repr(float(high)),
                               effort=repr(float(self.robot.effort_limit[i])),
                               velocity=repr(float(self.robot.velocity_limit[i])))

    def _joint(self, kind: str, name: str, parent: str, child: str, pose: Array) -> Element:
        element = ElementTree.SubElement(self.robot_element, "joint", name=name, type=kind)
        _origin(element, pose)
        ElementTree.SubElement(element, "parent", link=parent)
        ElementTree.SubElement(element, "child", link=child)
        return element

    def _unique(self, name: str) -> str:
        name = name.replace("/", "_")  # of a frame it would be a namespace
        while name in self.links or name == self.named[0]:
            name += "_"
        return name

    def _link(self, name: str, body: int | None = None) -> None:
        link, model = ElementTree.SubElement(self.robot_element, "link", name=name), self.model
        self.links.add(name)
        if body is None:
            return
        if model.body_mass[body] > 0:
            inertial = ElementTree.SubElement(link, "inertial")
            _origin(inertial, transform(model.body_ipos[body], model.body_iquat[body]))
            ElementTree.SubElement(inertial, "mass", value=repr(float(model.body_mass[body])))
            x, y, z = (repr(float(value)) for value in model.body_inertia[body])
            ElementTree.SubElement(inertial, "inertia", ixx=x, iyy=y, izz=z, ixy="0", ixz="0", iyz="0")
        for geom in range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body]):
            self._shape(link, geom)

    def _shape(self, link: Element, geom: int) -> None:
        color = shown(self.model, geom)
        if color is None or KINDS.get(int(self.model.geom_type[geom])) in (None, "plane"):
            return
        visual = ElementTree.SubElement(link, "visual")
        _origin(visual, transform(self.model.geom_pos[geom], self.model.geom_quat[geom]))
        geometry, size = ElementTree.SubElement(visual, "geometry"), self.model.geom_size[geom]
        kind = KINDS[int(self.model.geom_type[geom])]
        if kind == "box":
            ElementTree.SubElement(geometry, "box", size=_text(2 * size))
        elif kind == "sphere":
            ElementTree.SubElement(geometry, "sphere", radius=repr(float(size[0])))
        elif kind == "cylinder":
            ElementTree.SubElement(geometry, "cylinder", radius=repr(float(size[0])), length=repr(float(2 * size[1])))
        elif self.folder is not None:
            data = stl(*of_geom(self.model, geom))
            path = self.folder.absolute() / f"{hashlib.sha256(data).hexdigest()[:16]}.stl"  # the same shape, one file
            if not path.exists():
                path.write_bytes(data)
            ElementTree.SubElement(geometry, "mesh", filename=path.as_uri())
        else:
            link.remove(visual)
            return
        material = ElementTree.SubElement(visual, "material", name=f"color{geom}")
        ElementTree.SubElement(material, "color", rgba=_text(color))


def urdf(robot: Robot, root: str, folder: Path | None = None) -> str:
    """The robot as URDF, its world being the link `root`. Meshes go into `folder` as STL files, named by file://
    addresses; without one they are left out."""
    return _Writer(robot, root, folder).write()


def described(robot: Robot) -> str:
    """The URDF with its meshes where ROS keeps files of a user. Raises ConfigError where these cannot be written."""
    folder = Path(os.environ.get("ROS_HOME", Path.home() / ".ros")) / "mbrl_ros" / "meshes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return urdf(robot, robot.base_frame, folder)
    except OSError as error:
        raise ConfigError(f"meshes of robot_description: {folder}: {error.strerror}") from error


def stl(vertices: Array, faces: Array) -> bytes:
    """Triangles as a binary STL file."""
    corners = vertices[faces]  # (f, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-30)
    records = np.zeros(len(faces), [("vectors", "<f4", (4, 3)), ("attributes", "<u2")])
    records["vectors"][:, 0], records["vectors"][:, 1:] = normals, corners
    return bytes(80) + len(faces).to_bytes(4, "little") + records.tobytes()


def _origin(element: Element, pose: Array) -> None:
    """URDF's angles turn about fixed x, y and z, in this order."""
    R = pose[:3, :3]
    pitch = np.arctan2(-R[2, 0], np.hypot(R[0, 0], R[1, 0]))
    if np.hypot(R[0, 0], R[1, 0]) > 1e-9:
        roll, yaw = np.arctan2(R[2, 1], R[2, 2]), np.arctan2(R[1, 0], R[0, 0])
    else:  # x points up or down: only the difference of the others counts
        roll, yaw = np.arctan2(-R[1, 2], R[1, 1]), 0.0
    ElementTree.SubElement(element, "origin", xyz=_text(pose[:3, 3]), rpy=_text(np.array([roll, pitch, yaw])))


def _text(values: Array) -> str:
    return " ".join(repr(float(value)) for value in values)
