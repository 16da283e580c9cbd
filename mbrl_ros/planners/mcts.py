"""Monte-Carlo tree search with UCT over a finite set of efforts, each held for some periods.

A node is a sequence of efforts from x0. From the root on, an effort that was never tried here is taken, and where all
were, the one with the largest Q + 2 C sqrt(2 ln N_parent / N) (Kocsis & Szepesvari 2006), until that makes a new leaf.
Sequences that go on from it are rolled out, one as the last plan did, the others at random, and the least of their
costs counts at every node on the way. Q is 1 at the least and 0 at the largest mean cost of the nodes of this tree, so
that C means the same for every cost. Played is the cheapest sequence met: the model has no noise here, so a cost once
seen can be had.

A cost is one number for a whole horizon, hence no discount: what came before a node is the same for all of its efforts.
"""
from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mbrl_ros.config import ConfigError, param
from mbrl_ros.planners.ilqr import HORIZON
from mbrl_ros.planners.plan import as_plan, begin, steps_in, warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.robot import Robot
from mbrl_ros.types import CONVERGED, NOT_FINITE, Plan

if TYPE_CHECKING:
    from jaxtyping import Float

LARGEST = 256  # efforts that a node can try before any is tried twice


class Node:
    """What is known of going on from here: counts and costs of every effort that was tried."""

    __slots__ = ("children", "count", "pending", "total", "untried")

    def __init__(self, untried: list[int]) -> None:
        self.untried = untried  # efforts by index, in the order in which they will be
        self.children: dict[int, Node] = {}
        self.count, self.pending, self.total = 0, 0, 0.0  # visits, those still without a cost, the sum of costs

    @property
    def cost(self) -> float:
        """Mean."""
        return self.total / self.count


@dataclass
class Tree:
    """What travels in Plan.memory."""

    root: Node
    low: float  # the least and the largest cost of it
    high: float
    best: Float[Tensor, "T m"]  # the efforts of the plan
    cost: float  # of the plan

    def count(self, path: list[Node], cost: float) -> None:
        """The cost of a visit of all nodes of a path; what is not finite is as bad as the worst."""
        cost = cost if math.isfinite(cost) else self.high
        for node in path:
            node.pending -= 1
            node.count += 1
            node.total += cost
            self.low, self.high = min(self.low, node.cost), max(self.high, node.cost)

    def child_of(self, efforts: Float[Tensor, "A m"], hold: int, shifted: Float[Tensor, "T m"]) -> Node | None:
        """The node where `best` has gone on by one held effort, if `shifted` is `best` after it."""
        T = len(shifted)
        if T <= hold or len(self.best) != T or not torch.equal(self.best[hold:], shifted[: T - hold]):
            return None
        match = (efforts == self.best[hold - 1]).all(-1).nonzero()
        return self.root.children.get(int(match[0])) if len(match) else None


class Mcts:
    """Settings only; see Planner. Raises ConfigError where the set of efforts would be too large to try."""

    @dataclass(frozen=True)
    class Config:
        """Settings of the planner."""

        horizon: float = param(0.4, HORIZON, low=1e-4)
        levels: int = param(5, "Efforts of a joint to choose from, from one limit to the other", low=2)
        reach: float = param(1.0, "The outermost of them, as a part of the limit; without limits, as it is", low=1e-6)
        hold: int = param(4, "Steps that an effort is held for", low=1)
        iterations: int = param(64, "Leaves per plan", low=1)
        batch: int = param(16, "Leaves that are chosen before their rollouts are made, as one batch", low=1)
        rollouts: int = param(8, "Random continuations of every leaf", low=1)
        exploration: float = param(0.35, "C; efforts are told apart by their costs alone where it is 0", low=0.0)
        reuse: bool = param(True, "Go on with the part of the tree that the last plan has led to")

    def __init__(self, config: Config | None = None, robot: Robot | None = None) -> None:
        self.config = c = config or self.Config()
        self.horizon = steps_in(c.horizon, robot)
        if robot is not None and c.levels**robot.m > LARGEST:
            most = math.floor(LARGEST ** (1 / robot.m) + 1e-9)
            less = f"levels of at most {most}, or " if most > 1 else ""
            raise ConfigError(f"mcts.levels: {c.levels} of each of {robot.m} joints are {c.levels**robot.m} efforts, "
                              f"more than the {LARGEST} that a tree can try; expected {less}a planner that needs no "
                              "finite set of efforts, such as ilqr or a sampling one")

    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        """See Planner."""
        c, warm = self.config, warm_start(problem, previous)
        x, value = begin(problem, warm)
        start = warm
        if not bool(torch.isfinite(value)):
            return as_plan(x, warm, float(value), NOT_FINITE, 0)
        efforts, generator = self.efforts(problem), torch.Generator().manual_seed(problem.seed)
        tree = self._begin(previous, warm, float(value), efforts, generator)
        depth = -(-len(warm) // c.hold)
        steps = torch.arange(depth)[:, None]
        for done in range(0, c.iterations, c.batch):
            paths = [self._descend(tree, depth, len(efforts), generator)
                     for _ in range(min(c.batch, c.iterations - done))]
            drawn = torch.randint(len(efforts), (len(paths), c.rollouts, depth), generator=generator)
            for chosen, path in zip(drawn, paths, strict=True):
                chosen[:, : len(path) - 1] = torch.tensor([action for action, _ in path[1:]], dtype=torch.int64)
            u = efforts[drawn.to(efforts.device)]
            beyond = steps >= torch.tensor([len(path) - 1 for path in paths])[:, None, None]  # (leaves, depth, 1)
            u = u.repeat_interleave(c.hold, 2)[:, :, : len(warm)]
            beyond = beyond.to(u.device).repeat_interleave(c.hold, 1)[:, : len(warm)]
            u[:, 0] = torch.where(beyond, start, u[:, 0])  # one continuation is that of the last plan
            u = u.clamp(problem.lower, problem.upper).flatten(0, 1)
            xs, costs = begin(problem, u)
            least = int(costs.argmin())
            if float(costs[least]) < float(value):
                x, warm, value = xs[least], u[least], costs[least]
            for path, cost in zip(paths, costs.reshape(len(paths), -1).amin(-1).tolist(), strict=True):
                tree.count([node for _, node in path], cost)
        tree.best, tree.cost = warm, float(value)
        return as_plan(x, warm, float(value), CONVERGED, c.iterations, memory=tree)

    def efforts(self, problem: Problem) -> Float[Tensor, "A m"]:
        """All that there are to choose from, within the widest of the limits. Raises ConfigError for too many."""
        c, m = self.config, problem.lower.shape[-1]
        if c.levels**m > LARGEST:
            raise ConfigError(f"mcts.levels: {c.levels}^{m} efforts; expected at most {LARGEST}")
        high, low = problem.upper.amax(0), problem.lower.amin(0)
        high, low = (torch.where(torch.isfinite(a), a, b) * c.reach for a, b in ((high, 1.0), (low, -1.0)))
        part = torch.linspace(0.0, 1.0, c.levels, dtype=low.dtype, device=low.device)
        return torch.cartesian_prod(*(low[j] + part * (high[j] - low[j]) for j in range(m))).reshape(-1, m)

    def _begin(self, previous: Plan | None, warm: Tensor, value: float, efforts: Tensor,
               generator: torch.Generator) -> Tree:
        """The tree of the last plan where that has led, its costs moved by what the plan's own changed; or a new one.
        """
        old = previous.memory if previous is not None else None
        node = old.child_of(efforts, self.config.hold, warm) if self.config.reuse and isinstance(old, Tree) else None
        if node is None or node.count == 0:
            return Tree(Node(_shuffled(len(efforts), generator)), value, value, warm, value)
        assert old is not None
        root, moved = copy.deepcopy(node), value - old.cost
        stack, costs = [root], []
        while stack:
            at = stack.pop()
            at.total += moved * at.count
            costs.append(at.cost)
            stack += at.children.values()
        return Tree(root, min(value, *costs), max(value, *costs), warm, value)

    def _descend(self, tree: Tree, depth: int, count: int, generator: torch.Generator) -> list[tuple[int, Node]]:
        """From the root to a new leaf, or to the end of the horizon; each node with the effort that led to it."""
        node, path = tree.root, [(-1, tree.root)]
        while len(path) <= depth:
            if node.untried:
                action = node.untried.pop()
                node.children[action] = Node(_shuffled(count, generator))
                path.append((action, node.children[action]))
                break
            action, node = max(node.children.items(), key=lambda pair: self._bound(tree, node, pair[1]))
            path.append((action, node))
        for _, node in path:
            node.pending += 1
        return path

    def _bound(self, tree: Tree, parent: Node, child: Node) -> float:
        """What an effort may be worth; visits that still have no cost count as the worst, to spread a batch."""
        visits = child.count + child.pending
        worst = child.total + child.pending * tree.high
        worth = (tree.high - worst / visits) / max(tree.high - tree.low, 1e-300)
        return worth + 2 * self.config.exploration * math.sqrt(
            2 * math.log(max(parent.count + parent.pending, 1)) / visits)


def _shuffled(count: int, generator: torch.Generator) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order
