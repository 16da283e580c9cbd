"""The simulated robot: clock, limits, sensors, payload."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make

from mbrl_ros.simulation.plant import Config, MujocoPlant

QUIET = {"encoder_noise": 0.0, "disturbance": 0.0}


def test_the_clock_never_runs_backwards():
    plant = MujocoPlant(make(), Config())
    stamps = [plant.reset(0).time, plant.step(np.zeros(2)).time, plant.reset(0).time, plant.step(np.zeros(2)).time]
    assert np.diff(stamps).tolist() == [20_000_000, 40_000_000, 20_000_000]


def test_the_same_seed_gives_the_same_run():
    plant = MujocoPlant(make("arm"), Config())
    runs = []
    for seed in (3, 3, 4):
        plant.reset(seed)
        runs.append([plant.step(np.ones(7)).position for _ in range(5)])
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


def test_effort_is_clamped_and_reported_as_it_acted():
    robot = make()
    plant = MujocoPlant(robot, Config())
    assert np.array_equal(plant.step(np.array([1e6, -1e6])).effort, robot.effort_limit * [1, -1])
    late = plant.step(np.array([4.0, 0.0]), fraction=0.25, previous=np.array([0.0, 8.0]))
    assert late.effort == pytest.approx([3.0, 2.0])


@pytest.mark.parametrize("effort", [[1.0], [np.nan, 0.0], [np.inf, 0.0], [[0.0, 0.0]]])
def test_bad_efforts_are_refused(effort):
    with pytest.raises(ValueError, match="expected 2 finite values"):
        MujocoPlant(make(), Config()).step(np.array(effort))


def test_pendulum_swings_with_its_period():
    """Small swings of the undamped, unfriction-ed pendulum: I q'' = -m g l q, inertia and weight by hand."""
    robot = make("pendulum", home=[0.05])
    plant = MujocoPlant(robot, Config(**QUIET))
    plant.model.dof_damping[:] = plant.model.dof_frictionloss[:] = 0.0
    plant.reset(0)
    angles = np.array([plant.step(np.zeros(1)).position[0] for _ in range(400)])
    zero = np.flatnonzero((angles[:-1] > 0) & (angles[1:] <= 0))
    measured = np.diff(zero).mean() * 0.02
    data_inertia = plant.model.body_subtreemass[1]
    gravity = 9.81 * data_inertia * np.linalg.norm(_centre(plant))
    expected = 2 * np.pi * np.sqrt(_inertia(plant) / gravity)
    assert measured == pytest.approx(expected, rel=0.01)  # the sampling of zero crossings


def _centre(plant):
    import mujoco
    data = mujoco.MjData(plant.model)
    mujoco.mj_forward(plant.model, data)
    return data.subtree_com[1] - data.xpos[1]


def _inertia(plant):
    import mujoco
    data = mujoco.MjData(plant.model)
    mujoco.mj_forward(plant.model, data)
    full = np.zeros((1, 1))
    mujoco.mj_fullM(plant.model, data, full)
    return full[0, 0]


def test_arm_without_gravity_compensation_falls():
    robot = make("arm")
    drops = []
    for compensated in (True, False):
        plant = MujocoPlant(robot, Config(gravity_compensation=compensated, **QUIET))
        start = plant.true_tool()[2]
        for _ in range(25):
            plant.step(np.zeros(7))
        drops.append(start - plant.true_tool()[2])
    assert abs(drops[0]) < 1e-3 and drops[1] > 0.05


def test_velocity_reading_lags_but_converges():
    plant = MujocoPlant(make("pendulum"), Config(**QUIET))
    plant.model.opt.gravity[:] = 0
    plant.model.dof_damping[:] = plant.model.dof_frictionloss[:] = 0
    plant.reset(0)
    plant.data.qvel[:] = 1.0
    readings = [plant.step(np.zeros(1)).velocity[0] for _ in range(10)]
    assert 0.9 < readings[0] < 0.99 and readings[-1] == pytest.approx(1.0, abs=1e-6)


def test_a_period_of_no_whole_number_of_timesteps_picks_the_next_shorter_one():
    plant = MujocoPlant(make(period=0.0155), Config())
    timestep, of_file = plant.model.opt.timestep, make().model.opt.timestep
    assert plant.substeps * timestep == pytest.approx(0.0155, rel=1e-12)
    assert timestep <= of_file < 0.0155 / (plant.substeps - 1)
