"""AMPO: distances between features, that adaptation makes them less and leaves the output layer, and what it is for."""
from __future__ import annotations

import pytest
import torch
from test_steps import MODEL, QUICK, Point, lived_through

from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers.ampo import ENCODER, Ampo, Settings, features, mmd


def learner(**own):
    of = lived_through(Ampo(Point(), QUICK, Settings(rollouts=200, longest=5, shortest=5, pairs=64, **own), 0, MODEL),
                       300)
    of.fit()
    return of


def encoder(model):
    return {name: getattr(model, name).float() for name in ENCODER}


def apart(of, model):
    """MMD between features of real and imagined transitions."""
    torch.manual_seed(0)
    both = [((w - model.w_mean) / model.w_scale).float().expand(2, -1, -1)[:, :200]
            for w in (of._real(), of._imagined())]
    return mmd(*(features(encoder(model), w) for w in both)).item()


def test_the_same_features_are_no_distance_apart_and_moved_ones_are():
    h = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    assert mmd(h, h).item() == pytest.approx(0.0, abs=1e-5)
    near, far = mmd(h, h + 0.5).item(), mmd(h, h + 2.0).item()
    assert 0.0 < near < far


def test_features_are_those_from_which_the_model_predicts():
    of = learner()
    model = of.regression
    w = of._real()[:20]
    h = features(encoder(model), ((w - model.w_mean) / model.w_scale).float().expand(2, -1, -1))
    scaled = torch.baddbmm(model.b_out[:, None, :1], h.double(), model.W_out[:, :1].mT)
    linear = ((w - model.w_mean) / model.w_scale).expand(2, -1, -1) @ model.A.mT
    said = model.y_mean + model.y_scale * (scaled + linear)
    torch.testing.assert_close(said, model.each(w.expand(2, *w.shape)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("distance", ["wasserstein", "mmd"])
def test_adaptation_brings_features_together_and_moves_nothing_else(distance):
    of = learner(distance=distance, adapted=60, learning_rate=1e-3)
    of.starts = lambda: torch.full((200, 1), 0.8).double()  # where it was seldom
    before = of.regression
    of.adapt()
    after = of.regression
    assert apart(of, after) < 0.8 * apart(of, before)
    for name in ("A", "W_out", "b_out", "high", "low", "w_mean", "y_scale"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    again = ProbabilisticEnsemble.fit(of.known.data(*of.lived()), MODEL, 0, after)  # goes on from these weights
    assert again.W_in.shape == before.W_in.shape


def test_the_slope_of_a_linear_critic_is_known():
    of = learner()
    of.critic = lambda h: 3.0 * h[..., :1]
    h = torch.randn(2, 10, 16)
    assert of._slope(h, h + 1.0).item() == pytest.approx(2 * 4.0)


def test_there_is_none_after_its_time():
    of = learner(until=100)
    before = of.regression
    of.imagine()
    assert of.regression is before
