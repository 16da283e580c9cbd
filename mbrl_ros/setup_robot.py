"""From a model file to the robot file that everything else is started with.

    python3 -m mbrl_ros.setup_robot my_arm.urdf [--yes] [--tool NAME] [--joints NAME,...] [--output my_arm.yaml]

finds joints, their limits, a home, the control rate and the gains of the hold, says what it assumed, builds the robot,
and shows what to start next. What the file does not say is asked for by name, with a proposal; --yes takes the
proposals. `ros2 run mbrl_ros setup` does the same, and listens to robot_description and joint_states where asked to.
"""
from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from mbrl_ros import assembly, model_file
from mbrl_ros.config import ConfigError, Names, from_mapping, merge
from mbrl_ros.model_file import Model
from mbrl_ros.ring import excitation
from mbrl_ros.ring.hold import BasePolicy
from mbrl_ros.robot import STEP, Config, Robot, load_model
from mbrl_ros.types import Array

# [Hz] that are tried, the first first. An arm too light for 50 Hz is not much better off where a hold is just stable:
# there two of them came to a stop with the true dynamics as well, and at 500 Hz with none (docs/results.md).
RATES = (50.0, 500.0, 250.0, 200.0, 100.0)
TOOLS = ("tool", "tool0", "tcp", "hand_tcp", "grip_site", "attachment_site", "end_effector", "ee_link", "ee", "flange")
GRIPPER = re.compile(r"finger|grip|knuckle|thumb|jaw|claw|pinch", re.IGNORECASE)
SPREAD, MARGIN = 0.6, 0.08  # [rad] targets are about home, and [rad or m] from the ends (evaluation/measures.py)
SPEED = {"rad": 2.0, "m": 0.5}  # proposals [rad/s], [m/s]
WITHOUT_MASS = 20.0  # [N m or N] proposal for the effort of a joint of which nothing is known
CARRY = 0.7  # [effort limit] that weight and load may take
EXCITED = (0.6, 0.45, 0.3, 0.2, 0.1)  # [velocity limit] speeds of the excitation that are tried, the first first
RESTING, TRIED, CALM = 0.5, 15.0, 1.4  # [s] of hold, and of that; velocity limit that no joint goes beyond
FAST = 0.6  # [steps] periods up to this are those of light joints
SEEDS = (100, 101)  # of the simulations in which that is tried
GRAVITY = 9.81  # [m/s^2]
Ask = Callable[[str, str, float], float]  # name, unit, proposal -> value


@dataclass
class Setup:
    """What was found: the settings of a robot file, and what was assumed on the way, a line each."""

    settings: dict[str, Any]
    assumed: list[str] = field(default_factory=list)


def take_proposal(name: str, unit: str, proposal: float) -> float:
    """The answer of --yes."""
    return proposal


def ask_user(name: str, unit: str, proposal: float) -> float:
    """Ask on the terminal. Raises ConfigError where there is none."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{name}: not in the model file; expected an answer, or --yes for {proposal:g} {unit}")
    while True:
        answer = input(f"{name} [{unit}] ({proposal:g}): ").strip()
        try:
            value = float(answer or proposal)
        except ValueError:
            value = -1.0
        if value > 0:
            return value
        print(f"expected a number above 0, got {answer!r}")


def set_up(model: str, ask: Ask = take_proposal, joints: Sequence[str] = (), tool: str = "",
           home: Sequence[float] = (), rate: float = 0.0, slowest: float = 0.0) -> Setup:
    """The settings of an arm by its model, a path or XML; what is given is taken as it is.

    Without a `rate` [Hz], the first of RATES at which a stable hold is good enough; no period is below `slowest`,
    the time between joint states [s]. Gains of the hold are found by pushes in simulation, where the file has masses.
    Raises ConfigError for what is no arm, and for an arm that no rate is fast enough for.
    """
    made = model_file.read(model)
    tree, said = model_file.skeleton(made), list(made.notes)
    if not joints:
        joints, tool = chain(made, tree, tool)
        said.append(f"joints {', '.join(joints)}: those that move {tool}, commanded in this order")
    if not tool:
        tool = _tool(made, tree, joints)
        said.append(f"the tool is {tool}")
    given = {"model": model, "joints": list(joints), "sites": [tool], "home": _middle(made, tree, joints),
             "effort_limit": [1.0] * len(joints), "velocity_limit": [1.0] * len(joints)}
    if made.root:
        given["base_frame"] = made.root
        said.append(f"targets and plans are in the frame {made.root}, the root of the file")
    bare = Robot(from_mapping(Config, given, "robot"))
    heavy = not any(model_file.KINEMATICS in note for note in bare.notes)
    given["effort_limit"], given["velocity_limit"] = _limits(made, bare, heavy, ask, said)
    effort = np.array(given["effort_limit"])
    given["effort_rate_limit"] = [_round(x) for x in np.clip(990.0, 11 * effort, 80 * effort)]
    robot = Robot(from_mapping(Config, given, "robot"))
    if len(home):
        given["home"] = [float(x) for x in home]
    elif made.keys:
        given["home"] = model_file.posture(made, tree)[[tree.jnt_qposadr[tree.joint(j).id] for j in joints]].tolist()
        said.append("home: a keyframe of the file")
    else:
        given["home"] = [round(float(x), 3) for x in propose_home(robot, heavy)]
        said.append("home: far from the ends, from singular postures and from contacts, where little effort carries "
                    f"the arm: {given['home']}")
    settings: dict[str, Any] = {"robot": given}
    robot = Robot(from_mapping(Config, given, "robot"))
    said += [note for note in robot.notes if note not in said]
    if heavy:
        by_itself = _carries_itself(robot)
        settings["guard"] = {"gravity": "robot" if by_itself else "model"}
        said.append(f"its weight is carried by {'the robot itself' if by_itself else 'the efforts'}, as the model says")
        load = _load(robot, 0.0 if by_itself else 1.0)
        if load < 1.0:
            settings["scenario"] = {"payload": load}
            said.append(f"it carries {load:g} kg, where {CARRY:.0%} of the efforts are for that")
    tried = [rate] if rate else [r for r in RATES if r * slowest < 1.01] or [1 / slowest]
    return Setup(_with_rate(settings, tried, heavy, said), said)


def _with_rate(settings: dict[str, Any], tried: Sequence[float], gains: bool, said: list[str]) -> dict[str, Any]:
    """The settings with a period, and where asked for with gains. Raises ConfigError where no rate will do."""
    if not gains:
        said.append("gains of the hold are not known; --probe finds them on the robot")
        return _with_lines(merge(settings, {"robot": {"period": 1.0 / tried[0]}}), said)
    for i, hertz in enumerate(tried):
        now = merge(settings, {"robot": {"period": 1.0 / hertz}})
        try:
            robot = assembly.make_robot(merge(now, {"robot": {"simulated": True}}))
        except ConfigError as error:
            said.append(str(error))
            if i + 1 == len(tried) or "too slow" not in str(error):
                raise
            continue
        said.append("gains, inertia and brakes are found by pushes in the simulation of this file; --probe finds those "
                    "of the robot")
        return _with_excitation(_with_lines(merge(now, {"robot": gains_of(robot)}), said), said)
    raise AssertionError("at least one rate is tried")


def _with_lines(settings: dict[str, Any], said: list[str]) -> dict[str, Any]:
    """The settings, with linear members of the ensemble at a rate faster than a step, as light joints need it."""
    if settings["robot"]["period"] > FAST * STEP:
        return settings
    said.append("ensemble.steps: 0, linear models without networks: what these take light joints for bends with the "
                "noise of a step, and plans with it")
    return merge(settings, {"ensemble": {"steps": 0}})


def _with_excitation(settings: dict[str, Any], said: list[str]) -> dict[str, Any]:
    """The settings with the speed of an excitation in which no joint is shaken too fast by others, in simulation."""
    for speed in EXCITED:
        now = merge(settings, {"excitation": {"speed": speed}})
        if max(_fastest(now, seed) for seed in SEEDS) < CALM:
            break
    if speed == EXCITED[0]:
        return settings
    said.append(f"excited at {speed:g} of the speeds that are allowed: faster, the joints shake each other")
    return now


def _fastest(settings: dict[str, Any], seed: int) -> float:
    """The largest speed of any joint [velocity limit] in an excitation."""
    robot = assembly.make_robot(settings)
    plant, estimator = assembly.make_plant(settings, robot), assembly.make_estimator(settings, robot)
    given = {**settings["excitation"], "duration": TRIED, "seed": seed}
    base = BasePolicy(robot, from_mapping(excitation.Config, given, "excitation"))
    seen, fastest = plant.reset(seed), 0.0
    base.start(robot.home, seen.effort)
    for k in range(round((RESTING + TRIED) / robot.period)):
        state = estimator.update(seen)
        assert state is not None  # the plant's clock runs
        effort = base.act(state, k * robot.period > RESTING)
        estimator.commanded(effort)
        seen = plant.step(effort)
        fastest = max(fastest, float((np.abs(plant.true_state()[1]) / robot.velocity_limit).max()))
        if fastest > CALM:
            break
    return fastest


def gains_of(robot: Robot) -> dict[str, list[float]]:
    """What pushes have found of a robot, as its settings."""
    return {name: [_round(x) for x in getattr(robot, name)]
            for name in ("deceleration", "stiffness", "damping", "inertia")}


# --- which joints, which tool

def chain(made: Model, tree: mujoco.MjModel, tool: str) -> tuple[list[str], str]:
    """The joints that move the tool, and the tool; where it is not given, the end of the longest chain."""
    if tool:
        body = _body_of(made, tree, tool)
        return _movers(tree, body), tool
    ends = {site.name: tree.body(site.parent.name).id for site in made.spec.sites if site.name}
    ends |= {tree.body(b).name: b for b in range(1, tree.nbody) if tree.body(b).name not in ends}
    chains = {name: _movers(tree, body) for name, body in ends.items()}
    arms = {name: chain for name, chain in chains.items() if not any(GRIPPER.search(j) for j in chain)} or chains
    longest = max(map(len, arms.values()), default=0)
    if longest == 0:
        raise made.refuse("no joint that moves a body; expected an arm")
    able = [name for name, chain in arms.items() if len(chain) == longest]
    chain = arms[able[0]]
    able = [name for name in able if arms[name] == chain]  # of two arms, the first
    return chain, _best_tool(tree, able, ends)


def _tool(made: Model, tree: mujoco.MjModel, joints: Sequence[str]) -> str:
    """The tool of an arm with these joints."""
    sites = {site.name: tree.body(site.parent.name).id for site in made.spec.sites if site.name}
    ends = {**{tree.body(b).name: b for b in range(1, tree.nbody)}, **sites}
    counts = {name: len(set(joints) & set(_movers(tree, body))) for name, body in ends.items()}
    most = max(counts.values(), default=0)
    if most == 0:
        raise ConfigError(f"robot.joints: expected some of {', '.join(model_file.joint_names(tree))}, "
                          f"got {', '.join(joints)}")
    others = {name: len(_movers(tree, ends[name])) for name in ends if counts[name] == most}
    return _best_tool(tree, [name for name in others if others[name] == min(others.values())], ends)


def _best_tool(tree: mujoco.MjModel, able: Sequence[str], ends: Mapping[str, int]) -> str:
    """By its name, else the one that is farthest out."""
    for wanted in TOOLS:
        for name in able:
            if name.lower() == wanted or name.lower().endswith(f"_{wanted}"):
                return name
    arms = [name for name in able if not GRIPPER.search(name)] or able
    return max(arms, key=lambda name: len(_ancestors(tree, ends[name])))


def _ancestors(tree: mujoco.MjModel, body: int) -> list[int]:
    found = [body]
    while found[-1]:
        found.append(int(tree.body_parentid[found[-1]]))
    return found


def _body_of(made: Model, tree: mujoco.MjModel, name: str) -> int:
    site = made.spec.site(name)
    if site is None and made.spec.body(name) is None:
        known = [s.name for s in made.spec.sites] + [b.name for b in made.spec.bodies[1:]]
        raise ConfigError(f"--tool: no site or body {name!r} in the model; it has {', '.join(known)}")
    return int(tree.body(site.parent.name if site is not None else name).id)


def _movers(tree: mujoco.MjModel, body: int) -> list[str]:
    """Names of the joints of one degree of freedom that move a body, from the base on."""
    joints = set(model_file.joint_names(tree))
    return [name for i in reversed(model_file.above(tree, body)) if (name := tree.joint(i).name) in joints]


def _middle(made: Model, tree: mujoco.MjModel, joints: Sequence[str]) -> list[float]:
    known = model_file.joint_names(tree)
    missing = next((name for name in joints if name not in known), None)
    if missing is not None:
        raise ConfigError(f"robot.joints: no joint {missing!r} in the model; it has {', '.join(known)}")
    ids = [tree.joint(name).id for name in joints]
    return [float(np.clip(0.0, *tree.jnt_range[i])) if tree.jnt_limited[i] else 0.0 for i in ids]


# --- limits

def _limits(made: Model, robot: Robot, heavy: bool, ask: Ask, said: list[str]) -> tuple[list[float], list[float]]:
    """Effort and velocity limits, of the file or asked for."""
    kinds = [mujoco.mjtJoint(robot.model.joint(name).type[0]) for name in robot.joints]
    metres = [kind == mujoco.mjtJoint.mjJNT_SLIDE for kind in kinds]
    proposals = _efforts(robot) if heavy else np.full(robot.m, WITHOUT_MASS)
    effort: list[float] = []
    speed: list[float] = []
    for i, name in enumerate(robot.joints):
        for limits, known, unit, proposal, what in (
                (effort, made.effort, "N" if metres[i] else "N m", _round(proposals[i]), "effort_limit"),
                (speed, made.velocity, "m/s" if metres[i] else "rad/s", SPEED["m" if metres[i] else "rad"],
                 "velocity_limit")):
            if name in known:
                limits.append(known[name])
                continue
            limits.append(ask(f"{what} of {name}", unit, proposal))
            said.append(f"{what} of {name}: {limits[-1]:g} {unit}, which the file does not say")
    return effort, speed


def _efforts(robot: Robot) -> Array:
    """Twice the largest weight, and 10 rad/s^2 on top (m,), over postures."""
    rng = np.random.default_rng(0)
    weights: list[Array] = []
    inertia: list[Array] = []
    for q in _postures(robot, rng, 100):
        weights.append(np.abs(robot.weight(q)))
        inertia.append(robot.free_inertia(q))
    efforts: Array = 2 * np.max(weights, axis=0) + 10 * np.max(inertia, axis=0)
    return np.maximum(efforts, 1e-3)


def _round(value: float) -> float:
    return float(f"{value:.3g}")


# --- home

def _postures(robot: Robot, rng: np.random.Generator, count: int, room: float = 0.0) -> Array:
    """Postures at random (count, m), `room` from the ends where there is so much, and not beyond 3/4 of half a turn."""
    most = 0.75 * np.pi
    beyond = (robot.position_low > most) | (robot.position_high < -most)
    low: Array = np.where(beyond, robot.position_low, np.maximum(robot.position_low, -most))
    high: Array = np.where(beyond, robot.position_high, np.minimum(robot.position_high, most))
    within = np.minimum(room, 0.45 * (high - low))
    return rng.uniform(low + within, high - within, (count, robot.m))


def _around(robot: Robot, q: Array, rng: np.random.Generator, count: int) -> Array:
    """Where targets are drawn from (count, m)."""
    margin = np.where(np.isfinite(robot.position_high), MARGIN, 0.0)
    drawn = q + rng.uniform(-SPREAD, SPREAD, (count, robot.m))
    return np.clip(drawn, robot.position_low + margin, robot.position_high - margin)


def propose_home(robot: Robot, heavy: bool) -> Array:
    """A posture (m,) from which the tool moves well in all directions, far from the ends, where a load of 1 kg takes
    little effort, and about which nothing touches. The same one every time."""
    rng = np.random.default_rng(0)
    drawn = _postures(robot, rng, 400, SPREAD + MARGIN)
    reach = max(float(np.linalg.norm(robot.tool_position(q))) for q in drawn)
    low = min(float(robot.tool_position(q)[2]) for q in drawn)
    scores = np.array([_score(robot, q, reach, low, heavy) for q in drawn])
    free = load_model(replace(robot.config, home=()))  # in which home excuses no contact
    best = np.argsort(-scores)[:40]
    for i in best:
        about = (drawn[i], *_around(robot, drawn[i], rng, 24))
        touching = [bool(model_file.touching(free, q, robot.qpos)) for q in about]
        scores[i] -= 3.0 * float(np.mean(touching)) + 3.0 * touching[0]
    return drawn[best[np.argmax(scores[best])]]


def _score(robot: Robot, q: Array, reach: float, low: float, heavy: bool) -> float:
    position, _, J = robot.tool(q)
    sizes = np.linalg.svd(J, compute_uv=False)
    nimble = sizes[min(robot.m, 3) - 1] / reach
    height = (position[2] - low) / (2 * reach)
    pull = np.abs(robot.weight(q) + GRAVITY * J[2]) / robot.effort_limit if heavy else np.zeros(robot.m)
    return float(2 * nimble + 0.3 * min(height, 0.6) - 2 * max(0.0, pull.max() - 0.3) - 0.1 * np.abs(q).mean())


def _carries_itself(robot: Robot) -> bool:
    model = robot.model
    moved = [b for b in range(model.nbody) if model.body_mass[b] > 1e-6 and model_file.above(model, b)]
    return bool(moved) and all(model.body_gravcomp[b] > 0.5 for b in moved)


def _load(robot: Robot, own: float) -> float:
    """What it carries about home [kg], at most 1; own: how much of its own weight is for its efforts."""
    room = []
    for q in _around(robot, robot.home, np.random.default_rng(1), 100):
        pull = GRAVITY * robot.tool(q)[2][2]
        weight = own * robot.weight(q)
        left = CARRY * robot.effort_limit - np.sign(pull) * weight
        room.append(np.min(left / np.maximum(np.abs(pull), 1e-9)))
    return float(np.floor(20 * np.clip(np.min(room), 0.0, 1.0)) / 20)


# --- the file

def text_of(setup: Setup, source: str) -> str:
    """The robot file, with what was assumed as comments."""
    lines = [f"# By setup, from {source}", *(f"# - {line}" for line in setup.assumed), "/**:", "  ros__parameters:"]
    for group, values in setup.settings.items():
        lines += [f"    {group}:", *(f"      {key}: {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def write(setup: Setup, path: Path, source: str) -> None:
    """Write the robot file, with the model beside it where that is XML, and read it back.

    Raises ConfigError where it cannot be written or does not make a robot.
    """
    model = setup.settings["robot"]["model"]
    if model_file.is_text(model):
        beside = path.with_suffix(".urdf" if "<robot" in model else ".xml")
        _save(beside, model)
        named = beside.name
    else:
        file = Path(model).expanduser().resolve()
        named = file.name if file.parent == path.resolve().parent else str(file)
    settings = merge(setup.settings, {"robot": {"model": named}})
    _save(path, text_of(Setup(settings, setup.assumed), source))
    Robot(from_mapping(Config, Names(robot=str(path)).settings()["robot"], "robot"))


def _save(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"--output: {path}: {error.strerror}") from error


def parser(prog: str) -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").partition("\n")[0])
    p.add_argument("model", nargs="?", default="", help="MJCF or URDF file")
    p.add_argument("--output", type=Path, help="robot file to write (default: NAME.yaml here, after the model)")
    p.add_argument("--tool", default="", help="site or body that is the tool")
    p.add_argument("--joints", default="", help="names with commas between, in the order of the commands")
    p.add_argument("--rate", type=float, default=0.0, help="control rate [Hz]; without it, the first that will do of "
                   + ", ".join(f"{r:g}" for r in RATES))
    p.add_argument("--yes", action="store_true", help="take all proposals")
    return p


def name_of(model: str) -> str:
    """What a robot is called after its model."""
    if model_file.is_text(model):
        found = re.search(r"<(?:robot|mujoco)\b[^>]*\b(?:name|model)=[\"']([\w-]+)", model)
        return found.group(1) if found else "robot"
    path = Path(model)
    return path.parent.name if path.stem in ("robot", "model", "scene") else path.stem


def done(setup: Setup, path: Path) -> str:
    """What is said in the end."""
    robot = setup.settings["robot"]
    said = "".join(f"  - {line}\n" for line in setup.assumed)
    return (f"{path}: {len(robot['joints'])} joints at {1 / robot['period']:g} Hz. Assumed:\n{said}"
            f"Look over it, then try it in simulation:\n  ros2 run mbrl_ros demo --robot {path}")


def run(a: argparse.Namespace, model: str, then: Callable[[Setup], Setup] | None = None, **more: Any) -> int:
    """Set up, write and say; `then` is done before it is written, `more` is for set_up."""
    ask = take_proposal if a.yes else ask_user
    given = {"joints": [name for name in a.joints.split(",") if name], **more}
    setup = set_up(model, ask, tool=a.tool, rate=a.rate, **given)
    setup = setup if then is None else then(setup)
    path = a.output or Path(f"{name_of(model)}.yaml")
    write(setup, path, "robot_description" if model_file.is_text(model) else model)
    print(done(setup, path))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Set up from a file; 0: done, 2: a mistake of the user, or an arm for which nothing will do."""
    a = parser("python3 -m mbrl_ros.setup_robot").parse_args(arguments)
    try:
        if not a.model:
            raise ConfigError("expected an MJCF or URDF file; topics are for `ros2 run mbrl_ros setup`")
        return run(a, a.model)
    except ConfigError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
