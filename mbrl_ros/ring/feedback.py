"""Feedback between plans: what a plan would add to its effort, were it asked at every joint state.

A plan is made once a period, and its first effort is held. Its first gains are good for all of that period: where joint
states come faster, u + K (x - x_planned(t)) answers what pushes the arm before the next plan does. Needs no planner and
no torch.
"""
from __future__ import annotations

import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.types import FED_BACK, Array, Feedback, Plan


def correction(of: Feedback, stamp: int, q: Array, qd: Array) -> Array:
    """K (x - x_planned) (m,) [N m or N] at the joint state q, qd (m,) with this stamp [ns]; none before it begins."""
    t = 1e-9 * (stamp - of.begin) / of.period
    if t < 0.0:
        return np.zeros(len(q))
    i = min(int(t), len(of.states) - 2)
    part = min(t - i, 1.0)
    planned = (1.0 - part) * of.states[i] + part * of.states[i + 1]
    correction: Array = of.K @ (np.concatenate([q, qd]) - planned)
    return correction


def feedback_of(plan: Plan, effort: Array, answers: int, begin: int, robot: Robot) -> Feedback:
    """The first gains of a plan that answers the state of that time [ns] with this effort (m,), and begins at `begin`.

    Those on sites are brought over to the joints, which sites follow; past efforts are as planned.
    """
    joints, K, states = 2 * robot.m, _array(plan.policy.K[0]), _array(plan.states[:FED_BACK])
    _, G = robot.kinematics(states[0, : robot.m], states[0, robot.m : joints])
    return Feedback(answers, begin, robot.period, effort, np.ascontiguousarray(states[:, :joints]),
                    K[:, :joints] + K[:, joints : joints + len(G)] @ G)


def _array(values: Array) -> Array:
    """As numpy, from numpy or torch."""
    return values.cpu().numpy() if hasattr(values, "cpu") else values
