"""When a guard that stands by has to go on for the one that commands.

Two guards share a baton (baton.py). At once where the one that has it is gone; soon where it is stopped; later where it
is stuck, or gets no core, which another one would get as little. In both cases it is ended first, so that no robot ever
has two commanders: one that is stopped between a look at whose turn it is and its next command cannot be kept from
sending that when it wakes.
"""
from __future__ import annotations

from typing import Protocol

AWAKE = 0.5  # of how long a stopped one is waited for: who has not looked for longer was asleep itself, as all are on a
# machine that was suspended
STARTING = 1.0  # [s] that a guard which begins may be busy with other things


class Held(Protocol):
    """What is asked of a baton."""

    def take(self, now: float) -> bool: ...
    def know(self) -> bool: ...
    def stopped(self) -> bool: ...
    def end(self) -> bool: ...
    def beat(self, now: float) -> None: ...
    def stand(self, now: float) -> None: ...
    @property
    def beaten(self) -> float: ...
    @property
    def stood(self) -> float: ...
    @property
    def left(self) -> bool: ...
    @property
    def holder(self) -> int: ...


class Spare:
    """One of two guards. `first` begins where nobody commands; the other one stands by until somebody has."""

    def __init__(self, baton: Held, first: bool, stopped: float, silence: float):
        """For how long [s] a guard may do nothing: one that is stopped, and any."""
        self.acts = False
        self._ended = ""  # how the one that is met has been ended
        self.reason = ""  # why it acts in the place of another; empty where it began, or does not
        self._stopped, self._silence = stopped, max(stopped, silence)
        self._baton, self._first = baton, first
        self.met = 0  # process id of the one that commanded while this one stood by
        self._awake = self._looked = -float("inf")

    def look(self, now: float, fit: bool = True) -> bool:
        """Whether to command from now on. To be asked often while this one does not; `fit`: it has all it needs."""
        if now - self._looked > AWAKE * self._stopped:
            self._awake = now
        self._looked = now
        left = self._baton.left
        if (self._first or (self.met and not left)) and self._baton.take(now):
            self._begin(now, f"process {self.met} {self._ended or 'has ended'}" if self.met and not left else "")
        elif self._known():
            silent = now - max(self._baton.beaten, self._awake)
            stopped = silent > self._stopped and self._baton.stopped()
            if stopped or silent > self._silence:
                self._ended = f"{'was stopped' if stopped else 'did nothing'} for {silent:.3f} s, and was ended"
                if self._baton.end() and self._baton.take(now):  # else it takes a moment, or cannot be
                    self._begin(now, f"process {self.met} {self._ended}")
        if fit and not self.acts:
            self._baton.stand(now)
        return self.acts

    def _known(self) -> bool:
        """Whether somebody holds the baton, whom this one could end."""
        if self._baton.left or not self._baton.know():
            return False
        if self._baton.holder != self.met:
            self.met, self._ended = self._baton.holder, ""
        return True

    def _begin(self, now: float, reason: str) -> None:
        self.acts, self.reason = True, reason
        self._baton.beat(now + STARTING)

    def beside(self, now: float) -> bool:
        """Whether another one stands by."""
        return now - self._baton.stood <= STARTING
