"""Collocation against CasADi with Ipopt on the three swing-ups, from the same straight line in state space.

    pip install -r benchmarks/requirements.txt
    python3 benchmarks/collocation_peers.py

Ipopt gets the same discrete dynamics, written again in CasADi, with exact second derivatives. Where it ends in another
local optimum, a second row begins it at the end of collocation.
"""
from __future__ import annotations

import time
from typing import Any

import casadi as ca
import numpy as np
import torch

from mbrl_ros.evaluation.swing_up import GRAVITY, SWING_UPS, SwingUp
from mbrl_ros.planners.collocation import Collocation, line
from mbrl_ros.types import Array

SEED, AGREES = 0, 1e-5


def acceleration(name: str, mechanism: Any, q: Any, qd: Any, u: Any) -> Any:
    """qdd, from M(q) qdd = what pushes."""
    if name == "pendulum":
        return GRAVITY * ca.sin(q) + u - mechanism.damping * qd
    if name == "cart_pole":
        m, length = mechanism.pole, mechanism.length
        M = ca.vertcat(ca.horzcat(mechanism.cart + m, m * length * ca.cos(q[1])),
                       ca.horzcat(m * length * ca.cos(q[1]), m * length**2))
        pushed = ca.vertcat(u[0] + m * length * qd[1] ** 2 * ca.sin(q[1]), m * GRAVITY * length * ca.sin(q[1]))
        return ca.solve(M, pushed)
    m, length = mechanism.mass, mechanism.length
    unit, weight = m * length**2, m * GRAVITY * length
    couple, swing = unit * (1 + ca.cos(q[1])), unit * ca.sin(q[1])
    M = ca.vertcat(ca.horzcat(unit * (3 + 2 * ca.cos(q[1])), couple), ca.horzcat(couple, unit))
    outer = weight * ca.sin(q[0] + q[1])
    pushed = ca.vertcat(swing * (2 * qd[0] * qd[1] + qd[1] ** 2) + 2 * weight * ca.sin(q[0]) + outer,
                        outer - swing * qd[0] ** 2)
    return ca.solve(M, pushed + u - mechanism.damping * qd)


def ipopt(name: str, swing: SwingUp, x: Array, u: Array) -> tuple[float, float]:
    """Cost and seconds from states x (T + 1, n) and efforts u (T, m)."""
    (T, m), n, h = u.shape, x.shape[1], swing.model.period
    C = swing.cost().quadratic.C.numpy()
    opti = ca.Opti()
    X, U = opti.variable(n, T + 1), opti.variable(m, T)
    opti.subject_to(X[:, 0] == x[0])
    total = 0
    for t in range(T):
        q, qd = X[: n // 2, t], X[n // 2 :, t]
        after = qd + h * acceleration(name, swing.model, q, qd, U[:, t])
        opti.subject_to(X[:, t + 1] == ca.vertcat(q + h * after, after))
        z = ca.vertcat(X[:, t], U[:, t])
        total += 0.5 * z.T @ ca.DM(C[t]) @ z
        opti.subject_to(opti.bounded(-np.array(swing.limit), U[:, t], np.array(swing.limit)))
    total += 0.5 * X[:, T].T @ ca.DM(C[T, :n, :n]) @ X[:, T]
    opti.minimize(total)
    opti.set_initial(X, x.T)
    opti.set_initial(U, u.T)
    opti.solver("ipopt", {"print_time": False}, {"print_level": 0, "sb": "yes", "tol": 1e-10, "max_iter": 3000})
    began = time.process_time()
    try:
        found = opti.solve()
    except RuntimeError as error:  # "restoration failed" and the like
        print(f"ipopt, {name}: {str(error).splitlines()[0]}")
        return np.nan, time.process_time() - began
    return float(found.value(total)), time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    print(f"| problem | begun at | collocation | its iterations | s | Ipopt | s | agree |\n{'|---' * 8}|")
    for name, swing in SWING_UPS.items():
        problem = swing.problem(SEED)
        began = time.process_time()
        plan = Collocation(Collocation.Config(horizon=swing.steps, iterations=600, guess="line")).plan(problem, None)
        seconds = time.process_time() - began
        starts = {"the line": (line(problem), torch.zeros_like(problem.lower)),
                  "its end": (plan.states, plan.efforts)}
        for start, (x, u) in starts.items():
            cost, other = ipopt(name, swing, x.numpy(), u.numpy())
            agree = abs(cost - plan.cost) < AGREES
            print(f"| {name} | {start} | {plan.cost:.7f} | {plan.iterations}, {plan.status} | {seconds:.2f} | "
                  f"{cost:.7f} | {other:.2f} | {'yes' if agree else 'no'} |", flush=True)
            if agree:
                break


if __name__ == "__main__":
    main()
