"""Settings -> parts: the one place that builds each part of the ring, for nodes, the plain loop and tests alike."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mbrl_ros import options, robot
from mbrl_ros.config import ConfigError, Names, from_mapping, merge, section
from mbrl_ros.models import MODELS
from mbrl_ros.models.rollout import MEAN, ways_of
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.problem import Planner
from mbrl_ros.ring import controller, estimator, excitation, guard, learner, mpc
from mbrl_ros.ring.holding import with_gains
from mbrl_ros.ring.loop import Ring
from mbrl_ros.simulation import plant
from mbrl_ros.simulation.world import World
from mbrl_ros.task.task import Task

Settings = Mapping[str, Any]


def settings(names: Names, overrides: Settings | None = None) -> dict[str, Any]:
    """All parameters of a robot, which is simulated, task, planner and prior, with `overrides` on top.

    Of those in files that only nodes read, none.
    """
    return merge(merge(options.without(names.settings()), {"robot": {"simulated": True}}), overrides or {})


def make_robot(s: Settings) -> robot.Robot:
    """With gains of its hold, by pushes in the simulation where the settings have none."""
    made = robot.Robot(from_mapping(robot.Config, section(s, "robot"), "robot"))
    if made.has_gains:
        return made
    of = from_mapping(guard.Config, section(s, "guard"), "guard")
    return with_gains(made, from_mapping(plant.Config, section(s, "plant"), "plant"), of.gravity, of.integral)


def make_plant(s: Settings, r: robot.Robot) -> plant.MujocoPlant:
    """In the world of the settings `world.*`, of which `plant.*` says two."""
    config = from_mapping(plant.Config, section(s, "plant"), "plant")
    given = {"payload": config.payload, "gravity_compensation": config.gravity_compensation}
    return plant.MujocoPlant(r, config, from_mapping(World, merge(given, section(s, "world")), "world"))


def make_estimator(s: Settings, r: robot.Robot) -> estimator.JointFilter:
    return estimator.JointFilter(r, from_mapping(estimator.Config, section(s, "estimator"), "estimator"))


def make_learner(s: Settings, r: robot.Robot) -> learner.OnlineLearner:
    return learner.OnlineLearner(r, from_mapping(learner.Config, section(s, "learner"), "learner"))


def make_planner(s: Settings, name: str, r: robot.Robot) -> Planner:
    kind: Any = PLANNERS[name]
    planner: Planner = kind(from_mapping(kind.Config, section(s, name), name), r)
    return planner


def make_controller(s: Settings, r: robot.Robot) -> controller.Controller:
    """Refuses settings of the learner that would mean nothing to this planner, too: checks between parts are here."""
    config = from_mapping(controller.Config, section(s, "controller"), "controller")
    learning = from_mapping(learner.Config, section(s, "learner"), "learner")
    planner = make_planner(s, config.planner, r)
    estimating = from_mapping(estimator.Config, section(s, "estimator"), "estimator")
    if config.feedback and estimating.effort_source != "commands":
        raise ConfigError("controller.feedback: expected estimator.effort_source commands, since efforts that answer a "
                          "disturbance within the period tell the learner that they cause it")
    if config.model == mpc.GLOBAL and learning.prior == "none":
        raise ConfigError("controller.model: expected local, since the prior none is no global model to plan with")
    _check_follow(config, getattr(planner, "config", None), learning.prior)
    if learning.caution > 0 and (config.model == mpc.GLOBAL or not getattr(planner, "counts_spread", False)):
        able = [name for name, kind in PLANNERS.items() if getattr(kind, "counts_spread", False)]
        raise ConfigError(f"learner.caution: expected 0 with {config.planner} on the {config.model} model, which does "
                          f"not count it; it is for {', '.join(able)} on the local one")
    second_order = getattr(getattr(planner, "config", None), "second_order", False)
    if second_order and not (config.model == mpc.GLOBAL and _bends(learning.prior)):
        of = ", ".join(name for name in MODELS if _bends(name))
        raise ConfigError(f"{config.planner}.second_order: expected false with controller.model {config.model} and "
                          f"learner.prior {learning.prior}, which has no second derivatives; it is for "
                          f"controller.model global over {of}")
    return controller.Controller(r, Task(section(s, "task"), r), planner, config,
                                 from_mapping(excitation.Config, section(s, "excitation"), "excitation"))


def _check_follow(config: controller.Config, planning: Any, prior: str) -> None:
    """That a planner which follows worlds (models/rollout.py) is given a model which has such."""
    ways = ways_of(None if config.model == mpc.LOCAL else MODELS[prior])
    if getattr(planning, "follow", MEAN) not in ways:
        with_members = [name for name, kind in MODELS.items() if len(ways_of(kind)) > len(ways)]
        what = "the local model" if config.model == mpc.LOCAL else f"the prior {prior}"
        raise ConfigError(f"{config.planner}.follow: expected one of {', '.join(ways)} with {what}; "
                          f"{planning.follow} is for controller.model global and the priors {', '.join(with_members)}")


def _bends(prior: str) -> bool:
    """Whether a kind of model has second derivatives, which torch finds."""
    return bool(getattr(MODELS[prior], "bends", True))


class Parts(NamedTuple):
    """The four parts of the ring on one robot."""

    robot: robot.Robot
    plant: plant.MujocoPlant
    estimator: estimator.JointFilter
    learner: learner.OnlineLearner
    controller: controller.Controller


def make_parts(s: Settings, seed: int) -> Parts:
    """All parts; `seed` seeds plant, excitation, exploration and fitting."""
    s = with_seed(s, seed)
    r = make_robot(s)
    return Parts(r, make_plant(s, r), make_estimator(s, r), make_learner(s, r), make_controller(s, r))


def make_ring(s: Settings, seed: int) -> Ring:
    """All parts in one loop, with the plant at its start."""
    _, p, e, lrn, c = make_parts(s, seed)
    return Ring(p, e, lrn, c, p.reset(seed))


def with_seed(s: Settings, seed: int) -> dict[str, Any]:
    """The same settings with every seed set."""
    return merge(s, {part: {"seed": seed} for part in ("plant", "excitation", "controller", "learner")})
