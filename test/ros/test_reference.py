"""docs/reference/ says what is declared."""
import importlib.util

import pytest
from rig import ROOT

SPEC = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)


def test_the_page_of_parameters_is_that_of_the_declarations():
    assert reference.PARAMETERS.read_text() == reference.parameters(), "run scripts/reference.py"


def test_the_page_of_topics_is_that_of_running_nodes(ros):
    assert reference.GRAPH.read_text() == reference.graph(), "run scripts/reference.py"


def test_a_name_without_a_meaning_is_an_error():
    with pytest.raises(KeyError, match="expected a meaning"):
        reference._meaning("/nothing")
