"""MCTS: values against exact dynamic programming, the tree that travels, and what is refused."""
from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from arms import make as robot
from torch import Tensor

from mbrl_ros.config import ConfigError, from_mapping
from mbrl_ros.planners.mcts import Mcts
from mbrl_ros.planners.problem import Problem

STEPS = 4


@dataclass(frozen=True)
class Chain:
    """Five states in a row, a step to the left or the right each."""

    def mean(self, x: Tensor, u: Tensor) -> Tensor:
        return (x + u.sign()).clamp(0, 4)


@dataclass(frozen=True)
class Tolls:
    """What the five states cost: the near end is cheap, the far end cheaper, and between them it is dear."""

    of: tuple[float, ...] = (1.0, 2.0, 3.0, 2.0, -6.0)

    def evaluate(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.tensor(self.of, dtype=x.dtype)[x[..., 0].round().long()].sum(-1)


def chain(x0: float = 1.0, steps: int = STEPS, seed: int = 0) -> Problem:
    limit = torch.ones(steps, 1).double()
    return Problem(torch.tensor([x0]).double(), Chain(), Tolls(), -limit, limit, seed)  # type: ignore[arg-type]


def exact(x: float, steps: int) -> float:
    """Cost to go by dynamic programming."""
    here = Tolls().of[round(x)]
    return here if steps == 0 else here + min(exact(min(max(x + u, 0), 4), steps - 1) for u in (-1, 1))


def test_root_values_converge_to_dynamic_programming() -> None:
    """Means of visits, so that errors are positive, and that of the better effort falls as log N / N."""
    errors = []
    for iterations in (100, 2000):
        planner = Mcts(Mcts.Config(horizon=STEPS, levels=2, hold=1, iterations=iterations, rollouts=1, batch=1))
        plan = planner.plan(chain(), None)
        root, here = plan.memory.root, Tolls().of[1]
        values = {effort: root.children[i].cost for i, effort in enumerate((-1.0, 1.0))}
        expected = {effort: here + exact(1.0 + effort, STEPS - 1) for effort in values}
        errors.append({effort: values[effort] - expected[effort] for effort in values})
        assert root.count == iterations == sum(child.count for child in root.children.values())
        assert plan.cost == pytest.approx(exact(1.0, STEPS)) == min(expected.values())
        assert max(root.children.values(), key=lambda child: child.count) is root.children[1]
    assert -1e-9 <= errors[1][1.0] < 0.25 * errors[0][1.0] and errors[1][1.0] < 0.5
    assert min(errors[0][-1.0], errors[1][-1.0]) >= -1e-9


def test_every_sequence_is_met_where_there_are_few() -> None:
    """With a bonus that outweighs costs, a tree of 16 leaves holds them all, and the plan is the best of them."""
    planner = Mcts(Mcts.Config(horizon=STEPS, levels=2, hold=1, iterations=400, rollouts=1, exploration=10.0))
    plan = planner.plan(chain(), None)

    def leaves(node: object, depth: int) -> int:
        return 1 if depth == STEPS else sum(leaves(child, depth + 1) for child in node.children.values())

    assert leaves(plan.memory.root, 0) == 2**STEPS
    costs = [float(Tolls().evaluate(torch.tensor([1.0, *path])[:, None], None))
             for path in (list(itertools.accumulate(s, lambda x, u: min(max(x + u, 0), 4), initial=1))[1:]
                          for s in itertools.product((-1, 1), repeat=STEPS))]
    assert plan.cost == pytest.approx(min(costs))


def test_the_part_of_the_tree_that_the_plan_led_to_is_used_again() -> None:
    """Where the next plan begins one held effort later; not where it begins elsewhere, and the old tree stays."""
    planner = Mcts(Mcts.Config(horizon=8, levels=2, hold=2, iterations=32, rollouts=1))
    plan = planner.plan(chain(steps=8), None)
    shifted = replace(plan, efforts=torch.cat([plan.efforts[2:], plan.efforts[-2:]]))
    action = int(plan.efforts[0, 0] > 0)
    inherited, before = plan.memory.root.children[action].count, plan.memory.root.count
    after = planner.plan(chain(float(plan.states[2, 0]), steps=8, seed=1), shifted)
    assert after.memory.root.count == inherited + 32 and plan.memory.root.count == before
    elsewhere = replace(plan, efforts=-shifted.efforts)
    for previous, reuse in ((elsewhere, True), (shifted, False)):
        planner = Mcts(replace(planner.config, reuse=reuse))
        assert planner.plan(chain(steps=8, seed=1), previous).memory.root.count == 32


def test_what_has_no_finite_set_of_efforts_is_refused() -> None:
    """Seven joints of five levels are 78125 efforts, one level is none; two of two joints are four."""
    with pytest.raises(ConfigError, match=r"78125 efforts.*at most 2, or a planner .* such as ilqr"):
        Mcts(Mcts.Config(), robot("arm"))
    with pytest.raises(ConfigError, match="levels: expected a value from 2"):
        from_mapping(Mcts.Config, {"levels": 1}, "mcts")
    assert Mcts(Mcts.Config(levels=2), robot("arm")).horizon == 20
    assert Mcts(Mcts.Config(), robot("planar2")).horizon == 20
