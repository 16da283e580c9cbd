"""Swing-ups of three mechanisms with known dynamics, as problems for any planner, and what DDP, collocation and MCTS
make of them beside iLQR and random shooting.

    python3 -m mbrl_ros.evaluation.swing_up --only ddp,collocation,mcts

Angles are zero upright, so every one begins about pi. x = [q; qd]; steps are semi-implicit Euler, which are the
dynamics here and no approximation of others. Masses are points at the ends of rods without weight.
"""
from __future__ import annotations

import argparse
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import parse_seeds
from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.planners.collocation import Collocation
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.mcts import Mcts
from mbrl_ros.planners.plan import best_of, shifted, warm_start
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.types import CONVERGED, STATUSES, Gaussian, Plan, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

GRAVITY = 9.81  # [m/s2]
NEAR = 0.2  # [rad]
GRADIENT = 1e-6  # its norm, at which a solver has arrived
SAME, OPTIMUM = 1e-6, 1e-5  # by how much costs of one optimum may differ, of shooting and of collocation


@dataclass(frozen=True)
class Mechanism(ABC):
    """A DynamicsModel without noise from accelerations; differentiable as often as wanted, over any leading axes."""

    period: float = 0.05  # [s]

    @abstractmethod
    def acceleration(self, q: Float[Tensor, "*b k"], qd: Float[Tensor, "*b k"], u: Float[Tensor, "*b m"]
                     ) -> Float[Tensor, "*b k"]:
        """qdd [rad/s2 or m/s2]."""

    def mean(self, x: Float[Tensor, "*b n"], u: Float[Tensor, "*b m"]) -> Float[Tensor, "*b n"]:
        """x'."""
        q, qd = x.chunk(2, -1)
        qd = qd + self.period * self.acceleration(q, qd, u)
        return torch.cat([q + self.period * qd, qd], -1)

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """x' with covariance zero."""
        mean = self.mean(x, u)
        return Gaussian(mean, mean.new_zeros(*mean.shape, mean.shape[-1]))


@dataclass(frozen=True)
class Pendulum(Mechanism):
    """1 kg on a rod of 1 m; u is the torque [N m]."""

    damping: float = 0.1  # [N m s]

    def acceleration(self, q: Tensor, qd: Tensor, u: Tensor) -> Tensor:
        return GRAVITY * torch.sin(q) + u - self.damping * qd


@dataclass(frozen=True)
class CartPole(Mechanism):
    """q = [place of the cart, angle]; u is the force on the cart [N], whose pole is free."""

    cart: float = 1.0  # [kg]
    pole: float = 0.3  # [kg]
    length: float = 0.5  # [m]

    def acceleration(self, q: Tensor, qd: Tensor, u: Tensor) -> Tensor:
        sin, cos, rate = torch.sin(q[..., 1:]), torch.cos(q[..., 1:]), qd[..., 1:]
        pushed = u + self.pole * sin * (self.length * rate**2 - GRAVITY * cos)
        cart = pushed / (self.cart + self.pole * sin**2)
        return torch.cat([cart, (GRAVITY * sin - cart * cos) / self.length], -1)


@dataclass(frozen=True)
class TwoLinks(Mechanism):
    """Two rods, a motor in either joint, q2 from the line of the first; u are the torques [N m]."""

    mass: float = 1.0  # [kg], each
    length: float = 0.5  # [m], each
    damping: float = 0.05  # [N m s], each

    def acceleration(self, q: Tensor, qd: Tensor, u: Tensor) -> Tensor:
        (q1, q2), (w1, w2) = q.unbind(-1), qd.unbind(-1)
        unit, weight = self.mass * self.length**2, self.mass * GRAVITY * self.length
        sin, cos, outer = torch.sin(q2), torch.cos(q2), weight * torch.sin(q1 + q2)
        M11, M12, M22 = unit * (3 + 2 * cos), unit * (1 + cos), unit
        t1 = u[..., 0] - self.damping * w1 + unit * sin * w2 * (2 * w1 + w2) + 2 * weight * torch.sin(q1) + outer
        t2 = u[..., 1] - self.damping * w2 - unit * sin * w1**2 + outer
        det = M11 * M22 - M12**2
        return torch.stack([M22 * t1 - M12 * t2, M11 * t2 - M12 * t1], -1) / det.unsqueeze(-1)


@dataclass(frozen=True)
class SwingUp:
    """From hanging to upright at x = 0: quadratic costs 1/2 w x^2 of running and last states, and of efforts."""

    model: Any
    hanging: tuple[float, ...]  # x
    running: tuple[float, ...]  # weights of x, per second
    effort: tuple[float, ...]  # weights of u, per second
    terminal: tuple[float, ...]  # weights of the last x
    limit: tuple[float, ...]  # [N m or N] of efforts
    steps: int
    angles: tuple[int, ...]  # which of q are angles
    spread: float = 0.1  # standard deviation of starts about hanging, in every coordinate

    def upright(self, x: Float[Tensor, "*b n"]) -> Bool[Tensor, " *b"]:
        """Whether all angles are within NEAR of upright, whole turns not counted, and turn slower than 1 rad/s."""
        k = x.shape[-1] // 2
        q, qd = x[..., self.angles], x[..., [k + i for i in self.angles]]
        return ((torch.cos(q) > math.cos(NEAR)) & (qd.abs() < 1.0)).all(-1)

    def start(self, seed: int) -> Float[Tensor, " n"]:
        """About hanging; the same seed, the same start."""
        noise = torch.randn(len(self.hanging), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.tensor(self.hanging, dtype=torch.float64) + self.spread * noise

    def cost(self, steps: int | None = None) -> Quadratic:
        """Of so many steps."""
        T, n, period = steps or self.steps, len(self.hanging), self.model.period
        C = torch.zeros(T + 1, n + len(self.effort), n + len(self.effort), dtype=torch.float64)
        C[:-1] = period * torch.diag(torch.tensor(self.running + self.effort, dtype=torch.float64))
        C[-1, :n, :n] = torch.diag(torch.tensor(self.terminal, dtype=torch.float64))
        return Quadratic(QuadraticCost(C, C.new_zeros(C.shape[:2]), C.new_zeros(T + 1)))

    def problem(self, seed: int = 0, steps: int | None = None) -> Problem:
        """From the start of this seed, over all steps or so many."""
        upper = torch.tensor(self.limit, dtype=torch.float64).expand(steps or self.steps, -1)
        return Problem(self.start(seed), self.model, self.cost(steps), -upper, upper, seed)


SWING_UPS = {
    "pendulum": SwingUp(Pendulum(), (math.pi, 0.0), running=(0.1, 0.01), effort=(0.1,), terminal=(100.0, 10.0),
                        limit=(5.0,), steps=60, angles=(0,)),
    "cart_pole": SwingUp(CartPole(), (0.0, math.pi, 0.0, 0.0), running=(1.0, 1.0, 0.1, 0.1), effort=(0.02,),
                         terminal=(100.0, 100.0, 10.0, 10.0), limit=(20.0,), steps=40, angles=(1,)),
    "two_links": SwingUp(TwoLinks(), (math.pi, 0.0, 0.0, 0.0), running=(1.0, 1.0, 0.1, 0.1), effort=(0.1, 0.1),
                         terminal=(100.0, 100.0, 10.0, 10.0), limit=(6.0, 3.0), steps=60, angles=(0, 1))}


class Solved(NamedTuple):
    """What a solver ended with."""

    cost: float
    status: str
    iterations: int  # backward passes until the gradient stays below GRADIENT
    seconds: float  # of processor time, for all passes


class _Traced(Ilqr):
    """iLQR that keeps the norm of the gradient of every pass: of q_u, where no limit holds the effort."""

    gradients: list[float]

    def _advance(self, problem: Problem, s: Any, step: Any, clamped: Any) -> Any:
        q_u = (step.L @ (step.L.mT @ step.k.unsqueeze(-1))).squeeze(-1)
        free = (step.k > problem.lower - s.u) & (step.k < problem.upper - s.u)
        self.gradients.append(float((q_u * free).norm()) if bool(step.success) else math.inf)
        return super()._advance(problem, s, step, clamped)


def solved(name: str, seed: int, second_order: bool) -> Solved:
    """A swing-up by iLQR or DDP from no effort, to the end of what can be told apart."""
    problem = SWING_UPS[name].problem(seed)
    planner = _Traced(Ilqr.Config(iterations=600, tolerance=0.0, second_order=second_order))
    planner.gradients = []
    began = time.process_time()
    found = planner.solve(problem, warm_start(problem, None))
    seconds = time.process_time() - began
    above = [i for i, norm in enumerate(planner.gradients) if norm >= GRADIENT]
    return Solved(float(found.cost), STATUSES[int(found.status)], (above[-1] if above else -1) + 2, seconds)


def ddp(seeds: list[int]) -> None:
    """Iterations and processor time of both, where both end in the same optimum."""
    for name in ("pendulum", "two_links"):
        pairs = []
        for seed in seeds:
            plain, curved = (solved(name, seed, on) for on in (False, True))
            pairs.append((plain, curved))
            print(f"{name} {seed}: iLQR {plain}, DDP {curved}", file=sys.stderr, flush=True)
        same = [a.status == b.status == CONVERGED and abs(a.cost - b.cost) < SAME for a, b in pairs]
        ratio = np.median([b.iterations / a.iterations for a, b in pairs])
        of = [np.median([[one.iterations, one.seconds] for one in kind], 0) for kind in zip(*pairs, strict=True)]
        print(f"| DDP, {name} | same optimum {sum(same)} of {len(same)} | iterations {of[0][0]:.0f} iLQR, "
              f"{of[1][0]:.0f} DDP, ratio {ratio:.2f} | {of[0][1]:.2f} s and {of[1][1]:.2f} s of processor "
              "time |", flush=True)


def collocation(seeds: list[int]) -> None:
    """From a straight line in state space, which is no rollout, against iLQR from no effort."""
    swing, reached, rows = SWING_UPS["cart_pole"], 0, []
    for seed in seeds:
        problem = swing.problem(seed)
        planners = (Ilqr(Ilqr.Config(horizon=swing.steps, iterations=600, tolerance=1e-12)),
                    Collocation(Collocation.Config(horizon=swing.steps, iterations=600, guess="line")))
        found = []
        for planner in planners:
            began = time.process_time()
            found.append((planner.plan(problem, None), time.process_time() - began))
        (plain, _), (plan, _) = found
        reached += plan.cost <= plain.cost + OPTIMUM
        rows.append([[p.iterations, seconds] for p, seconds in found])
        print(f"cart_pole {seed}: iLQR {plain.cost:.8f} {plain.status} {plain.iterations}, collocation {plan.cost:.8f} "
              f"{plan.status} {plan.iterations} {plan.detail}", file=sys.stderr, flush=True)
    (i, s), (j, t) = np.median(rows, 0)
    print(f"| collocation, cart_pole | optimum of iLQR or better {reached} of {len(seeds)} | iterations {i:.0f} iLQR, "
          f"{j:.0f} collocation | {s:.2f} s and {t:.2f} s of processor time |", flush=True)


REPLANNED = replace(SWING_UPS["pendulum"], running=(1.0, 0.1), terminal=(10.0, 1.0))
HORIZON, HOLD, TICKS, LEAVES = 32, 4, 25, 256  # steps of a plan and of an effort; efforts in 5 s; see Mcts.Config


def played(plan: Callable[[Problem, Plan | None], Plan], seed: int) -> tuple[float, float]:
    """Cost of 5 s of the pendulum, replanned after every held effort, and when it is upright for good [s]."""
    x, last = REPLANNED.start(seed), None
    states, efforts = [x], []
    for tick in range(TICKS):
        if last is not None:
            for _ in range(HOLD):
                last = shifted(last)
        last = plan(replace(REPLANNED.problem(seed, HORIZON), x0=x, seed=1000 * seed + tick), last)
        for u in last.efforts[:HOLD]:
            x = predict_mean(REPLANNED.model, x, u)
            states.append(x)
            efforts.append(u)
    xs, us = torch.stack(states), torch.stack(efforts)
    fallen = (~REPLANNED.upright(xs)).nonzero().flatten().tolist()
    steps = fallen[-1] + 1 if fallen else 0
    cost = float(REPLANNED.cost(len(us)).evaluate(xs, us))
    return cost, steps * REPLANNED.model.period if steps < len(xs) else math.inf


def searched(seeds: list[int]) -> None:
    """MCTS against random shooting over the same efforts, with as many rollouts of the model."""
    tree = Mcts(Mcts.Config(horizon=HORIZON, hold=HOLD, iterations=LEAVES))
    c = tree.config

    def shoot(problem: Problem, previous: Plan | None) -> Plan:
        efforts, generator = tree.efforts(problem), torch.Generator().manual_seed(problem.seed)
        drawn = torch.randint(len(efforts), (c.iterations * c.rollouts, HORIZON // HOLD), generator=generator)
        u = efforts[drawn].repeat_interleave(HOLD, 1)
        return best_of(problem, torch.cat([warm_start(problem, previous)[None], u]))

    pairs = []
    for seed in seeds:
        pairs.append([played(tree.plan, seed), played(shoot, seed)])
        print(f"pendulum {seed}: MCTS {pairs[-1][0]}, random {pairs[-1][1]} (cost, upright from [s])", file=sys.stderr,
              flush=True)
    both = np.array(pairs)  # (seeds, planners, [cost, time])
    low, high = measures.interval(both[:, 0, 0] - both[:, 1, 0])
    up = np.isfinite(both[..., 1]).sum(0)
    print(f"| MCTS, pendulum | upright within 5 s {up[0]} of {len(both)}, random {up[1]} | median cost "
          f"{np.median(both[:, 0, 0]):.1f}, random {np.median(both[:, 1, 0]):.1f} | by {low:.1f} to {high:.1f}, "
          f"{(c.iterations * c.rollouts + 1) * HORIZON} model calls per plan |", flush=True)


PARTS = {"ddp": (ddp, 20), "collocation": (collocation, 20), "mcts": (searched, 10)}


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.swing_up",
                                description=" ".join((__doc__ or "").partition("\n\n")[0].split()))
    p.add_argument("--only", default=",".join(PARTS), help="with commas between (%(default)s)")
    p.add_argument("--seeds", default="", help="of starts; empty: 0-19, of MCTS 0-9")
    a = p.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        for name in a.only.split(","):
            if name not in PARTS:
                raise ConfigError(f"--only: unknown {name!r}; choose of {', '.join(PARTS)}")
            figure, count = PARTS[name]
            figure(parse_seeds(a.seeds) if a.seeds else list(range(count)))
    except ConfigError as error:
        print(f"swing_up: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
