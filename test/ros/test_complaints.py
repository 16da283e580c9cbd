"""Lines about bad input: none is lost that is new, none is repeated all the time."""
import pytest

from mbrl_ros.nodes import complaints
from mbrl_ros.nodes.complaints import KINDS, Complaints


class Log:
    """What a logger was given, and a clock."""

    def __init__(self):
        self.lines, self.now = [], 0.0

    def error(self, line):
        self.lines.append(line)

    warning = error


@pytest.fixture
def log(monkeypatch):
    made = Log()
    monkeypatch.setattr(complaints.time, "monotonic", lambda: made.now)
    return made


def test_the_first_of_a_kind_is_said_at_once_and_then_one_a_minute_with_a_count(log):
    made = Complaints(log)
    for k in range(601):
        log.now = 0.2 * k
        made.warning(f"a gap of {0.02 + 1e-3 * k:.3g} s")
    assert log.lines == ["a gap of 0.02 s", "a gap of 0.32 s (300 such in 60 s)", "a gap of 0.62 s (300 such in 60 s)"]


def test_another_kind_is_said_at_once_and_numbers_make_none(log):
    made = Complaints(log)
    for line in ("velocity of elbow is nan", "velocity of elbow is -1e+300", "velocity of wrist is nan", "late by 3 s"):
        made.error(line)
    assert log.lines == ["velocity of elbow is nan", "velocity of wrist is nan", "late by 3 s"]


def test_what_is_remembered_does_not_grow_without_end(log):
    made = Complaints(log)
    for k in range(10 * KINDS):
        made.error("x" * (k + 1))
    assert len(made._kinds) <= KINDS and len(log.lines) == 10 * KINDS
