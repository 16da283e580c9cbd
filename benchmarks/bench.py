"""All benchmarks one after the other, ours and peers in turns: a table, and runs/<time>/bench.json.

    pip install -r benchmarks/requirements.txt    # peers; those that are missing are named, and left out
    make bench                                    # or: python3 benchmarks/bench.py --only lq tick

Each is a module of this folder that can also be run alone, with more options.
"""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from mbrl_ros import config

MODULES = ("lq", "plan", "tick", "batch", "latency")
PEERS = {"lq": {"crocoddyl": "Crocoddyl", "acados": "HPIPM"}}  # module -> what it imports if it can, and its name
COLUMNS = ("what", "size", "ours_us", "peer", "peer_us", "ratio")


def processor() -> str:
    """Kind of processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def shown(value: Any) -> str:
    """A cell of the table."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "-" if value is None or value == "" else str(value)


def missing(modules: Sequence[str]) -> list[str]:
    """A line for each peer of these modules that is not installed."""
    return [f"{name} is missing, and its rows with it: pip install -r benchmarks/requirements.txt"
            for module in modules for package, name in PEERS.get(module, {}).items()
            if importlib.util.find_spec(package) is None]


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", nargs="+", choices=MODULES, default=MODULES)
    p.add_argument("--output", type=Path, default=Path("runs"))
    a = p.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    for name in a.only:
        for row in importlib.import_module(name).rows():
            rows.append(row)
            print("| " + " | ".join(shown(row[column]) for column in COLUMNS) + " |", flush=True)
    folder = config.new_folder(a.output)
    (folder / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(["", *missing(a.only), f"-> {folder / 'bench.json'}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
