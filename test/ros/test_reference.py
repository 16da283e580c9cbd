"""docs/reference/ says what is declared."""
import importlib.util
import os
import subprocess
import sys

import pytest
from rig import PATIENT, ROOT

SPEC = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)


def test_the_page_of_parameters_is_that_of_the_declarations():
    assert reference.PARAMETERS.read_text() == reference.parameters(), "run scripts/reference.py"


def test_the_pages_are_those_of_running_nodes():
    """In a process and a domain of its own: where there were other nodes of the same names, the graph does not name the
    actions of a node."""
    apart = {name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"}
    done = subprocess.run([sys.executable, ROOT / "scripts" / "reference.py", "--check"], timeout=PATIENT, cwd=ROOT,
                          text=True, capture_output=True, env=apart)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_name_without_a_meaning_is_an_error():
    with pytest.raises(KeyError, match="expected a meaning"):
        reference._meaning("/nothing")
