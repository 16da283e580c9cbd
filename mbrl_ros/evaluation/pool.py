"""Seeds times settings, each in a process of its own, on this machine or on those of a Ray cluster."""
from __future__ import annotations

import socket
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import starmap
from typing import Any, TypeVar

from mbrl_ros.config import ConfigError

Job = TypeVar("Job")
Result = TypeVar("Result")
Seeded = TypeVar("Seeded", bound=Any)
LOCAL = "local"  # a cluster of this machine
REACHED = 10.0  # [s] in which the head of a cluster answers


def in_order(run: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Result]:
    """run(*job) of all jobs, in their order; without workers one after the other, here."""
    if workers == 0:
        yield from starmap(run, jobs)
    else:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(run, *zip(*jobs, strict=True))


def as_done(run: Callable[[Job], Result], jobs: Sequence[Job], workers: int,
            cluster: str = "") -> Iterator[tuple[Job, Result]]:
    """Results of all jobs, as they are done; without workers one after the other, here. With a cluster, the address of
    its head or `local`, that many processors are what `local` has, and those of others are what there are. Raises
    ConfigError where there is no Ray, or no such cluster."""
    if cluster:
        yield from _on_cluster(run, jobs, workers, cluster)
    elif workers == 0:
        yield from ((job, run(job)) for job in jobs)
    else:
        with ProcessPoolExecutor(workers) as pool:
            futures = {pool.submit(run, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()


def told(run: Callable[[Seeded], Result], jobs: Sequence[Seeded], workers: int, say: Callable[[Result], str],
         cluster: str = "") -> Iterator[dict[Seeded, Result]]:
    """All results so far, after every one that is done, of which a line tells: how many there are after how long, of
    which job, and what came of it."""
    done: dict[Seeded, Result] = {}
    began = time.monotonic()
    for job, result in as_done(run, jobs, workers, cluster):
        done[job] = result
        print(f"[{len(done)}/{len(jobs)}, {time.monotonic() - began:.0f} s] {', '.join(map(str, job))}: {say(result)}",
              flush=True)
        yield done


def alike(jobs: Sequence[Seeded], done: Container[Seeded]) -> list[list[Seeded]]:
    """Those that are done, in their order, with those together that only their seeds tell apart: NamedTuples with a
    `seed`."""
    groups: dict[Any, list[Seeded]] = {}
    for job in jobs:
        if job in done:
            groups.setdefault(job._replace(seed=0), []).append(job)
    return list(groups.values())


def _on_cluster(run: Callable[[Job], Result], jobs: Sequence[Job], workers: int,
                cluster: str) -> Iterator[tuple[Job, Result]]:
    try:
        import ray
    except ImportError:
        raise ConfigError("--cluster: expected Ray, which is the extra `cluster`: pip install ray") from None
    own: dict[str, Any] = {"num_cpus": max(1, workers), "include_dashboard": False}
    try:
        if cluster != LOCAL:
            own = {"address": cluster}
            host, _, port = cluster.rpartition(":")
            socket.create_connection((host, int(port)), REACHED).close()  # Ray itself tries for minutes
        ray.init(log_to_driver=False, logging_level="error", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--cluster: no Ray at {cluster}: {' '.join(str(error).split())}") from error
    try:
        task = ray.remote(num_cpus=1)(lambda job: run(job))  # that is begun again where its machine is lost
        waiting = {task.remote(job): job for job in jobs}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), ray.get(done)
    finally:
        ray.shutdown()
