"""The same questions to every entry of PLANNERS."""
from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from arms import make as robot
from checks import assert_close, kkt_solution
from systems import DEVICES, PROBLEMS, lq_problem, to

from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.problem import Problem
from mbrl_ros.types import NOT_FINITE, STATUSES, Plan

# How much worse than the LQ optimum a planner may be on a small problem, as a part of what there is to gain.
GAPS = {"lqr": 1e-9, "ilqr": 1e-9, "collocation": 1e-9, "mcts": 1.0}  # of five efforts, whatever is better than none
SAMPLING_GAP, TICKS = 0.02, 20  # of those that draw samples, after so many plans in a row, with default settings
ROLLOUT = 1e-9  # the same arithmetic in another order

pytestmark = pytest.mark.parametrize("name", PLANNERS)


def make(name: str, problem: Problem) -> Any:
    """The planner with its default settings and the horizon of the problem."""
    planner = PLANNERS[name]
    return planner(planner.Config(horizon=len(problem.lower)))


def rollout(problem: Problem, efforts: torch.Tensor) -> torch.Tensor:
    """States (T + 1, n) by a plain loop."""
    x = [problem.x0]
    for u in efforts:
        x.append(predict_mean(problem.model, x[-1], u))
    return torch.stack(x)


def random_plan(problem: Problem, seed: int, scale: float = 0.3) -> Plan:
    """A warm start of random efforts, some beyond the limits."""
    (T, m), n = problem.lower.shape, problem.x0.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    efforts = (scale * torch.randn(T, m, generator=generator, dtype=torch.float64)).to(problem.x0.device)
    plan = make("lqr", problem).plan(problem, None)
    assert plan.policy.K.shape == (T, m, n)
    return replace(plan, efforts=efforts, states=rollout(problem, efforts))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("problem_name", PROBLEMS)
def test_a_plan_is_what_it_says(name: str, problem_name: str, device: str) -> None:
    """Shapes, limits, status; `states` is the rollout of `efforts`, `cost` its cost, and the policy follows it."""
    problem = to(PROBLEMS[problem_name](), device)
    (T, m), n = problem.lower.shape, problem.x0.shape[-1]
    plan = make(name, problem).plan(problem, None)
    policy = plan.policy
    assert plan.states.shape == (T + 1, n) and plan.efforts.shape == (T, m)
    assert (policy.x_hat.shape, policy.u_hat.shape, policy.K.shape) == ((T, n), (T, m), (T, m, n))
    assert (policy.k.shape, policy.Sigma.shape) == ((T, m), (T, m, m))
    assert all(getattr(policy, f.name).device == problem.x0.device for f in fields(policy))
    assert isinstance(plan.cost, float) and plan.status in STATUSES and plan.iterations >= 0
    assert bool(((problem.lower <= plan.efforts) & (plan.efforts <= problem.upper)).all())
    states = rollout(problem, plan.efforts)
    assert_close(plan.states, states, rtol=ROLLOUT, atol=ROLLOUT)
    assert plan.cost == pytest.approx(float(problem.cost.evaluate(states, plan.efforts)), rel=ROLLOUT)
    feedback = (policy.K @ (plan.states[:-1] - policy.x_hat).unsqueeze(-1)).squeeze(-1)
    assert_close(policy.u_hat + feedback + policy.k, plan.efforts, rtol=0, atol=ROLLOUT)
    assert_close(policy.Sigma, policy.Sigma.mT, rtol=0, atol=1e-12)
    assert bool((torch.linalg.eigvalsh(policy.Sigma) >= -1e-12).all())


@pytest.mark.parametrize("problem_name", PROBLEMS)
def test_same_input_same_plan(name: str, problem_name: str) -> None:
    """Also from a second planner: nothing is remembered between plans, and nothing given is changed."""
    problem = PROBLEMS[problem_name]()
    previous = random_plan(problem, seed=0)
    kept = previous.efforts.clone()
    one, two = make(name, problem), make(name, problem)
    first, second, third = one.plan(problem, previous), one.plan(problem, previous), two.plan(problem, previous)
    for other in (second, third):
        same_plan(first, other)
    assert torch.equal(previous.efforts, kept)


@pytest.mark.parametrize("problem_name", PROBLEMS)
def test_what_is_remembered_is_in_the_plan(name: str, problem_name: str) -> None:
    """Seed and memory belong to the input: a planner made anew goes on from a plan like the one that made it."""
    problems = [replace(PROBLEMS[problem_name](), seed=seed) for seed in (3, 4, 5)]
    going, plan = make(name, problems[0]), None
    for problem in problems:
        memory = copy.deepcopy(plan)
        same_plan(make(name, problem).plan(problem, memory), plan := going.plan(problem, plan))


def same_plan(first: Plan, other: Plan) -> None:
    """Bit by bit."""
    assert torch.equal(first.efforts, other.efforts) and torch.equal(first.policy.K, other.policy.K)
    assert (first.cost, first.status, first.iterations) == (other.cost, other.status, other.iterations)


@pytest.mark.parametrize("problem_name", PROBLEMS)
def test_never_worse_than_the_warm_start(name: str, problem_name: str) -> None:
    """The clamped warm start is always a candidate; a plan of the planner itself is one, too."""
    problem = PROBLEMS[problem_name]()
    for seed in range(3):
        previous = random_plan(problem, seed, scale=10.0 ** (seed - 1))
        efforts = previous.efforts.clamp(problem.lower, problem.upper)
        cost = float(problem.cost.evaluate(rollout(problem, efforts), efforts))
        plan = make(name, problem).plan(problem, previous)
        assert plan.cost <= cost + ROLLOUT * abs(cost)
        again = make(name, problem).plan(problem, plan)
        assert again.cost <= plan.cost + ROLLOUT * abs(plan.cost)


def test_lq_problem_within_its_gap_of_the_optimum(name: str) -> None:
    """The gap counts parts of what there is to gain over no effort."""
    problem = lq_problem(3, 2, 6, seed=30)
    F, f = problem.model.F.expand(6, 3, 5), problem.model.f.expand(6, 3)
    x, u, _ = kkt_solution(F, f, problem.cost.quadratic, problem.x0)
    limit = 2 * float(u.abs().max())  # sampling planners want a range; the optimum is inside
    problem = replace(problem, lower=torch.full((6, 2), -limit).double(), upper=torch.full((6, 2), limit).double())
    best = float(problem.cost.evaluate(x, u))
    nothing = torch.zeros_like(u)
    gain = float(problem.cost.evaluate(rollout(problem, nothing), nothing)) - best
    plan = None
    for tick in range(1 if name in GAPS else TICKS):
        plan = make(name, problem).plan(replace(problem, seed=tick), plan)
    assert plan is not None
    assert -1e-9 * gain <= plan.cost - best <= GAPS.get(name, SAMPLING_GAP) * gain


@pytest.mark.parametrize("sick", ["start", "model", "cost", "warm_start"])
def test_not_finite_gives_a_status_and_the_warm_start(name: str, sick: str) -> None:
    """Never an exception, never an effort that is not a finite number within the limits."""
    problem = lq_problem(3, 2, 6, seed=31, limit=0.5)
    previous = random_plan(problem, seed=1)
    if sick == "start":
        problem = replace(problem, x0=problem.x0 * float("nan"))
    elif sick == "model":
        problem = replace(problem, model=replace(problem.model, F=problem.model.F * float("inf")))
    elif sick == "cost":
        cost = problem.cost.quadratic
        problem = replace(problem, cost=type(problem.cost)(replace(cost, C=cost.C * float("nan"))))
    else:
        previous = replace(previous, efforts=previous.efforts * float("nan"))
    plan = make(name, problem).plan(problem, previous)
    assert bool(torch.isfinite(plan.efforts).all())
    assert bool(((problem.lower <= plan.efforts) & (plan.efforts <= problem.upper)).all())
    if sick == "warm_start":
        assert plan.status != NOT_FINITE
    else:
        assert plan.status == NOT_FINITE
        assert torch.equal(plan.efforts, previous.efforts.clamp(problem.lower, problem.upper))


def test_settings_carry_a_description_each(name: str) -> None:
    """What nodes/parameters.py declares."""
    config = PLANNERS[name].Config
    assert "horizon" in {f.name for f in fields(config)}
    assert all(f.metadata["description"] for f in fields(config))
    assert PLANNERS[name](config(horizon=7)).horizon == 7
    assert PLANNERS[name](config(horizon=0.14), robot("planar2")).horizon == 7  # [s]
