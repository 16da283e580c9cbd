"""Worlds drawn from models, against what the models say of themselves."""
from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from regressions import planar_arm
from systems import Pendulum, random_dynamics, random_leverage

from mbrl_ros.config import ConfigError
from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.models.features import FeatureModel
from mbrl_ros.models.prior import fit
from mbrl_ros.models.robot_model import RobotModel
from mbrl_ros.models.rollout import WAYS, follow, rollout, stepper, ways_of
from mbrl_ros.types import LinearGaussianDynamics

DRAWS = 20_000
ERRORS = 5  # standard errors of a mean over draws


@cache
def global_model(kind: str) -> FeatureModel:
    """Of the planar arm, over its joint rows."""
    data = planar_arm(400)
    quick = {"ensemble": {"members": 3, "steps": 20}, "gp": {"inducing": 20, "steps": 5, "batch": 50}}
    return FeatureModel(data.features, fit(kind, data, quick, seed=0))


def linear(leverage: bool = False) -> LinearGaussianDynamics:
    """Three states and two efforts; Sigma is singular, as it is where rows are past efforts."""
    model = random_dynamics(3, 2, seed=1)
    root = torch.tensor([[0.2, 0.0, 0.0], [0.1, 0.3, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    return replace(model, Sigma=root @ root.T, leverage=random_leverage(3, 2, seed=2) if leverage else None)


MODELS = {"linear": linear, "cautious": lambda: linear(leverage=True), "pendulum": Pendulum,
          **{kind: lambda kind=kind: global_model(kind) for kind in ("ensemble", "gaussian", "gp", "network")}}


def start(model: Any, batch: tuple[int, ...] = (), T: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """x0 (*b, n) and u (*b, T, m) in the range of the model."""
    g = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    if isinstance(model, FeatureModel):
        data = planar_arm(400)
        x0 = torch.zeros(*batch, data.features.n, dtype=torch.float64)
        x0[..., list(data.features.reg)] = torch.as_tensor(data.w[:, :-2].mean(0)) + 0.1 * draw(*batch, 4)
        return x0, draw(*batch, T, data.features.m)
    n, m = (model.F.shape[0], 2) if isinstance(model, LinearGaussianDynamics) else (2, 1)
    return draw(*batch, n), draw(*batch, T, m)


@pytest.mark.parametrize("name", MODELS)
def test_following_the_mean_is_the_rollout_step_by_step(name: str) -> None:
    model = MODELS[name]()
    x0, u = start(model, (5,))
    x = follow(stepper(model, "mean"), x0, u)
    assert x.shape == (5, 5, x0.shape[-1])
    for t in range(4):
        assert torch.allclose(x[:, t + 1], predict_mean(model, x[:, t], u[:, t]), rtol=0, atol=1e-12)
    assert torch.allclose(rollout(model, x0, u), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_candidates_share_a_start(name: str) -> None:
    model = MODELS[name]()
    x0, u = start(model, (5,))
    together = rollout(model, x0[0], u)
    for i in range(5):
        assert torch.allclose(together[i], rollout(model, x0[0], u[i]), rtol=1e-12, atol=1e-12)


def test_a_linear_rollout_in_numpy_is_that_in_torch() -> None:
    model = linear()
    x0, u = start(model, (5,))
    in_numpy = LinearGaussianDynamics(model.F.numpy(), model.f.numpy(), model.Sigma.numpy())
    x = rollout(in_numpy, x0.numpy(), u.numpy())
    assert isinstance(x, np.ndarray) and np.allclose(x, rollout(model, x0, u).numpy(), rtol=1e-12, atol=1e-12)
    varying = LinearGaussianDynamics(*(np.stack([a] * 4) for a in (in_numpy.F, in_numpy.f, in_numpy.Sigma)))
    assert np.allclose(rollout(varying, x0[0].numpy(), u[0].numpy()), x[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "pendulum"])
def test_samples_have_the_mean_and_the_covariance_that_the_model_predicts(name: str) -> None:
    """Within so many standard errors, for every entry: var of a sample covariance is (S_ii S_jj + S_ij^2) / N."""
    model = MODELS[name]()
    x0, u = start(model)
    x, u = x0.expand(DRAWS, -1), u[0].expand(DRAWS, -1)
    drawn = stepper(model, "sample", seed=1)(x, u)
    mean, cov = predict_mean(model, x0, u[0]), covariance(model, x0, u[0])
    sd = cov.diagonal().sqrt()
    assert bool(((drawn.mean(0) - mean).abs() <= ERRORS * sd / DRAWS**0.5 + 1e-12).all())
    found = torch.cov(drawn.T)
    error = ((torch.outer(sd, sd) ** 2 + cov**2) / DRAWS).sqrt()
    assert bool(((found - cov).abs() <= ERRORS * error + 1e-12).all())
    again, other = (stepper(model, "sample", seed=seed)(x, u) for seed in (1, 2))
    assert torch.equal(again, drawn) and not torch.equal(other, drawn)


def covariance(model: Any, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Of x' (n, n), as the type says it."""
    if not isinstance(model, LinearGaussianDynamics):
        cov: torch.Tensor = model.predict(x, u).cov
        return cov
    h = torch.cat([torch.ones(1, dtype=x.dtype), x, u])
    return model.Sigma if model.leverage is None else (1 + h @ model.leverage @ h) * model.Sigma


def test_a_model_without_noise_has_samples_without_noise() -> None:
    x0, u = start(Pendulum(), (7,))
    assert torch.equal(follow(stepper(Pendulum(), "sample"), x0, u), rollout(Pendulum(), x0, u))


@pytest.mark.parametrize("P", [1, 3, 4, 7])
def test_a_particle_follows_its_member_exactly(P: int) -> None:
    """Particle i follows member i mod E all the way, whichever candidates (further axes) are beside it."""
    model = global_model("ensemble")
    E = model.regression.count
    x0, u = start(model, (P, 2), T=6)
    x = follow(stepper(model, "member"), x0, u)
    for i in range(P):
        alone = replace(model, regression=_Only(model.regression, i % E))
        assert torch.allclose(x[i], rollout(alone, x0[i], u[i]), rtol=0, atol=1e-12)


class _Only:
    """One member of an ensemble."""

    def __init__(self, ensemble: Any, index: int) -> None:
        self._ensemble, self._index = ensemble, index

    def mean(self, w: torch.Tensor) -> torch.Tensor:
        """See Regression."""
        member: torch.Tensor = self._ensemble.members(w)[self._index]
        return member


def test_members_are_dealt_anew_at_every_step_and_each_as_often() -> None:
    model = global_model("ensemble")
    E, P, T = model.regression.count, 6, 40
    x0, u = start(model)
    step, turns = stepper(model, "resample", seed=5), []
    members = torch.stack([replace(model, regression=_Only(model.regression, e)).mean(x0, u[0]) for e in range(E)])
    for _ in range(T):
        x = step(x0.expand(P, -1), u[0].expand(P, -1))
        turns.append((x[:, None] - members).abs().sum(-1).argmin(1))
        assert torch.allclose(x, members[turns[-1]], rtol=0, atol=1e-12)
        assert torch.equal(turns[-1].bincount(minlength=E), torch.full((E,), P // E))
    assert all(len(set(column.tolist())) == E for column in torch.stack(turns).T)  # nobody keeps a member
    again = stepper(model, "resample", seed=5)
    x = again(x0.expand(P, -1), u[0].expand(P, -1))
    assert torch.allclose(x, members[turns[0]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_cannot_do_is_refused_with_what_it_can(name: str) -> None:
    model = MODELS[name]()
    able = WAYS if name in ("ensemble", "network") else WAYS[:2]
    assert tuple(ways_of(model)) == able
    for way in {*WAYS, "median"} - {*able}:
        with pytest.raises(ConfigError, match=f"'{way}': .*choose one of {', '.join(able)}$"):
            stepper(model, way)


def test_samples_of_a_robot_keep_its_kinematics() -> None:
    """The tool is where the drawn joints put it, and efforts are remembered as they were."""
    robot, joints = planar_arm(400).robot, global_model("ensemble")
    assert robot is not None
    model = RobotModel(robot, joints.features, joints.regression)
    x0 = torch.zeros(robot.n, dtype=torch.float64)
    x0[:2] = torch.as_tensor(robot.home)
    for way in WAYS:
        x, u = x0.expand(6, -1), torch.ones(6, 2, dtype=torch.float64)
        after = stepper(model, way, seed=1)(x, u)
        for row in after.numpy():
            assert np.allclose(row[4:10], robot.kinematics(row[:2], row[2:4])[0], atol=1e-12)
        assert torch.equal(after[:, robot.slice("effort/1")], u)
        assert (len(after.unique(dim=0)) > 1) == (way != "mean")
