"""What the tests of the nodes share: nodes on one executor with a probe beside them, and nodes as processes."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.messages.fields import read_stamp
from mbrl_ros.nodes import spin, topics
from mbrl_ros.nodes.controller_node import ControllerNode
from mbrl_ros.nodes.estimator_node import EstimatorNode
from mbrl_ros.nodes.guard_node import GuardNode
from mbrl_ros.nodes.learner_node import LearnerNode
from mbrl_ros.nodes.plant_node import PlantNode

ROOT = Path(__file__).parents[2]
RING = (PlantNode, EstimatorNode, LearnerNode, ControllerNode, GuardNode)
UNHEARD = 5.0  # [s] before a service is called again
PATIENT = 200.0  # [s] other work may keep the machine busy; what is waited for takes milliseconds otherwise
AGE = 60.0  # [s] of a state or command, likewise
SMALL = {"robot": "planar2", "prior": "gaussian", "plant.pace": "lockstep", "guard.state_age": AGE,
         "guard.command_age": AGE}


def overrides(**parameters):
    """Parameters; `plant__pace` is plant.pace."""
    return [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]


class Rig:
    """Nodes of these kinds and a probe, all in this process. Parameters: the small robot in lock-step, unless given; or
    none at all but those that `only_arguments` of ROS give."""

    def __init__(self, *kinds, executor="single", namespace="", only_arguments=(), **parameters):
        self.executor = spin.make_executor(executor)
        self.given = {**SMALL, **{name.replace("__", "."): value for name, value in parameters.items()}}
        self.given.setdefault("guard.arm_at_start", self.given["plant.pace"] == "lockstep")
        self.nodes = {}
        for kind in kinds:
            given = ({"cli_args": ["--ros-args", *only_arguments]} if only_arguments
                     else {"parameter_overrides": overrides(**self.given)})
            self.nodes[kind] = kind(namespace=namespace, **given)
        self.probe = rclpy.create_node("probe", namespace=namespace)
        self.heard, self._publishers, self._clients = {}, {}, {}
        for node in (*self.nodes.values(), self.probe):
            self.executor.add_node(node)

    def __getitem__(self, kind):
        return self.nodes[kind]

    def close(self):
        """Destroy everything; repeated calls do nothing."""
        if self.probe is None:
            return
        spin.close([*self.nodes.values(), self.probe], self.executor)
        self.probe = None

    def spin(self, condition, seconds=PATIENT):
        """Until the condition holds; its value."""
        end = time.monotonic() + seconds
        while not (held := condition()) and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
        return held

    def spin_for(self, seconds):
        """For so long."""
        self.spin(lambda: False, seconds)

    def listen(self, kind, topic, qos=topics.KEEP):
        """A list that fills with what is said from now on."""
        heard = self.heard.setdefault(topic, [])
        self.probe.create_subscription(kind, topic, heard.append, qos)
        assert self.spin(lambda: self.probe.count_publishers(topic)), f"nobody publishes {topic}"
        return heard

    def say(self, topic, message, qos=topics.KEEP):
        """Publish, once somebody listens."""
        if topic not in self._publishers:
            self._publishers[topic] = self.probe.create_publisher(type(message), topic, qos)
        publisher = self._publishers[topic]
        assert self.spin(publisher.get_subscription_count), f"nobody listens to {topic}"
        publisher.publish(message)

    def call(self, service, request=None):
        """Call a Trigger or, with True or False, a SetBool service; (success, message)."""
        kind = Trigger if request is None else SetBool
        if service not in self._clients:
            self._clients[service] = self.probe.create_client(kind, service)
        client = self._clients[service]
        assert self.spin(client.service_is_ready), f"no service {service}"
        answer = self.ask(lambda: client.call_async(kind.Request(**({} if request is None else {"data": request}))))
        return answer.success, answer.message

    def arm(self):
        """In real time: until the guard passes commands on."""
        assert self.spin(lambda: self.call("guard/arm", True)[0])

    def ask(self, call):
        """The result of a service call, repeated where the answer is lost: its way back may not be known yet."""
        for _ in range(round(PATIENT / UNHEARD)):
            future = call()
            if self.spin(future.done, UNHEARD):
                return future.result()
        raise AssertionError("no answer")

    def set(self, node, name, value):
        """Set a parameter; (success, reason)."""
        if node not in self._clients:
            self._clients[node] = AsyncParameterClient(self.probe, node)
        client = self._clients[node]
        assert self.spin(client.services_are_ready), f"no parameters of {node}"
        result = self.ask(lambda: client.set_parameters([Parameter(name, value=value)])).results[0]
        return result.successful, result.reason


class Watcher:
    """What the guard says of itself, and what it sends."""

    def __init__(self):
        self.node = rclpy.create_node("watcher")
        self.state, self.reason, self.since, self.sent, self.speed = "", "", 0, None, np.inf
        self._clients = {}
        self.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._said, topics.KEEP)
        self.node.create_subscription(Float64MultiArray, topics.COMMANDS, self._commanded, topics.RING)
        self.node.create_subscription(JointState, "joint_states", self._moved, topics.RING)

    def _said(self, message):
        status = message.status[0]
        if status.name == "guard":
            state, _, reason = status.message.partition(": ")
            if state != self.state:
                self.since = read_stamp(message.header.stamp)
            self.state, self.reason = state, reason

    def _commanded(self, message):
        self.sent = np.array(message.data)

    def _moved(self, message):
        self.speed = np.abs(message.velocity).max()

    def spin(self, condition, seconds=PATIENT):
        limit = time.monotonic() + seconds
        while not (held := condition()) and time.monotonic() < limit:
            rclpy.spin_once(self.node, timeout_sec=0.02)
        return held

    def call(self, service, kind=Trigger, **request):
        if service not in self._clients:  # every new one has to be found first, and its answers are lost until then
            self._clients[service] = self.node.create_client(kind, service)
        client = self._clients[service]
        assert client.wait_for_service(timeout_sec=3 * PATIENT), service
        for _ in range(round(PATIENT / UNHEARD)):
            future = client.call_async(kind.Request(**request))
            if self.spin(future.done, UNHEARD):
                return future.result()
        raise AssertionError(f"{service} does not answer")

    def armed(self):
        """Until it is: a busy machine may miss a deadline at once, guard or controller."""
        def again():
            self.call("guard/reset")
            self.call("controller/hold")
            return (self.call("guard/arm", SetBool, data=True).success
                    and self.spin(lambda: self.state == "armed", 1.0))

        assert self.spin(again), (self.state, self.reason)


def launch(module, *arguments, **environment):
    """A module of this package as a process of its own, with its output kept."""
    return subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env={**os.environ, **environment})


def node_arguments(**parameters):
    """ROS arguments that set parameters, for the small robot unless given."""
    given = {**SMALL, **{name.replace("__", "."): value for name, value in parameters.items()}}
    pairs = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    return ["--ros-args", *pairs]


def end(process, number=signal.SIGINT):
    """Signal a process and wait; (exit code, output)."""
    process.send_signal(number)
    try:
        output, _ = process.communicate(timeout=PATIENT)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return process.returncode, output
