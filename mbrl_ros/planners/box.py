"""A backward pass with bounds on k: k minimises 1/2 k'Q_uu k + q_u'k within them by projected Newton, and the rows of K
are zero where k is clamped (Tassa, Mansard & Todorov 2014)."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mbrl_ros.planners import fused
from mbrl_ros.planners.lqr import Backward, Bend, Spread, backward, from_fused, newton
from mbrl_ros.types import QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

ITERATIONS = 30  # projected Newton settles in 1 to 5; a degenerate problem may flip between equal active sets
SLACK = 1e-10  # a gradient below this part of the largest is zero: its sign does not clamp


class BoxGain:
    """Minimiser of 1/2 k'Q_uu k + q_u'k within bounds on k, one Cholesky factor where none of them acts."""

    def __init__(self, low: Float[Tensor, "*b T m"], high: Float[Tensor, "*b T m"]) -> None:
        """Bounds on k; where one of them is zero, the nominal effort is at its limit."""
        inside = ((low < 0) & (high > 0)).all(-1, keepdim=True)  # (*b, T, 1)
        some_inside = inside.movedim(-2, 0).flatten(1).any(-1).tolist()
        self.bounds = list(zip(low.unbind(-2), high.unbind(-2), inside.unbind(-2), some_inside, strict=True))
        self.clamped: Tensor | None = None  # (*b,) bool: a bound acted at some step; None: nowhere

    def __call__(self, t: int, Quu: Float[Tensor, "*b m m"], Qua: Float[Tensor, "*b m a"]
                 ) -> tuple[Float[Tensor, "*b m a"], Float[Tensor, "*b m m"], Int[Tensor, " *b"]]:
        """See lqr.Gain."""
        low, high, inside, some_inside = self.bounds[t]
        # Limits that act at the nominal efforts mostly go on acting: k = 0 begins with their active set.
        start = torch.zeros_like(low)
        if some_inside:
            H, L, info = newton(t, Quu, Qua)
            k = -H[..., 0]
            within = k.clamp(low, high)
            if torch.equal(within, k):
                return H, L, info
            start = within * inside
        else:
            L, info = torch.linalg.cholesky_ex(Quu)
        H, free = box_newton(Quu, Qua, low, high, start)
        clamped = ~free.all(-1)
        self.clamped = clamped if self.clamped is None else self.clamped | clamped
        return H, L, info


def backward_in_box(F: Float[Tensor, "... n p"], cost: QuadraticCost, spread: Spread | None,
                    mu: Float[Tensor, " *b"] | None, low: Float[Tensor, "*b T m"], high: Float[Tensor, "*b T m"],
                    curvature: Bend | None = None) -> tuple[Backward, Bool[Tensor, " *b"] | None]:
    """lqr.backward with bounds on k, and for which problems a bound acted; None: for none."""
    if fused.applies(F) and curvature is None:
        found = fused.backward(F, None, cost, mu, spread, (low, high), ITERATIONS, SLACK, values=False)
        return from_fused(found), found.clamped
    if F.is_cuda:  # limits that may act branch on values, which a CUDA graph cannot: first without them
        step = backward(F, None, cost, mu, spread=spread, curvature=curvature)
        if bool(((low <= step.k) & (step.k <= high)).all()):
            return step, None
    box = BoxGain(low, high)
    return backward(F, None, cost, mu, box, spread, curvature), box.clamped


def box_newton(Quu: Float[Tensor, "*b m m"], Qua: Float[Tensor, "*b m a"], low: Float[Tensor, "*b m"],
               high: Float[Tensor, "*b m"], k: Float[Tensor, "*b m"]
               ) -> tuple[Float[Tensor, "*b m a"], Bool[Tensor, "*b m"]]:
    """Minimiser k of 1/2 k'Q_uu k + q_u'k within low <= k <= high, from a feasible start; Q_ua = [q_u Q_ux].

    Returns -[k K], K the gains of the free components and zero for the others, and which are free.
    """
    eye = torch.eye(Quu.shape[-1], dtype=Quu.dtype, device=Quu.device)
    q = Qua[..., 0]
    slack = SLACK * q.abs().amax(-1, keepdim=True)
    g = q + _times(Quu, k)
    free = _free(k, g, low, high, slack)
    H, face = Qua, free
    for _ in range(ITERATIONS):
        face = free
        rows = face.unsqueeze(-1)
        L, _info = torch.linalg.cholesky_ex(torch.where(rows & face.unsqueeze(-2), Quu, eye))
        right = Qua * rows
        right[..., 0] = g * face
        H = torch.cholesky_solve(right, L)
        target = k - H[..., 0]  # minimiser on the face
        within = target.clamp(low, high)
        on_face = torch.equal(within, target)
        k = within if on_face else _projected_search(Quu, g, low, high, k, target)
        g = q + _times(Quu, k)
        free = _free(k, g, low, high, slack)
        if on_face and torch.equal(free, face):
            break
    H[..., 0] = -k
    return H, face


def _times(H: Tensor, k: Tensor) -> Tensor:
    return (H @ k.unsqueeze(-1)).squeeze(-1)


def _free(k: Tensor, g: Tensor, low: Tensor, high: Tensor, slack: Tensor) -> Tensor:
    """Components that are not held at a bound by their gradient."""
    return ~(((k <= low) & (g > slack)) | ((k >= high) & (g < -slack)))


def _projected_search(H: Tensor, g: Tensor, low: Tensor, high: Tensor, k: Tensor, target: Tensor) -> Tensor:
    """The best of 16 points on the projected arc from k towards target; small steps decrease (Bertsekas 1982)."""
    lengths = 0.5 ** torch.arange(16, dtype=k.dtype, device=k.device).reshape(-1, *[1] * k.ndim)
    d = (k + lengths * (target - k)).clamp(low, high) - k  # (16, *b, m)
    change = (d * (g + 0.5 * _times(H, d))).sum(-1, keepdim=True)
    return k + torch.take_along_dim(d, change.argmin(0, keepdim=True), 0)[0]
