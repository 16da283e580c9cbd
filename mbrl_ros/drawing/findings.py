"""What stood out in a run, as sentences: figures of one recording against what they should be."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mbrl_ros.gaussian import Z95
from mbrl_ros.recordings.run import Run, Said, at, tool_rows
from mbrl_ros.types import CONVERGED, FAILED, LATE, NOT_FINITE, Array

REACHED = 5e-3  # [m]
SETTLED = 0.5  # [s] at the end of a stretch with one target, over which its error is looked at
ENOUGH = 20  # predictions, or plans, for a part of them to say anything
COVERED = 0.85, 0.995  # part of measurements in the 95 % band, beyond which it is said
FULL = 0.999  # of an effort limit

Finding = tuple[bool, str]  # whether it is about something bad


class Stretch(NamedTuple):
    """A time with one target while the mode was to reach."""

    begin: int  # rows of the states
    end: int
    target: Array  # (3,) [m]


def seconds(run: Run, time: Array | int) -> Array:
    """Since the first state, of stamps [ns]."""
    found: Array = 1e-9 * (np.asarray(time, dtype=np.int64) - run.states.time[0])
    return found


def stretches(run: Run) -> list[Stretch]:
    """Where the targets were those of the references or messages, while the mode was reach."""
    targets, reaching = targets_of(run), mode_of(run) == "reach"
    times = np.array([run.seconds_at(t.time) for t in targets])
    states = seconds(run, run.states.time)
    edges = np.unique(np.concatenate([[0], np.searchsorted(states, times), np.flatnonzero(np.diff(reaching)) + 1,
                                      [len(states)]])).astype(int)
    found = []
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        before = [t for t, at_time in zip(targets, times, strict=True) if at_time <= states[begin] + 1e-9]
        if reaching[begin] and before and end - begin > 1:
            found.append(Stretch(int(begin), int(end), before[-1].value))
    return found


def targets_of(run: Run) -> list[Said]:
    """All targets (3,) [m], by message or by parameter."""
    heard = [Said(t.time, "target", t.text, t.value.position) for t in run.targets if t.value.position is not None]
    first = run.setting("task.target", [])
    begin = [Said(run.start, "target", str(first), np.array(first))] if len(first) == 3 else []
    later = [Said(c.time, "target", str(c.value), np.array(c.value)) for c in run.changes
             if c.name == "task.target" and len(c.value) == 3]
    return sorted([*begin, *heard, *later], key=lambda s: s.time)


def mode_of(run: Run) -> Array:
    """The mode (T,) at every state; empty before it was said."""
    states, modes = seconds(run, run.states.time), [s for s in run.said if s.kind == "mode"]
    found = np.full(len(states), "", dtype=object)
    for said in modes:
        found[states >= run.seconds_at(said.time) - 1e-9] = said.text
    return found


def tool(run: Run) -> Array:
    """Where the tool was (T, 3) [m]: as the plant says, else as estimated."""
    true = at(run.tool, run.states.time)
    rows = tool_rows(run.states)
    estimated = run.states.x[:, rows] if rows else np.full((len(run.states.time), 3), np.nan)
    return true if true.shape == estimated.shape and np.isfinite(true).any() else estimated


def covered(run: Run) -> tuple[int, Array, int]:
    """How many predictions are followed by their state; by row of the joints, the part of those states within the 95 %
    band; and how many rows."""
    index = {int(t): i for i, t in enumerate(run.states.time)}
    inside = []
    rows = [*run.states.rows("joint/", "/position"), *run.states.rows("joint/", "/velocity")]
    for model in run.models:
        here = index.get(model.state.time)
        after = None if here is None else here + max(1, round(model.period / max(run_period(run), 1e-9)))
        if here is None or after is None or after >= len(run.states.time) or (
                run.states.step[after] - run.states.step[here] != after - here):
            continue
        d, u = model.dynamics, run.states.effort[here + 1 : after + 1].mean(0)
        mean = d.F @ np.concatenate([model.state.belief.mean, u]) + d.f
        std = np.sqrt(np.diag(d.Sigma))
        inside.append(np.abs(run.states.x[after] - mean)[rows] <= Z95 * std[rows] + 1e-12)
    return len(inside), np.mean(inside, axis=0) if inside else np.zeros(len(rows)), len(rows)


def run_period(run: Run) -> float:
    """[s]"""
    return float(np.median(np.diff(run.states.time))) * 1e-9 if len(run.states.time) > 1 else 0.0


def findings(run: Run) -> list[Finding]:
    """Sentences, those about something bad first."""
    all_of = [*_faults(run), *_gaps(run), *_targets(run), *_limits(run), *_guard(run), *_plans(run), *_models(run),
              *_stages(run), *_changes(run), *((True, line) for line in run.left_out)]
    return sorted(all_of, key=lambda finding: not finding[0])


def _faults(run: Run) -> list[Finding]:
    found, last = list[Finding](), dict[str, str]()
    for status in run.diagnostics:
        if status.level >= 2 and last.get(status.name) != status.message:
            found.append((True, f"At {run.seconds_at(status.time):.1f} s the {status.name} said: {status.message}."))
        last[status.name] = status.message if status.level >= 2 else ""
    return found[:12] + ([(True, f"… and {len(found) - 12} more faults.")] if len(found) > 12 else [])


def _gaps(run: Run) -> list[Finding]:
    time, period = run.states.time, run_period(run)
    if len(time) < 2:
        return [(True, "There is one state only.")]
    gap = 1e-9 * np.diff(time)
    missing = np.maximum(np.round(gap / period) - 1, 0)
    back = int((gap <= 0).sum())
    found = [(True, f"The clock of the states stood still or went back {back} times.")] if back else []
    if missing.sum() == 0:
        return [*found, (False, f"Not one of {len(time)} states is missing, every {1e3 * period:.3g} ms.")]
    worst = int(np.argmax(gap))
    lost = int(missing.sum())
    return [*found, (True, f"{lost} of {len(time) + lost} states are missing; the longest gap is {gap[worst]:.3g} s, "
                     f"at {seconds(run, time[worst]):.1f} s.")]


def _targets(run: Run) -> list[Finding]:
    where, period = tool(run), run_period(run)
    all_of = stretches(run)
    if not all_of:
        return [(False, "No target was followed while this was recorded.")]
    last = max(1, round(SETTLED / max(period, 1e-9)))
    errors = [float(np.nanmedian(np.linalg.norm(where[max(s.begin, s.end - last) : s.end] - s.target, axis=1)))
              for s in all_of]
    reached = sum(e <= REACHED for e in errors)
    found = [(reached < len(errors), f"{reached} of {len(errors)} targets were reached within {1e3 * REACHED:g} mm; "
              f"the median of the final errors is {1e3 * float(np.median(errors)):.2f} mm.")]
    for s, e in zip(all_of, errors, strict=True):
        if e > REACHED and len(found) < 9:
            begin, end = seconds(run, run.states.time[[s.begin, s.end - 1]])
            found.append((True, f"The target {np.array2string(s.target, precision=3)} of {begin:.1f} s was still "
                          f"{1e3 * e:.1f} mm away at {end:.1f} s."))
    return found


def _limits(run: Run) -> list[Finding]:
    found = []
    for what, values, name in (("effort", at(run.sent, run.states.time), "robot.effort_limit"),
                               ("speed", run.states.x[:, run.states.rows("joint/", "/velocity")],
                                "robot.velocity_limit")):
        limit = np.asarray(run.setting(name, []), float)
        if len(limit) != values.shape[1] or len(limit) == 0:
            continue
        for joint, part in zip(run.states.names.joints, (np.abs(values) >= FULL * limit).mean(0), strict=True):
            if part > 0.001:
                found.append((bool(part > 0.02),
                              f"{joint} was at its {what} limit for {100 * part:.1f} % of the time."))
    return found


def _guard(run: Run) -> list[Finding]:
    asked, sent = at(run.asked, run.states.time), at(run.sent, run.states.time)
    both = np.isfinite(asked).all(1) & np.isfinite(sent).all(1) if asked.shape == sent.shape else np.zeros(0, bool)
    if both.sum() < ENOUGH:
        return []
    differ = float((np.abs(asked - sent)[both] > 1e-9).any(1).mean())
    return [(differ > 0.05, f"The guard sent something else than the controller asked for in {100 * differ:.1f} % of "
             "the periods.")] if differ else [(False, "The guard passed on what the controller asked for, always.")]


def _plans(run: Run) -> list[Finding]:
    plans, period = run.plans, run_period(run)
    failed = [b for b in run.beliefs if b.failed]
    found: list[Finding] = [(True, f"{len(failed)} of {len(run.beliefs)} plans failed or were late, the first at "
                             f"{seconds(run, failed[0].time):.1f} s.")] if failed else []
    if len(plans) < ENOUGH:
        return found
    bad = [p for p in plans if p.plan.status in (NOT_FINITE, LATE, FAILED)]
    slow = 1e3 * float(np.percentile([p.solve_time for p in plans], 99))
    converged = 100 * float(np.mean([p.plan.status == CONVERGED for p in plans]))
    found += [(slow > 500 * period and _paced(run), f"Of {len(plans)} recorded plans {converged:.0f} % had converged; "
              f"99 % took less than {slow:.2g} ms of {1e3 * period:.3g} ms.")]
    if bad and not failed:
        first = bad[0]
        found.append((True, f"{len(bad)} of the recorded plans failed, the first ({first.plan.status}) at "
                      f"{seconds(run, first.time):.1f} s."))
    return found


def _models(run: Run) -> list[Finding]:
    found: list[Finding] = []
    count, inside, rows = covered(run)
    if count >= ENOUGH:
        part = float(inside.mean())
        low, high = COVERED
        word = ("the model is surer than it should be" if part < low else
                "the model is less sure than it could be" if part > high else "as it should be")
        found.append((part < low, f"{100 * part:.1f} % of {count * rows} measured positions and velocities lie in the "
                      f"95 % band of their prediction: {word}."))
    held = [(b.time, b.trust) for b in run.beliefs] or [(m.state.time, m.trust) for m in run.models]
    trust = np.nan_to_num([value for _, value in held], nan=1.0)
    if len(trust) and trust.min() < 1:
        worst = int(np.argmin(trust))
        found.append((bool(trust.min() < 0.5), f"Trust in the model fell to {trust[worst]:.2f}, at "
                      f"{seconds(run, held[worst][0]):.1f} s."))
    for said in run.said:
        if said.kind == "model":
            found.append((False, f"At {run.seconds_at(said.time):.1f} s a new model was taken up: {said.text}."))
    return found


def _stages(run: Run) -> list[Finding]:
    period, ticks = run_period(run), dict[str, float]()
    for status in run.stages:
        ticks[status.name] = max(ticks.get(status.name, 0.0), float(status.values.get("tick_us_p99", "0")))
    if not ticks:
        return []
    name, worst = max(ticks.items(), key=lambda item: item[1])
    part = 1e-6 * worst / max(period, 1e-9)
    return [(part > 0.8 and _paced(run), f"The slowest node is the {name}: 99 % of its ticks took less than "
             f"{1e-3 * worst:.2g} ms, {100 * part:.0f} % of the period.")]


def _changes(run: Run) -> list[Finding]:
    changed = [c for c in run.changes if c.name in run.parameters.get(c.node, {})]
    return [(False, f"At {run.seconds_at(c.time):.1f} s {c.name} of {c.node} was set to {c.value}.")
            for c in changed if c.name not in ("task.target", "plant.hold_after")][:9]


def _paced(run: Run) -> bool:
    """Whether time passed by itself: in lock-step nobody is late."""
    return run.setting("plant.pace") != "lockstep"
