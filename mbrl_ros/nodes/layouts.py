"""Layouts for Foxglove or Lichtblick and for PlotJuggler, from one list.

`python3 -m mbrl_ros.nodes.layouts` writes them.
A test compares the files with this list, and walks every path through the definitions of the messages.
"""
from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

from mbrl_ros.config import share
from mbrl_ros.nodes import topics

JOINTS, TERMS = range(7), range(8)  # of lists; curves that a robot or a task does not have stay empty
Curve = tuple[str, str]  # topic; path in the message: a.b[0]
PLOTS: dict[str, list[Curve]] = {  # in the order in which they are shown
    "tool: to target and path [m]": [(topics.BELIEF, "distance"), (topics.BELIEF, "path_error")],
    "tool: prediction missed by, 95 % band [m]": [(topics.BELIEF, "prediction_miss"),
                                                  (topics.BELIEF, "prediction_band")],
    "error of predictions (1: calibrated), trust": [(topics.BELIEF, "prediction_error"), (topics.BELIEF, "trust")],
    "weight of prior and data [transitions]": [(topics.BELIEF, "prior_weight"), (topics.BELIEF, "data_weight")],
    "cost of the plan by term": [(topics.BELIEF, f"term_costs[{i}]") for i in TERMS],
    "time of a tick and period [s]": [(topics.BELIEF, name) for name in ("tick_time", "solve_time", "receive_time",
                                                                          "publish_time", "period")],
    "joints: measured [rad or m]": [(topics.BELIEF, f"position[{i}]") for i in JOINTS],
    "joints: predicted a step before [rad or m]": [(topics.BELIEF, f"predicted_position[{i}]") for i in JOINTS],
    "efforts: asked for [N m or N]": [(topics.ASKED, f"effort[{i}]") for i in JOINTS],
    "efforts: passed on [N m or N]": [(topics.PASSED, f"effort[{i}]") for i in JOINTS],
}
STATES: list[Curve] = [(topics.MODE, "state"), (topics.GUARD, "state")]
SHOWN = [topics.PLAN_MARKERS, topics.PLAN_PATH, topics.TARGET, topics.REFERENCE]  # in 3D
COLORS = ("#2654a3", "#ec8514", "#22a054", "#8a4fbf", "#cc332e", "#3aa6b9", "#8c6d31", "#6b7280")


def foxglove() -> str:
    """The layout as JSON."""
    panels: dict[str, Any] = {
        "3D!arm": {"topics": {f"/{topic}": {"visible": True} for topic in SHOWN}, "layers": {"arm": {
            "layerId": "foxglove.Urdf", "instanceId": "arm", "label": "arm", "sourceType": "topic",
            "topic": f"/{topics.DESCRIPTION}", "visible": True, "order": 1}}},
        "StateTransitions!states": {"isSynced": True, "paths": [
            {"value": f"/{topic}.{path}", "timestampMethod": "receiveTime"} for topic, path in STATES]}}
    for i, (title, curves) in enumerate(PLOTS.items()):
        panels[f"Plot!{i}"] = {
            "title": title, "showLegend": True, "isSynced": True, "xAxisVal": "timestamp", "followingViewWidth": 20,
            "paths": [{"value": f"/{topic}.{path}", "label": path, "enabled": True, "timestampMethod": "receiveTime",
                       "color": COLORS[j % len(COLORS)]} for j, (topic, path) in enumerate(curves)]}
    plots = [name for name in panels if name.startswith("Plot!")]
    left = {"direction": "column", "first": "3D!arm", "second": "StateTransitions!states", "splitPercentage": 75}
    right = {"direction": "row", "first": _stacked(plots[::2]), "second": _stacked(plots[1::2])}
    layout = {"direction": "row", "first": left, "second": right, "splitPercentage": 40}
    return json.dumps({"configById": panels, "globalVariables": {}, "userNodes": {}, "playbackConfig": {"speed": 1},
                       "layout": layout}, indent=1) + "\n"


def _stacked(names: list[str]) -> Any:
    """Panels of the same height, one below the other."""
    if len(names) == 1:
        return names[0]
    return {"direction": "column", "first": names[0], "second": _stacked(names[1:]),
            "splitPercentage": round(100 / len(names))}


def plotjuggler() -> str:
    """The layout as XML: two plots in a tab."""
    root: Any = ElementTree.Element("root")
    window: Any = ElementTree.SubElement(root, "tabbed_widget", {"parent": "main_window", "name": "Main Window"})
    titles = list(PLOTS)
    for first in range(0, len(titles), 2):
        pair = titles[first : first + 2]
        tab = ElementTree.SubElement(window, "Tab", tab_name=pair[0].partition(" [")[0], containers="1")
        splitter = ElementTree.SubElement(ElementTree.SubElement(tab, "Container"), "DockSplitter", orientation="-",
                                          count=str(len(pair)), sizes=";".join(["0.5"] * len(pair)))
        for title in pair:
            area = ElementTree.SubElement(splitter, "DockArea", name=title)
            plot = ElementTree.SubElement(area, "plot", mode="TimeSeries", style="Lines", flip_x="false",
                                          flip_y="false")
            for j, (topic, path) in enumerate(PLOTS[title]):
                ElementTree.SubElement(plot, "curve", name=f"/{topic}/{path.replace('.', '/')}",
                                       color=COLORS[j % len(COLORS)])
    ElementTree.SubElement(window, "currentTabIndex", index="0")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


FILES = {"foxglove.json": foxglove, "plotjuggler.xml": plotjuggler}


def main() -> int:
    """Write the files."""
    for name, make in FILES.items():
        (share() / "layouts" / name).write_text(make())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
