"""Modes, limits, faults and fall-backs of the controller, without a plant."""
from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import double_integrator, make, settings

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.planners.plan import as_plan
from mbrl_ros.ring import excitation
from mbrl_ros.ring import hold as base_policy
from mbrl_ros.ring import swing as swings
from mbrl_ros.ring.mpc import AMPLE, margin_left
from mbrl_ros.types import CONVERGED, NOT_FINITE, Gaussian, LinearGaussianDynamics, StateEstimate

PERIOD = 20_000_000  # [ns]


@pytest.fixture
def controller():
    s = settings()
    return assembly.make_controller(s, make())


def state(robot, step=0, q=None, qd=0.0):
    x = np.zeros(robot.n)
    x[robot.slice("joint/position")] = robot.home if q is None else q
    x[robot.slice("joint/velocity")] = qd
    x[robot.slice("motion")][2 * robot.m :] = robot.kinematics(x[: robot.m], x[robot.m : 2 * robot.m])[0]
    return StateEstimate(step * PERIOD, 0, step, Gaussian(x, 1e-6 * np.eye(robot.n)), np.zeros(robot.m))


def test_it_starts_idle_and_asks_for_nothing(controller):
    robot = controller.robot
    assert controller.mode == "idle"
    assert controller.act(state(robot), double_integrator(robot)) is None


def test_what_held_the_arm_while_idle_is_where_the_hold_begins(controller):
    robot, held = controller.robot, np.array([4.0, -2.0])
    for k in range(200):
        assert controller.act(replace(state(robot, k), effort=held), double_integrator(robot)) is None
    controller.request("hold")
    newest = replace(state(robot, 200), effort=held)
    assert np.allclose(controller.act(newest, double_integrator(robot)), held, atol=1e-2)


def test_effort_rate_and_effort_are_limited(controller):
    robot = controller.robot
    controller.request("hold")
    controller.act(state(robot), double_integrator(robot))
    efforts = [controller.act(state(robot, k, q=robot.home + 2.0), double_integrator(robot)) for k in range(1, 10)]
    steps = np.abs(np.diff([np.zeros(2), *efforts], axis=0))
    assert (steps <= robot.effort_rate_limit * robot.period + 1e-9).all()
    assert np.allclose(efforts[-1], -robot.effort_limit)


def test_excitation_ends_by_itself_in_hold(controller):
    robot = controller.robot
    controller.excitation = replace(controller.excitation, duration=0.2)
    controller.request("excite")
    modes = []
    for k in range(14):
        controller.act(state(robot, k), double_integrator(robot))
        modes.append(controller.mode)
    assert modes == ["excite"] * 10 + ["hold"] * 4


def test_changing_to_hold_does_not_jump(controller):
    """The effort that carried the arm before is where the hold begins."""
    robot = controller.robot
    for k in range(200):
        controller.act(replace(state(robot, k), effort=np.array([5.0, 2.0])), double_integrator(robot))
    controller.request("hold")
    held = replace(state(robot, 200), effort=np.array([5.0, 2.0]))
    assert np.allclose(controller.act(held, double_integrator(robot)), [5.0, 2.0], atol=1e-2)


def test_reach_moves_towards_the_target(controller):
    robot = controller.robot
    model, s = double_integrator(robot), state(robot)
    target = s.belief.mean[robot.slice("site/tool/position")] + [0.0, 0.0, 0.1]
    controller.set_target(target)
    controller.request("reach")
    x = s.belief.mean
    start = np.linalg.norm(x[robot.slice("site/tool/position")] - target)
    for k in range(60):
        u = controller.act(StateEstimate(k * PERIOD, 0, k, Gaussian(x, np.eye(robot.n)), np.zeros(2)), model)
        x = model.F @ np.concatenate([x, u]) + model.f
    assert controller.mode == "reach"
    assert np.linalg.norm(x[robot.slice("site/tool/position")] - target) < 0.2 * start


@pytest.mark.parametrize("spoil, reason", [
    (lambda x, r: x.__setitem__(0, np.nan), "not finite"),
    (lambda x, r: x.__setitem__(r.m, 3.0 * r.velocity_limit[0]), "protective stop: shoulder at 3.0 times"),
])
def test_bad_states_lead_to_a_fault_that_stays(controller, spoil, reason):
    robot = controller.robot
    controller.request("hold")
    controller.act(state(robot), double_integrator(robot))
    bad = state(robot, 1)
    spoil(bad.belief.mean, robot)
    controller.act(bad, double_integrator(robot))
    assert controller.mode == "fault" and reason in controller.reason
    for k in range(2, 30):
        effort = controller.act(state(robot, k), double_integrator(robot))
    assert controller.mode == "fault" and np.array_equal(effort, np.zeros(2))
    controller.request("hold")
    controller.act(state(robot, 30), double_integrator(robot))
    assert controller.mode == "hold"


def test_less_trust_slows_the_controller_and_without_any_it_holds_and_does_not_reach():
    """The effort with which a step is begun, from rest."""
    robot, begun = make(), []
    for trust in (1.0, 0.5, 0.1):
        controller = assembly.make_controller(settings(), robot)
        controller.set_target(robot.tool_position(robot.home) + np.array([0.0, 0.0, 0.1]))
        controller.request("reach")
        for k in range(3):
            effort = controller.act(state(robot, k), double_integrator(robot), trust)
        assert controller.mode == "reach"
        begun.append(np.linalg.norm(effort))
    assert begun[0] > begun[1] > begun[2]
    for k in (3, 4):
        controller.request("reach")
        controller.act(state(robot, k), double_integrator(robot), 0.0)
        assert controller.mode == "hold" and "predicts badly" in controller.reason
    controller.request("reach")
    controller.act(state(robot, 5), double_integrator(robot), 1e-3)
    assert controller.mode == "reach"


def test_a_broken_model_plays_the_previous_plan_then_faults(controller):
    robot = controller.robot
    controller.request("reach")
    controller.act(state(robot), double_integrator(robot))
    broken = replace(double_integrator(robot), f=np.full(robot.n, np.nan))
    modes = []
    for k in range(1, 5):
        effort = controller.act(state(robot, k), broken)
        assert np.isfinite(effort).all()
        modes.append(controller.mode)
    assert controller.mpc.status == NOT_FINITE
    assert modes == ["reach", "reach", "fault", "fault"]  # max_failures: 2


class Recorder:
    """A planner without feedback that keeps its problems, counts its plans in their memory, and fails when told."""

    horizon = 5

    def __init__(self):
        self.problems, self.previous, self.status = [], [], CONVERGED

    def plan(self, problem, previous):
        self.problems.append(problem)
        self.previous.append(previous)
        x, u = np.zeros((6, len(problem.x0))), np.arange(10.0).reshape(5, 2)
        memory = 1 if previous is None else previous.memory + 1
        to_tensor = torch.as_tensor if isinstance(problem.x0, torch.Tensor) else np.asarray
        return as_plan(to_tensor(x), to_tensor(u), 0.0, self.status, 1, memory=memory)


@pytest.fixture
def recorder(controller):
    """The planner of the controller, which reaches."""
    controller.mpc.planner = planner = Recorder()
    controller.mpc._limit = controller.mpc._limit[: planner.horizon]
    controller.request("reach")
    return planner


def test_a_planner_is_given_its_memory_back_and_a_shifted_plan(controller, recorder):
    for k in range(3):
        controller.act(state(controller.robot, k), double_integrator(controller.robot))
    assert recorder.previous[0] is None and [p.memory for p in recorder.previous[1:]] == [1, 2]
    assert np.array_equal(np.asarray(recorder.previous[1].efforts)[:, 0], [2.0, 4.0, 6.0, 8.0, 8.0])


def test_every_step_and_every_seed_has_noise_of_its_own():
    """In the bits that a generator of torch looks at."""
    seen = []
    for seed in (0, 1, 7):
        made = assembly.make_controller(assembly.with_seed(settings(), seed), make())
        made.mpc.planner = recorder = Recorder()
        made.mpc._limit = made.mpc._limit[:5]
        made.request("reach")
        for k in (0, 1, 500):
            made.act(state(made.robot, k), double_integrator(made.robot))
        seen += [problem.seed for problem in recorder.problems]
    first = [torch.randn(3, generator=torch.Generator().manual_seed(s)).tolist() for s in seen]
    assert len({tuple(draw) for draw in first}) == 9


def test_a_planner_knows_the_budget_and_the_local_dynamics(controller, recorder):
    model = double_integrator(controller.robot)
    controller.mpc.budget = 0.5
    controller.act(state(controller.robot), model)
    problem, = recorder.problems
    assert problem.budget == 0.5 and np.allclose(problem.local.F, model.F)


def test_a_failed_plan_without_gains_is_replaced_by_efforts_alone(controller, recorder):
    """The efforts of the plan before, one step on, wherever the state is."""
    robot = controller.robot
    controller.act(state(robot), double_integrator(robot))
    recorder.status = NOT_FINITE
    effort = controller.act(state(robot, 1, q=robot.home + 0.2), double_integrator(robot))
    assert controller.mode == "reach" and controller.mpc.failures == 1 and np.array_equal(effort, [2.0, 3.0])


def test_without_a_global_model_it_holds_and_says_why():
    robot = make()
    made = assembly.make_controller(settings(controller={"model": "global"}), robot)
    made.request("reach")
    made.act(state(robot), double_integrator(robot))
    assert made.mode == "hold" and "there is no global model yet: call controller/excite and" in made.reason


def test_the_global_model_is_what_it_plans_with():
    """Local dynamics under which efforts do nothing do not matter then; late commands are told to the model."""
    robot = make()
    linear = double_integrator(robot)
    dead = replace(linear, F=np.eye(*linear.F.shape))
    tensors = LinearGaussianDynamics(*(torch.as_tensor(a) for a in (linear.F, linear.f, linear.Sigma)))
    made = assembly.make_controller(settings(controller={"model": "global"}), robot)
    alone = assembly.make_controller(settings(), robot)
    for c in (made, alone):
        c.set_target(state(robot).belief.mean[robot.slice("site/tool/position")] + [0.0, 0.0, 0.1])
        c.request("reach")
    for k in range(3):
        by_global = made.act(state(robot, k), dead, 1.0, tensors)
        by_local = alone.act(state(robot, k), linear)
        assert np.allclose(by_global, by_local, atol=1e-6) and (k == 0 or np.abs(by_global).max() > 1e-3)


@pytest.mark.parametrize("model, prior, caution, said", [
    ("global", "none", 0.0, "controller.model: expected local, since the prior none is no global model"),
    ("global", "gaussian", 1.0, "learner.caution: expected 0 with ilqr on the global model"),
    ("global", "gaussian", 0.0, ""), ("local", "none", 1.0, "")])
def test_what_the_model_makes_meaningless_is_refused(model, prior, caution, said):
    s = settings(prior=prior, controller={"model": model}, learner={"prior": prior, "caution": caution})
    if said:
        with pytest.raises(ConfigError, match=said):
            assembly.make_controller(s, make())
    else:
        assert assembly.make_controller(s, make()).mode == "idle"


class Slow:
    """A planner that takes its time, or raises."""

    def __init__(self, planner, error=None):
        self.horizon, self._planner, self._error = planner.horizon, planner, error

    def plan(self, problem, previous):
        if self._error is not None:
            raise self._error
        time.sleep(0.02)
        return self._planner.plan(problem, previous)


@pytest.mark.parametrize("error, status", [
    (MemoryError("no more"), "failed: MemoryError: no more"), (None, "late"),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), "failed: RuntimeError: CUDA error: an")])
def test_a_planner_that_raises_or_takes_too_long_plays_the_previous_plan_twice_then_faults(controller, error, status):
    robot, mpc = controller.robot, controller.mpc
    controller.request("reach")
    controller.act(state(robot), double_integrator(robot))
    good, mpc.planner, mpc.budget = mpc.plan, Slow(mpc.planner, error), np.inf if error else 0.01
    for k in (1, 2):
        controller.act(state(robot, k), double_integrator(robot))
        assert controller.mode == "reach" and mpc.status.startswith(status)
        assert mpc.plan.status == status.partition(":")[0]
        assert np.array_equal(mpc.plan.efforts[:-k], good.efforts[k:])
    assert np.array_equal(controller.act(state(robot, 3), double_integrator(robot)), np.zeros(2))
    assert controller.mode == "fault" and status in controller.reason


class Says:
    """A planner whose plan has another covariance."""

    def __init__(self, planner, Sigma):
        self.horizon, self._planner, self._Sigma = planner.horizon, planner, Sigma

    def plan(self, problem, previous):
        plan = self._planner.plan(problem, previous)
        return replace(plan, policy=replace(plan.policy, Sigma=self._Sigma))


def spoilt(dynamics, **fields):
    return replace(dynamics, **{name: np.full_like(getattr(dynamics, name), value) for name, value in fields.items()})


COVARIANCES = {"zero": np.zeros((20, 2, 2)), "indefinite": np.tile(np.diag([1.0, -1.0]), (20, 1, 1)),
               "nan": np.full((20, 2, 2), np.nan), "none": None}
SICK = {
    "zero": lambda d: spoilt(d, F=0.0, f=0.0, Sigma=0.0), "nan": lambda d: spoilt(d, F=np.nan),
    "huge": lambda d: spoilt(d, F=1e300, f=-1e300), "nan noise": lambda d: spoilt(d, Sigma=np.nan),
    "negative noise": lambda d: replace(d, Sigma=-d.Sigma), "of another size": lambda d: replace(d, F=d.F[:, 1:]),
    "none at all": lambda d: None}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers that overflow
@pytest.mark.parametrize("exploration", [0.0, 1.0])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("sick", [*SICK, *(f"covariance {c}" for c in COVARIANCES), "state", "raises", "late"])
def test_act_never_raises_and_gives_what_is_finite(sick, first, exploration):
    robot = make()
    controller = assembly.make_controller(settings(controller={"exploration": exploration}), robot)
    mpc, model = controller.mpc, double_integrator(robot)
    controller.request("reach")
    if not first:
        controller.act(state(robot), model)
    q = np.full(robot.m, np.nan) if sick == "state" else None
    if sick == "raises":
        mpc.planner = Slow(mpc.planner, RuntimeError("deliberate"))
    if sick == "late":
        mpc.budget = 0.0
    if sick.startswith("covariance"):
        mpc.planner = Says(mpc.planner, COVARIANCES[sick.removeprefix("covariance ")])
    dynamics = SICK.get(sick, lambda d: d)(model)
    for k in range(1, 6):
        effort = controller.act(state(robot, k, q=q), dynamics)
        assert effort is None if controller.mode == "idle" else np.isfinite(effort).all()


@pytest.mark.parametrize("Sigma", COVARIANCES.values(), ids=COVARIANCES)
def test_without_a_covariance_there_is_no_exploration_and_that_is_said(Sigma):
    efforts = []
    for exploration in (0.0, 1.0):
        controller = assembly.make_controller(settings(controller={"exploration": exploration}), make())
        controller.mpc.planner = Says(controller.mpc.planner, Sigma)
        controller.request("reach")
        efforts.append(controller.act(state(controller.robot), double_integrator(controller.robot)))
    assert np.array_equal(*efforts)
    assert controller.mpc.status.endswith(": without exploration, its covariance is not positive definite")
    assert controller.mpc.failures == 0


def test_a_planner_that_raises_at_once_leaves_nothing_to_play(controller):
    robot = controller.robot
    controller.mpc.planner = Slow(controller.mpc.planner, ValueError("deliberate"))
    controller.request("reach")
    assert np.array_equal(controller.act(state(robot), double_integrator(robot)), np.zeros(2))
    assert controller.mode == "fault" and "deliberate" in controller.reason


def test_without_a_model_the_posture_of_the_hold_follows_the_path():
    """No dynamics are used: joints that follow the posture at once bring the tool to the target."""
    robot = make()
    controller = assembly.make_controller(settings(controller={"explore": True}, excitation={"effort": 0.0}), robot)
    base, target = controller.base, robot.tool_position(robot.home + 0.3)
    controller.set_target(target)
    controller.request("reach")
    for k in range(150):
        efforts = controller.act(state(robot, k, q=base.posture), double_integrator(robot))
        assert np.isfinite(efforts).all()
    assert controller.mpc.plan is None and np.allclose(robot.tool_position(base.posture), target, atol=1e-3)
    controller.has_model = True
    controller.act(state(robot, 150, q=base.posture), double_integrator(robot))
    assert controller.mpc.plan is not None


@pytest.mark.parametrize(("mode", "has_model"), [("excite", True), ("reach", True), ("reach", False)])
def test_while_somebody_else_holds_the_arm_nothing_is_ahead_of_it(mode, has_model):
    """Path, posture and excitation wait at where the arm is, for as long as it takes, and begin when it can follow."""
    robot = make()
    controller = assembly.make_controller(settings(controller={"explore": not has_model}, excitation={"duration": 1.0}),
                                          robot)
    controller.acts = False
    controller.set_target(robot.tool_position(robot.home + 0.5))
    controller.request(mode)
    for k in range(200):
        controller.act(state(robot, k), double_integrator(robot))
    assert controller.mode == mode and np.allclose(controller.base.posture, robot.home)
    if mode == "reach":
        assert np.allclose(controller.mpc.reference, robot.tool_position(robot.home), atol=1e-3)
    controller.acts = True
    for k in range(200, 240):
        controller.act(state(robot, k), double_integrator(robot))
    assert controller.mode == mode
    if mode == "reach":
        assert np.linalg.norm(controller.mpc.reference - robot.tool_position(robot.home)) > 0.05
    for k in range(240, 255):
        controller.act(state(robot, k), double_integrator(robot))
    assert controller.mode == ("hold" if mode == "excite" else mode)


def test_exploration_noise_has_the_covariance_of_the_inverse_curvature():
    s = settings(controller={"exploration": 0.5})
    robot = make()
    controller = assembly.make_controller(s, robot)
    model, planned = double_integrator(robot), state(robot)
    controller.request("reach")
    controller.act(planned, model)
    mpc, plan = controller.mpc, controller.mpc.plan
    x, wide = planned.belief.mean, np.full(2, np.inf)
    draws = np.array([mpc._play(plan, x, -wide, wide) for _ in range(4000)])
    Sigma = 0.25 * np.asarray(plan.policy.Sigma[0])
    assert np.allclose(np.cov(draws.T), Sigma, atol=6 * np.sqrt(2 / 4000) * Sigma.max())  # six standard errors


@pytest.mark.parametrize("target", [[0.0, 0.0], [np.nan, 0.0, 0.0], "here"])
def test_bad_targets_are_refused(controller, target):
    with pytest.raises((ConfigError, ValueError)):
        controller.set_target(target)


def test_unknown_mode_lists_the_modes(controller):
    with pytest.raises(ConfigError, match="choose one of idle, hold, home, excite, reach, policy, fault"):
        controller.request("dance")


def test_softer_gains_pull_less():
    """At rest beside home, the first period of the hold: stiffness times offset, and its integral of one period."""
    robot = make()
    pulls = []
    for gain in (1.0, 0.5):
        policy = base_policy.BasePolicy(robot, excitation.Config(gain=gain))
        pulls.append(policy.act(state(robot, q=robot.home - 0.05), excite=False))
    assert np.allclose(pulls[0], 0.05 * robot.stiffness * (1 + robot.period)) and np.allclose(pulls[1], 0.5 * pulls[0])


def swing(robot):
    """Largest speed [limits] in the last second of ten under hold, of joints a third of what its damping can bear."""
    policy = base_policy.BasePolicy(robot, excitation.Config())
    inertia, h = robot.damping * robot.period / 3, robot.period
    q, qd, speeds = robot.home, 0.1 * robot.velocity_limit, []
    for k in range(500):
        u = np.clip(policy.act(state(robot, k, q=q, qd=qd), excite=False), -robot.effort_limit, robot.effort_limit)
        qd = qd + h * u / inertia
        q = q + h * qd
        speeds.append(np.abs(qd / robot.velocity_limit).max())
    return max(speeds[-50:])


def test_a_hold_whose_gains_are_too_large_calms_down(monkeypatch):
    robot = make()
    assert swing(robot) < 0.05
    monkeypatch.setattr(base_policy, "CALMER", 1.0)
    assert swing(robot) < 0.05
    monkeypatch.setattr(swings, "SWINGS", 10**9)
    assert swing(robot) > 1.5


@pytest.mark.parametrize(("joint", "part"), [(0, 0.5), (1, 0.5), (0, 0.0), (1, -0.5)])
@pytest.mark.parametrize("what", ["low", "high", "fast", "back", "push", "pull"])
def test_exploration_shrinks_with_the_margin_left_at_any_limit(what, joint, part):
    """In full in the middle, in proportion in the last quarter of the way to a limit, none at it and beyond."""
    robot = make()
    low, high = robot.position_low + robot.position_margin, robot.position_high - robot.position_margin
    x, effort, away = state(robot, q=0.5 * (low + high)).belief.mean, np.zeros(2), 1 - AMPLE * part
    assert margin_left(robot, x, effort) == 1.0
    sign = -1 if what in ("low", "back", "pull") else 1
    if what in ("low", "high"):
        x[joint] += sign * away * 0.5 * (high - low)[joint]
    elif what in ("fast", "back"):
        x[2 + joint] = sign * away * robot.velocity_limit[joint]
    else:
        effort[joint] = sign * away * robot.effort_limit[joint]
    assert margin_left(robot, x, effort) == pytest.approx(max(0.0, part))


def test_a_joint_without_ends_leaves_room_for_exploration():
    robot = make()
    robot.position_low, robot.position_high = np.array([-np.inf, -2.0]), np.array([np.inf, 2.0])
    assert margin_left(robot, state(robot, q=[50.0, 0.0]).belief.mean, np.zeros(2)) == 1.0


def test_at_a_limit_the_noise_is_none():
    s = settings(controller={"exploration": 10.0})
    efforts = []
    for seed in (1, 2):
        controller = assembly.make_controller(assembly.with_seed(s, seed), make())
        robot = controller.robot
        controller.request("reach")
        efforts.append([controller.act(state(robot, k, qd=robot.velocity_limit), double_integrator(robot))
                        for k in range(3)])
    assert np.array_equal(*efforts)
