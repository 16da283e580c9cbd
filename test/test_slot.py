"""The peg and its slot: how they fit, and what they do to the arm; the task as it stands in the files."""
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from mbrl_ros import assembly
from mbrl_ros.config import Names
from mbrl_ros.simulation import hand, slot


def plant_of(robot="planar3", **world):
    settings = assembly.settings(Names(robot, "peg", "ilqr", "gaussian"), {"world": world})
    made = assembly.make_robot(settings)
    return made, assembly.make_plant(settings, made)


@pytest.mark.parametrize("robot", ["planar3", "arm"])
@pytest.mark.parametrize("clearance", [0.002, 0.0005])
def test_the_slot_is_wider_than_the_peg_by_the_clearance(robot, clearance):
    made, plant = plant_of(robot, slot_clearance=clearance)
    model, data = plant.model, plant.data
    mujoco.mj_forward(model, data)
    near, far, peg = (data.geom(name).xpos for name in ("slot_near", "slot_far", "peg"))
    home, axes = hand.frame(made)
    between = (far - near) @ axes[:, 0] - model.geom("slot_near").size[0] - model.geom("slot_far").size[0]
    assert between == pytest.approx(2 * model.geom("peg").size[0] + clearance)
    np.testing.assert_allclose(peg - home, [0, 0, slot.LENGTH / 2], atol=1e-6)  # above the tool, which is its end
    np.testing.assert_allclose(np.abs(data.geom("peg").xmat.reshape(3, 3).T @ axes), np.eye(3), atol=1e-6)
    assert model.geom("slot_far").friction[0] == 0.3 and list(model.geom("slot_far").solref) == hand.CONTACT


def test_an_arm_that_is_pushed_down_beside_the_slot_stays_on_it():
    _, plant = plant_of()
    _, free = plant_of(slot=False)
    top = slot.goal(plant.robot, 0.08, 0.12)[2] - slot.GAP + slot.DEPTH
    lowest = []
    for each in (plant, free):
        heights = []
        for _ in range(14):
            each.step(np.array([15.0, 5.0, 0.0]))
            heights.append(each.true_tool()[2])
        lowest.append(min(heights))
    assert lowest[0] > top - 0.002 and lowest[1] < top - 0.05


def test_the_goal_is_where_nothing_touches_the_peg():
    robot, plant = plant_of()
    target, q = slot.goal(robot, 0.08, 0.12), robot.home.copy()
    for _ in range(100):  # of the inverse kinematics of the tool and its angle
        tool, _, J = robot.tool(q)
        error = np.append((target - tool)[[0, 2]], robot.home.sum() - q.sum())
        q += np.linalg.solve(np.vstack([J[[0, 2]], np.ones(3)]), error)
    plant.data.qpos[:] = q
    mujoco.mj_forward(plant.model, plant.data)
    assert plant.data.ncon == 0
    plant.data.qpos[2] += 0.1  # turned: it is 6 cm in
    mujoco.mj_forward(plant.model, plant.data)
    assert plant.data.ncon > 0
