"""A trainer is one file and one line in TRAINERS; refit, the first of them, learns; and how both are run."""
from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from arms import settings

from mbrl_ros.config import ConfigError, from_mapping, param
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.trainers import TRAINERS
from mbrl_ros.trainers.__main__ import main, train
from mbrl_ros.trainers.trainer import Config
from mbrl_ros.types import LinearGaussianPolicy, TimedPolicy

pytestmark = pytest.mark.slow


class Hill:
    """The file: a hold whose stiffness is perturbed at random, and kept where trials got cheaper."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `hill.*`."""

        step: float = param(0.3, "Deviation of the logarithm of the stiffness", 0.0, 10.0)

    def __init__(self, config, robot, settings, seed):
        self.config, self.robot, self._rng = config, robot, np.random.default_rng(seed)
        self.steps = round(from_mapping(Config, settings.get("trainer", {}), "trainer").seconds / robot.period)
        self.best, self.cost = np.log(robot.stiffness / 20), np.inf
        self._tried = self.best

    def policy(self):
        r, T = self.robot, self.steps
        K = np.zeros((r.m, r.n))
        K[:, r.slice("joint/position")] = -np.diag(np.exp(self._tried))
        K[:, r.slice("joint/velocity")] = -np.diag(r.damping / 2)
        x = np.zeros(r.n)
        x[: r.m] = r.home
        one = (x, np.zeros(r.m), K, np.zeros(r.m), np.zeros((r.m, r.m)))
        arrays = (np.tile(a, (T, *np.ones(a.ndim, int))) for a in one)
        return LinearPolicy(TimedPolicy(LinearGaussianPolicy(*arrays), r.period, r.state_names, r.joints, None), r)

    def model(self):
        return None

    def update(self, trials):
        cost = float(np.mean([np.square(trial.x[:, : self.robot.m] - self.robot.home).sum() for trial in trials]))
        if cost < self.cost:
            self.best, self.cost = self._tried, cost
        self._tried = self.best + self.config.step * self._rng.standard_normal(self.robot.m)
        return {"best": self.cost}


@pytest.fixture
def hill(monkeypatch):
    monkeypatch.setitem(TRAINERS, "hill", Hill)  # the line


def small(**more):
    return settings("planar2", "gaussian", trainer={"seconds": 1.0, "trials": 2, **more}, learner={"adapt": False},
                    pets={"horizon": 3, "samples": 8, "elites": 2, "iterations": 1}, pe={"epochs": 1},
                    dagger={"steps": 20}, gps={"targets": 1, "steps": 20},
                    pilco={"horizon": 2, "particles": 5, "bases": 4, "iterations": 1}, gp={"inducing": 10, "steps": 5},
                    backprop={"horizon": 3, "rollouts": 5, "updates": 2},
                    sac={"start": 50, "hidden": 8, "batch": 16}, mbpo={"every": 100, "rollouts": 20},
                    ampo={"every": 100, "rollouts": 20}, maac={"every": 100})


@pytest.mark.usefixtures("hill")
@pytest.mark.parametrize("back", ["reset", "home"])
def test_an_added_trainer_runs_and_gets_better(back):
    rows = list(train(small(back=back), "hill", 6, seed=100))
    assert [row["update"] for row in rows] == list(range(6)) and {row["played"] for row in rows} == {"policy"}
    assert all(row["seconds"] == pytest.approx(2.0) for row in rows)
    best = [row["best"] for row in rows]
    assert best == sorted(best, reverse=True) and best[-1] < 0.8 * best[0]


@pytest.mark.usefixtures("hill")
def test_an_added_trainer_has_the_command_line_and_settings_of_its_own(tmp_path, capsys):
    words = ["--trainer", "hill", "--robot", "planar2", "--prior", "gaussian", "--trials", "2", "--output",
             str(tmp_path)]
    assert main([*words, "--set", "{hill: {step: 0.0}, trainer: {seconds: 0.5}}"]) == 0
    folder, = tmp_path.iterdir()
    content = json.loads((folder / "train.json").read_text())
    assert content["arguments"]["trainer"] == "hill" and len(content["rows"]) == 2
    assert content["rows"][0]["best"] == pytest.approx(content["rows"][1]["best"], rel=0.1)  # it stays where it is
    assert capsys.readouterr().out.count("played policy") == 2
    assert main([*words, "--set", "{hill: {stride: 0.0}}"]) == 2
    assert "hill.stride: unknown setting; hill has step" in capsys.readouterr().err


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_is_repeatable(name):
    first, again, other = (list(train(small(), name, 2, seed)) for seed in (100, 100, 101))
    assert first == again != other


def test_refit_learns_from_its_own_trials():
    """From one second of excitation: it reaches; what it has seen of reaching surprises it less."""
    rows = list(train(small(seconds=2.0, trials=1, target=[0.35, 0.0, 1.0]), "refit", 4, seed=100))
    assert [row["played"] for row in rows] == ["excite", "reach", "reach", "reach"]
    assert [row["transitions"] for row in rows] == [100, 200, 300, 400]
    assert rows[-1]["cost"] < 0.5 * rows[0]["cost"] and rows[-1]["final_mm"] < 10.0
    assert rows[2]["surprise_nats"] < rows[1]["surprise_nats"]


@pytest.mark.parametrize(("words", "expected"), [
    (["--trainer", "magic"], "trainer: unknown 'magic'; choose one of refit"),
    (["--set", "{trainer: {back: fly}}"], "trainer.back: unknown 'fly'; choose one of reset, home"),
    (["--set", "{trainer: {target: [1.0]}}"], "trainer.target: expected 3 coordinates"),
])
def test_mistakes_are_one_line(words, expected, capsys):
    assert main(["--robot", "planar2", "--prior", "gaussian", *words]) == 2
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1


def test_unknown_settings_raise():
    with pytest.raises(ConfigError, match=r"trainer\.episodes: unknown setting"):
        next(train(small(episodes=3), "refit", 1, 100))
