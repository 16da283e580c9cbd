"""The page about a recording: lines that lose no peak, sentences that are so."""
import re
from pathlib import Path

import numpy as np
import pytest

from mbrl_ros.drawing import page
from mbrl_ros.drawing.explained import explained
from mbrl_ros.drawing.findings import findings
from mbrl_ros.drawing.page import Chart, Line
from mbrl_ros.messages.ring import Command, LocalModel, PlanReport, ReceivedLabels
from mbrl_ros.recordings.bags import typestore
from mbrl_ros.recordings.mcap_file import Record
from mbrl_ros.recordings.read_run import _Reader
from mbrl_ros.recordings.run import Belief, Points, Run, Said, States, Status
from mbrl_ros.types import CONVERGED, LATE, Gaussian, LinearGaussianDynamics, LinearGaussianPolicy, Plan, StateEstimate

NAMES = ReceivedLabels(("joint/a/position", "joint/a/velocity", "site/tool/position/x", "site/tool/position/y",
                        "site/tool/position/z", "effort/1/a"), ("a",))
N, PERIOD = len(NAMES.state_names), 20_000_000  # [ns]


def states(count, missing=()):
    step = np.array([k for k in range(count) if k not in missing])
    x = np.zeros((len(step), N))
    x[:, 2] = 0.3 * np.exp(-0.02 * step)
    return States(10**18 + step * PERIOD, x, np.zeros((len(step), 1)), step, np.zeros(len(step), int), NAMES)


def run(of, said=(), parameters=None, sent=None, diagnostics=(), models=(), plans=(), targets=(), held=()):
    """Heard half a second after it was measured."""
    later = 500_000_000
    effort = np.zeros((len(of.time), 1)) if sent is None else sent
    order = [("asked", (int(t) + later, Command(e, int(t)))) for t, e in zip(of.time, effort, strict=True)]
    empty = Points(np.zeros(0, np.int64), np.zeros((0, 3)))
    return Run(Path("bag"), int(of.time[0]) + later, 1.0, of, empty,
               Points(of.time, effort), Points(of.time, effort), empty, empty, list(targets), list(said), list(models),
               list(plans), list(held), parameters or {}, [], list(diagnostics), [], {"/x": ("a/msg/B", 1, 1)}, [],
               order)


def heard(of, k):
    return int(of.time[0]) + 500_000_000 + k * PERIOD


def sentences(of):
    return {text: bad for bad, text in findings(of)}


def test_an_envelope_loses_no_peak_and_no_gap():
    rng = np.random.default_rng(0)
    for _ in range(20):
        count = int(rng.integers(2, 60_000))
        x = np.sort(rng.uniform(0, page.COLUMNS, count))
        y = rng.standard_normal(count)
        y[rng.random(count) < 0.001] = np.nan
        a, b = page.envelope(x, y)
        assert len(a) <= max(2 * page.COLUMNS, 5 * (page.COLUMNS + 1)) and (np.diff(a) >= 0).all()
        assert np.nanmin(b) == np.nanmin(y) and np.nanmax(b) == np.nanmax(y)
        for column in rng.integers(0, page.COLUMNS, 20):
            before, after = y[np.floor(x) == column], b[np.floor(a) == column]
            if np.isfinite(before).any():
                assert np.nanmax(before) == np.nanmax(after) and np.nanmin(before) == np.nanmin(after)
            assert np.isnan(before).any() == np.isnan(after).any()


@pytest.mark.parametrize("y", [np.zeros(5), np.full(5, np.nan), np.array([1e-9, 1, 1e9, np.nan, 0]), -np.arange(5.0)])
@pytest.mark.parametrize("log", [False, True])
def test_a_chart_is_drawn_of_anything(y, log):
    lines = [Line("y", np.arange(5), y), Line("few", np.arange(5), y, 9, True)]
    drawn = page.svg(Chart("a < b", "m", lines, (0.0, 4.0), log, marks=((1.0, "x"),), levels=((0.5, "half"),),
                           spans=((0.0, 2.0, "hold"),)))
    assert "a &lt; b" in drawn and "nan" not in drawn and "inf" not in drawn
    places = [float(v) for v in re.findall(r"[ML]([-\d.]+) ", drawn)]
    assert all(page.LEFT - 1 <= v <= page.WIDTH for v in places if v > 1)


def test_ticks_are_round_and_within():
    rng = np.random.default_rng(1)
    for low, width in zip(rng.normal(0, 100, 50), 10.0 ** rng.uniform(-6, 6, 50), strict=True):
        values = [v for v, _ in page._ticks(low, low + width, False)]
        assert 1 <= len(values) <= 6 and all(low - 1e-9 * width <= v <= low + 1.000001 * width for v in values)


def test_missing_states_are_counted_and_found():
    assert "Not one of 100 states is missing, every 20 ms." in sentences(run(states(100)))
    told = sentences(run(states(100, missing={40, 41, 42, 70})))
    assert told["4 of 100 states are missing; the longest gap is 0.08 s, at 0.8 s."] is True


def test_faults_are_said_once_with_their_time():
    of = states(200)
    bad = [Status(heard(of, k), "guard", 2, "fault: no state", {}) for k in (50, 51, 52)]
    well = [Status(heard(of, 100), "guard", 0, "hold: reset", {})]
    again = [Status(heard(of, 150), "guard", 2, "fault: no state", {})]
    told = [text for text in sentences(run(of, diagnostics=[*bad, *well, *again])) if "guard said" in text]
    assert told == ["At 1.0 s the guard said: fault: no state.", "At 3.0 s the guard said: fault: no state."]


def test_targets_count_where_the_tool_ended():
    of = states(400)
    aims = [Said(heard(of, 0), "target", "", _Aim(np.zeros(3))), Said(heard(of, 300), "target", "", _Aim(np.ones(3)))]
    told = sentences(run(of, said=[Said(heard(of, 0), "mode", "reach")], targets=aims))
    assert any(text.startswith("1 of 2 targets were reached within 5 mm") for text in told)
    assert any(text.startswith("The target [1. 1. 1.] of 6.0 s was still") for text in told)


class _Aim:
    def __init__(self, position):
        self.position = position


def test_limits_changes_of_the_guard_and_late_plans_are_said():
    of = states(200)
    sent = np.zeros((200, 1))
    sent[:20] = 5.0
    made = run(of, sent=sent, parameters={"/guard": {"robot.effort_limit": [5.0]}})
    assert sentences(made)["a was at its effort limit for 10.0 % of the time."] is True
    made = run(of, sent=sent)
    made.asked = Points(of.time, np.zeros((200, 1)))
    other = "The guard sent something else than the controller asked for in 10.0 % of the periods."
    assert sentences(made)[other] is True
    plans = [PlanReport(int(of.time[k]), 0, k, plan(LATE if k == 30 else CONVERGED), 0.001) for k in range(40)]
    assert "1 of the recorded plans failed, the first (late) at 0.6 s." in sentences(run(of, plans=plans))


def plan(status):
    T = 4
    policy = LinearGaussianPolicy(*(np.zeros(shape) for shape in ((T, N), (T, 1), (T, 1, N), (T, 1), (T, 1, 1))))
    return Plan(policy, np.zeros((T + 1, N)), np.zeros((T, 1)), 1.0, status, 3)


@pytest.mark.parametrize(("scale", "bad"), [(1.0, False), (0.3, True)])
def test_coverage_is_that_of_the_predictions(scale, bad):
    """Of states that are noise about zero, predicted with their deviation, and with a third of it."""
    of, rng = states(3000), np.random.default_rng(0)
    of.x[:, :2] = rng.standard_normal((3000, 2))
    dynamics = LinearGaussianDynamics(np.zeros((N, N + 1)), np.zeros(N), scale**2 * np.eye(N))
    at = [StateEstimate(int(of.time[k]), 0, k, Gaussian(of.x[k], np.eye(N)), np.zeros(1)) for k in range(2999)]
    models = [LocalModel(state, dynamics, 0.02, 40.0, 1.0, 1.0) for state in at]
    [(text, said_bad)] = [(t, b) for t, b in sentences(run(of, models=models)).items() if "95 % band" in t]
    covered = float(text.split(" %")[0])
    assert said_bad == bad and (abs(covered - 95.0) < 1.5 if scale == 1.0 else covered < 60)
    assert "Model</summary>" in explained(run(of, models=models))


def test_beliefs_of_every_tick_count_where_they_were_recorded():
    of = states(100)
    terms = {"tool": 3.0, "effort": 2.0}
    held = [Belief(int(of.time[k]), 0.3 if k == 60 else 1.0, 1.0, 0.002, k in (40, 41), 5.0, terms) for k in range(100)]
    made = run(of, held=held)
    told = sentences(made)
    assert told["2 of 100 plans failed or were late, the first at 0.8 s."] is True
    assert told["Trust in the model fell to 0.30, at 1.2 s."] is True
    assert "Cost of the plan, by term" in explained(made)


def test_a_recorded_belief_is_read(tmp_path):
    text = "\n".join(["std_msgs/Header header", *(f"float64 {name}" for name in (
        "trust", "prediction_error", "plan_time", "cost")), "uint8 plan_status", "string[] term_names",
        "float64[] term_costs", "=" * 80, "MSG: std_msgs/Header", "builtin_interfaces/Time stamp", "string frame_id",
        "=" * 80, "MSG: builtin_interfaces/Time", "int32 sec", "uint32 nanosec"])
    store, name = typestore("mbrl_ros/msg/Belief", text), "mbrl_ros/msg/Belief"
    header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](3, 500), "")
    said = store.types[name](header, 0.5, 2.0, 0.001, 7.0, 4, ["tool", "effort"], np.array([4.0, 3.0]))
    record = Record("/controller/belief", name, text, 1, 1, bytes(store.serialize_cdr(said, name)))
    reader = _Reader(tmp_path, None)
    reader.take(record)
    assert reader.order == [("belief", Belief(3_000_000_500, 0.5, 2.0, 0.001, True, 7.0, {"tool": 4.0, "effort": 3.0}))]
