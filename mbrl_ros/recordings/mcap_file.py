"""MCAP files (mcap.dev/spec) as a robot needs them: complete at every moment, readable when they are not.

Every chunk is written together with an end of file that has no index, in one write; the next chunk goes over that end.
So a recording whose process was killed opens like any other, only slower, and `finish` adds the index. The reader
stops at the first incomplete record and skips chunks whose checksum is wrong.
"""
from __future__ import annotations

import logging
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Message,
    MessageIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.stream_reader import breakup_chunk

from mbrl_ros import config

MAGIC = b"\x89MCAP0\r\n"
COMPRESSIONS = ("zstd", "lz4", "")  # of chunks, that can be read; the last is none
COMPRESSION_LEVEL = -1  # of zstandard: one millisecond and 60 % of the size for one second of an arm
MESSAGE = struct.Struct("<BQHIQQ")  # opcode, length, channel, sequence, log time, publish time; the data follow
LENGTH = struct.Struct("<BQ")  # opcode, length

PRIMITIVE = re.compile(r"(bool|byte|char|float(32|64)|u?int(8|16|32|64)|w?string)$")

log = logging.getLogger(__name__)


class RecordingError(ValueError):
    """A recording that cannot be made or read; the message says why."""


class Record(NamedTuple):
    """One message of a recording."""

    topic: str
    type_name: str  # pkg/msg/Name
    definition: str  # the schema, as text
    log_time: int  # [ns]
    publish_time: int  # [ns]
    data: bytes  # serialized (CDR)
    encoding: str = "ros2msg"  # of the schema


def _bytes(*records: McapRecord) -> bytes:
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return builder.end()


END = _bytes(DataEnd(0), Footer(0, 0, 0)) + MAGIC  # of a file without index


class McapWriter:
    """Writes chunks of messages; profile ros2, encoding cdr, schemas ros2msg or ros2idl. Raises OSError."""

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        self._schemas: dict[str, Schema] = {}
        self._channels: list[Channel] = []
        self._undeclared: list[McapRecord] = []  # schemas and channels that no chunk holds yet
        self._indexes: list[ChunkIndex] = []
        self.counts: dict[int, int] = {}  # of messages, by channel
        self.start_time, self.end_time = 2**63 - 1, 0  # [ns]
        self._end = 0  # where the next chunk goes
        self._put(MAGIC + _bytes(Header("ros2", "mbrl_ros")))

    def channel(self, topic: str, type_name: str, definition: str) -> int:
        """The number of a new channel, from 1."""
        if type_name not in self._schemas:
            encoding = "ros2idl" if definition.lstrip("=\n").startswith("IDL:") else "ros2msg"
            schema = Schema(len(self._schemas) + 1, definition.encode(), encoding, type_name)
            self._schemas[type_name] = schema
            self._undeclared.append(schema)
        schema_id, number = self._schemas[type_name].id, len(self._channels) + 1
        channel = Channel(number, topic, "cdr", {"offered_qos_profiles": ""}, schema_id)
        self._channels.append(channel)
        self._undeclared.append(channel)
        self.counts[number] = 0
        return number

    def chunk(self, messages: list[tuple[int, int, int, bytes]]) -> None:
        """Write messages (channel, log time, publish time, data), which are on their way to the disk on return."""
        declared = len(self._undeclared)
        parts = [_bytes(*self._undeclared)]
        offset, entries = len(parts[0]), dict[int, list[tuple[int, int]]]()
        counts = dict(self.counts)
        for channel, log_time, publish_time, data in messages:
            head = MESSAGE.pack(Opcode.MESSAGE, 22 + len(data), channel, counts[channel], log_time, publish_time)
            entries.setdefault(channel, []).append((log_time, offset))
            parts += (head, data)
            offset += len(head) + len(data)
            counts[channel] += 1
        times = [message[1] for message in messages]
        self._put_chunk(b"".join(parts), entries, min(times), max(times))
        self.counts, self._undeclared = counts, self._undeclared[declared:]
        self.start_time, self.end_time = min(self.start_time, *times), max(self.end_time, *times)

    def _put_chunk(self, data: bytes, entries: dict[int, list[tuple[int, int]]], first: int, last: int) -> None:
        packed = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(data)
        chunk = _bytes(Chunk("zstd", packed, last, first, zlib.crc32(data), len(data)))
        at, offsets, index = self._end + len(chunk), dict[int, int](), b""
        for channel, places in entries.items():
            offsets[channel] = at + len(index)
            index += _bytes(MessageIndex(channel, sorted(places)))
        entry = ChunkIndex(len(chunk), self._end, "zstd", len(packed), last, len(index), offsets, first, len(data))
        self._put(chunk + index)
        self._indexes.append(entry)

    def _put(self, data: bytes, end: bytes = END) -> None:
        """Append, and end the file behind it."""
        try:
            _write_at(self._file, self._end, data + end)
        except OSError:  # the disk is full: keep what there is
            os.ftruncate(self._file, self._end)
            _write_at(self._file, self._end, END)
            raise
        self._end += len(data)

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fdatasync(self._file)

    def finish(self) -> None:
        """Write the index and close."""
        try:
            self._put(b"", self._summary())
            self.sync()
        finally:
            os.close(self._file)

    def _summary(self) -> bytes:
        counts = {channel: count for channel, count in self.counts.items() if count}
        first = self.start_time if counts else 0
        statistics = Statistics(0, len(self._channels), counts, len(self._indexes), sum(counts.values()), self.end_time,
                                first, 0, len(self._schemas))
        data_end = _bytes(DataEnd(0))
        start = self._end + len(data_end)
        groups: list[tuple[Opcode, list[Any]]] = [
            (Opcode.SCHEMA, list(self._schemas.values())), (Opcode.CHANNEL, self._channels),
            (Opcode.STATISTICS, [statistics]), (Opcode.CHUNK_INDEX, self._indexes)]
        summary, offsets = b"", b""
        for opcode, records in groups:
            group = _bytes(*records)
            if group:
                offsets += _bytes(SummaryOffset(opcode, start + len(summary), len(group)))
            summary += group
        footer = Footer(start, start + len(summary), 0)
        covered = summary + offsets + _bytes(footer)[:-4]  # all but the checksum itself
        return data_end + summary + offsets + _bytes(replace(footer, summary_crc=zlib.crc32(covered))) + MAGIC


def definition(type_name: str) -> str:
    """The text of pkg/msg/Name and of every type in it, as MCAP's encoding `ros2msg` wants it."""
    texts = {type_name: _message_text(type_name)}
    queue = [type_name]
    while queue:
        for dependency in _dependencies(queue.pop(0), texts):
            if dependency not in texts:
                texts[dependency] = _message_text(dependency)
                queue.append(dependency)
    separator = f"\n{'=' * 80}\nMSG: "
    parts = [f"{name.replace('/msg/', '/')}\n{text}" for name, text in texts.items() if name != type_name]
    return separator.join([texts[type_name], *parts])


def _dependencies(type_name: str, texts: dict[str, str]) -> Iterable[str]:
    for line in texts[type_name].splitlines():
        field = re.match(r"\s*([\w/]+)", line)
        if field and not PRIMITIVE.match(field[1]):
            *package, name = field[1].split("/")
            yield f"{package[0] if package else type_name.split('/')[0]}/msg/{name}"


def _message_text(type_name: str) -> str:
    package, _, name = type_name.split("/")
    folders = [Path(p) / "share" / package for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if package == "mbrl_ros":
        folders.append(config.share())  # the source tree
    for folder in folders:
        path = folder / "msg" / f"{name}.msg"
        if path.is_file():
            return path.read_text()
    raise RecordingError(f"no definition of {type_name} under AMENT_PREFIX_PATH: source the workspace that has it")


def read_records(path: Path) -> Iterator[Record]:
    """The messages of a file in the order they were written, as far as the file is whole."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    damaged: list[str] = []
    for opcode, body in _frames(path):
        for record in _contents(opcode, body, damaged):
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message) and record.channel_id in channels:
                channel = channels[record.channel_id]
                schema = schemas.get(channel.schema_id, Schema(0, b"", "", ""))
                yield Record(channel.topic, schema.name, schema.data.decode(errors="replace"), record.log_time,
                             record.publish_time, record.data, schema.encoding)
    if damaged:
        log.warning("%s: damaged, %d of its parts left out (the first: %s)", path, len(damaged), damaged[0])


def _contents(opcode: int, body: bytes, damaged: list[str]) -> list[McapRecord]:
    """Schemas, channels and messages in a record; none where it is damaged, or compressed as nobody knows here."""
    stream = ReadDataStream(BytesIO(body))
    try:
        if opcode == Opcode.CHUNK:
            chunk = Chunk.read(stream)
            if chunk.compression not in COMPRESSIONS:
                raise McapError(f"compression {chunk.compression!r}; expected one of {', '.join(COMPRESSIONS[:-1])}")
            return breakup_chunk(chunk, validate_crc=True)
        if opcode == Opcode.MESSAGE:
            return [Message.read(stream, len(body))]
        return [Schema.read(stream) if opcode == Opcode.SCHEMA else Channel.read(stream)]
    except Exception as error:  # of the library, of struct and of every compression, each with its own
        damaged.append(" ".join(str(error).split()) or type(error).__name__)
        return []


def _frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Opcode and content of the records of the data section that can hold messages."""
    wanted = {Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE, Opcode.CHUNK}
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    size = path.stat().st_size
    with file:
        if file.read(len(MAGIC)) != MAGIC:
            raise RecordingError(f"{path}: not an MCAP file")
        while size - file.tell() >= LENGTH.size:
            opcode, length = LENGTH.unpack(file.read(LENGTH.size))
            if opcode == Opcode.DATA_END:
                return
            if length > size - file.tell():
                break
            if opcode in wanted:
                yield opcode, file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)
    log.warning("%s: ends within a record; what comes before is read", path)


def _write_at(file: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
