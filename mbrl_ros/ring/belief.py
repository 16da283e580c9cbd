"""What the controller holds of itself, in named numbers: built where somebody listens, after the command is out."""
from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from mbrl_ros.gaussian import Z95, Z95_BALL
from mbrl_ros.messages.belief import Belief
from mbrl_ros.messages.ring import LocalModel
from mbrl_ros.ring.controller import REACH, Controller
from mbrl_ros.ring.stages import Stages
from mbrl_ros.types import CONVERGED, Array

TIMES = {"receive": "receive_time", "convert": "convert_time", "plan": "solve_time", "publish": "publish_time",
         "tick": "tick_time"}  # of a stage: its name in the message


class Believer:
    """Remembers the models of the last step, to see what became of their predictions."""

    def __init__(self, controller: Controller):
        self._controller, self._robot = controller, controller.robot
        self._tool = self._robot.slice(f"site/{self._robot.sites[0]}/position")
        self._models: deque[LocalModel] = deque(maxlen=self._robot.stride + 1)

    def of(self, model: LocalModel, effort: Array | None, stages: Stages) -> Belief:
        """After a tick with this model, and with what it commanded (m,). Predictions are judged from the second step on
        for which it is asked in a row."""
        mpc, robot, mode, x = self._controller.mpc, self._robot, self._controller.mode, model.state.belief.mean
        numbers = {"period": robot.period, "prediction_error": model.prediction_error, "trust": model.trust,
                   "prior_weight": model.prior_weight, "data_weight": model.sample_weight, "delay": mpc.delay.periods}
        latest = stages.latest()
        numbers |= {name: latest[stage] for stage, name in TIMES.items() if stage in latest}
        joints = robot.slice("joint/position")
        none = np.full(robot.m, np.nan)
        per_joint = {"position": x[joints], "predicted_position": none, "position_band": none,
                     "effort": none if effort is None else effort}
        predicted = self._predicted(model)
        if predicted is not None:
            mean, cov = predicted
            numbers["prediction_miss"] = float(np.linalg.norm(x[self._tool] - mean[self._tool]))
            numbers["prediction_band"] = Z95_BALL * float(np.linalg.eigvalsh(cov[self._tool, self._tool])[-1]) ** 0.5
            per_joint["predicted_position"] = mean[joints]
            per_joint["position_band"] = Z95 * np.sqrt(np.diag(cov)[joints])
        if mode == REACH and mpc.target is not None:
            numbers["distance"] = float(np.linalg.norm(x[self._tool] - mpc.target))
            numbers["path_error"] = float(np.linalg.norm(x[self._tool] - mpc.reference))
        plan, problem = mpc.plan, mpc.problem
        if mode != REACH or plan is None or problem is None:
            return Belief(model.state.time, mode, numbers, {}, CONVERGED, 0, robot.joints, per_joint)
        numbers |= {"cost": plan.cost, "plan_time": mpc.solve_time}
        cost: Any = problem.cost
        terms = {**dict.fromkeys(mpc.task.terms, 0.0), **cost.by_term(plan.states, plan.efforts)}
        return Belief(model.state.time, mode, numbers, terms, plan.status, plan.iterations, robot.joints, per_joint)

    def _predicted(self, model: LocalModel) -> tuple[Array, Array] | None:
        """Mean (n,) and covariance (n, n) of x now, as the model of a step before has it; None where there is none."""
        self._models.append(model)
        before, stride, n = self._models[0], self._robot.stride, self._robot.n
        state = model.state
        if (before.state.episode, before.state.step + stride) != (state.episode, state.step):
            return None
        acted = state.effort if stride == 1 else state.belief.mean[self._robot.slice("effort/1")]
        F, belief = before.dynamics.F, before.state.belief
        mean = F @ np.concatenate([belief.mean, acted]) + before.dynamics.f
        return mean, before.dynamics.Sigma + F[:, :n] @ belief.cov @ F[:, :n].T
