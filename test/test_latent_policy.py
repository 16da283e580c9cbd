"""A policy that sees: what it makes of pictures that are late, lost, frozen or of another size, and its file."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import make
from blobs import STEPS, WIDTH, blobs

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.camera import fitted, from_image, to_image
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.models.latent import LATENTS, Config, predicted_means
from mbrl_ros.ring.latent_filter import LatentFilter, state_names
from mbrl_ros.ring.latent_policy import NO_PICTURE, LatentPolicy
from mbrl_ros.ring.policy import PolicyPlayer, load, save
from mbrl_ros.types import Gaussian, LinearGaussianPolicy, Picture, StateEstimate, TimedPolicy

ROBOT = make("planar2")
H = round(1e9 * ROBOT.period)
SMALL = Config(size=2, passes=25, window=STEPS, batch=4, rate=1e-2)


@pytest.fixture(scope="module", params=LATENTS)
def model(request):
    data = blobs(24, 0)
    of = LATENTS[request.param].of(SMALL, data, np.ones(2), seed=1)
    of.fit(data, seed=1)
    return of


def policy_of(model, spread=None):
    rng, n = np.random.default_rng(3), 2 * SMALL.size
    policy = LinearGaussianPolicy(*(rng.standard_normal(shape) for shape in ((STEPS, n), (STEPS, 2), (STEPS, 2, n),
                                                                             (STEPS, 2))), np.zeros((STEPS, 2, 2)))
    return LatentPolicy.made(model, TimedPolicy(policy, ROBOT.period, state_names(n), ROBOT.joints, spread), ROBOT)


def state(time, effort, tool=0.0):
    x = np.zeros(ROBOT.n)
    x[ROBOT.slice(f"site/{ROBOT.sites[0]}/position")] = tool, 0.0, 0.0
    return StateEstimate(time, 0, 0, Gaussian(x, np.eye(ROBOT.n)), effort)


def effort_before(trial, t):
    return trial.u[0, t - 1] if t else np.zeros(2)


def test_what_it_sees_is_what_became_of_the_newest_picture_by_the_efforts_since(model):
    policy, trial, filter_ = policy_of(model), blobs(1, 7), LatentFilter(model, ROBOT.period)
    before = None
    for t in range(STEPS):
        effort = effort_before(trial, t)
        believed = filter_.update(Picture(t * H, trial.pictures[0, t], effort))
        policy.observe(state(t * H, effort))  # the picture of this moment comes after it
        policy.look(t * H, trial.pictures[0, t])
        if t > 0:
            ahead = predicted_means(model, torch.as_tensor(before.belief.mean), effort[None])[-1]
            assert not policy.blind and np.allclose(policy.z, ahead)
            u, Sigma = policy.act(np.zeros(ROBOT.n), t)
            p = policy._linear.policy
            assert np.allclose(u, p.u_hat[t] + p.K[t] @ (ahead.numpy() - p.x_hat[t]) + p.k[t]) and not Sigma.any()
        before = believed
    policy.observe(state(STEPS * H, effort_before(trial, STEPS)))
    policy.observe(state((STEPS + 1) * H, np.ones(2)))  # two periods after the newest picture
    efforts = np.stack([effort_before(trial, STEPS), np.ones(2)])
    assert np.allclose(policy.z, predicted_means(model, torch.as_tensor(before.belief.mean), efforts)[-1])


def test_a_picture_that_is_there_in_time_is_what_it_sees(model):
    policy, trial, filter_ = policy_of(model), blobs(1, 7), LatentFilter(model, ROBOT.period)
    for t in range(STEPS):
        believed = filter_.update(Picture(t * H, trial.pictures[0, t], effort_before(trial, t)))
        policy.look(t * H, trial.pictures[0, t])
        policy.observe(state(t * H, effort_before(trial, t)))
        assert not policy.blind and np.allclose(policy.z, believed.belief.mean, atol=1e-6)


def test_it_says_when_no_picture_has_come_and_when_they_stop_coming_and_sees_again_after(model):
    policy, trial = policy_of(model), blobs(1, 7)
    policy.observe(state(0, np.zeros(2)))
    assert policy.blind == NO_PICTURE
    for t in range(1, 4):
        policy.look(t * H, trial.pictures[0, t])
        policy.observe(state(t * H, trial.u[0, t - 1]))
        assert not policy.blind
    said = []
    for t in range(4, 8):
        policy.observe(state(t * H, trial.u[0, t - 1]))
        said.append(policy.blind)
    assert said == ["", "", f"no picture for {3 * ROBOT.period:.3g} s", f"no picture for {4 * ROBOT.period:.3g} s"]
    policy.look(8 * H, trial.pictures[0, 8])
    policy.observe(state(8 * H, trial.u[0, 7]))
    assert not policy.blind


def test_a_camera_that_shows_the_same_again_is_found_out_where_the_tool_moves_and_only_there(model):
    trial = blobs(1, 7)
    for moves in (True, False):
        policy, said = policy_of(model), []
        for t in range(9):
            policy.look(t * H, trial.pictures[0, min(t, 4)].copy())
            policy.observe(state(t * H, effort_before(trial, t), 0.007 * (t if moves else min(t, 4))))
            said.append(policy.blind)
        seconds = 2 * ROBOT.period
        assert not any(said[:6]) and said[6] == (
            f"the camera shows the same picture for {seconds:.3g} s, in which the tool moved by 14 mm" if moves else "")
        assert all(said[6:]) == any(said[6:]) == moves
        policy.look(9 * H, trial.pictures[0, 9])
        policy.observe(state(9 * H, effort_before(trial, 9), 0.063))
        assert not policy.blind


def test_the_one_that_is_played_still_sees_once_there_is_a_next_one(model):
    player, trial = PolicyPlayer(ROBOT, 0), blobs(1, 7)
    player.policy = played = policy_of(model)
    player.start(state(0, np.zeros(2)))
    player.policy = following = policy_of(model)
    for t in range(4):
        player.look(t * H, trial.pictures[0, t])
        player.observe(state(t * H, effort_before(trial, t)))
    assert not played.blind and not following.blind and np.array_equal(played.z, following.z)


def test_its_file_is_played_the_same_and_refused_where_it_is_not_whole(model, tmp_path):
    policy, trial, path = policy_of(model, np.full((STEPS, 2 * SMALL.size), 0.5)), blobs(1, 7), tmp_path / "seen.npz"
    save(policy, path)
    again = load(path, ROBOT)
    assert isinstance(again, LatentPolicy) and again.horizon == STEPS
    for of in (policy, again):
        for t in range(3):
            of.look(t * H, trial.pictures[0, t])
            of.observe(state(t * H, effort_before(trial, t)))
    x = np.zeros(ROBOT.n)
    assert np.array_equal(policy.act(x, 2)[0], again.act(x, 2)[0]) and policy.distance(x, 2) == again.distance(x, 2) > 0
    arrays = dict(np.load(path))
    for name, value, words in (("weight/C", arrays["weight/C"] * np.nan, "finite numbers of a latent model"),
                               ("weight/C", arrays["weight/C"][:, :1], "expected the weights of"),
                               ("latent", np.array("dream"), "kind single_step, solar, got 'dream'"),
                               ("period", np.array(0.5), "made for a period of 0.5 s")):
        np.savez(tmp_path / "bad.npz", **{**arrays, name: value})
        with pytest.raises(ConfigError, match=words):
            load(tmp_path / "bad.npz", ROBOT)
    with pytest.raises(ConfigError, match="joints"):
        load(path, make("planar3"))


def test_a_picture_of_another_size_or_in_colour_is_fitted():
    small = blobs(1, 7).pictures[0, 3]
    large = np.repeat(np.repeat(small, 4, 0), 4, 1)
    wide = np.pad(large, ((0, 0), (20, 20), (0, 0)))
    for given in (small, large, wide, np.repeat(wide, 3, -1)):
        assert np.array_equal(fitted(given, WIDTH, 1), small)
    assert np.array_equal(fitted(large, WIDTH, 3), np.repeat(small, 3, -1))
    red = np.zeros((WIDTH, WIDTH, 3), np.uint8)
    red[..., 0] = 200
    assert np.array_equal(fitted(red, WIDTH, 1), np.full((WIDTH, WIDTH, 1), round(0.299 * 200)))
    for bad in (small[..., 0], small.astype(float), small[:0], np.repeat(small, 2, -1)):
        with pytest.raises(MessageError, match="expected rows x columns x 1 or 3"):
            fitted(bad, WIDTH, 1)


class Image:
    """As sensor_msgs has it."""

    def __init__(self):
        self.header = type("Header", (), {"stamp": type("Time", (), {"sec": 0, "nanosec": 0})(), "frame_id": ""})()


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_holds_the_picture_and_others_are_read_or_refused(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, channels), np.uint8)
    message = to_image(Image, pixels, 5 * H)
    time, again = from_image(message)
    assert time == 5 * H and np.array_equal(again, pixels)
    wide = np.pad(pixels.reshape(4, -1), ((0, 0), (0, 3)))
    message.step, message.data = wide.shape[1], wide.tobytes()
    assert np.array_equal(from_image(message)[1], pixels)
    if channels == 3:
        message.encoding = "bgr8"
        assert np.array_equal(from_image(message)[1], pixels[..., ::-1])
    message.encoding = "16UC1"
    with pytest.raises(MessageError, match=r"expected an encoding of .*, got '16UC1'"):
        from_image(message)
    message.encoding, message.height = "mono8", 5
    with pytest.raises(MessageError, match="expected 5 rows of 6 pixels"):
        from_image(message)
