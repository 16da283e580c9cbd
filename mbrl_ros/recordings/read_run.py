"""A recording -> a Run: what was said on the ring of one robot, as values."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.serde import SerdeError

from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.fields import MessageError, read_stamp
from mbrl_ros.messages.ring import Checkpoint, Command, LocalModel, PlanReport, ReceivedLabels
from mbrl_ros.recordings.bags import LeftOut, records, typestore
from mbrl_ros.recordings.mcap_file import Record, RecordingError
from mbrl_ros.recordings.run import Belief, Change, Goal, Points, Run, Said, States, Status
from mbrl_ros.types import FAILED, LATE, NOT_FINITE, STATUSES, Array, Observation, StateEstimate

# Which field of a ParameterValue holds the value, by its type; lists are given as such.
VALUES = ("", "bool_value", "integer_value", "double_value", "string_value", "byte_array_value", "bool_array_value",
          "integer_array_value", "double_array_value", "string_array_value")
BAD_PLANS = [STATUSES.index(status) for status in (NOT_FINITE, LATE, FAILED)]  # as messages number them


def read_run(path: Path | str, namespace: str | None = None) -> Run:
    """Read a recording. Raises RecordingError where there is none, or where it holds several robots and no namespace
    was chosen, or none at all."""
    path = Path(path)
    reader = _Reader(path, namespace)
    for record in records(path):
        reader.take(record)
    return reader.run()


def newest(parent: Path) -> Path:
    """The recording in `parent`, or in a folder of it, that was made last. Raises RecordingError without one."""
    found = [path.parent for pattern in ("*/metadata.yaml", "*/*/metadata.yaml") for path in parent.glob(pattern)]
    if not found:
        raise RecordingError(f"{parent}: no recording in it; expected the path of one")
    return max(found, key=lambda path: path.stat().st_mtime)


class _Reader:
    """Takes records one by one."""

    def __init__(self, path: Path, namespace: str | None):
        self.path, self.namespace = path, namespace
        self.left_out = LeftOut(path)
        self.spaces: set[str] = set()
        self.order: list[tuple[str, Any]] = []
        self.counts, self.bytes, self.types = Counter[str](), Counter[str](), dict[str, str]()
        self.first, self.last = 2**63 - 1, 0
        self.labels: ReceivedLabels | None = None
        self.joints: tuple[str, ...] = ()
        self.observed: tuple[str, ...] = ()  # these, and objects

    def take(self, record: Record) -> None:
        """Read one, where it is of the ring; what is not readable is counted."""
        self.first, self.last = min(self.first, record.log_time), max(self.last, record.log_time)
        self.counts[record.topic] += 1
        self.bytes[record.topic] += len(record.data)
        self.types[record.topic] = record.type_name
        kind = record.type_name.rpartition("/")[2]
        space = record.topic.removesuffix("/state_estimate").removesuffix("/estimator")
        if kind == "StateEstimate" and self.namespace in (None, space):
            self.spaces.add(space)
        found = next(((what, read) for of, name, what, read in KINDS if of == kind and record.topic.endswith(name)),
                     None)
        if found is None or not (record.topic.startswith(f"{self.namespace or ''}/")
                                 or kind in ("ParameterEvent", "DiagnosticArray")):
            return
        what, read = found
        try:
            store = typestore(record.type_name, record.definition, record.encoding)
            value = read(self, store.deserialize_cdr(record.data, record.type_name), record)
        except (MessageError, SerdeError, RecordingError, AttributeError, IndexError) as error:
            self.left_out.add(f"{record.topic}: some of it is left out: {error}")
            return
        if value is not None:
            self.order.append((what, value))

    def run(self) -> Run:
        """All of it."""
        if len(self.spaces) > 1:
            raise RecordingError(f"{self.path}: several robots; choose one with --namespace: "
                                 f"{', '.join(sorted(self.spaces))}")
        if not self.spaces:
            lines = self.left_out.lines()
            raise RecordingError(f"{self.path}: no state estimates in it" + (f"; {lines[0]}" if lines else ""))
        of: dict[str, list[Any]] = {}
        self.order = [(what, seen) for what, value in self.order if (seen := self._seen(what, value)) is not None]
        for what, value in self.order:
            of.setdefault(what, []).append(value)
        parameters: dict[str, dict[str, Any]] = {}
        changes: list[Change] = []
        for snapshot, time, node, values in of.get("parameters", []):
            if snapshot:
                parameters.setdefault(node, {}).update(values)
            else:
                changes += [Change(time, node, name, value) for name, value in values.items()]
        said = [*of.get("mode", []), *of.get("guard", []), *of.get("model", [])]
        m = len(self.joints)
        return Run(
            path=self.path, start=self.first, seconds=1e-9 * (self.last - self.first),
            states=self._states(of.get("state", [])),
            joints=_points([(o.time, o.position[:m]) for o in of.get("joints", [])]),
            asked=_commands(of.get("asked", []), m), sent=_commands(of.get("sent", []), m),
            tool=_points([(t.time, t.position) for t in of.get("tool", [])]),
            reference=_points([(t.time, t.position) for t in of.get("reference", [])]),
            targets=of.get("target", []), said=sorted(said, key=lambda s: s.time), models=of.get("dynamics", []),
            plans=of.get("plan", []), beliefs=of.get("belief", []), parameters=parameters, changes=changes,
            diagnostics=[s for each in of.get("diagnostics", []) for s in each],
            stages=[s for each in of.get("stages", []) for s in each],
            topics={t: (self.types[t], self.counts[t], self.bytes[t]) for t in sorted(self.counts)},
            left_out=self.left_out.lines(), order=self.order)

    def _states(self, found: list[StateEstimate]) -> States:
        if not found or self.labels is None:
            raise RecordingError(f"{self.path}: no state estimate that can be read; {'; '.join(self.left_out.lines())}")
        found = [s for s, before in zip(found, [None, *found], strict=False)  # a plant that waits says its state again
                 if before is None or (s.time, s.episode, s.step) != (before.time, before.episode, before.step)]
        return States(np.array([s.time for s in found]), np.array([s.belief.mean for s in found]),
                      np.array([s.effort for s in found]), np.array([s.step for s in found]),
                      np.array([s.episode for s in found]), self.labels)

    # --- one message each

    def state(self, message: Any, _record: Record) -> StateEstimate:
        labels = messages.names_of(message)
        self.labels = self.labels or labels
        self.joints = self.labels.joints
        self.observed = (*self.joints, *messages.objects_in(self.labels.state_names))
        return messages.from_state_estimate(message, self.labels)

    def measured(self, message: Any, _record: Record) -> Any:
        """The message itself as long as no state has told which joints are the robot's."""
        return self._observed(message) if self.joints else message

    def _observed(self, message: Any) -> Observation | None:
        return messages.from_joint_state(message, self.observed, False)

    def _seen(self, what: str, value: Any) -> Any:
        """Measurements from before it was known which joints are the robot's, too."""
        if what != "joints" or isinstance(value, Observation):
            return value
        try:
            return self._observed(value)
        except MessageError as error:
            self.left_out.add(f"joint_states: some of it is left out: {error}")
            return None

    def dynamics(self, message: Any, _record: Record) -> LocalModel:
        return messages.from_local_dynamics(message, self.labels)

    def plan(self, message: Any, _record: Record) -> PlanReport | None:
        return messages.from_plan(message, self.labels) if self.labels else None

    def belief(self, message: Any, _record: Record) -> Belief:
        of, bad = message, (message.plan_status in BAD_PLANS)
        return Belief(read_stamp(of.header.stamp), of.trust, of.prediction_error, of.plan_time, bad, of.cost,
                      dict(zip(of.term_names, np.asarray(of.term_costs).tolist(), strict=False)))

    def command(self, message: Any, record: Record) -> tuple[int, Command]:
        return record.log_time, messages.from_effort_command(message, len(message.effort), nothing=True)

    def old_command(self, message: Any, record: Record) -> tuple[int, Command]:
        """As before version 0.2, when the state that is answered stood in a label."""
        label = message.layout.dim[0].label if len(message.layout.dim) else ""
        effort = np.array(message.data, dtype=np.float64)
        return record.log_time, Command(effort if effort.size else None, int(label) if label.isdigit() else None)

    def point(self, message: Any, _record: Record) -> messages.Target:
        return messages.from_target(message)

    def target(self, message: Any, record: Record) -> Said:
        """With the message itself, which ring/asked.py takes as for the node."""
        kind = record.topic.rpartition("/")[2]
        text, target = kind, None
        if kind in ("target", "target_pose"):
            target = messages.from_target(message)
            text = f"{kind} {np.array2string(target.position, precision=3)} {target.frame}".rstrip()
        return Said(record.log_time, kind, text, Goal(message, None if target is None else target.position))

    def mode(self, message: Any, record: Record) -> Said:
        return Said(record.log_time, "mode", message.state, message.reason)

    def old_mode(self, message: Any, record: Record) -> Said:
        return Said(record.log_time, "mode", message.data)

    def guard(self, message: Any, record: Record) -> Said:
        return Said(record.log_time, "guard", message.state, message.reason)

    def model(self, message: Any, record: Record) -> Said:
        checkpoint: Checkpoint = messages.from_model_checkpoint(message)
        text = f"{checkpoint.kind}, version {checkpoint.version}, fitted to {checkpoint.transitions} transitions"
        return Said(record.log_time, "model", text, checkpoint)

    def policy(self, message: Any, _record: Record) -> messages.PolicyReport:
        return messages.from_linear_gaussian_policy(message, self.labels)

    def parameters(self, message: Any, record: Record) -> tuple[bool, int, str, dict[str, Any]]:
        """Whether these are all of them, when, of which node, and the values."""
        values = {p.name: _value(p.value) for p in (*message.new_parameters, *message.changed_parameters)}
        return record.topic.endswith("/parameters"), record.log_time, message.node, values

    def statuses(self, message: Any, record: Record) -> list[Status]:
        return [Status(record.log_time, s.name, int(s.level), s.message, {v.key: v.value for v in s.values})
                for s in message.status]


Read = Callable[[_Reader, Any, Record], Any]
KINDS: tuple[tuple[str, str, str, Read], ...] = (  # type, how the topic ends, what it is called here, how it is read
    ("StateEstimate", "", "state", _Reader.state), ("JointState", "joint_states", "joints", _Reader.measured),
    ("LocalDynamics", "", "dynamics", _Reader.dynamics), ("Plan", "", "plan", _Reader.plan),
    ("Belief", "", "belief", _Reader.belief),
    ("EffortCommand", "controller/effort_command", "asked", _Reader.command),
    ("EffortCommand", "guard/effort_command", "sent", _Reader.command),
    ("Float64MultiArray", "effort_command", "asked", _Reader.old_command),
    ("Float64MultiArray", "effort_controller/commands", "sent", _Reader.old_command),
    ("PoseStamped", "tool_pose", "tool", _Reader.point), ("PoseStamped", "reference", "reference", _Reader.point),
    *((kind, f"controller/{topic}", "target", _Reader.target) for kind, topic in (
        ("PoseStamped", "target"), ("PoseStamped", "target_pose"), ("JointState", "target_joints"),
        ("JointTrajectory", "trajectory"), ("MultiDOFJointTrajectory", "tool_trajectory"), ("TwistStamped", "twist"))),
    ("Status", "controller/mode", "mode", _Reader.mode),
    ("Status", "guard/state", "guard", _Reader.guard), ("String", "mode", "mode", _Reader.old_mode),
    ("LinearGaussianPolicy", "", "policy", _Reader.policy), ("ModelCheckpoint", "", "model", _Reader.model),
    ("ParameterEvent", "", "parameters", _Reader.parameters),
    ("DiagnosticArray", "stages", "stages", _Reader.statuses),
    ("DiagnosticArray", "diagnostics", "diagnostics", _Reader.statuses),
)


def _value(value: Any) -> Any:
    """What a ParameterValue says."""
    kind = int(value.type)
    if kind == 0:
        return None
    held = getattr(value, VALUES[kind])
    return list(held) if kind == 9 else held.tolist() if hasattr(held, "tolist") else held


def _points(found: list[tuple[int, Array]]) -> Points:
    return Points(np.array([t for t, _ in found], dtype=np.int64), np.array([v for _, v in found], dtype=float))


def _commands(found: list[tuple[int, Command]], m: int) -> Points:
    """By the state that they answer; of several the last, and NaN where nothing is asked for."""
    last: dict[int, Array] = {}
    for time, command in found:
        effort = command.effort
        last[command.answers or time] = np.full(m, np.nan) if effort is None or len(effort) != m else effort
    return Points(np.array(list(last), dtype=np.int64), np.array(list(last.values())).reshape(len(last), m))
