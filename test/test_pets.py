"""PETS: it learns a small environment in a few trials, and its study counts right."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mbrl_ros.config import ConfigError, from_mapping
from mbrl_ros.environments.environment import Observed, Step, episode
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.trainers import study
from mbrl_ros.trainers.pets import Agent, Settings

torch.set_num_threads(1)
SMALL = Settings(horizon=8, samples=24, elites=4, knots=4, iterations=2)
MODEL = ProbabilisticEnsemble.Config(hidden=16, epochs=20)


class Mass(Observed):
    """A mass to be brought to zero, from one, by a force: x = [position, velocity]."""

    def __init__(self) -> None:
        super().__init__(2, -np.ones(1), np.ones(1))

    def reset(self, seed: int) -> np.ndarray:
        self._rng = np.random.default_rng(seed)
        self._x = np.array([1.0, 0.0])
        return self._x

    def step(self, a: np.ndarray) -> Step:
        q, v = self._x
        self._x = np.array([q + 0.1 * v + 0.02 * a[0], v + 0.4 * a[0] + 0.01 * self._rng.standard_normal()])
        return Step(self._x, float(self.reward(torch.as_tensor(self._x), torch.as_tensor(a))), False, False)

    def reward(self, z_next: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return -z_next[..., 0].square()

    def terminated(self, z_next: torch.Tensor) -> torch.Tensor:
        return torch.zeros(z_next.shape[:-1], dtype=torch.bool)


def shaken(seed: int):
    rng = np.random.default_rng(seed)
    return lambda x: rng.uniform(-1, 1, 1)


def trial(agent: Agent, environment: Mass, seed: int) -> float:
    agent.begin()
    e = episode(environment, agent.act, seed, 40)
    agent.learn(environment.data(e.x[:-1], e.a, e.x[1:]))
    return float(np.abs(e.x[-10:, 0]).mean())


def test_after_one_random_trial_it_brings_a_mass_to_rest():
    environment = Mass()
    agent = Agent(environment, SMALL, MODEL, seed=100)
    errors = [trial(agent, environment, seed) for seed in range(2)]
    assert errors[1] < 0.1 < errors[0]
    again = Agent(environment, SMALL, MODEL, seed=100)
    assert [trial(again, environment, seed) for seed in range(2)] == errors


def test_a_plan_begins_with_the_one_before_and_actions_are_within_their_limits():
    environment = Mass()
    agent = Agent(environment, SMALL, MODEL, seed=100)
    trial(agent, environment, 0)
    agent.begin()
    x = environment.reset(0)
    first = agent.act(x)
    shifted = agent._previous.efforts
    assert torch.equal(shifted[-1], shifted[-2]) and np.abs(first).max() <= 1.0
    agent.act(x)
    assert not torch.equal(agent._previous.efforts, shifted)


def test_more_elites_than_samples_are_refused():
    with pytest.raises(ConfigError, match=r"pets.elites: expected at most as many as samples, 8, got 9"):
        from_mapping(Settings, {"samples": 8, "elites": 9}, "pets")


def test_bands_of_a_model_hold_what_it_says():
    """Of a mass with the noise it has; and little where that is said to be a twentieth, and no other member doubts."""
    environment = Mass()
    agent = Agent(environment, SMALL, replace(MODEL, members=1), seed=100)
    for seed in range(5):
        e = episode(environment, shaken(seed), seed, 60)
        agent.learn(environment.data(e.x[:-1], e.a, e.x[1:]))
    fresh = episode(environment, shaken(3), 9, 60)  # no further than what was learned
    assert study.coverage(environment, agent.regression, fresh, 0) > 0.85
    of = agent.regression
    small = replace(of, high=of.high - 6, low=of.low - 6, b_out=of.b_out - torch.tensor([0.0, 0.0, 6.0, 6.0]))
    assert study.coverage(environment, small, fresh, 0) < 0.6


def test_the_study_leaves_rows_and_a_figure(tmp_path, monkeypatch, capsys):
    problem = study.Problem(lambda seed: Mass(), lambda of, x: np.abs(x[..., 0]), 0.2, 3, 40, SMALL)
    monkeypatch.setitem(study.PROBLEMS, "cartpole", problem)
    monkeypatch.setattr(study, "MODELS", {"d": ProbabilisticEnsemble.Config(hidden=8, epochs=2, members=1,
                                                                            deterministic=True), "pe": MODEL})
    words = ["--only", "cartpole,ablation", "--models", "d", "--seeds", "100", "--jobs", "0", "--output", str(tmp_path)]
    assert study.main(words) == 0
    folder, = tmp_path.iterdir()
    rows = json.loads((folder / "pets.json").read_text())
    assert [(r["model"], r["follow"], r["until_solved"]) for r in rows] == [("pe", "member", True),
                                                                           ("d", "mean", False)]
    assert rows[0]["success"] == 1.0 and rows[0]["trials_to_success"][0] == len(rows[0]["returns"][0]) <= 3
    assert len(rows[1]["returns"][0]) == study.ABLATION and (folder / "pets.png").stat().st_size > 1000
    assert capsys.readouterr().out.count("| cartpole |") == 2


def test_rows_of_the_ablation_stand_beside_one_model_without_noise():
    made = lambda model, follow, costs, once: {"model": model, "follow": follow, "until_solved": once,  # noqa: E731
                                               "seeds": list(range(len(costs))), "returns": [[0.0, -c] for c in costs]}
    rows = study.paired([made("pe", "member", [1.0, 2.0, 3.0], True), made("d", "mean", [5.0, 7.0, 9.0], False),
                         made("pe", "member", [3.0, 5.0, 7.0, 1.0], False)])
    assert [(r["difference_low"], r["difference_high"]) for r in rows] == [(None, None), (0.0, 0.0), (-2.0, -2.0)]


@pytest.mark.parametrize(("words", "expected"), [
    (["--only", "ablation", "--follow", "all"], "--follow: unknown 'all'; choose from mean, resample, member"),
    (["--only", "chess"], "--only: unknown 'chess'; choose from cartpole, arm, ablation"),
    (["--only", "ablation", "--models", "pp"], "--models: unknown 'pp'; choose from d, p, de, pe"),
])
def test_mistakes_are_one_line(words, expected, capsys):
    assert study.main(words) == 2
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1
