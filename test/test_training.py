"""A training is its trials: what is written is read, and one that was killed goes on from there."""
from __future__ import annotations

import shutil

import numpy as np
import pytest
from arms import make, settings

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.episode import ABORT, DONE, Episode
from mbrl_ros.models.prior import load
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.recordings.recording import read_trials
from mbrl_ros.recordings.trials import UNFINISHED, read_recorded, write_trial
from mbrl_ros.ring.policy import read
from mbrl_ros.trainers.__main__ import train
from mbrl_ros.trainers.trainer import target_of
from mbrl_ros.trainers.training import Training, keep, kept, opened
from mbrl_ros.trainers.training import make as make_trainer
from mbrl_ros.types import Trial

SECONDS, T = 0.4, 20


def small(name="planar2", **more):
    return settings(name, "gaussian", trainer={"seconds": SECONDS, "trials": 2}, learner={"adapt": False}, **more)


def trial_of(robot, number, T=T):
    rng = np.random.default_rng(number)
    time = 1_000_000_000 + round(1e9 * robot.period) * np.arange(T + 1)
    return Trial(rng.standard_normal((T + 1, robot.n)), rng.standard_normal((T, robot.m)), time, robot.state_names,
                 robot.joints)


def written(folder, number, T=T, status=DONE):
    robot = make()
    trial = trial_of(robot, number, T)
    write_trial(folder, Episode(int(trial.time[-1]), number, 0, "policy", status, "because"), trial, robot.base_frame)
    return trial


def same(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("x", "u", "time")) and (
        (a.state_names, a.joint_names) == (b.state_names, b.joint_names))


def test_a_trial_is_read_as_it_was_written(tmp_path):
    first, second = written(tmp_path, 1), written(tmp_path, 2, T=3, status=ABORT)
    found = read_recorded(tmp_path)
    assert same(found[0].trial, first) and same(found[1].trial, second)
    assert found[1].episode == Episode(int(second.time[-1]), 2, 0, "policy", ABORT, "because")
    assert [of.episode.number for of in read_recorded(tmp_path, after=1)] == [2]
    assert same(read_trials(tmp_path / "trial_00001")[0], first)  # a recording like any other


def test_what_was_not_finished_is_no_trial_and_is_written_again(tmp_path):
    written(tmp_path, 1)
    (tmp_path / UNFINISHED).mkdir(exist_ok=True)
    (tmp_path / "trial_00001").rename(tmp_path / UNFINISHED / "trial_00001")
    assert not read_recorded(tmp_path)
    written(tmp_path, 1)
    assert len(read_recorded(tmp_path)) == 1


def test_a_trial_that_is_missing_is_said(tmp_path):
    for number in (1, 2, 3):
        written(tmp_path, number)
    shutil.rmtree(tmp_path / "trial_00002")
    with pytest.raises(RecordingError, match="trial_00002 is missing"):
        read_recorded(tmp_path)


@pytest.mark.slow
def test_one_that_was_killed_goes_on_with_the_policy_that_it_had(tmp_path):
    """Of which the efforts depend on all trials before. What the estimator has found out of noise begins anew."""
    whole = list(train(small(), "lqr_flm", 3, 100, tmp_path / "whole"))
    list(train(small(), "lqr_flm", 2, 100, tmp_path / "killed"))
    shutil.rmtree(tmp_path / "killed" / "trial_00004")  # as if it had been in the midst of that
    resumed = list(train(small(), "lqr_flm", 3, 100, tmp_path / "killed"))
    assert resumed[0] == whole[0]
    a, b = ([of.trial for of in read_recorded(tmp_path / name)] for name in ("whole", "killed"))
    assert len(a) == len(b) == 6 and all(same(*pair) for pair in zip(a[:3], b[:3], strict=True))
    assert np.array_equal(a[3].x[0], b[3].x[0]) and np.allclose(a[3].u[0], b[3].u[0], 1e-12, 1e-12)


def test_another_training_in_the_folder_is_refused(tmp_path):
    keep(tmp_path, small(), "refit", 100)
    keep(tmp_path, small(), "refit", 100)
    assert kept(tmp_path)["trainer"] == "refit"
    for given, expected in (((small(), "pets", 100), "trials of trainer refit, not pets"),
                            ((small(), "refit", 101), "trials of seed 100, not 101"),
                            ((small("pendulum"), "refit", 100), "trials with other settings of robot")):
        with pytest.raises(ConfigError, match=expected):
            keep(tmp_path, *given)
    with pytest.raises(ConfigError, match="no training there"):
        kept(tmp_path / "nowhere")


def training(folder, name):
    of, robot = small(), make()
    config, trainer = make_trainer(of, name, 100, robot)
    return Training(trainer, config, robot, target_of(config, robot, of, 100), folder)


def test_what_a_ring_needs_is_in_files(tmp_path):
    keep(tmp_path, small(), "lqr_flm", 100)
    of = opened(tmp_path)
    saved, model = of.announced()
    assert model == "" and np.array_equal(read(saved).policy.K, of.policy.policy.K)
    of = training(tmp_path / "refit", "refit")
    assert of.announced() == ("", "") and of.policy == "excite"
    for number in (1, 2):
        row = of.record(Episode(1, number, 0, "excite", DONE), trial_of(make(), number))
    assert row["transitions"] == 2 * T
    saved, model = of.announced()
    assert saved == "" and of.policy == "reach" and load(model, make()) is not None


def test_a_policy_that_fits_into_no_file_is_said(tmp_path):
    of = training(tmp_path, "pets")
    with pytest.raises(ConfigError, match="Pets: what it plays fits into no file"):
        of.announced()


def test_trials_of_another_robot_are_refused(tmp_path):
    written(tmp_path, 1)
    of, robot = small("pendulum"), make("pendulum")
    config, trainer = make_trainer(of, "refit", 100, robot)
    with pytest.raises(RecordingError, match="trial 1 is of another robot"):
        Training(trainer, config, robot, np.zeros(3), tmp_path)


