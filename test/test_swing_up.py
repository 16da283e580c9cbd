"""The swing-ups: their mechanics against Lagrange's equations."""
from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev

from mbrl_ros.evaluation.swing_up import GRAVITY, SWING_UPS
from mbrl_ros.models.dynamics import predict_mean


def places(name: str, q: Tensor) -> tuple[Tensor, Tensor]:
    """Masses (k,) [kg] and where they are (k, 2) [m]."""
    rod = lambda angle: torch.stack([torch.sin(angle), torch.cos(angle)])  # noqa: E731
    if name == "pendulum":
        return torch.ones(1), rod(q[0])[None]
    if name == "cart_pole":
        cart = torch.stack([q[0], 0 * q[0]])
        return torch.tensor([1.0, 0.3], dtype=torch.float64), torch.stack([cart, cart + 0.5 * rod(q[1])])
    elbow = 0.5 * rod(q[0])
    return torch.ones(2), torch.stack([elbow, elbow + 0.5 * rod(q[0] + q[1])])


@pytest.mark.parametrize("name", SWING_UPS)
def test_accelerations_obey_lagrange(name: str) -> None:
    """d/dt dL/dqd - dL/dq is what the motors and the damping push with; a batch is its rows."""
    swing = SWING_UPS[name]
    k, m = len(swing.hanging) // 2, len(swing.effort)
    x, u = (torch.randn(5, size, generator=torch.Generator().manual_seed(0)).double() for size in (2 * k, m))
    after = predict_mean(swing.model, x, u)

    def lagrangian(q: Tensor, qd: Tensor) -> Tensor:
        mass, _ = places(name, q)
        velocity = jacrev(lambda q: places(name, q)[1])(q) @ qd
        return (mass * (0.5 * (velocity**2).sum(-1) - GRAVITY * places(name, q)[1][:, 1])).sum()

    for i in range(5):
        q, qd = x[i, :k], x[i, k:]
        qdd = (after[i, k:] - qd) / swing.model.period
        momentum = grad(lagrangian, 1)
        force = jacrev(momentum, 1)(q, qd) @ qdd + jacrev(momentum, 0)(q, qd) @ qd - grad(lagrangian)(q, qd)
        pushed = torch.cat([u[i], u.new_zeros(k - m)]) - getattr(swing.model, "damping", 0.0) * qd
        torch.testing.assert_close(force, pushed, rtol=0, atol=1e-9)
        torch.testing.assert_close(after[i, :k], q + swing.model.period * after[i, k:])


@pytest.mark.parametrize("name", SWING_UPS)
def test_upright_is_upright_however_often_it_turned(name: str) -> None:
    """Hanging and fast are not."""
    swing = SWING_UPS[name]
    up = torch.zeros(len(swing.hanging))
    turned, fast = up.clone(), up.clone()
    turned[swing.angles[0]], fast[len(up) // 2 + swing.angles[0]] = 2 * torch.pi, 2.0
    assert swing.upright(torch.stack([up, turned, fast, torch.tensor(swing.hanging)])).tolist() == [1, 1, 0, 0]
    assert torch.equal(swing.start(3), swing.start(3)) and not torch.equal(swing.start(3), swing.start(4))
