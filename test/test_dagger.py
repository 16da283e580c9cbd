"""Imitation of the planner: what the teacher says, who drives, and a network that reaches."""
from __future__ import annotations

import json

import numpy as np
import pytest
from arms import settings

from mbrl_ros import assembly
from mbrl_ros.config import Names
from mbrl_ros.evaluation.procedure import excited
from mbrl_ros.ring.network_policy import View
from mbrl_ros.ring.policy import load
from mbrl_ros.trainers.__main__ import train
from mbrl_ros.trainers.dagger import Settings, Teacher, Tour
from mbrl_ros.trainers.imitation import main
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.trainers.training import opened

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def taught():
    """A ring after two seconds of excitation, with a teacher that has its model."""
    run, data = excited(settings("planar2", "gaussian"), 2.0, 100)
    run.fit_to(data)
    return run, Teacher(run.robot, settings("planar2", "gaussian"), run.learner.prior.model, data)


def home(robot, away=0.0):
    x, m = np.zeros(robot.n), robot.m
    x[:m] = robot.home + away
    x[robot.slice("motion")][2 * m :] = robot.kinematics(x[:m], x[m : 2 * m])[0]
    x[robot.slice("effort/1")] = robot.weight(x[:m])
    return x


def test_a_student_that_is_late_is_not_asked_to_catch_up(taught):
    """At rest where it began, the planner says after half a second what it said after the first period; by its own
    clock it would be far ahead by then."""
    run, teacher = taught
    x, target = home(run.robot), run.robot.tool_position(run.robot.home + 0.3)
    teacher.begin()
    teacher.says(x, 0, target, True)
    said = [teacher.says(x, step, target, False) for step in range(1, 26)]
    assert np.abs(said[-1].u - said[4].u).max() < 0.1 * np.abs(said[4].u - run.robot.weight(run.robot.home)).max() + 0.5
    late = run.robot.period * 25
    ahead = teacher.mpc.course.at(teacher.mpc.course.begin, late, 2)[0][1]
    assert np.linalg.norm(ahead - x[View(run.robot).tool]) > 0.05  # [m]


def test_copies_have_the_efforts_of_the_gains_and_tools_where_joints_put_them(taught):
    run, teacher = taught
    tour = Tour(None, teacher, [run.robot.tool_position(run.robot.home + 0.2)], 150, [True])
    x, m = home(run.robot), run.robot.m
    for step in range(5):
        tour.act(home(run.robot, 0.02 * step), step)
    wanted = tour.wanted(3, 0.1, np.random.default_rng(0))
    assert len(wanted.u) == 20 and np.array_equal(wanted.u[:5], [said.u for said in tour.said])
    for i in (7, 13, 19):
        o, said = wanted.o[i], tour.said[i % 5]
        motion = run.robot.kinematics(o[:m], o[m : 2 * m])[0]
        assert np.allclose(o[2 * m : 2 * m + 6], motion, atol=1e-3) and not np.array_equal(o[:m], said.x[:m])
        moved = said.x.copy()
        moved[: len(o) - 3] = o[:-3]
        limit = run.robot.effort_limit
        assert np.allclose(wanted.u[i], np.clip(said.u + said.K @ (moved - said.x), -limit, limit))
    assert x.shape == moved.shape


def test_a_student_that_gets_far_hands_over_to_the_teacher(taught):
    run, teacher = taught
    network, view = PolicyNetwork(View(run.robot).size, run.robot.m, 4, 0), View(run.robot)
    target, x = run.robot.tool_position(run.robot.home), home(run.robot)
    rng = np.random.default_rng(0)
    network.seen(view(x + 0.01 * rng.standard_normal((200, len(x))), target), run.robot.effort_limit)
    tour = Tour(network.policy(run.robot), teacher, [target], 150, [False])
    assert np.array_equal(tour.act(x, 0)[0], np.zeros(run.robot.m))  # what it has learned so far
    assert tour.escaped == 0
    after = tour.act(home(run.robot, 0.4), 1)[0]
    assert tour.escaped == 1 and np.array_equal(after, tour.said[-1].u)
    assert np.array_equal(tour.act(x, 2)[0], tour.said[-1].u)  # for the rest of the way
    fast = x.copy()
    fast[run.robot.m : 2 * run.robot.m] = 1.3 * run.robot.velocity_limit
    tour = Tour(network.policy(run.robot), teacher, [target], 150, [False])
    tour.act(fast, 0)
    assert tour.escaped == 1


def test_it_learns_to_reach_and_leaves_a_policy_for_the_ring(tmp_path, capsys):
    """Four trials of 12 s: most new targets within 20 mm, where the planner is within one."""
    assert main(["--robot", "planar2", "--prior", "gaussian", "--seeds", "100", "--trials", "5", "--targets", "5",
                 "--set", "{trainer: {seconds: 12}}", "--output", str(tmp_path)]) == 0
    folder, = tmp_path.iterdir()
    rows = {row["who"]: row for row in json.loads((folder / "imitation.json").read_text())["rows"]}
    assert rows["planner"]["within_10"] == 1.0 and rows["network"]["within_20"] >= 0.6
    assert rows["network"]["median_mm"] < 20.0
    taught = load(folder / "100" / "policy.npz", excited(settings(), 0.1, 100)[0].robot)
    assert taught.horizon is None and len(taught.arrays["b1"]) == Settings().hidden
    assert "| network | 0 | 5 |" in capsys.readouterr().out


def test_one_that_goes_on_asks_the_teacher_again(tmp_path):
    over = assembly.settings(Names("planar2", prior="gaussian"), {
        "plant": {"pace": "lockstep"}, "trainer": {"seconds": 4.0}, "dagger": {"steps": 20, "hidden": 8}})
    rows = list(train(over, "dagger", 3, 100, tmp_path))
    again = opened(tmp_path)
    assert again.rows == rows and len(again.trials) == 3
    there, here = load(tmp_path / "policy.npz", again.robot), again.trainer.learned()
    assert all(np.array_equal(there.arrays[name], here.arrays[name]) for name in there.arrays)


def test_mistakes_are_one_line(capsys):
    assert main(["--robot", "planar2", "--trials", "1"]) == 2
    assert "--trials, --targets: expected at least 2" in capsys.readouterr().err
