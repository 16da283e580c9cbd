"""A new robot is two files, anywhere."""
import shutil

import pytest
from rig import RING, ROOT, ControllerNode, LearnerNode, PlantNode

from mbrl_ros.config import ConfigError


def drop(tmp_path):
    for suffix in ("xml", "yaml"):
        shutil.copy(ROOT / "test" / "ros" / f"three_joints.{suffix}", tmp_path)
    return str(tmp_path / "three_joints.yaml")


def test_ring_turns_with_a_robot_from_two_files(rig, tmp_path):
    made = rig(*RING, robot=drop(tmp_path), prior="none", controller__require_model=False)
    assert made[PlantNode].robot.joints == ("turn", "lift", "bend")
    for mode in ("hold", "excite", "reach"):
        assert made.call(f"controller/{mode}")[0]
        periods = made[PlantNode].pace.periods
        assert made.spin(lambda: made[PlantNode].pace.periods > periods + 30)  # noqa: B023
        assert made[ControllerNode].controller.mode == mode
    assert made[LearnerNode].learner._stored > 60


@pytest.mark.parametrize(("file", "old", "new", "words"), [
    ("xml", "</mujoco>", "", "three_joints.xml"),
    ("xml", 'name="bend"', 'name="crook"', "no joint 'bend' in the model; it has turn, lift, crook"),
    ("yaml", "joints: [turn, lift, bend]", "joints: [turn, lift", "cannot be read as YAML"),
    ("yaml", "ros__parameters", "ros_parameters", "expected a ROS parameter file"),
    ("yaml", "home: [0.2, -0.4, 0.8]", "home: [0.2]", "robot.home: expected 3 values, one per joint, got 1"),
    ("yaml", "sites: [hand]", "sites: [foot]", "no site or body 'foot'"),
    ("yaml", "period: 0.02", "peroid: 0.02", "robot.peroid: unknown setting; robot has model, joints"),
])
def test_files_that_cannot_be_used_are_refused_in_one_line(rig, tmp_path, file, old, new, words):
    path = drop(tmp_path)
    bad = tmp_path / f"three_joints.{file}"
    text = bad.read_text()
    assert old in text
    bad.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        rig(PlantNode, robot=path)
    assert words in str(caught.value) and "\n" not in str(caught.value)
