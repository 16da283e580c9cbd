"""The node that trains: it asks the ring for trials, keeps them, has a process of its own learn from them, and tells
the ring what to play next: a policy on controller/policy, a file on controller/policy_file, a model for the learner.

Trials are cut out of the state estimates between two Episode messages. The ring needs nothing of it: where it ends or
waits, the arm is held.
"""
from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, flatten, section
from mbrl_ros.evaluation import measures
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.episode import BEGUN, DROPPED, Episode, to_episode
from mbrl_ros.messages.ring import Checkpoint, PolicyReport
from mbrl_ros.msg import Episode as EpisodeMessage
from mbrl_ros.msg import LinearGaussianPolicy, ModelCheckpoint
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.arm import Arm, Failed, Over
from mbrl_ros.nodes.parts import PARTS, PartNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.nodes.trainer_options import Trainer
from mbrl_ros.nodes.worker import Next, Worker
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.recordings.trials import write_trial
from mbrl_ros.ring import policy
from mbrl_ros.ring.controller import REACH
from mbrl_ros.trainers import TRAINERS, trainer
from mbrl_ros.trainers.training import keep, suited

LEARNING = 7 * 24 * 3600.0  # [s] that one update may take
POLICY_KIND = "policy"  # of a checkpoint that is a policy
WAITING, TRAINING, PAUSED, FINISHED = "waiting", "training", "paused", "finished"


class TrainerNode(PartNode):
    """Runs a training in a thread of its own, from trainer/start until it is done, paused or stopped, or fails."""

    def __init__(self, **arguments: Any):
        super().__init__("trainer", **arguments)
        self.process = dataclasses.replace(self.process, priority=0)  # it can wait
        own: Trainer = self.option(Trainer, "trainer")
        self.settings = suited(self.settings, own.method)
        self.robot = assembly.make_robot(self.settings)
        if self.robot.objects:
            raise ConfigError(f"robot.objects: expected none for trials over topics, between which nobody puts "
                              f"{', '.join(self.robot.objects)} back; python3 -m mbrl_ros.train does, in simulation")
        self.declare("robot", self.robot.config)
        self.config: trainer.Config = self.declare("trainer", self.component(trainer.Config, "trainer"))
        self._own: Trainer = self.declare("trainer", own, lambda changed: setattr(self, "_own", changed))
        self.declare(own.method, self.component(PARTS[own.method], own.method))
        self.steps, self.folder = round(self.config.seconds / self.robot.period), Path(own.folder)
        try:
            keep(self.folder, self.settings, own.method, own.seed)
        except ConfigError as error:
            raise ConfigError(f"trainer.folder: {error}") from error
        self.arm = Arm(self, self.robot, self.component(PARTS["guard"], "guard").arm_at_start)
        self._worker = Worker(self.folder)
        self._thread: threading.Thread | None = None
        self._pausing = False
        self._state, self._reason, self._failed = WAITING, "for trainer/start", False
        self.rows: list[dict[str, Any]] = []  # of the updates
        self._count = 0  # trials so far
        self._episodes = topics.publisher(self, EpisodeMessage, topics.EPISODE, topics.KEEP)
        self._policies = topics.publisher(self, LinearGaussianPolicy, topics.POLICY, topics.LATCHED)
        self._files = topics.publisher(self, ModelCheckpoint, topics.POLICY_FILE, topics.LATCHED)
        self._models = topics.publisher(self, ModelCheckpoint, topics.TRAINED, topics.LATCHED)
        self._diagnostics = topics.Diagnostics(self)
        for name, called in (("start", self._start), ("pause", self._pause), ("stop", self._stop)):
            self.create_service(Trigger, f"trainer/{name}", called)
        self.create_timer(1.0, self._report)
        self._waits_to_start = own.start

    # --- services

    @property
    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refused = self._refusal()
        if refused:
            return topics.answer(response, False, refused)
        self._begin()
        return topics.answer(response, True, f"training with {self._own.method}, {self._own.updates} updates in all, "
                             f"from the trials in {self.folder} on")

    def _refusal(self) -> str:
        """Why training would not start; empty where it would."""
        if self._runs:
            return "the training runs already"
        if self._worker.failed:
            return f"no policy: {self._worker.failed}"
        answer = self._worker.answer
        if answer is not None and answer.plays == REACH and not (answer.model or self.arm.has_model):
            return "no model to reach with: call controller/excite and learner/fit first, or take another trainer"
        return self.arm.refusal(self._own.rearm)

    def _begin(self) -> None:
        self._pausing, self.arm.ending = False, ""
        self._waits_to_start = False
        self._thread = threading.Thread(target=self._train, name="training", daemon=True)
        self._thread.start()

    def _pause(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._runs:
            return topics.answer(response, False, f"the training does not run: {self._state}: {self._reason}")
        self._pausing = True
        return topics.answer(response, True, "paused after this trial; trainer/start goes on")

    def _stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._runs:
            return topics.answer(response, False, f"the training does not run: {self._state}: {self._reason}")
        self.arm.ending = "stopped by trainer/stop"
        self.arm.release()
        return topics.answer(response, True, "stopped: the arm is held, and a trial that was not over is dropped; "
                             "trainer/start goes on")

    # --- the thread

    def _train(self) -> None:
        self._say(TRAINING, "learning from earlier trials")
        try:
            needed = getattr(TRAINERS[self._own.method], "SETTINGS", {})  # of others nothing is asked while it plays
            for name, value in flatten({"controller": section(needed, "controller")}).items():
                self.arm.set(name, value)
            announced = -1
            while True:
                wanted = self._next()
                if announced < 0:
                    self.arm.rearm(self._own.rearm)
                if announced != wanted.updates:
                    self._announce(wanted)
                    announced = wanted.updates
                if wanted.updates >= self._own.updates:
                    self.arm.back()
                    self._say(FINISHED, f"{wanted.updates} updates from {wanted.trials} trials")
                    return
                if self._pausing:
                    self._say(PAUSED, "asked for: call trainer/start to go on")
                    return
                self.arm.rearm(self._own.rearm)
                self._trial(wanted)
        except Over as over:
            self.arm.release()
            self._say(PAUSED, str(over))
        except (Failed, RecordingError, ConfigError) as failed:
            self.arm.release()
            self._say(PAUSED, f"{failed}; then call trainer/start", failed=True)
        except Exception as error:  # of a thread nobody else would hear
            self.arm.release()
            self._say(PAUSED, f"{type(error).__name__}: {' '.join(str(error).split())}", failed=True)

    def _next(self) -> Next:
        """What to play next, once it is known."""
        worker = self._worker
        self.arm.until(lambda: worker.answer is not None or worker.failed, "learning", LEARNING)
        if worker.answer is None:
            raise Failed(worker.failed)
        wanted, self._count = worker.answer, worker.answer.trials
        for row in wanted.rows:
            self.rows.append(row)
            self.get_logger().info("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                                             for k, v in row.items()))
        wanted.rows.clear()
        return wanted

    def _announce(self, wanted: Next) -> None:
        """Tell the ring of model and policy, and wait until they are what it uses."""
        now, version = time.time_ns(), wanted.updates
        if wanted.model:
            of = self.component(PARTS["learner"], "learner").prior
            self._models.publish(messages.to_model_checkpoint(
                ModelCheckpoint, Checkpoint(now, of, wanted.model, version, 0, 0.0)))
            self.arm.use(wanted.model)
        if not wanted.policy:
            return
        if isinstance(policy.load(wanted.policy, self.robot), policy.LinearPolicy):
            report = PolicyReport(now, version, policy.read(wanted.policy))
            self._policies.publish(messages.to_linear_gaussian_policy(LinearGaussianPolicy, report))
        else:
            self._files.publish(messages.to_model_checkpoint(
                ModelCheckpoint, Checkpoint(now, POLICY_KIND, wanted.policy, version, 0, 0.0)))
        self.arm.uses(now)

    def _trial(self, wanted: Next) -> None:
        """One trial, from the start posture, and what became of it."""
        number = wanted.trials + 1
        self._say(TRAINING, f"trial {number}, after {wanted.updates} of {self._own.updates} updates")
        self.arm.back()
        self.arm.aim(wanted.target)
        episode = Episode(0, number, wanted.updates, wanted.plays, BEGUN)
        try:
            played = self.arm.play(wanted.plays, self.steps, lambda stamp: self._tell(episode._replace(time=stamp)))
        except (Over, Failed) as error:
            self._tell(episode._replace(status=DROPPED, reason=str(error)))
            raise
        trial = played.trial
        episode = episode._replace(time=int(trial.time[-1]), status=played.status, reason=played.reason)
        write_trial(self.folder, episode, trial, self.robot.base_frame)
        self._worker.look()
        self._tell(episode)
        cost, final = measures.score_trial(self.robot, trial, wanted.target, self.steps)
        self.get_logger().info(f"trial {number}, {wanted.plays}: {played.status} after {len(trial.u)} of {self.steps} "
                               f"periods, cost {cost:.4g}, {final:.1f} mm"
                               + (f": {played.reason}" if played.reason else ""))

    def _tell(self, episode: Episode) -> None:
        self._episodes.publish(to_episode(EpisodeMessage, episode))

    # --- what is said

    def _say(self, state: str, reason: str, failed: bool = False) -> None:
        self._state, self._reason, self._failed = state, reason, failed
        if failed:
            self.get_logger().error(f"{state}: {reason}")
        else:
            self.get_logger().info(f"{state}: {reason}")
        self._report()

    def _report(self) -> None:
        if self._waits_to_start and self._state == WAITING and not self._refusal():
            self._begin()
        failed = self._failed or bool(self._worker.failed)
        self._diagnostics.send(topics.ERROR if failed else topics.OK, f"{self._state}: {self._reason}", {
            "state": self._state, "method": self._own.method, "trials": self._count,
            "learning": self._worker.answer is None, "folder": self.folder, **(self.rows[-1] if self.rows else {})})

    def close(self) -> None:
        """Have the arm held, and end what learns."""
        if self._runs:
            self.arm.ending = "the trainer ends"
            self.arm.release()
            assert self._thread is not None
            self._thread.join(timeout=2.0)
        self._worker.close()


def main(args: list[str] | None = None) -> int:
    return run(TrainerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
