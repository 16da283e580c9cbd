"""Controls for settings that may change while a node runs, from how the node describes them."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mbrl_ros.dashboard.server import LocalServer

DECADES = 3  # to each side of its value, of a logarithmic slider whose range begins at 0
STEPS = 200  # of a slider


class Parameter(Protocol):
    """What a slider needs to know of a setting."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def description(self) -> str: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def unit(self) -> str: ...
    @property
    def logarithmic(self) -> bool: ...
    @property
    def choices(self) -> tuple[str, ...]: ...


class Sliders:
    """A folder for every node in `place`; `change(node, name, value)` is called for what somebody has moved, from the
    server's loop, so it must not wait."""

    def __init__(self, server: LocalServer, place: Any, change: Callable[[str, str, Any], None]):
        self._gui, self._place, self._change = server.gui, place, change
        self._folders: dict[str, Any] = {}
        self._controls: dict[tuple[str, str], tuple[Any, Parameter]] = {}

    def show(self, node: str, parameters: Sequence[Parameter]) -> None:
        """The controls of a node, in place of those that it had."""
        if node in self._folders:
            self._folders.pop(node).remove()
        for key in [key for key in self._controls if key[0] == node]:
            del self._controls[key]
        able = [p for p in parameters if isinstance(p.value, (bool, int, float))]
        if not able:
            return
        with self._place, self._gui.add_folder(node, expand_by_default=node == "controller") as folder:
            self._folders[node] = folder
            for parameter in able:
                self._controls[node, parameter.name] = self._control(node, parameter), parameter

    def changed(self, node: str, name: str, value: Any) -> None:
        """Show a value that the node has by now."""
        if (node, name) not in self._controls:
            return
        control, parameter = self._controls[node, name]
        control.value = _to_slider(parameter, value) if _slides(parameter) else value
        control.label = _label(parameter, value)

    def _control(self, node: str, p: Parameter) -> Any:
        hint = f"{p.description}. {p.name}, from {p.low:g} to {p.high:g}{', logarithmic' if p.logarithmic else ''}"
        if isinstance(p.value, bool):
            control: Any = self._gui.add_checkbox(_label(p, p.value), p.value, hint=f"{p.description}. {p.name}")
        elif not _slides(p):
            finite = {name: bound for name, bound in (("min", p.low), ("max", p.high)) if math.isfinite(bound)}
            control = self._gui.add_number(_label(p, p.value), p.value, **finite, hint=hint)  # type: ignore[arg-type]
        else:
            ends = _ends(p)
            low, high = (_to_slider(p, end) for end in ends)
            marks = (low, f"{min(p.low, ends[0]):g}" if p.low <= 0 else f"{ends[0]:g}"), (high, f"{ends[1]:g}")
            control = self._gui.add_slider(_label(p, p.value), low, high, (high - low) / STEPS, _to_slider(p, p.value),
                                           marks=marks, hint=hint)

        @control.on_update
        async def moved(event: Any) -> None:
            if event.client is None:  # not by a person
                return
            value = _from_slider(p, control.value) if _slides(p) else control.value
            control.label = _label(p, value)
            self._change(node, p.name, value)

        return control


def _slides(p: Parameter) -> bool:
    """Whether it is a number with two ends near enough to each other for a slider."""
    return isinstance(p.value, float) and math.isfinite(p.low) and math.isfinite(p.high)


def _label(p: Parameter, value: Any) -> str:
    short = p.name.removeprefix("task.")
    return short if isinstance(value, bool) else f"{short} = {value:.4g}{' ' + p.unit if p.unit else ''}"


def _ends(p: Parameter) -> tuple[float, float]:
    """Of its slider: of the range, but for a logarithmic one that begins at 0, some decades about the value."""
    if not p.logarithmic or p.low > 0:
        return p.low, p.high
    middle = p.value if p.value > 0 else 10.0**-DECADES * p.high
    return 10.0**-DECADES * middle, min(10.0**DECADES * middle, p.high)


def _to_slider(p: Parameter, value: float) -> float:
    if not p.logarithmic:
        return value
    low, high = _ends(p)
    return math.log10(min(max(value, low), high))


def _from_slider(p: Parameter, position: float) -> float:
    """Three digits of it, as nobody means more; the lower end of a logarithmic slider that begins at 0 is 0."""
    value = 10.0**position if p.logarithmic else position
    if p.logarithmic and p.low <= 0 and value <= 1.01 * _ends(p)[0]:
        return p.low
    return min(max(float(f"{value:.3g}"), p.low), p.high)
