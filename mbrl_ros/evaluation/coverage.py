"""Whether predictions know how wrong they are: how much of held-out motion lies in the 95 % bands, over many seeds.

    python3 -m mbrl_ros.evaluation.coverage --robot arm --seeds 100-102 --data-seconds 30

Every seed excites the joints and fits each global model to that. Held out are another excitation, and a run of the ring
with the learner on the first of the models, which reaches targets, the later half of them with a payload. Predicted is
the change of [q; qd] in a period: by the global models, and on the second motion also by the local posterior of a
learner on each of them, one step ahead as it is published. All learners see the same states.

A joint at rest sticks, and moves less than a model of constant noise expects; so joints count apart while they move.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import chi2

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, parse_overrides
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import parse_seeds
from mbrl_ros.evaluation.procedure import Run, Stopped, data_of, excited, set_prior, trial_of
from mbrl_ros.gaussian import Z95
from mbrl_ros.models import MODELS
from mbrl_ros.models.features import Data
from mbrl_ros.models.prior import fit
from mbrl_ros.ring.controller import REACH
from mbrl_ros.ring.learner import OnlineLearner
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Gaussian, StateEstimate

Settings = Mapping[str, Any]
KINDS = tuple(kind for kind in MODELS if kind != "none")
OTHER = 10_000  # added to a seed, for the excitation that is held out
HELD_OUT = 15.0  # [s] of it
STANDSTILL = 0.03  # of the velocity limit
FEW = 200  # of fewer predictions no coordinate is reported alone


class Phases(NamedTuple):
    """A run of the ring: excitation, then targets, of which the later ones are reached with a payload."""

    states: list[StateEstimate]
    fitted: int  # the first state after the excitation
    reach: int  # the first that is planned from
    payload: int  # the first with the payload in the hand


class Coverage(NamedTuple):
    """Of N predictions: what lies in its band, each coordinate of [q; qd] by itself and all together."""

    inside: Array  # (N, 2m), bool
    together: Array  # (N,), bool
    moving: Array  # (N, 2m), bool: whether the joint moves

    @classmethod
    def of(cls, p: Gaussian, y: Array, qd: Array, robot: Robot) -> Coverage:
        """Of p over y (N, 2m), at the joint velocities qd (N, m)."""
        error = y - p.mean
        inside = np.abs(error) <= Z95 * np.sqrt(np.einsum("nii->ni", p.cov))
        distance = (error * np.linalg.solve(p.cov, error[..., None])[..., 0]).sum(-1)
        moving = np.abs(qd) > STANDSTILL * robot.velocity_limit
        return cls(inside, distance <= chi2.ppf(0.95, y.shape[-1]), np.hstack([moving, moving]))

    def row(self) -> str:
        """Cells of a table [%]."""
        m = self.inside.shape[1] // 2
        q, qd = np.arange(2 * m) < m, np.arange(2 * m) >= m
        part = lambda rows, where: 100 * self.inside[:, rows][where[:, rows]].mean()  # noqa: E731
        alone = [part([i], self.moving) for i in range(2 * m) if self.moving[:, i].sum() >= FEW]
        cells = [part(q, self.moving), part(qd, self.moving), part(q | qd, ~self.moving), 100 * self.together.mean()]
        return (f"{cells[0]:.1f} | {cells[1]:.1f} | {min(alone, default=np.nan):.1f} to "
                f"{max(alone, default=np.nan):.1f} | {cells[2]:.1f} | {cells[3]:.1f}")


def reach(run: Run, states: list[StateEstimate], model: Any, data: Data) -> Phases:
    """Targets, with the learner on a model; `states` are those of the run so far, and grow with it."""
    config = measures.config_of(run.settings, {"seed": run.seed})
    fitted, payload = len(states), 0
    run.use(model, data)
    run.hold()
    begin = len(states)
    for i, target in enumerate(measures.draw_targets(run.robot, config)):
        if i == (config.targets + 1) // 2:
            run.plant.set_payload(config.payload)
            payload = len(states)
        run.controller.set_target(target)
        run.let(REACH, config.seconds_per_target)
    return Phases(states, fitted, begin, payload)


def local(learner: OnlineLearner, motion: Phases, model: Any, data: Data, settings: Settings) -> Gaussian:
    """What the learner says before each state from `motion.reach` on about the change of [q; qd] that led there."""
    rows = np.arange(2 * learner.robot.m)
    means, covs = [], []
    for i, (state, after) in enumerate(zip(motion.states, motion.states[1:], strict=False)):
        if i == motion.fitted:
            set_prior(learner, model, data, settings)
        dynamics = learner.update(state)
        if i >= motion.reach:
            x = state.belief.mean
            means.append((dynamics.F @ np.concatenate([x, after.effort]) + dynamics.f - x)[rows])
            covs.append(dynamics.Sigma[np.ix_(rows, rows)])
    return Gaussian(np.array(means), np.array(covs))


def scores(cases: Mapping[str, Settings], seconds: float, seed: int) -> Iterator[tuple[str, str, Coverage]]:
    """(model, motion, score) for every model and motion of a seed; the ring runs with the first of the models."""
    torch.set_num_threads(1)
    states: list[StateEstimate] = []
    run, data = excited(next(iter(cases.values())), seconds, seed, states.append)
    robot, other = run.robot, excited(run.settings, HELD_OUT, seed + OTHER)[1]
    cases = {kind: assembly.with_seed(settings, seed) for kind, settings in cases.items()}
    models = {kind: fit(kind, data, settings, seed) for kind, settings in cases.items()}
    motion = reach(run, states, next(iter(models.values())), data)
    later = data_of(robot, [trial_of(robot, motion.states[motion.reach:])])
    half = motion.payload - motion.reach
    before, after = slice(None, half), slice(half, None)

    def score(p: Gaussian, of: Data, part: slice) -> Coverage:
        qd = of.w[part, robot.slice("joint/velocity")]
        return Coverage.of(Gaussian(p.mean[part], p.cov[part]), of.y[part], qd, robot)

    for kind, model in models.items():
        for name, of, part in (("another excitation", other, slice(None)), ("reaching", later, before)):
            p = model.predict(torch.as_tensor(of.w))
            yield kind, name, score(Gaussian(p.mean.numpy(), p.cov.numpy()), of, part)
        p = local(assembly.make_learner(cases[kind], robot), motion, model, data, cases[kind])
        yield f"{kind}, local", "reaching", score(p, later, before)
        yield f"{kind}, local", "with payload", score(p, later, after)


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.coverage",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--prior", default=",".join(KINDS), help="the models, with commas between (%(default)s)")
    p.add_argument("--seeds", default="100-102")
    p.add_argument("--data-seconds", type=float, default=30.0)
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{scenario: {targets: 4}}'")
    a = p.parse_args(arguments)
    found: dict[tuple[str, str], list[Coverage]] = {}
    try:
        more = parse_overrides(a.set)
        cases = {kind: assembly.settings(Names(robot=a.robot, prior=kind), more) for kind in a.prior.split(",")}
        for seed in parse_seeds(a.seeds):
            try:
                for kind, motion, score in scores(cases, a.data_seconds, seed):
                    found.setdefault((kind, motion), []).append(score)
            except Stopped as stopped:
                print(f"seed {seed} is left out: the ring stopped: {stopped}", file=sys.stderr)
    except ConfigError as error:
        print(f"evaluate_coverage: {error}", file=sys.stderr)
        return 2
    print("| % in the 95 % band | of | q moving | qd moving | one coordinate | at rest | all together |\n"
          "|---|---|---|---|---|---|---|")
    for (kind, motion), of in sorted(found.items()):
        print(f"| {kind} | {motion} | {Coverage(*(np.concatenate(part) for part in zip(*of, strict=True))).row()} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
