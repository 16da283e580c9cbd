"""BMPO: the model backwards, the policy that led there, where rollouts begin, which action is best, what is refused."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from test_steps import MODEL, PAST, QUICK, Point, lived_through

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.environments.ring import Reaching
from mbrl_ros.trainers.bmpo import Bmpo, Settings, backwards


def learner(**own):
    return Bmpo(Point(), QUICK, Settings(**{"rollouts": 200, "by_value": 0.0, **own}), 0, MODEL)


def test_backwards_a_transition_is_the_same_one():
    of = lived_through(learner(), 50)
    x, a, after = of.lived()
    data = backwards(of.known, x, a, after)
    np.testing.assert_allclose(data.w, np.concatenate([after, a], -1))
    np.testing.assert_allclose(after + data.y, x)


def test_what_is_imagined_backwards_leads_to_where_it_began():
    of = lived_through(learner(shortest=2, longest=2), 300)
    of.fit()
    begins = torch.linspace(-0.5, 0.5, 200).double()[:, None]
    of.starts = lambda: begins
    of.imagine()
    batch = of.imagined.draw(800, torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.x_next, batch.x + 0.5 * batch.a, atol=0.05, rtol=0.0)
    began = torch.isin(batch.x, begins.float()).flatten()  # the one way, and the other
    assert torch.isin(batch.x_next[~began], begins.float()).all() and 0.4 < began.float().mean() < 0.6
    torch.testing.assert_close(batch.reward, -batch.x_next.square().sum(-1))


def test_no_episode_goes_on_from_an_end():
    of = lived_through(learner(shortest=2, longest=20), 300)
    of.fit()
    of.starts = lambda: torch.full((100, 1), PAST - 0.05).double()
    of.count = 10_000
    of.imagine()
    batch = of.imagined.draw(2000, torch.Generator().manual_seed(0))
    assert (batch.x.abs() <= PAST).all() and (batch.x_next.abs() > PAST).any()


@pytest.mark.parametrize("way", ["likelihood", "adversarial"])
def test_the_backward_policy_says_what_led_there(way):
    """Of a policy that goes to zero in one step, a = -2 x, but for what is beyond its reach: x' is then a sign."""
    of = learner(way=way)
    environment, rng = Point(), np.random.default_rng(0)
    for i in range(400):
        x = environment.reset(i)
        a = np.clip(-x + 0.1 * rng.standard_normal(1), -1.0, 1.0)
        of.observe(x, a, environment.step(1.0 + 2.0 * a))
    for _ in range(3):
        of.fit()
    seen = of.seen(of.lived()[2]).float()
    with torch.no_grad():
        said = torch.stack([of.came_by(seen) for _ in range(20)]).mean(0)
    true = torch.as_tensor(np.array([a for _, a, _ in of._lived]) - 1.0) / 2.0
    error = (said - true).square().mean()
    assert said.abs().max() <= 1.0 and error < 0.5 * true.square().mean()


def test_rollouts_begin_where_the_value_is_high_at_first():
    of = lived_through(learner(by_value=1.0, annealed=400, rollouts=2000), 200)
    of.value = lambda seen: seen[:, 0].float()
    early = of.starts().mean()
    of.count = 400
    assert early > of.starts().mean() + 0.2


def test_the_best_of_many_actions_is_played_and_judged_is_the_policy_alone():
    of = lived_through(learner(refined=500, ahead=1), 200)
    of.fit()
    of.agent.values = lambda networks, x, a: torch.zeros(2, len(x))  # so that one step counts
    x = np.array([0.3])
    assert of.act(x) == pytest.approx(-0.6, abs=0.1)  # x + a / 2 = 0
    assert of.act(x, noise=False) == of.agent.act(x, noise=False)


def test_a_robot_with_past_efforts_in_its_state_is_refused():
    settings = assembly.settings(Names("planar2", prior="gaussian"))
    known = Reaching(assembly.make_robot(settings), settings)
    with pytest.raises(ConfigError, match="past efforts"):
        Bmpo(known, QUICK, Settings(), 0)
