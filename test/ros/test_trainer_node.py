"""Training over ROS: what is learned, what is refused, and what a killed trainer goes on from."""
from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from mbrl_ros.msg import Episode as Message
from mbrl_ros.msg import Status
from rig import PATIENT, RING, ControllerNode, GuardNode, end, launch, node_arguments

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.episode import ABORT, BEGUN, DONE, DROPPED, from_episode
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.trainer_node import FINISHED, PAUSED, TrainerNode
from mbrl_ros.nodes.worker import Next
from mbrl_ros.recordings.trials import read_recorded
from mbrl_ros.ring.linear_policy import LinearPolicy

TARGET = [0.35, 0.0, 1.0]  # [m]
SMALL = {"trainer__seconds": 2.0, "trainer__target": TARGET, "learner__adapt": False}
LONG = 5 * PATIENT  # [s] a training may take on a busy machine


def until(made, state):
    """Until the trainer is in this state, for a reason that is returned."""
    trainer = made[TrainerNode]
    assert made.spin(lambda: trainer._state in (FINISHED, PAUSED) and not trainer._runs, LONG), trainer._reason
    assert trainer._state == state, trainer._reason
    return trainer._reason


def start(made):
    """Once there is something to play, and the ring has said what the trainer must hear of it. Nothing is spun before:
    a ring in lock-step that stands still leaves the machine to what loads."""
    worker, limit = made[TrainerNode]._worker, time.monotonic() + LONG
    while worker.answer is None and not worker.failed and time.monotonic() < limit:
        time.sleep(0.05)
    assert made.spin(lambda: made.call("trainer/start")[0]), made.call("trainer/start")


@pytest.mark.slow
def test_refit_improves_over_the_ring_however_often_it_is_interrupted(rig, tmp_path):
    made = rig(*RING, TrainerNode, trainer__folder=str(tmp_path), trainer__updates=5, **SMALL)
    said = made.listen(Message, topics.EPISODE)
    heard = lambda: [(e.number, e.status) for e in map(from_episode, said)]  # noqa: E731
    start(made)
    assert made.spin(lambda: heard() == [(1, BEGUN)], LONG)
    assert made.call("trainer/start") == (False, "the training runs already")
    assert made.call("trainer/stop")[0]
    assert until(made, PAUSED) == "stopped by trainer/stop"
    assert made.spin(lambda: heard() == [(1, BEGUN), (1, DROPPED)]) and not read_recorded(tmp_path)
    assert made.spin(lambda: made[ControllerNode].controller.mode == "hold")
    start(made)
    assert made.spin(lambda: len(said) >= 3, LONG)
    assert made.call("trainer/pause")[0]
    until(made, PAUSED)
    assert heard()[2:] == [(1, BEGUN), (1, DONE)]
    assert made.call("trainer/pause")[0] is False
    start(made)
    assert made.spin(lambda: len(said) >= 5, LONG)
    assert made.call("guard/estop")[0]  # in the midst of the second
    assert "call guard/reset" in until(made, PAUSED)
    ok, reason = made.call("trainer/start")
    assert not ok and "stopped" in reason and "call guard/reset" in reason
    assert made.call("guard/reset")[0]
    start(made)
    assert "5 updates from 5 trials" in until(made, FINISHED)

    recorded = read_recorded(tmp_path)
    assert [of.episode.plays for of in recorded] == ["excite", "reach", "reach", "reach", "reach"]
    statuses = [of.episode.status for of in recorded]  # in between the model may predict badly, and the arm is held
    assert statuses[:2] == [DONE, ABORT] and statuses[-1] == DONE
    assert recorded[1].episode.reason.startswith("guard stopped")
    robot, whole = made[TrainerNode].robot, [of for of in recorded if of.episode.status == DONE]
    begun = {e.number: e.time for e in map(from_episode, said) if e.status == BEGUN}  # of the last attempt
    for of in recorded:
        assert (of.trial.time[0], of.trial.time[-1]) == (begun[of.episode.number], of.episode.time)
        assert (np.diff(of.trial.time) == round(robot.period * 1e9)).all()
        assert np.abs(of.trial.x[0, : robot.m] - robot.home).max() < 0.03  # each begins at the start posture
        assert np.array_equal(of.trial.x[1:, -robot.m :], of.trial.u)  # the newest effort in x is what acted
    assert {len(of.trial.u) for of in whole} == {100} and 0 < len(recorded[1].trial.u) < 100
    away = [np.linalg.norm(of.trial.x[-1, robot.slice("site/tool/position")] - TARGET) for of in whole]
    assert away[-1] < 0.1 * away[0]
    rows = made[TrainerNode].rows
    assert [row["transitions"] for row in rows] == np.cumsum([len(of.trial.u) for of in recorded]).tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ilqr. tool. not affine")  # a plan is not asked for here
def test_lqr_flm_improves_on_the_slot_and_its_policy_is_played_handed_over_and_stopped(rig, tmp_path):
    made = rig(*RING, TrainerNode, robot="planar3", task="peg", trainer__method="lqr_flm", trainer__updates=3,
               trainer__folder=str(tmp_path), trainer__rearm=True)
    start(made)
    until(made, FINISHED)
    costs = [row["cost"] for row in made[TrainerNode].rows]
    assert len(read_recorded(tmp_path)) == 3 * made[TrainerNode].config.trials
    assert {row["played"] for row in made[TrainerNode].rows} == {"policy"}
    assert costs[-1] < 0.3 * costs[0]

    controller, modes = made[ControllerNode].controller, made.listen(Status, topics.MODE, topics.LATCHED_ALL)
    assert isinstance(controller.player.policy, LinearPolicy)
    assert made.call("controller/policy") == (True, "policy from the next state on")
    assert made.spin(lambda: controller.mode == "policy")
    assert made.call("controller/hold")[0]
    assert made.spin(lambda: [(m.state, m.reason) for m in modes][-2:] == [("policy", "requested"),
                                                                           ("hold", "requested")])
    assert made.spin(lambda: made.call("controller/policy")[0])
    assert made.spin(lambda: controller.reason == "the policy is over", LONG)
    assert made.call("controller/policy")[0] and made.call("controller/stop")[0]
    assert controller.mode == "idle"


@pytest.mark.slow
def test_a_killed_trainer_goes_on_with_the_next_trial(rig, tmp_path):
    made = rig(*RING, **SMALL)
    said = []
    made.probe.create_subscription(Message, topics.EPISODE, said.append, topics.KEEP)
    arguments = node_arguments(trainer__folder=str(tmp_path), trainer__updates=3, trainer__start="true",
                               guard__arm_at_start="true", trainer__rearm="true",  # a bad model may end in a fault
                               **{**SMALL, "trainer__target": str(TARGET), "learner__adapt": "false"})
    over = {DONE: "over", ABORT: "over"}  # the model may predict badly, and the arm is held
    heard = lambda: [(e.number, over.get(e.status, e.status)) for e in map(from_episode, said)]  # noqa: E731
    first = launch("mbrl_ros.nodes", "trainer_node", *arguments)
    try:
        assert made.spin(lambda: (2, BEGUN) in heard() or first.poll() is not None, LONG)
        end(first, signal.SIGKILL)
        before, = read_recorded(tmp_path)
        second = launch("mbrl_ros.nodes", "trainer_node", *arguments)
        made.spin(lambda: (3, "over") in heard() or second.poll() is not None, LONG)
        _, output = end(second)
    finally:
        first.kill()
    assert heard() == [(1, BEGUN), (1, "over"), (2, BEGUN), (2, BEGUN), (2, "over"), (3, BEGUN), (3, "over")], output
    recorded = read_recorded(tmp_path)
    assert np.array_equal(recorded[0].trial.x, before.trial.x)
    assert [(of.episode.number, of.episode.update, of.episode.plays) for of in recorded] == [
        (1, 0, "excite"), (2, 1, "reach"), (3, 2, "reach")]


def test_what_cannot_be_trained_is_refused_with_what_to_do(rig, tmp_path):
    made = rig(GuardNode, ControllerNode, TrainerNode, trainer__folder=str(tmp_path), guard__arm_at_start=False,
               **SMALL)
    trainer = made[TrainerNode]
    refused = lambda: made.call("trainer/start")[1]  # noqa: E731
    assert made.spin(lambda: "call controller/hold, then guard/arm" in refused())
    trainer._worker.close()
    assert made.spin(lambda: trainer._worker.failed)
    assert refused().startswith("no policy: learning ended with exit code")
    trainer._worker.failed, trainer._worker.answer = "", Next(0, 0, "reach", "", "", TARGET, [])
    assert refused().startswith("no model to reach with: call controller/excite")
    assert made.call("trainer/stop") == made.call("trainer/pause") == (
        False, "the training does not run: waiting: for trainer/start")


def test_trials_with_an_object_that_nobody_puts_back_are_refused(rig, tmp_path):
    with pytest.raises(ConfigError, match=r"robot.objects: expected none for trials over topics.* puts door back"):
        rig(TrainerNode, robot="arm", task="door", trainer__folder=str(tmp_path))


@pytest.mark.parametrize(("given", "expected"), [
    ({"trainer__method": "magic"}, "trainer.method: unknown 'magic'; choose one of refit"),
    ({"trainer__seconds": 1.0}, "holds trials with other settings of trainer; expected another folder")])
def test_mistakes_end_the_node(rig, tmp_path, given, expected):
    rig(TrainerNode, trainer__folder=str(tmp_path), **SMALL).close()
    with pytest.raises(ConfigError, match=expected):
        rig(TrainerNode, trainer__folder=str(tmp_path), **{**SMALL, **given})
