"""The same questions to every entry of MODELS."""
from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from arms import make
from checks import check_jacobian
from regressions import coverage, excited_arm, planar_arm, split_blocks

from mbrl_ros.config import find, from_mapping, read, section
from mbrl_ros.models import MODELS
from mbrl_ros.models.dynamics import linearize, predict_mean
from mbrl_ros.models.features import FeatureModel
from mbrl_ros.models.prior import fit, load, prior_of, save
from mbrl_ros.ring.learner import Config as LearnerConfig
from mbrl_ros.ring.learner import features_of, posterior
from mbrl_ros.types import Moments

torch.set_num_threads(1)
SETTINGS = {"ensemble": {"members": 3, "steps": 400}, "network": {"steps": 400}, "bnn": {"steps": 400},
            "pe": {"members": 3, "epochs": 20}, "gp": {"inducing": 64, "steps": 20, "batch": 100}}
QUICK = {"ensemble": {"members": 2, "steps": 20}, "network": {"steps": 20}, "bnn": {"steps": 20},
         "pe": {"members": 2, "epochs": 1}, "gp": {"inducing": 20, "steps": 5, "batch": 50}}
kinds = pytest.mark.parametrize("kind", list(MODELS))


@cache
def model(kind):
    return fit(kind, planar_arm(), SETTINGS, seed=0)


def points(count=6, seed=1):
    """States and efforts from the data, (count, n) and (count, m)."""
    data = planar_arm(400, seed)
    f, k = data.features, len(data.features.reg)
    x = np.zeros((count, f.n))
    x[:, list(f.reg)] = data.w[:count, :k]
    x[:, f.memory] = 1.0
    return torch.as_tensor(x), torch.as_tensor(data.w[:count, k:])


@kinds
def test_means_covariances_and_jacobians_have_their_shapes(kind):
    data, w = planar_arm(), torch.as_tensor(planar_arm().w[:6]).reshape(2, 3, -1)
    y, J = model(kind).jacobian(w)
    p, dw, dy = model(kind).predict(w), data.features.dw, data.features.dy
    assert y.shape == p.mean.shape == model(kind).mean(w).shape == (2, 3, dy)
    assert J.shape == (2, 3, dy, dw) and p.cov.shape == (2, 3, dy, dy)
    assert y.dtype == J.dtype == p.cov.dtype == torch.float64
    assert model(kind).w_scale.shape == (dw,)


@kinds
def test_batch_equals_loop(kind):
    w = torch.as_tensor(planar_arm().w[:6]).reshape(2, 3, -1)
    p, (y, J) = model(kind).predict(w), model(kind).jacobian(w)
    for index in ((0, 1), (1, 2)):
        q, (y1, J1) = model(kind).predict(w[index]), model(kind).jacobian(w[index])
        for a, b in ((p.mean[index], q.mean), (p.cov[index], q.cov), (y[index], y1), (J[index], J1)):
            assert np.allclose(a.numpy(), b.numpy(), atol=1e-10)


@kinds
def test_jacobian_equals_finite_differences(kind):
    w = torch.as_tensor(planar_arm(400, 1).w)
    scale = model(kind).w_scale  # a step of the same size in every unit
    for i in range(4):
        y, J = model(kind).jacobian(w[i])
        assert np.allclose(y.numpy(), model(kind).mean(w[i]).numpy(), atol=1e-10)
        if kind == "nominal":  # its own Jacobian is a one-sided difference, good to about 1e-5
            direction = scale * torch.randn(len(scale), generator=torch.Generator().manual_seed(i),
                                            dtype=torch.float64)
            numeric = (model(kind).mean(w[i] + 1e-5 * direction) - model(kind).mean(w[i] - 1e-5 * direction)) / 2e-5
            assert np.allclose((J @ direction).numpy(), numeric.numpy(), atol=1e-4 * float(numeric.abs().max()))
        else:
            check_jacobian(lambda v, i=i: model(kind).mean(w[i] + scale * v), torch.zeros_like(scale), J * scale)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if hasattr(MODELS[kind], "expand")])
def test_expand_is_predict_and_jacobian(kind):
    """But for the Jacobian of a mixture, whose responsibilities are held there (see test_mixture)."""
    w = torch.as_tensor(planar_arm().w[3])
    (p, J), q = model(kind).expand(planar_arm().w[3]), model(kind).predict(w)
    assert np.allclose(p.mean, q.mean.numpy(), atol=1e-12)
    assert np.allclose(p.cov, q.cov.numpy(), atol=1e-12)
    if kind != "mixture":
        assert np.allclose(J, model(kind).jacobian(w)[1].numpy(), atol=1e-12)


@kinds
def test_covariance_is_positive_definite(kind):
    far = torch.as_tensor(planar_arm().w.mean(0)) + 20 * model(kind).w_scale
    for w in (torch.as_tensor(planar_arm().w[:50]), far):
        cov = model(kind).predict(w).cov
        assert torch.equal(cov, cov.mT) or np.allclose(cov.numpy(), cov.mT.numpy(), atol=1e-12)
        assert torch.linalg.eigvalsh(cov).min() > 0


@pytest.mark.parametrize("kind", ["ensemble", "bnn", "pe", "gp", "nominal"])
def test_it_is_calibrated_on_held_out_blocks_of_time_of_an_excited_arm(kind):
    """Two blocks of 100 transitions in a row, 14 outputs each; neighbours in time err alike."""
    data, fresh = split_blocks(excited_arm())
    settings = {**SETTINGS, "ensemble": {}, "bnn": {}, "pe": {}}
    assert 0.92 < coverage(fit(kind, data, settings, seed=0), fresh).mean() < 0.98


@kinds
def test_fitting_lowers_the_held_out_loss(kind):
    """Mean negative log-likelihood of fresh transitions, against the deviation of the data alone."""
    fresh = planar_arm(400, 1)
    moving = fresh.y.std(0) > 1e-9

    def loss(m):
        p = m.predict(torch.as_tensor(fresh.w))
        d, cov = (fresh.y - p.mean.numpy())[:, moving], p.cov.numpy()[:, moving][:, :, moving]
        return 0.5 * ((d * np.linalg.solve(cov, d[..., None])[..., 0]).sum(-1) + np.linalg.slogdet(cov)[1]).mean()

    if kind != "none":
        assert loss(model(kind)) < loss(model("none")) - 1.0


@kinds
def test_save_and_load_is_the_identity(kind, tmp_path):
    save(model(kind), tmp_path / "model.npz")
    again, w = load(tmp_path / "model.npz", planar_arm().robot), torch.as_tensor(planar_arm().w[:5])
    assert type(again) is type(model(kind))
    p, q = model(kind).predict(w), again.predict(w)
    assert torch.equal(p.mean, q.mean) and torch.equal(p.cov, q.cov) and torch.equal(again.w_scale,
                                                                                     model(kind).w_scale)
    assert [f.name for f in tmp_path.iterdir()] == ["model.npz"]


@kinds
def test_the_same_seed_gives_the_same_model(kind):
    data, w = planar_arm(300, 2), torch.as_tensor(planar_arm().w[:5])
    a, b = (fit(kind, data, QUICK, seed=3).predict(w) for _ in range(2))
    assert torch.equal(a.mean, b.mean) and torch.equal(a.cov, b.cov)


@kinds
def test_as_a_dynamics_model_its_expansion_is_the_model_at_its_point(kind):
    """linearize and predict_mean take it; memory rows are exact; the expansion is the model at its point."""
    features = planar_arm().features
    dynamics, (x, u) = FeatureModel(features, model(kind)), points()
    F = linearize(dynamics, x, u)
    mean = (F.F @ torch.cat([x, u], -1)[..., None])[..., 0] + F.f
    assert np.allclose(mean.numpy(), predict_mean(dynamics, x, u).numpy(), atol=1e-9)
    assert torch.equal(dynamics.mean(x, u)[:, features.memory[: features.m]], u)
    assert not F.Sigma[:, features.memory].any()


@kinds
def test_as_a_prior_its_conditional_is_the_model_at_w(kind):
    """Definite, and, but for `none`, its conditional is the model at w, with its Jacobian (see test_mixture)."""
    data = planar_arm()
    w, d = data.w[7], data.features.dw + data.features.dy
    prior, empty = prior_of(model(kind), {}), Moments(np.zeros(d), np.zeros((d, d)), 0.0)
    local = prior.at(w, empty)
    scale = np.sqrt(np.diag(local.residual.Phi))
    assert np.linalg.eigvalsh(local.residual.Phi / np.outer(scale, scale)).min() > 0
    assert np.allclose(prior.mean(data.w[:9])[7], local.y, atol=1e-9)
    if kind != "none":
        F, f, Sigma = posterior(local, empty, empty.mean, 0.0, scale)
        p, J = model(kind).predict(torch.as_tensor(w)), torch.as_tensor(local.J)
        assert np.allclose(F @ w + f, p.mean.numpy(), atol=1e-6)
        assert np.allclose(F, J.numpy(), atol=1e-5 * float(J.abs().max()))
        assert np.allclose(Sigma, p.cov.numpy(), atol=1e-5 * float(p.cov.abs().max()))
        if kind != "mixture":
            assert np.allclose(local.J, model(kind).jacobian(torch.as_tensor(w))[1].numpy(), atol=1e-9)


@kinds
def test_shipped_settings_are_valid_and_name_the_kind(kind):
    settings = read(find("models", kind))
    assert from_mapping(LearnerConfig, section(settings, "learner"), "learner").prior == kind
    from_mapping(MODELS[kind].Config, section(settings, kind), kind)


@kinds
def test_it_takes_past_efforts_as_regressors(kind):
    """As with a delay: two groups of efforts in w."""
    robot = make("planar2", effort_history=2)
    data, features = planar_arm(300, 2), features_of(robot)
    k = len(data.features.reg)
    efforts = np.random.default_rng(0).standard_normal((300, 2 * robot.m))
    w = np.hstack([data.w[:, :k], efforts, data.w[:, k:]])
    it = fit(kind, type(data)(features, w, data.y, robot), QUICK, 0)
    y, J = it.jacobian(torch.as_tensor(w[0]))
    assert y.shape == (features.dy,) and J.shape == (features.dy, features.dw)
    x = torch.as_tensor(np.hstack([data.w[:1, :k], efforts[:1]]))
    assert FeatureModel(features, it).mean(x, torch.ones(1, 2, dtype=torch.float64)).shape == (1, features.n)
