"""Jobs in processes and on a Ray cluster: all of them, each once, whoever does them."""
from __future__ import annotations

import importlib
import os
from typing import NamedTuple

import pytest

from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation.pool import LOCAL, alike, as_done, in_order


def square(job):
    return job * job, os.getpid()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_job_is_done_once(workers):
    done = list(as_done(square, range(5), workers))
    assert sorted((job, result) for job, (result, _) in done) == [(i, i * i) for i in range(5)]
    assert all((pid == os.getpid()) == (workers == 0) for _, (_, pid) in done)


class Job(NamedTuple):
    name: str
    seed: int


def test_jobs_that_only_seeds_tell_apart_are_together_in_their_order():
    jobs = [Job(name, seed) for seed in (4, 3, 5) for name in ("b", "a")]
    assert alike(jobs, set(jobs) - {Job("b", 4)}) == [[Job("a", 4), Job("a", 3), Job("a", 5)],
                                                      [Job("b", 3), Job("b", 5)]]
    assert alike(jobs, {}) == []


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install ray"):
        list(as_done(square, [1], 1, LOCAL))


@pytest.mark.filterwarnings("default")  # those of Ray are its own
class TestRay:
    """On two workers of this machine."""

    def test_every_job_is_done_once_by_two_workers(self):
        pytest.importorskip("ray", reason="ray is the extra `cluster`")
        here = lambda job: (job * job, __import__("os").getpid())  # noqa: E731 (by value: workers have no such module)
        done = list(as_done(here, range(8), 2, LOCAL))
        assert sorted((job, result) for job, (result, _) in done) == [(i, i * i) for i in range(8)]
        workers = {pid for _, (_, pid) in done}
        assert os.getpid() not in workers and 1 <= len(workers) <= 4

    def test_a_cluster_that_is_not_there_is_one_line(self):
        pytest.importorskip("ray", reason="ray is the extra `cluster`")
        with pytest.raises(ConfigError, match=r"--cluster: no Ray at 127\.0\.0\.1:1") as error:
            list(as_done(square, [1], 1, "127.0.0.1:1"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert list(in_order(divmod, [(7, 2), (9, 4), (5, 5)], workers)) == [(3, 1), (2, 1), (1, 0)]
    assert list(in_order(divmod, [], workers)) == []


@pytest.mark.parametrize("module", ["budgets", "loops", "planners", "rates", "reach", "suite"])
def test_less_than_no_processes_are_refused_by_every_command(module, capsys):
    command = importlib.import_module(f"mbrl_ros.evaluation.{module}")
    with pytest.raises(SystemExit):
        command.parser().parse_args(["--jobs", "-1"])
    assert "expected a number from 0 on, got '-1'" in capsys.readouterr().err
