"""Recordings: exact, openable by others, and no more than a second short after a kill."""
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Chunk, Footer, MessageIndex
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader
from test_messages import ROOT, STORE, message_class, mine, serialized

from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import ReceivedLabels
from mbrl_ros.recordings import recording
from mbrl_ros.recordings.mcap_file import MESSAGE, definition, read_records
from mbrl_ros.recordings.recording import STATE_ESTIMATE, Recorder, RecordingError, read_trials, recover
from mbrl_ros.types import Gaussian, Observation, StateEstimate

NAMES = ReceivedLabels(("position", "velocity", "effort"), ("hinge",))
N, M, PERIOD = 3, 1, 20_000_000
SOURCED = os.environ.get("AMENT_PREFIX_PATH", "")
STANDARD = ("sensor_msgs/msg/JointState", "std_msgs/msg/Header", "builtin_interfaces/msg/Time")


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """A sourced workspace: the standard message texts, and none of this package's, which come from the sources."""
    for name in STANDARD:
        package, _, short = name.split("/")
        text, _ = STORE.generate_msgdef(name, ros_version=2)
        path = tmp_path / "prefix" / "share" / package / "msg" / f"{short}.msg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.split("=" * 80)[0])
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))


def estimate(step, episode=0, time=None):
    rng = np.random.default_rng([step, episode])
    belief = Gaussian(rng.standard_normal(N), np.eye(N))
    return StateEstimate((episode * 1000 + step) * PERIOD if time is None else time, episode, step, belief,
                         rng.standard_normal(M))


def cdr(value, names=NAMES):
    return serialized(messages.to_state_estimate(mine("StateEstimate"), value, names), STATE_ESTIMATE)


def record(path, estimates, topic="/state_estimate", names=NAMES):
    with Recorder(path) as recorder:
        for value in estimates:
            recorder.write(topic, STATE_ESTIMATE, cdr(value, names), 10**18 + value.time, value.time)
    return path


def x_of(estimates):
    return np.array([e.belief.mean for e in estimates])


def test_trials_come_back_exactly(tmp_path):
    run = [estimate(k) for k in range(50)]
    [trial] = read_trials(record(tmp_path / "bag", run))
    assert np.array_equal(trial.x, x_of(run))
    assert np.array_equal(trial.u, np.array([e.effort for e in run[1:]]))
    assert np.array_equal(trial.time, [e.time for e in run])
    assert (trial.state_names, trial.joint_names) == NAMES[:2]


@pytest.mark.parametrize(("steps", "lengths"), [
    ([(0, k) for k in (0, 1, 2, 4, 5, 6, 7)], [2, 3]),  # a lost message
    ([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)], [1, 2]),  # a reset
    ([(0, 0), (0, 2), (0, 4)], []),  # nothing that follows
    ([(0, 0), (0, 1), (0, 1), (0, 1), (0, 2)], [2]),  # sent again
    ([(0, 5), (0, 6), (0, 0), (0, 1)], [1, 1]),  # the estimator was restarted
    ([(0, 0), (0, 1), (1, 2), (1, 3)], [1, 1]),  # a reset whose steps happen to go on
    ([(0, 0)], []),
    ([], []),
])
def test_gaps_split_trials(tmp_path, steps, lengths):
    trials = read_trials(record(tmp_path / "bag", [estimate(step, episode) for episode, step in steps]))
    assert [len(trial.u) for trial in trials] == lengths
    assert all(len(trial.x) == len(trial.time) == len(trial.u) + 1 for trial in trials)


def test_a_clock_that_stands_still_splits_trials(tmp_path):
    path = record(tmp_path / "bag", [estimate(k, time=time) for k, time in enumerate((5, 6, 6, 7))])
    assert [trial.time.tolist() for trial in read_trials(path)] == [[5, 6], [6, 7]]


def test_short_trials_can_be_left_out(tmp_path):
    path = record(tmp_path / "bag", [estimate(k) for k in (0, 1, 3, 4, 5, 6)])
    assert [len(trial.u) for trial in read_trials(path, steps=2)] == [3]


def test_another_robot_is_another_trial(tmp_path):
    other = ReceivedLabels(("position", "velocity", "torque"), ("hinge",))
    with Recorder(tmp_path / "bag") as recorder:
        for k in range(6):
            recorder.write("/state_estimate", STATE_ESTIMATE, cdr(estimate(k), NAMES if k < 3 else other), k, k)
    assert [trial.state_names for trial in read_trials(tmp_path / "bag")] == [NAMES[0], other[0]]


def test_two_robots_need_a_choice(tmp_path):
    with Recorder(tmp_path / "bag") as recorder:
        for k in range(4):
            recorder.write("/left/state_estimate", STATE_ESTIMATE, cdr(estimate(k)), k, k)
            recorder.write("/right/state_estimate", STATE_ESTIMATE, cdr(estimate(k, 7)), k, k)
    with pytest.raises(RecordingError, match=r"choose one of the topics /left/state_estimate, /right/state_estimate"):
        read_trials(tmp_path / "bag")
    [trial] = read_trials(tmp_path / "bag", "/right/state_estimate")
    assert np.array_equal(trial.x, x_of([estimate(k, 7) for k in range(4)]))


def test_an_estimate_that_is_not_finite_is_a_gap(tmp_path, caplog):
    values = [estimate(k) for k in range(6)]
    data = [cdr(value) for value in values]
    data[2] = data[2].replace(values[2].belief.mean[1].tobytes(), np.float64(np.nan).tobytes())
    with Recorder(tmp_path / "bag") as recorder:
        for k, item in enumerate(data):
            recorder.write("/state_estimate", STATE_ESTIMATE, item, k, k)
        recorder.write("/state_estimate", STATE_ESTIMATE, data[0][:40], 9, 9)
    with caplog.at_level(logging.WARNING):
        assert [len(trial.u) for trial in read_trials(tmp_path / "bag")] == [1, 2]
    assert "mean of velocity is nan" in caplog.text and len(caplog.records) == 2


# --- read by others


def mixed(path):
    """A recording of two topics, closed; returns what was written as (topic, log time, bytes)."""
    joint_state = serialized(messages.to_joint_state(
        message_class(STANDARD[0]), Observation(7, np.ones(M), np.ones(M), np.ones(M)), NAMES.joints), STANDARD[0])
    written = []
    with Recorder(path) as recorder:
        for k in range(20):
            written.append(("/state_estimate", STATE_ESTIMATE, cdr(estimate(k)), 1000 + 10 * k))
            written.append(("/joint_states", STANDARD[0], joint_state, 1005 + 10 * k))
        for topic, kind, data, log_time in written:
            recorder.write(topic, kind, data, log_time, log_time - 1)
            if log_time in (1050, 1100):
                recorder.flush()
    return written


@pytest.mark.parametrize("whole", ["folder", "file"])
def test_rosbags_opens_it(tmp_path, whole):
    written = mixed(tmp_path / "bag")
    path = tmp_path / "bag" if whole == "folder" else tmp_path / "bag" / "bag_0.mcap"
    with AnyReader([path]) as reader:  # checks the type hashes, too
        assert reader.message_count == len(written)
        assert (reader.start_time, reader.end_time) == (1000, 1196)
        got = [(c.topic, c.msgtype, bytes(data), t) for c, t, data in reader.messages()]
        assert got == written
        message = reader.deserialize(written[0][2], STATE_ESTIMATE)
    assert np.array_equal(message.mean, estimate(0).belief.mean)


def test_mcap_ros2_opens_it(tmp_path):
    written = mixed(tmp_path / "bag")
    with (tmp_path / "bag" / "bag_0.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary.statistics.message_count == len(written)
        assert len(summary.chunk_indexes) == summary.statistics.chunk_count >= 3
        got = list(reader.iter_decoded_messages("/state_estimate", starting_at=1050, ending_before=1150))
    assert [item.message.log_time for item in got] == list(range(1050, 1150, 10))
    assert [item.message.sequence for item in got] == list(range(5, 15))
    assert [item.message.publish_time for item in got] == [t - 1 for t in range(1050, 1150, 10)]
    assert got[0].decoded_message.mean == estimate(5).belief.mean.tolist()
    assert got[0].decoded_message.header.stamp.nanosec == estimate(5).time


def test_the_index_points_at_the_messages(tmp_path):
    """Ours is written by hand: every offset and checksum of it, against the specification (mcap.dev/spec)."""
    with Recorder(tmp_path / "bag") as recorder:
        for times in ([3, 5, 4, 1], [9, 6, 7, 8]):  # out of order
            for log_time in times:
                recorder.write(f"/{log_time % 2}", STATE_ESTIMATE, cdr(estimate(log_time)), log_time, 0)
            recorder.flush()
    data = (tmp_path / "bag" / "bag_0.mcap").read_bytes()
    with (tmp_path / "bag" / "bag_0.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    for index in summary.chunk_indexes:
        chunk = Chunk.read(ReadDataStream(BytesIO(data[index.chunk_start_offset + 9 :])))
        content = zstandard.decompress(chunk.data, chunk.uncompressed_size)
        found = []
        for channel, offset in index.message_index_offsets.items():
            entries = MessageIndex.read(ReadDataStream(BytesIO(data[offset + 9 :])))
            assert data[offset] == Opcode.MESSAGE_INDEX and entries.channel_id == channel
            assert entries.records == sorted(entries.records)
            for log_time, place in entries.records:
                opcode, length, of, _, stamp, _ = MESSAGE.unpack_from(content, place)
                assert (opcode, of, stamp) == (Opcode.MESSAGE, channel, log_time)
                assert content[place + 9 :][22:length] == cdr(estimate(log_time))
                found.append(log_time)
        assert (index.message_start_time, index.message_end_time) == (min(found), max(found))
    footer = Footer.read(ReadDataStream(BytesIO(data[-28:])))
    assert footer.summary_crc == zlib.crc32(data[footer.summary_start : -12])
    assert data[footer.summary_start] == Opcode.SCHEMA and data[footer.summary_offset_start] == Opcode.SUMMARY_OFFSET


def test_metadata_says_what_is_in_it(tmp_path):
    written = mixed(tmp_path / "bag")
    info = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["relative_file_paths"] == ["bag_0.mcap"] and info["storage_identifier"] == "mcap"
    assert info["message_count"] == len(written) and info["duration"]["nanoseconds"] == 195
    counts = {t["topic_metadata"]["name"]: t["message_count"] for t in info["topics_with_message_count"]}
    assert counts == {"/state_estimate": 20, "/joint_states": 20}
    assert all(re.fullmatch("RIHS01_[0-9a-f]{64}", t["topic_metadata"]["type_description_hash"])
               for t in info["topics_with_message_count"])


def test_an_empty_recording_is_one(tmp_path):
    Recorder(tmp_path / "bag").close()
    assert read_trials(tmp_path / "bag") == []
    with AnyReader([tmp_path / "bag"]) as reader:
        assert reader.message_count == 0


def test_definitions_hold_every_type_once():
    text = definition("mbrl_ros/msg/LocalDynamics")
    assert text.startswith((ROOT / "msg" / "LocalDynamics.msg").read_text())
    assert re.findall("^MSG: (.*)$", text, re.MULTILINE) == [
        "mbrl_ros/StateEstimate", "std_msgs/Header", "builtin_interfaces/Time"]
    with pytest.raises(RecordingError, match="no definition of nav_msgs/msg/Odometry under AMENT_PREFIX_PATH"):
        definition("nav_msgs/msg/Odometry")


# --- interrupted


def test_what_was_flushed_is_a_whole_recording(tmp_path):
    """Before close: for our reader and for others."""
    recorder = Recorder(tmp_path / "bag")
    for k in range(10):
        recorder.write("/state_estimate", STATE_ESTIMATE, cdr(estimate(k)), k, k)
    recorder.flush()
    [trial] = read_trials(tmp_path / "bag")
    assert len(trial.u) == 9
    with AnyReader([tmp_path / "bag"]) as reader:
        assert len(list(reader.messages())) == reader.message_count == 10
    with (tmp_path / "bag" / "bag_0.mcap").open("rb") as file:
        assert len(list(make_reader(file).iter_messages())) == 10
    recorder.close()


def chunk_ends(path):
    """Where the chunks of a finished file of one topic end, and how many messages are before."""
    with path.open("rb") as file:
        indexes = make_reader(file).get_summary().chunk_indexes
    counts = [(index.message_index_length - 15) // 16 for index in indexes]  # 16 bytes each after the head
    return [(index.chunk_start_offset + index.chunk_length, sum(counts[: i + 1])) for i, index in enumerate(indexes)]


@pytest.fixture
def chunks(tmp_path):
    """A file of 8 chunks of 5 messages."""
    with Recorder(tmp_path / "whole") as recorder:
        for k in range(40):
            recorder.write("/state_estimate", STATE_ESTIMATE, cdr(estimate(k)), 100 + k, k)
            if k % 5 == 4:
                recorder.flush()
    return tmp_path / "whole" / "whole_0.mcap"


def test_truncated_anywhere_the_complete_chunks_remain(tmp_path, chunks):
    data, ends = chunks.read_bytes(), chunk_ends(chunks)
    assert ends[-1][1] == 40
    rng = np.random.default_rng(0)
    sizes = {*rng.integers(8, len(data), 150).tolist(), *(end for end, _ in ends), *(end - 1 for end, _ in ends)}
    for size in sizes:
        cut = tmp_path / "cut.mcap"
        cut.write_bytes(data[:size])
        expected = max((total for end, total in ends if end <= size), default=0)
        assert sum(1 for _ in read_records(cut)) == expected, size
    assert sum(len(trial.x) for trial in read_trials(cut)) == expected


@pytest.mark.parametrize("where", ["content", "checksum"])
def test_a_damaged_chunk_is_left_out(chunks, caplog, where):
    data, ends = bytearray(chunks.read_bytes()), chunk_ends(chunks)
    with chunks.open("rb") as file:
        fourth = make_reader(file).get_summary().chunk_indexes[3].chunk_start_offset
    data[ends[3][0] - 20 if where == "content" else fourth + 9 + 24] ^= 0xFF
    chunks.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert [len(trial.x) for trial in read_trials(chunks)] == [15, 20]
    assert "damaged" in caplog.text


def test_random_damage_never_raises(chunks, tmp_path):
    rng, data = np.random.default_rng(1), chunks.read_bytes()
    for _ in range(100):
        broken = bytearray(data)
        for place in rng.integers(8, len(data), 3):
            broken[place] = rng.integers(256)
        (tmp_path / "broken.mcap").write_bytes(broken)
        list(read_records(tmp_path / "broken.mcap"))


def test_recover_makes_a_whole_recording(tmp_path, chunks, capsys):
    whole = chunks.read_bytes()
    ends = chunk_ends(chunks)
    chunks.write_bytes(whole[: ends[5][0] + 30])
    assert recording.main(["recover", str(chunks)]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == chunks.with_name("whole_0_recovered")
    with AnyReader([path]) as reader:
        assert reader.message_count == 30
    [trial] = read_trials(path)
    assert np.array_equal(trial.x, x_of([estimate(k) for k in range(30)]))
    with pytest.raises(RecordingError, match="exists"):
        recover(chunks)


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from mbrl_ros.recordings.recording import Recorder
data, size = Path({data!r}).read_bytes(), {size}
recorder = Recorder({path!r})
start = time.monotonic()
for k in range(len(data) // size):
    recorder.write("/state_estimate", {kind!r}, data[size * k : size * (k + 1)], time.monotonic_ns(), 0)
    print(k, flush=True)
    time.sleep(max(0.0, start + 0.01 * (k + 1) - time.monotonic()))
"""


def test_a_killed_recording_lacks_at_most_the_last_second(tmp_path):
    data, path = [cdr(estimate(k)) for k in range(1000)], tmp_path / "bag"
    (tmp_path / "data").write_bytes(b"".join(data))
    script = KILLED.format(root=str(ROOT), data=str(tmp_path / "data"), size=len(data[0]), path=str(path),
                           kind=STATE_ESTIMATE)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) >= 130:
                break
        child.send_signal(signal.SIGKILL)
        killed = time.monotonic_ns()
        assert child.wait(10) == -signal.SIGKILL
    [trial] = read_trials(path)
    assert np.array_equal(trial.x, x_of([estimate(k) for k in range(len(trial.x))]))
    records = list(read_records(path / "bag_0.mcap"))
    assert killed - records[-1].log_time < 1e9
    with AnyReader([path]) as bag:  # others open it as it is
        assert len(list(bag.messages())) == len(records)


# --- refused


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(RecordingError, match=r"bag: cannot record there: File exists"):
        Recorder(tmp_path / "bag")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("not a recording")])
def test_what_is_no_recording_is_said_so(tmp_path, make, capsys):
    make(tmp_path / "thing")
    with pytest.raises(RecordingError, match=r"thing: (no recording there|not an MCAP file)"):
        read_trials(tmp_path / "thing")
    assert recording.main(["recover", str(tmp_path / "thing")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_after_close_nothing_is_taken(tmp_path):
    recorder = Recorder(tmp_path / "bag")
    recorder.close()
    recorder.close()
    with pytest.raises(RecordingError, match="closed"):
        recorder.write("/state_estimate", STATE_ESTIMATE, b"", 0, 0)


def test_an_unknown_type_is_refused_and_the_recording_goes_on(tmp_path):
    with Recorder(tmp_path / "bag") as recorder:
        with pytest.raises(RecordingError, match="no definition"):
            recorder.write("/odometry", "nav_msgs/msg/Odometry", b"", 0, 0)
        for k in range(3):
            recorder.write("/state_estimate", STATE_ESTIMATE, cdr(estimate(k)), k, k)
    assert len(read_trials(tmp_path / "bag")) == 1


def test_a_full_disk_is_reported_and_what_was_written_stays(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path / "bag")
    data = [cdr(estimate(k)) for k in range(10)]
    for k in range(5):
        recorder.write("/state_estimate", STATE_ESTIMATE, data[k], k, k)
    recorder.flush()
    real, size = os.pwrite, (tmp_path / "bag" / "bag_0.mcap").stat().st_size

    def full(file, view, offset):
        if offset + len(view) > size + 10:
            real(file, view[:100], offset)
            raise OSError(28, "No space left on device")
        return real(file, view, offset)

    monkeypatch.setattr(os, "pwrite", full)
    for k in range(5, 10):
        recorder.write("/state_estimate", STATE_ESTIMATE, data[k], k, k)
    recorder.flush()
    with pytest.raises(RecordingError, match="No space left"):
        recorder.write("/state_estimate", STATE_ESTIMATE, data[0], 11, 11)
    with pytest.raises(RecordingError, match="incomplete: No space left"):
        recorder.close()
    monkeypatch.undo()
    assert [len(trial.x) for trial in read_trials(tmp_path / "bag")] == [5]
    with AnyReader([tmp_path / "bag"]) as bag:
        assert len(list(bag.messages())) == 5


def test_messages_of_ros(tmp_path, monkeypatch):
    """With what rclpy serializes, where it is; the type hashes are those of ROS."""
    serialization = pytest.importorskip("rclpy.serialization", reason="ROS 2 is not available")
    msg = pytest.importorskip("mbrl_ros.msg", reason="the workspace is not built and sourced")
    monkeypatch.setenv("AMENT_PREFIX_PATH", SOURCED)
    run = [estimate(k) for k in range(5)]
    sent = [messages.to_state_estimate(msg.StateEstimate, value, NAMES) for value in run]
    with Recorder(tmp_path / "bag") as recorder:
        for k, message in enumerate(sent):
            recorder.write("/state_estimate", STATE_ESTIMATE, serialization.serialize_message(message), k, k)
    [trial] = read_trials(tmp_path / "bag")
    assert np.array_equal(trial.x, x_of(run))
    stored = [record.data for record in read_records(tmp_path / "bag" / "bag_0.mcap")]
    assert [serialization.deserialize_message(data, msg.StateEstimate) for data in stored] == sent
    info = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    [topic] = info["topics_with_message_count"]
    description = next(Path(p) / "share" / "mbrl_ros" / "msg" / "StateEstimate.json" for p in SOURCED.split(os.pathsep)
                       if (Path(p) / "share" / "mbrl_ros" / "msg" / "StateEstimate.json").is_file())
    hashes = {h["type_name"]: h["hash_string"] for h in json.loads(description.read_text())["type_hashes"]}
    assert topic["topic_metadata"]["type_description_hash"] == hashes[STATE_ESTIMATE]
