"""Recordings of anybody -> Records: folders and files, whole and damaged, compressed or not.

What can be read is read. What cannot is left out and said in one line a recording and reason; only where there is
nothing to read is that an error.
"""
from __future__ import annotations

import functools
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from mbrl_ros.recordings.mcap_file import Record, RecordingError, definition, read_records

COMPRESSED = b"\x28\xb5\x2f\xfd"  # how a frame of zstandard begins, and no message and no file does
KINDS = ("*.mcap", "*.mcap.zstd", "*.db3", "*.db3.zstd")
IDL, MSG = "ros2idl", "ros2msg"
FORMATS = {MessageDefinitionFormat.MSG: MSG, MessageDefinitionFormat.IDL: IDL}

log = logging.getLogger(__name__)


class LeftOut:
    """Counts what is not read, by reason, and says each reason once, with `close` or at the end of a `with`."""

    def __init__(self, what: Path | str):
        self._what, self._counts = what, Counter[str]()

    def add(self, reason: str) -> None:
        """One more."""
        self._counts[" ".join(reason.split())] += 1

    def lines(self) -> list[str]:
        """A line a reason."""
        return [f"{self._what}: {reason}" + (f" ({count} times)" if count > 1 else "")
                for reason, count in self._counts.items()]

    def close(self) -> None:
        """Say them."""
        for line in self.lines():
            log.warning("%s", line)
        self._counts.clear()

    def __enter__(self) -> LeftOut:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def records(path: Path) -> Iterator[Record]:
    """The messages of a recording, a folder or one file of it, in the order they were written.

    MCAP with any of its compressions, SQLite, files and messages compressed by rosbag2. Raises RecordingError where
    there is none, or where it cannot be read at all.
    """
    found = {file for kind in KINDS for file in path.glob(kind)} if path.is_dir() else {path}
    files = sorted(found, key=lambda p: (len(p.name), p.name))
    if not files or not files[0].is_file():
        raise RecordingError(f"{path}: no recording there; expected a folder with {', '.join(KINDS)}, or such a file")
    for file in files:
        yield from _of_file(file)


def _of_file(path: Path) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            compressed = file.read(len(COMPRESSED)) == COMPRESSED
            if compressed:
                file.seek(0)
                with tempfile.TemporaryDirectory(prefix="mbrl_ros_bag_") as folder:
                    whole = Path(folder) / path.stem  # without .zstd
                    _decompress(path, file, whole)
                    try:
                        yield from _of_file(whole)
                    except RecordingError as error:  # about a file that is there for this only
                        raise RecordingError(f"{path}: compressed, and {str(error).rpartition(': ')[2]}") from error
                return
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    with LeftOut(path) as left_out:
        for record in _from_sqlite(path, left_out) if path.suffix == ".db3" else read_records(path):
            if record.data[: len(COMPRESSED)] != COMPRESSED:
                yield record
                continue
            try:
                yield record._replace(data=zstandard.ZstdDecompressor().decompressobj().decompress(record.data))
            except zstandard.ZstdError as error:
                left_out.add(f"a compressed message that is damaged is left out ({error})")


def _decompress(path: Path, file: Any, to: Path) -> None:
    """As far as it goes."""
    with to.open("wb") as out:
        try:
            zstandard.ZstdDecompressor().copy_stream(file, out)
        except zstandard.ZstdError as error:
            log.warning("%s: the compressed file is damaged; what comes before is read (%s)", path, error)


def _from_sqlite(path: Path, left_out: LeftOut) -> Iterator[Record]:
    definitions: dict[str, str] = {}
    try:
        with Reader(path) as reader:
            for connection, time, data in reader.messages():
                kind, of = connection.msgtype, connection.msgdef
                encoding = FORMATS.get(of.format, MSG)
                if kind not in definitions:
                    try:
                        definitions[kind] = of.data if of.format in FORMATS else definition(kind)
                    except RecordingError as error:
                        definitions[kind] = ""
                        left_out.add(f"{kind} cannot be read: {error}")
                yield Record(connection.topic, kind, definitions[kind], time, time, bytes(data), encoding)
    except Exception as error:  # of sqlite3 and of rosbags, which have many, about a file of anybody
        if not definitions:
            raise RecordingError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
        left_out.add(f"ends early; what comes before is read ({error})")


@functools.cache
def typestore(type_name: str, text: str, encoding: str = MSG) -> Any:
    """What deserializes messages of this definition, a .msg or an IDL text with all that it needs. Raises
    RecordingError for other schemas."""
    if encoding not in (IDL, MSG):
        raise RecordingError(f"{type_name}: a schema of {encoding}; expected {MSG} or {IDL}")
    store = get_typestore(Stores.EMPTY)
    try:
        if encoding == IDL:
            for part in _idl_parts(text):
                store.register(get_types_from_idl(part))
        else:
            store.register(get_types_from_msg(text, type_name))
        store.get_msgdef(type_name)
    except (TypesysError, KeyError, ValueError) as error:
        raise RecordingError(f"{type_name}: its definition cannot be read: {error}") from error
    return store


def exact(type_name: str, data: bytes) -> bytes:
    """A serialized message without what rclpy's serialize_message may leave behind it, which others refuse."""
    store = typestore(type_name, definition(type_name))
    of = store.get_msgdef(type_name)
    message, _ = of.deserialize_cdr_le(data[4:], 0, of.cls, store)
    return bytes(store.serialize_cdr(message, type_name))


def _idl_parts(text: str) -> list[str]:
    """The files of a schema: rosbag2 puts a line of 80 `=` and one with `IDL: name` in front of each."""
    parts = [part.partition("\n")[2] if part.lstrip().startswith("IDL:") else part
             for part in (p.lstrip("\n") for p in text.split("=" * 80))]
    return [part for part in parts if part.strip()]
