"""The stage timer, on a clock that the test moves."""
import numpy as np

from mbrl_ros.ring.stages import RECENT, TRUSTED, Stages


class Clock:
    """[ns]"""

    now = 5_000

    def __call__(self):
        return self.now


def tick(stages, clock, spent):
    """One tick whose stages take so long [ns]."""
    stages.start()
    for stage, duration in spent.items():
        clock.now += duration
        stages.done(stage)
    stages.end()


def test_stages_are_the_times_between_calls_and_add_up_to_the_tick():
    clock, rng = Clock(), np.random.default_rng(0)
    stages, spent = Stages(clock), rng.integers(1_000, 1_000_000, (501, 3))
    for row in spent:
        clock.now += 10_000_000  # between ticks: nobody's time
        tick(stages, clock, dict(zip(("convert", "fit", "publish"), row.tolist(), strict=True)))
    figures = stages.figures()
    for stage, of in zip(("convert", "fit", "publish", "tick"), (*spent.T, spent.sum(1)), strict=True):
        expected = np.percentile(of, (50, 99, 100)) / 1e3
        np.testing.assert_allclose([figures[f"{stage}_us_{q}"] for q in ("p50", "p99", "max")], expected, rtol=1e-12)


def test_only_the_latest_ticks_count():
    clock = Clock()
    stages = Stages(clock)
    for duration in (9_000, *[2_000] * RECENT):
        tick(stages, clock, {"plan": duration})
    assert stages.figures()["plan_us_max"] == 2.0


def test_a_tick_left_early_counts_for_what_it_reached():
    clock = Clock()
    stages = Stages(clock)
    stages.start()
    clock.now += 3_000
    stages.done("convert")
    tick(stages, clock, {"convert": 5_000, "plan": 7_000})
    figures = stages.figures()
    assert (figures["convert_us_p50"], figures["plan_us_p50"], figures["tick_us_max"]) == (4.0, 7.0, 12.0)


def test_an_age_on_another_clock_is_not_one():
    stages = Stages(Clock())
    for age in (-1, TRUSTED, 1_700_000_000_000_000_000):
        stages.received(age)
    assert stages.figures() == {}


def test_an_age_is_that_at_the_start_of_the_tick():
    clock = Clock()
    stages = Stages(clock)
    stages.start()
    clock.now += 50_000
    stages.received(250_000)
    assert stages.figures()["receive_us_p50"] == 200.0
