"""Explain a recording on one page without scripts.

    ros2 run mbrl_ros report [RECORDING] [--output FILE.html] [--namespace /left]

A recording is a folder or file of `log:=`, of the demonstration or of `ros2 bag record`. Needs no node.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mbrl_ros.drawing.explained import explain
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.recordings.read_run import newest


def main(args: list[str] | None = None) -> int:
    """0: written, 2: a mistake of the user, in one line."""
    p = argparse.ArgumentParser(prog="report", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("recording", type=Path, nargs="?", help="without it, the newest in runs/")
    p.add_argument("--output", type=Path, help="the page; without it, report.html in the recording's folder")
    p.add_argument("--namespace", help="which robot, where several were recorded")
    a = p.parse_args(args)
    try:
        print(explain(a.recording or newest(Path("runs")), a.output, a.namespace))
    except (RecordingError, OSError) as error:
        print(f"report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
