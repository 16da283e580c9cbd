"""The fused kernels against torch, dense algebra, longer numbers and exact scalings.

On a GPU as compiled for it; without one in Triton's interpreter, which knows the arithmetic but not the registers.
"""
from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import assert_close, kkt_solution
from systems import cautious, lq_problem, random_cost, random_dynamics, random_leverage, to
from torch import Tensor

from mbrl_ros.planners import fused
from mbrl_ros.planners.box import BoxGain
from mbrl_ros.planners.ilqr import Ilqr, Lqr
from mbrl_ros.planners.lqr import Backward, Gain, Spread, _in_torch, expand, forward, newton
from mbrl_ros.planners.plan import begin
from mbrl_ros.types import LinearGaussianDynamics, QuadraticCost

if not fused.has_triton():
    pytest.skip("Triton (1 GB) is not installed: pip install triton", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which fused.py does at the first kernel

SIZES = [(1, 1, 3), (3, 5, 4), (4, 2, 5), (14, 7, 4), (20, 7, 3)]
ALGEBRA = 1e-9  # of the largest entry; rounding leaves 1e-15 times the condition
B = 2


def on_device(*values: Any) -> list[Any]:
    """Tensors, dynamics and costs where the kernels run."""
    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(DEVICE)
        return None if value is None else type(value)(*(move(part) for part in vars(value).values()))
    return [move(value) for value in values]


def problem(n: int, m: int, T: int, seed: int = 0, batch: tuple[int, ...] = (B,)) -> tuple[
        LinearGaussianDynamics, QuadraticCost]:
    """Time-varying dynamics with offsets and a cost with cross terms, for each of a batch."""
    dynamics = random_dynamics(n, m, seed, (*batch, T))
    return tuple(on_device(dynamics, random_cost(n, m, T, seed + 1, batch)))  # type: ignore[return-value]


def in_torch(F: Tensor, f: Tensor | None, cost: QuadraticCost, mu: Tensor | None = None, gain: Gain = newton,
             spread: Spread | None = None) -> Backward:
    """lqr.backward step by step, on a GPU too."""
    return _in_torch(F, f, cost, mu, gain, spread)


def close(actual: Tensor, expected: Tensor, tolerance: float = ALGEBRA) -> None:
    """Equal up to a part of the largest entry expected."""
    assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def assert_same(found: fused.Fused, expected: Any, tolerance: float = ALGEBRA) -> None:
    """Every field of lqr.Backward."""
    assert torch.equal(found.success, expected.success)
    for name in ("K", "k", "L", "Quu", "linear", "quadratic"):
        close(getattr(found, name), getattr(expected, name), tolerance)
    if found.values is not None:
        close(found.values, torch.stack(expected.values, -3), tolerance)
    if expected.price is not None:
        close(found.price, expected.price, tolerance)


@pytest.mark.parametrize("kind", ["plain", "mu", "spread", "box", "all"])
@pytest.mark.parametrize(("n", "m", "T"), SIZES)
def test_equals_torch(n: int, m: int, T: int, kind: str) -> None:
    """Gains, factors, values, promises, prices, and which problems met a limit; each extra alone and all together."""
    dynamics, cost = problem(n, m, T)
    uniform = torch.rand(2, B, T, m, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(DEVICE)
    low, high = -0.5 * uniform[0], 0.5 * uniform[1]
    low[0, :, 0] = 0.0  # at its limit from the start
    low[1], high[1] = -100.0, 100.0  # nothing acts
    every = kind == "all"
    mu = torch.tensor([0.3, 2.0], dtype=torch.float64, device=DEVICE) if kind == "mu" or every else None
    leverage = random_leverage(n, m, 3).to(DEVICE)
    spread = Spread(dynamics.Sigma, leverage) if kind == "spread" or every else None
    box = BoxGain(low, high) if kind == "box" or every else None
    extra = {} if box is None else {"gain": box}
    expected = in_torch(dynamics.F, dynamics.f, cost, mu, spread=spread, **extra)
    found = fused.backward(dynamics.F, dynamics.f, cost, mu, spread, None if box is None else (low, high))
    assert bool(found.success.all())
    assert_same(found, expected)
    assert found.clamped.tolist() == [box is not None, False]
    assert bool((found.L.triu(1) == 0).all())


def test_equals_the_dense_kkt_solution() -> None:
    """Algebra that knows no recursion, from the first states of two problems."""
    n, m, T = 3, 2, 4
    dynamics, cost = problem(n, m, T, seed=11)
    step = fused.backward(dynamics.F, dynamics.f, cost)
    for b in range(B):
        x = torch.randn(n, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
        F, f = dynamics.F[b].cpu(), dynamics.f[b].cpu()
        alone = QuadraticCost(cost.C[b].cpu(), cost.c[b].cpu(), cost.const[b].cpu())
        _, u, _ = kkt_solution(F, f, alone, x)
        for t in range(T):
            effort = step.K[b, t].cpu() @ x + step.k[b, t].cpu()
            close(effort, u[t])
            x = F[t] @ torch.cat([x, effort]) + f[t]


def test_dynamics_and_costs_for_all_are_read_in_place() -> None:
    """One F, f, C for the whole batch and horizon give what copies of them give, and are not copied."""
    n, m, T = 4, 2, 3
    dynamics, cost = problem(n, m, T, seed=21, batch=())
    F, f = dynamics.F[0], dynamics.f[0]
    mu = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, device=DEVICE)
    shared = fused.backward(F, f, cost, mu)
    copies = fused.backward(F.repeat(3, T, 1, 1), f.repeat(3, T, 1),
                            QuadraticCost(cost.C.repeat(3, 1, 1, 1), cost.c.repeat(3, 1, 1), cost.const.repeat(3, 1)),
                            mu)
    assert shared.K.shape == (3, T, m, n)
    assert_same(shared, copies._replace(values=list(copies.values.unbind(-3))), 0.0)
    for array, steps, axes in ((F, T, 2), (cost.C, T + 1, 2), (cost.const, T + 1, 0)):
        view, over_batch, _ = fused._strided(array, torch.Size((2, 3)), steps, axes)
        assert view.data_ptr() == array.data_ptr() and over_batch == 0


def test_any_batch_and_any_layout() -> None:
    """Two batch axes, one of them broadcast; matrices that are transposed views; no problem at all."""
    n, m, T = 4, 2, 3
    dynamics, _ = problem(n, m, T, seed=31, batch=(2, 1))
    _, cost = problem(n, m, T, seed=32, batch=(2, 3))
    F = dynamics.F.mT.contiguous().mT
    mu = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, device=DEVICE)
    found, expected = fused.backward(F, dynamics.f, cost, mu), in_torch(dynamics.F, dynamics.f, cost, mu)
    assert found.K.shape == (2, 3, T, m, n)
    assert_same(found, expected)
    none = fused.backward(F[:0], dynamics.f[:0], QuadraticCost(cost.C[:0], cost.c[:0], cost.const[:0]))
    assert none.K.shape == (0, 3, T, m, n)


def test_units_do_not_matter() -> None:
    """States and efforts in units that differ by 1e12, and powers of two: the same to the last bits but for those."""
    n, m, T = 6, 3, 3
    dynamics, cost = problem(n, m, T, seed=41)
    plain = fused.backward(dynamics.F, dynamics.f, cost)
    powers = torch.linspace(-20, 20, n + m, dtype=torch.float64, device=DEVICE).round()
    unit = 2.0 ** powers[torch.randperm(n + m, generator=torch.Generator().manual_seed(0))]  # h = unit * h_scaled
    x, u = unit[:n], unit[n:]
    scaled = fused.backward(dynamics.F * unit / x[:, None], dynamics.f / x,
                            QuadraticCost(cost.C * unit * unit[:, None], cost.c * unit, cost.const))
    assert bool(scaled.success.all())
    assert_close(u[:, None] * scaled.K / x, plain.K, rtol=1e-13, atol=0)
    assert_close(u * scaled.k, plain.k, rtol=1e-13, atol=0)
    assert_close(scaled.linear, plain.linear, rtol=1e-13, atol=0)


def long_gains(F: np.ndarray, C: np.ndarray) -> np.ndarray:
    """K (T, m, n) of x' = F [x; u] at the cost 1/2 h'Ch in extended precision, C (T + 1, n + m, n + m)."""
    F, C = F.astype(np.longdouble), C.astype(np.longdouble)
    n = F.shape[1]
    V, gains = C[-1, :n, :n], []
    for t in range(len(F) - 1, -1, -1):
        Q = C[t] + F[t].T @ V @ F[t]
        M = np.concatenate([Q[n:, n:], Q[n:, :n]], 1)
        for j in range(len(M)):
            M[j] /= M[j, j]
            for i in set(range(len(M))) - {j}:
                M[i] -= M[i, j] * M[j]
        K = -M[:, len(M):]
        V = Q[:n, :n] + Q[:n, n:] @ K
        V = (V + V.T) / 2
        gains.append(K)
    return np.stack(gains[::-1])


@pytest.mark.parametrize("mu", [None, 0.0])
def test_nearly_singular_problems_lose_no_more_than_torch_does(mu: float | None) -> None:
    """Efforts that are almost redundant, cond Q_uu 1e11: both roundings of V, measured in extended precision."""
    n, m, T = 5, 3, 3
    dynamics, cost = random_dynamics(n, m, 51, (T,)), random_cost(n, m, T, 52)
    F, C = dynamics.F, cost.C
    F[..., -1] = F[..., -2] + 1e-7 * F[..., -1]  # the last two efforts do nearly the same
    C[:, n:] = C[:, :, n:] = 0.0
    C[:, n:, n:] = 1e-12 * torch.eye(m)
    assert float(torch.linalg.cond(in_torch(F, None, QuadraticCost(C, cost.c, cost.const)).Quu).min()) > 1e11
    F, C, c, const = on_device(F, C, cost.c, cost.const)
    ridge = None if mu is None else torch.tensor(mu, dtype=torch.float64, device=DEVICE)
    truth = long_gains(F.cpu().numpy(), C.cpu().numpy())
    errors = [float(np.abs(step.K.cpu().numpy().reshape(truth.shape) - truth).max() / np.abs(truth).max())
              for step in (fused.backward(F, None, QuadraticCost(C, c, const), ridge),
                           in_torch(F, None, QuadraticCost(C, c, const), ridge))]
    assert errors[0] <= 10 * errors[1]


def test_single_precision_loses_no_more_than_torch_does() -> None:
    """Against the double solution; with limits, which both find to act at the same steps."""
    n, m, T = 14, 7, 3
    dynamics, cost = problem(n, m, T, seed=61)
    bound = torch.full((B, T, m), 0.2, dtype=torch.float64, device=DEVICE)
    box = BoxGain(-bound, bound)
    truth = in_torch(dynamics.F, dynamics.f, cost, gain=box)
    F, f = dynamics.F.float(), dynamics.f.float()
    single = QuadraticCost(cost.C.float(), cost.c.float(), cost.const.float())
    found = fused.backward(F, f, single, box=(-bound.float(), bound.float()))
    torch_single = in_torch(F, f, single, gain=BoxGain(-bound.float(), bound.float()))
    assert found.K.dtype == found.linear.dtype == torch.float32 and bool(found.success.all())
    for name in ("K", "k", "L", "Quu"):
        exact = getattr(truth, name)
        errors = [float((getattr(step, name).double() - exact).abs().max()) for step in (found, torch_single)]
        assert errors[0] <= 10 * errors[1] + 1e-6 * float(exact.abs().max())
        assert errors[0] <= 1e-3 * float(exact.abs().max())
    assert torch.equal(found.clamped, box.clamped)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, in the interpreter
def test_a_hopeless_problem_is_reported_for_itself_alone() -> None:
    """Concave, singular, not a number, infinite, in one batch; the healthy ones are as they are alone."""
    n, m, T = 3, 2, 3
    dynamics, cost = random_dynamics(n, m, 71), random_cost(n, m, T, 72, (6,))
    cost.C[1, 1, n:, n:] = -100 * torch.eye(m)
    cost.C[2, T, :n, :n] = 0.0
    cost.C[2, T - 1, n:] = cost.C[2, T - 1, :, n:] = 0.0  # Q_uu = 0
    cost.C[3, 2, 0, 0] = float("nan")
    cost.c[4, 2, n] = float("inf")
    F, f, cost = on_device(dynamics.F, dynamics.f, cost)
    found = fused.backward(F, f, cost)
    assert found.success.tolist() == [True, False, False, False, False, True]
    assert found.success.tolist() == in_torch(F, f, cost).success.tolist()
    for b in (0, 5):
        alone = fused.backward(F, f, QuadraticCost(cost.C[b], cost.c[b], cost.const[b]))
        assert torch.equal(found.K[b], alone.K) and torch.equal(found.k[b], alone.k)
    bound = torch.ones(T, m, dtype=torch.float64, device=DEVICE)
    assert fused.backward(F, f, cost, box=(-bound, bound)).success.tolist() == found.success.tolist()
    mu = torch.tensor([0.0, 1e4, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64, device=DEVICE)
    assert fused.backward(F, f, cost, mu).success.tolist()[:2] == [True, True]  # what mu is for


def test_values_stay_symmetric_over_a_long_unstable_horizon() -> None:
    """At |A| = 1.3 an antisymmetric error E, A'EA a step, would grow by 1e+22 over these steps."""
    n, m, T = 3, 1, 100
    dynamics, cost = random_dynamics(n, m, 7, radius=1.3), random_cost(n, m, 1, 8)
    F, f, long = on_device(dynamics.F, dynamics.f, QuadraticCost(
        cost.C[:1].expand(T + 1, -1, -1), cost.c[:1].expand(T + 1, -1), 0 * cost.const[:1].expand(T + 1)))
    values = fused.backward(F, f, long).values
    assert values is not None and torch.equal(values, values.mT)
    assert_close(values[0, 1:, 1:], values[1, 1:, 1:], rtol=1e-9, atol=0)  # it has converged long ago


@pytest.mark.parametrize("batch", [(), (2,)])
def test_rollouts_equal_torch(monkeypatch: pytest.MonkeyPatch, batch: tuple[int, ...]) -> None:
    """All step lengths at once, with limits that act, and a start that is not where the nominal states begin."""
    given = to(lq_problem(4, 2, 5, seed=20, limit=0.3, batch=batch), DEVICE)
    u = torch.zeros(*batch, 5, 2, dtype=torch.float64, device=DEVICE)
    x, _ = begin(given, u)
    F, quadratic, _ = expand(given.model, given.cost, x, u)
    step = in_torch(F, None, quadratic)
    lengths = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64, device=DEVICE)
    moved, model = replace(given, x0=1.1 * given.x0), given.model
    monkeypatch.setattr(fused, "applies", lambda F: False)
    expected = forward(moved, x, u, step, lengths)
    found = fused.forward(model.F, model.f, step.K, step.k, x, u, (given.lower, given.upper), moved.x0, lengths)
    assert bool((expected[1].abs() == 0.3).any()) and bool((expected[1].abs() < 0.3).any())
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.parametrize("caution", [False, True])
def test_ilqr_finds_the_same_by_the_kernels(monkeypatch: pytest.MonkeyPatch, caution: bool) -> None:
    """A batch within limits, all the way: what Ilqr.solve does on a GPU against what it does without Triton."""
    given = lq_problem(4, 2, 4, seed=0, limit=0.4, batch=(2,))
    given = to(cautious(given, 1, 0.1) if caution else given, DEVICE)
    u = torch.zeros(2, 4, 2, dtype=torch.float64, device=DEVICE)
    planner = Ilqr(Ilqr.Config(horizon=4, iterations=3, step_lengths=3, mu_start=0.1))
    used: list[str] = []
    launch = fused._launch
    monkeypatch.setattr(fused, "_launch", lambda kernel, *rest, **more: (used.append(kernel),
                                                                         launch(kernel, *rest, **more))[1])
    monkeypatch.setattr(fused, "applies", lambda F: False)
    expected = planner.solve(given, u)
    assert not used
    monkeypatch.setattr(fused, "applies", lambda F: True)
    found = planner.solve(given, u)
    assert {"backward_kernel", "forward_kernel"} == set(used)
    assert torch.equal(found.status, expected.status) and torch.equal(found.iterations, expected.iterations)
    for name in ("x", "u", "K", "Sigma", "cost"):
        close(getattr(found, name), getattr(expected, name))


def test_lqr_plans_the_same_by_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One problem without a batch axis, with limits on the rollout, through lqr.backward and lqr.forward."""
    given = to(lq_problem(3, 2, 5, seed=9, limit=0.5), DEVICE)
    plans = []
    for applies in (False, True):
        monkeypatch.setattr(fused, "applies", lambda F, answer=applies: answer)
        plans.append(Lqr(Lqr.Config(horizon=5)).plan(given, None))
    assert plans[0].status == plans[1].status
    assert plans[0].cost == pytest.approx(plans[1].cost, rel=ALGEBRA)
    for name in ("efforts", "states"):
        close(getattr(plans[1], name), getattr(plans[0], name))
    close(plans[1].policy.K, plans[0].policy.K)


def test_beyond_the_largest_tile() -> None:
    """Refused with the sizes."""
    dynamics, cost = problem(60, 7, 1, batch=())
    with pytest.raises(ValueError, match="68 = 1 \\+ n \\+ m"):
        fused.backward(dynamics.F, dynamics.f, cost)


COMPILE = """
import re, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mbrl_ros.planners import fused, fused_kernels

n, m, bits = (int(word) for word in sys.argv[1:])
P, scalars = fused._tile(1 + n + m), {"T": "i32", "S": "i32", "success": "*i1", "clamped": "*i1"}
warps, precision = fused.LAUNCH[P, bits // 8]
constants = dict(n=n, m=m, P=P, rungs=16, iterations=30, slack_part=1e-10, points=16, precision=precision)
for kernel in (fused_kernels.backward_kernel, fused_kernels.forward_kernel):
    own = {name: value for name, value in constants.items() if name in kernel.arg_names}
    kind = lambda name: "constexpr" if name in own else scalars.get(name, "i32" if name[-2:] in ("_b", "_t") else
                                                                  f"*fp{bits}")
    source = ASTSource(kernel, {name: kind(name) for name in kernel.arg_names},
                       {(kernel.arg_names.index(name),): value for name, value in own.items()})
    options = {"num_warps": warps, "enable_fp_fusion": True}
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm
    with tempfile.NamedTemporaryFile() as file:
        file.write(code["cubin"])
        file.flush()
        used = subprocess.run([triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name], capture_output=True,
                              text=True, check=True).stdout
    print(kernel.__name__, re.search(r"REG:\\d+ STACK:\\d+", used).group(), len(re.findall("bar.sync", code["ptx"])))
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_and_spill_no_register(tmp_path: Path) -> None:
    """For sm_90, which takes no GPU, with everything they can do: the interpreter does not see types and layouts."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    output = subprocess.run([sys.executable, "-c", COMPILE, "4", "2", "64"], env=environment, capture_output=True,
                            text=True, check=False)
    assert output.returncode == 0, output.stderr
    lines = [line.split() for line in output.stdout.splitlines()]
    assert [line[0] for line in lines] == ["backward_kernel", "forward_kernel"]
    assert [line[2] for line in lines] == ["STACK:0", "STACK:0"]
