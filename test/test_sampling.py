"""Planners that draw: their cost kernel, the four rules, the noise, what is expected over worlds, what is refused."""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from arms import double_integrator, settings
from arms import make as robot
from checks import assert_close
from systems import PROBLEMS, lq_problem, quadratic_task, residual_problem, swing_up
from test_controller import state

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.models.rollout import MEAN
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.candidates import Candidates, arrays
from mbrl_ros.planners.plan import begin
from mbrl_ros.planners.problem import Problem
from mbrl_ros.planners.sampling import (
    Cem,
    Draws,
    ICem,
    Memory,
    Mppi,
    RandomShooting,
    Sampling,
    _later,
    _lines,
)
from mbrl_ros.types import NOT_FINITE, Gaussian, LinearGaussianDynamics

KINDS = {name: kind for name, kind in PLANNERS.items() if issubclass(kind, Sampling)}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def costs(problem: Problem, u: torch.Tensor, way: str = MEAN, particles: int = 1) -> torch.Tensor:
    """Of efforts u (S, T, m) alone."""
    T, m = u.shape[1:]
    basis = torch.eye(T * m, dtype=torch.float64).reshape(-1, T, m)
    return Candidates(problem, torch.zeros_like(u[0]), basis, None, way, particles, 0, Cem()._compiled).costs(u)


# --- the kernel


@pytest.mark.parametrize("n, varying, count", [(5, False, 1), (5, True, 19), (9, False, 8), (12, True, 33)])
def test_the_kernel_costs_what_torch_does(n: int, varying: bool, count: int) -> None:
    problem = residual_problem(n, 3, 7, seed=n, varying=varying)
    u = 0.5 * random(count, 7, 3)
    costs = Cem()._compiled(*arrays(problem), u.numpy())
    assert_close(torch.from_numpy(costs), begin(problem, u)[1], rtol=1e-12, atol=0)


def test_one_sick_candidate_is_infinitely_bad_and_spoils_no_other() -> None:
    """A cost that is not a number must not be the least, nor that of its neighbours in a register."""
    problem = residual_problem(5, 2, 6, seed=0)
    u = random(11, 6, 2)
    sick = u.clone()
    sick[4, 3, 1] = math.nan
    plain, spoiled = (costs(problem, of) for of in (u, sick))
    assert spoiled[4] == math.inf and torch.isfinite(plain).all()
    assert torch.equal(plain[torch.arange(11) != 4], spoiled[torch.arange(11) != 4])


# --- feedback


@pytest.mark.parametrize("kind", ["linear", "varying", "pendulum"])
def test_candidates_feed_back_where_they_leave_the_plan_before(kind: str) -> None:
    """u' = u + basis theta + K (x' - x), x' being where u' leads: by another basis, or step by step."""
    problem = swing_up(7) if kind == "pendulum" else residual_problem(5, 1, 7, seed=1, varying=kind == "varying")
    free = torch.full((7, 1), math.inf).double()
    problem, theta, u = replace(problem, lower=-free, upper=free), random(9, 4), random(7, 1, seed=2)
    K, basis = 0.3 * random(7, 1, len(problem.x0), seed=3), random(4, 7, 1, seed=4)
    candidates = Candidates(problem, u, basis, K, MEAN, 1, 0, Cem()._compiled)
    efforts = candidates.efforts(theta)
    x, J = begin(problem, efforts)
    dx = (x - begin(problem, u)[0])[:, :-1, :, None]
    assert_close(efforts, u + torch.einsum("sd,dtm->stm", theta, basis) + (K @ dx).squeeze(-1), rtol=1e-9, atol=1e-9)
    assert_close(candidates.costs(theta), J, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("way", ["mean", "sample"])
def test_feedback_keeps_candidates_together(way: str) -> None:
    """About a pendulum upright, which efforts alone leave, in every world."""
    problem = swing_up()
    problem, T = replace(problem, x0=torch.zeros_like(problem.x0)), len(problem.lower)
    basis, K = torch.eye(T)[:, :, None].double(), torch.tensor([-40.0, -12.0]).double().expand(T, 1, 2)
    held, loose = (Candidates(problem, torch.zeros(T, 1).double(), basis, of, way, 3, 0, Cem()._compiled)
                   for of in (K, None))
    theta = 0.1 * random(20, T, seed=1)
    assert held.costs(theta).max() < 0.1 * loose.costs(theta).median()


# --- the noise


@every
def test_with_curvature_a_deviation_of_one_costs_one_half(kind: Any) -> None:
    """Of one step: J(u* + Q_uu^-1/2 e) = J(u*) + |e|^2 / 2, whatever dynamics and cost are."""
    problem = lq_problem(4, 3, 1, seed=7)
    best = PLANNERS["lqr"](PLANNERS["lqr"].Config(horizon=1)).plan(problem, None)
    planner = kind(kind.Config(horizon=1))
    _, _, root = planner._local(problem, best.efforts)
    e = random(50, 1, 3)
    cost = begin(problem, best.efforts + (root @ e.unsqueeze(-1)).squeeze(-1))[1]
    assert_close(cost, best.cost + 0.5 * e.square().sum((-2, -1)), rtol=1e-9, atol=1e-9)


@every
@pytest.mark.parametrize("problem_name", ["residuals", "residuals_limited", "lq"])
def test_gains_and_covariance_are_those_of_the_local_problem(kind: Any, problem_name: str) -> None:
    """Whichever way they are found: compiled, in torch, or of the local dynamics that came with another model."""
    problem = PROBLEMS[problem_name]()
    lqr = PLANNERS["lqr"](PLANNERS["lqr"].Config(horizon=12)).plan(problem, None).policy
    linear = problem.model
    opaque = replace(problem, model=Opaque(linear))
    for given in (problem, opaque, replace(opaque, local=linear)):
        policy = kind(kind.Config(horizon=12, samples=4)).plan(given, None).policy
        assert_close(policy.K, lqr.K, rtol=1e-8, atol=1e-8)
        assert_close(policy.Sigma, lqr.Sigma, rtol=1e-8, atol=1e-8)


class Opaque:
    """A model of which nobody sees that it is linear."""

    def __init__(self, model: LinearGaussianDynamics) -> None:
        self._model = model

    def predict(self, x: torch.Tensor, u: torch.Tensor) -> Any:
        mean = (self._model.F @ torch.cat([x, u], -1).unsqueeze(-1)).squeeze(-1) + self._model.f
        return Gaussian(mean, mean.new_zeros(*mean.shape, mean.shape[-1]))


@every
def test_every_plan_draws_anew_though_the_seed_be_the_same(kind: Any) -> None:
    """And so does another seed; but not the same plan with the same seed."""
    problem, planner = lq_problem(3, 2, 6, seed=0, limit=1.0), kind(kind.Config(horizon=6, iterations=1))
    first = planner.plan(problem, None)
    none = Memory(0, torch.empty(0, 5, 2).double())
    again, later, other = (planner.plan(replace(problem, seed=seed), replace(first, memory=none._replace(plans=plans)))
                           for seed, plans in ((0, 0), (0, 1), (1, 0)))
    assert torch.equal(again.efforts, planner.plan(problem, replace(first, memory=none)).efforts)
    assert not torch.equal(again.efforts, later.efforts) and not torch.equal(again.efforts, other.efforts)
    assert again.memory.plans == 1 and later.memory.plans == 2


@pytest.mark.parametrize("knots", [2, 5, 8])
@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_coloured_noise_has_unit_variance_and_its_spectrum(knots: int, beta: float) -> None:
    drawn = ICem(ICem.Config(horizon=10, beta=beta)).noise((40_000, knots, 1), torch.Generator().manual_seed(0))[..., 0]
    assert_close(drawn.square().mean(0), torch.ones(knots).double(), rtol=0.04, atol=0)
    power = torch.fft.rfft(drawn, dim=1).abs().square().mean(0)
    f = torch.fft.rfftfreq(knots, dtype=torch.float64)
    expected = f.clamp(min=float(f[1])) ** -beta
    assert_close(power / power[1], expected / expected[1], rtol=0.04, atol=0)


def test_lines_go_through_their_knots_and_later_is_later() -> None:
    values = random(1, 4, 1)
    lines = _lines(10, 4)
    assert_close((lines @ values)[0, [0, 3, 6, 9]], values[0], rtol=1e-12, atol=1e-12)
    shifted = _lines(10, 4) @ _later(values, 3 / 9)  # one knot
    assert_close(shifted[0, [0, 3, 6, 9], 0], values[0, [1, 2, 3, 3], 0], rtol=1e-12, atol=1e-12)
    assert_close(_lines(6, 6), torch.eye(6).double(), rtol=0, atol=1e-12)
    assert_close(_lines(6, 1), torch.ones(6, 1).double(), rtol=0, atol=0)


# --- the rules


def draws(deviation: float = 1.0) -> Draws:
    return Draws(torch.zeros(3, 2).double(), torch.full((3, 2), deviation).double(), torch.empty(0, 3, 2).double())


def test_random_shooting_goes_on_from_the_best() -> None:
    theta, J = random(9, 3, 2), random(9)
    assert torch.equal(RandomShooting().update(theta, J, draws()).mean, theta[J.argmin()])


def test_cem_takes_mean_and_deviation_of_the_finite_elites() -> None:
    theta = random(9, 3, 2)
    J = torch.tensor([3.0, 1.0, math.inf, 2.0, *[math.inf] * 5]).double()
    new = Cem(Cem.Config(elites=5, momentum=0.25, floor=0.0)).update(theta, J, draws())
    elites = theta[[1, 3, 0]]
    assert_close(new.mean, 0.75 * elites.mean(0), rtol=1e-12, atol=1e-12)
    assert_close(new.deviation, 0.75 * (elites - elites.mean(0)).square().mean(0).sqrt() + 0.25, rtol=1e-12, atol=0)
    assert len(new.elites) == 0


def test_icem_keeps_the_best_of_its_elites_and_draws_fewer_each_time() -> None:
    theta, J = random(40, 3, 2), random(40)
    planner = ICem(ICem.Config(samples=40, elites=10, keep=0.3))
    assert torch.equal(planner.update(theta, J, draws()).elites, theta[J.argsort()[:3]])
    assert [planner.count(i) for i in range(5)] == [40, 32, 26, 20, 20]


@pytest.mark.parametrize("temperature, expected", [(1e-6, "best"), (1e9, "mean"), (0.5, "weighted")])
def test_mppi_is_the_best_when_cold_and_the_mean_when_hot(temperature: float, expected: str) -> None:
    theta, J = random(9, 3, 2), random(9)
    J[4] = math.inf
    finite = torch.arange(9) != 4
    weights = torch.exp(-(J[finite] - J[finite].min()) / (0.5 * (J[finite].median() - J[finite].min())))
    means = {"best": theta[J.argmin()], "mean": theta[finite].mean(0),
             "weighted": (weights[:, None, None] * theta[finite]).sum(0) / weights.sum()}
    new = Mppi(Mppi.Config(temperature=temperature, shrink=0.5)).update(theta, J, draws())
    assert_close(new.mean, means[expected], rtol=1e-6, atol=1e-6)
    assert_close(new.deviation, torch.full((3, 2), 0.5).double(), rtol=0, atol=0)


def test_mppi_of_equal_costs_is_their_mean() -> None:
    theta = random(9, 3, 2)
    assert_close(Mppi().update(theta, torch.ones(9).double(), draws()).mean, theta.mean(0), rtol=1e-12, atol=1e-12)


# --- worlds


class Gamble:
    """x' = x + u g, g of one of two members: the mean of them does not move."""

    class regression:
        count = 2

        @staticmethod
        def each(w: torch.Tensor) -> torch.Tensor:
            return w * torch.tensor([3.0, -3.0]).double()[:, None, None, None]

        @staticmethod
        def mean(w: torch.Tensor) -> torch.Tensor:
            return 0 * w

    def w(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return u.expand(*x.shape[:-1], -1)

    def next_state(self, x: torch.Tensor, u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    def mean(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return x + 0 * u


def test_of_members_the_mean_of_costs_counts_and_not_the_cost_of_the_mean() -> None:
    """To stake costs 9 u^2 / 2 in either world, and nothing by the mean of both, where only the effort is to be paid:
    E J = ((x - 1)^2 + 9 u^2) / 2 + (u - 1)^2 / 2."""
    task = quadratic_task([0.0], [1.0], [1.0], [1.0], 1)
    task = replace(task, quadratic=replace(task.quadratic, c=torch.tensor([[0.0, -1.0], [-1.0, 0.0]]).double(),
                                           const=torch.tensor([0.5, 0.5]).double()))
    bound = torch.ones(1, 1, dtype=torch.float64)
    problem = Problem(torch.ones(1).double(), Gamble(), task, -bound, bound)
    u = torch.tensor([0.0, 0.1, 0.5, 1.0]).double().reshape(4, 1, 1)
    for follow, expected in (("mean", 0.5 * (u - 1) ** 2), ("member", 0.5 * (u - 1) ** 2 + 4.5 * u**2)):
        assert_close(costs(problem, u, follow, 4), expected.flatten(), rtol=1e-12, atol=1e-12)


@every
def test_a_model_without_noise_is_the_same_in_every_world(kind: Any) -> None:
    problem = lq_problem(4, 2, 8, seed=0, limit=100.0)
    problem = replace(problem, model=replace(problem.model, Sigma=0 * problem.model.Sigma))
    one, many = (kind(kind.Config(horizon=8, follow=follow, particles=3)).plan(problem, None)
                 for follow in ("mean", "sample"))
    assert_close(one.efforts, many.efforts, rtol=1e-9, atol=1e-9)


def test_worlds_that_are_all_sick_leave_the_warm_start() -> None:
    problem = lq_problem(3, 2, 6, seed=0, limit=0.5)
    problem = replace(problem, x0=problem.x0 * math.nan)
    plan = ICem(ICem.Config(horizon=6, follow="sample")).plan(problem, None)
    assert plan.status == NOT_FINITE and torch.equal(plan.efforts, torch.zeros(6, 2).double())


@every
@pytest.mark.parametrize("prior, model, follow, said", [
    ("ensemble", "local", "member", "expected one of mean, sample with the local model; member is for controller.model "
                                    "global and the priors ensemble, network, bnn, pe"),
    ("gaussian", "global", "resample", "expected one of mean, sample with the prior gaussian; resample is for "
                                       "controller.model global and the priors ensemble, network, bnn, pe")])
def test_worlds_that_a_model_has_not_are_refused_where_they_are_asked_for(kind: Any, prior: str, model: str,
                                                                         follow: str, said: str) -> None:
    name = next(key for key, of in KINDS.items() if of is kind)
    given = settings(prior=prior, controller={"planner": name, "model": model}, **{name: {"follow": follow}})
    with pytest.raises(ConfigError) as error:
        assembly.make_controller(given, robot())
    assert str(error.value) == f"{name}.follow: {said}"


# --- what they are good for


@every
def test_they_swing_a_pendulum_up_by_what_they_draw(kind: Any) -> None:
    """Which the plan about the hanging one alone does not: from another start each, half of the cost of no effort."""
    problem, plan = swing_up(), None
    nothing = float(begin(problem, torch.zeros(1, 30, 1).double())[1])
    for seed in range(10):
        plan = kind(kind.Config(horizon=30, noise=1.0, metric="limits")).plan(replace(problem, seed=seed), plan)
    assert plan is not None and plan.cost < 0.2 * nothing


@every
def test_in_the_ring_the_seed_of_the_controller_decides(kind: Any) -> None:
    efforts = []
    for seed in (0, 0, 1):
        name = next(key for key, of in KINDS.items() if of is kind)
        parts = assembly.make_parts(settings(controller={"planner": name}, plant={"seed": 0}), seed)
        rest, model = state(parts.robot), double_integrator(parts.robot)
        parts.controller.set_target(rest.belief.mean[parts.robot.slice("site/tool/position")] + 0.05)
        parts.controller.request("reach")
        efforts.append([parts.controller.act(rest, model) for _ in range(3)])
        assert parts.controller.mpc.plan.memory.plans == 3
    assert np.array_equal(efforts[0], efforts[1]) and not np.array_equal(efforts[0], efforts[2])
