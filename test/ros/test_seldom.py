"""What an executor of one thread waits for now and then only."""
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_srvs.srv import Trigger

from mbrl_ros.nodes import seldom, topics
from mbrl_ros.nodes.seldom import Seldom


class Entity:
    """Anything."""


def test_it_is_looked_at_once_in_a_while(monkeypatch):
    now, group, one, other = [100.0], Seldom(), Entity(), Entity()
    monkeypatch.setattr(seldom.time, "monotonic", lambda: now[0])
    group.add_entity(one)
    group.add_entity(other)
    seen = []
    for _ in range(1000):
        seen.append(group.can_execute(one))
        assert group.can_execute(other) == seen[-1]
        now[0] += 0.001
    assert 8 <= sum(after > before for before, after in zip(seen, seen[1:], strict=False)) <= 10
    assert sum(seen) <= 110
    now[0] += 1.0
    assert group.can_execute(one) and group.beginning_execution(one)
    assert not group.can_execute(other)  # one at a time


def test_a_service_in_it_answers_while_other_things_come(rig):
    """With a timer of 200 Hz beside it, and with nothing."""
    made, ticks = rig(), []
    node = rclpy.create_node("asked")
    made.executor.add_node(node)
    try:
        node.create_service(Trigger, "asked/something", lambda _request, response: topics.answer(response, True, "yes"),
                            callback_group=Seldom())
        timer = node.create_timer(0.005, lambda: ticks.append(1), callback_group=MutuallyExclusiveCallbackGroup())
        assert made.spin(lambda: len(ticks) > 3)
        for _ in range(3):
            assert made.call("asked/something") == (True, "yes")
        timer.cancel()
        for _ in range(3):
            assert made.call("asked/something") == (True, "yes")
    finally:
        made.executor.remove_node(node)
        node.destroy_node()
