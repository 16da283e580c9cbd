"""Where the arrays of one LQ problem are in the buffer that the compiled kernels work on."""
from __future__ import annotations

from typing import NamedTuple

from mbrl_ros.kernels import lq_steps, simd
from mbrl_ros.kernels.compiled import revision
from mbrl_ros.kernels.lq_steps import Layout

# Long functions whose parts are intrinsics have to refer to it: it changes with the files behind those.
REVISION = revision(lq_steps.__file__, simd.__file__, __file__)


class Places(NamedTuple):
    """Where the arrays are in the buffer, in elements. Shapes of one step as in Layout."""

    F: int  # (T, n, h)
    C: int  # (T + 1, p, h)
    V: int  # (T + 1, n + 1, x)
    G: int  # (T, m, a)
    R: int  # (T, m, h), Q_u with the regularisation
    spare_G: int  # what the next pass writes: the last that succeeded is kept
    spare_R: int
    z: int  # (T + 1, h)
    candidate: int
    best: int
    low: int  # (T, u)
    high: int
    k: int  # (T, u), deviation of u from that of z
    P: int  # (n + 1, h)
    Q: int  # (m, h), Q_u
    M: int  # (m, h), R with what is clamped fixed
    left: int  # (2 m, h)
    right: int
    zero: int  # (m, a)
    g: int  # (u,)
    target: int  # (u,)
    gradient: int  # (u,)
    free: int  # (h,), one, but zero for efforts that are held
    bound: int  # (h,), zero, but the bounds of efforts that are held
    size: int

    @classmethod
    def of(cls, s: Layout, T: int) -> Places:
        """For a horizon."""
        V, G, R, z = (T + 1) * (s.n + 1) * s.x, T * s.m * s.a, T * s.m * s.h, (T + 1) * s.h
        sizes = [T * s.n * s.h, (T + 1) * s.p * s.h, V, G, R, G, R, z, z, z, T * s.u, T * s.u, T * s.u,
                 (s.n + 1) * s.h, s.m * s.h, s.m * s.h, 2 * s.m * s.h, 2 * s.m * s.h, s.m * s.a, s.u, s.u, s.u,
                 s.h, s.h]
        return cls(*(sum(sizes[:i]) for i in range(len(sizes) + 1)))
