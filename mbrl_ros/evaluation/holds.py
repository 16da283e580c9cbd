"""Whether an arm that nobody has seen is held: arms drawn at random, pushed to find their gains, and held.

    python3 -m mbrl_ros.evaluation.holds --arms 100 --rates 50,100,200

Arms have 2 to 7 joints, inertias over three decades, some drives without a rotor, dry friction, and half of them
nobody who carries their weight. Each is pushed from its home (ring/probe.py), held by the guard, and after 3 s by the
controller behind the guard, for 10 s in all. It counts as swinging where a joint that nobody moves is beyond a quarter
of its velocity limit, or has gone further than 0.1 rad, in the last half; it may be refused instead, for its rate.
"""
from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import yaml

from mbrl_ros import assembly, config
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.ring import guard
from mbrl_ros.ring.controller import FAULT, HOLD
from mbrl_ros.types import LinearGaussianDynamics

SECONDS, ALONE = 10.0, 3.0  # [s] of hold, and of the guard's alone
SWINGS, STRAYS = 0.25, 0.1  # velocity limit; rad
HELD = "held"
JOINT = '<joint name="joint{i}" axis="{axis}" range="-2.8 2.8" limited="true" armature="{rotor:.3g}" ' \
        'damping="{damping:.3g}" frictionloss="{friction:.3g}"/>'
LINK = '<body name="link{i}" pos="{start}" {carried}>{joint}<geom type="capsule" fromto="0 0 0 {end}" ' \
       'size="{radius:.4f}" mass="{mass:.4g}" contype="0" conaffinity="0"/>{inner}</body>'
WORLD = '<mujoco><compiler angle="radian"/><option timestep="0.001" integrator="implicitfast"/><worldbody>{}' \
        '</worldbody></mujoco>'


def draw(seed: int, folder: Path) -> Path:
    """An arm: the path of its robot file, beside its model."""
    rng = np.random.default_rng(seed)
    m, carried = int(rng.integers(2, 8)), bool(seed % 2)
    size, weight = np.exp(rng.uniform(np.log([0.3, 1.0]), np.log([1.2, 30.0])))  # [m], [kg] of the whole
    lengths = size * rng.dirichlet(np.full(m, 3.0))
    masses = weight * np.sort(rng.dirichlet(np.full(m, 2.0)))[::-1]
    axes = [rng.permutation([1, 0, 0]) if rng.random() < 0.7 else rng.permutation([0, 0, 1]) for _ in range(m)]
    bare, home = rng.random(m) < 0.4, rng.uniform(-1.2, 1.2, m)
    factors = {"rotor": np.where(bare, 0.0, rng.uniform(0.1, 1.0, m)), "damping": rng.uniform(0.0, 0.5, m),
               "friction": rng.uniform(0.0, 0.02, m)}

    def model(values: dict[str, Any]) -> str:
        inner = f'<site name="tool" pos="0 0 {lengths[-1]:.4f}"/>'
        for i in reversed(range(m)):
            joint = JOINT.format(i=i, axis=" ".join(map(str, axes[i])), **{k: v[i] for k, v in values.items()})
            inner = LINK.format(i=i, start=f"0 0 {lengths[i - 1] if i else 0.3:.4f}", joint=joint, inner=inner,
                                carried='gravcomp="1"' if carried else "", end=f"0 0 {lengths[i]:.4f}",
                                radius=0.12 * lengths[i], mass=masses[i])
        return WORLD.format(inner)

    bones = mujoco.MjModel.from_xml_string(model({name: np.zeros(m) for name in factors}))
    inertia, pull = _loads(bones, rng)
    rotor = factors["rotor"] * inertia
    effort = rng.uniform(1.5, 4.0, m) * pull + np.exp(rng.uniform(np.log(20), np.log(300), m)) * (inertia + rotor)
    effort = np.where(rng.random(m) < 0.3, np.maximum(effort, 0.1 * effort.max()), effort)  # a drive of the makers' row
    path = folder / f"arm{seed}.xml"
    path.write_text(model({"rotor": rotor, "damping": factors["damping"] * inertia, "friction":
                           factors["friction"] * effort}))
    robot = {"model": path.name, "joints": [f"joint{i}" for i in range(m)], "home": home.tolist(),
             "effort_limit": effort.tolist(), "effort_rate_limit": (rng.uniform(20, 60, m) * effort).tolist(),
             "velocity_limit": rng.uniform(2.0, 6.0, m).tolist()}
    settings = {"robot": robot, "guard": {"gravity": "robot" if carried else "model"}}
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": settings}}))
    return path.with_suffix(".yaml")


def _loads(model: mujoco.MjModel, rng: Any) -> tuple[Any, Any]:
    """Inertia of every joint and the largest effort that its weight takes (m,), over postures."""
    data, M = mujoco.MjData(model), np.empty((model.nv, model.nv))
    inertias, pulls = [], []
    for _ in range(50):
        data.qpos[:] = rng.uniform(-2.0, 2.0, model.nq)
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, M)
        inertias.append(np.diag(M).copy())
        pulls.append(np.abs(data.qfrc_bias))
    return np.median(inertias, 0), np.max(pulls, 0)


def hold(settings: dict[str, Any], seed: int) -> tuple[str, dict[str, float]]:
    """What became of an arm: HELD, "swings", "strays", "stops: ..." or "refused: ..."; and how it moved."""
    try:
        robot, plant, estimator, _, controller = assembly.make_parts(settings, seed)
    except ConfigError as error:
        return f"refused: {error}", {}
    of = config.from_mapping(guard.Config, settings["guard"], "guard")
    nothing = LinearGaussianDynamics(np.eye(robot.n, robot.n + robot.m), np.zeros(robot.n), np.eye(robot.n))
    protector = guard.Guard(guard.Limits.of(robot, of), of, robot.period, robot.weight)
    seen = plant.reset(seed)
    fastest, farthest, start = np.zeros(robot.m), np.zeros(robot.m), seen.position
    for k in range(round(SECONDS / robot.period)):
        now = k * robot.period
        protector.measured(seen.time, seen.position, seen.velocity, now)
        state = estimator.update(seen)
        if now >= ALONE and controller.mode != HOLD and controller.mode != FAULT:
            controller.request(HOLD)
        assert state is not None  # the plant's clock runs
        effort = controller.act(state, nothing)
        if effort is None:
            protector.idle(seen.time)
        else:
            protector.commanded(effort, seen.time, now)
            if protector.state == guard.HOLD:
                protector.arm(now)
        if guard.FAULT in (protector.state, controller.mode):
            return f"stops: {protector.reason}, {controller.reason}", {}
        sent = protector.effort(now)
        estimator.commanded(sent)
        seen = plant.step(sent)
        q, qd = plant.true_state()
        farthest = np.maximum(farthest, np.abs(q - start))
        if now > SECONDS / 2:
            fastest = np.maximum(fastest, np.abs(qd) / robot.velocity_limit)
    figures = {"speed": float(fastest.max()), "strays": float(farthest.max())}
    if fastest.max() > SWINGS:
        return "swings", figures
    return ("strays" if farthest.max() > STRAYS else HELD), figures


def settings_of(path: Path, rate: float) -> dict[str, Any]:
    """Of an arm that was drawn, at a control rate [Hz]."""
    return assembly.settings(Names(robot=str(path), prior="none"),
                             {"robot": {"period": 1.0 / rate}, "plant": {"pace": "lockstep"}})


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.holds",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--arms", type=int, default=100)
    p.add_argument("--first", type=int, default=0, help="seed of the first")
    p.add_argument("--rates", default="50,100,200", help="[Hz]")
    p.add_argument("--verbose", action="store_true", help="a line for each arm")
    a = p.parse_args(arguments)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = [draw(seed, Path(folder)) for seed in range(a.first, a.first + a.arms)]
        for rate in map(float, a.rates.split(",")):
            counts: Counter[str] = Counter()
            worst = {"speed": 0.0, "strays": 0.0}
            for seed, path in enumerate(paths, a.first):
                what, figures = hold(settings_of(path, rate), seed)
                counts[what.partition(":")[0]] += 1
                worst = {key: max(value, figures.get(key, 0.0)) for key, value in worst.items()}
                if a.verbose or what.partition(":")[0] not in (HELD, "refused"):
                    print(f"{rate:g} Hz, arm {seed}: {what}", figures, flush=True)
            bad += sum(counts.values()) - counts[HELD] - counts["refused"]
            print(f"{rate:g} Hz: {dict(counts)}; largest speed {worst['speed']:.2f} of the limit in the last half, "
                  f"largest way {worst['strays']:.3f} rad", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
