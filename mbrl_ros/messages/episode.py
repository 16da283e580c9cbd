"""mbrl_ros/msg/Episode <-> the value: a trial of a training begins, or is over."""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mbrl_ros.messages import fields
from mbrl_ros.messages.fields import Message, MessageError, count, read_stamp, write_stamp

BEGUN, DONE, ABORT, DROPPED = STATUSES = ("begun", "done", "abort", "dropped")


class Episode(NamedTuple):
    """What is said of a trial."""

    time: int  # [ns] of the first state, or of the last
    number: int  # from 1
    update: int  # how often the trainer had learned before
    plays: str  # mode of the controller
    status: str  # one of STATUSES
    reason: str = ""


def to_episode(cls: Callable[[], Message], episode: Episode) -> Message:
    message = cls()
    if episode.status not in STATUSES:
        raise MessageError(f"Episode.status: expected one of {', '.join(STATUSES)}, got {episode.status!r}")
    write_stamp(message.header.stamp, episode.time)
    message.number, message.update = count("Episode.number", episode.number), count("Episode.update", episode.update)
    message.plays = fields.text("Episode.plays", episode.plays)
    message.status, message.reason = STATUSES.index(episode.status), episode.reason
    return message


def from_episode(message: Message) -> Episode:
    if not 0 <= message.status < len(STATUSES):
        raise MessageError(f"Episode.status: expected one of the constants of Episode, got {message.status}")
    return Episode(read_stamp(message.header.stamp), int(message.number), int(message.update),
                   fields.text("Episode.plays", message.plays), STATUSES[message.status], message.reason)
