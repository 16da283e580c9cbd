"""What README.md and docs/ say of files and figures is so."""
from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from test_package import ROOMS, ROOT

SPEC = importlib.util.spec_from_file_location("figures", ROOT / "scripts" / "figures.py")
figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(figures)

ALL = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = {"seed": 0, "median_error_mm": 0.3, "oracle_cost_ratio": 1.0, "diverged": False, "fault": "", "peak_mm": None,
       "recovery_s": None, "after_payload": {"oracle_cost_ratio": 1.2}}
DIVERGED = {**RUN, "seed": 1, "median_error_mm": None, "oracle_cost_ratio": None, "diverged": True, "fault": "stop",
            "after_payload": {"oracle_cost_ratio": None}}
TOTAL = {"targets": 40, "success_5mm": 0.925, "success_20mm": 0.95, "worst_error_mm": None}


@pytest.mark.parametrize("path", figures.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_files(path):
    """As `python3 scripts/figures.py` would write them."""
    text = path.read_text()
    assert figures.filled(text, figures.read(), path.name != "README.md") == text


def test_every_table_has_its_place_and_every_file_its_command():
    places = {name for path in figures.DOCUMENTS for name in re.findall(r"<!-- figures: (\w+) -->", path.read_text())}
    assert places <= set(figures.TABLES)
    files = {file for made_of, _ in figures.TABLES.values() for file in made_of}
    assert files <= set(figures.COMMANDS) and set(figures.read()) <= set(figures.COMMANDS)


def test_a_divergence_stands_in_its_row_and_shows_in_spread_and_worst():
    kept = {"ensemble_30s": {"result": {"all": {"ensemble": TOTAL}, "seeds": {"ensemble": [RUN, DIVERGED, RUN]}}}}
    row = figures.reaching([("it", "ensemble_30s", "ensemble"), ("not measured", "no_adapt", "ensemble")], kept)[2:]
    assert row == ["| it | 3 | 37 of 40 | 38 of 40 | 0.30 (0.30 to ∞) | ∞ | 1.00 (1.00 to ∞) | 1.20 (1.20 to ∞) | 1 |"]
    of = {**TOTAL, "scenario": "far", "prior": "ensemble", "divergences": 1, "runs": [RUN, DIVERGED, RUN]}
    assert figures.scenarios("far", {"far": {"result": [of]}})[2:] == [
        "| far | ensemble | 37 of 40 | 0.30 (0.30 to ∞) | ∞ | 1.00 (1.00 to ∞) |  |  | 1 |"]


def test_a_table_without_its_file_stays_and_one_that_nobody_makes_is_an_error():
    text = "<!-- figures: soak -->\nas it was\n<!-- end -->"
    assert figures.filled(text, {}, True) == text
    now = {"soak": {"command": "soak", "date": "today", "machine": "one", "commit": "abc", "result": {"ticks": 5}}}
    assert "- ticks: 5" in figures.filled(text, now, True) and "as it was" not in figures.filled(text, now, True)
    with pytest.raises(KeyError):
        figures.filled(text.replace("soak", "nobody"), {}, True)


def test_what_is_kept_is_short_and_says_all_that_the_tables_need():
    found = figures.short({"arguments": {"seeds": "0"}, "seeds": [{"seed": 0, "costs": [1.0, 2.0], "of": 0.123456}]})
    assert found == {"seeds": [{"seed": 0, "of": 0.1235}]}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_files_that_a_document_names_are_there(path):
    text = path.read_text()
    for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|yaml|sh|cpp))`", text):
        places = [ROOT / name, ROOT / "mbrl_ros" / name, *([] if "/" in name else ROOT.glob(f"mbrl_ros/**/{name}"))]
        assert any(place.is_file() for place in places), name
    for module in re.findall(r"python3 -m (mbrl_ros[.\w]+)", text):
        path_of = ROOT / Path(*module.split("."))
        assert path_of.with_suffix(".py").is_file() or (path_of / "__main__.py").is_file(), module
    for link in re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", text):
        assert (path.parent / link).is_file(), link


def test_the_map_of_the_rooms_is_in_the_order_that_imports_keep():
    rows = re.findall(r"^\| ((?:`\w+(?:/|\.py)`(?:, )?)+) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    told = [re.sub(r"/|\.py", "", room) for row in rows for room in re.findall(r"`([^`]+)`", row)]
    there = {path.stem for path in (ROOT / "mbrl_ros").iterdir()}
    assert told[1:] == [room for room in ROOMS if room in there]  # the first is the head of the table
