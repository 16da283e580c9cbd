"""A guard that stands by: whom it goes on for, and when; and that a robot never has two commanders."""
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mbrl_ros.config import ConfigError
from mbrl_ros.ring import baton
from mbrl_ros.ring.baton import Baton
from mbrl_ros.ring.spare import AWAKE, STARTING, Spare

ROOT = Path(__file__).parents[1]
STOPPED, SILENCE, TICK, OTHER = 0.04, 0.2, 0.004, 4711


class Table:
    """A baton in this test's hands: who holds it, and what was done with it."""

    def __init__(self, holder=0, **said):
        self.holder, self.free, self.left = holder, holder == 0, False
        self.beaten, self.stood, self.knows, self.obeys, self.halted = 0.0, -np.inf, True, True, False
        self.ended, self.taken = [], []
        vars(self).update(said)

    def take(self, now):
        if self.free:
            self.free, self.left = False, False
            self.taken.append(now)
        return bool(self.taken)

    def know(self):
        return self.knows and not self.free and not self.taken

    def stopped(self):
        return self.halted

    def end(self):
        assert not self.free and not self.taken
        self.ended.append(self.holder)
        self.free = self.obeys
        return self.obeys

    def beat(self, now):
        self.beaten = now

    def stand(self, now):
        self.stood = now


def looked(spare, table, until, since=0.0, beats=lambda now: None):
    """Looks from `since` on; when it acted, or None."""
    for count in range(round((until - since) / TICK) + 1):
        now = since + count * TICK
        beats(now)
        if spare.look(now):
            return now
    return None


def test_the_first_begins_where_nobody_commands_and_the_second_waits_for_somebody():
    table = Table()
    assert looked(Spare(table, False, STOPPED, SILENCE), table, 10.0) is None and not table.taken
    first = Spare(table, True, STOPPED, SILENCE)
    assert first.look(10.0) and first.acts and first.reason == "" and first.met == 0
    assert table.beaten == 10.0 + STARTING  # it may take a while until the next


def test_it_goes_on_at_once_for_one_that_is_gone():
    for first in (False, True):
        table = Table(OTHER)
        spare = Spare(table, first, STOPPED, SILENCE)
        assert looked(spare, table, 1.0, beats=table.beat) is None
        assert table.stood == 1.0 and spare.met == OTHER and not spare.acts
        table.free = True
        assert spare.look(1.0 + TICK) and spare.acts and not table.ended
        assert spare.reason == f"process {OTHER} has ended" and table.stood == 1.0


@pytest.mark.parametrize(("halted", "after", "words"), [(True, STOPPED, "was stopped"),
                                                        (False, SILENCE, "did nothing")])
def test_one_that_is_stopped_or_silent_is_ended_before_it_goes_on_and_no_sooner(halted, after, words):
    table = Table(OTHER, halted=halted)
    spare = Spare(table, False, STOPPED, SILENCE)
    assert looked(spare, table, 1.0, beats=table.beat) is None
    acted = looked(spare, table, 2.0, 1.0)
    assert after < acted - 1.0 <= after + 1.001 * TICK
    assert table.ended == [OTHER] and table.taken == [acted]
    assert spare.reason == f"process {OTHER} {words} for {acted - 1.0:.3f} s, and was ended"
    assert table.beaten == acted + STARTING


def test_a_silence_shorter_than_that_of_a_stopped_one_is_that_of_all():
    table = Table(OTHER)
    assert STOPPED < looked(Spare(table, False, STOPPED, 0.01), table, 1.0) <= STOPPED + 1.001 * TICK


def test_where_the_silent_one_does_not_let_go_it_does_not_command():
    table = Table(OTHER, obeys=False)
    spare = Spare(table, False, STOPPED, SILENCE)
    assert looked(spare, table, 1.0) is None and table.ended and not table.taken
    table.free = True  # it took a moment
    assert spare.look(1.0 + TICK) and "did nothing for" in spare.reason
    table = Table(OTHER, obeys=False)
    spare = Spare(table, False, STOPPED, SILENCE)
    assert looked(spare, table, 1.0) is None and table.ended
    table.holder = OTHER + 1
    assert looked(spare, table, 2.0, 1.0, table.beat) is None
    table.free = True
    assert spare.look(2.0 + TICK) and spare.reason == f"process {OTHER + 1} has ended"


def test_one_that_cannot_be_told_from_others_is_neither_ended_nor_gone_on_for():
    table = Table(OTHER, knows=False)
    spare = Spare(table, False, STOPPED, SILENCE)
    assert looked(spare, table, 1.0) is None and not table.ended and spare.met == 0
    table.free = True
    assert looked(spare, table, 2.0, 1.0) is None and not table.taken


def test_who_slept_itself_counts_from_when_it_woke():
    """On a machine that was suspended, both have slept, and one of them wakes first."""
    table = Table(OTHER, halted=True)
    spare = Spare(table, False, STOPPED, SILENCE)
    assert looked(spare, table, 1.0, beats=table.beat) is None
    assert looked(spare, table, 9.0 + STOPPED, 9.0) is None
    assert spare.look(9.0 + STOPPED + TICK) and "was stopped for 0.04" in spare.reason


def test_looks_that_are_not_too_far_apart_count():
    table = Table(OTHER, halted=True)
    spare = Spare(table, False, STOPPED, SILENCE)
    spare.look(0.0)
    assert not spare.look(AWAKE * STOPPED) and not spare.look(2 * AWAKE * STOPPED)
    assert spare.look(3 * AWAKE * STOPPED) and table.ended == [OTHER]


def test_for_one_that_left_of_its_own_accord_only_the_first_begins_and_as_one_that_begins():
    for first in (False, True):
        table = Table(OTHER)
        spare = Spare(table, first, STOPPED, SILENCE)
        looked(spare, table, 1.0, beats=table.beat)
        table.left = table.free = True
        assert (looked(spare, table, 2.0, 1.0) is None) == (not first) and spare.reason == ""
    table.left, table.free, table.holder = False, False, OTHER + 1  # another one begins
    spare = Spare(table, False, STOPPED, SILENCE)
    table.taken.clear()
    assert looked(spare, table, 1.0, beats=table.beat) is None
    table.free = True
    assert spare.look(2.0) and spare.reason == f"process {OTHER + 1} has ended"


def test_one_that_is_leaving_is_not_ended():
    table = Table(OTHER)
    spare = Spare(table, False, STOPPED, SILENCE)
    looked(spare, table, 1.0, beats=table.beat)
    table.left = True
    assert looked(spare, table, 2.0, 1.0) is None and not table.ended


def test_whether_another_one_stands_by():
    table = Table()
    spare = Spare(table, True, STOPPED, SILENCE)
    spare.look(0.0)
    assert not spare.beside(0.0)
    other = Table(OTHER)
    Spare(other, False, STOPPED, SILENCE).look(4.0, fit=False)  # it has heard nothing of the robot yet
    assert other.stood == -np.inf
    table.stand(5.0)
    assert spare.beside(5.0 + STARTING) and not spare.beside(5.0 + 1.01 * STARTING)


# --- the baton itself, between processes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "baton"


HOLDS = """
import sys, time
import numpy as np
from mbrl_ros.ring.baton import Baton
baton = Baton(sys.argv[1])
assert baton.take(time.monotonic())
baton.write(np.arange(5.0))
print("taken", flush=True)
for line in sys.stdin:
    if line.strip() == "leave":
        baton.leave()
    baton.beat(time.monotonic())
    print("done", flush=True)
"""


class Holder:
    """Another process that holds it."""

    def __init__(self, path):
        self.process = subprocess.Popen([sys.executable, "-c", HOLDS, path], cwd=ROOT, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == "taken\n"

    def do(self, what):
        print(what, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def holder(path):
    made = Holder(path)
    yield made
    made.close()


def test_one_process_holds_it_and_is_known(path, holder):
    began, mine = time.monotonic(), Baton(path)
    assert not mine.take(began) and not mine.held
    assert mine.holder == holder.process.pid and mine.know() and not mine.left
    assert mine.beaten <= began and np.array_equal(mine.legacy, np.arange(5.0))
    holder.do("beat")
    assert began < mine.beaten <= time.monotonic()
    mine.stand(3.0)
    assert Baton(path).stood == 3.0


@pytest.mark.parametrize("stopped", [False, True])
def test_one_that_is_killed_or_stopped_lets_go(path, holder, stopped):
    mine = Baton(path)
    assert mine.know()
    if stopped:
        assert not mine.stopped()
        holder.process.send_signal(signal.SIGSTOP)
        while not mine.stopped():
            pass
        assert not mine.take(0.0)
        while not mine.end():  # a busy machine
            pass
    else:
        holder.process.kill()
    assert holder.process.wait() == -signal.SIGKILL
    assert mine.take(7.0) and mine.held and mine.take(8.0)
    assert mine.holder == os.getpid() and mine.beaten == 7.0 and not mine.left
    assert np.array_equal(mine.legacy, np.arange(5.0))  # what the other one left
    mine.leave()


def test_one_that_has_ended_already_needs_no_end(path, holder):
    mine = Baton(path)
    assert mine.know()
    holder.close()
    assert not mine.stopped() and mine.end() and mine.take(0.0)
    mine.leave()


def test_one_that_leaves_says_so(path, holder):
    mine = Baton(path)
    mine.leave()  # it has none
    assert not mine.left
    holder.do("leave")
    assert mine.left and mine.take(0.0) and not mine.left
    mine.leave()
    assert mine.left and not mine.held
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where somebody has it


def test_a_number_that_is_some_other_process_is_not_ended(path):
    """As from another container, or of one that is long gone."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = Baton(path)
    numbers = np.memmap(path, np.float64, "r+")
    try:
        for process in (other.pid, os.getpid(), 0, -1, 2**22 + 1):
            numbers[baton.HOLDER] = process
            assert not mine.know() and not mine.end()
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


def test_what_is_written_is_read_whole_or_not_at_all(path):
    """A process may be killed between any two numbers."""
    mine, other = Baton(path), Baton(path)
    assert len(other.legacy) == 0
    for length in (3, baton.ROOM - 1):
        mine.write(np.full(length, 2.0))
        half = other._written(1 - int(other._numbers[baton.WHICH]))  # where the next one goes
        half[:3] = np.nan
        assert np.array_equal(other.legacy, np.full(length, 2.0))


def test_a_file_of_no_use_is_one_line(tmp_path):
    target = tmp_path / "target"
    target.touch()
    (tmp_path / "link").symlink_to(target)
    for path in (tmp_path, tmp_path / "link", tmp_path / "nowhere" / "baton"):
        with pytest.raises(ConfigError, match=r"^guard.spare: .*: expected a file of this user: "):
            Baton(path)


def test_it_lies_in_memory():
    assert baton.place("x").name == "x" and baton.place("x").parent.is_dir()
