"""The page without a browser and without ROS: who may reach it, what its controls mean, what its scene holds."""
import asyncio
import socket
import time
import urllib.request

import msgspec
import mujoco
import numpy as np
import pytest
from arms import double_integrator, make

pytest.importorskip("viser", reason="viser is the extra `dashboard`, in requirements-dev.txt")

import viser
import viser._messages as viser_messages
import websockets
from viser import _viser as inside

from mbrl_ros.config import ConfigError
from mbrl_ros.dashboard.page import BUTTONS, GROUPS, Page
from mbrl_ros.dashboard.scene import ArmScene
from mbrl_ros.dashboard.series import Series
from mbrl_ros.dashboard.server import HOST, LocalServer
from mbrl_ros.dashboard.sliders import Sliders
from mbrl_ros.messages.ring import LocalModel
from mbrl_ros.nodes.parameters import Described
from mbrl_ros.types import Gaussian, LinearGaussianPolicy, Plan, StateEstimate

VERSION = f"viser-v{viser.__version__}"


def free_port():
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


@pytest.fixture
def server():
    made = LocalServer(free_port(), "test")
    yield made
    made.stop()


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return held


async def connected(server, origin):
    return await websockets.connect(f"ws://{HOST}:{server.get_port()}", origin=origin, subprotocols=[VERSION],
                                    max_size=None)


def own(server):
    return f"http://{HOST}:{server.get_port()}"


def test_only_this_machine_is_answered(server):
    with urllib.request.urlopen(own(server), timeout=20.0) as page:
        assert b"<html" in page.read()
    with pytest.raises(ConnectionRefusedError):  # an address of this machine that it would hear if it heard all
        socket.create_connection(("127.0.0.2", server.get_port()), 5.0)


@pytest.mark.parametrize("origin", ["https://example.com", "http://127.0.0.1:1", "null", None])
def test_pages_of_other_sites_are_turned_away(server, origin):
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
        asyncio.run(connected(server, origin))
    assert not server._websock_server._live_connections


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_its_own_page_is_heard(server, host):
    async def visit():
        async with await connected(server, f"http://{host}:{server.get_port()}"):
            assert await asyncio.to_thread(until, lambda: server._websock_server._live_connections)

    asyncio.run(visit())


def sent(message):
    """A message as the browser sends it."""
    return msgspec.msgpack.encode(message.as_serializable_dict([]))


def test_nobody_gets_a_tunnel_to_the_outside(server, monkeypatch):
    made, asked = [], []
    monkeypatch.setattr(inside, "ViserTunnel", lambda *of: made.append(of))
    monkeypatch.setattr(LocalServer, "request_share_url", recorded(LocalServer.request_share_url, asked))

    async def ask():
        async with await connected(server, own(server)) as connection:
            await connection.send(sent(viser_messages.ShareUrlRequest()))
            assert await asyncio.to_thread(until, lambda: asked)

    asyncio.run(ask())
    assert made == [] and server._share_tunnel is None


def recorded(method, calls):
    def call(self, *arguments, **named):
        calls.append(arguments)
        return method(self, *arguments, **named)

    return call


def test_a_busy_port_is_an_error(server):
    with pytest.raises(ConfigError, match=r"dashboard.port: \d+ cannot be had: Address already in use"):
        LocalServer(server.get_port(), "second")


def test_making_one_changes_nothing_for_other_servers(server):
    import websockets.asyncio.server as library

    assert library.serve.__module__ == "websockets.asyncio.server"


# --- controls


def parameter(value=0.4, low=0.0, high=2.0, logarithmic=False, name="task.path.speed"):
    return Described(name, value, "How fast", low, high, "m/s", logarithmic, ())


@pytest.mark.parametrize(("given", "at", "becomes"), [
    (parameter(), 1.234567, 1.23), (parameter(), 2.0, 2.0), (parameter(), 0.0, 0.0),
    (parameter(1.0, 1e-3, 1e3, True), 2.0, 100.0), (parameter(1.0, 1e-3, 1e3, True), -3.0, 1e-3),
    (parameter(1.0, 0.0, 1e6, True), -3.0, 0.0), (parameter(1e3, 0.0, 1e5, True), 5.0, 1e5)])
def test_sliders_give_what_they_say(server, given, at, becomes):
    moved = []
    sliders = Sliders(server, server.gui.add_tab_group().add_tab("Settings"), lambda *what: moved.append(what))
    sliders.show("controller", [given])
    control, _ = sliders._controls["controller", given.name]
    person(server, control, at)
    assert moved == [("controller", given.name, pytest.approx(becomes, rel=1e-9))]
    assert control.label == f"path.speed = {becomes:.4g} m/s"


def person(server, control, value):
    """Somebody moves a control: what viser does with a message of a browser."""
    from viser._gui_handles import GuiEvent

    control.value = value  # calls what follows with no client
    for call in control._impl.update_cb:
        asyncio.run(call(GuiEvent(client=object(), client_id=0, target=control)))


def test_what_python_moves_is_not_asked_for(server):
    moved = []
    sliders = Sliders(server, server.gui.add_tab_group().add_tab("Settings"), lambda *what: moved.append(what))
    sliders.show("controller", [parameter()])
    sliders.changed("controller", "task.path.speed", 0.7)
    time.sleep(0.2)  # callbacks come from another thread
    control, _ = sliders._controls["controller", "task.path.speed"]
    assert moved == [] and control.value == 0.7 and "0.7" in control.label
    sliders.show("controller", [parameter(name="task.other")])
    assert list(sliders._controls) == [("controller", "task.other")]


def test_every_button_has_a_place():
    assert sorted(label for labels in GROUPS.values() for label in labels) == sorted(BUTTONS)


def test_series_begin_with_numbers_and_forget():
    series = Series(seconds=10.0)
    for t in range(30):
        series.add(t, {"a": float(t), "b": float("nan") if t < 25 else 2.0 * t})
    time_, a, b = series.columns(["a", "b"], 10.0)
    assert np.array_equal(time_, [-4, -3, -2, -1, 0]) and np.array_equal(a, [250, 260, 270, 280, 290]) and b[-1] == 580
    assert len(series.columns(["a"])[0]) == 11 and series.columns(["c"]) is None and series.columns([]) is None
    series.add(0.0, {"a": 1.0})  # the clock went back
    assert series.columns(["a"]) is None


def test_the_page_escapes_what_others_say(server):
    page = Page(server, ["j"], lambda *_: None, "arm")
    page.say("<script>alert(1)</script>")
    page.state("guard", "fault", "a < b & <img src=x>")
    assert "<script>" not in page._line.content and "<img" not in page._states["guard"].content


# --- the scene


@pytest.fixture
def scene(server):
    aimed = []
    made = ArmScene(server, make("arm"), lambda *of: aimed.append(of))
    made.aimed_at = aimed
    return made


def test_bodies_stand_where_mujoco_has_them(scene):
    robot, data = scene.robot, mujoco.MjData(scene.robot.model)
    q = robot.home + 0.3
    scene.move(q)
    data.qpos[robot.qpos] = q
    mujoco.mj_forward(robot.model, data)
    poses = {0: np.eye(4)}
    for body in range(1, robot.model.nbody):
        local, R = np.eye(4), np.empty(9)
        mujoco.mju_quat2Mat(R, np.array(scene._bodies[body].wxyz))
        local[:3, :3], local[:3, 3] = R.reshape(3, 3), scene._bodies[body].position
        poses[body] = poses[int(robot.model.body_parentid[body])] @ local
        assert np.allclose(poses[body][:3, 3], data.xpos[body], atol=1e-4)
        assert np.allclose(poses[body][:3, :3].ravel(), data.xmat[body], atol=1e-4)
    assert np.allclose(scene._gizmo.position, robot.tool_position(q), atol=1e-3)  # the target waits at the tool


def gizmo(scene, server, phase, position, client=0):
    from viser._scene_handles import TransformControlsEvent

    scene._gizmo.position = tuple(position)
    for call in scene._gizmo._impl_aux.update_cb:
        asyncio.run(call(TransformControlsEvent(client=None, client_id=client, target=scene._gizmo, phase=phase)))


def test_a_target_is_sent_when_it_is_let_go_and_where_it_can_be_reached(scene, server, monkeypatch):
    monkeypatch.setattr(server, "get_clients", lambda: {0: object()})
    start = scene.robot.tool_position(scene.robot.home)
    gizmo(scene, server, "start", start)
    gizmo(scene, server, "update", start + 0.03)
    assert scene.aimed_at == []
    scene.move(scene.robot.home + 0.1)
    assert np.allclose(scene._gizmo.position, start + 0.03)  # a hand holds it
    gizmo(scene, server, "end", start + 0.05)
    ((point, beyond),) = scene.aimed_at
    assert np.allclose(point, start + 0.05) and beyond == 0.0
    for far in ([2.0, 0.0, 0.5], [0.4, 0.1, -0.5]):  # too far away, and below the floor
        gizmo(scene, server, "start", start)
        gizmo(scene, server, "end", np.array(far))
        point, beyond = scene.aimed_at[-1]
        assert beyond == pytest.approx(np.linalg.norm(point - far)) and beyond > 0.4 and point[2] > 0.0
        assert np.allclose(scene._gizmo.position, point) and np.linalg.norm(point) < 1.3


def test_a_browser_that_goes_away_while_it_drags_commands_nothing(scene, server):
    start = scene.robot.tool_position(scene.robot.home)
    gizmo(scene, server, "start", start)
    gizmo(scene, server, "end", start + 0.1)  # viser ends the drag of a client that is gone
    assert scene.aimed_at == [] and not scene._dragging


def test_the_plan_is_drawn_with_its_tube_and_taken_away(scene):
    robot, T = scene.robot, 20
    x = np.zeros(robot.n)
    x[: robot.m] = robot.home
    x[robot.slice("motion")][2 * robot.m :] = robot.kinematics(robot.home, np.zeros(robot.m))[0]
    states, gains = np.tile(x, (T + 1, 1)), np.zeros((T, robot.m, robot.n))
    policy = LinearGaussianPolicy(states[:-1], np.zeros((T, robot.m)), gains, np.zeros((T, robot.m)),
                                  np.zeros((T, robot.m, robot.m)))
    estimate = StateEstimate(0, 0, 0, Gaussian(x, 1e-6 * np.eye(robot.n)), np.zeros(robot.m))
    model = LocalModel(estimate, double_integrator(robot), robot.step, 40.0, 1.0, 1.0)
    scene.plan(Plan(policy, states, np.zeros((T, robot.m)), 1.0, "converged", 2), model)
    assert scene._tube.visible and np.asarray(scene._tube.batched_positions).shape == (T + 1, 3)
    widths = np.asarray(scene._tube.batched_scales).max(1)
    assert (np.diff(widths) > 0).all()  # the further ahead, the less is known
    scene.plan(None, None)
    assert not scene._tube.visible and not scene._planned.visible
