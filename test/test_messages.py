"""Messages there and back, against classes built from the .msg texts: no ROS is needed."""
import itertools
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from shapes import unchecked

from mbrl_ros.messages import belief as beliefs
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.episode import Episode, from_episode, to_episode
from mbrl_ros.messages.fields import ABSURD
from mbrl_ros.messages.ring import (
    Checkpoint,
    Command,
    LocalModel,
    MessageError,
    PlanReport,
    PolicyReport,
    ReceivedLabels,
    Status,
    Target,
)
from mbrl_ros.types import (
    STATUSES,
    Feedback,
    Gaussian,
    LinearGaussianDynamics,
    LinearGaussianPolicy,
    Observation,
    Plan,
    StateEstimate,
    TimedPolicy,
)

ROOT = Path(__file__).parents[1]
JOINTS = ("base", "elbow", "wrist")
NAMES = ReceivedLabels(tuple(f"x{i}" for i in range(5)), JOINTS)
N, M, T = 5, 3, 4
FOR_PEOPLE = {"Belief"}  # NaN says that there is nothing to say
OWN = sorted(path.stem for path in (ROOT / "msg").glob("*.msg"))


def typestore():
    store = get_typestore(Stores.ROS2_KILTED)
    types = {}
    for name in OWN:
        types |= get_types_from_msg((ROOT / "msg" / f"{name}.msg").read_text(), f"mbrl_ros/msg/{name}")
    store.register(types)
    return store


STORE = typestore()


def message_class(name):
    """What ROS generates from a .msg file: a constructor without arguments, fields at zero, constants."""
    def default(kind, detail):
        if kind.name == "NAME":
            return message_class(detail)()
        if kind.name == "BASE":
            return {"string": "", "bool": False}.get(detail[0], 0.0 if detail[0].startswith("float") else 0)
        assert kind.name == "SEQUENCE"
        numbers = detail[0][0].name == "BASE" and detail[0][1][0] == "float64"
        return array("d") if numbers else []

    def create():
        return STORE.types[name](**{field: default(*kind) for field, kind in STORE.fielddefs[name][1]})

    return create


def mine(name):
    return message_class(f"mbrl_ros/msg/{name}")


def serialized(message, name):
    """Through CDR bytes and back, as between two processes."""
    def with_arrays(value):
        if isinstance(value, array):
            return np.asarray(value)
        if isinstance(value, list):
            return [with_arrays(item) for item in value]
        if hasattr(value, "__msgtype__"):
            return type(value)(**{f: with_arrays(getattr(value, f)) for f in value.__dataclass_fields__
                                  if f != "__msgtype__" and not f.isupper()})
        return value

    return bytes(STORE.serialize_cdr(with_arrays(message), name))


def travelled(message):
    name = message.__msgtype__
    return STORE.deserialize_cdr(serialized(message, name), name)


def same(a, b):
    """Exactly equal, down to the last bit of every array."""
    if isinstance(a, (np.ndarray, torch.Tensor)):
        return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, f), getattr(b, f)) for f in a.__dataclass_fields__)
    if isinstance(a, dict):
        return list(a) == list(b) and same(tuple(a.values()), tuple(b.values()))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


def numbers(*shape, seed=0):
    """Every exponent that is taken for real, among them denormal numbers and negative zero."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-300, 6, shape)
    values.flat[0], values.flat[-1] = 5e-324, -0.0
    return values


def observation(velocity=True):
    speed = numbers(M, seed=1) if velocity else None
    return Observation(1_700_000_000_123_456_789, numbers(M), speed, numbers(M, seed=2))


def estimate():
    return StateEstimate(123_456_789_012, 4_294_967_295, 7, Gaussian(numbers(N), numbers(N, N)), numbers(M, seed=3))


def local_model():
    dynamics = LinearGaussianDynamics(numbers(N, N + M), numbers(N, seed=4), numbers(N, N, seed=5),
                                      numbers(1 + N + M, 1 + N + M, seed=8))
    return LocalModel(estimate(), dynamics, 0.02, 17.3, 1.25, 0.75, 9.5)


def plan(status="iteration_limit", gains=True, tensor=np.asarray):
    states, efforts = numbers(T + 1, N), numbers(T, M, seed=6)
    K = numbers(T, M, N, seed=7) if gains else np.zeros((T, M, N))
    policy = LinearGaussianPolicy(states[:-1], efforts, K, np.zeros((T, M)), np.zeros((T, M, M)))
    policy = LinearGaussianPolicy(*(tensor(getattr(policy, f)) for f in policy.__dataclass_fields__))
    return PlanReport(5, 1, 2, Plan(policy, tensor(states), tensor(efforts), 12.5, status, 3), 0.007)


def policy(spread=True):
    arrays = (numbers(*shape, seed=9 + i) for i, shape in enumerate(((T, N), (T, M), (T, M, N), (T, M), (T, M, M))))
    return PolicyReport(77, 3, TimedPolicy(LinearGaussianPolicy(*arrays), 0.02, NAMES.state_names, JOINTS,
                                           numbers(T, N, seed=15) if spread else None))


BELIEF = beliefs.Belief(8, "reach", dict(zip(beliefs.NUMBERS, numbers(len(beliefs.NUMBERS)).tolist(), strict=True)),
                        {"tool": 0.5, "effort": -0.0}, "late", 3, JOINTS,
                        {name: numbers(M, seed=i) for i, name in enumerate(beliefs.PER_JOINT)})
CHECKPOINT = Checkpoint(99, "ensemble", "/models/7.pt", 7, 2**63 + 5, -3.5)
JOINT_STATE = message_class("sensor_msgs/msg/JointState")
EFFORTS = message_class("std_msgs/msg/Float64MultiArray")
POSE = message_class("geometry_msgs/msg/PoseStamped")

THERE_AND_BACK = {
    "JointState": (observation(), lambda v: messages.to_joint_state(JOINT_STATE, v, JOINTS),
                   lambda m: messages.from_joint_state(m, JOINTS)),
    "StateEstimate": (estimate(), lambda v: messages.to_state_estimate(mine("StateEstimate"), v, NAMES),
                      lambda m: messages.from_state_estimate(m, NAMES)),
    "LocalDynamics": (local_model(), lambda v: messages.to_local_dynamics(mine("LocalDynamics"), v, NAMES),
                      lambda m: messages.from_local_dynamics(m, NAMES)),
    "Plan": (plan(), lambda v: messages.to_plan(mine("Plan"), v), lambda m: messages.from_plan(m, NAMES)),
    "LinearGaussianPolicy": (
        policy(), lambda v: messages.to_linear_gaussian_policy(mine("LinearGaussianPolicy"), v),
        lambda m: messages.from_linear_gaussian_policy(m, NAMES)),
    "FeedbackCommand": (
        Feedback(7, 9, 0.02, numbers(M), numbers(3, 2 * M), numbers(M, 2 * M)),
        lambda v: messages.to_feedback_command(mine("FeedbackCommand"), v),
        lambda m: messages.from_feedback_command(m, M)),
    "ModelCheckpoint": (CHECKPOINT, lambda v: messages.to_model_checkpoint(mine("ModelCheckpoint"), v),
                        messages.from_model_checkpoint),
    "Belief": (BELIEF, lambda v: beliefs.to_belief(mine("Belief"), v), beliefs.from_belief),
    "EffortCommand": (Command(numbers(M), 123), lambda v: messages.to_effort_command(mine("EffortCommand"), v),
                      lambda m: messages.from_effort_command(m, M)),
    "Float64MultiArray": (Command(numbers(M), None), lambda v: messages.to_efforts(EFFORTS, v.effort),
                          lambda m: messages.from_efforts(m, M)),
    "Episode": (Episode(11, 7, 2, "policy", "abort", "the policy is left"),
                lambda v: to_episode(mine("Episode"), v), from_episode),
    "Status": (Status(11, "hold", "no joint state for 0.1 s"), lambda v: messages.to_status(mine("Status"), v),
               messages.from_status),
    "PoseStamped": (Target(numbers(3), "world", 8), lambda v: messages.to_target(POSE, v), messages.from_target),
}


@pytest.mark.parametrize("name", THERE_AND_BACK)
def test_there_and_back_is_exact(name):
    value, to, back = THERE_AND_BACK[name]
    assert same(back(to(value)), value)
    assert same(back(travelled(to(value))), value)


def test_every_message_has_its_pair():
    assert set(OWN) <= set(THERE_AND_BACK)


@pytest.mark.parametrize("name", OWN)
def test_every_field_is_filled(name):
    """A field that the pair forgets would stay at its default, whatever the value."""
    value, to, _ = THERE_AND_BACK[name]
    empty, full = mine(name)(), to(value)
    fields = [field for field, _ in STORE.fielddefs[f"mbrl_ros/msg/{name}"][1]]
    assert [field for field in fields if str(getattr(full, field)) == str(getattr(empty, field))] == []


def test_a_model_that_says_nothing_of_its_leverage():
    value, to, back = THERE_AND_BACK["LocalDynamics"]
    silent = value._replace(dynamics=replace(value.dynamics, leverage=None))
    message = travelled(to(silent))
    assert len(message.leverage) == 0 and same(back(message), silent)


def test_float_fields_are_arrays_of_doubles():
    value, to, _ = THERE_AND_BACK["LocalDynamics"]
    message = to(value)
    assert all(isinstance(f, array) and f.typecode == "d" for f in (message.state_matrix, message.state.mean))


def test_a_value_outlives_its_message():
    message = messages.to_state_estimate(mine("StateEstimate"), estimate(), NAMES)
    value = messages.from_state_estimate(message)
    for field in ("mean", "covariance", "effort"):
        getattr(message, field)[:] = array("d", [0.0]) * len(getattr(message, field))
    assert same(value, estimate())


def test_views_and_other_layouts_of_memory_are_written_in_row_order():
    cov = np.arange(25.0).reshape(5, 5)
    value = StateEstimate(1, 0, 0, Gaussian(np.arange(10.0)[::2], cov.T), np.zeros(M, np.float32))
    message = messages.to_state_estimate(mine("StateEstimate"), value, NAMES)
    assert list(message.covariance) == cov.T.ravel().tolist() and list(message.mean) == [0, 2, 4, 6, 8]


def test_plans_of_torch_tensors():
    report = plan(tensor=lambda a: torch.as_tensor(a).requires_grad_())
    assert same(messages.from_plan(messages.to_plan(mine("Plan"), report), NAMES), plan())


@pytest.mark.parametrize("status", STATUSES)
def test_statuses_are_the_constants(status):
    message = messages.to_plan(mine("Plan"), plan(status))
    assert message.status == getattr(message, status.upper()) == STATUSES.index(status)
    assert messages.from_plan(message, NAMES).plan.status == status


def test_a_plan_without_gains_travels_without_gains():
    message = messages.to_plan(mine("Plan"), plan(gains=False))
    assert len(message.gains) == 0
    assert same(messages.from_plan(message, NAMES), plan(gains=False))


def test_a_policy_that_says_nothing_of_its_spread():
    message = travelled(messages.to_linear_gaussian_policy(mine("LinearGaussianPolicy"), policy(spread=False)))
    assert len(message.spread) == 0 and same(messages.from_linear_gaussian_policy(message, NAMES), policy(spread=False))


def test_only_a_plan_that_says_so_is_not_finite():
    report = plan("not_finite")
    report.plan.states[1, 2] = np.nan
    assert same(messages.from_plan(messages.to_plan(mine("Plan"), report), NAMES), report)
    with pytest.raises(MessageError, match=r"Plan.states\[1, 2\] is nan"):
        messages.to_plan(mine("Plan"), report._replace(plan=Plan(
            report.plan.policy, report.plan.states, report.plan.efforts, 0.0, "converged", 1)))


# --- joint states: what a robot sends


def joint_state(names=JOINTS, position=None, velocity=None, effort=None):
    message = JOINT_STATE()
    message.name = list(names)
    full = np.arange(1.0, len(names) + 1)
    message.position = full if position is None else np.array(position, float)
    message.velocity = 10 * full if velocity is None else np.array(velocity, float)
    message.effort = 100 * full if effort is None else np.array(effort, float)
    return message


@pytest.mark.parametrize("order", [*itertools.permutations(range(M))])
def test_joints_are_found_by_name(order):
    names = [JOINTS[i] for i in order]
    got = messages.from_joint_state(joint_state(names), JOINTS)
    places = [names.index(j) + 1 for j in JOINTS]
    assert got.position.tolist() == places
    assert got.velocity.tolist() == [10 * p for p in places]
    assert got.effort.tolist() == [100 * p for p in places]


def test_other_joints_are_ignored_whatever_they_report():
    message = joint_state(("finger", "wrist", "base", "elbow"), [np.nan, 3, 1, 2], [np.inf, 6, 4, 5], [np.nan, 9, 7, 8])
    got = messages.from_joint_state(message, JOINTS)
    assert (got.position.tolist(), got.velocity.tolist(), got.effort.tolist()) == ([1, 2, 3], [4, 5, 6], [7, 8, 9])


@pytest.mark.parametrize("names", [(), ("finger",), ("finger", "thumb")])
def test_a_message_about_other_joints_only_is_none_of_ours(names):
    assert messages.from_joint_state(joint_state(names, velocity=[], effort=[np.nan]), JOINTS) is None


def test_missing_velocity_is_none():
    value = observation(velocity=False)
    assert messages.from_joint_state(joint_state(velocity=[]), JOINTS).velocity is None
    assert same(messages.from_joint_state(messages.to_joint_state(JOINT_STATE, value, JOINTS), JOINTS), value)


@pytest.mark.parametrize("effort", [[], [np.nan] * M])
def test_a_robot_that_reports_no_effort(effort):
    got = messages.from_joint_state(joint_state(effort=effort), JOINTS, need_effort=False)
    assert np.isnan(got.effort).tolist() == [True] * M
    with pytest.raises(MessageError, match=r"JointState\.effort"):
        messages.from_joint_state(joint_state(effort=effort), JOINTS)


@pytest.mark.parametrize(("change", "expected"), [
    ({"names": ("base", "wrist", "finger")}, "JointState: no joint elbow; it has base, wrist, finger"),
    ({"names": ("base", "elbow", "wrist", "base")}, "JointState: base is there more than once"),
    ({"position": [1, 2]}, r"JointState.position: expected 3 values, one per name, got 2"),
    ({"position": []}, r"JointState.position: expected 3 values, one per name, got 0"),
    ({"velocity": [1, 2, 3, 4]}, r"JointState.velocity: expected 3 values, one per name, got 4"),
    ({"effort": [1]}, r"JointState.effort: expected 3 values, one per name, got 1"),
    ({"position": [1, np.nan, 3]}, "JointState.position of elbow is nan"),
    ({"velocity": [1, 2, np.inf]}, "JointState.velocity of wrist is inf"),
    ({"effort": [-np.inf, 2, 3]}, "JointState.effort of base is -inf"),
])
def test_bad_joint_states_are_refused(change, expected):
    with pytest.raises(MessageError) as caught:
        messages.from_joint_state(joint_state(**change), JOINTS)
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)


# --- refusals


def damaged(name, field, value):
    """The message of THERE_AND_BACK with one field replaced, as received."""
    first, to, back = THERE_AND_BACK[name]
    message = travelled(to(first))
    *path, last = field.split(".")
    owner = message
    for part in path:
        owner = getattr(owner, part)
    if isinstance(getattr(owner, last), np.ndarray) and np.isscalar(value):
        value = np.append(getattr(owner, last)[:-1], value)
    setattr(owner, last, value)
    return message, back


FLOATS = [
    ("JointState", "position"), ("JointState", "velocity"), ("JointState", "effort"),
    ("StateEstimate", "mean"), ("StateEstimate", "covariance"), ("StateEstimate", "effort"),
    ("LocalDynamics", "state.mean"), ("LocalDynamics", "state.covariance"), ("LocalDynamics", "state.effort"),
    ("LocalDynamics", "state_matrix"), ("LocalDynamics", "input_matrix"), ("LocalDynamics", "offset"),
    ("LocalDynamics", "covariance"), ("LocalDynamics", "leverage"), ("LocalDynamics", "period"),
    ("LocalDynamics", "sample_weight"), ("LocalDynamics", "prior_weight"), ("LocalDynamics", "prediction_error"),
    ("LocalDynamics", "trust"),
    ("Plan", "states"), ("Plan", "efforts"), ("Plan", "gains"), ("Plan", "cost"), ("Plan", "solve_time"),
    *(("LinearGaussianPolicy", field) for field in (
        "period", "state_reference", "effort_reference", "gains", "offsets", "covariances", "spread")),
    *(("FeedbackCommand", field) for field in ("period", "effort", "states", "gains")),
    ("ModelCheckpoint", "validation_loss"), ("EffortCommand", "effort"), ("Float64MultiArray", "data"),
    ("PoseStamped", "pose.position.x"), ("PoseStamped", "pose.position.y"), ("PoseStamped", "pose.position.z"),
]


def test_the_list_of_floats_is_complete():
    listed = {(name, field.split(".")[-1]) for name, field in FLOATS}
    for name in set(OWN) - FOR_PEOPLE:
        for field, kind in STORE.fielddefs[f"mbrl_ros/msg/{name}"][1]:
            assert "float64" not in str(kind) or (name, field) in listed, f"{name}.{field}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "field"), FLOATS)
def test_nothing_received_is_not_finite(name, field, value):
    message, back = damaged(name, field, value)
    what = {"PoseStamped": "target"}.get(name, field.split(".")[-1])
    with pytest.raises(MessageError, match=what):
        back(message)


UNBOUNDED = {"LocalDynamics.leverage", "LocalDynamics.period", "LocalDynamics.sample_weight",
             "LocalDynamics.prior_weight", "LocalDynamics.prediction_error", "LocalDynamics.trust", "Plan.states",
             "Plan.efforts", "Plan.gains", "Plan.cost", "Plan.solve_time", "LinearGaussianPolicy.period",
             "FeedbackCommand.period", "ModelCheckpoint.validation_loss"}  # nothing is learned from them


@pytest.mark.parametrize(("name", "field"), [f for f in FLOATS if ".".join(f) not in UNBOUNDED])
def test_nothing_received_is_absurd(name, field):
    bound = ABSURD**2 if "covariance" in field else ABSURD
    for value in (-1.001 * bound, 1e300):
        message, back = damaged(name, field, value)
        with pytest.raises(MessageError, match=rf"is {value:g}; expected finite values of at most {bound:g}".replace(
                "+", r"\+")):
            back(message)
    message, back = damaged(name, field, bound)
    back(message)


@pytest.mark.parametrize("value", [-1e-9, 1.001])
def test_trust_is_from_0_to_1(value):
    message, back = damaged("LocalDynamics", "trust", value)
    with pytest.raises(MessageError, match=r"LocalDynamics\.trust: expected 0 to 1"):
        back(message)


@pytest.mark.parametrize("name", ["JointState", "StateEstimate", "LocalDynamics", "LinearGaussianPolicy",
                                  "EffortCommand", "Float64MultiArray", "PoseStamped"])
def test_nothing_sent_is_absurd(name):
    value, to, _ = THERE_AND_BACK[name]
    for copy in poisoned(value, 1e300, (np.ndarray,)):
        leverage = getattr(getattr(copy, "dynamics", None), "leverage", None)
        if leverage is None or leverage.max() < 1e300:
            with pytest.raises(MessageError, match="of at most"):
                to(copy)


@pytest.mark.parametrize("factor", [2, 0.5])
@pytest.mark.parametrize(("name", "field"), [(name, field) for name, field in FLOATS if name != "PoseStamped"])
def test_received_arrays_have_the_right_size(name, field, factor):
    message = damaged(name, field, 0.0)[0]
    for part in field.split("."):
        message = getattr(message, part)
    if isinstance(message, np.ndarray):
        message, back = damaged(name, field, np.resize(message, int(factor * message.size)))
        with pytest.raises(MessageError, match=r"expected \d+"):
            back(message)


def poisoned(value, poison=np.nan, kinds=(np.ndarray, float)):
    """Every copy of a value in which one array holds a NaN at one place, or one number is NaN."""
    if isinstance(value, np.ndarray):
        for place in (0, value.size - 1):
            copy = value.copy()
            copy.flat[place] = poison
            yield copy
    elif isinstance(value, float):
        yield from [poison] if float in kinds else []
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from (type(value)(*value[:i], bad, *value[i + 1:]) for bad in poisoned(item, poison, kinds))
    elif hasattr(value, "__dataclass_fields__"):
        parts = {f: getattr(value, f) for f in value.__dataclass_fields__}
        for f in parts:
            if isinstance(value, Plan) and f == "policy":  # of which only K travels
                yield from (replace(value, policy=replace(parts[f], K=K)) for K in poisoned(parts[f].K, poison, kinds))
                continue
            yield from (type(value)(**{**parts, f: bad}) for bad in poisoned(parts[f], poison, kinds))


@pytest.mark.parametrize("name", [name for name in THERE_AND_BACK if name not in {*FOR_PEOPLE, "Status", "Episode"}])
def test_nothing_sent_is_not_finite(name):
    value, to, _ = THERE_AND_BACK[name]
    bad = list(poisoned(value))
    assert bad
    for copy in bad:
        with pytest.raises(MessageError):
            to(copy)


@pytest.mark.parametrize(("name", "field", "value", "expected"), [
    ("StateEstimate", "joint_names", ["base", "elbow"], "joint_names: not this robot's names; missing: wrist"),
    ("StateEstimate", "joint_names", ["base", "wrist", "elbow"], "the order differs"),
    ("StateEstimate", "state_names", ["y"] * N, "state_names: not this robot's names"),
    ("LocalDynamics", "state.joint_names", ["base", "elbow", "finger"], "unknown: finger"),
    ("LocalDynamics", "period", 0.0, "period: expected a finite number above 0, got 0.0"),
    ("LocalDynamics", "period", -0.02, "above 0"),
    ("Plan", "status", 6, "Plan.status"),
    ("Plan", "horizon", 3, "Plan.states: expected 4 x 5 values, got 25"),
    ("LinearGaussianPolicy", "joint_names", ["base", "elbow", "finger"], "joint_names: not this robot's names"),
    ("LinearGaussianPolicy", "state_names", ["y"] * N, "state_names: not this robot's names"),
    ("LinearGaussianPolicy", "horizon", 0, "horizon: expected a finite number above 0, got 0"),
    ("LinearGaussianPolicy", "horizon", 3, "state_reference: expected 3 x 5 values, got 20"),
    ("LinearGaussianPolicy", "period", 0.0, "period: expected a finite number above 0"),
    ("ModelCheckpoint", "kind", "", "kind"),
    ("ModelCheckpoint", "path", "", "path"),
    ("StateEstimate", "header.stamp.sec", -1, "stamp"),
])
def test_inconsistent_messages_are_refused(name, field, value, expected):
    message, back = damaged(name, field, value)
    with pytest.raises(MessageError) as caught:
        back(message)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


with unchecked():
    OBLONG = Gaussian(np.zeros(N), np.zeros((N, M)))


@pytest.mark.parametrize(("change", "expected"), [
    ({"time": -1}, "stamp"), ({"time": 2**31 * 10**9}, "stamp"),
    ({"episode": -1}, "episode"), ({"step": 2**32}, "step"),
    ({"effort": np.zeros(2)}, r"StateEstimate.effort: expected shape \(3,\), got \(2,\)"),
    ({"belief": OBLONG}, "covariance: expected shape"),
])
def test_bad_values_are_refused(change, expected):
    value = StateEstimate(**{f: getattr(estimate(), f) for f in StateEstimate.__dataclass_fields__} | change)
    with pytest.raises(MessageError, match=expected):
        messages.to_state_estimate(mine("StateEstimate"), value, NAMES)


@pytest.mark.parametrize("size", [0, 2, 4])
def test_commands_of_another_size_are_refused(size):
    message = messages.to_effort_command(mine("EffortCommand"), Command(np.ones(size), None))
    with pytest.raises(MessageError, match=f"expected 3 values, got {size}"):
        messages.from_effort_command(message, M)
    with pytest.raises(MessageError, match=f"expected 3 values, got {size}"):
        messages.from_efforts(messages.to_efforts(EFFORTS, np.ones(size)), M)


def test_a_command_without_efforts_asks_for_nothing_where_that_may_be():
    message = messages.to_effort_command(mine("EffortCommand"), Command(None, 5))
    assert messages.from_effort_command(message, M, nothing=True) == Command(None, 5)
    with pytest.raises(MessageError, match="expected 3 values, got 0"):
        messages.from_effort_command(message, M)


@pytest.mark.parametrize("time", [0, 1, 999_999_999, 10**9, 2**31 * 10**9 - 1])
def test_stamps_travel_there_and_back(time):
    stamp = message_class("builtin_interfaces/msg/Time")()
    messages.write_stamp(stamp, time)
    assert stamp.nanosec < 10**9 and messages.read_stamp(stamp) == time


def test_generated_classes_travel_there_and_back_too():
    """The same with the classes that ROS generates, where there are any; their setters check types."""
    msg = pytest.importorskip("mbrl_ros.msg", reason="the workspace is not built and sourced")
    standard = pytest.importorskip("sensor_msgs.msg")
    for name in ("StateEstimate", "LocalDynamics"):
        to, back = getattr(messages, f"to_{snake(name)}"), THERE_AND_BACK[name][2]
        assert same(back(to(getattr(msg, name), THERE_AND_BACK[name][0], NAMES)), THERE_AND_BACK[name][0])
    assert same(messages.from_plan(messages.to_plan(msg.Plan, plan()), NAMES), plan())
    sent = messages.to_linear_gaussian_policy(msg.LinearGaussianPolicy, policy())
    assert same(messages.from_linear_gaussian_policy(sent, NAMES), policy())
    assert messages.from_model_checkpoint(messages.to_model_checkpoint(msg.ModelCheckpoint, CHECKPOINT)) == CHECKPOINT
    sent = messages.to_joint_state(standard.JointState, observation(), JOINTS)
    assert same(messages.from_joint_state(sent, JOINTS), observation())


def snake(name):
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
