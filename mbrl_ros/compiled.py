"""How kernels are compiled: for their signatures, when they are imported or made, and from disk where that can be."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}  # not-a-numbers have to arrive


def compile_for(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator. Numba keeps no closure over other jitted functions, and looks for changes in one file only."""
    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, cache=True, **OPTIONS)(function)
        except RuntimeError:  # numba may write neither beside the file nor in the user's cache
            return numba.njit(signature, **OPTIONS)(function)
    return compile_
