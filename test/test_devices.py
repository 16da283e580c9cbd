"""Where planning happens, and what is recorded for a GPU without Triton: the parts that need none."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checks import assert_close
from shapes import unchecked
from systems import random_cost, random_dynamics, random_leverage
from torch import Tensor

from mbrl_ros.config import ConfigError
from mbrl_ros.planners import fused, lqr
from mbrl_ros.planners.devices import GPU_BATCH, device_for
from mbrl_ros.planners.graphed import RECORDINGS, Graphed
from mbrl_ros.types import QuadraticCost


@pytest.mark.parametrize(("choice", "problems", "gpu", "expected"), [
    ("auto", 1, True, "cpu"), ("auto", GPU_BATCH - 1, True, "cpu"), ("auto", GPU_BATCH, True, "cuda"),
    ("auto", GPU_BATCH, False, "cpu"), ("cpu", 10 * GPU_BATCH, True, "cpu"), ("cuda", 1, True, "cuda")])
def test_a_batch_goes_to_the_gpu(monkeypatch: pytest.MonkeyPatch, choice: str, problems: int, gpu: bool,
                                 expected: str) -> None:
    """If there is one, from a certain number of problems on, or if it was asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert device_for(choice, problems).type == expected


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name it is an error that names the setting."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"controller\.device: cuda"):
        device_for("cuda", 1000, "controller.device")


def test_without_triton_the_kernels_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ImportError that tells what to install."""
    monkeypatch.setattr(fused, "has_triton", lambda: False)
    dynamics, cost = random_dynamics(2, 1, 0), random_cost(2, 1, 3, 1)
    with pytest.raises(ImportError, match="need Triton"):
        fused.backward(dynamics.F, dynamics.f, cost)


@pytest.mark.parametrize(("gpu", "dtype", "columns", "triton", "expected"), [
    (True, torch.float64, 21, True, True), (True, torch.float32, 63, True, True),
    (True, torch.float64, 64, True, False), (True, torch.float16, 21, True, False),
    (True, torch.float64, 21, False, False), (False, torch.float64, 21, True, False)])
def test_which_problems_go_to_the_kernels(monkeypatch: pytest.MonkeyPatch, gpu: bool, dtype: torch.dtype, columns: int,
                                          triton: bool, expected: bool) -> None:
    """On a GPU, in numbers they know, within the largest tile, with Triton."""
    monkeypatch.setattr(fused, "has_triton", lambda: triton)
    F = SimpleNamespace(is_cuda=gpu, dtype=dtype, shape=(14, columns))
    with unchecked():  # no GPU is needed for what only looks like a tensor
        assert fused.applies(F) is expected  # type: ignore[arg-type]


class Tape:
    """Records as a CUDA graph does: fixed places for inputs and outputs, no further look at the function's code."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, function: Any, inputs: tuple[Tensor | None, ...]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        outputs = tuple(None if a is None else torch.full_like(a, float("nan")) for a in function(*inputs))

        def replay() -> None:
            for target, source in zip(outputs, function(*inputs), strict=True):
                if target is not None:
                    target.copy_(source)
        return replay, outputs


def flat(F: Tensor, f: Tensor | None, cost: QuadraticCost, *more: Tensor | None) -> tuple[Tensor | None, ...]:
    """The inputs of the recorded backward pass."""
    return (F, f, cost.C, cost.c, cost.const, *more)


def test_a_recording_serves_other_numbers_of_the_same_shapes() -> None:
    """Results of one call outlive the next; another shape, or mu, is another recording."""
    tape = Tape()
    graphed = Graphed(lqr._flat, tape)
    leverage = random_leverage(3, 2, 5)
    expected, found = [], []
    for seed, batch, ridge in ((0, (2,), False), (1, (2,), False), (2, (3,), False), (3, (2,), True)):
        dynamics, cost = random_dynamics(3, 2, seed), random_cost(3, 2, 4, seed, batch)
        mu = torch.rand(batch, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) if ridge else None
        expected.append(lqr.backward(dynamics.F, dynamics.f, cost, mu, spread=lqr.Spread(dynamics.Sigma, leverage)))
        found.append(lqr._assemble(*graphed(*flat(dynamics.F, dynamics.f, cost, mu, dynamics.Sigma, leverage))))
    assert tape.recorded == 3
    for one, other in zip(found, expected, strict=True):
        for name in ("K", "k", "L", "Quu", "V", "linear", "quadratic", "price"):
            assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)
        assert torch.equal(one.success, other.success)


def test_few_recordings_are_kept() -> None:
    """The one used longest ago is forgotten first."""
    tape = Tape()
    graphed = Graphed(lambda a: (2 * a,), tape)
    for size in [*range(RECORDINGS), 0, RECORDINGS, 0, 1]:  # RECORDINGS sizes; 0 again; a new one; 0 still; 1 no longer
        assert torch.equal(graphed(torch.ones(size))[0], 2 * torch.ones(size))
    assert tape.recorded == RECORDINGS + 2


def test_what_cannot_be_recorded_is_called() -> None:
    """With a warning, once."""
    def refuse(function: Any, inputs: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")
    graphed = Graphed(lambda a: (2 * a,), refuse)
    with pytest.warns(RuntimeWarning, match="no CUDA graph.*not permitted"):
        assert float(graphed(torch.ones(1))[0]) == 2.0
    assert float(graphed(3 * torch.ones(1))[0]) == 6.0  # warnings are errors here


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_cuda_graph_computes_what_torch_does() -> None:
    """The real recorder, replayed for other numbers."""
    graphed = Graphed(lqr._flat)
    for seed in (0, 1):
        dynamics, cost = random_dynamics(3, 2, seed), random_cost(3, 2, 4, seed, (2,))
        expected = lqr.backward(dynamics.F, dynamics.f, cost)
        inputs = flat(dynamics.F, dynamics.f, cost, None, None, None)
        found = lqr._assemble(*graphed(*(None if a is None else a.cuda() for a in inputs)))
        assert_close(found.K.cpu(), expected.K, rtol=1e-9, atol=1e-9)
