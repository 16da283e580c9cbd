"""The job of the learner: what it says, what it gives, and in which thread that is taken up."""
from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from arms import settings

from mbrl_ros.evaluation.procedure import excited
from mbrl_ros.models.features import Data
from mbrl_ros.nodes import training
from mbrl_ros.nodes.training import FitJobs, TrainingFailed

PATIENT = 600.0  # [s]; a fresh copy compiles first


@pytest.fixture(scope="module")
def drive():
    return excited(settings(), 2.0, 100)[0]


def begin(drive, folder):
    job = FitJobs(str(folder), drive.learner)
    transitions = drive.learner.transitions(2.0)
    job.start(Data.of(transitions, drive.learner.features, drive.robot), transitions, drive.settings)
    return job


def outcome(job):
    """What polling gives in the end."""
    end = time.monotonic() + PATIENT
    while time.monotonic() < end:
        fitted = job.poll()
        if fitted is not None:
            return fitted
        time.sleep(0.01)
    raise AssertionError("nothing came of it")


def test_a_job_that_says_a_lot_is_read_while_it_runs(drive, tmp_path, monkeypatch):
    popen, code = subprocess.Popen, ("import sys; sys.stderr.write('warning ' * 2**17 + chr(10)); "
                                     "from mbrl_ros.recordings import fit; sys.exit(fit.main(sys.argv[1:]))")
    monkeypatch.setattr(training.subprocess, "Popen", lambda arguments, **options: popen(
        [sys.executable, "-c", code, *arguments[3:]], **options))
    job = begin(drive, tmp_path)
    try:
        assert outcome(job).transitions == 100 and job.version == 1 and not job.running
    finally:
        job.close()


def test_loading_and_preparing_happen_beside_whoever_polls(drive, tmp_path, monkeypatch):
    """And taking the model up does neither."""
    threads = []
    for holder, name in ((training, "load"), (training, "prior_of"), (type(drive.learner), "set_prior"),
                         (type(drive.learner), "_model")):
        heavy = getattr(holder, name)
        monkeypatch.setattr(holder, name, lambda *args, heavy=heavy: (
            threads.append(threading.current_thread()), heavy(*args))[1])
    job = begin(drive, tmp_path)
    try:
        fitted = outcome(job)
        assert len(threads) == 4 and threading.main_thread() not in threads
        drive.learner.adopt(fitted.learner)
        assert len(threads) == 4 and drive.learner.prior is fitted.learner.prior
    finally:
        job.close()


@pytest.mark.parametrize("spoil, words", [
    (lambda s: {**s, "robot": {**s["robot"], "model": "/nowhere.xml"}}, "exit code 2: .*no file '/nowhere.xml'"),
    (lambda s: {**s, "prior": {"n0": -1.0}}, r"prior\.n0")])
def test_what_goes_wrong_in_the_job_or_after_it_is_one_line(drive, tmp_path, spoil, words):
    job = FitJobs(str(tmp_path), drive.learner)
    transitions = drive.learner.transitions(2.0)
    data = Data.of(transitions, drive.learner.features, drive.robot)
    job.start(data, transitions, spoil(drive.settings))
    with pytest.raises(TrainingFailed, match=words):
        outcome(job)
    assert not job.running and job.version == 0


def test_closing_ends_a_job_that_runs(drive, tmp_path):
    job = begin(drive, tmp_path)
    job.close()
    assert job._process.returncode is not None and not job._thread.is_alive()
