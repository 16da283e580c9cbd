"""Effort readings that are off cost no accuracy, and nor does a torque that nobody knows of."""
from __future__ import annotations

import pytest
from arms import settings

from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import Run
from mbrl_ros.simulation.world import World

pytestmark = pytest.mark.slow
SEED = 100


def run(world, name="planar2", **overrides):
    config = measures.Config(targets=2, data_seconds=5.0, seconds_per_target=3.0, seed=SEED)
    made = Run(settings(name, "gaussian", **overrides), config, SEED, start=world)
    results = made.results()
    assert made.fault == ""
    return results, made.ring.estimator.reading.faults()


@pytest.mark.parametrize(("world", "words"), [
    (World(reading_offset=0.05), "offset 5.0 % of the limit"),
    (World(reading_gain=1.1), "gain 1.10"),
    (World(reading_weight=1.0), "of the weight of the links"),
    (World(reading_noise=0.02), "noise"),
])
def test_faults_of_readings_cost_nothing_and_are_named(world, words):
    (good, none), (bad, faults) = run(World()), run(world)
    assert none == [] and all(words in line for line in faults) and len(faults) == 2
    for a, b in zip(good, bad, strict=True):
        assert b.cost < 1.1 * a.cost and b.median_mm < a.median_mm + 0.1


def test_readings_are_believed_only_where_that_is_asked_for():
    results, faults = run(World(reading_weight=1.0), estimator={"effort_source": "joint_states"})
    assert max(r.median_mm for r in results) > 5.0 and faults


def test_a_constant_torque_leaves_no_steady_error():
    good, bad = run(World())[0], run(World(torque_offset=0.05))[0]
    assert max(r.median_mm for r in bad) < max(r.median_mm for r in good) + 0.2
