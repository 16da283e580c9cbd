"""Tables: fixed points that can be worked out by hand, the known picture of the maze, and who waits for whom."""
from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from arms import settings

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, from_mapping, section
from mbrl_ros.environments.maze import DYNA, MOVES, Maze
from mbrl_ros.environments.ring import Reaching
from mbrl_ros.trainers.dyna import Beside, Bins, Dyna
from mbrl_ros.trainers.tabular import PAIRS, Settings, Tabular, episode, explore, greedy_path

ALL = Settings(alpha=0.5, gamma=0.9, epsilon=0.0)


def distances(layout=DYNA):
    """Of every cell to the goal, by breadth-first search."""
    cells = {(r, c): sign for r, line in enumerate(layout) for c, sign in enumerate(line)}
    found, rim = {}, [at for at, sign in cells.items() if sign == "G"]
    for d in range(len(cells)):
        found.update(dict.fromkeys(rim, d))
        rim = [at for at in {(r + dr, c + dc) for r, c in rim for dr, dc in MOVES}
               if cells.get(at, "#") != "#" and at not in found]
    return {r * len(layout[0]) + c: d for (r, c), d in found.items()}


def test_a_step_of_q_learning_by_hand():
    learner = Tabular(3, 2, ALL, 0)
    learner.Q[1] = [2.0, 4.0]
    learner.real(0, 1, 1.0, 1, False)
    assert learner.Q[0, 1] == pytest.approx(0.5 * (1.0 + 0.9 * 4.0))
    learner.real(0, 0, 1.0, 1, True)  # nothing comes after an end
    assert learner.Q[0, 0] == pytest.approx(0.5)
    assert learner.known == 2


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("backup", ["sample", "expectation"])
def test_planning_with_a_full_model_of_the_maze_ends_at_the_values_of_the_shortest_paths(pairs, backup):
    """Q(s, a) = gamma^(distance of the next cell): the fixed point of every kind of backup where nothing is chance."""
    config = Settings(gamma=0.9, alpha=1.0, epsilon=0.5, pairs=pairs, backup=backup)
    world, learner = Maze(), Tabular(54, 4, config, 0)
    explore(world, learner, 0, 20_000)
    assert not learner.Q.any() and learner.known == 4 * (54 - 7 - 1)  # of the goal nothing is known
    learner.imagine(60_000)
    away = distances()
    for s, d in away.items():
        if d:
            assert learner.Q[s].max() == pytest.approx(0.9 ** (d - 1))
    assert greedy_path(world, learner, 0, 100) == away[world.reset(0)] == 14


def test_the_model_counts_and_expectation_weighs_by_the_counts():
    """A quarter of the outcomes is an end with reward 8, the others lead to a state that is worth 2."""
    learner = Tabular(3, 1, replace(ALL, alpha=1.0, backup="expectation"), 0)
    learner.Q[1] = 2.0
    for _ in range(3):
        learner.remember(0, 0, 0.0, 1, False)
    learner.remember(0, 0, 8.0, 2, True)
    learner.imagine(1)
    assert learner.Q[0, 0] == pytest.approx(0.25 * 8.0 + 0.75 * 0.9 * 2.0)
    sampled = Tabular(3, 1, replace(ALL, alpha=1.0), 0)
    sampled._first, sampled._links, sampled._sums = learner._first, learner._links, learner._sums
    sampled._pairs, sampled._states, sampled._sizes = learner._pairs, learner._states, learner._sizes
    ends = 0
    for _ in range(4000):
        sampled.Q[1] = 2.0
        sampled.imagine(1)
        ends += sampled.Q[0, 0] == 8.0
        assert sampled.Q[0, 0] in (8.0, pytest.approx(1.8))
    assert 0.22 < ends / 4000 < 0.28  # four deviations


def test_pairs_are_drawn_without_regard_to_how_often_they_were_tried():
    """One pair a thousand times, another once: both get half of the backups, each of which adds its reward."""
    learner = Tabular(2, 2, replace(ALL, alpha=1e-9), 0)
    for _ in range(1000):
        learner.remember(0, 0, 1.0, 1, True)
    learner.remember(1, 1, 1.0, 0, True)
    learner.imagine(4000)
    assert 1800 < learner.Q[0, 0] / 1e-9 < 2200 and learner.Q[0, 0] + learner.Q[1, 1] == pytest.approx(4e-6, rel=1e-3)


def test_sources_differ_in_where_they_look():
    """States 0 and 1, of which 0 has both actions tried; the policy wants action 1."""
    def after(pairs, epsilon=0.0):
        learner = Tabular(3, 2, replace(ALL, alpha=1e-9, epsilon=epsilon, pairs=pairs), 0)
        for s, a in ((0, 0), (0, 1), (1, 0)):
            learner.remember(s, a, 1.0, 2, True)
        learner.Q[:, 1] = 1e-3
        return learner, learner.imagine(6000)
    _, buffer = after("buffer")
    learner, policy = after("policy")
    _, anywhere = after("random")
    assert buffer == 6000 and learner.Q[0, 0] == 0.0  # its greedy action at state 1 was never tried
    assert policy == pytest.approx(3000, abs=200) and anywhere == pytest.approx(3000, abs=200)  # 3 of 6 pairs are known


def test_ties_are_broken_at_random_and_the_same_seed_chooses_the_same():
    def actions(seed):
        learner = Tabular(1, 4, replace(ALL, epsilon=0.0), seed)
        learner.Q[0] = [1.0, 0.0, 1.0, 1.0]
        return [learner.act(0) for _ in range(600)]
    counts = np.bincount(actions(0), minlength=4)
    assert counts[1] == 0 and counts[[0, 2, 3]].min() > 150
    assert actions(0) == actions(0) != actions(1)


def test_there_is_always_room_for_one_outcome_more():
    learner = Tabular(3000, 1, ALL, 0)
    for s in range(3000):
        learner.remember(0, 0, float(s), s, False)
    learner.config = replace(ALL, alpha=1.0, gamma=0.0, backup="expectation")
    learner.imagine(1)
    assert learner.Q[0, 0] == pytest.approx(np.arange(3000).mean())


def test_the_maze_is_the_known_picture():
    """Mean of seeds 0 to 9: 20 steps from episode 29 on without backups, 6 with 5, 3 with 50; walls and rim hold."""
    for backups, first in ((0, 29), (5, 6), (50, 3)):
        steps = []
        for seed in range(10):
            world = Maze()
            learner = Tabular(world.states, world.actions, Settings(backups=backups), seed)
            steps.append([episode(world, learner, 50 * seed + i, 100_000) for i in range(first + 5)])
        assert np.mean(steps, 0)[first - 1 :].mean() <= 20.0
        assert np.mean(steps, 0)[0] > 100 and min(min(s) for s in steps) >= 14
    world = Maze()
    start = world.reset(0)
    assert world.step(2) == (start, 0.0, False)  # the rim
    assert world.step(3)[0] == start + 1 and world.step(3)[0] == start + 1  # the wall


# --- in the ring

def bins(name="pendulum", **dyna):
    of = settings(name)
    known = Reaching(assembly.make_robot(of), of)
    return known, Bins(known, from_mapping(Dyna.Config, dyna, "dyna"))


def test_cells_are_those_of_a_turn_and_of_speeds_up_to_the_brakes():
    known, of = bins(positions=8, speeds=4)
    x = np.zeros(known.robot.n)

    def cell(q, qd):
        x[:2] = q, qd
        return np.unravel_index(of.cell(x), (8, 4))
    assert cell(0.1, 0.1) == cell(0.1 - 2 * np.pi, 0.1) == (4, 2) and cell(np.pi + 0.1, 0.1) == (0, 2)
    assert cell(0.1, 100.0) == (4, 3) and cell(0.1, -100.0) == (4, 0)
    assert of.level.tolist() == [[-1.0], [1.0]] and (of.states, of.actions) == (32, 2)


def test_cells_of_a_joint_that_cannot_turn_round_end_where_it_ends():
    known, of = bins("planar2", positions=4, speeds=2)
    low, high = known.limits.position_low, known.limits.position_high
    x = np.zeros(known.robot.n)
    for part, place in ((low - 1, 0), (high + 1, 3)):
        x[known.robot.slice("joint/position")] = part
        turns = high - low >= 2 * np.pi
        found = np.array(np.unravel_index(of.cell(x), (4, 4, 2, 2)))[:2]
        assert (found[~turns] == place).all()
    assert of.actions == 4


def test_tables_that_are_too_large_are_refused():
    with pytest.raises(ConfigError, match=r"dyna: expected at most 10000000 pairs"):
        bins("arm")


class Stuck:
    """A table whose backups last until they are let go."""

    def __init__(self):
        self.go, self.steps = threading.Event(), []

    def real(self, *step):
        self.steps.append(step)

    def imagine(self, n):
        self.go.wait()
        return n


def test_acting_does_not_wait_for_backups_and_no_step_is_lost():
    learner = Stuck()
    beside = Beside(learner, 10.0)
    for i in range(100):  # comes to its end although no backup does
        beside.put((i, 0, 0.0, i + 1, False))
    learner.go.set()
    beside.close()
    assert [step[0] for step in learner.steps] == list(range(100)) and len(beside.backups) == 100


def test_a_trainer_beside_acts_by_the_same_table_and_ends_its_thread():
    of = settings("pendulum", trainer={"target": [0.0, 0.0, 1.5]}, dyna={"beside": True})
    robot = assembly.make_robot(of)
    trainer = Dyna(from_mapping(Dyna.Config, section(of, "dyna"), "dyna"), robot, of, 0)
    policy, x = trainer.policy(), np.zeros(robot.n)
    for step in range(30):
        effort, noise = policy.act(x, step)
        assert np.abs(effort) <= robot.effort_limit and noise is None
    threads = [t for t in threading.enumerate() if t.name == "dyna"]
    assert len(threads) == 1
    figures = trainer.update([])
    assert not threads[0].is_alive() and figures["pairs"] >= 1.0
