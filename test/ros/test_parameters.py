"""Every setting is a declared, described, range-checked parameter; what cannot be used is refused with the reason."""
import dataclasses
import shutil

import numpy as np
import pytest
import yaml
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from rig import RING, ControllerNode, LearnerNode, PlantNode, overrides

from mbrl_ros import config
from mbrl_ros.config import ConfigError, param
from mbrl_ros.nodes import parameters
from mbrl_ros.nodes.estimator_node import EstimatorNode
from mbrl_ros.nodes.logger_node import LoggerNode
from mbrl_ros.nodes.parameters import ROS
from mbrl_ros.robot import PAYLOAD
from mbrl_ros.task import RESIDUALS
from mbrl_ros.task.residuals import Affine, selector

LIVE = {"plant.payload", "plant.hold_after", "learner.adapt", "learner.fit_seconds", "controller.exploration",
        "controller.policy_noise", "controller.policy_reach", "excitation.duration", "excitation.amplitude",
        "excitation.effort_noise", "excitation.white_noise", "excitation.range", "excitation.speed",
        "excitation.effort", "excitation.dither", "task.target", "task.path.speed", "task.tool.weight"}


@pytest.fixture(scope="module")
def ring(ros):
    from rig import Rig

    made = Rig(*RING, plant__hold_after=0)
    yield made
    made.close()


def ask(made, kind, node, service, **request):
    client = made.probe.create_client(kind, f"{node}/{service}")
    assert made.spin(client.service_is_ready)
    return made.ask(lambda: client.call_async(kind.Request(**request)))


def described(made):
    """All parameters of all nodes by name, but those of rclpy."""
    found = {}
    for node in ("plant", "estimator", "learner", "controller", "guard"):
        names = [n for n in ask(made, ListParameters, node, "list_parameters").result.names if not n.startswith(ROS)]
        answer = ask(made, DescribeParameters, node, "describe_parameters", names=names)
        found.update({d.name: d for d in answer.descriptors})
    return found


def test_every_parameter_is_described_and_only_the_live_ones_can_be_set(ring):
    descriptors = described(ring)
    assert {"files.robot", "robot.period", "plant.pace", "estimator.max_age", "prior.n0", "ilqr.horizon",
            "controller.watchdog", "guard.blend", "guard.patience", "process.executor",
            "task.terms"} <= set(descriptors)
    assert [name for name, d in descriptors.items() if not d.description] == []
    writable = {name for name, d in descriptors.items() if not d.read_only}
    assert writable >= LIVE
    assert all(name in LIVE or name.startswith("task.") for name in writable)
    period = descriptors["robot.period"].floating_point_range[0]
    assert (period.from_value, period.to_value) == (1e-4, 1.0)
    assert descriptors["plant.pace"].additional_constraints == "one of lockstep, realtime"
    assert descriptors["task.path.speed"].additional_constraints == "from 0.01 to 5; unit m/s; linear scale"
    weight = parameters.described("task.tool.weight", 2.0, descriptors["task.tool.weight"])
    assert weight[:2] == ("task.tool.weight", 2.0) and weight[3:] == (0.0, 1e9, "", True, ())
    assert parameters.described("", "", descriptors["plant.pace"]).choices == ("lockstep", "realtime")


def dumped(made, kind):
    """What `ros2 param dump` writes of a node."""
    node = made[kind].get_name()
    names = ask(made, ListParameters, node, "list_parameters").result.names
    values = ask(made, GetParameters, node, "get_parameters", names=names).values
    assert len(values) == len(names) > 8
    flat = {name: parameter_value_to_python(value) for name, value in zip(names, values, strict=True)}
    return yaml.dump({f"/{node}": {"ros__parameters": config.unflatten(flat)}})


@pytest.mark.parametrize("kind", [*RING, LoggerNode])
def test_a_dump_holds_all_parameters_and_starts_the_same_node_again(rig, tmp_path, kind):
    folder, file = tmp_path / "recording", tmp_path / "dump.yaml"
    made = rig(kind, logger__folder=str(folder), estimator__max_age=0.5)
    file.write_text(dumped(made, kind))
    assert "[]" in file.read_text() or kind is LoggerNode
    made.close()
    shutil.rmtree(folder, ignore_errors=True)
    again = rig(kind, only_arguments=["--params-file", str(file)])
    assert dumped(again, kind) == file.read_text()


@pytest.mark.parametrize(("node", "name", "value", "words"), [
    ("plant", "plant.payload", -1.0, "out of range"),
    ("plant", "plant.payload", float("nan"), "out of range"),
    ("plant", "plant.payload", "heavy", "Wrong parameter type"),
    ("plant", "plant.pace", "realtime", "read-only"),
    ("controller", "controller.exploration", 11.0, "out of range"),
    ("controller", "task.tool.weight", float("inf"), "out of range"),
    ("controller", "task.path.speed", 0.0, "out of range"),
    ("controller", "task.target", [0.1, 0.2], "expected 3 coordinates"),
    ("controller", "task.target", [0.1, 0.2, float("nan")], "expected a finite number"),
    ("controller", "excitation.duration", 0.0, "out of range"),
    ("learner", "learner.fit_seconds", 1e9, "out of range"),
    ("learner", "learner.nonsense", 1.0, "declared"),
])
def test_bad_values_are_refused_with_the_reason(ring, node, name, value, words):
    ok, reason = ring.set(node, name, value)
    assert not ok
    assert words in reason


def test_good_values_take_effect(ring):
    controller, learner = ring[ControllerNode].controller, ring[LearnerNode].learner
    for node, name, value in (
            ("controller", "task.tool.weight", 123.0), ("controller", "task.path.speed", 0.2),
            ("controller", "task.target", [0.4, 0.0, 0.8]), ("controller", "controller.exploration", 0.5),
            ("controller", "excitation.amplitude", 0.1), ("learner", "learner.adapt", False),
            ("learner", "learner.fit_seconds", 12.0), ("plant", "plant.payload", 0.7)):
        assert ring.set(node, name, value) == (True, "")
        assert ring[{"controller": ControllerNode, "learner": LearnerNode, "plant": PlantNode}[node]].get_parameter(
            name).value == pytest.approx(value)
    task = controller.mpc.task
    assert (task.terms["tool"].weight, task.path.speed) == (123.0, 0.2)
    assert list(controller.mpc.target) == [0.4, 0.0, 0.8]
    assert controller.config.exploration == controller.mpc.config.exploration == 0.5
    assert controller.base.config.amplitude == 0.1
    assert learner.adapt is False and ring[LearnerNode]._seconds == 12.0
    assert ring[PlantNode].plant.model.body(PAYLOAD).mass[0] == 0.7


TERMS = ("tool", "tool_speed", "joint_speed", "joints", "posture", "limits", "speed_limits", "effort", "effort_change")


@dataclasses.dataclass(frozen=True)
class Posture:
    """Joint positions about some [rad]."""

    about: tuple[float, ...] = param((0.0, 0.0), "Joint positions [rad]", live=True)

    def on(self, robot):
        if len(self.about) != robot.m:
            raise ConfigError(f"about: expected {robot.m} joint positions, got {len(self.about)}")
        return Affine(selector(robot, "joint/position"), lambda w: np.array(self.about))


@pytest.mark.filterwarnings("ignore:.*planning in torch")  # what its planner says of a residual that is not affine
def test_a_change_that_only_the_robot_shows_to_be_wrong_is_refused_with_the_reason(ros, monkeypatch):
    """Of a list of the wrong length, once where the dataclass and once where only the robot knows it."""
    monkeypatch.setitem(RESIDUALS, "posture", Posture)
    terms = {"task.terms": ["turn", "there", *TERMS], "task.turn.residual": "tool_orientation",
             "task.turn.rpy": [0.0, 0.0, 0.1],
             "task.there.residual": "posture"}
    node = ControllerNode(parameter_overrides=overrides(robot="planar2", prior="gaussian", **terms))
    before = node.controller.mpc.task
    for name, value, words in (("task.there.about", [0.1], "task.there: about: expected 2 joint positions, got 1"),
                               ("task.turn.rpy", [0.1], "task.turn.rpy: expected 3 angles [rad], got 1")):
        kept = list(node.get_parameter(name).value)
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert (result.successful, result.reason) == (False, words)
        assert list(node.get_parameter(name).value) == kept and node.controller.mpc.task is before
    (result,) = node.set_parameters([Parameter("task.there.about", value=[0.1, 0.2])])
    assert result.successful and node.controller.mpc.task.groups["there"][1] == Posture((0.1, 0.2))
    node.destroy_node()


def test_whole_numbers_will_do_for_doubles_in_a_file(ros):
    node = EstimatorNode(parameter_overrides=overrides(robot="planar2", estimator__acceleration_noise=12))
    assert node.get_parameter("estimator.acceleration_noise").value == 12.0
    node.destroy_node()


@pytest.mark.parametrize(("kind", "given", "words"), [
    (PlantNode, {"robot": "armm"}, "unknown robot 'armm'; choose one of arm, arm4, arm6, pendulum, planar2"),
    (PlantNode, {"robot": 7}, "robot: expected a name, got int 7"),
    (PlantNode, {"robot": "/nowhere/x.yaml"}, "no file /nowhere/x.yaml"),
    (PlantNode, {"robot.model": "/nowhere/x.xml"}, "no file '/nowhere/x.xml'; expected an MJCF or URDF file"),
    (PlantNode, {"robot.joints": ["shoulder", "wrist"]}, "no joint 'wrist' in the model; it has shoulder, elbow"),
    (PlantNode, {"robot.sites": ["nose"]}, "no site or body 'nose'"),
    (PlantNode, {"robot.effort_limit": [1.0]}, "robot.effort_limit: expected 2 values, one per joint, got 1"),
    (PlantNode, {"robot.effort_limit": ["a", "b"]}, "robot.effort_limit: expected"),
    (PlantNode, {"plant.pace": "hurried"}, "plant.pace: unknown 'hurried'; choose one of lockstep, realtime"),
    (PlantNode, {"plant.payload": 100.0}, "plant.payload: expected a value from 0.0 to 20.0, got 100.0"),
    (PlantNode, {"plant.payload": "x"}, "plant.payload: expected float, got str 'x'"),
    (PlantNode, {"plant.colour": "red"}, "plant.colour: unknown setting; plant has seed, pace"),
    (PlantNode, {"plnt.pace": "lockstep"}, "plnt: unknown setting; there are robot"),
    (EstimatorNode, {"learner.adapt": 3}, "learner.adapt: expected bool, got int 3"),  # every node checks everything
    (EstimatorNode, {"estimator.max_age": -1.0}, "estimator.max_age: expected a value from 0.0"),
    (LearnerNode, {"prior": "oracle"}, "unknown model 'oracle'; choose one of bnn, ensemble, gaussian, gp, mixture"),
    (LearnerNode, {"learner.prior": "oracle"}, "learner.prior: unknown 'oracle'; choose one of ensemble"),
    (ControllerNode, {"planner": "guess"}, "unknown planner 'guess'; choose one of "),
    (ControllerNode, {"controller.planner": "guess"}, "controller.planner: unknown 'guess'; choose one of "),
    (ControllerNode, {"ilqr.iterations": 2.5}, "ilqr.iterations: expected int, got float 2.5"),
    (ControllerNode, {"task": "dance"}, "unknown task 'dance'; choose one of door, eight, peg, push, reach"),
    (ControllerNode, {"task.tool.residual": "smell"}, "task.tool.residual: unknown 'smell'; choose one of site_"),
    (ControllerNode, {"task.colour.weight": 1.0}, "task.colour: unknown setting; task has terms"),
    (ControllerNode, {"task.tool.weigth": 1.0}, "task.tool.weigth: unknown setting; task.tool has residual"),
    (ControllerNode, {"task.target": [1.0]}, "task.target: expected 3 coordinates"),
])
def test_settings_that_cannot_be_used_stop_a_node_with_one_line(ros, kind, given, words):
    with pytest.raises(ConfigError) as caught:
        kind(parameter_overrides=overrides(**{"robot": "planar2", "prior": "gaussian", **given}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
