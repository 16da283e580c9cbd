"""How the simulated world differs from what the model file says: data, so that a scenario is a line in a file.

Everything here is the truth of the simulation. The robot, its estimator, learner and controller do not read it.
"""
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from mbrl_ros.config import ConfigError, param
from mbrl_ros.robot import PAYLOAD, Robot, addresses, load_model, set_payload, stretch
from mbrl_ros.simulation import block, door, slot
from mbrl_ros.simulation.door import WIDEST
from mbrl_ros.simulation.rotors import ROTOR, add_rotors
from mbrl_ros.types import Array

LOAD, TIP = "swinging_load", "tip"  # names of what is put into the model
OBJECTS = (*door.JOINTS, *block.JOINTS)  # names of joints of what the arm moves there
BALL = 0.03  # [m] radius of the load and, in contact, of the tool
HARD = [0.004, 1.0]  # [s], 1: time constant and damping ratio of contact with the wall
WALL_BIT = 4  # of contype and conaffinity: model files use 1 and 2
LONGEST_DELAY = 3  # [periods]
CLEAR = 0.05  # [m] of targets above the table: the tool is between fingers that are thick


@dataclass(frozen=True)
class World:
    """Settings `world.*`; the defaults are the model file as it is."""

    payload: float = param(0.0, "Mass in the hand [kg]", 0.0, 20.0)
    swinging: float = param(0.0, "Mass that hangs from the hand on a weightless rod [kg]", 0.0, 20.0)
    rod: float = param(0.25, "Length of that rod [m]", 0.01, 3.0)
    gravity_compensation: bool = param(True, "Keep the gravity compensation of the model file")
    damping: float = param(1.0, "Factor on the damping of all joints", 0.0, 100.0)
    friction: float = param(0.0, "More dry friction on all joints, in units of the effort limit", 0.0, 1.0)
    mass_error: float = param(0.0, "Links weigh 1 - this to 1 + this times what they should, at random; what "
                              "compensates gravity does not know", 0.0, 0.95)
    mass_seed: int = param(0, "Seed of the wrong masses", 0)
    weak_joint: int = param(0, "Which motor is weak, counted from 0", 0)
    motor: float = param(1.0, "What the weak motor gives of what it is asked for", 0.0, 1.0)
    noise: float = param(1.0, "Factor on the noise of the encoders", 0.0, 1000.0)
    delay: int = param(0, "Control periods from a command to its effect", 0, LONGEST_DELAY)
    reading_offset: float = param(0.0, "Offset of the efforts that the drives report, in units of the effort limit",
                                  -1.0, 1.0)
    reading_gain: float = param(1.0, "What the drives report of the effort that acts", -10.0, 10.0)
    reading_weight: float = param(0.0, "How much of the weight of the links, by the data sheet, is in what they report",
                                  -10.0, 10.0)
    reading_noise: float = param(0.0, "Standard deviation of the noise of what they report, mean over a period, in "
                                 "units of the effort limit", 0.0, 1.0)
    torque_offset: float = param(0.0, "Constant torque on every joint that nobody knows of, in units of the effort "
                                 "limit", -1.0, 1.0)
    windup: float = param(0.0, "By how much its effort limit winds up an elastic joint [rad or m]; 0: rigid", 0.0, 1.0)
    motor_encoders: bool = param(False, "Whether the encoders of elastic joints see the motors, not the links")
    reading_link: bool = param(False, "Whether the drives of elastic joints report what arrives at the links")
    stiction: float = param(1.0, "Dry friction at rest, in units of that of a moving joint", 1.0, 100.0)
    stribeck: float = param(0.01, "Speed at which most of that is gone, in units of the velocity limit", 1e-4, 1.0)
    cogging: float = param(0.0, "Amplitude of a torque that goes with the angle of the motor, in units of the effort "
                           "limit", 0.0, 1.0)
    cogging_periods: float = param(100.0, "Periods of it in one turn of the joint, or in 2 pi metres", 0.0, 1e4)
    quantum: float = param(0.0, "Steps of the encoders [rad or m]; 0: none", 0.0, 0.1)
    length_error: float = param(0.0, "Links are 1 - this to 1 + this times as long as the robot believes, at random",
                                0.0, 0.5)
    length_seed: int = param(0, "Seed of the wrong lengths", 0)
    jitter: float = param(0.0, "Commands act later by up to this part of a period, at random", 0.0, 1.0)
    lost: float = param(0.0, "Part of the joint states that never arrives; the robot goes on as commanded before", 0.0,
                        0.9)
    contacts: bool = param(False, "Whether the links collide with each other, and with what stands about")
    table: bool = param(False, "Whether a level table is under the tool, which no link can pass")
    table_below: float = param(0.1, "How far below the home of the tool it is [m]", -10.0, 10.0)
    wall: bool = param(False, "Whether an upright wall across the way from the base to the home of the tool stops it")
    wall_beyond: float = param(0.0, "How far beyond the home of the tool that wall is [m]", -10.0, 10.0)
    slot: bool = param(False, "Whether the hand holds a peg for which there is a slot, both 20 mm wide but for this:")
    slot_clearance: float = param(0.002, "By how much the slot is wider than the peg [m]", 0.0, 0.1)
    slot_friction: float = param(0.3, "Of the peg in the slot", 0.0, 2.0)
    slot_beside: float = param(0.08, "How far beyond the home of the tool, away from the base, the goal in the slot is "
                               "[m]", -1.0, 1.0)
    slot_below: float = param(0.12, "How far below it that is [m]", -1.0, 1.0)
    door: bool = param(False, "Whether the hand holds a rod that is within the handle of a door")
    door_open: float = param(0.6, "How far open that shall be, from where its coordinate counts [rad]", 0.0,
                             WIDEST)
    door_friction: float = param(1.0, "Dry friction of its hinge [N m]", 0.0, 100.0)
    door_damping: float = param(0.5, "Of its hinge [N m s/rad]", 0.0, 100.0)
    door_grip: float = param(0.3, "Friction of the rod on its handle", 0.0, 2.0)
    block: bool = param(False, "Whether the hand holds a rod that can push a block on a table")
    block_friction: float = param(0.4, "Of the block on its table, and of the rod on the block", 0.0, 2.0)
    block_beyond: float = param(0.15, "How far beyond where the block begins, away from the base, its place is, from "
                                "where its coordinates count [m]", 0.0, 0.2)
    block_beside: float = param(0.0, "How far beside, across that, it is [m]", -0.2, 0.2)

    def __post_init__(self) -> None:
        tasks = [name for name in ("slot", "door", "block") if getattr(self, name)]
        if len(tasks) > 1:
            raise ConfigError(f"{tasks[1]}: expected one thing in the hand, got one for {' and '.join(tasks)}")


def build(robot: Robot, world: World) -> mujoco.MjModel:
    """The model of the robot in this world."""
    model = load_model(robot.config, lambda spec: _furnish(spec, robot, world), masses=True)
    dofs = addresses(model, robot.joints)[1]
    if not world.gravity_compensation:
        model.body_gravcomp[:] = 0.0
    if world.mass_error > 0:
        _mistake_masses(model, world)
    if world.windup > 0:
        dofs = addresses(model, [name + ROTOR for name in robot.joints])[1]
    model.dof_damping[dofs] *= world.damping
    model.dof_frictionloss[dofs] += world.friction * robot.effort_limit
    set_payload(model, world.payload)
    return model


def goal(robot: Robot, world: World) -> Array | None:
    """Where the tool is when the contact task of this world is done (3,) [m]; None where there is none."""
    if world.slot:
        return slot.goal(robot, world.slot_beside, world.slot_below)
    if world.door:
        return door.handle(robot, world.door_open)
    return block.goal(robot, world.block_beyond, world.block_beside) if world.block else None


def missed(robot: Robot, world: World, tool: Array, moved: Array) -> float:
    """How far that task is from done [m], with the tool at `tool` (3,) [m] and the objects of the robot at `moved`
    (k,): the block from its place, the handle of the door along its arc, else the tool."""
    if world.block:
        return float(np.linalg.norm([moved[robot.objects.index(name)] for name in block.PLACED]))
    if world.door:
        return door.RADIUS * float(abs(moved[robot.objects.index(door.JOINTS[0])]))
    where = goal(robot, world)
    if where is None:
        raise ConfigError("world: expected a contact task, one of slot, door, block")
    return float(np.linalg.norm(tool - where))


def objects(robot: Robot, model: mujoco.MjModel) -> tuple[Array, Array]:
    """Where the objects of the robot are in qpos and in qvel (k,), (k,). Raises ConfigError where they are not."""
    known = [name for name in OBJECTS if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) >= 0]
    for name in robot.objects:
        if name not in known:
            raise ConfigError(f"robot.objects: expected some of {', '.join(known) or 'none'} in this world, got "
                              f"{name!r}")
    return addresses(model, robot.objects)


def motor_gain(robot: Robot, world: World) -> Array:
    """What each motor gives of what it is asked for (m,)."""
    if world.weak_joint >= robot.m:
        raise ConfigError(f"world.weak_joint: expected 0 to {robot.m - 1} for this robot, got {world.weak_joint}")
    gain = np.ones(robot.m)
    gain[world.weak_joint] = world.motor
    return gain


def reading(robot: Robot, world: World, acted: Array, q: Array, rng: np.random.Generator) -> Array:
    """What the drives report (m,) of an effort (m,) that acted at q (m,)."""
    reported = world.reading_gain * acted + world.reading_offset * robot.effort_limit
    if world.reading_weight:
        reported = reported + world.reading_weight * robot.weight(q)
    if world.reading_noise:
        reported = reported + world.reading_noise * robot.effort_limit * rng.standard_normal(robot.m)
    return reported


def move_over(old_model: mujoco.MjModel, old: mujoco.MjData, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Joints of one world go on in another as they moved; a swinging load that was not there hangs at rest."""
    before, after = _joints(old_model), _joints(model)
    for key in before.keys() & after.keys():
        was, now = old.joint(before[key]), data.joint(after[key])
        now.qpos[:], now.qvel[:] = was.qpos, was.qvel
    mujoco.mj_forward(model, data)
    if LOAD in after and LOAD not in before:
        hang(model, data)


def hang(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Let the swinging load, where there is one, hang straight down without rotation."""
    if LOAD not in _joints(model):
        return
    load, hand = data.joint(LOAD), model.body(LOAD).parentid[0]
    load.qvel[:] = 0.0
    mujoco.mj_forward(model, data)
    upright, velocity = np.empty(4), np.empty(6)
    mujoco.mju_negQuat(upright, data.xquat[hand])
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, hand, velocity, 0)  # axes of the world
    # The joint turns the load relative to the hand: this undoes the orientation and the rotation of the hand.
    load.qpos[:], load.qvel[:] = upright, -velocity[:3]
    mujoco.mj_forward(model, data)


def wall_plane(robot: Robot, beyond: float) -> tuple[Array, Array]:
    """A point (3,) [m] of the plane that the tool cannot pass, and its normal (3,) towards the robot."""
    home = robot.tool_position(robot.home)
    away = np.array([home[0], home[1], 0.0]) / np.linalg.norm(home[:2])
    return home + beyond * away, -away


def before_wall(robot: Robot, world: World, target: Array) -> Array:
    """The target (3,) [m], or where it lies behind the wall or in the table, the nearest point outside."""
    if world.wall:
        point, normal = wall_plane(robot, world.wall_beyond)
        target = target + max(0.0, float((point - target) @ normal)) * normal
    if world.table:
        target = np.append(target[:2], max(target[2], table_height(robot, world) + CLEAR))
    return target


def table_height(robot: Robot, world: World) -> float:
    """Of the table above the origin of the robot [m]."""
    return float(robot.tool_position(robot.home)[2] - world.table_below)


def _furnish(spec: mujoco.MjSpec, robot: Robot, world: World) -> None:
    site = spec.site(robot.sites[0])
    if world.length_error > 0:
        rng = np.random.default_rng(world.length_seed)
        for body in spec.bodies[1:]:
            stretch(body, 1 + world.length_error * rng.uniform(-1, 1))
    if world.contacts or world.table:
        _collide(spec, world)
    if world.windup > 0:
        add_rotors(spec, robot, world.windup)
    if world.table:
        _put_table(spec, robot, world)
    if world.slot:
        slot.furnish(spec, robot, world.slot_clearance, world.slot_friction, world.slot_beside, world.slot_below)
    if world.door:
        door.furnish(spec, robot, world.door_open, world.door_friction, world.door_damping, world.door_grip)
    if world.block:
        block.furnish(spec, robot, world.block_friction, world.block_beyond, world.block_beside)
    if world.swinging > 0:
        load = site.parent.add_body(name=LOAD, pos=site.pos)
        load.add_joint(name=LOAD, type=mujoco.mjtJoint.mjJNT_BALL)
        load.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=[0, 0, -world.rod], size=[BALL, 0, 0],
                      mass=world.swinging, contype=0, conaffinity=0)
    if world.wall:
        point, normal = wall_plane(robot, world.wall_beyond)
        site.parent.add_geom(name=TIP, type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=site.pos, size=[BALL, 0, 0], mass=0,
                             contype=0, conaffinity=WALL_BIT)
        facing = np.empty(4)
        mujoco.mju_quatZ2Vec(facing, normal)
        # Only the tool meets the wall, and its site stops in the plane.
        spec.worldbody.add_geom(name="wall", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=point - BALL * normal, quat=facing,
                                size=[1, 1, 0.1], contype=WALL_BIT, conaffinity=0, priority=1, solref=HARD)


def _put_table(spec: mujoco.MjSpec, robot: Robot, world: World) -> None:
    """A square board, whose near edge is half-way between the base and the home of the tool."""
    home = robot.tool_position(robot.home)
    reach = float(np.linalg.norm(home[:2]))
    facing, thickness = np.empty(4), 0.05
    mujoco.mju_axisAngle2Quat(facing, np.array([0.0, 0.0, 1.0]), np.arctan2(home[1], home[0]))
    centre = np.append(1.5 * home[:2], table_height(robot, world) - thickness)
    spec.worldbody.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, quat=facing,
                            size=[reach, 2 * reach, thickness], contype=WALL_BIT, conaffinity=0, priority=1,
                            solref=HARD)


def _joints(model: mujoco.MjModel) -> dict[str | int, int]:
    """Indices of joints: those of load, objects and rotors by their names, the others by their order, which worlds have
    in common."""
    added, own = {}, []
    for i in range(model.njnt):
        name = model.joint(i).name
        if name in (LOAD, block.LIFT, *OBJECTS) or name.endswith(ROTOR):
            added[name] = i
        else:
            own.append(i)
    return {**dict(enumerate(own)), **added}


def _collide(spec: mujoco.MjSpec, world: World) -> None:
    """Let all links that move meet the table, and with `contacts` each other; links that have only one between them are
    as near as neighbours."""
    for body in spec.bodies[1:]:
        moves = any(b.joints for b in _upwards(body))
        for geom in body.geoms:
            geom.contype = 1 if world.contacts else 0
            geom.conaffinity = (1 if world.contacts else 0) | (WALL_BIT if moves and world.table else 0)
        for other in _upwards(body)[1:3]:
            if other.name != "world" and world.contacts:
                spec.add_exclude(bodyname1=body.name, bodyname2=other.name)


def _upwards(body: mujoco.MjsBody) -> list[mujoco.MjsBody]:
    """A body and those that carry it, up to the world."""
    chain = [body]
    while chain[-1].name != "world":
        chain.append(chain[-1].parent)
    return chain


def _mistake_masses(model: mujoco.MjModel, world: World) -> None:
    factor = 1 + world.mass_error * np.random.default_rng(world.mass_seed).uniform(-1, 1, model.nbody)
    for name in (LOAD, PAYLOAD):
        factor[[i for i in range(model.nbody) if model.body(i).name == name]] = 1.0
    model.body_mass[:] *= factor
    model.body_inertia[:] *= factor[:, None]
    model.body_gravcomp[:] /= factor  # MuJoCo carries the true weight; the robot knows that of its data sheet
    mujoco.mj_setConst(model, mujoco.MjData(model))
