"""The trials of a training on disk: a folder each, a recording like any other, with an Episode before and after.

A trial is there whole or not at all: its folder gets its name once it is written.
"""
from __future__ import annotations

import shutil
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.interfaces import Nodetype

from mbrl_ros.messages.episode import BEGUN, Episode, from_episode, to_episode
from mbrl_ros.messages.ring import ReceivedLabels, to_state_estimate
from mbrl_ros.recordings.bags import records, typestore
from mbrl_ros.recordings.mcap_file import RecordingError, definition
from mbrl_ros.recordings.recording import STATE_ESTIMATE, Recorder, read_trials
from mbrl_ros.types import Gaussian, StateEstimate, Trial

EPISODE = "mbrl_ros/msg/Episode"
TOPICS = {EPISODE: "/trainer/episode", STATE_ESTIMATE: "/estimator/state_estimate"}
UNFINISHED = ".unfinished"


class Recorded(NamedTuple):
    """A trial, and what was said when it was over."""

    episode: Episode
    trial: Trial


def write_trial(folder: Path, episode: Episode, trial: Trial, frame: str = "") -> Path:
    """Write a trial that is over, with its means; covariances are not kept. Raises RecordingError."""
    path = folder / UNFINISHED / f"trial_{episode.number:05d}"
    shutil.rmtree(path, ignore_errors=True)
    labels, n = ReceivedLabels(trial.state_names, trial.joint_names, frame), trial.x.shape[1]
    efforts = np.concatenate([np.zeros((1, trial.u.shape[1])), trial.u])
    with Recorder(path) as recorder:
        def write(kind: str, message: Any, time: int) -> None:
            recorder.write(TOPICS[kind], kind, _serialized(kind, message), time, time)

        begin = episode._replace(time=int(trial.time[0]), status=BEGUN, reason="")
        write(EPISODE, to_episode(lambda: _blank(EPISODE), begin), begin.time)
        for step, (x, u, time) in enumerate(zip(trial.x, efforts, trial.time.tolist(), strict=True)):
            state = StateEstimate(time, episode.number, step, Gaussian(x, np.zeros((n, n))), u)
            write(STATE_ESTIMATE, to_state_estimate(lambda: _blank(STATE_ESTIMATE), state, labels), time)
        write(EPISODE, to_episode(lambda: _blank(EPISODE), episode), episode.time)
    return path.rename(folder / path.name)


def read_recorded(folder: Path, after: int = 0) -> list[Recorded]:
    """The trials in a folder with numbers above `after`, in their order. Raises RecordingError for one that cannot be
    read, and where one is missing between others."""
    paths = sorted(path for path in folder.glob("trial_*") if int(path.name[6:]) > after)
    for expected, path in enumerate(paths, after + 1):
        if int(path.name[6:]) != expected:
            raise RecordingError(f"{folder}: trial_{expected:05d} is missing; expected the trials from 1 on")
    return [_read(path) for path in paths]


def _read(path: Path) -> Recorded:
    said = [from_episode(typestore(r.type_name, r.definition, r.encoding).deserialize_cdr(r.data, r.type_name))
            for r in records(path) if r.type_name == EPISODE]
    trials = read_trials(path, steps=0)
    if len(trials) != 1 or len(said) != 2:
        raise RecordingError(f"{path}: expected one trial between two episodes, got {len(trials)} and {len(said)}")
    return Recorded(said[1], trials[0])


def _blank(type_name: str) -> Any:
    """A message of that type with all fields at zero, for where ROS is not."""
    return _blank_in(typestore(type_name, definition(type_name)), type_name)


def _blank_in(store: Any, type_name: str) -> Any:
    def value(kind: Nodetype, detail: Any) -> Any:
        if kind == Nodetype.NAME:
            return _blank_in(store, detail)
        if kind == Nodetype.BASE:
            return "" if detail[0] == "string" else 0.0 if detail[0].startswith("float") else 0
        return []

    return store.types[type_name](**{field: value(*of) for field, of in store.fielddefs[type_name][1]})


def _serialized(type_name: str, message: Any) -> bytes:
    for field, value in list(vars(message).items()):
        if isinstance(value, array):
            setattr(message, field, np.asarray(value))
    return bytes(typestore(type_name, definition(type_name)).serialize_cdr(message, type_name))
