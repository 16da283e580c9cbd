"""What the nodes say about the stages of their ticks, to those who listen."""
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rig import RING

from mbrl_ros.nodes import topics

EXPECTED = {"plant": {"simulate", "fill", "publish", "tick"},
            "estimator": {"convert", "update", "fill", "publish", "tick"},
            "learner": {"convert", "fit", "fill", "publish", "tick"},
            "controller": {"convert", "plan", "publish", "tick"}, "guard": {"convert", "limit", "publish"}}


def listen(made):
    """What all of them say, in one list."""
    heard = made.listen(DiagnosticArray, topics.stages("plant"))
    for node in topics.TIMED[1:]:
        made.probe.create_subscription(DiagnosticArray, topics.stages(node), heard.append, topics.KEEP)
    return heard


@pytest.mark.parametrize("pace", ["lockstep", "realtime"])
def test_every_node_says_how_long_its_stages_take(rig, pace):
    r = rig(*RING, plant__pace=pace)
    heard = listen(r)
    figures = {}

    def complete():
        for status in (s for message in heard for s in message.status):
            figures[status.name] = {pair.key: float(pair.value) for pair in status.values}
        return all(stages <= {key.partition("_us_")[0] for key in figures.get(node, {})}
                   for node, stages in EXPECTED.items())

    assert r.spin(complete), figures
    for node, of in figures.items():
        stages = {key.partition("_us_")[0] for key in of}
        # On a simulated clock nobody knows how old a state is.
        assert stages - {"receive"} == EXPECTED[node]
        assert ("receive" in stages) == (pace == "realtime" and node != "plant")
        for stage in stages:
            assert 0 < of[f"{stage}_us_p50"] <= of[f"{stage}_us_p99"] <= of[f"{stage}_us_max"]


def test_a_state_is_older_the_further_round_the_ring_it_is(rig):
    r = rig(*RING, plant__pace="realtime")
    heard = listen(r)
    age = {}

    def ordered():  # some second without a machine that is busy in one half of it
        for status in (s for message in heard for s in message.status):
            age.update((status.name, float(p.value)) for p in status.values if p.key == "receive_us_p50")
        return len(age) == 4 and age["estimator"] < age["learner"] < age["controller"] < age["guard"]

    assert r.spin(ordered), age
