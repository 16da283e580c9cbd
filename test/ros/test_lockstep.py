"""The nodes contain no step that the plain loop lacks."""
import numpy as np
import pytest
from rig import RING

from mbrl_ros import assembly
from mbrl_ros.config import Names
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.prior import fit, prior_of
from mbrl_ros.nodes.operator import Operator
from mbrl_ros.ring.controller import EXCITE, HOLD, REACH

SEED = 3
HOLDING, EXCITING, REACHING = 10, 40, 60


def loop_efforts(settings, target):
    """The plain loop: what evaluation/trial.py does, by hand."""
    ring = assembly.make_ring(settings, SEED)
    efforts = []

    def run(mode, periods):
        ring.controller.request(mode)
        efforts.extend(ring.tick()[1] for _ in range(periods))

    run(HOLD, HOLDING)
    run(EXCITE, EXCITING)
    learner = ring.learner
    data = Data.of(learner.transitions(30.0), learner.features, ring.plant.robot)
    model = fit(learner.config.prior, data, assembly.with_seed(settings, SEED), learner.config.seed)
    learner.set_prior(prior_of(model, settings), scale_of(np.hstack([data.w, data.y]))[1])
    ring.controller.set_target(target)
    run(REACH, REACHING)
    return np.array(efforts)


def node_efforts(rig, executor, target):
    """The composed nodes, run by services and parameters, with the model fitted in a process of its own."""
    seeds = {f"{part}__seed": SEED for part in ("plant", "excitation", "controller", "learner")}
    made = rig(*RING, executor=executor, plant__hold_after=0, **seeds)
    operator = Operator(made[RING[0]].robot, True, lambda seconds: made.executor.spin_once(timeout_sec=seconds))
    made.executor.add_node(operator)
    operator.ready()
    stamps = []
    operator.request("controller/hold")
    stamps += operator.advance(HOLDING)
    operator.request("controller/excite")
    stamps += operator.advance(EXCITING)
    operator.fit()
    operator.set("controller", "task.target", target)
    operator.request("controller/reach")
    stamps += operator.advance(REACHING)
    efforts = np.array([operator.heard.effort[stamp] for stamp in stamps])
    assert operator.heard.mode == REACH
    operator.destroy_node()
    return efforts


@pytest.mark.parametrize("executor", ["single", "events"])
def test_nodes_and_loop_give_the_same_efforts(rig, executor):
    settings = assembly.settings(Names("planar2", "reach", "ilqr", "gaussian"), {"plant": {"pace": "lockstep"}})
    target = [0.45, 0.0, 0.75]
    over_ros = node_efforts(rig, executor, target)
    plain = loop_efforts(settings, target)
    assert len(plain) == HOLDING + EXCITING + REACHING
    assert np.ptp(plain[-REACHING:], axis=0).min() > 0.1  # it moves [N m]
    np.testing.assert_array_equal(over_ros, plain)
