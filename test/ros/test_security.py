"""The SROS 2 policy, compared with the nodes as they run."""
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from nav_msgs.msg import Path
from rig import RING, ROOT

from mbrl_ros.nodes import bringup, topics
from mbrl_ros.nodes.dashboard_node import MISSING, DashboardNode
from mbrl_ros.nodes.display_node import DisplayNode
from mbrl_ros.nodes.logger_node import LoggerNode
from mbrl_ros.nodes.spare_node import SpareNode
from mbrl_ros.nodes.trainer_node import TrainerNode

POLICY = ROOT / "config" / "security" / "policy.xml"
PARAMETERS = {"describe_parameters", "get_parameter_types", "get_parameters", "get_type_description",
              "list_parameters", "set_parameters", "set_parameters_atomically"}  # of every node, by distribution
PAGE = () if MISSING else (DashboardNode,)
ALONE = "/alone"  # a namespace: a node that another test killed is remembered for a while, and would be asked about
SAID, ASKED = ("feedback", "status"), ("cancel_goal", "get_result", "send_goal")  # of an action
ACTION = {"execute": {"publish": SAID, "reply": ASKED}, "call": {"subscribe": SAID, "request": ASKED}}
PARTS = {"publish": "topics", "subscribe": "topics", "reply": "services", "request": "services"}


def profiles():
    """Of every node: what it may publish, subscribe to, reply to and request, as full names."""
    allowed = {}
    for enclave in ElementTree.parse(POLICY).getroot().iter("enclave"):
        profile = enclave.find("profiles/profile")
        name = profile.get("node")
        assert enclave.get("path") == f"/mbrl_ros/{name}" and profile.get("ns") == "/"
        allowed[name] = {right: set() for right in PARTS}
        for block in profile:
            (right,) = block.attrib
            if block.tag == "actions":
                assert block.get(right) == "ALLOW"
                for of, parts in ACTION[right].items():
                    allowed[name][of] |= {f"/{entry.text}/_action/{part}" for entry in block for part in parts}
                continue
            assert block.get(right) == "ALLOW" and block.tag == PARTS[right]
            allowed[name][right] |= {"/" + entry.text.replace("~", name).lstrip("/") for entry in block}
    return allowed


def graph(probe, name):
    """The same, of a node that runs in the namespace of its own."""
    asked = {"publish": probe.get_publisher_names_and_types_by_node,
             "subscribe": probe.get_subscriber_names_and_types_by_node,
             "reply": probe.get_service_names_and_types_by_node, "request": probe.get_client_names_and_types_by_node}
    return {right: {topic.removeprefix(ALONE) for topic, _ in ask(name, ALONE)} for right, ask in asked.items()}


def test_every_node_may_do_what_it_does_and_no_more(rig, tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    r = rig(*RING, SpareNode, LoggerNode, DisplayNode, TrainerNode, *PAGE, namespace=ALONE, plant__pace="realtime",
            robot__simulated=True, camera__width=32, logger__folder=str(tmp_path / "recording"), logger__belief=True,
            trainer__folder=str(tmp_path / "trials"), dashboard__port=18080)
    for page in PAGE:  # as if one were open
        monkeypatch.setattr(r[page]._server, "get_clients", lambda: {0: None})
    r.listen(Path, topics.PLAN_PATH, 1)
    r[SpareNode]._begin()  # as if it had gone on
    allowed = profiles()
    for node in r.nodes.values():
        name = node.get_name()
        own = {f"/{name}/{service}" for service in PARAMETERS}

        def differences(name=name, own=own):
            found = graph(r.probe, name)
            return {right: sorted((allowed[name][right] ^ found[right]) - own) for right in PARTS
                    if (allowed[name][right] ^ found[right]) - own}

        assert r.spin(lambda differences=differences: not differences(), 10.0), f"{name}: {differences()}"
        assert own <= allowed[name]["reply"]


def test_only_the_guard_commands_the_robot_and_only_the_controller_asks_it_to():
    publishers = {topic: {name for name, rights in profiles().items() if topic in rights["publish"]}
                  for topic in ("/effort_controller/commands", "/guard/effort_command", "/controller/effort_command")}
    guards = {"guard", "spare"}  # of which one commands
    assert publishers == {"/effort_controller/commands": guards, "/guard/effort_command": guards,
                          "/controller/effort_command": {"controller"}}


def test_bringup_puts_every_node_into_an_enclave_of_the_policy():
    values = bringup.parse(["enclave:=/mbrl_ros", "log:=recording", "trainer:=refit", "dashboard:=true",
                            "display:=true"])
    paths = {bringup.enclave(values, name)[1] for name in bringup.node_names(values)}
    assert paths == {f"/mbrl_ros/{name}" for name in profiles()} - {"/mbrl_ros/operator"}
    assert bringup.enclave(bringup.parse([]), "guard") == []


@pytest.mark.skipif(shutil.which("ros2") is None, reason="needs the ros2 command with sros2")
def test_sros2_takes_the_policy(tmp_path):
    keystore = tmp_path / "keystore"
    if subprocess.run(["ros2", "security", "create_keystore", str(keystore)], capture_output=True).returncode:
        pytest.skip("this ros2 has no security")
    made = subprocess.run(["ros2", "security", "generate_artifacts", "-k", str(keystore), "-p", str(POLICY)],
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert (keystore / "enclaves" / "mbrl_ros" / "guard" / "permissions.p7s").is_file()
