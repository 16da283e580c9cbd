"""What the page costs the ring: deadlines and processor time while nobody has it open, somebody has, and it is killed.

    . .venv/bin/activate && . install/setup.sh && python3 benchmarks/watching.py --robot arm --seconds 60

As benchmarks/latency.py, a process per node in real time, with `dashboard:=true`; the browser is a headless Chromium on
the same machine, which draws without a graphics card and takes what is left of the processors.
"""
from __future__ import annotations

import argparse
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import latency
from playwright.sync_api import sync_playwright

from mbrl_ros.options import Dashboard

SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card
DIES_AFTER = latency.SETTLE + 5.0  # [s] after it was begun to listen


@contextmanager
def browser(port: int) -> Iterator[None]:
    """Somebody has the page open."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), chromium_sandbox=False,
                                              args=SOFTWARE)
        page = chromium.new_page(viewport={"width": 900, "height": 600})
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_text("EMERGENCY STOP").first.wait_for()
        yield
        chromium.close()


def measure(case: latency.Case) -> Iterator[tuple[str, latency.Figures]]:
    """One ring, and what becomes of the page."""
    with latency.running(case) as ring:
        yield "closed", latency.listen(case, ring)
        with browser(Dashboard().port):
            yield "open", latency.listen(case, ring)
            died = threading.Timer(DIES_AFTER, os.kill, (ring.ids()["dashboard"], signal.SIGKILL))
            died.start()
            yield "open, its node killed and started again", latency.listen(case, ring)
        yield "closed again", latency.listen(case, ring)


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--prior", default="gaussian")
    p.add_argument("--rate", type=int, default=50)
    p.add_argument("--priority", type=int, default=latency.PRIORITY if latency.prioritized() else 0)
    p.add_argument("--seconds", type=float, default=60.0, help="of each (default: %(default)s)")
    a = p.parse_args()
    print(latency.HEAD.replace("| ring |", "| page |"))
    case = latency.Case(a.robot, a.prior, a.rate, priority=a.priority, seconds=a.seconds, page=True)
    for page, figures in measure(case):
        print(latency.table(page, figures), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
