"""Goals of actions, sent to a ring of nodes that is told the true dynamics."""
from mbrl_ros.action import ReachTarget
from rclpy.action import ActionClient
from rig import RING, LearnerNode, PlantNode

from mbrl_ros.nodes.reach_action import NAME
from mbrl_ros.simulation.oracle import Oracle


def tell_the_truth(made):
    """The true dynamics in place of the learner's: planar2 then reaches without a fit."""
    plant, learner = made[PlantNode].plant, made[LearnerNode].learner
    oracle = Oracle(plant)
    oracle.active = True
    learner.update = oracle.update


def make(rig, executor="single", **more):
    made = rig(*RING, executor=executor, controller__require_model=False, **more)
    tell_the_truth(made)
    return made


class Client:
    """Sends goals and waits for what comes of them."""

    def __init__(self, made, kind=ReachTarget, name=NAME):
        self.made, self.client, self.feedback = made, ActionClient(made.probe, kind, name), []
        assert made.spin(self.client.server_is_ready)

    def send(self, goal):
        """A handle, once it is accepted."""
        future = self.client.send_goal_async(goal, feedback_callback=lambda m: self.feedback.append(m.feedback))
        assert self.made.spin(future.done) and future.result().accepted
        return future.result()

    def end(self, handle):
        """(status, result)."""
        future = handle.get_result_async()
        assert self.made.spin(future.done)
        return future.result().status, future.result().result

    def do(self, goal):
        return self.end(self.send(goal))
