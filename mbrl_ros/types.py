"""The values that travel round the ring: names, shapes, units.

Notation (docs/design.md): n = dim x, m = dim u, T = horizon, xu = [x; u], p = n + m. A leading `*b` is a batch of any
shape. Shapes are held against these types in tests only (test/shapes.py). Values are numpy float64 between the parts of
the ring; inside planners and models the same records hold torch tensors, so that they can be batched, differentiated
and put on a GPU. Records are frozen: a part that remembers keeps one field.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # at run time its import would take longer than those of all that the guard needs
    from jaxtyping import Float, Int

Array = Any  # numpy.ndarray on the ring, torch.Tensor inside planners and models

# How a plan came about. The first two are good; a plan of the last three is not played.
CONVERGED, ITERATION_LIMIT, LINE_SEARCH_FAILED, NOT_FINITE, LATE, FAILED = STATUSES = (
    "converged", "iteration_limit", "line_search_failed", "not_finite", "late", "failed")


@dataclass(frozen=True)
class Observation:
    """One measurement of k joints, or joints and objects."""

    time: int  # [ns], the instant of measurement
    position: Float[Array, " k"]  # [rad or m]
    velocity: Float[Array, " k"] | None  # [rad/s or m/s]
    # [N m or N], the mean of what acted over the period that ended at `time`; objects have none, or 0
    effort: Float[Array, " j"]


@dataclass(frozen=True)
class Picture:
    """What a camera saw."""

    time: int  # [ns]
    pixels: Array  # (rows, columns, channels), 0 to 255
    effort: Float[Array, " m"]  # [N m or N], the mean of what acted over the period that ended at `time`


@dataclass(frozen=True)
class Gaussian:
    """N(mean, cov); cov is full and symmetric."""

    mean: Float[Array, "*#b n"]
    cov: Float[Array, "*#b n n"]


@dataclass(frozen=True)
class StateEstimate:
    """The belief about x at `time`, and the effort that led there."""

    time: int  # [ns]
    episode: int  # counts resets of the estimator
    step: int  # control periods since the episode began
    belief: Gaussian  # over x (n,)
    effort: Float[Array, " m"]  # [N m or N], acted over the period that ended at `time`


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of vectors z: mean, covariance and their (effective) number."""

    mean: Float[Array, "*b d"]
    cov: Float[Array, "*b d d"]
    count: float


class NormalInverseWishart(NamedTuple):
    """Prior over the mean and covariance of a Gaussian over z, as in docs/design.md, section 3."""

    mu0: Array  # (d,)
    Phi: Array  # (d, d), n0 times the prior covariance
    m0: float  # how many observations the prior mean is worth
    n0: float  # how many observations the prior covariance is worth


@dataclass(frozen=True)
class LinearGaussianDynamics:
    """x' ~ N(F xu + f, (1 + h' leverage h) Sigma) with h = [1; xu]: away from the data F is known less well."""

    F: Float[Array, "*#b n p"]
    f: Float[Array, "*#b n"]
    Sigma: Float[Array, "*#b n n"]
    leverage: Float[Array, "*#b 1+p 1+p"] | None = None  # symmetric; None: zero

    @property
    def A(self) -> Float[Array, "*b n n"]:
        return self.F[..., : self.F.shape[-2]]

    @property
    def B(self) -> Float[Array, "*b n m"]:
        return self.F[..., self.F.shape[-2] :]


@dataclass(frozen=True)
class QuadraticCost:
    """Step t costs 1/2 xu' C_t xu + c_t' xu + const_t; of the last of T + 1 steps only the x part counts."""

    C: Float[Array, "*#b steps p p"]
    c: Float[Array, "*#b steps p"]
    const: Float[Array, "*#b steps"]


@dataclass(frozen=True)
class LinearGaussianPolicy:
    """u_t ~ N(u_hat_t + K_t (x - x_hat_t) + k_t, Sigma_t); the accepted step length is already inside k."""

    x_hat: Float[Array, "*#b T n"]
    u_hat: Float[Array, "*#b T m"]
    K: Float[Array, "*#b T m n"]
    k: Float[Array, "*#b T m"]
    Sigma: Float[Array, "*#b T m m"]


@dataclass(frozen=True)
class TimedPolicy:
    """A policy with what says where it may be played, as it travels by file and by message."""

    policy: LinearGaussianPolicy
    period: float  # [s] from a step to the next
    state_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    spread: Float[Array, "T n"] | None  # deviations from x_hat that it was made for; None: not said


@dataclass(frozen=True)
class Plan:
    """What a planner returns: `states` is the rollout of `efforts`, `cost` the cost of that rollout. A planner without
    feedback leaves K and Sigma of the policy zero."""

    policy: LinearGaussianPolicy
    states: Float[Array, "T+1 n"]
    efforts: Float[Array, "T m"]
    cost: float
    status: str  # one of STATUSES
    iterations: int
    memory: Any = None  # what the planner wants to know when it is given this plan; nobody else looks into it
    detail: str = ""  # what the status alone does not say


FED_BACK = 3  # planned states that go with a command, which is in use for two periods at most


@dataclass(frozen=True)
class Feedback:
    """What goes with a command where joint states come faster than plans: `effort` + K (x - x_planned(t)) for
    x = [joint positions, joint velocities] (2m,), until the next command."""

    answers: int  # [ns], stamp of the state that the plan answers
    begin: int  # [ns], time of the first of the planned states: later, where commands act late
    period: float  # [s] from one planned state to the next
    effort: Array  # (m,) [N m or N], the command
    states: Array  # (FED_BACK, 2m) planned x; linear between them
    K: Array  # (m, 2m)


@dataclass(frozen=True)
class Transitions:
    """An unordered set of N transitions: what models are fitted to."""

    x: Float[Array, "N n"]
    u: Float[Array, "N m"]
    x_next: Float[Array, "N n"]


@dataclass(frozen=True)
class Trial:
    """One recorded run without gaps: x[t + 1] followed from x[t] under u[t]."""

    x: Float[Array, "T+1 n"]
    u: Float[Array, "T m"]
    time: Int[Array, " T+1"]  # [ns]
    state_names: tuple[str, ...]
    joint_names: tuple[str, ...]

    def transitions(self, stride: int = 1) -> Transitions:
        """The transitions of this run over `stride` of its periods each, under the mean of u; without overlap."""
        count = len(self.u) // stride
        x, u = self.x[: stride * count + 1 : stride], self.u[: stride * count]
        return Transitions(x[:-1], u.reshape(count, stride, u.shape[-1]).mean(1) if stride > 1 else u, x[1:])
