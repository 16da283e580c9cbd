"""Measure, keep what the commands wrote, and make the tables of README.md and docs/results.md of it.

    make figures                           # every command below, one after the other (hours), then the tables
    make figures ONLY=ensemble_30s,tick    # some of them; SEEDS=0-1 for fewer seeds than are asked for below
    python3 scripts/figures.py             # the tables alone, from the files there are

docs/figures/NAME.json is what a command wrote, shortened, with the command, date, kind of machine and commit. A table
stands between `<!-- figures: NAME -->` and `<!-- end -->`: a row whose file is missing is left out, and where there is
no file, what stands there stays.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
FIGURES, DOCUMENTS = ROOT / "docs" / "figures", (ROOT / "README.md", ROOT / "docs" / "results.md")

REACH = "python3 -m mbrl_ros.evaluation.reach"
SUITE = "python3 -m mbrl_ros.evaluation.suite --full --robots arm --priors ensemble"
BENCH = "python3 benchmarks/bench.py"
COMMANDS = {
    "ensemble_30s": f"{REACH} --seeds 0-9 --data-seconds 30 --prior ensemble",
    "ensemble_10s": f"{REACH} --seeds 0-9 --data-seconds 10 --prior ensemble",
    "far_targets": f"{SUITE} --against '' --seeds 0-19 --only far_targets",
    "delay_1": f"{SUITE} --against '' --seeds 0-9 --only delay_1",
    "priors_30s": f"{REACH} --seeds 0-4 --data-seconds 30 --prior gaussian,mixture,nominal,none",
    "no_adapt": f"{REACH} --seeds 0-4 --data-seconds 30 --prior ensemble --no-adapt",
    **{f"varied_{part}": f"{REACH} --seeds 0-4 --data-seconds 30 --prior ensemble --variation 0.{part // 10}"
       for part in (20, 40, 60)},
    "tick": f"{BENCH} --only tick",
    "lq": f"{BENCH} --only lq",
    "latency": f"{BENCH} --only latency",
    "surroundings": f"{SUITE} --against '' --seeds 0-9 --only "
                    "power_on,data_2s,data_5s,eight_0.25hz,no_gravity_compensation,delay_2,noise_x5",
    "changes": f"{SUITE} --against frozen --seeds 0-9 --only payload_1kg,payload_2kg,payload_4kg,swinging_1kg,"
               "damping_x3,friction,weak_motor,wrong_masses,lost_gravity_compensation,eight_payload,wall",
    "sudden_delays": f"{SUITE} --against frozen --seeds 0-9 --only sudden_delay_1,sudden_delay_2",
    "real_arms": f"{SUITE} --against '' --seeds 0-9 --only "
                 "elastic,elastic_link_readings,elastic_motor_encoders,elastic_motor_encoders_soft,stiction,cogging,"
                 "quantised,jitter,lost_states,all_of_these,wrong_lengths,torque_offset,table,contacts",
    "readings": f"{SUITE} --against '' --seeds 0-9 --only payload_1kg,effort_from_reports,reading_offset,reading_gain,"
                "reading_weight,reading_noise,readings_delay_1",
    "faults": "python3 test/faults/inject.py --ticks 1000000",
    "soak": "python3 test/faults/soak.py --minutes 60",
}

Row = tuple[str, str, str]  # what it says, file, case
Kept = dict[str, dict[str, Any]]  # the files by name
ROWS: list[Row] = [
    ("ensemble, 30 s of data", "ensemble_30s", "ensemble"), ("ensemble, 10 s", "ensemble_10s", "ensemble"),
    ("ensemble, 10 s, far targets (home ± 1 rad)", "far_targets", "far_targets, ensemble"),
    ("ensemble, 10 s, a period of delay, not told", "delay_1", "delay_1, ensemble"),
    ("mixture, 30 s", "priors_30s", "mixture"), ("one Gaussian, 30 s", "priors_30s", "gaussian"),
    ("physics, masses and damping 30 % wrong, 30 s", "priors_30s", "nominal"),
    *((f"ensemble, 30 s, arm varied by {part} %", f"varied_{part}", "ensemble") for part in (20, 40, 60)),
    ("ensemble, 30 s, learning off after the fit", "no_adapt", "ensemble"), ("no prior, 30 s", "priors_30s", "none"),
    ("given the true dynamics", "ensemble_30s", "oracle"),
    ("given the true dynamics, far targets", "far_targets", "far_targets, oracle"),
    ("given the true dynamics and the delay", "delay_1", "delay_1, oracle")]
SPEED = {"tick": ("27, 7, 20", ("estimate", "moments and fit, ensemble", "cost and plan", "whole tick in closed loop")),
         "lq": ("14, 7, 25", ("iterate", "fresh", "limited"))}  # n, m, T of the arm, and of its joints


def run(name: str, seeds: str) -> None:
    """Measure, and keep what comes out."""
    command = re.sub(r"--seeds \S+", f"--seeds {seeds}", COMMANDS[name]) if seeds else COMMANDS[name]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT}/test:{os.environ.get('PYTHONPATH', '')}"}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        to = ["--json", f"{out}/it.json"] if command.startswith(REACH) else ["--output", out]
        subprocess.run([sys.executable, *shlex.split(command)[1:], *to], cwd=ROOT, env=env, check=True)
        result = json.loads(next(Path(out).rglob("*.json")).read_text())
    kept = {"command": command, "date": date.today().isoformat(), "machine": machine(), "commit": commit(),
            "seconds": round(time.monotonic() - began), "result": short(result)}
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.json").write_text(written(kept))


def machine() -> str:
    """Its kind: processor and number of cores."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    return f"{model[1] if model else os.uname().machine}, {os.cpu_count()} cores"


def commit() -> str:
    """Of what was measured; with a + where files of it were changed since."""
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout  # noqa: E731
    changed = git("status", "--porcelain", "--", "mbrl_ros", "config", "benchmarks", "test/faults")
    return git("rev-parse", "--short", "HEAD").strip() + ("+" if changed else "")


def short(value: Any) -> Any:
    """Without what the command line says and what came of each target, and with four digits."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items() if k not in ("arguments", "before_payload")
                and not (isinstance(v, list) and v and not isinstance(v[0], dict))}
    if isinstance(value, list):
        return [short(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def written(kept: dict[str, Any]) -> str:
    """As JSON, a line for each run."""
    lines = lambda found: " ".join(found[0].split())  # noqa: E731
    return "{" + re.sub(r"\{(?:[^{}]|\{[^{}]*\})*\}", lines, json.dumps(kept, indent=1)[1:]) + "\n"


def cases(result: Any) -> dict[str, Any]:
    """The totals of every case with the `runs` they are of, whichever command wrote them."""
    if isinstance(result, dict):  # evaluation.reach
        return {name: {**total, "runs": result["seeds"][name]} for name, total in result["all"].items()}
    return {f"{row['scenario']}, {row['prior']}": row for row in result}


def number(value: float | None, digits: int = 2) -> str:
    """Null, which is how commands write what a divergence made infinite, is infinite."""
    return "∞" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def spread(values: list[float | None], digits: int = 2) -> str:
    """Median (least to most)."""
    at = np.array([np.inf if v is None else v for v in values])
    shown = [number(v, digits) for v in (np.median(at), at.min(), at.max())]
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if len(set(shown)) > 1 else shown[0]


def within(of: dict[str, Any], mm: int) -> str:
    """How many of the targets."""
    return f"{round(of[f'success_{mm}mm'] * of['targets'])} of {of['targets']}"


def reaching(rows: list[Row], kept: Kept) -> list[str]:
    """Targets reached, error and cost: a line for each case whose file is there."""
    lines = ["| | seeds | within 5 mm | within 20 mm | error [mm] | worst [mm] | cost | after 1 kg | diverged |",
             "|---" * 9 + "|"]
    for what, file, case in rows:
        if file not in kept:
            continue
        of = cases(kept[file]["result"])[case]
        runs, loaded = of["runs"], "," not in case  # nothing is put into the hand in these scenarios
        cells = [what, len(runs), within(of, 5), within(of, 20), spread([r["median_error_mm"] for r in runs]),
                 number(of["worst_error_mm"], 1), spread([r["oracle_cost_ratio"] for r in runs]),
                 spread([r["after_payload"]["oracle_cost_ratio"] for r in runs]) if loaded else "",
                 sum(r["diverged"] for r in runs)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def scenarios(file: str, kept: Kept) -> list[str]:
    """All rows of a suite."""
    lines = ["| scenario | who | within 5 mm | error [mm] | worst [mm] | cost | recovery [s] | peak [mm] | diverged |",
             "|---" * 9 + "|"]
    for of in kept[file]["result"]:
        runs = of["runs"]
        changed = any(r["peak_mm"] is not None for r in runs)
        cells = [of["scenario"], of["prior"], within(of, 5), spread([r["median_error_mm"] for r in runs]),
                 number(of["worst_error_mm"], 1), spread([r["oracle_cost_ratio"] for r in runs]),
                 spread([r["recovery_s"] for r in runs]) if changed else "",
                 spread([r["peak_mm"] for r in runs], 1) if changed else "", of["divergences"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def times(file: str, kept: Kept) -> list[str]:
    """What a benchmark measured of the rows in SPEED, beside its peers."""
    size, wanted = SPEED[file]
    lines = [f"| n, m, T: {size} | median [us] | least, 99 % [us] | peer | its median [us] | ratio |", "|---" * 6 + "|"]
    for row in sorted((r for r in kept[file]["result"] if r["size"] == size and r["what"] in wanted),
                      key=lambda r: wanted.index(r["what"])):
        ends = ", ".join(f"{row[key]:.0f}" for key in ("ours_min_us", "ours_p99_us") if key in row)
        peer = [row["peer"], f"{row['peer_us']:.0f}", f"{row['ratio']:.1f}"] if row["peer"] else ["", "", ""]
        lines.append("| " + " | ".join([row["what"], f"{row['ours_us']:.0f}", ends, *peer]) + " |")
    return lines


def latency(kept: Kept) -> list[str]:
    """From a joint state to its command, through a process for each node."""
    return ["| | [ms] | of |", "|---|---|---|", *(
        f"| {row['what']} | {1e-3 * row['ours_us']:.1f} | {row['size']} |" for row in kept["latency"]["result"]
        if row["what"].startswith("joint_states"))]


def counts(file: str, kept: Kept) -> list[str]:
    """The numbers of a file, one a line."""
    return [f"- {key.replace('_', ' ')}: {value}" for key, value in kept[file]["result"].items()
            if isinstance(value, (int, float))]


# name of a table -> the files it is of, and how it is made
TABLES: dict[str, tuple[list[str], Callable[[Kept], list[str]]]] = {
    "reaching": ([row[1] for row in ROWS], partial(reaching, ROWS)),
    "latency": (["latency"], latency), **{name: ([name], partial(times, name)) for name in SPEED},
    **{name: ([name], partial(scenarios, name)) for name in (
        "surroundings", "changes", "sudden_delays", "real_arms", "readings")},
    **{name: ([name], partial(counts, name)) for name in ("faults", "soak")},
}


def source(files: list[str], kept: Kept, commands: bool) -> list[str]:
    """Where a table comes from: in README.md in one line, elsewhere with the commands."""
    there = [kept[file] for file in dict.fromkeys(files) if file in kept]
    places = {f"{of['date']}, {of['machine']}, commit {of['commit']}" for of in there}
    lines = ["", f"({'; '.join(sorted(places))}.)"]
    return [*lines, "", "```", *(of["command"] for of in there), "```"] if commands else lines


def filled(document: str, kept: Kept, commands: bool) -> str:
    """The document with its tables made anew. Raises KeyError for a table that nobody makes."""
    def table(found: re.Match[str]) -> str:
        files, made = TABLES[found[1]]
        if not set(files) & set(kept):
            return found[0]
        return "\n".join([f"<!-- figures: {found[1]} -->", *made(kept), *source(files, kept, commands), "<!-- end -->"])
    return re.sub(r"<!-- figures: (\w+) -->\n.*?<!-- end -->", table, document, flags=re.DOTALL)


def read() -> Kept:
    """All files there are."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))}


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--run", metavar="NAMES", help=f"commands with commas between, or all: {', '.join(COMMANDS)}")
    p.add_argument("--seeds", default="", help="in place of those of the commands, such as 0-1")
    a = p.parse_args()
    names = list(COMMANDS) if a.run == "all" else a.run.split(",") if a.run else []
    if unknown := sorted(set(names) - set(COMMANDS)):
        p.error(f"unknown command {unknown[0]!r}; choose from {', '.join(COMMANDS)}")
    for name in names:
        print(f"{name}: {COMMANDS[name]}", flush=True)
        run(name, a.seeds)
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(), read(), path.name != "README.md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
