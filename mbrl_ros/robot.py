"""What is known of a robot: names, limits, control period, kinematics, and the layout of x.

x = [joint positions, joint velocities, position and velocity of every tool site, positions and velocities of objects,
the last H efforts (newest first)].
The layout is decided here and nowhere else; everybody asks `robot.slice("site/tool/position")`. Tool coordinates make a
cost on the tool quadratic in x; they come from forward kinematics of the measured joints, as tf does on a real robot.
Nothing here tells the learner or the planner about masses, damping or friction.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import mujoco
import numpy as np

from mbrl_ros import model_file
from mbrl_ros.config import ConfigError, param
from mbrl_ros.types import Array, LinearGaussianDynamics

STEP = 0.01  # [s]; shorter ones drown in noise and lag of velocities (docs/design.md, section 3)
EFFORT_RATE = 990.0  # [N m/s]; the drives of a Panda stop at 1000
MARGIN = 0.05  # [rad]
DAMPING = 0.05  # [m/rad], of the inverse of the tool's Jacobian
PAYLOAD = "mbrl_ros/payload"  # the body that what is put into the hand is; a name that no file has
Block = slice  # of x; Robot.slice has that name too


@dataclass(frozen=True)
class Config:
    """Parameters `robot.*`; lists have one entry per joint, in the order of `joints`."""

    model: str = param("", "Path of the MJCF or URDF file, or the XML itself (robot_description)")
    joints: tuple[str, ...] = param((), "Names of the controlled joints (one degree of freedom each)")
    sites: tuple[str, ...] = param(("tool",), "Names of the sites (or bodies) whose motion is part of x; first: tool")
    tool_offset: tuple[float, ...] = param((), "Where the tool is in the axes of the first site: x, y, z [m], or with "
                                           "roll, pitch, yaw [rad]")
    link_offsets: tuple[float, ...] = param((), "Where links truly are: x, y, z [m] to add to where the link of every "
                                            "joint begins in the one before, and then to the tool in its own; what "
                                            "mbrl_ros.calibrate finds")
    objects: tuple[str, ...] = param((), "Names of what the arm moves, one degree of freedom each, whose position and "
                                     "velocity are part of x: they are in joint_states beside the joints [rad or m]")
    period: float = param(0.02, "Control period [s]", 1e-4, 1.0)
    step: float = param(STEP, "What learned dynamics and plans step over: the nearest number of whole periods, at "
                        "least one [s]", 1e-4, 1.0)
    home: tuple[float, ...] = param((), "Joint positions of the base policy [rad or m]")
    effort_limit: tuple[float, ...] = param((), "Largest effort [N m or N]", 0.0)
    effort_rate_limit: tuple[float, ...] = param((), f"Largest change of effort [N m/s or N/s]; empty: {EFFORT_RATE:g}",
                                                 0.0)
    velocity_limit: tuple[float, ...] = param((), "Largest joint speed [rad/s or m/s]", 0.0)
    deceleration: tuple[float, ...] = param((), "Every joint can brake at least like this, whatever it carries "
                                            "[rad/s^2 or m/s^2]", 0.0)
    position_margin: tuple[float, ...] = param((), "Distance that the guard keeps from the ends of the joints "
                                               f"[rad or m]; empty: {MARGIN}", 0.0)
    stiffness: tuple[float, ...] = param((), "Of the hold [N m/rad or N/m]; it, damping and deceleration are found by "
                                         "pushes where they are missing: of a simulated robot at its start, of a real "
                                         "one by setup", 0.0)
    damping: tuple[float, ...] = param((), "Of the hold [N m s/rad or N s/m]", 0.0)
    inertia: tuple[float, ...] = param((), "Of every joint with the others free, for the brakes of the guard [kg m^2 "
                                       "or kg]; empty: by effort_limit and deceleration", 0.0)
    base_frame: str = param("base_link", "Frame of targets, plans and tool positions: what its driver calls the "
                            "root of the robot")
    simulated: bool = param(False, "Whether this is the simulated robot, which may be pushed by whoever starts it")
    effort_history: int = param(1, "Past efforts in x; where more than 1, they are regressors: 2 where commands arrive "
                                "in mid-period, which bringup sets in real time, more for slow motors", 1, 5)
    variation: float = param(0.0, "Scale lengths, masses and damping at random by up to this fraction", 0.0, 0.9)
    variation_seed: int = param(0, "Seed of the variation", 0)

    def __post_init__(self) -> None:
        for key, what in (("joints", "joint"), ("sites", "site"), ("objects", "object")):
            names = getattr(self, key)
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ConfigError(f"{key}: expected every {what} once, got {twice!r} {names.count(twice)} times")
        both = sorted(set(self.joints) & set(self.objects))
        if both:
            raise ConfigError(f"objects: expected names that no joint of the robot has, got {both[0]!r}")
        if not self.base_frame:
            raise ConfigError("base_frame: expected the name of a frame, got none")
        if not self.sites:
            raise ConfigError("sites: expected at least one name of a site or body, that of the tool, got none")
        if len(self.tool_offset) not in (0, 3, 6):
            raise ConfigError("tool_offset: expected x, y, z [m], or x, y, z, roll, pitch, yaw [m, rad], got "
                              f"{len(self.tool_offset)} values")
        if len(self.link_offsets) not in (0, 3 * (len(self.joints) + 1)):
            raise ConfigError(f"link_offsets: expected x, y, z [m] for each of {len(self.joints)} joints and the tool, "
                              f"got {len(self.link_offsets)} values")
        for key in ("effort_limit", "effort_rate_limit", "velocity_limit", "deceleration"):
            if any(value <= 0 for value in getattr(self, key)):
                raise ConfigError(f"{key}: expected values above 0, got {list(getattr(self, key))}")


class Robot:
    """A robot from its settings.

    Raises ConfigError for a missing or malformed model file, an unknown joint or site name (naming the valid ones),
    and lists whose length is not the number of joints.
    """

    def __init__(self, config: Config):
        self.config = config
        self.notes: list[str] = []  # what was left out or assumed of the model file, a line each
        self.model = load_model(config, notes=self.notes)
        self.joints, self.sites, self.period = config.joints, config.sites, config.period
        self.objects = config.objects
        self.observed = (*config.joints, *config.objects)  # what joint_states has of it
        self.base_frame = config.base_frame
        self.stride = max(1, round(config.step / config.period))  # periods in a step
        self.m = m = len(config.joints)
        if m == 0:
            raise ConfigError(f"robot.joints: name at least one of {', '.join(model_file.joint_names(self.model))}")
        joint_ids = [_id(self.model, "joint", name) for name in config.joints]
        self.qpos, self.dofs = addresses(self.model, config.joints)
        self.position_low, self.position_high = self._position_limits(joint_ids)
        self.effort_limit = self._per_joint("effort_limit")  # (m,)
        self.effort_rate_limit = self._per_joint("effort_rate_limit", EFFORT_RATE)
        self.deceleration = self._per_joint("deceleration", np.nan)  # the guard says what is missing
        self.position_margin = self._per_joint("position_margin", MARGIN)
        self.velocity_limit = self._per_joint("velocity_limit")
        self.home = self._per_joint("home")
        for name, low, high, at in zip(self.joints, self.position_low, self.position_high, self.home, strict=True):
            if not low <= at <= high:
                raise ConfigError(f"robot.home: expected {name} within its range, {low:g} to {high:g}, got {at:g}")
        self.stiffness, self.damping = (self._per_joint(name, np.nan) for name in ("stiffness", "damping"))
        self.inertia = self._per_joint("inertia", np.nan)
        self._site_ids = [_id(self.model, "site", name) for name in config.sites]
        self._data = mujoco.MjData(self.model)
        self.history = config.effort_history

    def _per_joint(self, name: str, default: float | None = None) -> Array:
        return self.per_joint(f"robot.{name}", getattr(self.config, name), default)

    def per_joint(self, name: str, values: Sequence[float], default: float | None = None) -> Array:
        """The list setting `name` as an array (m,); an empty one is `default` for all joints, where there is one."""
        if default is not None and not values:
            values = (default,) * self.m
        if len(values) != self.m:
            raise ConfigError(f"{name}: expected {self.m} values, one per joint, got {len(values)}")
        return np.array(values, dtype=float)

    @property
    def step(self) -> float:
        """What learned dynamics and plans step over [s]."""
        return self.stride * self.period

    @property
    def has_gains(self) -> bool:
        """Whether stiffness and damping of the hold are known."""
        return bool(np.isfinite(self.stiffness).all() and np.isfinite(self.damping).all())

    def _position_limits(self, joint_ids: list[int]) -> tuple[Array, Array]:
        limited = self.model.jnt_limited[joint_ids].astype(bool)
        low, high = self.model.jnt_range[joint_ids].T
        return np.where(limited, low, -np.inf), np.where(limited, high, np.inf)

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The name of every coordinate of x, in order."""
        names = [f"joint/{j}/position" for j in self.joints] + [f"joint/{j}/velocity" for j in self.joints]
        for site in self.sites:
            names += [f"site/{site}/{kind}/{axis}" for kind in ("position", "velocity") for axis in "xyz"]
        names += [f"object/{name}/{kind}" for kind in ("position", "velocity") for name in self.objects]
        names += [f"effort/{lag}/{j}" for lag in range(1, self.history + 1) for j in self.joints]
        return tuple(names)

    @property
    def n(self) -> int:
        """dim x."""
        return len(self.state_names)

    def slice(self, name: str) -> slice:
        """Where a block of x lies: `joint/position`, `joint/velocity`, `site/<name>/position|velocity`,
        `object/position|velocity` where there are objects, `effort/<lag>` (lag 1 is the newest), `effort` (all lags),
        `motion` (all but the efforts)."""
        if name not in self._blocks:
            raise ConfigError(f"no block {name!r} in the state; it has {', '.join(self._blocks)}")
        return self._blocks[name]

    @cached_property
    def _blocks(self) -> dict[str, Block]:
        m, moved = self.m, 2 * self.m + 6 * len(self.sites)
        count = len(self.objects)
        motion = moved + 2 * count
        blocks = {"joint/position": slice(0, m), "joint/velocity": slice(m, 2 * m), "motion": slice(0, motion),
                  "effort": slice(motion, self.n)}
        for i, site in enumerate(self.sites):
            at = 2 * m + 6 * i
            blocks[f"site/{site}/position"] = slice(at, at + 3)
            blocks[f"site/{site}/velocity"] = slice(at + 3, at + 6)
        if count:
            blocks["object/position"] = slice(moved, moved + count)
            blocks["object/velocity"] = slice(moved + count, motion)
        for lag in range(1, self.history + 1):
            blocks[f"effort/{lag}"] = slice(motion + (lag - 1) * m, motion + lag * m)
        return blocks

    @cached_property
    def joint_rows(self) -> Array:
        """Rows of x that move by dynamics: joints, objects, past efforts. The others are kinematics."""
        return np.array([*range(2 * self.m), *range(2 * self.m + 6 * len(self.sites), self.n)])

    def kinematics(self, q: Array, qd: Array) -> tuple[Array, Array]:
        """Position and velocity of all sites (6 S,) [m, m/s] and their derivative (6 S, 2m) by [q; qd], at q, qd (m,).

        v = J(q) qd, hence dp/dq = dv/dqd = J; dv/dq = dJ/dt, exact because d2p/dq_i dq_j is symmetric.
        """
        data, model, m = self._data, self.model, self.m
        data.qpos[self.qpos], data.qvel[self.dofs] = q, qd
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        motion, G = np.empty(6 * len(self._site_ids)), np.zeros((6 * len(self._site_ids), 2 * m))
        J_all, J_dot = np.empty((3, model.nv)), np.empty((3, model.nv))
        for i, site in enumerate(self._site_ids):
            p, v = slice(6 * i, 6 * i + 3), slice(6 * i + 3, 6 * i + 6)
            position = data.site_xpos[site]
            mujoco.mj_jacSite(model, data, J_all, None, site)
            mujoco.mj_jacDot(model, data, J_dot, None, position, model.site_bodyid[site])
            J = J_all[:, self.dofs]
            motion[p], motion[v] = position, J @ qd
            G[p, :m] = G[v, m:] = J
            G[v, :m] = J_dot[:, self.dofs]
        return motion, G

    def tool(self, q: Array) -> tuple[Array, Array, Array]:
        """Position (3,) [m] and rotation (3, 3) of the first site, and J (3, m) of its position, at q (m,)."""
        data, site, J = self._data, self._site_ids[0], np.empty((3, self.model.nv))
        data.qpos[self.qpos] = q
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_jacSite(self.model, data, J, None, site)
        return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy(), J[:, self.dofs]

    def orientation(self, q: Array, site: int = 0) -> tuple[Array, Array]:
        """Rotation (*b, 3, 3) of a site, its axes in the base frame as columns, at q (*b, m).

        And J (*b, 3, m) of its angular velocity in the base frame [rad/s].
        """
        data, flat, J_all = self._data, np.reshape(q, (-1, self.m)), np.empty((3, self.model.nv))
        R, J = np.empty((len(flat), 3, 3)), np.empty((len(flat), 3, self.m))
        for i, q_i in enumerate(flat):
            data.qpos[self.qpos] = q_i
            mujoco.mj_kinematics(self.model, data)
            mujoco.mj_comPos(self.model, data)
            mujoco.mj_jacSite(self.model, data, None, J_all, self._site_ids[site])
            R[i], J[i] = data.site_xmat[self._site_ids[site]].reshape(3, 3), J_all[:, self.dofs]
        batch = np.shape(q)[:-1]
        return R.reshape(*batch, 3, 3), J.reshape(*batch, 3, self.m)

    def lift(self, dynamics: LinearGaussianDynamics, z: Array, u: Array) -> LinearGaussianDynamics:
        """Dynamics of x from those of its `joint_rows`, expanded at z (len(joint_rows),) and u (m,).

        Sites follow by kinematics, to first order about the mean that follows. They are functions of joints in the plan
        too: a plan whose tool has dynamics of its own, learned or exact, can move it without the joints.
        """
        n, m = self.n, self.m
        z_next = dynamics.F @ np.concatenate([z, u]) + dynamics.f
        motion, G = self.kinematics(z_next[:m], z_next[m : 2 * m])
        T, offset, F = self._joints.copy(), np.zeros(n), np.zeros((n, n + m))  # x' = T z' + offset
        sites = slice(2 * m, 2 * m + len(motion))
        T[sites, : 2 * m], offset[sites] = G, motion - G @ z_next[: 2 * m]
        moved = T @ dynamics.F
        F[:, : 2 * m], F[:, sites.stop :] = moved[:, : 2 * m], moved[:, 2 * m :]  # joint_rows and u
        return LinearGaussianDynamics(F, T @ dynamics.f + offset, T @ dynamics.Sigma @ T.T)

    @cached_property
    def _joints(self) -> Array:
        """The matrix (n, len(joint_rows)) that puts joint_rows into x."""
        joints: Array = np.eye(self.n)[:, self.joint_rows]
        return joints

    def joint_velocity(self, q: Array, velocity: Array) -> Array:
        """The least joint velocity (*b, m) that moves the tool at `velocity` (*b, 3) [m/s] from q (m,)."""
        return least_velocity(self.tool(q)[2], velocity)

    def weight(self, q: Array) -> Array:
        """The efforts (m,) [N m or N] that carry the arm at rest at q (m,), by the masses of the model file, as if the
        robot carried nothing itself."""
        data, carried = self._data, np.empty(self.model.nv)
        data.qpos[self.qpos], data.qvel[:] = q, 0.0
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_comVel(self.model, data)
        mujoco.mj_rne(self.model, data, 0, carried)
        return carried[self.dofs]

    def free_inertia(self, q: Array) -> Array:
        """What an effort at each joint sees at q (m,) [kg m^2 or kg] while the others are free, by the masses of the
        model file."""
        data, M = self._data, np.empty((self.model.nv, self.model.nv))
        data.qpos[self.qpos] = q
        mujoco.mj_forward(self.model, data)
        mujoco.mj_fullM(self.model, data, M)
        inertia: Array = 1.0 / np.diag(np.linalg.inv(M))[self.dofs]
        return inertia

    def tool_position(self, q: Array) -> Array:
        """Position (3,) [m] of the first site in the base frame."""
        return self.kinematics(q, np.zeros(self.m))[0][:3]


def least_velocity(J: Array, velocity: Array) -> Array:
    """The least joint velocity (*b, m) of which J (k, m) makes `velocity` (*b, k) [m/s]; damped, so that a direction in
    which the arm is nearly singular asks for no fast joints (Nakamura 1986)."""
    least: Array = velocity @ np.linalg.solve(J @ J.T + DAMPING**2 * np.eye(len(J)), J)
    return least


def load_model(config: Config, furnish: Callable[[mujoco.MjSpec], None] | None = None, masses: bool = False,
                notes: list[str] | None = None) -> mujoco.MjModel:
    """The MuJoCo model of the settings: the controlled joints, a site for every name in `robot.sites`, and at the first
    a weightless body for what may be put into the hand.

    Lengths, masses and damping are varied where asked for, and `furnish` may add to it. `masses`: refuse an
    arm without any. What was left out or assumed is added to `notes`.
    """
    made = _prepared(config)
    spec = made.spec
    try:
        model_file.separate(spec, _at_home(config))
        if furnish is not None:
            furnish(spec)
        model = model_file.compiled(made)
        efforts = dict(zip(config.joints, config.effort_limit, strict=False))
        model_file.assume_rotors(made, model, efforts, masses)
        return model
    finally:
        if notes is not None:
            notes += made.notes


def _prepared(config: Config) -> model_file.Model:
    """The model of the settings, not yet compiled."""
    made = model_file.read(config.model)
    spec = made.spec
    if config.variation > 0:
        vary(spec, config.variation, config.variation_seed)
    for name in config.sites:
        _as_site(spec, name)
    if config.tool_offset:
        model_file.shift(spec.site(config.sites[0]), config.tool_offset)
    known = {joint.name for joint in spec.joints}
    if config.joints and known.issuperset(config.joints):  # else whoever asks for them says so
        model_file.hold_others(made, config.joints, [spec.site(name).parent.name for name in config.sites])
        if config.link_offsets:
            _move_links(spec, config)
    _add_payload(spec, config.sites[0])
    model_file.part_neighbours(spec)
    steps = np.ceil(config.period / spec.option.timestep - 1e-6)
    if abs(steps * spec.option.timestep - config.period) > 1e-9:
        spec.option.timestep = config.period / steps
    return made


def _move_links(spec: mujoco.MjSpec, config: Config) -> None:
    moved = [*(spec.joint(name).parent for name in config.joints), spec.site(config.sites[0])]
    for one, offset in zip(moved, np.reshape(config.link_offsets, (-1, 3)), strict=True):
        one.pos = np.array(one.pos) + offset


@lru_cache(maxsize=32)
def _at_home(config: Config) -> tuple[tuple[str, str], ...]:
    """The pairs of bodies that are within each other at home: the shapes of a file are wrong where that is so."""
    made = _prepared(config)
    if len(config.home) != len(config.joints) or not any(g.contype or g.conaffinity for g in made.spec.geoms):
        return ()
    model = model_file.compiled(made)
    return model_file.touching(model, np.array(config.home), addresses(model, config.joints)[0])


def addresses(model: mujoco.MjModel, joints: Sequence[str]) -> tuple[Array, Array]:
    """Where the named joints are in qpos and in qvel of a model (m,), (m,)."""
    ids = [_id(model, "joint", name) for name in joints]
    return model.jnt_qposadr[ids], model.jnt_dofadr[ids]


def vary(spec: mujoco.MjSpec, fraction: float, seed: int) -> None:
    """Scale every link's length, mass and joint damping by independent factors from 1 - fraction to 1 + fraction."""
    rng = np.random.default_rng(seed)
    for body in spec.bodies[1:]:
        length, mass, damping = 1 + fraction * rng.uniform(-1, 1, 3)
        stretch(body, length)
        for geom in body.geoms:
            geom.mass = geom.mass * mass
        if body.explicitinertial:
            body.mass, body.inertia = body.mass * mass, body.inertia * mass
        for joint in body.joints:
            joint.damping = joint.damping * damping


def stretch(body: mujoco.MjsBody, length: float) -> None:
    """Make a link `length` times as long, of the same mass."""
    for geom in body.geoms:
        geom.pos, geom.fromto = geom.pos * length, geom.fromto * length
    if body.explicitinertial:
        body.ipos, body.inertia = body.ipos * length, body.inertia * length**2
    for part in (*body.bodies, *body.sites):
        part.pos = part.pos * length


def set_payload(model: mujoco.MjModel, mass: float) -> None:
    """Put a point-like mass [kg] into the hand, or take it out (0)."""
    body = model.body(PAYLOAD).id
    model.body_mass[body] = max(mass, 1e-9)
    model.body_inertia[body] = max(mass, 1e-9) * 0.4 * 0.03**2  # a ball of 3 cm radius
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _as_site(spec: mujoco.MjSpec, name: str) -> None:
    if spec.site(name) is not None:
        return
    body = spec.body(name)
    if body is None:
        known = [s.name for s in spec.sites] + [b.name for b in spec.bodies[1:]]
        raise ConfigError(f"robot.sites: no site or body {name!r} in the model; it has {', '.join(known)}")
    body.add_site(name=name)


def _add_payload(spec: mujoco.MjSpec, site_name: str) -> None:
    site = spec.site(site_name)
    site.parent.add_body(name=PAYLOAD, pos=site.pos, mass=1e-9, inertia=[1e-12] * 3, explicitinertial=True)


def _names(model: mujoco.MjModel, kind: str) -> list[str]:
    count, get = {"joint": (model.njnt, model.joint), "site": (model.nsite, model.site)}[kind]
    return [get(i).name for i in range(count)]


def _id(model: mujoco.MjModel, kind: str, name: str) -> int:
    names = _names(model, kind)
    if name not in names:
        raise ConfigError(f"robot.{kind}s: no {kind} {name!r} in the model; it has {', '.join(names)}")
    index: int = names.index(name)
    one_degree = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    if kind == "joint" and mujoco.mjtJoint(model.jnt_type[index]) not in one_degree:
        raise ConfigError(f"robot.joints: {name!r} is neither a hinge nor a slide")
    return index
