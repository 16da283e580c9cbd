"""The fit of a recording from the command line, end to end, and what it says to mistakes."""
from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from arms import settings
from test_messages import STORE, mine, serialized

from mbrl_ros import assembly
from mbrl_ros.messages import ring as messages
from mbrl_ros.models.features import Data
from mbrl_ros.models.prior import load
from mbrl_ros.recordings import fit
from mbrl_ros.recordings import fit_recording as recorded
from mbrl_ros.recordings.fit_recording import held_out, score
from mbrl_ros.recordings.recording import STATE_ESTIMATE, Recorder
from mbrl_ros.ring.controller import EXCITE
from mbrl_ros.ring.learner import features_of

PERIODS = 500


@cache
def motion(history=1):
    """States of planar2 while it is excited, seed 100; the robot is reset once."""
    ring = assembly.make_ring(settings("planar2", robot={"effort_history": history}), seed=100)
    ring.controller.request(EXCITE)
    states = [ring.tick()[0] for _ in range(PERIODS // 2)]
    ring.observation = ring.plant.reset(101)
    return states + [ring.tick()[0] for _ in range(PERIODS // 2)]


def record(path, count=PERIODS, topic="/state_estimate", history=1):
    robot = assembly.make_robot(settings("planar2", robot={"effort_history": history}))
    with Recorder(path) as recorder:
        for s in motion(history)[:count]:
            message = messages.to_state_estimate(mine("StateEstimate"), s, robot)
            recorder.write(topic, STATE_ESTIMATE, serialized(message, STATE_ESTIMATE), s.time, s.time)
    return path


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory):
    """The standard message texts of a sourced workspace; those of this package come from the sources."""
    prefix = tmp_path_factory.mktemp("prefix")
    for package, name in (("std_msgs", "Header"), ("builtin_interfaces", "Time")):
        text, _ = STORE.generate_msgdef(f"{package}/msg/{name}", ros_version=2)
        path = prefix / "share" / package / "msg" / f"{name}.msg"
        path.parent.mkdir(parents=True)
        path.write_text(text.split("=" * 80)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMENT_PREFIX_PATH", str(prefix))
        yield


@pytest.fixture(scope="module")
def bag(tmp_path_factory, workspace):
    return record(tmp_path_factory.mktemp("recordings") / "bag")


def run(bag, *arguments, robot="planar2"):
    return fit.main([str(bag), "--robot", robot, *map(str, arguments)])


@pytest.fixture(autouse=True)
def as_nice_as_before(monkeypatch):
    monkeypatch.setattr(fit.os, "nice", lambda _: 0)
    monkeypatch.setattr(fit.os, "sched_setscheduler", lambda *_: None)


def test_a_reset_is_no_transition(bag):
    robot = assembly.make_robot(settings("planar2"))
    found = recorded.motion(recorded.read(bag), bag, robot, None)
    assert len(found.x) == PERIODS - 2
    latest = recorded.motion(recorded.read(bag), bag, robot, 1.0)
    assert np.array_equal(latest.x, found.x[-50:]) and latest.x.shape == (50, len(robot.joint_rows))


def test_a_gaussian_predicts_what_it_has_not_seen_and_the_learner_can_start_with_it(bag, tmp_path, capsys):
    assert run(bag, "--model", "gaussian", "--output", tmp_path / "model") == 0
    shown = capsys.readouterr().out
    assert "joint position" in shown and "joint velocity" in shown and "negative log-likelihood" in shown
    assert f"fitted to all {PERIODS - 2} transitions" in shown and f"learner.resume:={tmp_path / 'model'}" in shown
    s = settings("planar2")
    robot = assembly.make_robot(s)
    model = load(tmp_path / "model" / "model.npz", robot)
    data = Data.of(fit.read_transitions(tmp_path / "model" / "data.npz"), features_of(robot), robot)
    assert len(data.w) == PERIODS - 2 and model.w_scale.shape == (data.features.dw,)
    found = score("gaussian", recorded.motion(recorded.read(bag), bag, robot, None), robot, s, 0, 0.2)
    assert 0 < found.scores["joint velocity"].error < 0.7  # of the deviation
    assert 0.85 < found.scores["joint velocity"].coverage <= 1.0
    assert found.tested == pytest.approx(0.2 * PERIODS, abs=2) and found.fitted + found.tested == PERIODS - 2


def test_past_efforts_are_regressors_where_they_were_recorded(workspace, tmp_path, capsys):
    """As in real time; the learner that starts with such a model has the same."""
    path = record(tmp_path / "bag", history=2)
    assert run(path, "--model", "gaussian", "--output", tmp_path / "model") == 0, capsys.readouterr().err
    s = settings("planar2", robot={"effort_history": 2})
    robot = assembly.make_robot(s)
    assert load(tmp_path / "model" / "model.npz", robot).w_scale.shape == (features_of(robot).dw,) == (2 * 5,)


def test_identified_physics_are_told_and_kept(bag, tmp_path, capsys):
    more = ("--model", "nominal", "--hold-out", 0, "--set", "{nominal: {identify: true}}", "--output", tmp_path / "m")
    assert run(bag, *more) == 0
    shown = capsys.readouterr().out
    assert "held out" not in shown and "95 % interval" in shown and "damping  elbow" in shown
    robot = assembly.make_robot(settings("planar2"))
    assert load(tmp_path / "m" / "model.npz", robot).estimate.parameters.bodies == ("upper", "lower")


def test_the_job_of_the_learner_gives_the_same_model(bag, tmp_path, capsys):
    assert run(bag, "--model", "gaussian", "--hold-out", 0, "--output", tmp_path / "a") == 0
    assert fit.main([str(tmp_path / "a" / name) for name in ("data.npz", "settings.yaml", "again.npz")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith('{"transitions": 498')
    a, b = (load(tmp_path / "a" / name) for name in ("model.npz", "again.npz"))
    assert np.array_equal(a.w_scale, b.w_scale)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.8])
def test_whole_blocks_are_held_out(fraction):
    chosen = held_out(1000, fraction)
    assert chosen.mean() == pytest.approx(fraction, abs=0.02)
    assert np.abs(np.diff(chosen.astype(int))).sum() <= 2 * max(10, 2 / fraction)


@pytest.mark.parametrize(("arguments", "said"), [
    (("--model", "crystal"), "unknown model 'crystal'; choose one of bnn, ensemble, gaussian, gp"),
    (("--robot", "arm"), "joints: not this robot's names; missing: joint1"),
    (("--robot", "nobody"), "unknown robot 'nobody'; choose one of arm"),
    (("--set", "{robot: {effort_history: 2}}"), "x: not this robot's names; missing: effort/2/shoulder"),
    (("--set", "{robot: {period: 0.01}}"), "recorded every 0.02 s; expected robot.period, 0.01 s"),
    (("--seconds", 0.5), "25 transitions; expected at least 50"),
    (("--seconds", 1.0, "--hold-out", 0.9), "leaves too few to fit or to test"),
    (("--hold-out", 1.0), "expected --hold-out from 0 to below 1"),
    (("--set", "{gaussian: {size: 3}}"), "gaussian.size: unknown setting"),
    (("--set", "{"), "--set: "),
    (("--set", "3"), "--set: expected a mapping"),
    (("--topic", "/elsewhere"), "expected a topic with mbrl_ros/msg/StateEstimate"),
])
def test_mistakes_are_one_line(bag, tmp_path, capsys, arguments, said):
    assert run(bag, "--model", "gaussian", "--output", tmp_path / "model", *arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and shown.err.startswith("fit: ")
    assert not (tmp_path / "model").exists()


def test_no_recording_and_another_topic_are_one_line(tmp_path, capsys):
    assert run(tmp_path / "nothing") == 2
    assert "no recording there" in capsys.readouterr().err
    with Recorder(tmp_path / "other") as recorder:
        recorder.write("/model_checkpoint", "mbrl_ros/msg/ModelCheckpoint", b"\0\1\0\0", 1, 1)
    assert run(tmp_path / "other") == 2
    shown = capsys.readouterr().err
    assert "expected a topic with mbrl_ros/msg/StateEstimate" in shown and shown.count("\n") == 1


def test_two_paths_are_neither_form(capsys):
    with pytest.raises(SystemExit) as stopped:
        fit.main(["a", "b"])
    assert stopped.value.code == 2 and "a recording, or the three files of a job" in capsys.readouterr().err
