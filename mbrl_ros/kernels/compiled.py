"""How kernels are compiled: for their signatures, when they are imported, and from disk where that can be."""
from __future__ import annotations

import ast
import importlib.util
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

Array = Any  # numpy.ndarray; of its own, so that no change of types.py compiles anything anew
WIDTH = 8  # doubles in a vector register of AVX-512; rows of matrices are padded to a multiple of it
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}  # not-a-numbers have to arrive
jit = numba.njit(**OPTIONS)
jit_sums = numba.njit(error_model="numpy", fastmath={"contract", "reassoc"})  # may add up in any order
PACKAGE = __name__.partition(".")[0]

log = logging.getLogger(__name__)


def made_from(module: str) -> dict[str, Path]:
    """The files of a module and of all that it imports from this package, and these in turn, by module."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        spec = importlib.util.find_spec(name)
        if name in found or spec is None or not spec.has_location or spec.origin is None:
            continue
        found[name] = Path(spec.origin)
        for node in ast.walk(ast.parse(found[name].read_bytes())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [
                str(node.module), *(f"{node.module}.{a.name}" for a in node.names if _is_package(str(node.module)))
            ] if isinstance(node, ast.ImportFrom) else []
            waiting += [n for n in names if n.partition(".")[0] == PACKAGE]
    return found


def _is_package(name: str) -> bool:
    spec = importlib.util.find_spec(name) if name.partition(".")[0] == PACKAGE else None
    return spec is not None and spec.submodule_search_locations is not None


def compile_for(signature: Any, nogil: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator; with `nogil` other threads go on meanwhile. Numba looks for changes in the function's own file only,
    though helpers and constants from others are compiled in: the name of what it keeps has a checksum of them all."""
    def compile_(function: Callable[..., Any]) -> Any:
        checksum = zlib.crc32(b"".join(file.read_bytes() for _, file in sorted(made_from(function.__module__).items())))
        function.__qualname__ += f"_{checksum:08x}"
        try:
            return numba.njit(signature, cache=True, nogil=nogil, **OPTIONS)(function)
        except RuntimeError:  # numba may write neither beside the file nor in the user's cache
            pass
        except Exception as error:  # pickle's many, of a file that is damaged; OSError, of one that cannot be read
            _say_damaged(error)
            try:
                FunctionCache(function).flush()  # begins the index anew
                return numba.njit(signature, cache=True, nogil=nogil, **OPTIONS)(function)
            except OSError:  # nor written
                pass
        return numba.njit(signature, nogil=nogil, **OPTIONS)(function)
    return compile_


_said: list[str] = []


def _say_damaged(error: Exception) -> None:
    """In one line for all kernels."""
    if not _said:
        _said.append(" ".join(str(error).split()) or type(error).__name__)
        log.warning("what was compiled earlier cannot be read, and is compiled anew (%s)", _said[0])
