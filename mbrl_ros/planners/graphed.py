"""A function of tensors recorded once as a CUDA graph and replayed: torch on a GPU where Triton is missing.

A replay launches hundreds of small kernels for the price of one call. The function must not look at what it computes
(no branch on a value, no copy to the host). Never run on a GPU so far: whether this pays is not measured.
"""
from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor | None, ...]
Function = Callable[..., Tensors]
# function, its inputs -> what runs it again on them, and the outputs that this fills
Recorder = Callable[[Function, Tensors], tuple[Callable[[], Any], Tensors]]

RECORDINGS = 4  # kept at a time; each holds the memory of its inputs, outputs, and all between


def record(function: Function, inputs: Tensors) -> tuple[Callable[[], Any], Tensors]:
    """A Recorder by CUDA graphs. Raises RuntimeError where the function cannot be captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries allocate their workspaces at the first call, which a capture must not
        function(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function(*inputs)
    return graph.replay, outputs


class Graphed:
    """Calls the function by a recording for the shapes, types and device of the inputs; directly if that failed."""

    def __init__(self, function: Function, recorder: Recorder = record) -> None:
        self.function, self.recorder = function, recorder
        self._recordings: OrderedDict[Any, tuple[Tensors, Callable[[], Any], Tensors] | None] = OrderedDict()

    def __call__(self, *inputs: Tensor | None) -> Tensors:
        """The outputs are the caller's: no later call writes to them."""
        key = tuple(None if a is None else (a.shape, a.dtype, a.device) for a in inputs)
        if key not in self._recordings:
            self._recordings[key] = self._record(inputs)
            if len(self._recordings) > RECORDINGS:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        if recording is None:
            return self.function(*inputs)
        own, replay, outputs = recording
        for target, source in zip(own, inputs, strict=True):
            if target is not None and source is not None:
                target.copy_(source)
        replay()
        return tuple(None if a is None else a.clone() for a in outputs)

    def _record(self, inputs: Tensors) -> tuple[Tensors, Callable[[], Any], Tensors] | None:
        own = tuple(None if a is None else a.clone(memory_format=torch.contiguous_format) for a in inputs)
        try:
            return own, *self.recorder(self.function, own)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph, so kernel by kernel: {error}", RuntimeWarning, stacklevel=3)
            return None
