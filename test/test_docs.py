"""Every block of code in docs/ runs, or is of a kind that is checked by what it names, or is marked as for hardware.

Python is run. YAML is read as the nodes read it. Of a line of shell it is checked that the command is there and takes
the arguments: targets and variables of make, executables, launch arguments, and services, topics and parameters by the
generated reference.
"""
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_package import EXECUTABLES, ROOT

from mbrl_ros.config import read

DOCS = ROOT / "docs"
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if not {"_build", "reference"} & set(p.parts)
         and p.name not in ("results.md", "design.md")]  # these two are written by who measured
FENCE = re.compile(r"^```([\w{}-]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
REFERENCE = {name: (DOCS / "reference" / f"{name}.md").read_text() for name in ("parameters", "topics")}
MAKE = (ROOT / "Makefile").read_text()
LAUNCH = re.findall(r'^    "(\w+)": \(', (ROOT / "mbrl_ros" / "nodes" / "bringup.py").read_text(), re.MULTILINE)
HARDWARE = "# hardware"


def blocks(path):
    return FENCE.findall(path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_every_block_of_a_page_is_checked(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for language, code in blocks(path):
        if code.startswith(HARDWARE) or language in ("{toctree}", "{include}", "text"):
            continue
        if language == "python":
            exec(compile(code, str(path), "exec"), names)
        elif language == "yaml":
            check_yaml(code, tmp_path / "file.yaml")
        elif language == "sh":
            for line in code.replace("\\\n", " ").splitlines():
                check_line(line)
        else:
            raise AssertionError(f"{path.name}: a block of {language or 'no language'}")


def test_blocks_for_hardware_are_readable():
    for path in PAGES:
        for language, code in blocks(path):
            if language == "yaml" and code.startswith(HARDWARE):
                assert isinstance(yaml.safe_load(code), dict), path


def check_yaml(code, path):
    """As a parameter file whose names are all declared."""
    path.write_text(code)
    for group, values in read(path).items():
        for key in values:
            assert f"`{group}.{key}`" in REFERENCE["parameters"], f"{group}.{key}"


def check_line(line):
    words = shlex.split(line, comments=True)
    if not words:
        return
    match words:
        case ["make", target, *variables]:
            takes = re.search(rf"^takes\.{target} = (.+)$", MAKE, re.MULTILINE)
            assert re.search(rf"^{target}:", MAKE, re.MULTILINE), line
            for variable in variables:
                assert takes and variable.partition("=")[0] in takes[1].split(), line
        case ["ros2", "run", "mbrl_ros", name, *_]:
            assert name in dict(EXECUTABLES), line
        case ["python3", "-m", "mbrl_ros.nodes", name, *arguments]:
            assert (ROOT / "mbrl_ros" / "nodes" / f"{name}.py").is_file(), line
            if name == "bringup":
                check_launch(arguments, line)
        case ["python3", "-m", module, *_]:
            assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file(), line
        case ["ros2", "launch", "mbrl_ros", file, *arguments]:
            assert (ROOT / "launch" / file).is_file(), line
            check_launch(arguments, line)
        case ["ros2", "service", "call", name, kind, *request]:
            assert f"| `{name}` | `{kind}` |" in REFERENCE["topics"], line
            assert all(isinstance(yaml.safe_load(r), dict) for r in request), line
        case ["ros2", "topic", "echo" | "pub" as verb, *rest]:
            name, *kind = [word for word in rest if not word.startswith("--")][: 1 if verb == "echo" else 2]
            assert f"| `{name}` |" in REFERENCE["topics"] and all(f"`{k}`" in REFERENCE["topics"] for k in kind), line
        case ["ros2", "param", "set" | "describe" | "get", _, name, *_]:
            check_parameter(name, line)
        case ["pip", "install", what] if what.startswith("."):
            extras = re.search(r"extras_require={(.+?)}", (ROOT / "setup.py").read_text(), re.DOTALL)[1]
            assert all(f"'{extra}':" in extras for extra in re.findall(r"\w+", what)), line
        case _:
            raise AssertionError(f"not known how to check: {line}")


def check_launch(arguments, line):
    for argument in arguments:
        name, assigned, _ = argument.partition(":=")
        assert assigned and name in LAUNCH, line


def check_parameter(name, line):
    group, *rest = name.split(".")
    generic = f"task.TERM.{rest[-1]}" if group == "task" and len(rest) == 2 and rest[0] != "path" else name
    assert f"`{generic}`" in REFERENCE["parameters"], line


def test_the_checks_find_what_is_wrong():
    for line in ("make dema", "make demo ROBOTT=arm", "ros2 run mbrl_ros nothing", "rm -rf /", "python3 -m mbrl_ros.no",
                 "ros2 service call /controller/dance std_srvs/srv/Trigger", "ros2 param set /learner learner.a false",
                 "ros2 launch mbrl_ros bringup.launch.py robott:=arm", "ros2 topic echo /nothing"):
        with pytest.raises(AssertionError):
            check_line(line)


def test_every_feature_names_something_that_is_there():
    text = (DOCS / "features.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 27))
    for _, feature, shown in rows:
        tests, pages = re.findall(r"`(test/[\w/]+\.py)`", shown), re.findall(r"\]\(([\w/]+\.md)\)", shown)
        assert tests or pages, feature
        assert all((ROOT / test).is_file() for test in tests), feature
        assert all((DOCS / page).is_file() for page in pages), feature


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for path in PAGES:
        for tree in re.findall(r"^```{toctree}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            pages = [path.parent / f"{name}.md" for name in tree.split()]
            listed |= {page.resolve() for page in pages if page.is_file()}
    all_of = {p.resolve() for p in DOCS.rglob("*.md") if "_build" not in p.parts}
    assert all_of - listed == {(DOCS / "index.md").resolve()}


def test_the_pages_build_without_a_warning_and_need_no_network(tmp_path):
    for name in ("sphinx", "myst_parser", "furo", "latex2mathml"):
        pytest.importorskip(name)
    done = subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", str(tmp_path / "trees"),
                           str(DOCS), str(tmp_path / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for page in (tmp_path / "html").rglob("*.html"):
        for asked in re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="([^"]+)"', page.read_text()):
            assert not re.match(r"https?:|//", asked), f"{page.name}: {asked}"
    concepts = (tmp_path / "html" / "concepts.html").read_text()
    article = concepts.partition("<article")[2].partition("</article")[0]
    assert article.count("<math") > 20 and "$" not in re.sub(r"<[^>]+>", "", article)
