"""Settings: one frozen dataclass per component, filled from ROS parameter files.

A field made with `param` carries its description, range or choices and unit; the same metadata declares the ROS
parameter (nodes/parameters.py) and checks a value here. Checks across fields belong into `__post_init__`, which raises
ConfigError("field: expected ..."): it is called when files are read and when a live setting changes, before it does.
Files are ordinary ROS parameter files (`/**: {ros__parameters: {...}}`); later files win; an unknown key is an error
that names the known ones.
"""
from __future__ import annotations

import dataclasses
import math
import os
import re
import site
import sysconfig
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
SCALES = LINEAR, LOGARITHMIC = ("linear", "logarithmic")


class ConfigError(ValueError):
    """A setting, file or name that cannot be used; the message says what was expected."""


def param(default: Any, description: str, low: float | None = None, high: float | None = None,
          choices: Collection[str] = (), live: bool = False, unit: str = "", scale: str = LINEAR) -> Any:
    """A dataclass field with what a ROS parameter needs: description, range or choices, and whether it may change.

    Choices that are the keys of a registry are given as the registry itself,
    and count as they are when a value is checked. The unit is what the description has in brackets last, unless it is
    given; "1" of what has none. `scale` is that of a slider: LINEAR or LOGARITHMIC, which a range does not tell.
    """
    bracketed = re.findall(r"\[([^\]]+)\]", description)
    metadata = {"description": description, "low": low, "high": high, "choices": choices, "live": live,
                "unit": unit or (bracketed[-1] if bracketed else "1"), "scale": scale}
    if isinstance(default, (list, dict)):
        raise TypeError("defaults are immutable: use a tuple")
    return field(default=default, metadata=metadata)


def check(cls: type[Any], key: str, value: Any, prefix: str) -> Any:
    """The value as the type of the field `key` of a dataclass, or a ConfigError that names what was expected."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    name = f"{prefix}.{key}"
    if key not in fields:
        raise ConfigError(f"{name}: unknown setting; {prefix} has {', '.join(fields)}")
    hint, metadata = typing.get_type_hints(cls)[key], fields[key].metadata
    if typing.get_origin(hint) is not tuple:
        return _check_one(name, value, hint, metadata)
    if not isinstance(value, (list, tuple)) and not hasattr(value, "tolist"):
        raise ConfigError(f"{name}: expected a list, got {value!r}")
    items = value.tolist() if hasattr(value, "tolist") else value
    return tuple(_check_one(name, item, typing.get_args(hint)[0], metadata, " in it") for item in items)


def _check_one(name: str, value: Any, expected: type[Any], metadata: Mapping[str, Any], where: str = "") -> Any:
    """A value, or one of a list."""
    if expected is float and ((isinstance(value, int) and not isinstance(value, bool)) or _is_number(value)):
        value = float(value)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        kind = f"a list of {expected.__name__}" if where else expected.__name__
        raise ConfigError(f"{name}: expected {kind}, got {type(value).__name__} {value!r}{where}")
    choices = metadata.get("choices") or ()
    if choices and value not in choices:
        raise ConfigError(f"{name}: unknown {value!r}; choose one of {', '.join(choices)}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    low, high = metadata.get("low"), metadata.get("high")
    if not math.isfinite(value):
        raise ConfigError(f"{name}: expected a finite number, got {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ConfigError(f"{name}: expected a value from {low} to {high}, got {value!r}")
    return value


def _is_number(value: Any) -> bool:
    """Whether a text is a number all the same: YAML 1.1 takes 2e-2 for text, and ROS for a number."""
    return isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value) is not None


def from_mapping(cls: type[T], values: Mapping[str, Any], prefix: str) -> T:
    """An instance of the dataclass `cls`; unknown keys and bad values raise ConfigError with their full name."""
    checked = {key: check(cls, key, value, prefix) for key, value in values.items()}
    return _made(lambda: cls(**checked), prefix)


def changed(settings: T, values: Mapping[str, Any], prefix: str) -> T:
    """The same dataclass instance with other values, which are checked like those of a file."""
    checked = {key: check(type(settings), key, value, prefix) for key, value in values.items()}
    return _made(lambda: dataclasses.replace(settings, **checked), prefix)  # type: ignore[type-var]


def _made(make: Callable[[], T], prefix: str) -> T:
    """What a dataclass refuses as a whole, in the name of its group."""
    try:
        return make()
    except (ValueError, TypeError) as error:
        joint = "." if isinstance(error, ConfigError) else ": "
        raise ConfigError(f"{prefix}{joint}{error}") from error


def share() -> Path:
    """The folder that holds config/: the source tree, the share folder of a workspace, or that of a pip install."""
    source = Path(__file__).resolve().parents[1]
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sysconfig.get_path("data"), str(source),
                site.getuserbase()]
    for candidate in (source, *(Path(prefix) / "share" / "mbrl_ros" for prefix in prefixes if prefix)):
        if (candidate / "config" / "robots").is_dir():
            return candidate
    raise ConfigError("config/ not found: source the workspace (install/setup.bash) or run from the source tree")


def find(kind: str, name: str) -> Path:
    """The file config/<kind>/<name>.yaml, or `name` itself where it is a path to an existing file.

    kind is one of robots, tasks, planners, models, excitations. Raises ConfigError that lists the shipped names.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path.resolve()
        raise ConfigError(f"{kind[:-1]}: no file {name}")
    folder = share() / "config" / kind
    path = folder / f"{name}.yaml"
    if path.is_file():
        return path
    known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    raise ConfigError(f"unknown {kind[:-1]} {name!r}; choose one of {known}, or give the path of a .yaml file")


def new_folder(parent: Path, prefix: str = "") -> Path:
    """A folder in `parent` named after the present time; raises ConfigError where there can be none."""
    stamp = f"{prefix}{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    for name in (stamp, *(f"{stamp}-{i}" for i in range(2, 100))):
        try:
            (parent / name).mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"--output: {parent}: {error.strerror}") from error
        return parent / name
    raise ConfigError(f"--output: {parent}: no free name for a new folder")


def parse_overrides(text: str) -> dict[str, Any]:
    """The nested settings of `--set` on a command line, given as YAML."""
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"--set: expected a mapping such as '{{ensemble: {{members: 3}}}}', got {text!r}")
    return settings


def read(path: Path) -> dict[str, Any]:
    """The nested parameters of one ROS parameter file."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML: {reason}") from error
    if not isinstance(document, dict) or not all(
            isinstance(node, dict) and isinstance(node.get("ros__parameters"), dict) for node in document.values()):
        raise ConfigError(f"{path}: expected a ROS parameter file: '/**: {{ros__parameters: {{...}}}}'")
    merged: dict[str, Any] = {}
    for node in document.values():
        merged = merge(merged, node["ros__parameters"])
    return merged


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested union of two mappings in which `over` wins."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def read_all(paths: Iterable[Path]) -> dict[str, Any]:
    """Several parameter files as one nested mapping; later ones win."""
    settings: dict[str, Any] = {}
    for path in paths:
        settings = merge(settings, read(path))
    return settings


def read_task(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task file; where it says `base: name`, on top of that task, whose terms are `...` in its own list of terms.

    Raises ConfigError for bases that go round in a circle, naming them; `above` are the files that led here.
    """
    if path in above:
        raise ConfigError(f"task.base: a circle: {' on '.join(str(p) for p in (*above[above.index(path):], path))}")
    settings = read(path)
    task = dict(section(settings, "task"))
    if "base" not in task:
        return settings
    name = task.pop("base")
    if not isinstance(name, str):
        raise ConfigError(f"{path}: task.base: expected the name of a task, got {name!r}")
    beside = path.parent / name
    base = read_task(find("tasks", str(beside) if beside.suffix and beside.is_file() else name), (*above, path))
    below = section(base, "task")
    old, terms = below.get("terms", []), task.get("terms", ["..."])
    if isinstance(old, list) and isinstance(terms, list):
        task["terms"] = [name for each in terms for name in (old if each == "..." else [each])]
        base["task"] = {key: group for key, group in below.items() if key not in old or key in task["terms"]}
    return merge(base, {**settings, "task": task})


def section(settings: Mapping[str, Any], name: str, prefix: str = "") -> Mapping[str, Any]:
    """The sub-mapping `name`, empty where absent; `prefix` is what it lies in."""
    value = settings.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{prefix}{name}: expected a group of settings, got {value!r}")
    return value


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{'a.b': 1} -> {'a': {'b': 1}}."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, key = name.split(".")
        level = nested
        for group in groups:
            level = level.setdefault(group, {})
        level[key] = value
    return nested


@dataclass(frozen=True)
class Names:
    """What to run: the four names a launch file or a command line gives."""

    robot: str = "arm"
    task: str = "reach"
    planner: str = "ilqr"
    prior: str = "ensemble"

    def settings(self) -> dict[str, Any]:
        """The parameters of the four files, with file paths inside them made absolute.

        Later ones win: planner, prior, robot, task. So the file of a robot may hold those settings of a planner or a
        model that depend on its joints. Which planner and which prior there are, their own files decide.
        """
        robot = find("robots", self.robot)
        chosen = read_all([find("planners", self.planner), find("models", self.prior)])
        settings = merge(merge(chosen, read(robot)), read_task(find("tasks", self.task).resolve()))
        for group, key in (("controller", "planner"), ("learner", "prior")):
            if key in section(chosen, group):
                settings = merge(settings, {group: {key: chosen[group][key]}})
        model = section(settings, "robot").get("model")
        if isinstance(model, str) and not model.lstrip().startswith("<"):  # XML itself has no path
            settings["robot"] = {**settings["robot"], "model": str((robot.parent / model).resolve())}
        return settings
