"""Messages -> values of what is asked for: poses, joints, trajectories, velocities. As ring.py, without ROS."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mbrl_ros.messages.fields import Message, MessageError, read_stamp, sane
from mbrl_ros.types import Array


class PoseTarget(NamedTuple):
    """Where the tool shall go, and how it shall be turned."""

    position: Array  # (3,) [m]
    quaternion: Array  # (4,) x, y, z, w
    frame: str  # as received
    time: int  # [ns]


class JointPoints(NamedTuple):
    """Joints at times."""

    times: Array  # (N,) [s]
    positions: Array  # (N, m) [rad or m]
    velocities: Array | None  # (N, m) [rad/s or m/s]


class PosePoints(NamedTuple):
    """The tool at times."""

    times: Array  # (N,) [s]
    positions: Array  # (N, 3) [m]
    quaternions: Array | None  # (N, 4); None where all are zero: the orientation is left open
    frame: str


def seconds(duration: Message) -> float:
    """Of a builtin_interfaces/Duration."""
    return float(duration.sec) + 1e-9 * float(duration.nanosec)


def xyz(vector: Message) -> list[float]:
    """Of a geometry_msgs Point or Vector3."""
    return [vector.x, vector.y, vector.z]


def from_pose(message: Message) -> PoseTarget:
    """The value of a geometry_msgs/PoseStamped; its frame is passed on unchecked."""
    p, o = message.pose.position, message.pose.orientation
    position = sane("target", np.array(xyz(p), dtype=np.float64), "xyz")
    quaternion = sane("target: orientation", np.array([*xyz(o), o.w], dtype=np.float64), "xyzw")
    if abs(np.linalg.norm(quaternion) - 1.0) > 0.05:
        raise MessageError(f"target: orientation: expected a quaternion of length 1, got {quaternion.tolist()}")
    return PoseTarget(position, quaternion, message.header.frame_id, read_stamp(message.header.stamp))


def from_joints(names: Sequence[str], positions: Sequence[float], joints: Sequence[str]) -> Array:
    """Positions of `joints` (m,), picked by name and in their order; without names they are in it."""
    values = np.array(positions, dtype=np.float64)
    if not len(names):
        if values.shape != (len(joints),):
            raise MessageError(f"target: expected {len(joints)} positions, one per joint, got {values.size}")
        return sane("target", values, joints)
    return sane("target", values[_order(names, joints, "target", values.size)], joints)


def _order(names: Sequence[str], joints: Sequence[str], what: str, size: int) -> list[int]:
    names = list(names)
    if sorted(names) != sorted(joints):
        raise MessageError(f"{what}: expected the joints {', '.join(joints)}, got {', '.join(names)}")
    if size != len(names):
        raise MessageError(f"{what}: expected {len(names)} positions, one per name, got {size}")
    return [names.index(joint) for joint in joints]


def from_joint_trajectory(message: Message, joints: Sequence[str]) -> JointPoints:
    """The value of a trajectory_msgs/JointTrajectory. Accelerations and efforts are not used."""
    points = list(message.points)
    if not points:
        raise MessageError("trajectory: expected points, got none")
    order = _order(message.joint_names, joints, "trajectory", len(points[0].positions))

    def rows(field: str) -> Array:
        values = [np.array(getattr(point, field), dtype=np.float64) for point in points]
        for i, row in enumerate(values):
            if row.shape != (len(order),):
                raise MessageError(f"trajectory: {field} of point {i}: expected {len(order)}, got {row.size}")
        return sane(f"trajectory: {field}", np.array(values)[:, order])

    times = np.array([seconds(point.time_from_start) for point in points])
    return JointPoints(times, rows("positions"), rows("velocities") if len(points[0].velocities) else None)


def from_pose_trajectory(message: Message) -> PosePoints:
    """The value of a trajectory_msgs/MultiDOFJointTrajectory of one frame, the tool's. Velocities are not used."""
    points = list(message.points)
    if not points:
        raise MessageError("trajectory: expected points, got none")
    for i, point in enumerate(points):
        if len(point.transforms) != 1:
            raise MessageError(f"trajectory: transforms of point {i}: expected 1, got {len(point.transforms)}")
    transforms = [point.transforms[0] for point in points]
    positions = sane("trajectory", np.array([xyz(t.translation) for t in transforms], dtype=np.float64))
    turned = [t.rotation for t in transforms]
    quaternions = sane("trajectory: rotation", np.array([[*xyz(r), r.w] for r in turned], dtype=np.float64))
    times = np.array([seconds(point.time_from_start) for point in points])
    if not quaternions.any():
        return PosePoints(times, positions, None, message.header.frame_id)
    if (np.abs(np.linalg.norm(quaternions, axis=1) - 1.0) > 0.05).any():
        raise MessageError("trajectory: rotation: expected quaternions of length 1, or zero in all points")
    return PosePoints(times, positions, quaternions, message.header.frame_id)


def from_twist(message: Message) -> tuple[Array, str]:
    """Linear and angular velocity (6,) [m/s, rad/s] of a geometry_msgs/TwistStamped, and its frame, unchecked."""
    twist = message.twist
    velocity = np.array([*xyz(twist.linear), *xyz(twist.angular)], dtype=np.float64)
    return sane("twist", velocity), message.header.frame_id
