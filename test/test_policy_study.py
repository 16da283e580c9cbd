"""The study of policies: what counts as solved, rows that others read, figures."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_pets import MODEL
from test_pilco import GP, SMALL, Sled
from test_value_gradients import SMALL as BACKPROP

from mbrl_ros.drawing.gradients import Spread, draw_gradients
from mbrl_ros.trainers import pets, pilco, policy_study, value_gradients
from mbrl_ros.trainers.policy_study import Result, Task

torch.set_num_threads(1)


@pytest.fixture
def small(monkeypatch):
    away = lambda of, x: np.abs(x[..., 0])  # noqa: E731
    monkeypatch.setitem(policy_study.TASKS, "cartpole", Task(
        lambda seed: Sled(), lambda known, seed: pilco.Agent(known, SMALL, GP, seed), away, 0.1, 25, 3, bound=50.0))
    few = replace(BACKPROP, updates=3)
    monkeypatch.setitem(policy_study.TASKS, "pendulum", Task(
        lambda seed: Sled(), lambda known, seed: value_gradients.Agent(known, few, MODEL, seed), away, 0.1, 25, 2,
        mpc=pets.Settings(horizon=8, samples=16, elites=4, knots=4, iterations=1), compared=1))


def test_the_study_leaves_rows_and_figures(small, tmp_path, capsys):
    words = ["--only", "cartpole,pendulum", "--seeds", "100", "--output", str(tmp_path)]
    assert policy_study.main(words) == 0
    folder, = tmp_path.iterdir()
    solved, compared = json.loads((folder / "policies.json").read_text())
    assert {"method", "task", "seeds", "success", "rollouts_to_success_median", "rollouts_to_success_worst",
            "robot_seconds", "final_error_mm"} <= set(solved)
    assert solved["success"] == 1.0 and solved["rollouts_to_success"] == [len(solved["distance_mm"][0])]
    assert solved["final_error_mm"] == solved["distance_mm"][0][-1] <= 50_000.0
    assert solved["robot_seconds"] == pytest.approx(2.5 * solved["rollouts_to_success"][0])
    assert len(compared["returns"][0]) == 2 and compared["mpc_return"][0] < 0 and solved["mpc_return"] == [None]
    assert (folder / "policies.png").stat().st_size > 1000 and capsys.readouterr().out.count("| pilco |") == 1


def test_solved_is_counted_in_trials_and_an_unsolved_seed_is_the_worst(small):
    row = policy_study.summary("cartpole", [0, 1, 2], [Result([0.1], solved=2), Result([0.3]), Result([0.2], solved=4)])
    assert row["success"] == pytest.approx(2 / 3) and row["rollouts_to_success"] == [2, None, 4]
    assert row["rollouts_to_success_median"] == 4.0 and row["rollouts_to_success_worst"] == np.inf
    assert row["final_error_mm"] == pytest.approx(200.0)
    assert policy_study.share(-105.0, -100.0) >= policy_study.NEARLY > policy_study.share(-106.0, -100.0)


def test_gradients_have_bias_and_deviation_by_horizon(small):
    found = policy_study.gradients(100, horizons=(1, 6), batches=12)
    assert [s.horizon for s in found["pathwise"]] == [1, 6]
    for one, other in zip(found["pathwise"], found["likelihood ratio"], strict=True):
        assert one.deviation < other.deviation and one.bias < 5 * one.unsure
    assert len(draw_gradients(found).axes) == 2


def test_a_spread_is_that_of_its_draws():
    drawn = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double() + torch.tensor([2.0, 0.0, 0.0])
    s = Spread.of(5, drawn, torch.tensor([1.0, 0.0, 0.0]).double())
    assert s.bias == pytest.approx(1.0, abs=0.05) and s.deviation == pytest.approx(3**0.5, rel=0.05)
    assert s.unsure == pytest.approx(s.deviation / 4000**0.5)


def test_mistakes_are_one_line(capsys):
    assert policy_study.main(["--only", "chess"]) == 2
    said = capsys.readouterr().err
    assert "--only: unknown 'chess'; choose from cartpole" in said and said.count("\n") == 1
