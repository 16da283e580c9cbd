"""Belief messages <-> values. Numbers for people: NaN says that there is nothing to say, and nothing is refused."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mbrl_ros.messages.fields import Message, count, read, read_stamp, write, write_stamp
from mbrl_ros.messages.ring import MessageClass
from mbrl_ros.types import STATUSES, Array

NUMBERS = ("period", "distance", "path_error", "prediction_miss", "prediction_band", "prediction_error", "trust",
           "prior_weight", "data_weight", "delay", "cost", "plan_time", "receive_time", "convert_time", "solve_time",
           "publish_time", "tick_time")
PER_JOINT = ("position", "predicted_position", "position_band", "effort")


class Belief(NamedTuple):
    """What Belief.msg says, with the same names and units."""

    time: int  # [ns]
    mode: str
    numbers: dict[str, float]  # by the names in NUMBERS; NaN where one is missing
    terms: dict[str, float]  # cost of the plan by term
    plan_status: str  # one of STATUSES
    plan_iterations: int
    joints: tuple[str, ...]
    per_joint: dict[str, Array]  # by the names in PER_JOINT: (m,)


def to_belief(cls: MessageClass, belief: Belief) -> Message:
    message, m = cls(), len(belief.joints)
    write_stamp(message.header.stamp, belief.time)
    message.mode = belief.mode
    for name in NUMBERS:
        setattr(message, name, float(belief.numbers.get(name, np.nan)))
    message.term_names = list(belief.terms)
    write(message, "term_costs", list(belief.terms.values()), (len(belief.terms),), check=False)
    message.plan_status = STATUSES.index(belief.plan_status)
    message.plan_iterations = count("Belief.plan_iterations", belief.plan_iterations)
    message.joint_names = list(belief.joints)
    for name in PER_JOINT:
        write(message, name, belief.per_joint[name], (m,), check=False)
    return message


def from_belief(message: Message) -> Belief:
    """The value of a Belief message. Raises MessageError for lists whose lengths do not agree."""
    joints, terms = tuple(message.joint_names), tuple(message.term_names)
    costs = read(message, "term_costs", (len(terms),), check=False)
    return Belief(read_stamp(message.header.stamp), message.mode, {name: getattr(message, name) for name in NUMBERS},
                  dict(zip(terms, costs.tolist(), strict=True)), STATUSES[message.plan_status],
                  int(message.plan_iterations), joints,
                  {name: read(message, name, (len(joints),), check=False) for name in PER_JOINT})
