"""Messages <-> values, the only such place; every message has one `to_` and one `from_` function.

Imports no ROS: `to_` is given the message class, `from_` takes whatever has the fields (a received message, or one read
from a recording). There and back is exact. Both directions check everything and raise MessageError with one line that
names the field: sizes, ranges, and that nothing on the ring is NaN, infinite or absurdly large. Values own their
arrays: received fields are copied, so a value outlives its message.
"""
from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from mbrl_ros.messages import fields
from mbrl_ros.messages.fields import (
    ABSURD,
    Message,
    MessageError,
    count,
    number,
    read,
    read_stamp,
    sane,
    write,
    write_stamp,
)
from mbrl_ros.types import (
    FED_BACK,
    NOT_FINITE,
    STATUSES,
    Array,
    Feedback,
    Gaussian,
    LinearGaussianDynamics,
    Observation,
    Plan,
    StateEstimate,
    TimedPolicy,
)
from mbrl_ros.types import LinearGaussianPolicy as Policy

VARIANCE = ABSURD**2  # the largest

MessageClass = Callable[[], Message]


class Labels(Protocol):
    """What the entries of x and u are called, and the frame that tools are in. A Robot has these, and so does a
    received message."""

    @property
    def base_frame(self) -> str: ...
    @property
    def state_names(self) -> tuple[str, ...]: ...
    @property
    def joints(self) -> tuple[str, ...]: ...


class ReceivedLabels(NamedTuple):
    """The Labels that a StateEstimate message carries."""

    state_names: tuple[str, ...]
    joints: tuple[str, ...]
    base_frame: str = ""


class LocalModel(NamedTuple):
    """What the learner tells the controller: a model, and the state it was fitted at."""

    state: StateEstimate
    dynamics: LinearGaussianDynamics  # F (n, n + m), f (n,), Sigma (n, n)
    period: float  # [s]
    sample_weight: float  # effective number of transitions
    prediction_error: float  # squared Mahalanobis error over n; 1 when calibrated
    trust: float  # from 1, as good as it says, to 0, not to be used
    prior_weight: float = 0.0  # transitions that the prior counts for


class PlanReport(NamedTuple):
    """A plan, and the state it starts from."""

    time: int  # [ns]
    episode: int
    step: int
    plan: Plan
    solve_time: float  # [s]


class Checkpoint(NamedTuple):
    """A learned model on disk."""

    time: int  # [ns]
    kind: str  # a key of MODELS
    path: str
    version: int
    transitions: int
    validation_loss: float  # [nats]


class PolicyReport(NamedTuple):
    """A policy to be played."""

    time: int  # [ns], when it was made
    version: int
    timed: TimedPolicy


class Command(NamedTuple):
    """Efforts for the robot."""

    effort: Array  # (m,) [N m or N]; None: nothing is asked for
    answers: int | None  # [ns] stamp of the state it was computed from; None where the sender does not say


class Status(NamedTuple):
    """What a node is in, and why."""

    time: int  # [ns] since when
    state: str
    reason: str


class Target(NamedTuple):
    """Where the tool shall go."""

    position: Array  # (3,) [m]
    frame: str  # as received; the ring works in the base frame
    time: int  # [ns]


# --- sensor_msgs/JointState <-> Observation


def to_joint_state(cls: MessageClass, observation: Observation, joints: Sequence[str], frame: str = "") -> Message:
    """A JointState of the observation; `joints` are the names in the order of its entries. What comes last without an
    effort, as objects do, gets 0."""
    message, k = cls(), len(joints)
    write_stamp(message.header.stamp, observation.time)
    message.header.frame_id = frame
    message.name = list(joints)
    for field in ("position", "velocity", "effort"):
        values = getattr(observation, field)
        if values is None and field == "velocity":
            message.velocity = array("d")
        else:
            write(message, field, np.append(values, np.zeros(k - len(values))), (k,), joints)
    return message


def from_joint_state(message: Message, joints: Sequence[str], need_effort: bool = True) -> Observation | None:
    """The observation of `joints`, picked by name and in their order; the message may hold others in any order.

    None where it names none of them: then it is about something else, a gripper with a publisher of its own, say. A
    message that names some of them only raises MessageError, as everything else does that cannot be used. An empty
    velocity gives None. With need_effort=False efforts may be missing, or be no numbers, as of a robot that does not
    report what acted: the observation's effort is NaN then.
    """
    names = tuple(message.name)
    index = _index(names, tuple(joints))
    if not index:
        return None
    pick = lambda field: fields.pick(message, field, index, len(names), joints)  # noqa: E731
    velocity = pick("velocity") if len(message.velocity) else None
    if need_effort:
        effort = pick("effort")
    else:
        reported = np.asarray(message.effort, float)
        effort = reported[index] if len(reported) == len(names) else np.full(len(index), np.nan)
    return Observation(read_stamp(message.header.stamp), pick("position"), velocity, effort)


@lru_cache(maxsize=16)
def _index(names: tuple[str, ...], joints: tuple[str, ...]) -> list[int]:
    """Where the joints are among the names; empty where none of them is."""
    missing = [joint for joint in joints if joint not in names]
    if len(missing) == len(joints):
        return []
    if missing:
        raise MessageError(f"JointState: no joint {', '.join(missing)}; it has {', '.join(names)}")
    doubled = [joint for joint in joints if names.count(joint) > 1]
    if doubled:
        raise MessageError(f"JointState: {', '.join(doubled)} is there more than once")
    return [names.index(joint) for joint in joints]


# --- StateEstimate


def objects_in(state_names: Sequence[str]) -> tuple[str, ...]:
    """The names of the objects in a state, in order."""
    return tuple(name.split("/")[1] for name in state_names
                 if name.startswith("object/") and name.endswith("/position"))


def to_state_estimate(cls: MessageClass, estimate: StateEstimate, labels: Labels) -> Message:
    message = cls()
    _fill_state(message, estimate, labels)
    return message


def _fill_state(message: Message, estimate: StateEstimate, labels: Labels) -> None:
    names, joints = labels.state_names, labels.joints
    n, m = len(names), len(joints)
    write_stamp(message.header.stamp, estimate.time)
    message.header.frame_id = labels.base_frame
    message.episode = count("StateEstimate.episode", estimate.episode)
    message.step = count("StateEstimate.step", estimate.step)
    message.state_names, message.joint_names = list(names), list(joints)
    write(message, "mean", estimate.belief.mean, (n,), names)
    write(message, "covariance", estimate.belief.cov, (n, n), names, largest=VARIANCE)
    write(message, "effort", estimate.effort, (m,), joints)


def from_state_estimate(message: Message, labels: Labels | None = None) -> StateEstimate:
    """The value of a StateEstimate message. Where labels are given they must be the message's: the same robot."""
    names, joints, _ = names_of(message)
    if labels is not None:
        fields.same("StateEstimate.state_names", names, labels.state_names)
        fields.same("StateEstimate.joint_names", joints, labels.joints)
    n, m = len(names), len(joints)
    belief = Gaussian(read(message, "mean", (n,), names),
                      read(message, "covariance", (n, n), names, largest=VARIANCE))
    return StateEstimate(read_stamp(message.header.stamp), int(message.episode), int(message.step), belief,
                         read(message, "effort", (m,), joints))


def names_of(message: Message) -> ReceivedLabels:
    """The names inside a StateEstimate message."""
    return ReceivedLabels(tuple(message.state_names), tuple(message.joint_names), message.header.frame_id)


# --- LocalDynamics


def to_local_dynamics(cls: MessageClass, model: LocalModel, labels: Labels) -> Message:
    message = cls()
    n, m = len(labels.state_names), len(labels.joints)
    _fill_state(message.state, model.state, labels)
    F = fields.expect("LocalDynamics.F", fields.as_array(model.dynamics.F), (n, n + m))
    write(message, "state_matrix", F[:, :n], (n, n))
    write(message, "input_matrix", F[:, n:], (n, m))
    write(message, "offset", model.dynamics.f, (n,), labels.state_names)
    write(message, "covariance", model.dynamics.Sigma, (n, n), largest=VARIANCE)
    if model.dynamics.leverage is not None:
        write(message, "leverage", model.dynamics.leverage, (1 + n + m, 1 + n + m), largest=np.inf)
    message.period = fields.positive("LocalDynamics.period", model.period)
    message.sample_weight = number("LocalDynamics.sample_weight", model.sample_weight)
    message.prior_weight = number("LocalDynamics.prior_weight", model.prior_weight)
    message.prediction_error = number("LocalDynamics.prediction_error", model.prediction_error)
    message.trust = fields.fraction("LocalDynamics.trust", model.trust)
    return message


def from_local_dynamics(message: Message, labels: Labels | None = None) -> LocalModel:
    state = from_state_estimate(message.state, labels)
    n, m = len(state.belief.mean), len(state.effort)
    F = np.empty((n, n + m))
    F[:, :n], F[:, n:] = read(message, "state_matrix", (n, n)), read(message, "input_matrix", (n, m))
    leverage = (read(message, "leverage", (1 + n + m, 1 + n + m), largest=np.inf) if len(message.leverage) else None)
    dynamics = LinearGaussianDynamics(F, read(message, "offset", (n,)),
                                      read(message, "covariance", (n, n), largest=VARIANCE), leverage)
    return LocalModel(state, dynamics, fields.positive("LocalDynamics.period", message.period),
                      number("LocalDynamics.sample_weight", message.sample_weight),
                      number("LocalDynamics.prediction_error", message.prediction_error),
                      fields.fraction("LocalDynamics.trust", message.trust),
                      number("LocalDynamics.prior_weight", getattr(message, "prior_weight", 0.0)))  # older: without


# --- Plan; it is not on the ring: one that says NOT_FINITE may hold what it says


def to_plan(cls: MessageClass, report: PlanReport, frame: str = "") -> Message:
    message, plan = cls(), report.plan
    efforts = fields.as_array(plan.efforts)
    if plan.status not in STATUSES or efforts.ndim != 2:
        raise MessageError(f"Plan: expected efforts (T, m) and a status of {', '.join(STATUSES)}, "
                           f"got {efforts.shape} and {plan.status!r}")
    (T, m), n, check = efforts.shape, fields.as_array(plan.states).shape[-1], plan.status != NOT_FINITE
    write_stamp(message.header.stamp, report.time)
    message.header.frame_id = frame
    message.episode, message.step = count("Plan.episode", report.episode), count("Plan.step", report.step)
    message.status = getattr(message, plan.status.upper())
    message.iterations = count("Plan.iterations", plan.iterations)
    message.cost = number("Plan.cost", plan.cost, check)
    message.solve_time = number("Plan.solve_time", report.solve_time)
    message.horizon = T
    write(message, "states", plan.states, (T + 1, n), check=check, largest=np.inf)
    write(message, "efforts", efforts, (T, m), check=check, largest=np.inf)
    K = fields.expect("Plan.gains", fields.as_array(plan.policy.K), (T, m, n))
    write(message, "gains", K if K.any() else K[:0], (T if K.any() else 0, m, n), check=check, largest=np.inf)
    return message


def from_plan(message: Message, labels: Labels) -> PlanReport:
    """The value of a Plan message. Its policy is the feedback on deviations from the planned states: x_hat = states,
    u_hat = efforts, k = 0."""
    n, m, T = len(labels.state_names), len(labels.joints), int(message.horizon)
    status = next((s for s in STATUSES if getattr(message, s.upper()) == message.status), None)
    if status is None:
        raise MessageError(f"Plan.status: expected one of the constants of Plan, got {message.status}")
    check = status != NOT_FINITE
    states = read(message, "states", (T + 1, n), check=check, largest=np.inf)
    efforts = read(message, "efforts", (T, m), check=check, largest=np.inf)
    K = read(message, "gains", (T, m, n), check=check, largest=np.inf) if len(message.gains) else np.zeros((T, m, n))
    policy = Policy(states[:-1], efforts, K, np.zeros((T, m)), np.zeros((T, m, m)))
    cost = number("Plan.cost", message.cost, check)
    plan = Plan(policy, states, efforts, cost, status, int(message.iterations))
    return PlanReport(read_stamp(message.header.stamp), int(message.episode), int(message.step), plan,
                      number("Plan.solve_time", message.solve_time))


# --- ModelCheckpoint


def to_model_checkpoint(cls: MessageClass, checkpoint: Checkpoint) -> Message:
    message = cls()
    write_stamp(message.header.stamp, checkpoint.time)
    message.kind = fields.text("ModelCheckpoint.kind", checkpoint.kind)
    message.path = fields.text("ModelCheckpoint.path", checkpoint.path)
    message.version = count("ModelCheckpoint.version", checkpoint.version)
    message.transitions = count("ModelCheckpoint.transitions", checkpoint.transitions, 64)
    message.validation_loss = number("ModelCheckpoint.validation_loss", checkpoint.validation_loss)
    return message


def from_model_checkpoint(message: Message) -> Checkpoint:
    kind = fields.text("ModelCheckpoint.kind", message.kind)
    path = fields.text("ModelCheckpoint.path", message.path)
    return Checkpoint(read_stamp(message.header.stamp), kind, path, int(message.version), int(message.transitions),
                      number("ModelCheckpoint.validation_loss", message.validation_loss))


# --- LinearGaussianPolicy


def _policy_fields(T: int, n: int, m: int) -> tuple[tuple[str, tuple[int, ...], float], ...]:
    """Name, shape and largest entry of the arrays of a message, in the order of the value's fields."""
    return (("state_reference", (T, n), ABSURD), ("effort_reference", (T, m), ABSURD), ("gains", (T, m, n), ABSURD),
            ("offsets", (T, m), ABSURD), ("covariances", (T, m, m), VARIANCE))


def to_linear_gaussian_policy(cls: MessageClass, report: PolicyReport) -> Message:
    message, timed = cls(), report.timed
    p, n, m = timed.policy, len(timed.state_names), len(timed.joint_names)
    T = len(p.u_hat)
    write_stamp(message.header.stamp, report.time)
    message.version = count("LinearGaussianPolicy.version", report.version)
    message.period = fields.positive("LinearGaussianPolicy.period", timed.period)
    message.state_names, message.joint_names = list(timed.state_names), list(timed.joint_names)
    message.horizon = int(fields.positive("LinearGaussianPolicy.horizon", T))
    for (field, shape, largest), values in zip(_policy_fields(T, n, m), vars(p).values(), strict=True):
        write(message, field, values, shape, largest=largest)
    if timed.spread is not None:
        write(message, "spread", timed.spread, (T, n))
    return message


def from_linear_gaussian_policy(message: Message, labels: Labels | None = None) -> PolicyReport:
    """The value of a LinearGaussianPolicy message. Where labels are given they must be the message's; whether the
    period is that of the robot is not looked at."""
    names = names_of(message)
    if labels is not None:
        fields.same("LinearGaussianPolicy.state_names", names.state_names, labels.state_names)
        fields.same("LinearGaussianPolicy.joint_names", names.joints, labels.joints)
    n, m = len(names.state_names), len(names.joints)
    T = int(fields.positive("LinearGaussianPolicy.horizon", message.horizon))
    policy = Policy(*(read(message, field, shape, largest=most) for field, shape, most in _policy_fields(T, n, m)))
    spread = read(message, "spread", (T, n)) if len(message.spread) else None
    period = fields.positive("LinearGaussianPolicy.period", message.period)
    return PolicyReport(read_stamp(message.header.stamp), int(message.version),
                        TimedPolicy(policy, period, names.state_names, names.joints, spread))


# --- EffortCommand, and std_msgs/Float64MultiArray as the controllers of robots take it


def to_effort_command(cls: MessageClass, command: Command) -> Message:
    message, effort = cls(), fields.as_array([] if command.effort is None else command.effort)
    write_stamp(message.header.stamp, command.answers or 0)
    write(message, "effort", effort, (effort.size,))
    return message


def from_effort_command(message: Message, m: int, nothing: bool = False) -> Command:
    """m: number of joints; `nothing`: or none at all, an effort of None, by which a controller asks for nothing. Raises
    MessageError for another size and for a value that is not finite."""
    if nothing and not len(message.effort):
        return Command(None, read_stamp(message.header.stamp) or None)
    return Command(read(message, "effort", (m,)), read_stamp(message.header.stamp) or None)


def to_efforts(cls: MessageClass, effort: Array) -> Message:
    message = cls()
    write(message, "data", effort, (len(effort),))
    return message


def from_efforts(message: Message, m: int) -> Command:
    """As from_effort_command; such a message does not say which state it answers."""
    return Command(read(message, "data", (m,)), None)


# --- Status


def to_status(cls: MessageClass, status: Status) -> Message:
    message = cls()
    write_stamp(message.header.stamp, status.time)
    message.state, message.reason = fields.text("Status.state", status.state), status.reason
    return message


def from_status(message: Message) -> Status:
    return Status(read_stamp(message.header.stamp), fields.text("Status.state", message.state), message.reason)


# --- FeedbackCommand


def to_feedback_command(cls: MessageClass, feedback: Feedback) -> Message:
    message, m = cls(), len(feedback.effort)
    write_stamp(message.header.stamp, feedback.answers)
    write_stamp(message.begin, feedback.begin)
    message.period = fields.positive("FeedbackCommand.period", feedback.period)
    write(message, "effort", feedback.effort, (m,))
    write(message, "states", feedback.states, (FED_BACK, 2 * m))
    write(message, "gains", feedback.K, (m, 2 * m))
    return message


def from_feedback_command(message: Message, m: int) -> Feedback:
    """m: number of joints."""
    return Feedback(read_stamp(message.header.stamp), read_stamp(message.begin),
                    fields.positive("FeedbackCommand.period", message.period), read(message, "effort", (m,)),
                    read(message, "states", (FED_BACK, 2 * m)), read(message, "gains", (m, 2 * m)))


# --- geometry_msgs/PoseStamped <-> Target


def to_target(cls: MessageClass, target: Target) -> Message:
    message = cls()
    write_stamp(message.header.stamp, target.time)
    message.header.frame_id = target.frame
    position = sane("target", fields.expect("target", fields.as_array(target.position), (3,)), "xyz")
    message.pose.position.x, message.pose.position.y, message.pose.position.z = position.tolist()
    message.pose.orientation.w = 1.0
    return message


def from_target(message: Message) -> Target:
    """The target of a PoseStamped. Its orientation is not used, and its frame is passed on unchecked."""
    p = message.pose.position
    return Target(sane("target", np.array([p.x, p.y, p.z], dtype=np.float64), "xyz"), message.header.frame_id,
                  read_stamp(message.header.stamp))
