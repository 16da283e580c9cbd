"""Fields of the settings' dataclasses -> declared ROS parameters, and back.

A node gets its settings from the files that the parameters `files.robot`, `files.task`, `files.planner` and
`files.prior` name (a shipped name or the path of a .yaml file), with everything given by --params-file or -p on top.
`robot:=arm` is short for `files.robot:=arm` and wins over it; it is not declared, because what `ros2 param dump` writes
has no room for a value `robot` beside a group `robot`. Each node declares what it uses, with description, range and
choices. Fields marked `live` may be set while the node runs; the rest is read-only. Imports no
torch, for nodes that do without.
"""
from __future__ import annotations

import dataclasses
import typing
from array import array
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_ros import config, options
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.nodes.complaints import Complaints

ROS = ("use_sim_time", "start_type_description_service", "qos_overrides.")  # declared by rclpy itself
NAMES = {f.name: f.default for f in dataclasses.fields(Names)}
HELP = "Name of a file in config/{} or path of a .yaml file"
KINDS = {"robot": "robots", "task": "tasks", "planner": "planners", "prior": "models"}
TARGET = "task.target"
TYPES = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, float: Parameter.Type.DOUBLE,
         str: Parameter.Type.STRING}
ARRAYS = {bool: Parameter.Type.BOOL_ARRAY, int: Parameter.Type.INTEGER_ARRAY, float: Parameter.Type.DOUBLE_ARRAY,
          str: Parameter.Type.STRING_ARRAY}

Settings = dict[str, Any]
Change = Callable[[Any], object]


@dataclasses.dataclass
class Group:
    """The present settings of one dataclass. `check` is called with new ones before they are taken, `changed` after."""

    prefix: str
    value: Any
    changed: Change | None
    check: Change | None


class SettingsNode(Node):
    """A node with settings: `settings` is what parts are built from, `options` what the node itself uses.

    `parts` and `own` are the settings' dataclasses that it knows, by prefix. Raises ConfigError for anything in them
    that cannot be used, and, where it knows `all_settings`, for what is in neither.
    """

    parts: ClassVar[Mapping[str, Any]]
    own: ClassVar[Mapping[str, Any]]
    all_settings: ClassVar[bool] = True

    def __init__(self, name: str, **arguments: Any):
        super().__init__(name, **arguments)
        self.complaints = Complaints(self.get_logger())
        given = self._given()
        self.names = Names(**{key: _text(key, given.pop(key, given.pop(f"files.{key}", default)))
                              for key, default in NAMES.items()})
        self.settings, self._options = self._split(config.merge(self.names.settings(), config.unflatten(given)))
        self._groups: dict[str, Group] = {}
        for key in NAMES:
            self.declare_parameter(f"files.{key}", getattr(self.names, key), ParameterDescriptor(
                description=HELP.format(KINDS[key]), read_only=True), ignore_override=True)
        self.process: options.Process = self.declare("process", self.option(options.Process, "process"))
        self.add_on_set_parameters_callback(self._check)
        self.add_post_set_parameters_callback(self._apply)

    def _given(self) -> dict[str, Any]:
        """The parameters given from outside. They are declared later, checked and with a description.

        An empty list in a file has no type, hence no value here; rclpy cannot declare it by itself.
        """
        given = {name: p.value for name, p in self._parameter_overrides.items() if not name.startswith(ROS)}
        return {name: [] if value is None else value.tolist() if isinstance(value, array) else value
                for name, value in given.items()}

    def _split(self, settings: Mapping[str, Any]) -> tuple[Settings, Settings]:
        """Checked settings of the parts, and of the nodes. Raises ConfigError for an unknown name or a bad value."""
        parts: Settings = {}
        nodes: Settings = {}
        for prefix in settings:
            if prefix == "task":
                parts[prefix] = config.section(settings, prefix)
                continue
            if prefix not in self.parts and prefix not in self.own:
                if not self.all_settings:
                    continue
                known = ", ".join(dict.fromkeys([*NAMES, *self.parts, *self.own]))
                raise ConfigError(f"{prefix}: unknown setting; there are {known}")
            values = config.section(settings, prefix)
            parts[prefix] = dict(values)
            if prefix in self.own:
                parts[prefix], nodes[prefix] = options.split(values, self.own[prefix], prefix)
            if prefix in self.parts:
                config.from_mapping(self.parts[prefix], parts[prefix], prefix)
            elif parts[prefix]:
                raise ConfigError(f"{prefix}.{next(iter(parts[prefix]))}: unknown setting; {prefix} has "
                                  f"{', '.join(f.name for f in dataclasses.fields(self.own[prefix]))}")
        return parts, nodes

    def option(self, cls: Any, prefix: str) -> Any:
        """The node's own settings of a component."""
        return config.from_mapping(cls, config.section(self._options, prefix), prefix)

    def component(self, cls: Any, prefix: str) -> Any:
        """The settings of a component of the parts."""
        return config.from_mapping(cls, config.section(self.settings, prefix), prefix)

    def declare(self, prefix: str, value: Any, changed: Change | None = None, check: Change | None = None,
                only: str = "") -> Any:
        """Declare the fields of a dataclass instance with its values, or the one that is used `only`.

        `changed(new instance)` makes live ones work. `check(new instance)` raises ConfigError where the change must be
        refused for more than the dataclass knows.
        """
        group = Group(prefix, value, changed, check)
        types = typing.get_type_hints(type(value))
        for f in dataclasses.fields(value):
            if only not in ("", f.name):
                continue
            name, present = f"{prefix}.{f.name}", getattr(value, f.name)
            descriptor = describe(f, types[f.name], changed is not None)
            if present == ():
                self._declare_empty(name, _type(types[f.name]), descriptor)
            else:
                present = list(present) if isinstance(present, tuple) else present
                self.declare_parameter(name, present, descriptor, ignore_override=True)
            self._groups[name] = group  # after the declaration, which calls _check and _apply too
        return value

    def lockstep(self) -> bool:
        """Declare plant.pace: whether the simulated robot waits for an answer to every state."""
        pace: str = self.declare("plant", self.component(self.parts["plant"], "plant"), only="pace").pace
        return pace == "lockstep"

    def _declare_empty(self, name: str, kind: Parameter.Type, descriptor: ParameterDescriptor) -> None:
        """Declare an empty list: by its type, which the list itself does not tell, then set, then described.

        In this order, because what is read-only can no longer be set.
        """
        self.declare_parameter(name, kind, ignore_override=True)
        self.set_parameters([Parameter(name, kind, [])])
        self.set_descriptor(name, descriptor)

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            for group, value in self._changes(parameters):
                if group.check is not None:
                    group.check(value)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        for group, value in self._changes(parameters):
            group.value = value
            if group.changed is not None:
                group.changed(value)

    def _changes(self, parameters: list[Parameter]) -> list[tuple[Group, Any]]:
        """The groups that the parameters change, with their new values."""
        changes: dict[int, tuple[Group, dict[str, Any]]] = {}
        for parameter in parameters:
            group = self._groups.get(parameter.name)
            if group is None:
                continue
            changes.setdefault(id(group), (group, {}))[1][parameter.name.rpartition(".")[2]] = parameter.value
        return [(group, config.changed(group.value, values, group.prefix)) for group, values in changes.values()]


def describe(f: dataclasses.Field[Any], hint: Any, live: bool) -> ParameterDescriptor:
    """The ROS description of a field."""
    of = f.metadata
    descriptor = ParameterDescriptor(description=of["description"], type=_type(hint).value,
                                     read_only=not (live and of["live"]))
    if of["choices"]:
        descriptor.additional_constraints = f"one of {', '.join(of['choices'])}"
    low, high = of["low"], of["high"]
    numbers = hint in (int, float) or typing.get_args(hint)[:1] in ((int,), (float,))
    bounds = "" if low is None and high is None else f"from {_bound(low, '-')} to {_bound(high, '')}"
    if numbers:  # what ROS has no fields for
        unit = "" if of["unit"] == "1" else f"unit {of['unit']}"
        descriptor.additional_constraints = "; ".join(filter(None, (bounds, unit, f"{of['scale']} scale")))
    if not bounds:
        return descriptor
    if hint is float:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float("-inf") if low is None else float(low),
                                                              to_value=float("inf") if high is None else float(high))]
    elif hint is int:
        descriptor.integer_range = [IntegerRange(from_value=-2**63 if low is None else int(low),
                                                 to_value=2**63 - 1 if high is None else int(high))]
    return descriptor


class Described(typing.NamedTuple):
    """A parameter as a node describes it, with its present value."""

    name: str
    value: Any
    description: str
    low: float  # -inf and inf where there is no bound
    high: float
    unit: str  # "" where it has none
    logarithmic: bool  # the scale of a slider
    choices: tuple[str, ...]


def described(name: str, value: Any, descriptor: ParameterDescriptor) -> Described:
    """What `describe` has written into a descriptor."""
    parts = descriptor.additional_constraints.split("; ")
    unit = next((part.removeprefix("unit ") for part in parts if part.startswith("unit ")), "")
    choices = tuple(parts[0].removeprefix("one of ").split(", ")) if parts[0].startswith("one of ") else ()
    ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
    low, high = (ranges[0].from_value, ranges[0].to_value) if ranges else (float("-inf"), float("inf"))
    return Described(name, value, descriptor.description, low, high, unit,
                     f"{config.LOGARITHMIC} scale" in parts, choices)


def _bound(value: float | None, sign: str) -> str:
    return f"{sign}inf" if value is None else f"{value:g}"


def _type(hint: Any) -> Parameter.Type:
    return ARRAYS[typing.get_args(hint)[0]] if typing.get_origin(hint) is tuple else TYPES[hint]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name}: expected a name, got {type(value).__name__} {value!r}")
    return value
