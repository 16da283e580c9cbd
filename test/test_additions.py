"""One file and one registry entry each: a planner and a model are added from test/added.py, and all take them.

What was needed, beside the class itself, for a planner:

    planners/__init__.py         PLANNERS["shooting"] = Shooting
    config/planners/shooting.yaml    controller: {planner: shooting}, and its settings if others than the defaults

and for a model, with config/models/straight.yaml alike: learner: {prior: straight}

    models/__init__.py           MODELS["straight"] = Straight
"""
from __future__ import annotations

import numpy as np
import pytest
import test_contract_models as of_models
import test_contract_planners as of_planners
import torch
from added import Shooting, Straight
from arms import double_integrator, make
from systems import PROBLEMS
from test_controller import state

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, find, from_mapping, merge
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation import reach as evaluate
from mbrl_ros.models import MODELS
from mbrl_ros.planners import PLANNERS
from mbrl_ros.ring import controller, learner

FILES = {"planner": "controller: {planner: shooting}\n    shooting: {samples: 100}",
         "prior": "learner: {prior: straight}\n    prior: {n0: 10.0}"}


@pytest.fixture
def added(monkeypatch, tmp_path):
    """The two lines, and the names of the two files."""
    monkeypatch.setitem(PLANNERS, "shooting", Shooting)
    monkeypatch.setitem(MODELS, "straight", Straight)
    of_models.model.cache_clear()
    files = {}
    for kind, text in FILES.items():
        path = tmp_path / f"{kind}.yaml"
        path.write_text(f"/**:\n  ros__parameters:\n    {text}\n")
        files[kind] = str(path)
    yield files
    of_models.model.cache_clear()


def test_settings_know_them_and_nobody_else(added):
    assert from_mapping(controller.Config, {"planner": "shooting"}, "controller").planner == "shooting"
    assert from_mapping(learner.Config, {"prior": "straight"}, "learner").prior == "straight"
    with pytest.raises(ConfigError, match=r"choose one of .*ilqr.*, shooting$"):
        from_mapping(controller.Config, {"planner": "shoting"}, "controller")


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("check", [of_planners.test_a_plan_is_what_it_says, of_planners.test_same_input_same_plan,
                                   of_planners.test_never_worse_than_the_warm_start])
def test_the_planner_keeps_the_contract(added, check, problem):
    more = {"device": "cpu"} if check is of_planners.test_a_plan_is_what_it_says else {}
    check("shooting", problem, **more)


@pytest.mark.parametrize("sick", ["start", "model", "cost", "warm_start"])
def test_a_sick_problem_gives_a_status(added, sick):
    of_planners.test_not_finite_gives_a_status_and_the_warm_start("shooting", sick)


@pytest.mark.parametrize("check", [
    of_models.test_means_covariances_and_jacobians_have_their_shapes, of_models.test_batch_equals_loop,
    of_models.test_jacobian_equals_finite_differences, of_models.test_covariance_is_positive_definite,
    of_models.test_fitting_lowers_the_held_out_loss, of_models.test_the_same_seed_gives_the_same_model,
    of_models.test_as_a_dynamics_model_its_expansion_is_the_model_at_its_point,
    of_models.test_as_a_prior_its_conditional_is_the_model_at_w, of_models.test_it_takes_past_efforts_as_regressors])
def test_the_model_keeps_the_contract(added, check):
    check("straight")


def test_the_model_is_saved_and_loaded(added, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    of_models.test_save_and_load_is_the_identity("straight", folder)


def settings(files, model="local", **more):
    return assembly.settings(Names("planar2", planner=files["planner"], prior=files["prior"]),
                             {"controller": {"model": model}, **more})


@pytest.mark.parametrize("model", ["local", "global"])
def test_they_reach_in_the_ring(added, model):
    """Closer than 30 mm from some 200 mm away: random shooting is no precise planner."""
    config = measures.Config(targets=1, data_seconds=4.0, seconds_per_target=2.0, payload=0.0, seed=100)
    run = evaluate.Run(settings(added, model), config, 100)
    result, = run.results()
    assert run.fault == "" and run.controller.mpc.plan.memory is not None
    assert type(run.learner.prior.model) is Straight and result.worst_mm < 30.0
    assert type(run.controller.mpc.planner) is Shooting


def test_another_seed_is_another_run(added):
    efforts = []
    for seed in (100, 100, 101):
        parts = assembly.make_parts(settings(added, plant={"seed": 0}), seed)
        rest, model = state(parts.robot), double_integrator(parts.robot)
        parts.controller.set_target(rest.belief.mean[parts.robot.slice("site/tool/position")] + 0.05)
        parts.controller.request("reach")
        efforts.append([parts.controller.act(rest, model) for _ in range(3)])
    assert np.array_equal(efforts[0], efforts[1]) and not np.array_equal(efforts[0], efforts[2])


def test_lists_per_joint_are_checked_when_the_planner_is_made_and_a_robot_may_bring_its_own(added, tmp_path):
    robot = make("planar2")
    with pytest.raises(ConfigError, match=r"^shooting.deviation: expected 2 values, one per joint, got 3$"):
        assembly.make_controller(settings(added, shooting={"deviation": [0.5, 1.0, 2.0]}), robot)
    own = tmp_path / "own.yaml"
    text = find("robots", "planar2").read_text()
    own.write_text(text.replace("model: planar2.xml", f"model: {robot.config.model}")
                   + "    shooting: {samples: 7, deviation: [3.0, 4.0]}\n")
    of_robot = assembly.settings(Names(str(own), planner=added["planner"], prior=added["prior"]))
    assert of_robot["shooting"] == {"samples": 7, "deviation": [3.0, 4.0]}
    assert torch.equal(torch.as_tensor(assembly.make_planner(of_robot, "shooting", robot)._deviation),
                       torch.tensor([3.0, 4.0], dtype=torch.float64))


@pytest.mark.parametrize("more, said", [
    ({"controller": {"exploration": 0.5}}, "controller.exploration: expected 0 with shooting, whose plans have no"),
    ({"learner": {"caution": 1.0}}, "learner.caution: expected 0 with shooting on the local model")])
def test_settings_that_mean_nothing_to_it_are_refused(added, more, said):
    with pytest.raises(ConfigError, match=said):
        assembly.make_controller(merge(settings(added), more), make("planar2"))
