"""Recordings of other people: what can be read of them is read, and the rest is one line."""
import logging
import re

import numpy as np
import pytest
import zstandard
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2
from test_messages import STORE
from test_recording import STATE_ESTIMATE, cdr, estimate, workspace, x_of  # noqa: F401  # the last but one is a fixture

from mbrl_ros.recordings.bags import IDL, records, typestore
from mbrl_ros.recordings.mcap_file import RecordingError, definition
from mbrl_ros.recordings.recording import read_trials, recover

RUN = [estimate(k) for k in range(20)]
POINT = '''================================================================================
IDL: geometry_msgs/msg/Point
// generated
module geometry_msgs {
  module msg {
    struct Point {
      double x;
      double y;
      double z;
    };
  };
};
'''


def written(path, compression=CompressionType.ZSTD, pack=bytes, name=STATE_ESTIMATE, text=None, encoding="ros2msg",
            data=None):
    """An MCAP file as others write it."""
    with path.open("wb") as file:
        writer = Writer(file, compression=compression, chunk_size=4000)
        writer.start("ros2", "others")
        schema = writer.register_schema(name, encoding, (text or definition(name)).encode())
        channel = writer.register_channel("/state_estimate", "cdr", schema)
        for value in RUN:
            writer.add_message(channel, value.time, pack(data or cdr(value)), value.time)
        writer.finish()
    return path


def check(path):
    [trial] = read_trials(path)
    assert np.array_equal(trial.x, x_of(RUN))


@pytest.mark.parametrize("compression", list(CompressionType))
def test_chunks_of_any_compression_are_read_and_the_damaged_ones_left_out(tmp_path, compression, caplog):
    path = written(tmp_path / "bag.mcap", compression)
    check(path)
    rng, whole = np.random.default_rng(0), path.read_bytes()
    for _ in range(30):
        broken = bytearray(whole)
        for place in rng.integers(8, len(whole), 4):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = len(list(records(path)))
        assert found <= len(RUN) and len(caplog.records) <= 2
        assert found < len(RUN) or caplog.records or len(read_trials(path)) >= 1


def test_a_compression_that_nobody_knows_is_named(tmp_path, caplog):
    path = written(tmp_path / "bag.mcap", CompressionType.LZ4)
    path.write_bytes(path.read_bytes().replace(b"\x03\x00\x00\x00lz4", b"\x03\x00\x00\x00xyz"))
    with caplog.at_level(logging.WARNING):
        assert read_trials(path) == []
    [line] = caplog.messages
    assert "compression 'xyz'; expected one of zstd, lz4" in line


def test_files_and_messages_that_rosbag2_compressed(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    whole = written(tmp_path / "bag_0.mcap").read_bytes()
    (folder / "bag_0.mcap.zstd").write_bytes(zstandard.compress(whole))
    check(folder)
    check(written(tmp_path / "each.mcap", CompressionType.NONE, zstandard.compress))


def test_a_compressed_file_that_ends_early_is_read_as_far_as_it_goes(tmp_path, caplog):
    rng = np.random.default_rng(0)
    path = tmp_path / "bag_0.mcap.zstd"
    whole = written(tmp_path / "bag_0.mcap", CompressionType.NONE).read_bytes()
    packed = zstandard.compress(whole)
    for size in rng.integers(20, len(packed), 10):
        path.write_bytes(packed[:size])
        try:
            assert len(list(records(path))) <= len(RUN)
        except RecordingError as error:
            assert "not an MCAP file" in str(error)
    path.write_bytes(packed[:50] + b"damage" + packed[56:])
    with caplog.at_level(logging.WARNING), pytest.raises(RecordingError, match=r"zstd: compressed, and not an MCAP"):
        list(records(path))
    assert "damaged" in caplog.text


def test_sqlite_is_read(tmp_path):
    with Rosbag2(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/state_estimate", STATE_ESTIMATE, msgdef=definition(STATE_ESTIMATE),
                                           rihs01="RIHS01_" + 64 * "0")
        for value in RUN:
            writer.write(connection, value.time, cdr(value))
    check(tmp_path / "bag")
    [file] = (tmp_path / "bag").glob("*.db3")
    file.write_bytes(b"SQLite format 3\x00" + file.read_bytes()[16:4000])
    with pytest.raises(RecordingError, match="cannot be read"):
        read_trials(tmp_path / "bag")


def test_idl_schemas_are_read_and_stay_what_they_are_when_recovered(tmp_path):
    point = STORE.types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0)
    data = bytes(STORE.serialize_cdr(point, "geometry_msgs/msg/Point"))
    path = written(tmp_path / "bag.mcap", name="geometry_msgs/msg/Point", text=POINT, encoding=IDL, data=data)
    for place in (path, recover(path)):
        record = next(records(place))
        assert record.encoding == IDL
        read = typestore(record.type_name, record.definition, record.encoding).deserialize_cdr(record.data,
                                                                                              record.type_name)
        assert (read.x, read.y, read.z) == (1.0, 2.0, 3.0)
    with pytest.raises(RecordingError, match="a schema of protobuf; expected ros2msg or ros2idl"):
        typestore("geometry_msgs/msg/Point", POINT, "protobuf")


def test_another_version_of_a_message_is_one_line_and_no_traceback(tmp_path, caplog):
    text = re.sub(r"(float64\[\]) effort ", r"\1 torque ", definition(STATE_ESTIMATE))
    path = written(tmp_path / "bag.mcap", text=text)
    with caplog.at_level(logging.WARNING):
        assert read_trials(path) == []
    [line] = caplog.messages
    assert "effort" in line and "(20 times)" in line
