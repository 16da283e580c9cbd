"""What numba keeps on disk is not used again after anything that it was made from has changed."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mbrl_ros"

KERNEL = """
import numba
from mbrl_ros.kernels.compiled import compile_for
from mbrl_ros.kernels.middle import scaled

@compile_for(numba.float64(numba.float64))
def kernel(x):
    return scaled(x) + 1.0
"""
MIDDLE = """
import numba
from mbrl_ros.kernels import far

@numba.njit
def scaled(x):
    return far.SCALE * x
"""
CALL = """
from mbrl_ros.kernels.little import kernel
print(kernel(10.0), sum(kernel.stats.cache_hits.values()))
"""
SICK = """
import numpy as np
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.types import LinearGaussianDynamics
cost = ResidualCost(np.eye(2), np.zeros((4, 2)), np.ones((4, 2)), np.full(2, np.inf), np.zeros(2, bool))
model = LinearGaussianDynamics(np.array([[1.0, 1.0]]), np.zeros(1), np.eye(1))
planner = Ilqr(Ilqr.Config(horizon=3))
for start in (1.0, np.nan):
    print(planner.plan(Problem(np.array([start]), model, cost, -np.ones((3, 1)), np.ones((3, 1))), None).status)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package, without what was compiled, in a folder of its own."""
    shutil.copytree(PACKAGE, tmp_path / "mbrl_ros", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def answer(folder: Path, code: str) -> list[str]:
    """What a new process prints that finds the package in `folder`, and keeps there what it compiles."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path}
    env.pop("NUMBA_CACHE_DIR", None)  # beside the files
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=folder, check=True, text=True,
                          stdout=subprocess.PIPE).stdout.split()


def test_a_constant_of_another_file_is_compiled_in_anew(copy: Path) -> None:
    """Two files away, where numba does not look; without a change, what is on disk is taken."""
    kernels = copy / "mbrl_ros" / "kernels"
    for name, code in (("little", KERNEL), ("middle", MIDDLE), ("far", "SCALE = 2.0\n")):
        (kernels / f"{name}.py").write_text(code)
    assert [answer(copy, CALL) for _ in range(2)] == [["21.0", "0"], ["21.0", "1"]]
    (kernels / "far.py").write_text("SCALE = 3.0\n")
    assert answer(copy, CALL) == ["31.0", "0"]


@pytest.mark.parametrize(("suffix", "damage"), [
    ("nbi", lambda old: old[: len(old) // 2]), ("nbc", lambda old: b"damage")], ids=["index cut", "code replaced"])
def test_what_is_damaged_on_disk_is_made_anew(copy: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    kernels = copy / "mbrl_ros" / "kernels"
    for name, code in (("little", KERNEL), ("middle", MIDDLE), ("far", "SCALE = 2.0\n")):
        (kernels / f"{name}.py").write_text(code)
    assert answer(copy, CALL) == ["21.0", "0"]
    files = list((copy / "mbrl_ros").rglob(f"*kernel*.{suffix}"))
    for file in files:
        file.write_bytes(damage(file.read_bytes()))
    assert files and answer(copy, CALL) == ["21.0", "0"]
    assert answer(copy, CALL) == ["21.0", "1"]


def test_a_status_in_front_of_the_others_changes_no_answer(tmp_path: Path) -> None:
    """The planner, as it was compiled before, knows nothing of the order of STATUSES."""
    unfinished = shutil.ignore_patterns("*.pyc*", "*.tmp.*")  # what others may be writing now
    shutil.copytree(PACKAGE, tmp_path / "mbrl_ros", ignore=unfinished)
    assert answer(tmp_path, SICK) == ["converged", "not_finite"]
    types = tmp_path / "mbrl_ros" / "types.py"
    before, after = types.read_text().split("= STATUSES = (", 1)
    types.write_text(before.replace("CONVERGED, ITERATION_LIMIT", "STALE, CONVERGED, ITERATION_LIMIT")
                     + '= STATUSES = ("stale", ' + after)
    assert answer(tmp_path, "from mbrl_ros.types import STATUSES; print(STATUSES[0])") == ["stale"]
    assert answer(tmp_path, SICK) == ["converged", "not_finite"]
