"""A run in a world that changes: when it changes, what the oracle is told, and what counts as a divergence."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import settings

from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import RESTING, Run, excited, set_prior
from mbrl_ros.models.prior import fit
from mbrl_ros.ring.controller import HOLD, REACH
from mbrl_ros.ring.trust import MOST
from mbrl_ros.simulation.oracle import Oracle
from mbrl_ros.simulation.world import World, wall_plane

pytestmark = pytest.mark.slow
QUICK = measures.Config(targets=2, data_seconds=3.0, seconds_per_target=1.0, seed=100)


def worst(results):
    return max(r.worst_mm for r in results)


def test_the_world_changes_half_way_and_recovery_is_counted_from_there():
    run = Run(settings(), QUICK, 100, start=World(damping=2.0), change=World(payload=1.0))
    assert run.plant.world == World(damping=2.0)
    run.results()
    assert run.plant.world == World(payload=1.0)
    assert run.changed == 50 and len(run.error) == 100 and run.recovery() is not None


def test_nothing_to_recover_from_where_nothing_changes():
    run = Run(settings(), QUICK, 100, oracle=True, start=World(), change=World())
    run.results()
    assert run.recovery() is None and run.rms_mm() is None


@pytest.mark.parametrize("change", [World(delay=2), World(weak_joint=1, motor=0.6), World(swinging=1.0)])
def test_the_oracle_knows_the_change(change):
    enough = replace(QUICK, seconds_per_target=2.0)
    run = Run(settings(), enough, 100, oracle=True, change=change)
    assert worst(run.results()) < 5.0 and run.controller.mpc.delay.periods == change.delay
    assert isinstance(run.learner, Oracle)
    assert run.learner.physics.model is run.plant.model and run.learner.physics.gain is run.plant.gain


def test_a_path_without_end_is_scored_by_cycles_after_the_first():
    run = Run(settings(task={"path": {"kind": "figure_eight", "frequency": 0.5}}), QUICK, 100, oracle=True)
    results = run.results()
    assert len(results) == 2 and len(run.error) == 200
    assert run.rms_mm() == pytest.approx(1e3 * np.sqrt(np.mean(np.square(run.error))))
    assert results[0].median_mm == pytest.approx(1e3 * np.median(run.error[:100]))


def test_an_arm_that_lost_its_model_at_a_wall_goes_on_without_a_person():
    """It carries 4 kg, of which the global model knows nothing; a target behind the wall cannot be reached, and there
    trust is lost, as by joints that hit one after the other (test_learner.py). Five seconds later it can reach."""
    s = settings("arm", plant={"disturbance": 5e-4, "encoder_noise": 1e-5})  # sensors by which models claim much
    drive, data = excited(s, 5.0, 100)
    set_prior(drive.learner, fit("gaussian", data, s, 100), data, s)
    drive.let(HOLD, RESTING)
    robot, learner, controller = drive.robot, drive.learner, drive.controller
    drive.plant.change(World(payload=4.0))
    drive.let(HOLD, 1.0)
    drive.plant.change(World(payload=4.0, wall=True, wall_beyond=0.05))
    wall, towards_robot = wall_plane(robot, 0.05)
    controller.set_target(wall - 0.05 * towards_robot)
    drive.let(REACH, 0.8)
    assert abs((drive.plant.true_tool() - wall) @ towards_robot) < 0.02  # it is there
    learner.trust.error = MOST
    drive.ring.tick()
    assert controller.mode == HOLD and "predicts badly" in controller.reason
    for _ in range(round(5.0 / robot.period)):
        drive.ring.tick()
    assert controller.mode == HOLD
    target = wall + 0.15 * towards_robot
    controller.set_target(target)
    drive.let(REACH, 3.0)
    assert controller.mode == REACH and np.linalg.norm(drive.plant.true_tool() - target) < 5e-3


def test_from_power_on_the_second_target_is_reached():
    run = Run(settings("arm"), replace(QUICK, data_seconds=0.0, seconds_per_target=3.0), 100)
    first, second = run.results()
    assert first.worst_mm > 5.0 > second.worst_mm


def test_a_delay_that_nobody_tells_is_found():
    enough = replace(QUICK, data_seconds=5.0, seconds_per_target=2.0)
    run = Run(settings("arm"), enough, 100, start=World(delay=1), change=World(delay=2))
    assert worst(run.results()) < 5.0 and run.controller.mpc.delay.periods == pytest.approx(2.0, abs=0.1)


def test_a_protective_stop_while_exciting_is_a_divergence():
    run = Run(settings(controller={"delay": 0.0}, excitation={"gain": 10.0}), QUICK, 100, start=World(delay=2))
    assert all(np.isinf(r.cost) for r in run.results())
    assert run.fault.startswith("protective stop") and run.recovery() == np.inf
