"""Errors of gradients by a learned model: with a model that is right there are none, and without they grow."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mbrl_ros.trainers import gradient_errors as study
from mbrl_ros.trainers.compared import Curve
from mbrl_ros.trainers.network import PolicyNetwork


class Right:
    """A regression that knows the pendulum, with members that say it is less certain than it could be."""

    count = 2

    def __init__(self, known):
        self.known = known

    def member(self, i):
        return self

    def outcomes(self, w):
        angle, speed, a = torch.atan2(w[..., 0], w[..., 2]), w[..., 1], w[..., 3:]
        after = self.known.after(torch.stack([angle, speed], -1), a)
        change = after - torch.stack([angle, speed], -1)
        return change, torch.full_like(change, 1e-9)


def policy_of(known, x):
    made = PolicyNetwork(known.seen(torch.as_tensor(x)).shape[-1], known.m, 8, 0)
    with torch.no_grad():
        made.A += 0.5 * torch.randn(made.A.shape, generator=torch.Generator().manual_seed(1), dtype=made.A.dtype)
    return made


@pytest.mark.parametrize("way", [study.ALONG, study.IMAGINED])
def test_by_a_model_that_is_right_both_ways_are_the_true_gradient(way):
    known, x, _, _ = study._lived(0)
    order = known.model(None).w(torch.tensor([[0.3, 2.0]]).double(), torch.tensor([[0.5]]).double())[0]
    assert torch.allclose(order, torch.tensor([np.sin(0.3), 2.0, np.cos(0.3), 0.5]).double())  # as Right takes it
    generator = torch.Generator().manual_seed(0)
    eta = torch.randn(10, 5, 1, generator=generator, dtype=torch.float64)
    true, found = study.gradients(way, known, Right(known), policy_of(known, x), torch.as_tensor(x[:5]), eta, generator)
    assert torch.linalg.vector_norm(true) > 1e-3
    assert torch.allclose(true, found, rtol=1e-4, atol=1e-5)


def test_the_true_gradient_is_that_of_finite_differences():
    known, x, _, _ = study._lived(1)
    policy, z = policy_of(known, x), torch.as_tensor(x[:4])
    eta = torch.randn(6, 4, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value():
        at, total = z, 0.0
        with torch.no_grad():
            for t in range(len(eta)):
                a = (policy(known.seen(at)) + study.EXPLORE * eta[t]).tanh()
                at = known.after(at, a)
                total = total + study.GAMMA**t * known.reward(at, a).mean()
        return float(total)

    true, _ = study.gradients(study.ALONG, known, Right(known), policy, z, eta, torch.Generator())
    names = [name for name, p in policy.named_parameters() for _ in range(p.numel())]
    first, h = names.index("A"), 1e-6
    with torch.no_grad():
        policy.A[0, 0] += h
        above = value()
        policy.A[0, 0] -= 2 * h
        below = value()
    assert float(true[first]) == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-7)


def test_errors_grow_with_the_horizon_and_the_same_seed_gives_the_same(monkeypatch):
    monkeypatch.setattr(study, "HORIZONS", (1, 20))
    monkeypatch.setattr(study, "STEPS", 300)
    found = {way: study.errors(way)(100) for way in (study.ALONG, study.IMAGINED)}
    for curve in found.values():
        assert isinstance(curve, Curve) and curve.steps == [1, 20] and 0 < -curve.returns[0] < -curve.returns[1]
    assert study.errors(study.ALONG)(100).returns == found[study.ALONG].returns
