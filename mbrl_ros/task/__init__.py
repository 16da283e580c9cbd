"""What is wanted: a task is data (config/tasks/) made of what is registered here. To add a kind: a file, and its line.

Each entry is a frozen dataclass of its own parameters; what is asked of it is in residuals.py, norms.py and path.py.
"""
from __future__ import annotations

from mbrl_ros.task import keep_out, norms, path, residuals

RESIDUALS: dict[str, type[residuals.Residual]] = {
    "site_position": residuals.SitePosition, "site_velocity": residuals.SiteVelocity,
    "tool_orientation": residuals.ToolOrientation, "joint_position": residuals.JointPosition,
    "joint_target": residuals.JointTarget, "joint_velocity": residuals.JointVelocity,
    "joint_range": residuals.JointRange, "joint_speed_range": residuals.JointSpeedRange,
    "object_position": residuals.ObjectPosition, "object_velocity": residuals.ObjectVelocity,
    "effort": residuals.Effort, "effort_change": residuals.EffortChange,
    "keep_out_sphere": keep_out.KeepOutSphere, "keep_out_box": keep_out.KeepOutBox,
    "keep_out_plane": keep_out.KeepOutPlane,
}
NORMS: dict[str, type[norms.Norm]] = {
    "quadratic": norms.QuadraticNorm, "smooth_abs": norms.SmoothAbs, "dead_zone": norms.DeadZone, "hinge": norms.Hinge,
    "log": norms.Logarithm,
}
PATHS: dict[str, type[path.Path]] = {"minimum_jerk": path.MinimumJerk, "figure_eight": path.FigureEight}
