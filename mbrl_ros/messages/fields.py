"""Fields of messages: arrays, numbers and stamps, written and read with every check (ring.py).

Float arrays are written as array("d") filled from bytes, which the generated code copies as a block; lists of Python
floats it converts one by one. Reading copies, so that a value outlives its message. Imports no ROS.
"""
from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from math import inf, isfinite, prod
from typing import Any

import numpy as np

from mbrl_ros.types import Array

FINITE = sys.float_info.max
ABSURD = 1e6  # beyond it no position, speed, effort or entry of a model is one to act on or to learn from

Message = Any  # a ROS message, or a look-alike built from the same .msg file


class MessageError(ValueError):
    """A message or value that cannot be used; one line says which field, what was expected and what came."""


def write_stamp(stamp: Message, time: int) -> None:
    """Write time [ns] into a builtin_interfaces/Time. Raises MessageError beyond what its seconds hold, 0 to 2^31."""
    seconds, nanoseconds = divmod(int(time), 1_000_000_000)
    if not 0 <= seconds < 2**31:
        raise MessageError(f"stamp: expected 0 to {2**31} s, got {time} ns")
    stamp.sec, stamp.nanosec = seconds, nanoseconds


def read_stamp(stamp: Message) -> int:
    """The time [ns] of a builtin_interfaces/Time. Raises MessageError where it is negative."""
    if stamp.sec < 0:
        raise MessageError(f"stamp: expected 0 to {2**31} s, got {stamp.sec} s")
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def as_array(values: Any) -> Array:
    """The values as a numpy array of float64, from numpy, lists or torch; torch is not imported for it."""
    if type(values) is np.ndarray and values.dtype == np.float64:
        return values
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)


def write(message: Message, field: str, values: Any, shape: tuple[int, ...], labels: Sequence[str] = (),
          check: bool = True, largest: float = ABSURD) -> None:
    values = as_array(values)
    if values.shape != shape or (check and not _sane(values, largest)):
        what = f"{_name(message)}.{field}"
        sane(what, expect(what, values, shape), labels, largest)
    setattr(message, field, array("d", values.tobytes()))  # the generated code copies it as a block; a list it does not


def read(message: Message, field: str, shape: tuple[int, ...], labels: Sequence[str] = (),
         check: bool = True, largest: float = ABSURD) -> Array:
    values = np.array(getattr(message, field), dtype=np.float64)
    if values.shape != (prod(shape),):
        raise MessageError(f"{_name(message)}.{field}: expected {' x '.join(map(str, shape))} values, "
                           f"got {values.size}")
    if check and not _sane(values, largest):
        sane(f"{_name(message)}.{field}", values.reshape(shape), labels, largest)
    return values if len(shape) == 1 else values.reshape(shape)


def pick(message: Message, field: str, index: Sequence[int], size: int, labels: Sequence[str]) -> Array:
    """Read the entries `index` of a field. The field must have `size` entries; those not picked may be anything."""
    values = np.asarray(getattr(message, field), dtype=np.float64)
    if values.shape != (size,):
        raise MessageError(f"{_name(message)}.{field}: expected {size} values, one per name, got {values.size}")
    picked = values[index]
    return picked if _sane(picked, ABSURD) else sane(f"{_name(message)}.{field}", picked, labels)


def expect(what: str, values: Array, shape: tuple[int, ...]) -> Array:
    if values.shape != shape:
        raise MessageError(f"{what}: expected shape {shape}, got {values.shape}")
    return values


def sane(what: str, values: Array, labels: Sequence[str] = (), largest: float = ABSURD) -> Array:
    """The values (k,) or (k, ...) again, if all are finite and at most `largest` in size.

    Raises MessageError that names the first which is not, by its label where there is one for each of the k.
    """
    if _sane(values, largest):
        return values
    bad = ~((np.abs(values) <= largest) & np.isfinite(values))
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        of = f" of {labels[at[0]]}" if len(labels) else f"[{', '.join(map(str, at))}]"
        bounded = f" of at most {largest:g}" if largest < inf else ""
        raise MessageError(f"{what}{of} is {values[at]:g}; expected finite values{bounded}")
    return values


def _sane(values: Array, largest: float) -> bool:
    """Whether all values are certainly finite and at most `largest` in size.

    It looks at their norm, which takes a third of the time of comparing each. NaN makes it false, and so may many large
    values that are each within the limit; whoever asks then looks at them one by one.
    """
    return bool(np.vdot(values, values) <= min(largest * largest, FINITE))


def number(what: str, value: float, check: bool = True) -> float:
    if check and not isfinite(value):
        raise MessageError(f"{what}: expected a finite number, got {value}")
    return float(value)


def positive(what: str, value: float) -> float:
    if not (isfinite(value) and value > 0):
        raise MessageError(f"{what}: expected a finite number above 0, got {value}")
    return float(value)


def fraction(what: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise MessageError(f"{what}: expected 0 to 1, got {value}")
    return float(value)


def count(what: str, value: int, bits: int = 32) -> int:
    if not 0 <= value < 2**bits:
        raise MessageError(f"{what}: expected 0 to {2**bits - 1}, got {value}")
    return int(value)


def text(what: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise MessageError(f"{what}: expected a text that is not empty, got {value!r}")
    return value


def same(what: str, got: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if got == tuple(expected):
        return
    missing, extra = ([x for x in a if x not in b] for a, b in ((expected, got), (got, expected)))
    raise MessageError(f"{what}: not this robot's names; missing: {', '.join(missing) or 'none'}; "
                       f"unknown: {', '.join(extra) or 'none'}{'' if missing or extra else '; the order differs'}")


def _name(message: Message) -> str:
    return type(message).__name__.rsplit("__", 1)[-1]  # rosbags puts the package in front
