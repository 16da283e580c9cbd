"""The page in a real browser, headless, against nodes that run: what is seen is so, what is pressed is done."""
import shutil
import socket
import time

import numpy as np
import pytest

pytest.importorskip("viser", reason="viser is the extra `dashboard`, in requirements-dev.txt")
pytest.importorskip("playwright", reason="playwright is in requirements-dev.txt")

from playwright import sync_api
from rig import PATIENT, RING, ControllerNode, GuardNode, PlantNode

from mbrl_ros.nodes.dashboard_node import DashboardNode
from mbrl_ros.nodes.learner_node import LearnerNode

BROWSER = shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH; Debian's package of that name is one")
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, chromium_sandbox=False, args=SOFTWARE)
        yield browser
        browser.close()


class Visit:
    """A page that is open on a ring; the ring goes on while something is waited for."""

    def __init__(self, browser, rig):
        self.rig, self.requests = rig, []
        self.page = browser.new_page(viewport={"width": 900, "height": 600})
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"http://127.0.0.1:{rig[DashboardNode]._server.get_port()}")
        assert rig.spin(rig[DashboardNode]._server.get_clients), "the page did not connect"
        assert self.wait(lambda: self.text().count("EMERGENCY STOP"))

    def wait(self, condition, seconds=PATIENT):
        """Until the condition holds of the page, with the ring going on."""
        end = time.monotonic() + seconds
        while not (held := condition()) and time.monotonic() < end:
            self.rig.spin_for(0.2)
        return held

    def text(self):
        return self.page.locator("body").inner_text()

    def press(self, label):
        self.page.get_by_text(label, exact=True).first.evaluate("e => e.click()")

    def to_the_end(self, label):
        """Move a slider to its upper end, with the keyboard."""
        self.page.evaluate("""label => [...document.querySelectorAll('[role=slider]')].find(slider => {
            let place = slider;  // up to where its label is, and no other's
            while (!place.innerText || !place.innerText.includes(' = ')) place = place.parentElement;
            return place.innerText.trim().startsWith(label)}).focus()""", label)
        self.page.keyboard.press("End")

    def position(self, node):
        """Of a node of the scene, in the frame it is in, as it is drawn."""
        return np.array(self.page.evaluate("n => window.__viserMutable.nodeRefFromName[n].position.toArray()", node))

    def turn(self, node):
        """Likewise its quaternion."""
        return np.array(self.page.evaluate("n => window.__viserMutable.nodeRefFromName[n].quaternion.toArray()", node))

    def pixel(self, node, offset):
        """Where on the screen a point in the frame of a node is."""
        return self.page.evaluate("""([n, o]) => {
            const v = window.__viserMutable, p = v.nodeRefFromName[n].position.clone();
            p.set(...o); v.nodeRefFromName[n].localToWorld(p); p.project(v.camera);
            const r = v.canvas.getBoundingClientRect();
            return [r.left + (p.x + 1) / 2 * r.width, r.top + (1 - p.y) / 2 * r.height]}""", [node, offset])


@pytest.fixture
def visit(rig, chromium):
    made = rig(*RING, DashboardNode, dashboard__port=free_port(), excitation__duration=6.0)
    visit = Visit(chromium, made)
    yield visit
    visit.page.close()


@pytest.mark.slow
def test_what_a_person_sees_and_does(visit):
    made, controller = visit.rig, visit.rig[ControllerNode].controller
    robot = made[PlantNode].robot
    last = "/arm/" + "/".join(str(robot.model.body(name).id) for name in ("upper", "lower"))

    # The arm moves as the robot does.
    before = visit.turn(last)
    visit.press("Excite")
    assert made.spin(lambda: controller.mode == "excite") and visit.wait(lambda: "excite" in visit.text())
    assert visit.wait(lambda: np.abs(visit.turn(last) - before).max() > 0.01)

    # Refusals come with their reason.
    visit.press("Reach")
    assert visit.wait(lambda: "no model has been fitted" in visit.text())

    # A model, a target by the mouse, and the way there.
    assert made.spin(lambda: made[LearnerNode].learner._stored >= 100)
    visit.press("Fit")
    assert visit.wait(lambda: "model 1" in visit.text())
    visit.press("Reach")
    assert visit.wait(lambda: controller.mode == "reach")
    start, grip = controller.mpc.target.copy(), visit.position("/target")
    way = [visit.pixel("/target", [0.0, 0.0, float(height)]) for height in np.linspace(0.12, 0.04, 5)]
    visit.page.mouse.move(*way[0])
    visit.page.mouse.down()
    for point in way[1:]:
        visit.page.mouse.move(*point)
        made.spin_for(0.2)
    assert np.array_equal(controller.mpc.target, start)  # not before it is let go
    visit.page.mouse.up()
    assert visit.wait(lambda: not np.array_equal(controller.mpc.target, start))
    assert controller.mpc.target[2] < grip[2] - 0.02
    assert visit.wait(lambda: np.linalg.norm(visit.position("/tool") - controller.mpc.target) < 0.01)
    assert visit.wait(lambda: "Cost of the plan by term" in visit.text())

    # Hold and the emergency stop act.
    visit.press("Hold")
    assert visit.wait(lambda: controller.mode == "hold")
    visit.press("EMERGENCY STOP")
    assert visit.wait(lambda: made[GuardNode].guard.state == "stopped" and "stopped" in visit.text())
    assert {request.split("/")[2].split(":")[0] for request in visit.requests
            if request.startswith(("http", "ws"))} == {"127.0.0.1"}


def test_a_slider_sets_a_parameter_and_a_refusal_shows_its_reason(visit):
    made = visit.rig
    node, page = made[ControllerNode], made[DashboardNode]
    visit.page.get_by_role("tab", name="Settings").click()
    name = "task.path.speed"
    assert visit.wait(lambda: ("controller", name) in page._sliders._controls)
    assert visit.wait(lambda: "path.speed = 0.4 m/s" in visit.text())
    visit.to_the_end("path.speed")
    assert visit.wait(lambda: node.get_parameter(name).value == 5.0) and "path.speed = 5 m/s" in visit.text()
    other = "controller.exploration"  # a node that refuses what a slider may ask for
    node.add_on_set_parameters_callback(refuse(other))
    present = node.get_parameter(other).value
    visit.to_the_end("controller.exploration")
    assert visit.wait(lambda: "exploration = 10 refused: not while a test looks" in visit.text())
    assert node.get_parameter(other).value == present
    assert visit.wait(lambda: f"exploration = {present:g}" in visit.text())


def refuse(name):
    from rcl_interfaces.msg import SetParametersResult

    def check(parameters):
        bad = any(parameter.name == name for parameter in parameters)
        return SetParametersResult(successful=not bad, reason="not while a test looks" if bad else "")

    return check
