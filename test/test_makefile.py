"""Variables of make: those that a target takes reach its command, all others are refused."""
import re
import shutil
import subprocess

import pytest
from test_package import ROOT

MAKE = shutil.which('make')
TEXT = (ROOT / 'Makefile').read_text()
TAKES = {goal: names.split() for goal, names in re.findall(r'^takes\.([a-z]+) = ([A-Z_ ]+)$', TEXT, re.MULTILINE)}
pytestmark = pytest.mark.skipif(MAKE is None, reason='make is missing')


def make(*arguments):
    return subprocess.run([MAKE, '-s', '-n', *arguments], cwd=ROOT, text=True, capture_output=True)


@pytest.mark.parametrize('goal', TAKES)
def test_every_variable_reaches_the_command(goal):
    given = [f'{name}=value_of_{name}' for name in TAKES[goal]]
    done = make(goal, *given)
    assert done.returncode == 0 and all(f'value_of_{name}' in done.stdout for name in TAKES[goal]), done.stderr


@pytest.mark.parametrize('goal', TAKES)
def test_an_unknown_variable_is_refused_in_one_line_before_anything_runs(goal):
    done = make(goal, 'PLANER=x')
    assert done.returncode == 2 and done.stdout == '' and done.stderr.count('\n') == 1
    assert f'PLANER: unknown variable; make {goal} takes {" ".join(TAKES[goal])}' in done.stderr


def test_help_names_what_demo_takes():
    line = next(line for line in TEXT.splitlines() if line.startswith('demo:'))
    assert re.findall(r'\b([A-Z_]+)=', line) == TAKES['demo']
