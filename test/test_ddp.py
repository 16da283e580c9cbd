"""DDP: its curvature against finite differences, and what it changes and leaves of iLQR."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from arms import make as robot
from arms import settings
from checks import assert_close
from systems import Pendulum, Unicycle, lq_problem, parking
from torch import Tensor

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation.swing_up import SWING_UPS, solved
from mbrl_ros.models.dynamics import linearize, predict_mean
from mbrl_ros.planners.curvature import hessian
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.lqr import backward, expand
from mbrl_ros.planners.plan import begin, warm_start
from mbrl_ros.types import CONVERGED

STEP = 1e-5  # of differences: their error is the square of it


def gradient(model: object, xu: Tensor, g: Tensor) -> Tensor:
    """Of g' f by [x; u]."""
    n = len(g)
    return g @ linearize(model, xu[:n], xu[n:]).F


@pytest.mark.parametrize("model, n, m", [(Pendulum(), 2, 1), (Unicycle(), 4, 2),
                                         *((s.model, len(s.hanging), len(s.effort)) for s in SWING_UPS.values())])
def test_hessian_equals_finite_differences(model: object, n: int, m: int) -> None:
    """Of the gradient, which others hold against others; a batch is its rows."""
    x, u, g = (torch.randn(3, size, generator=torch.Generator().manual_seed(size)).double() for size in (n, m, n))
    H = hessian(model, x, u, g)
    for i in range(3):
        xu = torch.cat([x[i], u[i]])
        columns = [(gradient(model, xu + e, g[i]) - gradient(model, xu - e, g[i])) / (2 * STEP)
                   for e in STEP * torch.eye(n + m).double()]
        assert float(H[i].abs().max()) > 1e-3
        assert_close(H[i], torch.stack(columns, -1), rtol=0, atol=1e-6)


def test_the_gradient_of_the_value_is_that_at_the_nominal_next_state() -> None:
    """Where no gain moves anything, the value is the cost of the same efforts: its gradient is that of the rollout."""
    problem = parking(T=6, limit=0.0)
    u = torch.zeros(6, 2).double()
    x, _ = begin(problem, u)
    F, cost, _ = expand(problem.model, problem.cost, x, u)
    seen: dict[int, Tensor] = {}

    def bend(t: int, g: Tensor) -> Tensor:
        seen[t] = g
        return torch.zeros(6, 6).double()

    def still(t: int, Quu: Tensor, Qua: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros_like(Qua), torch.eye(2).double(), torch.tensor(0)

    backward(F, None, cost, gain=still, curvature=bend)
    for t in range(6):
        later = replace(problem, x0=x[t + 1].clone().requires_grad_(True))
        states = [later.x0]
        for u_t in u[t + 1:]:
            states.append(predict_mean(problem.model, states[-1], u_t))
        full = torch.cat([x[: t + 1], torch.stack(states)])
        expected = torch.autograd.grad(problem.cost.evaluate(full, u), later.x0)[0]
        assert_close(seen[t], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("limit", [float("inf"), 0.4])
def test_on_linear_models_it_is_ilqr(limit: float) -> None:
    """Bit by bit: there is nothing to bend; a model that only looks as if it might is no other."""
    problem = lq_problem(4, 2, 12, seed=0, limit=limit)
    plans = [Ilqr(Ilqr.Config(iterations=30, second_order=on)).plan(problem, None) for on in (False, True)]
    assert torch.equal(plans[0].efforts, plans[1].efforts) and plans[0].cost == plans[1].cost

    class Straight:
        def mean(self, x: Tensor, u: Tensor) -> Tensor:
            return predict_mean(problem.model, x, u)

    assert not bool(hessian(Straight(), problem.x0, torch.zeros(2).double(), problem.x0).any())


def test_same_optimum_in_at_most_half_the_iterations() -> None:
    """One start; `python3 -m mbrl_ros.evaluation.swing_up --only ddp` has twenty, and two links as well."""
    plain, curved = (solved("pendulum", 100, second_order=on) for on in (False, True))
    assert plain.status == curved.status == CONVERGED
    assert curved.cost == pytest.approx(plain.cost, abs=1e-6)
    assert curved.iterations <= 0.5 * plain.iterations


def test_a_step_whose_curvature_is_not_convex_goes_without() -> None:
    """Bending that would make Q_uu negative is left out, and the pass is that of iLQR."""
    problem = lq_problem(3, 2, 5, seed=1)
    x, _ = begin(problem, warm_start(problem, None))
    F, cost, _ = expand(problem.model, problem.cost, x, warm_start(problem, None))
    plain = backward(F, None, cost)
    bent = backward(F, None, cost, curvature=lambda t, g: -1e6 * torch.eye(5).double())
    assert bool(bent.success) and torch.equal(plain.K, bent.K)
    assert not torch.equal(plain.K, backward(F, None, cost, curvature=lambda t, g: torch.eye(5).double()).K)


@pytest.mark.parametrize("model, prior", [("local", "ensemble"), ("global", "nominal")])
def test_refused_where_nothing_bends(model: str, prior: str) -> None:
    """With what works; over a network it is made."""
    second = {"ilqr": {"second_order": True}, "controller": {"planner": "ilqr", "model": model}}
    with pytest.raises(ConfigError, match=r"second_order: expected false with controller\.model"):
        assembly.make_controller(settings("planar2", prior, **second), robot())
    second["controller"]["model"] = "global"
    assembly.make_controller(settings("planar2", "ensemble", **second), robot())


def test_a_model_that_torch_cannot_differentiate_is_refused() -> None:
    """By hand or in numpy, whatever gives its Jacobian."""
    class ByHand:
        def mean(self, x: Tensor, u: Tensor) -> Tensor:
            return torch.as_tensor(x.detach().numpy() + 1.0)

    with pytest.raises(ConfigError, match="second_order: expected false"):
        hessian(ByHand(), torch.zeros(2).double(), torch.zeros(2).double(), torch.ones(2).double())
