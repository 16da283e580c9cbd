"""Settings: types, ranges and names are checked, and the message says what was expected."""
from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from mbrl_ros import config
from mbrl_ros.config import ConfigError, Names, param


@dataclass(frozen=True)
class Sample:
    gain: float = param(1.0, "a gain", 0.0, 10.0)
    count: int = param(3, "a count", 1)
    kind: str = param("a", "a kind", choices=("a", "b"))
    limits: tuple[float, ...] = param((), "limits", 0.0)
    on: bool = param(False, "a switch")
    names: tuple[str, ...] = param(("tool",), "names")
    ids: tuple[int, ...] = param((), "ids")

    def __post_init__(self):
        if len(self.names) > self.count:
            raise ConfigError(f"names: expected at most count, {self.count}, got {len(self.names)}")


def test_values_are_taken_and_defaults_kept():
    sample = config.from_mapping(Sample, {"gain": 2, "limits": [1.0, 2.0], "kind": "b"}, "sample")
    assert sample == Sample(gain=2.0, limits=(1.0, 2.0), kind="b")


@pytest.mark.parametrize("values, expected", [
    ({"gain": "x"}, "sample.gain: expected float"),
    ({"gain": 11.0}, "sample.gain: expected a value from 0.0 to 10.0"),
    ({"gain": float("nan")}, "sample.gain: expected a finite number"),
    ({"count": 2.5}, "sample.count: expected int"),
    ({"count": True}, "sample.count: expected int"),
    ({"kind": "c"}, "sample.kind: unknown 'c'; choose one of a, b"),
    ({"limits": 3.0}, "sample.limits: expected a list"),
    ({"limits": [1.0, -1.0]}, "sample.limits: expected a value from 0.0"),
    ({"on": 1}, "sample.on: expected bool"),
    ({"limits": ["a", 1.0]}, "sample.limits: expected a list of float, got str 'a' in it"),
    ({"limits": [1.0, True]}, "sample.limits: expected a list of float, got bool True in it"),
    ({"names": [1]}, "sample.names: expected a list of str, got int 1 in it"),
    ({"names": ["tool", None]}, "sample.names: expected a list of str, got NoneType None in it"),
    ({"ids": [1.5]}, "sample.ids: expected a list of int, got float 1.5 in it"),
    ({"names": ["a", "b", "c", "d"]}, "sample.names: expected at most count, 3, got 4"),
    ({"gian": 1.0}, "sample.gian: unknown setting; sample has gain, count, kind, limits, on, names, ids"),
])
def test_bad_values_are_refused_with_the_reason(values, expected):
    with pytest.raises(ConfigError) as error:
        config.from_mapping(Sample, values, "sample")
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values, expected", [
    ({"gain": 11.0}, "sample.gain: expected a value from 0.0 to 10.0"),
    ({"names": [1.0]}, "sample.names: expected a list of str, got float 1.0 in it"),
    ({"names": ["a", "b", "c", "d"]}, "sample.names: expected at most count, 3, got 4"),
    ({"count": 0, "names": []}, "sample.count: expected a value from 1"),
])
def test_a_change_is_refused_for_the_reasons_for_which_a_file_is(values, expected):
    with pytest.raises(ConfigError) as error:
        config.changed(Sample(), values, "sample")
    assert str(error.value).startswith(expected)
    assert config.changed(Sample(), {"gain": 2}, "sample") == Sample(gain=2.0)


def test_whole_numbers_in_a_list_of_floats_are_floats():
    assert [type(v) for v in config.from_mapping(Sample, {"limits": [1, 2.0]}, "sample").limits] == [float, float]


def write_task(folder, name, text):
    path = folder / f"{name}.yaml"
    path.write_text(f"/**: {{ros__parameters: {{task: {{{text}}}}}}}")
    return path


def test_a_task_on_top_of_another(tmp_path):
    """Its settings win; `...` are the terms of its base, and a term that it does not name is gone with its settings."""
    reach = config.read_task(config.find("tasks", "reach"))["task"]
    mine = write_task(tmp_path, "mine", "base: reach, terms: [..., extra], extra: {weight: 2.0}, tool: {weight: 3.0}")
    task = config.read_task(mine)["task"]
    assert task["terms"] == [*reach["terms"], "extra"] and "base" not in task
    assert task["tool"] == {**reach["tool"], "weight": 3.0} and task["effort"] == reach["effort"]
    write_task(tmp_path, "fewer", "base: mine.yaml, terms: [extra, effort]")
    fewer = config.Names(robot="planar2", task=str(tmp_path / "fewer.yaml")).settings()["task"]
    assert fewer["terms"] == ["extra", "effort"] and "tool" not in fewer and fewer["extra"] == {"weight": 2.0}
    assert fewer["path"]["speed"] == reach["path"]["speed"]
    assert config.read_task(write_task(tmp_path, "same", "base: reach"))["task"] == reach


def test_a_task_cannot_be_its_own_base(tmp_path):
    write_task(tmp_path, "a", "base: b.yaml")
    write_task(tmp_path, "b", "base: c.yaml")
    c = write_task(tmp_path, "c", "base: b.yaml")
    with pytest.raises(ConfigError, match=r"task\.base: a circle: \S*b\.yaml on \S*c\.yaml on \S*b\.yaml$"):
        config.Names(robot="planar2", task=str(tmp_path / "a.yaml")).settings()
    with pytest.raises(ConfigError, match=r"a circle: \S*c\.yaml on \S*b\.yaml on \S*c\.yaml$"):
        config.read_task(c)
    with pytest.raises(ConfigError, match=r"task\.base: expected the name of a task, got 3"):
        config.read_task(write_task(tmp_path, "d", "base: 3"))
    with pytest.raises(ConfigError, match="unknown task 'reech'; choose one of door, eight, peg, push, reach"):
        config.read_task(write_task(tmp_path, "e", "base: reech"))


@pytest.mark.parametrize("kind, known", [("robots", "arm"), ("tasks", "reach"), ("planners", "ilqr"),
                                         ("models", "ensemble")])
def test_unknown_names_list_the_known_ones(kind, known):
    with pytest.raises(ConfigError, match=f"unknown {kind[:-1]} 'nothing'; choose one of .*{known}"):
        config.find(kind, "nothing")


@pytest.mark.parametrize("text", ["", "a: [1", "a: 1", "/**: {parameters: {}}", "- 1"])
def test_malformed_files_are_one_line(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml") as error:
        config.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "a: [1", "3", "- 1"])
def test_malformed_overrides_are_one_line(text):
    with pytest.raises(ConfigError, match="--set: ") as error:
        config.parse_overrides(text)
    assert "\n" not in str(error.value)


def test_new_folders_never_share_a_name(tmp_path):
    folders = [config.new_folder(tmp_path / "runs", "fit_") for _ in range(3)]
    assert len(set(folders)) == 3 and all(f.is_dir() and f.name.startswith("fit_") for f in folders)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--output: "):
        config.new_folder(tmp_path / "file")


def test_flatten_and_back():
    nested = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": "x"}
    assert config.unflatten(config.flatten(nested)) == nested


def files(tmp_path, **texts):
    """Parameter files by kind, and their names."""
    names = {}
    for kind, text in texts.items():
        path = tmp_path / f"{kind}.yaml"
        path.write_text(f"/**: {{ros__parameters: {text}}}")
        names[kind] = str(path)
    return Names(**names)


def test_a_robot_has_the_say_over_planner_and_prior_and_a_task_over_the_robot(tmp_path):
    """But not over which planner and which prior that are."""
    names = files(tmp_path, planner="{controller: {planner: ilqr, delay: 0.0}, ilqr: {horizon: 20, iterations: 2}}",
                  prior="{learner: {prior: gp}, gp: {inducing: 100}}",
                  robot="{ilqr: {horizon: 9}, gp: {inducing: 50}, task: {path: {width: 0.1, height: 0.1}}, "
                        "controller: {planner: lqr, delay: 1.0}, learner: {prior: none}}",
                  task="{task: {path: {width: 0.2}}}")
    assert names.settings() == {"controller": {"planner": "ilqr", "delay": 1.0}, "learner": {"prior": "gp"},
                                "ilqr": {"horizon": 9, "iterations": 2}, "gp": {"inducing": 50},
                                "task": {"path": {"width": 0.2, "height": 0.1}}}


def test_choices_may_be_a_registry_that_grows():
    known = {"a": 1}

    @dataclass(frozen=True)
    class Chosen:
        kind: str = param("a", "a kind", choices=known)

    with pytest.raises(ConfigError, match=r"unknown 'b'; choose one of a$"):
        config.from_mapping(Chosen, {"kind": "b"}, "chosen")
    known["b"] = 2
    assert config.from_mapping(Chosen, {"kind": "b"}, "chosen").kind == "b"


def test_later_files_win():
    assert config.merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}) == {"a": {"b": 1, "c": 3}, "d": 4}


@dataclass(frozen=True)
class Measured:
    speed: float = param(0.4, "Of the tool [m/s]", 0.0, 5.0)
    twice: float = param(0.4, "How much [m] is left, for [s]", 0.0, 5.0)
    given: float = param(40.0, "How many steps [not a unit]", 1.0, 1e4, unit="steps", scale=config.LOGARITHMIC)
    part: float = param(0.5, "Of the whole", 0.0, 1.0)


def test_units_are_those_of_the_description_unless_given():
    of = {f.name: f.metadata for f in fields(Measured)}
    assert {name: m["unit"] for name, m in of.items()} == {"speed": "m/s", "twice": "s", "given": "steps", "part": "1"}
    assert [name for name, m in of.items() if m["scale"] == config.LOGARITHMIC] == ["given"]
