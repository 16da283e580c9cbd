"""The gains of the hold of a simulated robot, found by pushes as those of a real one are (ring/probe.py)."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.ring.probe import Bounds, Found, Probe, gains, leaning
from mbrl_ros.robot import Robot
from mbrl_ros.simulation.plant import Config, MujocoPlant

ATTEMPTS = 5  # with other pushes each
MISSING = ("robot.stiffness, robot.damping: expected one value per joint; `ros2 run mbrl_ros setup` finds them, or "
           "robot.simulated:=true lets the simulation do")


def probed(plant: MujocoPlant, gravity: str) -> Found:
    """Push the joints of a plant from home; gravity as guard.gravity, but by the model in the end, where the arm falls
    without. Raises ConfigError where that fails."""
    robot = plant.robot
    for attempt in range(ATTEMPTS):
        by_model = gravity == "model" or attempt == ATTEMPTS - 1
        observation = plant.reset(attempt)
        carried = by_model or not observation.effort.any()  # else what is known holds a joint that sags all the same
        inertia = robot.free_inertia(robot.home) if attempt and carried else None  # light joints need it
        probe = Probe(Bounds.of(robot), robot.period, robot.weight if by_model else None, attempt, robot.joints,
                      inertia)
        while not probe.done:
            observation = plant.step(probe.act(observation.position, observation.velocity))
        if probe.found is not None:
            return probe.found
    raise ConfigError(f"robot.period: {1 / robot.period:g} Hz is too slow to find the gains of the hold by pushes at "
                      f"robot.home: {probe.reason}; expected {2 / robot.period:g} Hz, or gains")


def with_gains(robot: Robot, config: Config, gravity: str, integral: float) -> Robot:
    """The robot, with gains of the hold where its settings had none; the same ones every time.

    Raises ConfigError where it is not simulated, or its joints are too light for its control rate.
    """
    if robot.has_gains:
        return robot
    if not robot.config.simulated:
        raise ConfigError(MISSING)
    alone = Robot(replace(robot.config, objects=())) if robot.objects else robot
    settle_gains(robot, probed(MujocoPlant(alone, config), gravity), gravity, integral)
    return robot


def settle_gains(robot: Robot, found: Found, gravity: str, integral: float) -> None:
    """Give a robot the gains of its hold that suit what pushes have found. Raises ConfigError where none will do."""
    lean = leaning(robot.weight, robot.home) if gravity == "model" else 0.0
    of = gains(found, robot.period, robot.effort_limit, integral, robot.joints, lean)
    if of.problem:
        raise ConfigError(f"robot.period: {of.problem}")
    robot.stiffness, robot.damping, robot.inertia = of.stiffness, of.damping, found.inertia
    robot.deceleration = np.where(np.isfinite(robot.deceleration), robot.deceleration, of.deceleration)
