"""AutoMBPO: what is chosen is set, within its limits; what it is worth; and a schedule that learns what pays."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_steps import MODEL, QUICK, Point, lived_through

from mbrl_ros.trainers import auto_study
from mbrl_ros.trainers.auto import CHOICES, SEEN, Auto, Choice, Schedule, Settings, learn_schedule
from mbrl_ros.trainers.steps import train


class Always:
    """A schedule that chooses the same."""

    def __init__(self, *chosen):
        self.chosen = chosen

    def choose(self, seen):
        return self.chosen, -1.0


def learner(*chosen, **own):
    own = {"rollouts": 50, "every": 100, "decide": 50, "steps": 400, "scale": 1.0, **own}
    return Auto(Point(), QUICK, Settings(**own), Always(*chosen), lambda step: -5.0, 0, MODEL)


def test_what_is_chosen_is_set_and_stays_within_its_limits():
    of = lived_through(learner(0, 2, 0, 2), 60)
    for _ in range(3):
        of.decide()
    assert of.real == pytest.approx(0.05 * 1.2**3) and of.updates == 1 and of.length == 4 and not of.retrains
    for _ in range(50):
        of.decide()
    assert of.real == 0.98 and of.length == 30
    state = of.state()
    assert state.shape == (SEEN,) and np.abs(state).max() <= 1.0 and state[-1] == 1.0 and state[-2] == -1.0


@pytest.mark.parametrize(("fit", "thrift"), [(0, 0.05), (1, -0.05)])
def test_a_choice_is_worth_what_was_earned_over_the_baseline(fit, thrift):
    of = lived_through(learner(fit, 1, 1, 1), 40)
    of.decide()
    of._returns = [-2.0, -4.0]
    of.settle()
    assert of.choices[0].reward == pytest.approx(-3.0 + 5.0 + thrift)
    of.settle()
    assert len(of.choices) == 1


def test_a_run_makes_its_choices_and_leaves_fits_out():
    environment = Point()
    of = learner(0, 1, 1, 1)
    train(environment, of, 0, 300, 1000, 20)
    assert len(of.choices) == 5 and of._open is not None  # at 50, ..., 250; that of 300 is not over
    assert of.fits == 1  # the first, without which there is no model
    assert all(np.isfinite(c.reward) for c in of.choices) and -30.0 < of._last < 0.0


def test_a_schedule_learns_what_pays():
    """The reward is one for each of: no fit, more of the real part; the rest is all the same."""
    def play(schedule, seed):
        rng, choices = np.random.default_rng(seed), []
        for _ in range(5):
            seen = rng.uniform(-1.0, 1.0, SEEN).astype(np.float32)
            chosen, log_p = schedule.choose(seen)
            choices.append(Choice(seen, chosen, log_p, float(chosen[0] == 0) + float(chosen[1] == 2)))
        return choices, sum(c.reward for c in choices)
    schedule, scores = learn_schedule(lambda of, seeds: [play(of, seed) for seed in seeds],
                                      Schedule.Config(learning_rate=1e-3, steps=100), 20, 30, 0)
    assert scores[-1] > scores[0] + 2.0  # 4.2 by chance, 10 at best
    with torch.no_grad():
        p = [of.exp().mean(0) for of in schedule.log_probabilities(torch.zeros(1, SEEN))]
    assert p[0][0] > 0.7 and p[1][2] > 0.6 and [len(of) for of in p] == list(CHOICES)


def test_the_best_stage_is_kept():
    given = iter([1.0, 3.0, 2.0])

    def play(schedule, seed):
        return [], next(given)
    schedule, scores = learn_schedule(lambda of, seeds: [play(of, seed) for seed in seeds], Schedule.Config(), 3, 1, 0)
    assert scores == [1.0, 3.0, 2.0] and schedule.random == 0.0


def test_no_probability_moves_further_than_the_clip_by_one_kind_of_reward():
    """Of one choice over and over with a better and a worse outcome, beyond the clip nothing pulls."""
    schedule = Schedule(Schedule.Config(learning_rate=1e-3, steps=500), 0)
    seen = np.zeros(SEEN, np.float32)

    def log_p(c):
        with torch.no_grad():
            return float(sum(of[0, c] for of in schedule.log_probabilities(torch.as_tensor(seen)[None])))
    before = [log_p(0), log_p(1)]
    schedule.learn([[Choice(seen, (c,) * 4, before[c], float(c))] for c in (0, 1)])
    ratios = [np.exp(log_p(c) - before[c]) for c in (0, 1)]
    assert 1.0 < ratios[1] < 1.8 and 0.5 < ratios[0] < 1.0  # 1.2 and 0.8, past which Adam still swings


def test_the_study_leaves_rows_the_schedule_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(auto_study, "STEPS", 400)
    monkeypatch.setattr(auto_study, "REAL", (0.05, 1.0))
    monkeypatch.setattr(auto_study, "BASELINE", range(100, 101))
    monkeypatch.setattr(auto_study, "BASE", replace(auto_study.BASE, start=100, hidden=8, batch=16, updates=1))
    monkeypatch.setitem(auto_study.OWN, "every", 1000)
    words = ["--stages", "1", "--runs", "1", "--seeds", "100", "--jobs", "0", "--output", str(tmp_path)]
    assert auto_study.main(words) == 0
    folder, = tmp_path.iterdir()
    found = json.loads((folder / "auto.json").read_text())
    assert [row["method"] for row in found["rows"]] == ["auto", "real_0.05", "real_1"]
    assert all(len(row["curves"][0]) == 2 and row["difference_low"] is None for row in found["rows"])
    assert len(found["baseline"]) == 2 and (folder / "auto.png").stat().st_size > 1000
    assert set(np.load(folder / "auto.npz").files) == {"W.0", "W.1", "b.0", "b.1"}
    assert "over the parent" in capsys.readouterr().out
