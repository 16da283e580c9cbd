"""No two rings on one machine meet."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mbrl_ros.nodes import domain

ROOT = Path(__file__).parents[1]
STAY = """
import os, sys
from mbrl_ros.nodes.domain import stay_apart
stay_apart()
print(os.environ["ROS_DOMAIN_ID"], flush=True)
sys.stdin.read()
"""


def start(**environment):
    """A process that has claimed a domain, and which."""
    process = subprocess.Popen([sys.executable, '-c', STAY], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, env={**os.environ, **environment})
    return process, int(process.stdout.readline())


def end(process):
    process.kill()
    process.communicate()


def test_claims_differ_and_end_with_their_process(monkeypatch):
    monkeypatch.delenv('ROS_DOMAIN_ID')
    started = [start() for _ in range(3)]
    try:
        claimed = [found for _, found in started]
        assert len({*claimed, domain.claim()}) == 4 and all(1 <= found <= 100 for found in claimed)
        monkeypatch.setattr(domain, 'FIRST', claimed[0])
        monkeypatch.setattr(domain, 'COUNT', 1)
        with pytest.raises(RuntimeError, match='in use'):
            domain.claim()
        end(started[0][0])
        assert domain.claim() == claimed[0]
    finally:
        for process, _ in started:
            end(process)


def test_what_the_environment_says_is_left_alone():
    process, found = start(ROS_DOMAIN_ID='42')
    end(process)
    assert found == 42
