"""Layout of x, kinematics against finite differences, and errors that name the valid choices."""
from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import yaml
from arms import make
from checks import check_jacobian

from mbrl_ros.config import ConfigError
from mbrl_ros.robot import set_payload
from mbrl_ros.types import LinearGaussianDynamics


@pytest.mark.parametrize("name", ["arm", "arm4", "arm6", "planar2", "pendulum"])
def test_layout_covers_x_once(name):
    robot = make(name, effort_history=2)
    blocks = ["joint/position", "joint/velocity", "site/tool/position", "site/tool/velocity", "effort/1", "effort/2"]
    covered = np.concatenate([np.arange(robot.n)[robot.slice(b)] for b in blocks])
    assert np.array_equal(covered, np.arange(robot.n))
    assert robot.state_names[robot.slice("effort/2")][0] == f"effort/2/{robot.joints[0]}"


@pytest.mark.parametrize("name", ["arm", "arm4", "arm6", "planar2"])
def test_the_velocity_of_the_tool_and_the_derivative_of_kinematics_are_finite_differences(name):
    robot, rng = make(name), np.random.default_rng(0)
    q, qd = robot.home + rng.uniform(-0.3, 0.3, robot.m), rng.standard_normal(robot.m)
    motion, G = robot.kinematics(q, qd)
    eps = 1e-6
    ahead, behind = robot.tool_position(q + eps * qd), robot.tool_position(q - eps * qd)
    assert np.allclose(motion[3:], (ahead - behind) / (2 * eps), atol=1e-8)  # eps^2 times curvature
    s = torch.as_tensor(np.concatenate([q, qd]))
    check_jacobian(lambda s: torch.as_tensor(robot.kinematics(*s.numpy().reshape(2, -1))[0]), s, torch.as_tensor(G))


def test_lifted_dynamics_move_the_sites_with_the_joints():
    """Exact where they were expanded, right to first order beside it, and as uncertain as the joints are."""
    robot, rng = make("arm"), np.random.default_rng(1)
    rows, m = robot.joint_rows, robot.m
    k = len(rows)
    F, f, Sigma = 0.1 * rng.standard_normal((k, k + m)), rng.standard_normal(k), np.diag(rng.random(k))
    of_joints = LinearGaussianDynamics(F, f, Sigma)
    z, u = rng.standard_normal(k), rng.standard_normal(m)

    def exact(zu):
        z_next = F @ zu + f
        x = np.empty(robot.n)
        x[rows] = z_next
        x[2 * m : 2 * m + 6] = robot.kinematics(z_next[:m], z_next[m : 2 * m])[0]
        return x

    lifted, point = robot.lift(of_joints, z, u), np.concatenate([z, u])
    F_x = lifted.F[:, [*rows, *range(robot.n, robot.n + m)]]
    assert np.allclose(F_x @ point + lifted.f, exact(point), atol=1e-12)
    check_jacobian(lambda zu: torch.as_tensor(exact(zu.numpy())), torch.as_tensor(point), torch.as_tensor(F_x))
    assert not lifted.F[:, 2 * m : 2 * m + 6].any()
    G = robot.kinematics(*(F @ point + f)[: 2 * m].reshape(2, m))[1]
    sites = slice(2 * m, 2 * m + 6)
    assert np.allclose(lifted.Sigma[sites, sites], G @ Sigma[: 2 * m, : 2 * m] @ G.T, atol=1e-12)
    assert np.allclose(lifted.Sigma[np.ix_(rows, rows)], Sigma)


def test_variation_changes_lengths_masses_and_damping():
    plain, varied, other = make("arm"), make("arm", variation=0.4, variation_seed=1), make("arm", variation=0.4)
    for name in ("body_pos", "body_mass", "dof_damping"):
        a, b = getattr(plain.model, name), getattr(varied.model, name)
        changed = np.abs(a) > 1e-6
        ratio = b[changed] / a[changed]
        assert 0.6 <= ratio.min() and ratio.max() <= 1.4 and ratio.std() > 0.05
        assert not np.allclose(b, getattr(other.model, name))


def test_payload_is_weightless_until_set_and_then_weighs_what_it_should():
    robot = make("arm")
    data = mujoco.MjData(robot.model)
    data.qpos[robot.qpos] = robot.home
    efforts = []
    for mass in (0.0, 2.0):
        set_payload(robot.model, mass)
        mujoco.mj_inverse(robot.model, data)
        efforts.append(data.qfrc_inverse[robot.dofs].copy())
    jacobian = robot.kinematics(robot.home, np.zeros(robot.m))[1][:3, : robot.m]
    assert np.allclose(efforts[1] - efforts[0], jacobian.T @ [0, 0, 2.0 * 9.81], atol=1e-6)


@pytest.mark.parametrize("settings, expected", [
    ({"joints": ["shoulder", "wrist"]}, "no joint 'wrist' in the model; it has shoulder, elbow"),
    ({"sites": ["hand"]}, "no site or body 'hand' in the model; it has tool, upper, lower"),
    ({"model": "nowhere.xml"}, "no file 'nowhere.xml'; expected an MJCF or URDF"),
    ({"home": [0.0]}, "robot.home: expected 2 values, one per joint, got 1"),
    ({"joints": []}, "name at least one of shoulder, elbow"),
    ({"joints": ["elbow", "elbow"]}, r"robot\.joints: expected every joint once, got 'elbow' 2 times"),
    ({"sites": []}, r"robot\.sites: expected at least one name"),
    ({"home": [0.0, 3.0]}, r"robot\.home: expected elbow within its range, -?[\d.]+ to [\d.]+, got 3"),
    ({"effort_limit": [40.0, 0.0]}, r"robot\.effort_limit: expected values above 0, got \[40\.0, 0\.0\]"),
    ({"velocity_limit": [0.0, 4.0]}, r"robot\.velocity_limit: expected values above 0"),
    ({"tool_offset": [0.1]}, r"robot\.tool_offset: expected x, y, z \[m\], or .* got 1 values"),
    ({"home": 0.6}, r"robot\.home: expected a list, got 0\.6"),
    ({"home": [[0.6, 0.9]]}, r"robot\.home: expected a list of float, got list"),
    ({"home": ["a", "b"]}, r"robot\.home: expected a list of float, got str 'a'"),
    ({"joints": "elbow"}, r"robot\.joints: expected a list, got 'elbow'"),
    ({"period": "fast"}, r"robot\.period: expected float, got str 'fast'"),
])
def test_errors_name_what_was_expected(settings, expected):
    with pytest.raises(ConfigError, match=expected):
        make("planar2", **settings)


def test_a_number_that_yaml_takes_for_text_is_a_number():
    given = yaml.safe_load("{period: 2e-2, home: [6e-1, -1.e-1]}")
    assert given["period"] == "2e-2"  # else there is nothing to see to
    robot = make("planar2", **given)
    assert robot.period == 0.02 and robot.home.tolist() == [0.6, -0.1]


def test_malformed_model_file_is_one_line(tmp_path):
    path = tmp_path / "broken.xml"
    path.write_text("<mujoco><worldbody><body></mujoco>")
    with pytest.raises(ConfigError, match=r"robot\.model: .*broken\.xml") as error:
        make("planar2", model=str(path))
    assert "\n" not in str(error.value)


def test_urdf_is_a_robot(tmp_path):
    path = tmp_path / "one.urdf"
    path.write_text("""<robot name="one"><link name="base"/><link name="rod"><inertial><mass value="1"/>
        <origin xyz="0 0 -0.5"/><inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial></link>
        <joint name="hinge" type="revolute"><parent link="base"/><child link="rod"/><axis xyz="0 1 0"/>
        <limit lower="-1" upper="2" effort="5" velocity="3"/></joint></robot>""")
    robot = make("pendulum", model=str(path), joints=["hinge"], sites=["rod"], home=[0.2])
    assert robot.position_high == pytest.approx([2.0]) and robot.n == 2 + 6 + 1
