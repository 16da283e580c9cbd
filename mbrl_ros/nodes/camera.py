"""The process that draws what the camera of the simulated robot sees, and the plant's side of it: no picture delays a
tick.

    python3 -m mbrl_ros.nodes.camera

Its input is a line of JSON, the settings, and from then on a time [ns] and the joints of every period. It draws the
newest of them, however many came while it drew. Its output is the focal length [px], then for each picture the time and
the pixels. Nothing waits for it: where it is stopped and its pipe is full, states are dropped.
"""
from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mbrl_ros.config import from_mapping, section
from mbrl_ros.drawing.camera import Config, RobotCamera
from mbrl_ros.nodes.__main__ import PARENT, end_with
from mbrl_ros.robot import Config as RobotConfig
from mbrl_ros.robot import Robot
from mbrl_ros.simulation import world as worlds
from mbrl_ros.types import Array

Show = Callable[[int, Array, float], object]  # time [ns], pixels (rows, columns, channels), focal length [px]
ALL = 1 << 20  # [bytes] more than a pipe holds


class CameraProcess:
    """Started at once; a thread gives `show` its pictures. `failed` says why it has ended."""

    def __init__(self, settings: Mapping[str, Any], show: Show):
        self.failed = ""
        self._ready, self._closing = False, False
        self._settings, self._show = settings, show
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mbrl_ros.nodes.camera"], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, PARENT: str(os.getpid())})
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process that draws."""
        return self._process.pid

    def offer(self, time: int, q: Array) -> None:
        """Where the joints are (m,) at a time [ns]. Returns at once."""
        if self._ready and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # full, as it is behind, or gone: `failed` says so
                os.write(self._process.stdin.fileno(), struct.pack("<q", time) + q.tobytes())

    def _read(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        config = from_mapping(Config, section(self._settings, "camera"), "camera")
        size = (config.width, config.width, config.channels)
        with contextlib.suppress(OSError):
            rest = json.dumps(self._settings).encode() + b"\n"
            while rest:
                rest = rest[os.write(stdin.fileno(), rest):]
            os.set_blocking(stdin.fileno(), False)
            self._ready = True
            first = _exactly(stdout, 8)
            while first and (picture := _exactly(stdout, 8 + int(np.prod(size)))):
                pixels = np.frombuffer(picture, np.uint8, offset=8).reshape(size)
                self._show(struct.unpack_from("<q", picture)[0], pixels, struct.unpack("<d", first)[0])
        code = self._process.wait()
        if not self._closing:
            self.failed = f"the process that draws ended with exit code {code}"

    def close(self) -> None:
        """End it."""
        self._closing = True
        self._process.kill()
        self._thread.join()  # it ends with the output
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _exactly(stream: Any, count: int) -> bytes:
    """So many bytes, or none where the stream ends before."""
    found = b""
    while len(found) < count:
        more = stream.read(count - len(found))
        if not more:
            return b""
        found += more
    return found


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the node, which ends this
    parent = os.environ.pop(PARENT, "")
    if parent:
        end_with(int(parent))
    out, given = sys.stdout.buffer, os.fdopen(0, "rb", buffering=0)
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library says
        settings = json.loads(given.readline())
        robot = Robot(from_mapping(RobotConfig, section(settings, "robot"), "robot"))
        world = worlds.build(robot, from_mapping(worlds.World, section(settings, "world"), "world"))
        camera = RobotCamera(robot, from_mapping(Config, section(settings, "camera"), "camera"), world)
        out.write(struct.pack("<d", camera.view.focal))
        out.flush()
        record, rest = 8 + 8 * robot.m, b""
        while more := given.read(ALL):
            rest += more
            whole = len(rest) // record * record
            if whole:
                newest, rest = rest[whole - record : whole], rest[whole:]
                out.write(newest[:8] + camera.picture(np.frombuffer(newest, np.float64, offset=8)).tobytes())
                out.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
