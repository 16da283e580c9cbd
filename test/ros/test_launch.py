"""bringup.launch.py under a real launch_ros, where one can be imported."""
import importlib.util
import subprocess
import sys
import time

import pytest
import rclpy
from rig import PATIENT, ROOT, end
from std_msgs.msg import Float64MultiArray

RUNNER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=[a.split(":=") for a in sys.argv[2:]])]))
sys.exit(service.run())
"""


@pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None,
                    reason="launch_ros cannot be imported: it comes with a ROS 2 distribution, not with its wheels")
def test_launch_file_starts_runs_and_stops(ros):
    path = ROOT / "launch" / "bringup.launch.py"
    process = subprocess.Popen([sys.executable, "-c", RUNNER, str(path), "robot:=planar2", "prior:=gaussian"],
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    probe = rclpy.create_node("launch_probe")
    commands = []
    probe.create_subscription(Float64MultiArray, "effort_controller/commands", commands.append, 10)
    try:
        deadline = time.monotonic() + 2 * PATIENT
        while len(commands) < 50 and process.poll() is None and time.monotonic() < deadline:
            rclpy.spin_once(probe, timeout_sec=0.1)
        assert len(commands) >= 50, f"exit code {process.poll()}"
        code, output, took = end(process)
        assert code in (0, -2) and "Traceback" not in output, output
        assert took < 10
    finally:
        process.kill()
        process.communicate()
        probe.destroy_node()
