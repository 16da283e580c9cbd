"""From a model file to a robot file: what is found, what is asked for, and that it runs."""
from __future__ import annotations

import io
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import yaml
from test_model_file import GRIPPER, PUBLIC, arm, public, urdf

from mbrl_ros import assembly, setup_robot
from mbrl_ros.config import ConfigError, Names, from_mapping
from mbrl_ros.robot import Config, Robot
from mbrl_ros.setup_robot import set_up

MOTORS = '<actuator><motor joint="a" ctrlrange="-40 40"/><motor joint="b" ctrlrange="-15 15"/></actuator>'


def file_of(tmp_path, text, name="arm.xml"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_joints_tool_and_limits_are_those_of_the_file(tmp_path):
    made = set_up(file_of(tmp_path, arm(hand=GRIPPER, after=MOTORS)))
    robot = made.settings["robot"]
    assert robot["joints"] == ["a", "b"] and robot["sites"] == ["tool"] and robot["effort_limit"] == [40.0, 15.0]
    assert [line for line in made.assumed if line.startswith("velocity_limit of a: 2 rad/s, which the file does not")]
    assert made.settings["guard"] == {"gravity": "model"}
    of_urdf = set_up(file_of(tmp_path, urdf(), "arm.urdf"), tool="payload").settings["robot"]
    assert of_urdf["joints"] == ["a", "b"] and of_urdf["velocity_limit"] == [3.0, 4.0]
    assert of_urdf["base_frame"] == ElementTree.fromstring(urdf()).find("link").get("name")  # its first is its root


def test_what_the_file_does_not_say_is_asked_for_by_name(tmp_path):
    asked = {}

    def ask(name, unit, proposal):
        asked[name] = unit
        return 2 * proposal

    given = set_up(file_of(tmp_path, arm()), ask).settings["robot"]
    proposed = set_up(file_of(tmp_path, arm())).settings["robot"]
    assert asked == {f"{limit} of {joint}": unit for joint in "ab"
                     for limit, unit in (("effort_limit", "N m"), ("velocity_limit", "rad/s"))}
    assert given["velocity_limit"] == [4.0, 4.0] and np.allclose(given["effort_limit"], 2 * np.array(
        proposed["effort_limit"]))
    heaviest = 9.81 * (2 * 0.15 + 1 * 0.45)  # stretched out
    assert heaviest < proposed["effort_limit"][0] < 6 * heaviest


def test_without_a_terminal_it_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert setup_robot.main([file_of(tmp_path, arm())]) == 2
    said = capsys.readouterr().err
    assert said.startswith("setup: effort_limit of a: not in the model file; expected an answer, or --yes for")
    assert said.count("\n") == 1


def test_the_file_that_is_written_is_a_robot_whose_hold_is_stable(tmp_path, capsys):
    path = tmp_path / "robots" / "mine.yaml"
    assert setup_robot.main([file_of(tmp_path, arm(after=MOTORS)), "--yes", "--output", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"ros2 run mbrl_ros demo --robot {path}" in said and "Assumed:" in said
    settings = assembly.settings(Names(robot=str(path), prior="none"))
    robot, plant, estimator, _, controller = assembly.make_parts(settings, 100)
    assert robot.has_gains and np.isfinite(robot.deceleration).all()
    seen, strays = plant.reset(100), 0.0
    controller.request("hold")
    for _ in range(round(2.0 / robot.period)):
        state = estimator.update(seen)
        effort = controller.act(state, None)
        estimator.commanded(effort)
        seen = plant.step(effort)
        strays = max(strays, np.abs(plant.true_state()[0] - robot.home).max())
    assert strays < 0.05 and (np.abs(plant.true_state()[1]) < 0.1 * robot.velocity_limit).all()


def test_home_is_a_keyframe_or_within_the_ranges_and_free_of_contacts(tmp_path):
    key = '<keyframe><key name="other" qpos="0 0"/><key name="home" qpos="0.4 -0.9"/></keyframe>'
    assert set_up(file_of(tmp_path, arm(after=MOTORS + key))).settings["robot"]["home"] == [0.4, -0.9]
    shelf = '<geom type="box" pos="0.3 0 -0.3" size="0.5 0.5 0.1"/>'
    made = set_up(file_of(tmp_path, arm(base=shelf, after=MOTORS))).settings
    robot = Robot(from_mapping(Config, made["robot"], "robot"))
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.home
    mujoco.mj_forward(robot.model, data)
    assert data.ncon == 0 and robot.model.nexclude == 0
    room = np.minimum(robot.home - robot.position_low, robot.position_high - robot.home)
    assert (room > setup_robot.SPREAD).all() and abs(robot.home[1]) > 0.2  # not stretched out


def test_a_load_that_is_too_much_is_not_put_into_the_hand(tmp_path):
    weak = '<actuator><motor joint="a" ctrlrange="-12 12"/><motor joint="b" ctrlrange="-5 5"/></actuator>'
    made = set_up(file_of(tmp_path, arm(after=weak)))
    load = made.settings["scenario"]["payload"]
    robot = Robot(from_mapping(Config, made.settings["robot"], "robot"))
    pull = np.abs(robot.weight(robot.home) + load * 9.81 * robot.tool(robot.home)[2][2])
    assert 0 <= load < 1 and (pull <= robot.effort_limit).all()
    assert "payload" not in set_up(file_of(tmp_path, arm(after=MOTORS.replace("40", "90").replace(
        "15", "60")))).settings.get("scenario", {})


def test_kinematics_alone_gives_a_robot_without_gains(tmp_path):
    made = set_up(file_of(tmp_path, urdf(inertial=""), "arm.urdf"), tool="payload")
    assert "stiffness" not in made.settings["robot"]
    assert made.assumed[-1] == "gains of the hold are not known; --probe finds them on the robot"
    quick = set_up(file_of(tmp_path, urdf(inertial=""), "arm.urdf"), tool="payload", rate=500.0)
    assert quick.settings["ensemble"] == {"steps": 0} and "ensemble" not in made.settings


def test_the_rate_is_the_first_that_will_do_and_no_faster_than_the_joint_states(tmp_path, monkeypatch):
    """Which rates a hold is stable at is the probe's to say (test_probe.py); here, who asks it and what is said."""
    tried = []

    def make_robot(settings):
        rate = round(1 / settings["robot"]["period"])
        tried.append(rate)
        if rate < slow:
            raise ConfigError(f"robot.period: {rate} Hz is too slow for b: expected 9 rad/s, as at 200 Hz")
        return real(settings)

    real = assembly.make_robot
    monkeypatch.setattr(assembly, "make_robot", make_robot)
    monkeypatch.setattr(setup_robot, "_with_excitation", lambda settings, said: settings)  # ten simulations more
    path = file_of(tmp_path, arm(after=MOTORS))
    slow = 50
    made = set_up(path)
    assert made.settings["robot"]["period"] == 0.02 and "ensemble" not in made.settings
    slow, tried[:] = 200, []
    made = set_up(path)
    assert tried[:2] == [50, 500] and made.settings["robot"]["period"] == 0.002
    assert made.settings["ensemble"] == {"steps": 0} and any("ensemble.steps" in line for line in made.assumed)
    assert "robot.period: 50 Hz is too slow for b: expected 9 rad/s, as at 200 Hz" in made.assumed
    tried.clear()
    assert set_up(path, slowest=0.005).settings["robot"]["period"] == 0.005 and tried[:2] == [50, 200]
    with pytest.raises(ConfigError, match="100 Hz is too slow for b"):
        set_up(path, slowest=0.01)


def test_xml_is_written_beside_the_robot_file(tmp_path):
    made = set_up(urdf(), tool="payload")
    setup_robot.write(made, tmp_path / "two.yaml", "robot_description")
    written = yaml.safe_load((tmp_path / "two.yaml").read_text())["/**"]["ros__parameters"]["robot"]
    assert written["model"] == "two.urdf" and (tmp_path / "two.urdf").read_text() == urdf()
    assert setup_robot.name_of(urdf()) == "two" and setup_robot.name_of("x/iiwa/robot.xml") == "iiwa"


@pytest.mark.parametrize("more, expected", [
    ({"tool": "hand"}, "no site or body 'hand' in the model; it has tool, upper, lower"),
    ({"joints": ["a", "c"]}, "no joint 'c' in the model; it has a, b"),
    ({"home": [0.0, 9.0]}, "robot.home: expected b within its range")])
def test_mistakes_are_one_line(tmp_path, more, expected):
    with pytest.raises(ConfigError, match=expected) as error:
        set_up(file_of(tmp_path, arm(after=MOTORS)), **more)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_arms_set_themselves_up(name):
    made = set_up(str(public() / PUBLIC[name][0])).settings
    robot = Robot(from_mapping(Config, made["robot"], "robot"))
    assert robot.has_gains and robot.m == {"panda": 7, "ur5": 6, "z1": 6}[name] and robot.period >= 0.002
