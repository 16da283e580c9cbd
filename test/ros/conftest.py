"""Tests over real DDS: skipped, with the reason, where ROS 2 or the built messages are missing."""
import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MISSING = next((name for name in ("rclpy", "mbrl_ros.msg") if importlib.util.find_spec(name) is None), None)
LOST = "failed to send response"  # a busy machine; whoever asked asks again
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_collection_modifyitems(items):
    """Everything in this folder is marked `ros`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("ros")
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{LOST}:RuntimeWarning"))


def pytest_report_header():
    """Say why nothing of this folder is collected."""
    return f"test/ros: left out, {MISSING} cannot be imported" if MISSING else None


@pytest.fixture(scope="session")
def ros():
    """rclpy, for the whole run."""
    from mbrl_ros.nodes import spin

    spin.init([])
    yield
    import rclpy

    rclpy.try_shutdown()


@pytest.fixture
def rig(ros):
    """Makes rigs, and closes them."""
    from rig import Rig

    rigs = []

    def make(*kinds, **arguments):
        rigs.append(Rig(*kinds, **arguments))
        return rigs[-1]

    yield make
    for made in rigs:
        made.close()
