"""Feed what was recorded to the parts of the ring again, and look whether they say the same, bit for bit.

Each part gets its recorded inputs: the estimator joint states and commands, the learner state estimates, the controller
state estimates and the dynamics that the learner has just given again, for those are not all recorded. Between two
ticks a recording does not tell in which order a node took what came (a target, a request, the guard's arming, a plan
that was late): where the answer of a tick differs, the orders that are possible are tried on copies of the part, and
one that gives the recorded answer is taken.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, section
from mbrl_ros.messages.ring import LocalModel
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.prior import load, prior_of
from mbrl_ros.recordings.compared import Compared, Event, changes, fork, model_path
from mbrl_ros.recordings.fit import read_transitions
from mbrl_ros.recordings.replay_control import control
from mbrl_ros.recordings.run import Run
from mbrl_ros.ring.estimator import JointFilter
from mbrl_ros.ring.guard import ARMED
from mbrl_ros.ring.learner import OnlineLearner
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Observation, StateEstimate

PREPARED = 12  # periods at most from when a new model was made ready in a thread until it was taken up


@dataclass
class Replayed:
    """Of every part, and what was taken for more than the recording says."""

    parts: list[Compared]
    notes: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether all of them said the same, and something."""
        return all(p.identical == p.compared for p in self.parts) and self.parts[-1].compared > 0


def replay(run: Run, settings: Mapping[str, Any]) -> Replayed:
    """Repeat a run with the nested `settings` of its parts. Raises ConfigError where they cannot be used."""
    robot = assembly.make_robot(settings)
    if tuple(run.states.names.joints) != robot.joints:
        raise ConfigError(f"{run.path}: joints {run.states.names.joints}; expected {robot.joints}")
    states = [value for what, value in run.order if what == "state"]
    found = Replayed([Compared("estimator"), Compared("learner"), Compared("controller")])
    first = states[0]
    if first.episode or first.step:
        found.notes.append(f"the recording begins at step {first.step} of episode {first.episode}: what was before is "
                           "not known")
    _estimate(run, assembly.make_estimator(settings, robot), settings, found.parts[0])
    dynamics = _dynamics(run, settings, robot, found)
    late = control(run, assembly.make_controller(settings, robot), settings, robot, dynamics, found.parts[2])
    if late:
        found.notes.append(f"{late} plans were late, by the efforts that were commanded instead")
    return found


# --- estimator


def _estimate(run: Run, part: JointFilter, settings: Mapping[str, Any], found: Compared) -> None:
    lockstep = section(settings, "plant").get("pace") == "lockstep"
    heard = "asked" if section(settings, "controller").get("feedback") else "sent"
    recorded = {s.time: s for what, s in run.order if what == "state"}
    commands: deque[Array] = deque()
    answers: dict[int, Array] = {}
    for what, value in run.order:
        if what == heard and value[1].effort is not None:
            answers[value[1].answers or 0] = value[1].effort
    newest = 0
    for what, value in run.order:
        if what == heard and value[1].effort is not None and not lockstep:
            commands.append(value[1].effort)
        if what != "joints" or value.time <= newest:
            continue
        if lockstep:
            commands = deque([answers[newest]] if newest in answers else [])
        newest = value.time
        part, commands = _measured(part, value, commands, recorded.get(value.time), found)


def _measured(part: JointFilter, observation: Observation, commands: deque[Array], said: StateEstimate | None,
              found: Compared) -> tuple[JointFilter, deque[Array]]:
    """One measurement, after all commands that were recorded before it, or after all but the last of them."""
    shared = part.robot, part.config
    before = fork(part, *shared) if said is not None and commands else None
    estimate = _after(part, observation, list(commands))
    if said is None or estimate is None:
        return part, deque()
    if before is not None and not _same(estimate, said):
        other = fork(before, *shared)
        late = _after(other, observation, list(commands)[:-1])
        if late is not None and _same(late, said):
            found.add(said.time, _pairs(late, said))
            return other, deque([commands[-1]])
    found.add(said.time, _pairs(estimate, said))
    return part, deque()


def _after(part: JointFilter, observation: Observation, commands: list[Array]) -> StateEstimate | None:
    for effort in commands:
        part.commanded(effort)
    return part.update(observation)


def _pairs(a: StateEstimate, b: StateEstimate) -> list[tuple[Array, Array]]:
    return [(a.belief.mean, b.belief.mean), (a.belief.cov, b.belief.cov), (a.effort, b.effort)]


def _same(a: StateEstimate, b: StateEstimate) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in _pairs(a, b))


# --- learner


def _dynamics(run: Run, settings: Mapping[str, Any], robot: Robot, found: Replayed) -> dict[int, LocalModel]:
    """The dynamics at every state that the learner took, by its time. A state that the controller never answered the
    learner may have missed or not, as a node that is busy misses one: whichever agrees better with what it said."""
    answered = {value[1].answers for what, value in run.order if what == "asked"}
    missed = {s.time for what, s in run.order if what == "state" and s.time not in answered}
    tried = []
    for skipped in [missed, set[int]()] if missed else [missed]:
        compared = Compared("learner")
        learner = assembly.make_learner(settings, robot)
        tried.append((_learn(run, learner, settings, robot, compared, skipped), compared))
        if compared.identical == compared.compared:
            break
    dynamics, found.parts[1] = max(tried, key=lambda one: one[1].identical)
    if missed and dynamics is tried[0][0]:
        found.notes.append(f"{len(missed)} states that no command answers were taken for missed by the learner")
    return dynamics


def _learn(run: Run, part: OnlineLearner, settings: Mapping[str, Any], robot: Robot, found: Compared,
           skipped: set[int]) -> dict[int, LocalModel]:
    part.acts = bool(section(settings, "guard").get("arm_at_start"))
    recorded = {m.state.time: m for m in run.models}
    given: dict[int, LocalModel] = {}
    newest, waiting = -1, list[Event]()
    for what, value in run.order:
        if what in ("model", "guard", "parameters"):
            waiting.append((what, value))
        if what != "state" or value.time == newest or value.time in skipped:
            continue
        newest = value.time
        part, model, waiting = _learned(part, value, waiting, run, settings, robot, recorded.get(newest), found)
        given[newest] = model
    return given


def _learned(part: OnlineLearner, state: StateEstimate, waiting: list[Event], run: Run, settings: Mapping[str, Any],
             robot: Robot, said: LocalModel | None, found: Compared
             ) -> tuple[OnlineLearner, LocalModel, list[Event]]:
    shared = robot, part.config, part.features, part.prior, part.model, part._x, part._u, part._x_next
    ways: list[tuple[list[Event], int]] = [(waiting, 0)]
    if waiting and said is not None:
        late = range(1, PREPARED if any(what == "model" for what, _ in waiting) else 1)
        ways += [([], 0), *((waiting, d) for d in late)]
    tried = []
    for events, ago in ways:
        one = fork(part, *shared) if len(ways) > 1 else part
        for event in events:
            _teach(one, event, ago, run, settings, robot)
        model = LocalModel(state, one.update(state), robot.step, one.sample_weight, one.prediction_error,
                           one.model_trust)
        tried.append((one, model, events))
        if said is None or _alike(model, said):
            break
    else:
        tried = tried[:1]
    one, model, events = tried[-1]
    if said is not None:
        a, b = model.dynamics, said.dynamics
        found.add(state.time, [(a.F, b.F), (a.f, b.f), (a.Sigma, b.Sigma)])
    return one, model, [] if events else waiting


def _alike(a: LocalModel, b: LocalModel) -> bool:
    return all(np.array_equal(getattr(a.dynamics, name), getattr(b.dynamics, name)) for name in ("F", "f", "Sigma"))


def _teach(part: OnlineLearner, event: Event, ago: int, run: Run, settings: Mapping[str, Any], robot: Robot
           ) -> None:
    what, value = event
    if what == "guard":
        part.acts = value.text == ARMED
    elif what == "parameters":
        for name, new in changes(value, "learner"):
            if name == "learner.adapt":
                part.adapt = new
    elif what == "model":
        path = model_path(run, value)
        data = Data.of(read_transitions(path.parent / "data.npz"), part.features, robot)
        stored, part._stored = part._stored, part._stored - ago  # as it was when the model was made ready
        other = part.prepared(prior_of(load(path, robot), settings), scale_of(np.hstack([data.w, data.y]))[1])
        part._stored = stored
        part.adopt(other)
