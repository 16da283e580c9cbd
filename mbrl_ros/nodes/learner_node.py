"""The node that runs the learner: estimator/state_estimate -> learner/local_dynamics.

Global models are fitted beside it, in a process of their own.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from mbrl_ros import assembly, options
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import Checkpoint, LocalModel, MessageError
from mbrl_ros.models.features import Data
from mbrl_ros.msg import LocalDynamics, ModelCheckpoint, StateEstimate
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.parts import PARTS, PartNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.nodes.training import FitJobs, Fitted, TrainingFailed
from mbrl_ros.ring import learner

POLL = 0.1  # [s] between looks at a fit
FEWEST = 20  # transitions for a fit to make any sense


class LearnerNode(PartNode):
    """Runs OnlineLearner on every new state. The same state again gets the same model again, and teaches nothing."""

    def __init__(self, **arguments: Any):
        super().__init__("learner", **arguments)
        self.robot = assembly.make_robot(self.settings)
        self.learner = assembly.make_learner(self.settings, self.robot)
        config = self.learner.config
        self._seconds = config.fit_seconds
        self.declare("robot", self.robot.config)
        self.declare("learner", config, self._configure)
        own = self.declare("learner", self.option(options.Learner, "learner"))
        self._training = FitJobs(own.folder, self.learner)
        for prefix in ("prior", config.prior):
            self.declare(prefix, self.component(PARTS[prefix], prefix))
        self._newest = -1  # stamp [ns]
        self._last: LocalDynamics | None = None
        self._fit_said = "not fitted"
        self._failed = False
        self._models = topics.publisher(self, LocalDynamics, topics.MODEL, topics.SENT)
        self._checkpoints = topics.publisher(self, ModelCheckpoint, topics.CHECKPOINT, topics.LATCHED)
        self._diagnostics = topics.Diagnostics(self)
        self._stages = topics.timed(self)
        self.create_subscription(StateEstimate, topics.STATE, self._estimated, topics.RING)
        self.create_subscription(ModelCheckpoint, topics.TRAINED, self._trained, topics.LATCHED)
        self.create_service(Trigger, "learner/fit", self._fit)
        topics.follow_guard(self, self.component(PARTS["guard"], "guard").arm_at_start, self._guarded)
        self.create_timer(POLL, self._poll)
        self.create_timer(1.0, self._report)
        if own.resume:
            self._use(self._training.resume(own.resume, self.settings))

    def _configure(self, config: learner.Config) -> None:
        self.learner.adapt, self._seconds = config.adapt, config.fit_seconds

    def _guarded(self, passes_on: bool) -> None:
        self.learner.acts = passes_on

    def _estimated(self, message: StateEstimate) -> None:
        self._stages.start()
        try:
            state = messages.from_state_estimate(message, self.robot)
        except MessageError as error:
            self.complaints.error(f"state_estimate dropped: {error}")
            return
        if state.time == self._newest and self._last is not None:
            self._models.publish(self._last)
            return
        self._newest, self._last = state.time, None
        self._stages.received(time.time_ns() - state.time)
        self._stages.done("convert")
        try:
            dynamics = self.learner.update(state)
            self._stages.done("fit")
            model = LocalModel(state, dynamics, self.robot.step, self.learner.sample_weight,
                               self.learner.prediction_error, self.learner.model_trust, self.learner.prior_weight)
            self._last = messages.to_local_dynamics(LocalDynamics, model, self.robot)
        except ValueError as error:  # LinAlgError is one too
            self.complaints.error(f"no model at this state: {error}")
            return
        self._stages.done("fill")
        self._models.publish(self._last)
        self._stages.done("publish")
        self._stages.end()

    def _fit(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._training.running:
            return topics.answer(response, False, "a fit is running; its end is announced on model_checkpoint")
        return topics.answer(response, *self._start(self._seconds))

    def _trained(self, message: ModelCheckpoint) -> None:
        """Take up a model that a trainer has fitted."""
        if self._training.running:
            self.get_logger().warning(f"model ignored: {message.path}: a fit is running; expected none meanwhile")
            return
        self._training.adopt(str(Path(message.path).parent), self.settings)
        self._fit_said, self._failed = "taking up a model", False

    def _start(self, seconds: float) -> tuple[bool, str]:
        """Start a fit to the latest so many seconds; whether it has begun, and what to say about it."""
        transitions = self.learner.transitions(seconds)
        if len(transitions.x) < FEWEST:
            return False, (f"{len(transitions.x)} transitions within the last {seconds:g} s; expected at least "
                           f"{FEWEST}: call controller/excite first, or set learner.fit_seconds")
        data = Data.of(transitions, self.learner.features, self.robot)
        try:
            self._training.start(data, transitions, self.settings)
        except OSError as error:
            return False, f"learner.folder: {error}"
        self._fit_said, self._failed = "fitting", False
        return True, f"fitting {self.learner.config.prior} to {len(transitions.x)} transitions"

    def _poll(self) -> None:
        try:
            fitted = self._training.poll()
        except TrainingFailed as error:
            self._fit_said, self._failed = f"the fit failed: {error}", True
            self.get_logger().error(f"{self._fit_said}; the ring goes on with the model before")
            self._report()
            return
        if fitted is not None:
            self._use(fitted)
        if not self._training.running and self.learner.fit_due():
            begun, said = self._start(self.learner.config.fit_after)
            (self.get_logger().info if begun else self.get_logger().error)(said)

    def _use(self, fitted: Fitted) -> None:
        self.learner.adopt(fitted.learner)
        kind = self.learner.config.prior
        self._fit_said = f"{kind}, fitted to {fitted.transitions} transitions"
        self.get_logger().info(f"new global model: {self._fit_said}, loss {fitted.loss:.2f} nats")
        checkpoint = Checkpoint(time.time_ns(), kind, str(fitted.path), self._training.version, fitted.transitions,
                                fitted.loss)
        self._checkpoints.publish(messages.to_model_checkpoint(ModelCheckpoint, checkpoint))

    def _report(self) -> None:
        self._diagnostics.send(topics.ERROR if self._failed else topics.OK, self._fit_said, {
            "version": self._training.version, "sample_weight": self.learner.sample_weight,
            "prediction_error": float(self.learner.prediction_error)})

    def close(self) -> None:
        """End a fit that still runs."""
        self._training.close()


def main(args: list[str] | None = None) -> int:
    return run(LearnerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
