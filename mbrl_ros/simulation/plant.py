"""The simulated robot: what an arm behind joint_states and effort commands does, one control period at a time.

The sensors are those of a real arm: an encoder with noise at every simulation step, and a velocity that is the filtered
difference of encoder readings, hence noisy and late by some milliseconds. A low-pass disturbance torque acts on every
joint. Objects that the robot observes are seen by sensors of the same kind. What else may differ from the model file is
in world.py, and may change at any time. Stamps never run backwards: a reset advances the clock by two periods
(docs/design.md, "Time").
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from mbrl_ros.config import param
from mbrl_ros.robot import Robot, addresses, set_payload
from mbrl_ros.simulation import world as worlds
from mbrl_ros.simulation.drive import Drive
from mbrl_ros.simulation.rotors import own_inertia
from mbrl_ros.simulation.world import World
from mbrl_ros.types import Array, Observation

LIVELY = 400.0  # [rad/s^2 or m/s^2] that a drive gives its joint at most: a lighter one has no such drive, or a rotor
ROUNDING = 1e-9  # [effort limit] of a weight that is carried


@dataclass(frozen=True)
class Config:
    """Parameters `plant.*` of the simulation."""

    seed: int = param(0, "Seed of sensor noise and disturbance", 0)
    pace: str = param("realtime", "lockstep: step on each command; realtime: step on a timer",
                      choices=("lockstep", "realtime"))
    timeout: float = param(0.1, "Without a command for this long: re-send the state (lockstep), zero effort (realtime) "
                           "[s]", 0.001, 10.0)
    gravity_compensation: bool = param(True, "Keep the gravity compensation of the model file")
    encoder_noise: float = param(1e-4, "Standard deviation of one encoder sample [rad or m]", 0.0, 0.1)
    velocity_bandwidth: float = param(30.0, "Of the velocity filter of the robot [Hz]", 0.1, 1000.0)
    disturbance: float = param(0.005, "Standard deviation of the disturbance, relative to the effort limit, or to what "
                               f"moves the joint alone at {LIVELY:g} rad/s^2 where that is less", 0.0, 1.0)
    disturbance_bandwidth: float = param(2.0, "[Hz]", 0.01, 100.0)
    payload: float = param(0.0, "Mass in the hand [kg]", 0.0, 20.0, live=True)


class MujocoPlant:
    """MuJoCo behind `reset` and `step`."""

    def __init__(self, robot: Robot, config: Config, world: World | None = None):
        self.robot, self.config = robot, config
        self._disturbed = config.disturbance * np.minimum(robot.effort_limit, LIVELY * own_inertia(robot))
        self._commands: deque[Array] = deque(maxlen=worlds.LONGEST_DELAY + 2)  # one per period, newest last
        self._enter(world or World(payload=config.payload, gravity_compensation=config.gravity_compensation))
        self._time = 0
        self.reset(config.seed)

    def _enter(self, world: World) -> None:
        """Be in a world, with joints at rest at zero."""
        self._rigid: mujoco.MjModel | None = None
        self.world, self.gain = world, worlds.motor_gain(self.robot, world)
        self.model = worlds.build(self.robot, world)  # its own: the payload changes it
        self.data, self._seen = mujoco.MjData(self.model), mujoco.MjData(self.model)
        self._qpos, self._dofs = addresses(self.model, self.robot.joints)
        self.drive = Drive(self.robot, world, self.model)
        self._objects = worlds.objects(self.robot, self.model)
        self._sensed = np.concatenate([self.drive.sensed, self._objects[0]])
        self.substeps = round(self.robot.period / self.model.opt.timestep)

    def change(self, world: World) -> None:
        """Be in another world from the next period on. Joints move on as they did; a new load hangs at rest."""
        model, data, elastic = self.model, self.data, self.drive.elastic
        self._enter(world)
        worlds.move_over(model, data, self.model, self.data)
        if not elastic:
            self.drive.settle(self.data)

    def rigid(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Model and state of the same world without elastic joints: the arm that a controller without a rotor in its
        state can know of."""
        if not self.drive.elastic:
            return self.model, self.data
        if self._rigid is None:
            self._rigid = worlds.build(self.robot, replace(self.world, windup=0.0))
        data = mujoco.MjData(self._rigid)
        worlds.move_over(self.model, self.data, self._rigid, data)
        return self._rigid, data

    def set_payload(self, mass: float) -> None:
        """Put a mass [kg] into the hand, from the next period on."""
        self.world, self._rigid = replace(self.world, payload=mass), None
        set_payload(self.model, mass)

    def reset(self, seed: int) -> Observation:
        """At rest at home, two periods later than the last stamp, as if the effort that takes had acted; objects are
        where they begin."""
        self._rng = np.random.default_rng(seed)
        self._drive_rng = np.random.default_rng([seed, 1])  # so that other readings do not change other noise
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._qpos] = self.robot.home
        mujoco.mj_forward(self.model, self.data)
        self.drive.settle(self.data)
        worlds.hang(self.model, self.data)
        k = len(self._sensed)
        carried = self.drive.carried(self.data)
        carried = np.where(np.abs(carried) > ROUNDING * self.robot.effort_limit, carried, 0.0)
        held = np.clip(carried, -self.robot.effort_limit, self.robot.effort_limit)
        self._commands.extend([held] * (worlds.LONGEST_DELAY + 2))
        self._disturbance = self._stationary_disturbance()
        self._encoder = self._measure(self.data.qpos[self._sensed][None])[0]
        self._velocity = np.zeros(k)
        self._time += 2 * round(self.robot.period * 1e9)
        return Observation(self._time, self._encoder.copy(), np.zeros(k), held)

    def step(self, effort: Array, fraction: float = 0.0, previous: Array | None = None) -> Observation:
        """Hold `effort` (m,) [N m or N], clamped to the limits, for one control period.

        With `fraction` > 0 the first part of the period still has the effort `previous` (a command that came late).
        The observation reports the mean of what acted, as the drives know it, with the errors of their readings: a
        delay counts, a weak motor does not. Where a joint state is lost in this world, nobody answers it: the effort is
        held for one more period, and the observation is the one after it.
        Raises ValueError for a wrong size or a value not finite.
        """
        if np.shape(effort) != (self.robot.m,) or not np.isfinite(effort).all():
            raise ValueError(f"effort: expected {self.robot.m} finite values, got {effort}")
        observation = self._period(effort, fraction, previous)
        while self.world.lost and self._drive_rng.random() < self.world.lost:
            observation = self._period(effort, 0.0, None)
        return observation

    def _period(self, effort: Array, fraction: float, previous: Array | None) -> Observation:
        robot, delay, drive = self.robot, self.world.delay, self.drive
        self._commands.append(np.clip(effort, -robot.effort_limit, robot.effort_limit))
        command = self._commands[-1 - delay]
        before = previous if delay == 0 and previous is not None else self._commands[-2 - delay]
        late = fraction if previous is not None else 0.0
        if self.world.jitter:
            late = min(1.0, late + self.world.jitter * self._drive_rng.random())
        early = round(late * self.substeps)
        positions, acted = np.empty((self.substeps, len(self._sensed))), np.zeros(robot.m)
        transmitted = np.zeros(robot.m)
        constant = self.world.torque_offset * robot.effort_limit
        for i in range(self.substeps):
            now = before if i < early else command
            acted += now
            drive.act(self.data, self.gain * now + self._disturbance + constant)
            mujoco.mj_step(self.model, self.data)
            positions[i] = self.data.qpos[self._sensed]
            if self.world.reading_link:
                transmitted += drive.transmitted(self.data)
            self._disturb()
        self._sense(positions)
        self._time += round(robot.period * 1e9)
        felt = (transmitted if self.world.reading_link else acted) / self.substeps
        reported = worlds.reading(robot, self.world, felt, positions[-1, : robot.m], self._drive_rng)
        return Observation(self._time, self._encoder.copy(), self._velocity.copy(), reported)

    def true_state(self) -> tuple[Array, Array]:
        """Joint positions and velocities without sensors, for evaluation only."""
        return self.data.qpos[self._qpos].copy(), self.data.qvel[self._dofs].copy()

    def true_objects(self) -> tuple[Array, Array]:
        """Positions and velocities (k,) of what the robot observes beside itself, for evaluation only."""
        return self.data.qpos[self._objects[0]].copy(), self.data.qvel[self._objects[1]].copy()

    def true_tool(self) -> Array:
        """Position (3,) of the first site [m], for evaluation only."""
        self._seen.qpos[:] = self.data.qpos
        mujoco.mj_kinematics(self.model, self._seen)
        tool: Array = self._seen.site(self.robot.sites[0]).xpos.copy()
        return tool

    def _measure(self, positions: Array) -> Array:
        seen = positions + self.world.noise * self.config.encoder_noise * self._rng.standard_normal(positions.shape)
        quantum = self.world.quantum
        return quantum * np.round(seen / quantum) if quantum else seen

    def _sense(self, positions: Array) -> None:
        """Encoder and filtered difference over the timesteps of one period; positions (substeps, k)."""
        dt = self.model.opt.timestep
        gain = 1.0 - np.exp(-2 * np.pi * self.config.velocity_bandwidth * dt)
        readings = self._measure(positions)
        for difference in np.diff(np.vstack([self._encoder, readings]), axis=0) / dt:
            self._velocity += gain * (difference - self._velocity)
        self._encoder = readings[-1]

    def _stationary_disturbance(self) -> Array:
        return self._disturbed * self._rng.standard_normal(self.robot.m)

    def _disturb(self) -> None:
        """First-order low-pass noise with the stated standard deviation."""
        keep = np.exp(-2 * np.pi * self.config.disturbance_bandwidth * self.model.opt.timestep)
        self._disturbance = keep * self._disturbance + np.sqrt(1 - keep**2) * self._stationary_disturbance()
