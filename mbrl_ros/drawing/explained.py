"""A recorded run explained on one page: sentences for what stood out, then charts and tables."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.drawing import page
from mbrl_ros.drawing.findings import findings, mode_of, run_period, seconds, stretches, targets_of, tool
from mbrl_ros.drawing.page import Chart, Line
from mbrl_ros.recordings.read_run import read_run
from mbrl_ros.recordings.run import Run, at, tool_rows

LARGEST = 2_000_000  # [bytes] of a page
MOST = 14  # joints that have a chart each
FEW = 500  # points are drawn as such


def explain(recording: Path | str, output: Path | str | None = None, namespace: str | None = None) -> Path:
    """Write the page about a recording, beside it unless told; where it is. Raises RecordingError, and OSError where it
    cannot be written."""
    path = Path(recording)
    to = Path(output) if output else (path if path.is_dir() else path.parent) / "report.html"
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(explained(read_run(path, namespace)))
    return to


def explained(run: Run) -> str:
    """The page, as text."""
    joints, period = run.states.names.joints, run_period(run)
    what = (f"{len(run.states.time)} states of {', '.join(joints)} every {1e3 * period:.3g} ms: "
            f"{seconds(run, run.states.time[-1]):.1f} s of the robot, recorded within {run.seconds:.1f} s.")
    return page.page(f"{run.path.name}: what happened", [
        f"<p>{page.html.escape(what)}</p>", page.section("What stood out", [page.listed(findings(run))]),
        page.section("The tool", _tool(run)), page.section("Model", _model(run)), page.section("Plans", _plans(run)),
        page.section("Joints", _joints(run)), page.section("Efforts", _efforts(run)),
        page.section("Time of the stages", _stages(run)), page.section("What was said", _said(run), False),
        page.section("Parameters", _parameters(run), False), page.section("The recording", _topics(run), False)])


def _chart(run: Run, title: str, unit: str, lines: list[Line], **more: object) -> str:
    """With the modes as shades, and what happened as marks."""
    kept = [line for line in lines if len(line.x) and np.isfinite(line.y).any()]
    if not kept:
        return ""
    time, modes = seconds(run, run.states.time), mode_of(run)
    edges = [0, *(np.flatnonzero(modes[1:] != modes[:-1]) + 1).tolist(), len(time) - 1]
    spans = [(float(time[a]), float(time[b]), str(modes[a])) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    marks = [(run.seconds_at(s.time), f"{s.kind}: {s.text}") for s in run.said if s.kind in ("guard", "model")]
    span = float(time[0]), float(max(time[-1], time[0] + 1e-6))
    return page.svg(Chart(title, unit, kept, span, spans=spans, marks=marks, **more))  # type: ignore[arg-type]


def _tool(run: Run) -> list[str]:
    time, where, reference = seconds(run, run.states.time), tool(run), at(run.reference, run.states.time)
    error = np.full(len(time), np.nan)
    for s in stretches(run):
        error[s.begin : s.end] = np.linalg.norm(where[s.begin : s.end] - s.target, axis=1)
    lines = [Line("to the target", time, 1e3 * error, 0)]
    if reference.shape == where.shape:
        lines.append(Line("to the path", time, 1e3 * np.linalg.norm(where - reference, axis=1), 1))
    return [part for part in (_chart(run, "Distance of the tool", "mm", lines, log=True, levels=((5.0, "5 mm"),)),
                              _chart(run, "Position of the tool", "m", [
                                  Line("xyz"[i], time, where[:, i], i) for i in range(3)])) if part]


def _model(run: Run) -> list[str]:
    """Of every tick where beliefs were recorded, else of the models that were."""
    held: Any = run.beliefs or run.models
    stamps = [m.time for m in run.beliefs] or [m.state.time for m in run.models]
    time, few = seconds(run, np.array(stamps, dtype=np.int64)), len(stamps) < FEW
    counted, weights = [m.state.time for m in run.models], np.array([m.sample_weight for m in run.models])
    parts = [_chart(run, "Error of the prediction: 1 where it is as large as the model says", "1",
                    [Line("squared, over its variance", time, np.array([m.prediction_error for m in held]), 0, few)],
                    log=True, levels=((1.0, ""),), height=120),
             _chart(run, "Trust in the model, and transitions behind the local fit (of the most)", "1", [
                 Line("trust", time, np.array([m.trust for m in held]), 2, few),
                 Line("transitions", seconds(run, np.array(counted, dtype=np.int64)), _part(weights), 1,
                      len(counted) < FEW)], height=110)]
    return [part for part in parts if part]


def _part(values: np.ndarray) -> np.ndarray:
    return values / max(1e-9, float(values.max(initial=0.0)))


def _plans(run: Run) -> list[str]:
    if not run.plans and not run.beliefs:
        return []
    stamps = [p.time for p in run.beliefs] or [p.time for p in run.plans]
    taken = [p.plan_time for p in run.beliefs] or [p.solve_time for p in run.plans]
    cost = [p.cost for p in run.beliefs] or [p.plan.cost for p in run.plans]
    time, few = seconds(run, np.array(stamps, dtype=np.int64)), len(stamps) < FEW
    terms = list(dict.fromkeys(name for belief in run.beliefs for name in belief.terms))
    lines = [Line("all", time, np.array(cost), 6, few),
             *(Line(name, time, np.array([b.terms.get(name, np.nan) for b in run.beliefs]), i, few)
               for i, name in enumerate(terms))]
    parts = [_chart(run, "Time of planning", "ms", [Line("planner", time, 1e3 * np.array(taken), 0, few)], log=True,
                    height=110),
             _chart(run, "Cost of the plan" + (", by term" if terms else ""), "1", lines, log=bool(terms),
                    height=170 if terms else 110), _ahead(run)]
    counts: dict[str, int] = {}
    for p in run.plans:
        counts[p.plan.status] = counts.get(p.plan.status, 0) + 1
    return [*(part for part in parts if part), page.table(["how recorded plans ended", "plans"], list(counts.items()))]


def _ahead(run: Run) -> str:
    """Where the tool was expected some time ahead, against where it was by then, while the target stayed."""
    index, rows = {int(t): i for i, t in enumerate(run.states.time)}, tool_rows(run.states)
    stride = max(1, int(run.setting("robot.stride", 1) or 1))
    starts = np.array([run.seconds_at(t.time) for t in targets_of(run)])
    found = []
    for p in run.plans:
        here = index.get(p.time)
        steps = len(p.plan.states) // 2
        there = None if here is None else here + steps * stride
        if here is None or there is None or there >= len(run.states.time):
            continue
        begin, end = seconds(run, run.states.time[[here, there]])
        if not ((starts > begin) & (starts <= end)).any():
            found.append((end, np.linalg.norm(p.plan.states[steps][rows] - run.states.x[there][rows])))
    if not found:
        return ""
    time, error = np.array(found).T
    ahead = run_period(run) * stride * (len(run.plans[0].plan.states) // 2)
    return _chart(run, f"Belief against what came: the tool {ahead:.2g} s on, from where a plan had it", "mm",
                  [Line("distance", time, 1e3 * error, 3, len(time) < FEW)], log=True, height=120)


def _joints(run: Run) -> list[str]:
    time = seconds(run, run.states.time)
    return [part for kind, unit in (("position", "rad or m"), ("velocity", "rad/s or m/s"))
            if (part := _chart(run, f"Joint {kind}", unit, [
                Line(run.states.names.state_names[row].split("/")[1], time, run.states.x[:, row], i)
                for i, row in enumerate(run.states.rows("joint/", f"/{kind}"))], height=190))]


def _efforts(run: Run) -> list[str]:
    time = seconds(run, run.states.time)
    asked, sent, acted = at(run.asked, run.states.time), at(run.sent, run.states.time), run.states.effort
    limits, parts = np.asarray(run.setting("robot.effort_limit", []), float), []
    for i, joint in enumerate(run.states.names.joints[:MOST]):
        lines = [Line(name, time, of[:, i], color) for name, of, color in (
            ("asked for", asked, 1), ("sent by the guard", sent, 0)) if of.shape[1] > i]
        lines = lines or [Line("acted, by the estimate", time, acted[:, i], 2)]
        levels = ((limits[i], "limit"), (-limits[i], "limit")) if len(limits) > i else ()
        parts.append(_chart(run, f"Effort of {joint}", "N m or N", lines, height=120, levels=levels))
    return [part for part in parts if part]


def _stages(run: Run) -> list[str]:
    if not run.stages:
        return []
    names, last = list(dict.fromkeys(s.name for s in run.stages)), {s.name: s for s in run.stages}
    lines = []
    for i, name in enumerate(names):
        of = [s for s in run.stages if s.name == name and "tick_us_p99" in s.values]
        lines.append(Line(name, np.array([run.seconds_at(s.time) for s in of]),
                          1e-3 * np.array([float(s.values["tick_us_p99"]) for s in of]), i, len(of) < 50))
    rows = [(name, key[: -len("_us_p50")], float(value), float(last[name].values[key.replace("_p50", "_p99")]),
             float(last[name].values[key.replace("_p50", "_max")]))
            for name in names for key, value in last[name].values.items() if key.endswith("_us_p50")]
    return [_chart(run, "99 % of a node's last thousand ticks took less than", "ms", lines, log=True,
                   levels=((1e3 * run_period(run), "period"),)),
            page.table(["node", "stage", "median [µs]", "99 % [µs]", "most [µs]"], rows)]


def _said(run: Run) -> list[str]:
    rows: list[tuple[float, str, str]] = [(round(run.seconds_at(s.time), 2), s.kind, s.text) for s in run.said]
    rows += [(round(run.seconds_at(t.time), 2), "target", t.text) for t in targets_of(run)]
    last: dict[str, str] = {}
    for s in run.diagnostics:
        line = s.message
        if last.get(s.name) != line and len(rows) < 400:
            rows.append((round(run.seconds_at(s.time), 2), s.name, line))
        last[s.name] = line
    return [page.table(["s", "who or what", "said"], sorted(rows))] if rows else []


def _parameters(run: Run) -> list[str]:
    changed: dict[tuple[str, str], list[str]] = {}
    for c in run.changes:
        changed.setdefault((c.node, c.name), []).append(f"{c.value} at {run.seconds_at(c.time):.1f} s")
    rows = [(node, name, _short(value), "; ".join(changed.get((node, name), [])[:20]))
            for node, of in sorted(run.parameters.items()) for name, value in sorted(of.items())]
    return [page.table(["node", "parameter", "at first", "later"], rows)] if rows else []


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


def _topics(run: Run) -> list[str]:
    rows = [(name, kind, count, round(1e-6 * size, 3)) for name, (kind, count, size) in run.topics.items()]
    return [page.table(["topic", "type", "messages", "MB, not compressed"], rows)]
