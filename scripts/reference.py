"""Make docs/reference/ of the declarations themselves: every parameter; every topic and service of running nodes.

    python3 scripts/reference.py            # writes both pages; needs the built workspace
    python3 scripts/reference.py --check    # exit code 1 where one is not as it would be written

What a name means stands in MEANINGS here; everything else is read from the code. A name without a meaning is an error.
"""
from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
PARAMETERS, GRAPH = FOLDER / "parameters.md", FOLDER / "topics.md"
NODES = {"plant": "plant_node.PlantNode", "estimator": "estimator_node.EstimatorNode",
         "learner": "learner_node.LearnerNode", "controller": "controller_node.ControllerNode",
         "guard": "guard_node.GuardNode", "logger": "logger_node.LoggerNode", "display": "display_node.DisplayNode",
         "trainer": "trainer_node.TrainerNode", "dashboard": "dashboard_node.DashboardNode"}
USUAL = re.compile(r"rosout|parameter_events$|_parameters(_atomically)?$|parameter_types$|get_type_description$")
MEANINGS = {
    "/display/plan_path": "the plan of the tool, for RViz",
    "/display/plan_markers": "the plan, its 95 % tube and the target, for RViz",
    "/robot_description": "URDF of a simulated robot, written from its model",
    "/controller/belief": "what it holds of itself, its model and its plan, in named numbers, for those who listen",
    "/clock": "time of a simulated robot in lock-step",
    "/diagnostics": "state, reason and figures of every node, once a second and when they change",
    "/joint_states": "position, velocity and, where the robot reports it, effort of the joints",
    "/effort_controller/commands": "the efforts for the robot, from the guard alone",
    "/estimator/state_estimate": "the filtered state, every control period",
    "/learner/local_dynamics": "the linear model at that state",
    "/learner/model_checkpoint": "a new global model",
    "/controller/effort_command": "what it asks the guard for; without values where it asks for nothing",
    "/controller/effort_feedback": "the plan's gains with it (`controller.feedback`)",
    "/controller/target": "where the tool shall go, whatever the orientation of the message",
    "/controller/target_pose": "where the tool shall go, and how it shall be turned",
    "/controller/target_joints": "where the joints shall go",
    "/controller/trajectory": "joints through points at times",
    "/controller/tool_trajectory": "the tool through poses at times",
    "/controller/twist": "how the tool shall move, for 0.3 s: jogging",
    "/controller/reference": "where the path to the target is",
    "/controller/plan": "the trajectory that is planned, where somebody listens",
    "/controller/mode": "what the controller does, and why",
    "/guard/effort_command": "what the guard lets pass, and which state it answers",
    "/guard/state": "the state of the guard, and why",
    "/plant/tool_pose": "where the tool of the simulated robot truly is",
    "/plant/camera": "what the camera of the simulated robot sees (`camera.width`), of the newest state",
    "/plant/camera_info": "what takes points to the pixels of that",
    "/plant/response_time": "from a state to its command [s]",
    "/guard/transition_event": "the guard's lifecycle: active is armed",
    "/controller/transition_event": "the controller's lifecycle",
    "/controller/reach_target": "go to a pose or to joints, and say when it is there, or why not",
    "/controller/excite": "shake the joints within their limits, then hold",
    "/controller/reach": "plan and move to the target",
    "/controller/policy": "a policy for the mode `policy`, or, as a service, to play it",
    "/controller/home": "move to the home posture under the hold",
    "/controller/hold": "hold the posture",
    "/controller/stop": "ask for nothing: the guard holds",
    "/controller/policy_file": "a file with a policy for the mode `policy`",
    "/trainer/episode": "a trial begins, or is over: the states between are its data",
    "/trainer/model_checkpoint": "a model that the trainer has fitted, for the learner",
    "/trainer/start": "train, from the trials in its folder on",
    "/trainer/pause": "train no more after the trial that runs",
    "/trainer/stop": "hold the arm now; a trial that runs is dropped",
    "/learner/fit": "fit a global model to the latest motion",
    "/guard/arm": "pass the controller's efforts on (true), or hold (false)",
    "/guard/reset": "leave fault or stopped for hold",
    "/guard/estop": "damp all motion and give way, until reset",
    "/plant/reset": "put the simulated robot back to its start",
    "/plant/run": "lock-step: go on, or hold the state back",
}
LIFECYCLE = ("change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph")


# --- parameters


def parameters() -> str:
    """The page of all parameters."""
    from mbrl_ros import options
    from mbrl_ros.nodes.parts import OPTIONS, PARTS
    from mbrl_ros.task import NORMS, PATHS, RESIDUALS, task

    parts = ["# Parameters", "",
             "Made by `scripts/reference.py` of the declarations. The defaults are those of the code; the files in",
             "`config/` give others, which `ros2 param get` shows. *Live* ones may be set while the node runs. A value",
             "out of its range is refused with the reason. Files have them nested, as `ros2 param dump` writes them.",
             ""]
    groups: dict[str, list[Any]] = {"task": [options.Task]}
    for of in (PARTS, OPTIONS):
        for prefix, cls in of.items():
            groups.setdefault(prefix, []).append(cls)
    for prefix in sorted(groups):
        parts += [f"## {prefix}", "", *_table(f"{prefix}.", [f for cls in groups[prefix] for f in _fields(cls)])]
    parts += ["## task.*TERM*", "", "A term of the cost, with the parameters of its residual and its norm.", "",
              *_table("task.TERM.", _fields(task.Term))]
    for word, registry in (("residual", RESIDUALS), ("norm", NORMS)):
        for name, cls in registry.items():
            own = _table("task.TERM.", fields) if (fields := list(_fields(cls))) else ["No parameters of its own.", ""]
            parts += [f"### {word}: {name}", "", *own]
    parts += ["## task.path", "", *_table("task.path.", _fields(task.PathKind))]
    for name, cls in PATHS.items():
        parts += [f"### path: {name}", "", *_table("task.path.", _fields(cls))]
    return "\n".join(parts).rstrip() + "\n"


Field = tuple[dataclasses.Field[Any], Any]


def _fields(cls: Any) -> Iterable[Field]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in dataclasses.fields(cls) if "description" in f.metadata]


def _table(prefix: str, fields: Iterable[Field]) -> list[str]:
    rows = [f"| `{prefix}{f.name}` | {_shown(f.default)} | {_range(f.metadata)} | {_unit(f.metadata)} | "
            f"{'yes' if f.metadata['live'] else ''} | {_cell(f.metadata['description'])} |" for f, _ in fields]
    return ["| name | default | range | unit | live | |", "|---|---|---|---|---|---|", *rows, ""]


def _shown(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "must be given"
    if value in ("", ()):
        return "empty"
    text = (", ".join(map(str, value)) if isinstance(value, tuple) else
            f"{value:g}" if isinstance(value, float) else str(value))
    return f"`{text.lower() if isinstance(value, bool) else text}`"


def _range(of: Mapping[str, Any]) -> str:
    if of["choices"]:
        return ", ".join(f"`{choice}`" for choice in of["choices"])
    low, high = of["low"], of["high"]
    if low is None and high is None:
        return ""
    return f"{'−∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}"


def _unit(of: Mapping[str, Any]) -> str:
    """As declared, or the last one that the description says in brackets."""
    said = of.get("unit") or next(iter(reversed(re.findall(r"\[([^\[\]]+)\]", of["description"]))), "")
    return _cell(said)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


# --- the graph


def graph() -> str:
    """The page of all topics and services, as running nodes have them."""
    import importlib
    import os
    import socket

    os.environ.setdefault("ROS_DOMAIN_ID", "97")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    import rclpy
    from rclpy.parameter import Parameter

    from mbrl_ros.nodes import spin

    mine = not rclpy.ok()
    if mine:
        spin.init([])
    import tempfile

    with socket.socket() as any_port:  # somebody's dashboard may have the usual one
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        given = {"robot": "planar2", "prior": "gaussian", "plant.pace": "lockstep", "plant.hold_after": 0,
                 "camera.width": 32, "logger.folder": f"{folder}/recording", "trainer.folder": f"{folder}/training",
                 "dashboard.port": port}
        made = {}
        for name, path in NODES.items():
            module, _, cls = path.partition(".")
            kind = getattr(importlib.import_module(f"mbrl_ros.nodes.{module}"), cls)
            made[name] = kind(parameter_overrides=[Parameter(key, value=value) for key, value in given.items()])
        try:
            return _page(made)
        finally:
            spin.close(list(made.values()), None)
            if mine:
                rclpy.try_shutdown()


def _page(made: Mapping[str, Any]) -> str:
    topics: dict[str, tuple[str, list[str], list[str]]] = {}
    services: dict[str, tuple[str, str]] = {}
    for name, node in made.items():
        for publisher in node.publishers:
            topics.setdefault(publisher.topic_name, (_kind(publisher.msg_type), [], []))[1].append(name)
        for subscription in node.subscriptions:
            topics.setdefault(subscription.topic_name, (_kind(subscription.msg_type), [], []))[2].append(name)
        for service in node.services:
            services[service.service_name] = (_kind(service.srv_type), name)
    rows = [f"| `{topic}` | {kind} | {_all(sent)} | {_all(heard)} | {_meaning(topic)} |"
            for topic, (kind, sent, heard) in sorted(topics.items()) if not USUAL.search(topic)]
    actions = {name: (f"`{kinds[0]}`", node) for node, of in made.items() for name, kinds in _actions(node, of)
               if kinds[0].startswith("mbrl_ros/")}  # others are there where their packages are
    goals = [f"| `{name}` | {kind} | {node} | {_meaning(name)} |" for name, (kind, node) in sorted(actions.items())]
    managed = sorted({node for service, (_, node) in services.items() if service.endswith("/change_state")})
    calls = [f"| `{service}` | {kind} | {node} | {_meaning(service)} |"
             for service, (kind, node) in sorted(services.items())
             if not USUAL.search(service) and service.rpartition("/")[2] not in LIFECYCLE]
    return "\n".join([
        "# Topics, services, messages", "",
        "Made by `scripts/reference.py` of running nodes. Names are relative: a namespace holds a second robot. Beside "
        "these every", "node has the parameter services of ROS, and "
        f"{' and '.join(managed)} those of managed nodes (`change_state` and so on).", "",
        "## Topics", "", "| topic | type | from | to | |", "|---|---|---|---|---|", *rows, "",
        "## Services", "", "| service | type | node | |", "|---|---|---|---|", *calls, "",
        *(["## Actions", "", "| action | type | node | |", "|---|---|---|---|", *goals, ""] if goals else []),
        "## Messages", "", *_messages()]).rstrip() + "\n"


def _actions(name: str, node: Any) -> list[tuple[str, list[str]]]:
    """The graph alone names them, and hears of a new one after a while."""
    import time

    from rclpy.action import ActionServer, get_action_server_names_and_types_by_node

    servers = sum(isinstance(waitable, ActionServer) for waitable in node.waitables)
    for _ in range(600):
        found = get_action_server_names_and_types_by_node(node, name, node.get_namespace())
        if len(found) >= servers:
            return list(found)
        time.sleep(0.1)
    raise TimeoutError(f"{name}: expected {servers} actions in the graph within a minute, it has {found}")


def _messages() -> list[str]:
    parts = []
    for folder in ("msg", "srv", "action"):
        for path in sorted((ROOT / folder).glob(f"*.{folder}")):
            parts += [f"### {path.stem}.{folder}", "", "```text", path.read_text().rstrip(), "```", ""]
    return parts


def _kind(cls: Any) -> str:
    package, of, *_ = cls.__module__.split(".")
    return f"`{package}/{of}/{cls.__name__}`"


def _all(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _meaning(name: str) -> str:
    if name.endswith("/stages"):
        return "how long the stages of its ticks take [µs], once a second where somebody listens"
    if name not in MEANINGS:
        raise KeyError(f"{name}: expected a meaning in MEANINGS of scripts/reference.py")
    return MEANINGS[name]


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--check", action="store_true")
    a = p.parse_args()
    bad = 0
    for path, make in ((PARAMETERS, parameters), (GRAPH, graph)):
        text = make()
        if a.check:
            same = path.is_file() and path.read_text() == text
            bad += not same
            print(f"{path.relative_to(ROOT)}: {'as it should be' if same else 'run scripts/reference.py'}")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
