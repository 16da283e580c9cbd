"""What the controller says of itself, in named numbers: against independent sums and exact dynamics."""
import numpy as np
import pytest
import torch
from arms import double_integrator, make, settings
from test_controller import PERIOD, state

from mbrl_ros import assembly
from mbrl_ros.gaussian import Z95_BALL
from mbrl_ros.messages.ring import LocalModel
from mbrl_ros.ring.belief import Believer
from mbrl_ros.ring.stages import Stages
from mbrl_ros.task.task import Task
from mbrl_ros.types import StateEstimate


def model_at(robot, belief_state, trust=1.0):
    return LocalModel(belief_state, double_integrator(robot), robot.step, 12.0, 1.5, trust, 10.0)


def following(robot, before, effort):
    """The state a step later, exactly as the double integrator has it."""
    dynamics = double_integrator(robot)
    mean = dynamics.A @ before.belief.mean + dynamics.B @ effort
    return StateEstimate(before.time + PERIOD, 0, before.step + 1, type(before.belief)(mean, before.belief.cov), effort)


def reaching():
    s, robot = settings(), make()
    controller = assembly.make_controller(s, robot)
    controller.set_target(robot.tool_position(robot.home) + np.array([0.0, 0.0, -0.05]))
    controller.request("reach")
    first = state(robot)
    return controller, first, controller.act(first, double_integrator(robot))


def test_cost_by_term_adds_up_and_times_are_those_of_the_stages():
    controller, first, effort = reaching()
    stages = Stages(iter(np.arange(1000) * 1_000_000).__next__)  # every look at the clock is a millisecond later
    stages.start()
    for stage in ("convert", "plan", "publish"):
        stages.done(stage)
    stages.end()
    belief = Believer(controller).of(model_at(controller.robot, first), effort, stages)
    assert belief.mode == "reach" and list(belief.terms) == list(controller.mpc.task.terms)
    assert sum(belief.terms.values()) == pytest.approx(controller.mpc.plan.cost, rel=1e-9)
    assert all(cost >= 0 for cost in belief.terms.values())
    assert belief.numbers["distance"] == pytest.approx(0.05, abs=1e-6)
    assert (belief.numbers["prior_weight"], belief.numbers["data_weight"]) == (10.0, 12.0)
    assert (belief.numbers["solve_time"], belief.numbers["tick_time"]) == pytest.approx((1e-3, 3e-3))
    assert "prediction_miss" not in belief.numbers and np.isnan(belief.per_joint["predicted_position"]).all()


def test_cost_by_term_with_terms_that_depend_on_the_goal():
    robot, s = make(), settings()
    task = dict(s["task"])
    task["terms"] = [*task["terms"], "upright"]
    task["upright"] = {"residual": "tool_orientation", "weight": 3.0, "rpy": [0.3, 0.2, 0.1]}
    mixed = Task(task, robot)
    path = mixed.path_to(robot.tool_position(robot.home) + 0.1, robot.tool_position(robot.home), 0, robot.home)
    cost = mixed.cost(mixed.window(path, 0, robot.home, 4, np.zeros(robot.m)), torch.device("cpu"))
    x, u = (torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            for shape in ((5, robot.n), (4, robot.m)))
    parts = cost.by_term(x, u)
    assert set(parts) == set(task["terms"])
    assert parts["upright"] > 0 and parts["turn"] > 0
    assert sum(parts.values()) == pytest.approx(float(cost.evaluate(x, u)), rel=1e-12)


def test_a_prediction_that_comes_true_and_one_that_does_not():
    controller, first, effort = reaching()
    robot, believer, stages = controller.robot, Believer(controller), Stages()
    believer.of(model_at(robot, first), effort, stages)
    second = following(robot, first, effort)
    belief = believer.of(model_at(robot, second), effort, stages)
    assert np.allclose(belief.per_joint["predicted_position"], belief.per_joint["position"], atol=1e-12)
    assert belief.numbers["prediction_miss"] == pytest.approx(0.0, abs=1e-12)
    assert (belief.per_joint["position_band"] > 0).all()
    tool = robot.slice("site/tool/position")
    third = following(robot, second, effort)
    third.belief.mean[tool] += [0.003, 0.0, 0.004]
    assert believer.of(model_at(robot, third), effort, stages).numbers["prediction_miss"] == pytest.approx(0.005)
    later = StateEstimate(third.time + 3 * PERIOD, 0, third.step + 3, third.belief, effort)  # a gap: nothing foreseen
    assert "prediction_miss" not in believer.of(model_at(robot, later), effort, stages).numbers


def test_the_band_of_a_ball_holds_95_of_100():
    draws = np.random.default_rng(0).standard_normal((200_000, 3))
    assert (np.linalg.norm(draws, axis=1) < Z95_BALL).mean() == pytest.approx(0.95, abs=0.002)


def test_outside_reach_there_is_no_plan_to_speak_of():
    controller, first, _ = reaching()
    controller.stop("idle", "for a test")
    belief = Believer(controller).of(model_at(controller.robot, first), None, Stages())
    assert belief.terms == {} and "cost" not in belief.numbers and "distance" not in belief.numbers
    assert np.isnan(belief.per_joint["effort"]).all()
