"""The baton of two guards on one machine: who holds it commands the robot, and nobody else does.

It is a lock on a file in memory, which the system takes from a process that ends, however it ends, and gives to nobody
while one that is only stopped has it: such a one is ended first, by the one that stands by. Beside it, in the same
file, lies what that one has to know: when the holder was last seen at work, and what it would go on from.
"""
from __future__ import annotations

import fcntl
import mmap
import os
import select
import signal
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float

ROOM = 1024  # numbers of a legacy at most
BYTES = 8 * (5 + 2 * ROOM)
HOLDER, BEAT, LEFT, BESIDE, WHICH = range(5)  # process id; [s]; whether it went of its own accord; [s]; of two legacies
STOPPED = "Tt"  # states of a process
DYING = 0.005  # [s] that one that is ended is waited for; else until the next look


def place(name: str) -> Path:
    """Where the file of that name lies: in memory, so that no disk is waited for, or else with temporary files."""
    memory = Path("/dev/shm")
    return (memory if memory.is_dir() else Path(tempfile.gettempdir())) / name


class Baton:
    """One process' end of it. Times are on this machine's monotonic clock [s]."""

    def __init__(self, path: Path):
        """Raises ConfigError where there can be no such file."""
        self.held = False
        self._known = 0, -1  # the process that holds it, and a handle on it
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            weakref.finalize(self, os.close, self._file)
            if os.fstat(self._file).st_size < BYTES:
                os.ftruncate(self._file, BYTES)
            self._numbers = np.frombuffer(mmap.mmap(self._file, BYTES), np.float64)
        except OSError as error:
            raise ConfigError(f"guard.spare: {path}: expected a file of this user: {error.strerror}") from error

    def take(self, now: float) -> bool:
        """Take it, where nobody has it; whether this process has it now."""
        if not self.held:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.held = True
            self._numbers[[BEAT, LEFT]] = now, 0.0
            self._numbers[HOLDER] = os.getpid()
        return True

    def leave(self) -> None:
        """Give it back, as one who means that nobody goes on."""
        if self.held:
            self._numbers[LEFT] = 1.0
            self.held = False
            fcntl.flock(self._file, fcntl.LOCK_UN)

    # --- what the two say to each other

    def beat(self, now: float) -> None:
        """The holder was at work then."""
        self._numbers[BEAT] = now

    def stand(self, now: float) -> None:
        """One that stands by was at work then."""
        self._numbers[BESIDE] = now

    def write(self, legacy: Float[np.ndarray, " k"]) -> None:
        """What another one would go on from. It reads this one or the one before, however this process ends."""
        which = 1 - int(self._numbers[WHICH])
        written = self._written(which)
        written[0], written[1:len(legacy) + 1] = len(legacy), legacy
        self._numbers[WHICH] = which

    @property
    def legacy(self) -> Float[np.ndarray, " k"]:
        written = self._written(int(self._numbers[WHICH]))
        return np.array(written[1:int(written[0]) + 1])

    def _written(self, which: int) -> np.ndarray:
        return self._numbers[5 + which * ROOM:][:ROOM]

    @property
    def beaten(self) -> float:
        """When the holder was at work last."""
        return float(self._numbers[BEAT])

    @property
    def stood(self) -> float:
        """When one that stands by was at work last."""
        return float(self._numbers[BESIDE])

    @property
    def left(self) -> bool:
        """Whether the last holder went of its own accord."""
        return bool(self._numbers[LEFT])

    @property
    def holder(self) -> int:
        """Process id of the last holder."""
        return int(self._numbers[HOLDER])

    # --- how a holder that is stopped is made to let go

    def know(self) -> bool:
        """Get a handle on the holder while it lives, which then means no other process. False where it has none: a
        process that is not seen with this file open is of another machine's or container's numbering, or is gone."""
        if self._known[0] != self.holder:
            if self._known[1] >= 0:
                os.close(self._known[1])
            self._known = self.holder, self._handle(self.holder)
        return self._known[1] >= 0

    def _handle(self, process: int) -> int:
        if process <= 0 or process == os.getpid():
            return -1
        try:
            handle = os.pidfd_open(process)
        except OSError:
            return -1
        try:
            own, opened = os.fstat(self._file), Path(f"/proc/{process}/fd").iterdir()
            if any(file.exists() and os.path.samestat(own, file.stat()) for file in opened):
                return handle
        except OSError:  # it ends just now, or is somebody else's
            pass
        os.close(handle)
        return -1

    def stopped(self) -> bool:
        """Whether the holder is stopped, by a signal or a debugger, rather than busy or waiting for a core."""
        try:
            after_name = Path(f"/proc/{self.holder}/stat").read_text().rpartition(")")[2]
        except OSError:  # it ends just now
            return False
        return after_name.split()[0] in STOPPED

    def end(self) -> bool:
        """End the holder, which may be stopped and cannot refuse; whether it is gone, and the baton with it."""
        if not self.know():
            return False
        handle = self._known[1]
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return True
        gone = select.poll()
        gone.register(handle, select.POLLIN)
        return bool(gone.poll(1e3 * DYING))
