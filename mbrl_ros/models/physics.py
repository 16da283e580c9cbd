"""MuJoCo itself as a model: the oracle, and the physics of a data sheet as a prior.

One control period holds the effort and integrates period / timestep substeps:
    [q'; qd'] = phi(q, qd, u),   p' = site(q'),   v' = J(q') qd'.
dphi is a one-sided difference over the whole period without dry friction, all columns as one batch of rollouts; the
kinematic rows follow by the chain rule.
p and v of x are not used: they are functions of q and qd. Efforts act as generalized forces on the joints
(qfrc_applied), so that any model file will do, with or without actuators.
"""
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from jaxtyping import Float
from mujoco import rollout
from torch import Tensor

from mbrl_ros.config import ConfigError, param
from mbrl_ros.models.features import Data, Features, scale_of
from mbrl_ros.models.identify import Estimate, identify, runs_of
from mbrl_ros.models.inverse_dynamics import Parameters
from mbrl_ros.models.noise import shrunk_covariance
from mbrl_ros.robot import Robot, addresses, load_model
from mbrl_ros.types import Array, Gaussian

# Truncation is of order EPS times curvature, rounding 1e-16 / EPS: both far below what a controller notices.
EPS = 1e-6
FULL = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)


class PhysicsModel:
    """x' of a robot by its MuJoCo model; a DynamicsModel, and the oracle where `model` is the plant's own.

    `model` is used, not copied: change it (set_payload) and the next call sees it. `delay` counts the control periods
    after which an effort acts: with delay d the effort of lag d in x acts now. The noise is zero unless given. `gain`
    (m,) is what the motors give of what they are asked for. `rest` is the state of whatever is not a joint of the
    robot, as mj_getState gives it.
    """

    def __init__(self, robot: Robot, model: mujoco.MjModel, delay: int = 0, noise: Array | None = None,
                 gain: Array | None = None):
        if robot.objects:
            raise ConfigError(f"robot.objects: expected none for physics as a model, which is of the arm alone, got "
                              f"{', '.join(robot.objects)}")
        self.robot, self.model, self.delay = robot, model, delay
        self.substeps = round(robot.step / model.opt.timestep)
        if self.substeps < 1 or abs(self.substeps * model.opt.timestep - robot.step) > 1e-9:
            raise ConfigError(f"robot.period: expected a multiple of the timestep {model.opt.timestep} s")
        if not 0 <= delay <= robot.history:
            raise ConfigError(f"delay: expected 0 to {robot.history} (robot.effort_history), got {delay}")
        self.noise = np.zeros((robot.n, robot.n)) if noise is None else noise  # (n, n)
        self._data = mujoco.MjData(model)
        self.gain = np.ones(robot.m) if gain is None else gain
        self.rest = full_state(model, self._data)
        self._qpos, self._dofs = addresses(model, robot.joints)
        self._effort_row = None if delay == 0 else robot.slice(f"effort/{delay}")
        self._motion = robot.slice("motion").stop  # rows of x that are not past efforts

    def step(self, q: Float[Array, "*b m"], qd: Float[Array, "*b m"],
             u: Float[Array, "*b m"]) -> tuple[Float[Array, "*b m"], Float[Array, "*b m"]]:
        """q', qd' (*b, m) after one step with the effort u (*b, m) held."""
        shape, m = np.shape(q), self.robot.m
        q, qd, u = (np.broadcast_to(a, shape).reshape(-1, m) for a in (q, qd, u))
        start = np.tile(self.rest, (len(q), 1))  # [time, qpos, qvel, act]
        qpos, qvel = 1 + self._qpos, 1 + self.model.nq + self._dofs
        start[:, qpos], start[:, qvel] = q, qd
        force = np.zeros((len(q), 1, self.model.nv))
        force[:, 0, self._dofs] = self.gain * u
        states, _ = rollout.rollout(self.model, self._data, start, force, nstep=self.substeps,
                                    control_spec=int(mujoco.mjtState.mjSTATE_QFRC_APPLIED))
        end = states[:, -1]
        return end[:, qpos].reshape(shape), end[:, qvel].reshape(shape)

    def linearize_step(self, q: Float[Array, " m"], qd: Float[Array, " m"],
                       u: Float[Array, " m"]) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, "k d"]]:
        """q', qd' (m,) and their derivative (2m, 3m) by [q; qd; u], at one point.

        The derivative is that without dry friction: with it, a joint at rest does not answer to small efforts at all,
        and a planner that believes so asks for large ones the moment it slips.
        """
        m, s = self.robot.m, np.concatenate([q, qd, u])
        points = s + EPS * np.vstack([np.zeros(3 * m), np.eye(3 * m)])  # (3m + 1, 3m)
        q_next, qd_next = self.step(q, qd, u)
        friction = self.model.dof_frictionloss.copy()
        self.model.dof_frictionloss[:] = 0.0
        try:
            ends = np.hstack(self.step(points[:, :m], points[:, m : 2 * m], points[:, 2 * m :]))  # (3m + 1, 2m)
        finally:
            self.model.dof_frictionloss[:] = friction  # the model may be the plant's own
        return q_next, qd_next, (ends[1:] - ends[0]).T / EPS

    def linearize_numpy(self, x: Float[Array, " n"], u: Float[Array, " m"]) -> tuple[Float[Array, " n"],
                        Float[Array, "n xu"]]:
        """x' (n,) and F = dx'/d[x; u] (n, n + m) at one point; the columns of p and v are zero."""
        robot, m, n, k = self.robot, self.robot.m, self.robot.n, self._motion
        acting, column = self._acting(x, u), n if self._effort_row is None else self._effort_row.start
        q, qd, D = self.linearize_step(x[:m], x[m : 2 * m], acting)
        sites, tangent = robot.kinematics(q, qd)
        G = np.vstack([np.eye(2 * m), tangent])
        F = np.zeros((n, n + m))
        chain = G @ D  # (k, 3m)
        F[:k, : 2 * m], F[:k, column : column + m] = chain[:, : 2 * m], chain[:, 2 * m :]
        lags = np.arange(n - k)
        F[k + lags, np.where(lags < m, n + lags, k + lags - m)] = 1.0
        return np.concatenate([q, qd, sites, u, x[robot.slice("effort")][:-m]]), F

    def mean(self, x: Tensor, u: Tensor) -> Tensor:
        """x' (*b, n); not differentiable by torch, see `jacobian`."""
        m, states, efforts = self.robot.m, x.detach().cpu().numpy(), u.detach().cpu().numpy()
        q, qd = self.step(states[..., :m], states[..., m : 2 * m], self._acting(states, efforts))
        sites = [self.robot.kinematics(*pair)[0] for pair in zip(q.reshape(-1, m), qd.reshape(-1, m), strict=True)]
        memory = np.concatenate([efforts, states[..., self._motion : self.robot.n - m]], -1)
        result = np.concatenate([q, qd, np.reshape(sites, (*q.shape[:-1], -1)), memory], -1)
        return torch.as_tensor(result, dtype=x.dtype, device=x.device)

    def jacobian(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """x' (*b, n) and F (*b, n, n + m)."""
        n, m, batch = self.robot.n, self.robot.m, x.shape[:-1]
        states, efforts = x.detach().cpu().numpy().reshape(-1, n), u.detach().cpu().numpy().reshape(-1, m)
        pairs = [self.linearize_numpy(*pair) for pair in zip(states, efforts, strict=True)]
        means, matrices = (torch.as_tensor(np.stack(a), dtype=x.dtype, device=x.device)
                           for a in zip(*pairs, strict=True))
        return means.reshape(*batch, n), matrices.reshape(*batch, n, n + m)

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """Gaussian over x'."""
        cov = torch.as_tensor(self.noise, dtype=x.dtype, device=x.device)
        return Gaussian(self.mean(x, u), cov.expand(*x.shape[:-1], -1, -1))

    def _acting(self, x: Array, u: Array) -> Array:
        return u if self._effort_row is None else x[..., self._effort_row]


def full_state(model: mujoco.MjModel, data: mujoco.MjData) -> Array:
    """[time, qpos, qvel, act]."""
    state = np.empty(mujoco.mj_stateSize(model, FULL))
    mujoco.mj_getState(model, data, state, FULL)
    return state


@dataclass(frozen=True)
class Nominal:
    """Wrong physics as a regression on w, which must hold the fitted rows; R is fitted, and masses, damping, friction
    and payload are where `identify` is on."""

    bends = False  # see assembly: torch finds no derivatives of MuJoCo's steps

    @dataclass(frozen=True)
    class Config:
        """Parameters `nominal.*`: how wrong the data sheet is."""

        error: float = param(0.3, "Link masses and joint damping are scaled by 1 - error to 1 + error at random",
                             0.0, 0.95)
        seed: int = param(0, "Seed of the scaling", 0)
        gravity_compensation: bool = param(True, "Keep the gravity compensation of the model file")
        delay: int = param(0, "Control periods after which an effort acts", 0, 5)
        identify: bool = param(False, "Estimate masses, damping, dry friction and payload from the motion")
        deviation: float = param(0.3, "Relative standard deviation of masses and damping on the data sheet, for "
                                 "identify", 1e-3, 10.0)
        payload_deviation: float = param(1.0, "Standard deviation of the payload before the motion is known, for "
                                         "identify; 0: the hand is known to be empty [kg]", 0.0, 100.0)

    features: Features
    physics: PhysicsModel
    config: Config
    R: Tensor  # (dy, dy)
    w_scale: Tensor  # (dw,)
    estimate: Estimate | None = None  # of the parameters that `physics` has

    @classmethod
    def fit(cls, data: Data, config: Config, seed: int) -> Nominal:
        """The noise is fitted, and the physics where asked for. `seed` is not used: config.seed belongs to the robot.
        """
        physics, estimate = nominal_physics(data.robot, config), None
        if config.identify:
            robot = physics.robot
            estimate = identify(robot, physics.model, runs_of(data, robot, config.delay), config.deviation,
                                config.payload_deviation)
            estimate.parameters.apply(robot, physics.model)
        w_scale = torch.as_tensor(scale_of(data.w)[1])
        unit = torch.eye(data.features.dy, dtype=torch.float64)
        model = cls(data.features, physics, config, unit, w_scale)
        residual = data.y - model.mean(torch.as_tensor(data.w)).numpy()
        R = torch.as_tensor(shrunk_covariance(residual, data.y))
        return cls(data.features, physics, config, R, w_scale, estimate)

    def mean(self, w: Tensor) -> Tensor:
        """(*b, dw) -> (*b, dy)."""
        z, x, u = self._state(w)
        return self.features.y(z, self.physics.mean(x, u)[..., self.physics.robot.joint_rows])

    def jacobian(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """(*b, dy) and (*b, dy, dw)."""
        (z, x, u), f, robot = self._state(w), self.features, self.physics.robot
        x_next, F = self.physics.jacobian(x, u)
        rows = robot.joint_rows
        F = F[..., rows[list(f.fit)], :][..., [*rows, *range(robot.n, robot.n + robot.m)]]
        F[..., list(f.fit)] -= torch.eye(f.dy, dtype=F.dtype)
        return f.y(z, x_next[..., rows]), F[..., [*f.reg, *range(f.n, f.n + f.m)]]

    def predict(self, w: Tensor) -> Gaussian:
        """Gaussian over y."""
        mean = self.mean(w)
        return Gaussian(mean, self.R.expand(*mean.shape[:-1], -1, -1))

    def _state(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Joint rows z, x without its sites, which physics does not read, and u."""
        f, robot = self.features, self.physics.robot
        z, x = w.new_zeros(*w.shape[:-1], f.n), w.new_zeros(*w.shape[:-1], robot.n)
        z[..., list(f.reg)] = w[..., : len(f.reg)]
        x[..., robot.joint_rows] = z
        return z, x, w[..., len(f.reg) :]

    def arrays(self) -> dict[str, Array]:
        """What load() needs beside the robot."""
        f, c, e = self.features, self.config, self.estimate
        found = {} if e is None else {"theta": e.parameters.theta, "theta_cov": e.cov, "theta_sheet": e.sheet,
                                      "theta_deviation": e.deviation, "effort_delay": e.delay}
        return {"reg": np.array(f.reg), "fit": np.array(f.fit), "size": np.array([f.n, f.m]),
                "R": self.R.numpy(), "w_scale": self.w_scale.numpy(), "error": np.array(c.error),
                "integers": np.array([c.seed, c.gravity_compensation, c.delay]), **found}

    @classmethod
    def from_arrays(cls, a: dict[str, Array], robot: Robot | None) -> Nominal:
        """The inverse of `arrays`."""
        seed, gravity_compensation, delay = (int(i) for i in a["integers"])
        config = cls.Config(float(a["error"]), seed, bool(gravity_compensation), delay, "theta" in a)
        features = Features(tuple(map(int, a["reg"])), tuple(map(int, a["fit"])), *map(int, a["size"]))
        physics, estimate = nominal_physics(robot, config), None
        if config.identify:
            parameters = Parameters.of(physics.robot, physics.model).with_theta(a["theta"])
            parameters.apply(physics.robot, physics.model)
            estimate = Estimate(parameters, a["theta_cov"], a["theta_sheet"], a["theta_deviation"],
                                a["effort_delay"])
        return cls(features, physics, config, torch.as_tensor(a["R"]), torch.as_tensor(a["w_scale"]), estimate)


def nominal_physics(robot: Robot | None, config: Nominal.Config) -> PhysicsModel:
    """The robot's model with scaled masses and damping, without dry friction."""
    if robot is None:
        raise ConfigError("nominal: this prior needs the robot's model file")
    model = load_model(robot.config, masses=True)
    if not config.gravity_compensation:
        model.body_gravcomp[:] = 0.0
    rng = np.random.default_rng(config.seed)
    mass = 1 + config.error * rng.uniform(-1, 1, model.nbody)
    model.body_mass[:] *= mass
    model.body_inertia[:] *= mass[:, None]
    model.dof_frictionloss[:] = 0.0  # no data sheet has it, and its derivative is a step
    model.dof_damping[:] *= 1 + config.error * rng.uniform(-1, 1, model.nv)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return PhysicsModel(robot, model, config.delay)
