"""A planner that cannot plan at rest is refused before anything moves."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make, settings

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.models.rollout import WAYS
from mbrl_ros.nodes.warm_up import warm_up
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.plan import as_plan
from mbrl_ros.types import CONVERGED, NOT_FINITE


@pytest.mark.parametrize("model", ["local", "global"])
@pytest.mark.parametrize("planner", PLANNERS)
def test_what_plans_passes(planner, model):
    controller = assembly.make_controller(settings(controller={"planner": planner, "model": model}), make())
    warm_up(controller, controller.robot)
    assert controller.mpc.plan is not None


@pytest.mark.parametrize("follow", WAYS)
def test_so_does_what_follows_worlds_of_a_global_model(follow):
    given = settings(prior="ensemble", controller={"planner": "icem", "model": "global"},
                     icem={"follow": follow, "samples": 4, "particles": 2, "elites": 2})
    controller = assembly.make_controller(given, make())
    warm_up(controller, controller.robot)
    assert controller.mpc.plan is not None


class Broken:
    """Raises, fails, or plans what is no number."""

    horizon = 4
    takes_numpy = True

    def __init__(self, how):
        self.how = how

    def plan(self, problem, previous):
        if isinstance(self.how, Exception):
            raise self.how
        x, u = np.zeros((5, len(problem.x0))), np.full((4, 2), np.nan if self.how == CONVERGED else 0.0)
        return as_plan(x, u, 0.0, self.how, 0)


@pytest.mark.parametrize("how, said", [(ValueError("three weights for two joints"), "three weights for two joints"),
                                       (NOT_FINITE, "cannot plan at rest: not_finite"), (CONVERGED, "not finite")])
def test_what_does_not_is_refused_with_the_reason(how, said):
    controller = assembly.make_controller(settings(), make())
    controller.mpc.planner, controller.mpc.device = Broken(how), None
    controller.mpc._limit = controller.mpc._limit[:4]
    with pytest.raises(ConfigError, match=said) as error:
        warm_up(controller, controller.robot)
    assert "\n" not in str(error.value) and str(error.value).startswith("ilqr: ")
