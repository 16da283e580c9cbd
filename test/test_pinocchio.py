"""Nothing rests on one simulator: the ring on a plant by Pinocchio, and that plant beside MuJoCo."""
from __future__ import annotations

import mujoco
import numpy as np
import pytest
from arms import make, settings

pytest.importorskip("pinocchio", reason="pin is a wheel of requirements-dev.txt")

import pinocchio as pin
from pinocchio_plant import CASES, PinocchioPlant, model_of

from mbrl_ros import assembly
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import Run

ARMS = ("planar2", "arm4", "arm6", "arm")


@pytest.mark.parametrize("name", ARMS)
def test_kinematics_and_dynamics_agree_with_mujoco(name):
    robot = make(name)
    model, ours = model_of(robot), robot.model
    data, theirs, rng = model.createData(), mujoco.MjData(ours), np.random.default_rng(0)
    ours.dof_frictionloss[:], ours.dof_damping[:], ours.body_gravcomp[:] = 0.0, 0.0, 0.0
    for _ in range(10):
        q = rng.uniform(-1.5, 1.5, robot.m)
        v, tau = rng.standard_normal((2, robot.m))
        pin.framesForwardKinematics(model, data, q)
        tool = data.oMf[model.getFrameId(robot.sites[0])].translation
        assert np.abs(tool - robot.tool_position(q)).max() < 1e-9
        theirs.qpos[:], theirs.qvel[:], theirs.qfrc_applied[:] = q, v, tau
        mujoco.mj_forwardSkip(ours, theirs, mujoco.mjtStage.mjSTAGE_NONE, 1)
        smooth = np.empty(robot.m)
        mujoco.mj_solveM(ours, theirs, smooth[None], (tau - theirs.qfrc_bias)[None])  # ends of joints do not count
        assert np.allclose(pin.aba(model, data, q, v, tau), smooth, rtol=1e-4, atol=1e-6)  # a payload of 1e-9 kg


def test_energy_of_a_free_fall_is_kept():
    """Semi-implicit Euler swings about the true energy, with an error of the order of the step."""
    plant = PinocchioPlant(make("planar2"), gravity_compensation=False)
    plant.model.damping[:] = plant.model.upperDryFrictionLimit[:] = 0.0
    energy, moving = [], []
    for _ in range(1000):
        plant._integrate(np.zeros(2))
        energy.append(pin.computeMechanicalEnergy(plant.model, plant.data, plant.q, plant.v))
        moving.append(plant.data.kinetic_energy)
    assert np.ptp(energy) < 0.02 * max(moving) and max(moving) > 1.0


def test_efforts_arrive_late_and_irregularly():
    robot = make("planar2")
    plant = PinocchioPlant(robot, delay=0.03)
    reported = [plant.step(np.full(2, effort)).effort[0] for effort in (1.0, 2.0, 3.0)]
    assert reported == pytest.approx([0.0, 0.5, 1.5])
    shaken = PinocchioPlant(robot, delay=0.02, jitter=0.004)
    steady = [shaken.step(np.full(2, float(i))).effort[0] - (i - 1) for i in range(1, 40)]  # within its limit
    assert -0.21 < min(steady) < -0.1 and 0.1 < max(steady) < 0.21  # 4 of 20 ms, of efforts 1 apart


def run(monkeypatch, name, prior, arguments, payload, targets, data_seconds, seed):
    monkeypatch.setattr(assembly, "make_plant", lambda s, robot: PinocchioPlant(robot, **arguments))
    chosen = settings(name, prior)
    config = measures.config_of(chosen, {"targets": targets, "data_seconds": data_seconds, "payload": payload,
                                         "seed": seed})
    made = Run(chosen, config, seed)
    return made, made.results()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_ring_reaches_every_target_on_it(case, monkeypatch):
    arguments, payload, limit = CASES[case]
    made, results = run(monkeypatch, "planar2", "gaussian", arguments, payload, 4, 5.0, 0)
    assert made.fault == "" and all(result.within(limit) for result in results)
    assert made.plant.world.payload == payload


if __name__ == "__main__":  # by hand: python test/test_pinocchio.py arm ensemble 0
    import sys

    for case, (arguments, payload, limit) in CASES.items():
        with pytest.MonkeyPatch.context() as patch:
            made, results = run(patch, sys.argv[1], sys.argv[2], arguments, payload, 8, 10.0, int(sys.argv[3]))
        within = sum(result.within(limit) for result in results)
        print(f"{case}: {within} of {len(results)} within {limit} mm, median "
              f"{np.median([r.median_mm for r in results]):.2f} mm, worst {max(r.worst_mm for r in results):.2f} mm "
              f"{made.fault}", flush=True)
