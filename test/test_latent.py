"""Latent models on pictures of a blob that moves by a linear law, and their parts against what they are made of."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from blobs import STEPS, WIDTH, blobs
from torch.distributions import Normal

from mbrl_ros.config import ConfigError
from mbrl_ros.models import lds
from mbrl_ros.models.latent import LATENTS, Config, Sequences, Solar, predicted_means
from mbrl_ros.models.pictures import Pictures, bright
from mbrl_ros.ring.latent_filter import LatentFilter
from mbrl_ros.types import Picture

PERIOD = 0.02
SMALL = Config(size=2, passes=25, window=STEPS, batch=4, rate=1e-2)


@pytest.fixture(scope="module")
def data():
    return blobs(24, 0)


@pytest.fixture(scope="module", params=LATENTS)
def fitted(request, data):
    model = LATENTS[request.param].of(SMALL, data, np.ones(2), seed=1)
    return model, model.fit(data, seed=1)


def test_derivatives_of_the_encoder_are_those_of_differences():
    torch.manual_seed(0)
    network = Pictures(WIDTH, 1, 3, 3).double()
    seen = torch.rand(2, 1, WIDTH, WIDTH, dtype=torch.float64, requires_grad=True)
    network.fit_units(seen.detach())
    direction, step = torch.randn_like(seen), 1e-6
    with torch.no_grad():
        along = (network.encode(seen + step * direction) - network.encode(seen - step * direction)) / (2 * step)
    for i in range(3):
        slope, = torch.autograd.grad(network.encode(seen)[:, i].sum(), seen)
        assert float((slope * direction).sum()) == pytest.approx(float(along[:, i].sum()), abs=1e-6)


def test_a_width_that_does_not_halve_is_refused():
    with pytest.raises(ConfigError, match=r"multiple of 16 to learn from, got 40"):
        Pictures(40, 1, 3, 3)


def test_it_learns_what_it_sees_how_it_moves_and_how_far_it_is(fitted):
    model, history = fitted
    new = blobs(8, 5)
    assert np.isfinite(history).all() and history[-1] > history[0]
    z = model.filtered(new)
    with torch.no_grad():
        missed = model.pictures.decode(z[..., :2]) - model.pictures.in_units(bright(new.pictures))
        distance = float(model.unit) * model.distance(z).numpy()
    ahead = torch.stack([predicted_means(model, z[i, 2], new.u[i, 2:10])[-1] for i in range(8)])
    assert float(missed.square().mean()) < 0.9  # a mean picture misses by one
    assert np.abs(distance - new.distance).mean() < 0.8 * np.abs(new.distance - new.distance.mean()).mean()
    assert float((ahead - z[:, 10])[:, :2].norm()) < 0.8 * float((z[:, 2] - z[:, 10])[:, :2].norm())


def test_step_by_step_the_filter_believes_the_same(fitted):
    model, _ = fitted
    trial = blobs(1, 7)
    whole, each = model.filtered(trial)[0].numpy(), []
    belief = LatentFilter(model, PERIOD)
    for t in range(STEPS + 1):
        effort = trial.u[0, t - 1] if t else np.zeros(2)
        state = belief.update(Picture(t * round(1e9 * PERIOD), trial.pictures[0, t], effort))
        assert (state.step, state.episode) == (t, 0)
        each.append(state.belief.mean)
    assert np.allclose(each, whole, atol=1e-6)
    late = Picture(state.time, trial.pictures[0, 0], np.zeros(2))
    assert belief.update(late) is None
    state = belief.update(Picture(state.time + round(3e9 * PERIOD), trial.pictures[0, 0], np.zeros(2)))
    assert (state.step, state.episode) == (0, 1) and np.allclose(state.belief.mean, whole[0], atol=1e-6)


def test_the_bound_is_made_of_its_parts(fitted):
    model, _ = fitted
    seen, u, distance = model.tensors(blobs(3, 9))
    with torch.no_grad():
        if isinstance(model, Solar):
            psi = model.potentials(seen[:, 1:])
            q = lds.smooth(model.start, model.belief.expected, u, psi)
            less = lds.divergence(q, psi)
            model._noise.manual_seed(3)
            noise = torch.randn(q.z.mean.shape, generator=model._noise, dtype=torch.float64)
            z = q.z.mean + (torch.linalg.cholesky(q.z.cov) @ noise[..., None])[..., 0]
            model._noise.manual_seed(3)
            assert (less > 0).all()
        else:
            z = model.differences(seen)
            w = torch.cat([z[:, :-1], u, torch.ones(3, STEPS, 1)], -1)
            less = -Normal(w @ model.F.mT, model.log_scale[2].exp()).log_prob(z[:, 1:]).sum((-2, -1))
        wanted = model.pictures.in_units(seen[:, 1:]).double()
        pixels = Normal(model.pictures.decode(z[..., :2]).double(), model.log_scale[0].exp()).log_prob(wanted)
        near = Normal(model.distance(z), model.log_scale[1].exp()).log_prob(distance)
        parts = SMALL.pixel * pixels.sum((1, 2, 3, 4)) + SMALL.far * near.sum(-1) - 0.5 * less
        assert torch.allclose(model.bound(seen, u, distance, 0.5), parts)


def test_the_same_seed_gives_the_same_model(data):
    few = Sequences(*(part[:4] for part in data))
    for kind in LATENTS.values():
        one, two = (kind.of(Config(size=3, passes=2), few, np.ones(2), seed=4) for _ in range(2))
        assert one.fit(few, seed=4) == two.fit(few, seed=4)
        assert torch.equal(one.filtered(few), two.filtered(few))
