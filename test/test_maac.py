"""Value gradients: MAAC and SVG(inf) against finite differences and autograd, and the noise that explains what was."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_steps import MODEL, QUICK, Point, lived_through

from mbrl_ros.environments.pendulum import Pendulum
from mbrl_ros.models.features import Data
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import MEMBER, stepper
from mbrl_ros.trainers import svg
from mbrl_ros.trainers.maac import Maac, Settings
from mbrl_ros.trainers.network import PolicyNetwork


def differences(of, parameters, h=1e-5):
    """The derivative along a random direction, of parameters that are changed in place."""
    generator = torch.Generator().manual_seed(1)
    along = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    found = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, along, strict=True):
                p += sign * h * d
            found.append(of().item())
            for p, d in zip(parameters, along, strict=True):
                p -= sign * h * d
    return along, (found[0] - found[1]) / (2 * h)


def swinging(T=12, B=6):
    """A model of a pendulum, and trajectories (T + 1, B, 2), (T, B, 1) of random actions."""
    known, rng = Pendulum(), np.random.default_rng(0)
    x = [torch.as_tensor(rng.uniform([-3, -4], [3, 4], (B, 2)))]
    a = torch.as_tensor(rng.uniform(-0.8, 0.8, (T, B, 1)))
    for u in a:
        x.append(known.after(x[-1], u))
    x = torch.stack(x)
    parts = [x[:-1].flatten(0, 1).numpy(), a.flatten(0, 1).numpy(), x[1:].flatten(0, 1).numpy()]
    data = known.data(*parts)
    regression = ProbabilisticEnsemble.fit(data, MODEL, 0)
    return known, known.model(regression.member(1)), x, a, torch.as_tensor(data.y).reshape(T, B, -1)


@pytest.mark.parametrize("horizon", [1, 3, 10])
def test_the_gradient_of_maac_is_that_of_finite_differences(horizon):
    of = lived_through(Maac(Point(), replace(QUICK, temperature=0.1), Settings(horizon=horizon), 0, MODEL), 200)
    of.fit()
    for network in (of.agent.actor, of.agent.critics):
        network.double()
    z, parameters = of.starts()[:20], list(of.agent.actor.parameters())

    def promise():
        of.agent.generator.manual_seed(5)
        return of.promise(stepper(of.known.model(of.regression), MEMBER, 3), z)[0].mean()
    along, finite = differences(promise, parameters)
    found = torch.autograd.grad(promise(), parameters)
    exact = sum((g * d).sum() for g, d in zip(found, along, strict=True)).item()
    assert exact == pytest.approx(finite, rel=1e-5) and abs(exact) > 1e-3


def test_without_steps_of_the_model_maac_is_sac():
    of = lived_through(Maac(Point(), QUICK, Settings(horizon=0), 0, MODEL), 60)
    sac = lived_through(Maac(Point(), QUICK, Settings(horizon=0), 0, MODEL), 60)
    of.fit()
    of.update()
    sac.agent.update(sac.replay.draw(QUICK.batch, sac.agent.generator))
    for mine, theirs in zip(of.agent.actor.parameters(), sac.agent.actor.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_inferred_noise_explains_what_happened():
    _, model, x, a, y = swinging()
    xi = svg.infer(model, x[:-1], a, y)
    torch.testing.assert_close(svg.dynamics(model)(x[:-1], a, xi), x[1:], atol=1e-10, rtol=1e-10)
    assert 0.1 < xi.std() < 10.0


def test_the_recursion_of_svg_is_autograd_and_finite_differences():
    known, model, x, a, y = swinging()
    network = PolicyNetwork(3, 1, 8, 0)
    with torch.no_grad():
        network.W3.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(0))
    f, xi, gamma = svg.dynamics(model), svg.infer(model, x[:-1], a, y), 0.95
    policy = lambda z, eta: (network(known.seen(z)) + 0.3 * eta).tanh()  # noqa: E731
    eta = (a.atanh() - network(known.seen(x[:-1])).detach()) / 0.3
    parameters, begins = list(network.parameters()), x[0].clone().requires_grad_(True)

    def total():
        z, sum_of, weight = begins, 0.0, 1.0
        for t in range(len(xi)):
            u = policy(z, eta[t])
            z = f(z, u, xi[t])
            sum_of, weight = sum_of + weight * known.reward(z, u).sum(), weight * gamma
        return sum_of
    v_x, v_theta = svg.gradient(known, f, policy, parameters, x, xi, eta, gamma)
    by_x, *by_theta = torch.autograd.grad(total(), [begins, *parameters])
    torch.testing.assert_close(v_x, by_x, rtol=1e-8, atol=1e-8)
    for mine, theirs in zip(v_theta, by_theta, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)
    along, finite = differences(total, parameters)
    assert sum((g * d).sum() for g, d in zip(v_theta, along, strict=True)).item() == pytest.approx(finite, rel=1e-5)


def test_nothing_is_worth_anything_after_an_end():
    known, model, x, a, y = swinging(T=4)
    known.terminated = lambda z: torch.zeros(z.shape[:-1], dtype=torch.bool)
    f, xi, policy = svg.dynamics(model), svg.infer(model, x[:-1], a, y), lambda z, eta: eta + 0.1 * z[..., :1]
    eta = a - 0.1 * x[:-1, :, :1]
    short = svg.gradient(known, f, policy, [], x[:3], xi[:2], eta[:2], 0.9)[0]
    known.terminated = lambda z: torch.tensor([False, True, False, False])[:, None].expand(z.shape[:-1])
    torch.testing.assert_close(svg.gradient(known, f, policy, [], x, xi, eta, 0.9)[0], short)


def test_a_window_is_of_one_trajectory():
    x = torch.arange(10).double()[:, None].expand(-1, 2)
    after = x + 1
    after[4] += 0.5  # another begins at 5
    assert svg._whole(x, after, 3).tolist() == [0, 1, 2, 5, 6, 7]


def test_a_member_alone_says_what_it_says_among_others():
    known, _, x, a, _ = swinging()
    w = known.model(None).w(x[:-1], a).flatten(0, 1)
    regression = ProbabilisticEnsemble.fit(Data(known._features, w.numpy(), w[:, :2].numpy()), MODEL, 0)
    means, deviations = regression.outcomes(w.expand(2, *w.shape))
    for i in range(2):
        mean, deviation = regression.member(i).outcomes(w[None])
        torch.testing.assert_close(mean[0], means[i])
        torch.testing.assert_close(deviation[0], deviations[i])
