"""Seeds times settings, each in a process of its own."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def as_done(run: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Results of all jobs, as they are done; without workers one after the other, here."""
    if workers == 0:
        yield from ((job, run(job)) for job in jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        futures = {pool.submit(run, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
