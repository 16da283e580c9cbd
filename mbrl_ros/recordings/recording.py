"""Recordings: MCAP files <-> Trials.

A Recorder makes a folder that `ros2 bag info` and `ros2 bag play` take: one MCAP file and metadata.yaml. Messages reach
the file at least every half second, so a killed process loses no more than that and the recording still opens;
`python3 -m mbrl_ros.recordings.recording recover FOLDER` adds the index it lacks. Trials are cut from the state
estimates of any recording, also of one made by `ros2 bag record -s mcap`.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from rosbags.serde import SerdeError

from mbrl_ros.messages.ring import MessageError, ReceivedLabels, from_state_estimate, names_of
from mbrl_ros.recordings.bags import LeftOut, records, typestore
from mbrl_ros.recordings.mcap_file import McapWriter, Record, RecordingError, definition
from mbrl_ros.types import Array, Trial

STATE_ESTIMATE = "mbrl_ros/msg/StateEstimate"
FLUSH_PERIOD = 0.4  # [s]
LARGEST_BACKLOG = 8 * 2**20  # [bytes] held in memory between flushes


class Recorder:
    """Records serialized messages into a new folder. Thread-safe; a context manager.

    A thread writes, so `write` costs microseconds and never waits for the disk. Raises RecordingError where the folder
    exists or cannot be written, and from `write` and `close` once the disk has failed.
    """

    def __init__(self, path: Path | str, definition: Callable[[str], str] = definition):
        self.path, self._definition = Path(path), definition
        try:
            self.path.mkdir(parents=True)
            self._file = McapWriter(self.path / f"{self.path.name}_0.mcap")
            self._topics: dict[tuple[str, str], tuple[int, str]] = {}  # (topic, type) -> (channel, hash)
            self._write_metadata(json.dumps)
        except OSError as error:
            raise RecordingError(f"{path}: cannot record there: {error.strerror}") from error
        self._pending: list[tuple[int, int, int, bytes]] = []
        self._backlog = 0  # [bytes]
        self._pending_lock, self._file_lock = threading.Lock(), threading.RLock()
        self._closing, self._closed = threading.Event(), False
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why nothing more is recorded; empty while all is well."""
        return f"{self.path}: {self._failure.strerror}" if self._failure else ""

    @property
    def messages(self) -> int:
        """So many are in the file."""
        return sum(self._file.counts.values())

    def write(self, topic: str, type_name: str, data: bytes, log_time: int, publish_time: int) -> None:
        """One message; type_name is pkg/msg/Name, data its CDR bytes, times in ns."""
        if self._closed or self._failure:
            raise RecordingError(self.failure or f"{self.path}: closed")
        channel, _ = self._topics.get((topic, type_name)) or self._add(topic, type_name)
        with self._pending_lock:
            self._pending.append((channel, log_time, publish_time, data))
            self._backlog += len(data)
        if self._backlog > LARGEST_BACKLOG:
            self.flush()

    def flush(self) -> None:
        """Hand what was written so far to the operating system, where it survives this process."""
        with self._file_lock:
            with self._pending_lock:
                pending, self._pending, self._backlog = self._pending, [], 0
            try:
                if pending:
                    self._file.chunk(pending)
                    self._write_metadata(json.dumps)  # YAML that costs microseconds
            except OSError as error:
                self._failure = error

    def close(self) -> None:
        """Finish the recording. Repeated calls do nothing."""
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        self._thread.join()
        try:
            self.flush()
            self._file.finish()
            self._write_metadata(lambda metadata: yaml.safe_dump(metadata, sort_keys=False))
        except OSError as error:
            self._failure = self._failure or error
        if self._failure:
            raise RecordingError(f"{self.path}: incomplete: {self._failure.strerror}") from self._failure

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_PERIOD) and not self._failure:
            self.flush()
            try:
                self._file.sync()
            except OSError as error:
                self._failure = error

    def _add(self, topic: str, type_name: str) -> tuple[int, str]:
        text = self._definition(type_name)
        with self._file_lock:
            if (topic, type_name) not in self._topics:
                self._topics[topic, type_name] = self._file.channel(topic, type_name, text), _hash(type_name, text)
            return self._topics[topic, type_name]

    def _write_metadata(self, dump: Callable[[Any], str]) -> None:
        new = self.path / "metadata.yaml.new"
        new.write_text(dump({"rosbag2_bagfile_information": self._metadata()}))
        new.replace(self.path / "metadata.yaml")

    def _metadata(self) -> dict[str, Any]:
        """What rosbag2 keeps beside its files, in its version 9."""
        file, name = self._file, f"{self.path.name}_0.mcap"
        topics = [{"topic_metadata": {"name": topic, "type": type_name, "serialization_format": "cdr",
                                      "offered_qos_profiles": [], "type_description_hash": type_hash},
                   "message_count": file.counts[channel]}
                  for (topic, type_name), (channel, type_hash) in list(self._topics.items())]
        return {"version": 9, "storage_identifier": "mcap", "relative_file_paths": [name], **_span(file),
                "topics_with_message_count": topics, "compression_format": "", "compression_mode": "",
                "files": [{"path": name, **_span(file)}], "custom_data": None,
                "ros_distro": os.environ.get("ROS_DISTRO", "")}


def _span(file: McapWriter) -> dict[str, Any]:
    return {"starting_time": {"nanoseconds_since_epoch": file.start_time},
            "duration": {"nanoseconds": max(0, file.end_time - file.start_time)},
            "message_count": sum(file.counts.values())}


def _hash(type_name: str, text: str) -> str:
    try:
        return str(typestore(type_name, text).hash_rihs01(type_name))
    except RecordingError:  # not a .msg: a recovered recording may have other schemas
        return ""


class _Row(NamedTuple):
    """What a trial keeps of a state estimate."""

    time: int
    episode: int
    step: int
    x: Array  # (n,)
    effort: Array  # (m,)
    names: ReceivedLabels


def read_trials(path: Path | str, topic: str | None = None, steps: int = 1) -> list[Trial]:
    """The runs without gaps of at least `steps` transitions in a recording: a folder or an .mcap file.

    Topic may be left out where only one carries state estimates. A recording that was not closed is read as far as it
    goes. Raises RecordingError where there is no recording, or the choice of topic is open.
    """
    rows: dict[str, list[_Row]] = {}
    last_names = ReceivedLabels((), ())
    with LeftOut(path) as left_out:
        for record in records(Path(path)):
            if record.type_name != STATE_ESTIMATE or topic not in (None, record.topic):
                continue
            try:
                row = _row(record, last_names)
            except (MessageError, SerdeError, RecordingError, AttributeError) as error:  # the last: another version
                left_out.add(f"a state estimate is left out: {error}")
                continue
            rows.setdefault(record.topic, []).append(row)
            last_names = row.names
    if topic is None and len(rows) > 1:
        raise RecordingError(f"{path}: choose one of the topics {', '.join(sorted(rows))}")
    return [trial for found in rows.values() for trial in _cut(found) if len(trial.u) >= steps]


def _row(record: Record, last: ReceivedLabels) -> _Row:
    message = typestore(STATE_ESTIMATE, record.definition, record.encoding).deserialize_cdr(record.data, STATE_ESTIMATE)
    e, names = from_state_estimate(message), names_of(message)
    return _Row(e.time, e.episode, e.step, e.belief.mean, e.effort, last if names == last else names)  # one copy


def _cut(rows: list[_Row]) -> Iterable[Trial]:
    run: list[_Row] = []
    for row in rows:
        last = run[-1] if run else row
        if run and (row.time, row.episode, row.step) == (last.time, last.episode, last.step):
            continue  # sent again
        follows = row.episode == last.episode and row.step == last.step + 1 and row.time > last.time
        if run and not (follows and row.names == last.names):
            yield _trial(run)
            run = []
        run.append(row)
    if run:
        yield _trial(run)


def _trial(run: list[_Row]) -> Trial:
    """u[t] led from x[t] to x[t + 1], so it is the effort of the later estimate."""
    names = run[0].names
    efforts = [row.effort for row in run[1:]]
    return Trial(np.stack([row.x for row in run]), np.array(efforts).reshape(len(efforts), len(names.joints)),
                 np.array([row.time for row in run], dtype=np.int64), names.state_names, names.joints)


def recover(path: Path | str, output: Path | str | None = None) -> Path:
    """Copy what can be read of a recording into a new one beside it, complete and with an index."""
    path = Path(path)
    target = Path(output) if output else path.with_name(f"{path.stem}_recovered")
    definitions: dict[str, str] = {}
    found = records(path)
    with Recorder(target, definitions.__getitem__) as recorder:
        for r in found:
            definitions.setdefault(r.type_name, r.definition)
            recorder.write(r.topic, r.type_name, r.data, r.log_time, r.publish_time)
    return target


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m mbrl_ros.recordings.recording",
                                     description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("recover", help="copy what can be read of a recording into a complete one")
    command.add_argument("path", help="folder or .mcap file")
    command.add_argument("output", nargs="?", help="new folder; without it, beside the old one")
    chosen = parser.parse_args(arguments)
    try:
        print(recover(chosen.path, chosen.output))
    except RecordingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
