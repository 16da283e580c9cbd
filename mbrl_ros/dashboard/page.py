"""The panel beside the scene: what the ring is in and why, buttons, plots."""
from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mbrl_ros.dashboard.series import Series
from mbrl_ros.dashboard.server import LocalServer
from mbrl_ros.messages.belief import Belief

COLORS = ("#2654a3", "#ec8514", "#22a054", "#8a4fbf", "#cc332e", "#3aa6b9", "#8c6d31", "#6b7280")
GOOD, BAD, NEUTRAL = "#22a054", "#cc332e", "#6b7280"
SHADES = {"armed": GOOD, "reach": GOOD, "excite": GOOD, "policy": GOOD, "fault": BAD, "stopped": BAD}
BUTTONS = {  # label: (service, what it is given, hint)
    "Arm": ("guard/arm", True, "commands reach the robot from now on"),
    "Disarm": ("guard/arm", False, "the guard holds the robot"),
    "Reset": ("guard/reset", None, "leave a fault or an emergency stop; the guard holds"),
    "Hold": ("controller/hold", None, "stay where the arm is"),
    "Home": ("controller/home", None, "move to robot.home"),
    "Reach": ("controller/reach", None, "plan to the target"),
    "Excite": ("controller/excite", None, "move to learn"),
    "Fit": ("learner/fit", None, "fit a model to the latest motion, beside the ring"),
    "Stop": ("controller/stop", None, "the controller asks for nothing; the guard holds"),
}
GROUPS = {"guard": ["Arm", "Disarm", "Reset"], "stand still": ["Hold", "Home", "Stop"],
          "learn and act": ["Excite", "Fit", "Reach"]}
ESTOP = ("guard/estop", None)
PLOTS: dict[str, tuple[list[tuple[str, str]], float]] = {  # title: name and label of each curve, factor
    "Tool [mm]": ([("distance", "to the target"), ("path_error", "to the path")], 1e3),
    "Tool, predicted a step ahead [mm]": ([("prediction_miss", "missed by"), ("prediction_band", "95 % band")], 1e3),
    "Weight in the local model [transitions]": ([("prior_weight", "prior"), ("data_weight", "data")], 1.0),
    "Trust in the model": ([("trust", "trust")], 1.0),
    "Time of a tick [ms]": ([("tick_time", "controller"), ("solve_time", "of it planning"), ("period", "period")], 1e3),
}
HEIGHT = 150  # [px] of a plot
FIRST = 1e6  # its order among what is in a tab: after what is there from the start


class Page:
    """Shows what it is told; `ask(service, value)` is called where a button was pressed, from the server's loop,
    so it must not wait."""

    def __init__(self, server: LocalServer, joints: Sequence[str], ask: Callable[[str, bool | None], None], title: str):
        self._gui, self._joints, self._ask = server.gui, list(joints), ask
        self._numbers, self._per_joint, self._terms = Series(), Series(), Series()
        self._plots: dict[str, Any] = {}
        gui = self._gui
        gui.configure_theme(control_width="large", show_logo=False, show_share_button=False, brand_color=(38, 84, 163))
        gui.main_panel.dock_right()
        self._states = {name: gui.add_html(_state(name, "silent", "nothing heard of it yet"))
                        for name in ("controller", "guard", "learner")}
        for group, labels in GROUPS.items():
            self._buttons(group, labels)
        stop = gui.add_button("EMERGENCY STOP", color="red", hint="the guard brakes and holds until Reset")

        @stop.on_click
        async def pressed(_: Any) -> None:
            ask(*ESTOP)

        self._line = gui.add_html(_line(f"{title}. Drag the target and let it go to send it."))
        tabs = gui.add_tab_group()
        self._watch, self._of_joint, times, self.settings = (tabs.add_tab(name) for name in
                                                             ("Watch", "Joints", "Times", "Settings"))
        with self._watch:
            self._quiet = gui.add_markdown("_No curves yet: the controller has to hear states._")
        with self._of_joint:
            self._joint = gui.add_dropdown("joint", self._joints, initial_value=self._joints[0])
            self._waiting = gui.add_markdown("_Nothing predicted yet: the ring has to run._")
        with times:
            self._stages = gui.add_html(_line("No node has said yet how long it takes."))

    def _buttons(self, name: str, labels: list[str]) -> None:
        hint = "; ".join(f"{label}: {BUTTONS[label][2]}" for label in labels)
        group = self._gui.add_button_group(name, labels, hint=hint)

        @group.on_click
        async def pressed(_: Any) -> None:
            self._ask(*BUTTONS[group.value][:2])

    # --- what is told

    def state(self, node: str, state: str, reason: str) -> None:
        """What a node is in, and why."""
        self._states[node].content = _state(node, state, reason)

    def say(self, text: str, good: bool = True) -> None:
        """A line about what was asked for last."""
        self._line.content = _line(text, good)

    def believe(self, belief: Belief) -> None:
        """Newest numbers of the controller; drawn by `draw`."""
        time = 1e-9 * belief.time
        self._numbers.add(time, belief.numbers)
        self._terms.add(time, belief.terms)
        self._per_joint.add(time, {f"{name}/{joint}": float(value) for name, values in belief.per_joint.items()
                                   for joint, value in zip(belief.joints, values, strict=True)})

    def draw(self) -> None:
        """Bring the plots up to date."""
        for title, (curves, factor) in PLOTS.items():
            columns = self._numbers.columns([name for name, _ in curves], factor)
            self._plot(title, [label for _, label in curves], columns)
        terms = list(self._terms.newest)
        self._plot("Cost of the plan by term", terms, self._terms.columns(terms))
        joint = self._joint.value
        of = [f"{name}/{joint}" for name in ("position", "predicted_position")]
        self._plot("Position [rad or m]", ["measured", "predicted a step before"], self._per_joint.columns(of), True)
        difference = self._per_joint.columns([*of, f"position_band/{joint}"], 1e3)
        if difference is not None:
            time, measured, predicted, band = difference
            difference = time, measured - predicted, band, -band
        sides = ["difference", "95 % band", "its other side"]
        self._plot("Measured less predicted [mrad or mm]", sides, difference, True)
        self._plot("Effort [N m or N]", ["commanded"], self._per_joint.columns([f"effort/{joint}"]), True)

    def _plot(self, title: str, labels: list[str], columns: tuple[Any, ...] | None, of_joint: bool = False) -> None:
        """A plot, made when there is something to draw and made anew when its curves are others; hidden else."""
        plot = self._plots.get(title)
        if columns is None:
            if plot is not None and plot.visible:
                plot.visible = False
            return
        if plot is not None and len(plot.series) == len(columns):
            plot.data = columns
            if not plot.visible:
                plot.visible = True
            return
        if plot is not None:
            plot.remove()
        order = FIRST + (list(PLOTS).index(title) if title in PLOTS else len(PLOTS))
        (self._waiting if of_joint else self._quiet).visible = False
        colors = [COLORS[i % len(COLORS)] for i in range(len(labels))]
        if labels[-1] == "its other side":
            colors[-1] = colors[-2]
        series: Any = ({"label": "s"}, *({"label": label, "stroke": color, "width": 2, "points": {"show": False}}
                                         for label, color in zip(labels, colors, strict=True)))
        scales: Any = {"x": {"time": False}, **({"y": {"range": (0.0, 1.05)}} if labels == ["trust"] else {})}
        with self._of_joint if of_joint else self._watch:
            self._plots[title] = self._gui.add_uplot(columns, series, title=title, height=HEIGHT, scales=scales,
                                                     order=order, legend={"show": True, "live": False})

    def stages(self, by_node: Mapping[str, Mapping[str, float]], period: float) -> None:
        """How long the stages of the nodes take [us], beside the control period [s]."""
        rows = []
        for node, figures in by_node.items():
            for stage in dict.fromkeys(name.rpartition("_us_")[0] for name in figures):
                p50, p99, most = (1e-3 * figures.get(f"{stage}_us_{name}", np.nan) for name in ("p50", "p99", "max"))
                share = 0.1 * p99 / period
                rows.append(f"<tr><td>{html.escape(node)}</td><td>{html.escape(stage)}</td><td>{p50:.2f}</td>"
                            f"<td>{p99:.2f}</td><td>{most:.1f}</td><td><div style='height:0.7em;width:"
                            f"{min(share, 100):.0f}%;background:{BAD if share > 100 else COLORS[0]}'></div></td></tr>")
        head = "".join(f"<th style='text-align:left'>{name}</th>"
                       for name in ("node", "stage", "median ms", "99 %", "most"))
        self._stages.content = (f"<table style='width:100%;padding:0 0.75em;font-size:0.8em'><tr>{head}<th "
                                f"style='width:22%'>99 % of a period</th></tr>{''.join(rows)}</table>"
                                if rows else _line("No node has said yet how long it takes."))


def _state(node: str, state: str, reason: str) -> str:
    color = SHADES.get(state, NEUTRAL)
    return ("<div style='display:flex;align-items:baseline;gap:0.5em;padding:0 0.75em;font-size:0.9em;line-height:1.5'>"
            f"<b style='flex:0 0 5.5em'>{node}</b><b style='flex:none;color:white;background:{color};line-height:1.3;"
            f"border-radius:0.4em;padding:0 0.5em'>{html.escape(state)}</b><span>{html.escape(reason)}</span></div>")


def _line(text: str, good: bool = True) -> str:
    color = NEUTRAL if good else BAD
    return (f"<div style='margin:0 0.75em;padding:0.2em 0.6em;border-left:0.25em solid {color};font-size:0.9em'>"
            f"{html.escape(text)}</div>")
