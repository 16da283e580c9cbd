"""The ring as a person starts it, what is said on it, and what becomes of it when a process of it gets a signal."""
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped
from mbrl_ros.msg import EffortCommand, Status
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import domain, spin, topics
from mbrl_ros.ring import baton

ROOT = Path(__file__).parents[2]
RUNNER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService(argv=sys.argv[2:])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=[a.split(":=") for a in sys.argv[2:]])]))
sys.exit(service.run())
"""
WAYS = {"bringup": ["-m", "mbrl_ros.nodes", "bringup"],
        "launch_ros": ["-c", RUNNER, str(ROOT / "launch" / "bringup.launch.py")]}
MISSING = pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="launch_ros cannot be imported: it "
                             "comes with a ROS 2 distribution, not with its wheels")
UNNOTICED = ("logger", "standing")  # the arm moves on without them
PERIOD = 0.02  # [s] of planar2
MOVING = 0.05  # [m/s] that the tool is fast, at least, at the signal
SOON = 300_000_000  # [ns] after the signal that it concerns
PATIENT = 120.0  # [s]


def nodes(pid):
    """Process ids of its children by name of the node."""
    found = {}
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            name = next((Path(word).name for word in words if word.endswith("_node")), None)
            found.update({} if name is None else {name.removesuffix("_node"): int(child)})
    except (FileNotFoundError, ProcessLookupError):  # it, or one of them, ends just now
        pass
    return found


class Witness:
    """What is said on the ring, by the robot's stamps."""

    def __init__(self):
        self.node = rclpy.create_node("witness")
        self._executor = spin.make_executor("auto")  # rclpy.spin_once would take a core from the ring
        self._executor.add_node(self.node)
        self.state, self.reason, self.since = "", "", 0
        self.answered, self.tools, self.speeds = [], [], []
        self._kinds, self._clients = {True: SetBool, False: Trigger}, {}
        hear = self.node.create_subscription
        hear(EffortCommand, topics.PASSED, lambda m: self.answered.append(read_stamp(m.header.stamp)), topics.KEEP)
        hear(PoseStamped, topics.TOOL, lambda m: self.tools.append(
            (read_stamp(m.header.stamp), np.array([m.pose.position.x, m.pose.position.y, m.pose.position.z]))),
            topics.KEEP)
        hear(JointState, topics.JOINTS, lambda m: self.speeds.append(
            (read_stamp(m.header.stamp), np.abs(m.velocity).max())), topics.KEEP_STATES)

        def said(message):
            self.state, self.reason, self.since = message.state, message.reason, read_stamp(message.header.stamp)

        hear(Status, topics.GUARD, said, topics.LATCHED)

    def spin(self, condition=lambda: False, seconds=PATIENT):
        end = time.monotonic() + seconds
        while not (held := condition()) and time.monotonic() < end:
            self._executor.spin_once(0.01)
        return held

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()

    def call(self, service, data=None):
        """Whether it did what it was asked to; a server may be another one, which has to be found first."""
        kind = self._kinds[data is not None]
        client = self._clients.setdefault(service, self.node.create_client(kind, service))
        for _ in range(20):
            if self.spin(client.service_is_ready, 10.0):
                future = client.call_async(kind.Request(**({} if data is None else {"data": data})))
                if self.spin(future.done, 3.0):
                    return future.result().success
        raise AssertionError(f"{service} does not answer")

    def moving(self):
        """Armed, excited, and on the way."""
        def on_the_way():
            if len(self.tools) < 2:
                return False
            (before, a), (after, b) = self.tools[-2:]
            return self.state == "armed" and np.linalg.norm(b - a) > 1e-9 * MOVING * (after - before)

        def again():
            self.call("guard/reset")
            if not (self.call("controller/excite") or self.call("controller/hold")) or not self.call("guard/arm", True):
                return False
            self.spin(lambda: self.state == "armed", 2.0)
            self.call("controller/excite")
            self.spin(lambda: self.state != "armed", 2.0)
            return self.state == "armed" and self.spin(on_the_way, 10.0)

        self.call("controller/hold")
        assert self.spin(again), (self.state, self.reason)


class Drill:
    """The ring, and one node after the other. `settings` are those of a params_file."""

    def __init__(self, launcher, folder, settings, priority=0):
        file, self.output = folder / "settings.yaml", folder / "output.txt"
        file.write_text(settings)
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *WAYS[launcher], "robot:=planar2", "prior:=gaussian", f"params_file:={file}",
                 f"log:={folder / 'recording'}", f"priority:={priority}"], cwd=ROOT, process_group=0, stdout=output,
                stderr=subprocess.STDOUT)
        self._baton = baton.Baton(baton.place(f"{domain.ring_name('')}_guard"))
        self.witness = Witness()

    def who(self, name):
        """Node and process of a name, of which two are parts that nodes play."""
        found = nodes(self.process.pid)
        acting = next((n for n in ("guard", "spare") if found.get(n) == self._baton.holder), "guard")
        other = {"guard": "spare", "spare": "guard"}[acting]
        node = {"acting": acting, "standing": other}.get(name, name)
        return node, found.get(node)

    def stands_by(self):
        """Whether two guards are there, and at work."""
        now = time.monotonic()
        return {"guard", "spare"} <= set(nodes(self.process.pid)) and now - self._baton.stood < 0.5

    def case(self, name, number, seconds):
        """Figures of one signal."""
        witness = self.witness
        assert witness.spin(self.stands_by), "nobody stands by"
        witness.moving()
        node, pid = self.who(name)
        for kept in (witness.answered, witness.tools, witness.speeds):
            del kept[:-3]
        began = time.time_ns()
        if number is None:
            witness.call("guard/arm", False)
        else:
            os.kill(pid, number)
        if name in UNNOTICED:
            witness.spin(lambda: witness.state != "armed", min(seconds, 5.0))
        else:
            held = lambda: witness.state in ("hold", "fault", "stopped") and witness.since >= began  # noqa: E731
            assert witness.spin(held), witness.state
        state, reason, since = witness.state, witness.reason, witness.since
        ended = name == "acting" or number == signal.SIGKILL
        passed = lambda: witness.tools[-1][0] - began > 1e9 * seconds  # noqa: E731
        assert witness.spin(passed, seconds + PATIENT), f"the robot says nothing since {name}, {number}"
        back = witness.spin(lambda: not ended or (self.who(node)[1] not in (None, pid)), 30.0)
        if not ended and number is not None:
            os.kill(pid, signal.SIGCONT)
        robot = np.diff([s for s, _ in witness.speeds]).max()
        stamps = np.unique([s for s in witness.answered if 0 < s < began + SOON])
        (before, a), (last, b) = [tool for tool in witness.tools if tool[0] <= began][-2:]
        height, sinking = b[2], (a[2] - b[2]) / (last - before) * 1e12
        lowest = min(p[2] for s, p in witness.tools if s > began)
        late = [v for s, v in witness.speeds if s > began + 0.5e9 * seconds]
        return {"node": node, "part": name, "signal": number.name if number else "asked to hold",
                "state": state, "reason": reason,
                "said_after_ms": round((since - began) * 1e-6, 1) if state != "armed" else None,
                "periods_without_command": round(float(np.diff(stamps).max()) * 1e-9 / PERIOD, 2),
                "robot_paused_periods": round(float(robot) * 1e-9 / PERIOD, 2),
                "sank_mm": round(1e3 * float(height - lowest), 2) if state != "armed" else None,
                "sinking_mm_s": round(float(sinking), 1),
                "kept": witness.state == state, "speed_at_last": round(float(max(late)), 4), "back": bool(back)}

    def close(self):
        """Ctrl-C, as from a terminal; exit code and what was said. Repeated calls do nothing."""
        if self.process.returncode is not None:
            return self.process.returncode, self.output.read_text()
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            code = self.process.wait(60.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.witness.close()
        return code, self.output.read_text()


