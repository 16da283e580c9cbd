"""MBPO: how long rollouts are, that what is imagined is what the model says, what a batch is made of, where it ends."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_steps import MODEL, PAST, QUICK, Point, lived_through

from mbrl_ros.trainers.mbpo import Mbpo, Settings


def learner(**own):
    return Mbpo(Point(), QUICK, Settings(**{"rollouts": 200, **own}), 0, MODEL)


@pytest.mark.parametrize(("count", "length"), [(0, 1), (100, 1), (200, 6), (300, 11), (10_000, 11)])
def test_rollouts_get_longer_along_a_line(count, length):
    of = learner(shortest=1, longest=11, first=100, last=300)
    of.count = count
    assert of.length == length


def test_what_is_imagined_is_what_would_have_come():
    of = lived_through(learner(longest=3, shortest=3), 300)
    of.fit()
    of.starts = lambda: torch.linspace(-1.0, 1.0, 200).double()[:, None]
    of.imagine()
    batch = of.imagined.draw(400, torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.x_next, batch.x + 0.5 * batch.a, atol=0.05, rtol=0.0)
    torch.testing.assert_close(batch.reward, -batch.x_next.square().sum(-1))
    assert len(of.imagined) == 3 * 200  # none has come far enough to end
    assert batch.a.abs().max() <= 1.0


def test_nothing_is_imagined_after_an_end():
    of = lived_through(learner(longest=20, shortest=20), 300)
    of.fit()
    of.starts = lambda: torch.full((50, 1), PAST - 0.1).double()
    of.imagine()
    rows = of.imagined.draw(2000, torch.Generator().manual_seed(0))
    ended = rows.x_next[:, 0].abs() > PAST
    assert 0 < ended.sum() and torch.equal(rows.end.bool(), ended) and (rows.x.abs() <= PAST).all()


@pytest.mark.parametrize(("real", "count"), [(0.0, 0), (0.25, 16), (1.0, 64)])
def test_a_batch_is_part_real_part_imagined(real, count):
    of = lived_through(learner(real=real), 100)
    of.fit()
    of.imagine()
    of.replay.clear()
    marked = 7.0 * torch.ones(10, 1)
    of.replay.add(of.imagined.draw(10, torch.Generator())._replace(x=marked))
    batch = of.batch()
    assert len(batch.x) == QUICK.batch and int((batch.x == 7.0).sum()) == count


def test_starts_are_states_that_were_visited_and_fits_come_when_they_are_due():
    of = lived_through(learner(every=100), 49)
    of.improve()
    assert of.fits == 0  # `start` is 50
    visited = {row[0].item() for row in of._lived}
    assert {z.item() for z in of.starts()} <= visited
    fitted = []
    of.fit = lambda: fitted.append(of.count)
    of.imagine = lambda: None
    environment = Point()
    environment.reset(0)
    for _ in range(260):
        of.observe(np.zeros(1), np.zeros(1), environment.step(np.ones(1)))
        of.improve()
    assert fitted == [50, 150, 250]


def test_the_model_is_kept_where_it_is_not_to_be_trained():
    of = lived_through(learner(every=1), 60)
    of.improve()
    of.retrains = False
    of.improve()
    assert of.fits == 1
    of.config = replace(of.config, batch=32)
    assert len(of.batch().x) == 32
