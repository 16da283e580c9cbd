"""Repeat a recording with the same parts, and say whether they answer the same, bit for bit.

    ros2 run mbrl_ros replay [RECORDING] [--namespace /left]

Exit code 0: identical, 1: not, 2: cannot be repeated. On the CPU, and with the version that recorded, it is identical;
what differs with another version or other settings shows here what that has changed. Needs no node.
"""
from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from mbrl_ros import config
from mbrl_ros.config import ConfigError
from mbrl_ros.nodes.parts import OPTIONS, PARTS
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.recordings.read_run import newest, read_run
from mbrl_ros.recordings.replay import Replayed, replay
from mbrl_ros.recordings.run import Run


def settings_of(run: Run) -> dict[str, Any]:
    """The nested settings of the parts, as the nodes had them. Raises ConfigError where they were not recorded."""
    flat: dict[str, Any] = {}
    for values in run.parameters.values():
        flat |= {name: value for name, value in values.items() if value is not None}
    missing = [name for name in ("estimator", "learner", "controller")
               if not any(node.rpartition("/")[2] == name for node in run.parameters)]
    if missing:
        raise ConfigError(f"{run.path}: the parameters of {', '.join(missing)} were not recorded, so that there is "
                          "nothing to repeat it with; expected a recording of the logger of this version")
    nested = {}
    for prefix, values in config.unflatten(flat).items():
        if prefix == "task":
            nested[prefix] = values
        elif prefix in PARTS and isinstance(values, dict):
            own = {f.name for f in dataclasses.fields(OPTIONS[prefix])} if prefix in OPTIONS else set()
            known = {f.name for f in dataclasses.fields(PARTS[prefix])}
            nested[prefix] = {key: value for key, value in values.items() if key in known - own}
    return nested


def table(run: Run, found: Replayed) -> str:
    """What a person wants to read."""
    lines = [f"{'':12}{'compared':>10}{'identical':>11}{'first difference':>19}{'largest':>11}"]
    for part in found.parts:
        first = "" if part.first is None else f"{1e-9 * (part.first - run.states.time[0]):.2f} s"
        largest = f"{part.largest:.2g}" if part.largest else ""
        lines.append(f"{part.name:12}{part.compared:10}{part.identical:11}{first:>19}{largest:>11}")
    return "\n".join([*lines, *found.notes, "identical" if found.identical else "not identical"])


def main(args: list[str] | None = None) -> int:
    """See above."""
    p = argparse.ArgumentParser(prog="replay", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("recording", type=Path, nargs="?", help="without it, the newest in runs/")
    p.add_argument("--namespace", help="which robot, where several were recorded")
    a = p.parse_args(args)
    try:
        run = read_run(a.recording or newest(Path("runs")), a.namespace)
        found = replay(run, settings_of(run))
    except (RecordingError, ConfigError, OSError) as error:
        print(f"replay: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(table(run, found))
    return 0 if found.identical else 1


if __name__ == "__main__":
    raise SystemExit(main())
