"""How kernels are compiled: for their signatures, when they are imported or made, and from disk where that can be."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}  # not-a-numbers have to arrive


def revision(*files: str | None) -> int:
    """Of source files: changes when one of them does."""
    return zlib.crc32(b"".join(Path(str(file)).read_bytes() for file in files))


def compile_for(signature: Any, *uses: ModuleType) -> Callable[[Callable[..., Any]], Any]:
    """Decorator. Numba keeps no closure over other jitted functions, and looks for changes in one file only: the name
    of what it keeps changes with the files of the modules that are used."""
    def compile_(function: Callable[..., Any]) -> Any:
        if uses:
            function.__qualname__ += f"_{revision(*(module.__file__ for module in uses)):08x}"
        try:
            return numba.njit(signature, cache=True, **OPTIONS)(function)
        except RuntimeError:  # numba may write neither beside the file nor in the user's cache
            return numba.njit(signature, **OPTIONS)(function)
    return compile_
