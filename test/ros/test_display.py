"""What is drawn for RViz, and the layouts of plot tools: over topics, and against the definitions of the messages."""
import importlib
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from mbrl_ros.msg import Belief, EffortCommand, LocalDynamics, Plan, Status
from nav_msgs.msg import Path
from rig import RING, ROOT, ControllerNode, LearnerNode
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_ros.config import ConfigError, share
from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import bringup, layouts, topics
from mbrl_ros.nodes.description import description
from mbrl_ros.nodes.display_node import DisplayNode

KINDS = {topics.BELIEF: Belief, topics.ASKED: EffortCommand, topics.PASSED: EffortCommand, topics.MODE: Status,
         topics.GUARD: Status}


@pytest.fixture
def reaching(rig, monkeypatch, tmp_path):
    """The small robot, drawn."""
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    made = rig(*RING, DisplayNode, prior="nominal", controller__require_model=False, robot__simulated=True)
    assert made.spin(lambda: made[ControllerNode].controller._newest is not None)
    return made


def test_plan_and_tube_are_drawn_for_who_looks(reaching):
    made, controller = reaching, reaching[ControllerNode].controller
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: controller.mpc.plan is not None)
    assert not made[DisplayNode]._subscribed and made[ControllerNode]._plans.get_subscription_count() == 0
    paths, markers = made.listen(Path, topics.PLAN_PATH, 1), made.listen(MarkerArray, topics.PLAN_MARKERS, 1)
    plans = made.listen(Plan, topics.PLAN)
    assert made.spin(lambda: len(paths) > 2 and len(markers) > 2)
    path, (line, *spheres, text) = paths[-1], markers[-1].markers
    T = controller.mpc.planner.horizon
    assert len(path.poses) == T + 1 and path.header.frame_id == "base_link" == line.header.frame_id
    steps = [read_stamp(pose.header.stamp) for pose in path.poses]
    assert set(np.diff(steps)) == {round(1e9 * controller.robot.step)}
    tool = controller.robot.slice("site/tool/position")
    planned = {read_stamp(plan.header.stamp): np.array(plan.states).reshape(T + 1, -1)[:, tool] for plan in plans}
    drawn = np.array([[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in path.poses])
    assert np.allclose(drawn, planned[steps[0]])
    assert (line.type, text.type) == (Marker.LINE_STRIP, Marker.TEXT_VIEW_FACING) and "10 times" in text.text
    assert len(spheres) == T + 1 and all(s.type == Marker.SPHERE and s.scale.z > 0 for s in spheres)
    volume = [s.scale.x * s.scale.y * s.scale.z for s in spheres]
    assert volume[-1] > volume[1]
    assert len({(m.ns, m.id) for m in markers[-1].markers}) == T + 3


def test_who_comes_later_hears_the_description(reaching):
    descriptions = reaching.listen(String, topics.DESCRIPTION, topics.LATCHED)
    assert reaching.spin(lambda: descriptions)
    robot = ElementTree.fromstring(descriptions[0].data)
    joints = [joint.get("name") for joint in robot.findall("joint") if joint.get("type") != "fixed"]
    assert joints == list(reaching[ControllerNode].robot.joints)


def test_belief_is_said_to_who_listens(reaching):
    made = reaching
    beliefs, models = made.listen(Belief, topics.BELIEF), made.listen(LocalDynamics, topics.MODEL)
    by_stamp = lambda: {read_stamp(m.state.header.stamp): m for m in models}  # noqa: E731
    assert made.call("controller/reach")[0]
    assert made.spin(lambda: sum(b.mode == "reach" for b in beliefs) > 5
                     and read_stamp(beliefs[-1].header.stamp) in by_stamp())  # the first of them may have met nobody
    belief = beliefs[-1]
    assert belief.cost == pytest.approx(sum(belief.term_costs)) and "tool" in belief.term_names
    assert belief.prior_weight == made[LearnerNode].learner.prior_weight > 0 and belief.period == 0.02
    assert 0 < belief.solve_time <= belief.tick_time
    model = by_stamp()[read_stamp(belief.header.stamp)]
    assert (belief.trust, belief.data_weight) == (model.trust, model.sample_weight)
    assert list(belief.position) == list(model.state.mean)[: len(belief.joint_names)]


# --- layouts


def walk(kind, path):
    """The type at the end of a path such as a.b[0] in a message; KeyError where there is none."""
    for part in path.split("."):
        name, _, index = part.partition("[")
        of = kind.get_fields_and_field_types()[name]
        if index:
            assert of.startswith("sequence<"), f"{path}: {of}"
            of = of.removeprefix("sequence<").removesuffix(">")
        if "/" in of:
            package, name = of.split("/")
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
    return of


def curves():
    return [*(curve for plot in layouts.PLOTS.values() for curve in plot), *layouts.STATES]


@pytest.mark.parametrize(("topic", "path"), curves())
def test_every_curve_is_a_field_of_its_message(topic, path):
    assert walk(KINDS[topic], path) == ("string" if (topic, path) in layouts.STATES else "double")


@pytest.mark.parametrize(("name", "make"), layouts.FILES.items())
def test_the_files_are_what_the_list_says(name, make):
    assert (share() / "layouts" / name).read_text() == make(), "write them: python3 -m mbrl_ros.nodes.layouts"


def test_both_layouts_show_every_curve():
    panels = json.loads(layouts.foxglove())["configById"]
    shown = {path["value"] for panel in panels.values() for path in panel.get("paths", [])}
    assert shown == {f"/{topic}.{path}" for topic, path in curves()}
    names = {curve.get("name") for curve in ElementTree.fromstring(layouts.plotjuggler()).iter("curve")}
    assert names == {f"/{topic}/{path}" for plot in layouts.PLOTS.values() for topic, path in plot}


def test_every_panel_has_a_place():
    layout = json.loads(layouts.foxglove())

    def leaves(node):
        return {node} if isinstance(node, str) else leaves(node["first"]) | leaves(node["second"])

    assert leaves(layout["layout"]) == set(layout["configById"])


RVIZ = {"MarkerArray": "visualization_msgs/msg/MarkerArray", "Path": "nav_msgs/msg/Path",
        "RobotModel": "std_msgs/msg/String", "Pose": "geometry_msgs/msg/PoseStamped"}


def test_rviz_shows_topics_that_are_there_with_their_types(reaching):
    config = yaml.safe_load((ROOT / "rviz" / "mbrl_ros.rviz").read_text())["Visualization Manager"]
    assert config["Global Options"]["Fixed Frame"] == reaching[ControllerNode].robot.base_frame
    wanted = {}
    for display in config["Displays"]:
        topic = display.get("Topic") or display.get("Description Topic")
        if topic is not None:
            wanted[topic["Value"]] = RVIZ[display["Class"].rpartition("/")[2]]
    assert len(wanted) == 5
    there = lambda: dict(reaching.probe.get_topic_names_and_types())  # noqa: E731
    assert reaching.spin(lambda: all(there().get(topic) == [kind] for topic, kind in wanted.items())), there()


def test_a_launch_describes_the_robot_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    file = tmp_path / "more.yaml"
    file.write_text("/**: {ros__parameters: {robot: {base_frame: world}}}")
    values = bringup.parse(["robot:=arm", "display:=true", f"params_file:={file}"])
    tree = ElementTree.fromstring(description(values))
    assert tree.find("joint/parent").get("link") == "world" and len(tree.findall("joint/limit")) == 7
    assert list((tmp_path / "mbrl_ros" / "meshes").glob("*.stl"))
    assert {"dashboard", "display"} & set(bringup.node_names(values)) == {"display"}
    with pytest.raises(ConfigError, match="dashboard: expected true or false, got 'maybe'"):
        bringup.parse(["dashboard:=maybe"])
