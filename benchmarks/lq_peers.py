"""Other solvers of LQ problems, prepared so that a call is the work alone. Missing ones raise ImportError."""
from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Data(NamedTuple):
    """An LQ problem as in types.QuadraticCost and LinearGaussianDynamics, with F (T, n, n + m)."""

    x0: Array
    F: Array
    f: Array
    C: Array
    c: Array
    const: Array


class Crocoddyl:
    """Crocoddyl's differential dynamic programming on its LQR models, in double precision."""

    name = "Crocoddyl"

    def __init__(self, data: Data, limit: float = np.inf) -> None:
        """From zero efforts; `limit` on every effort, for the box-limited solver."""
        import crocoddyl
        self.data, (T, n, p) = data, data.F.shape
        m = p - n
        none, empty = np.zeros((0, p)), np.zeros(0)
        self.arguments = []
        for t in range(T + 1):
            F, f = (data.F[t], data.f[t]) if t < T else (np.eye(n, p), np.zeros(n))
            # Columns first, as Eigen stores them: its binding then copies without transposing.
            A, B, Q, R, N = (np.asfortranarray(a) for a in (
                F[:, :n], F[:, n:], data.C[t, :n, :n], data.C[t, n:, n:], data.C[t, :n, n:]))
            self.arguments.append((A, B, Q, R, N, none, none, f.copy(), data.c[t, :n].copy(), data.c[t, n:].copy(),
                                   empty, empty))
        self.models = [crocoddyl.ActionModelLQR(*a[:5], *a[7:10]) for a in self.arguments]
        for model in self.models:
            model.u_lb, model.u_ub = np.full(m, -limit), np.full(m, limit)
        self.problem = crocoddyl.ShootingProblem(data.x0, self.models[:-1], self.models[-1])
        self.problem.nthreads = 1  # or its threads wait for each other, milliseconds on a busy machine
        self.start = [np.zeros(n)] * (T + 1), [np.zeros(m)] * T
        if np.isfinite(limit):
            self.solver = crocoddyl.SolverBoxDDP(self.problem)
            return
        self.solver = crocoddyl.SolverDDP(self.problem)
        us = self.start[1]
        self.solver.setCandidate(self.problem.rollout(us), us, True)
        self.problem.calc(self.solver.xs, self.solver.us)
        self.iterate()

    def load(self) -> None:
        """New matrices into the same models."""
        for model, arguments in zip(self.models, self.arguments, strict=True):
            model.setLQR(*arguments)

    def iterate(self) -> None:
        """Derivatives, backward pass, rollout."""
        self.problem.calcDiff(self.solver.xs, self.solver.us)
        self.solver.backwardPass()
        self.solver.forwardPass(1.0)

    def fresh(self) -> None:
        """The same from new matrices."""
        self.load()
        self.iterate()

    def backward(self) -> None:
        """Of the derivatives at hand."""
        self.solver.backwardPass()

    def limited(self) -> None:
        """The box-limited solver from zero efforts."""
        self.solver.solve(*self.start, 100, False)

    def gains(self) -> Array:
        """K (T, m, n) of u = K x + k."""
        return -np.array(self.solver.K.tolist())

    def efforts(self) -> Array:
        """u (T, m) of the gains found, along the dynamics: the trajectory of a rollout is not shown to Python."""
        x, u = self.data.x0, []
        for t, (F, f) in enumerate(zip(self.data.F, self.data.f, strict=True)):
            u.append(self.solver.us[t] - self.solver.k[t] - self.solver.K[t] @ (x - self.solver.xs[t]))
            x = F @ np.concatenate([x, u[-1]]) + f
        return np.array(u)


class Hpipm:
    """HPIPM's Riccati solver for problems without limits, of the library that comes with acados, in double precision.

    x_0 is no unknown: its step is eliminated beforehand, outside of what is timed, and no gains are found there.
    """

    name = "HPIPM"

    def __init__(self, data: Data) -> None:
        spec = importlib.util.find_spec("acados")
        if spec is None or spec.origin is None:
            raise ImportError("acados")
        folder = Path(spec.origin).parent / "install" / "lib"
        ctypes.CDLL(str(folder / "libblasfeo.so"), mode=ctypes.RTLD_GLOBAL)
        self.lib = ctypes.CDLL(str(folder / "libhpipm.so"))
        T, n, p = data.F.shape
        m = p - n
        self.shape = T, m
        self.keep: list[Any] = []
        dim = self._make("d_ocp_qp_dim", self._bytes("d_ocp_qp_dim_memsize", T), T, first=True)
        none = [0] * (T + 1)
        counts = [(ctypes.c_int * (T + 1))(*v) for v in ([0] + [n] * T, [m] * T + [0], *[none] * 6)]
        self.lib.d_ocp_qp_dim_set_all(*counts, dim)
        self.qp = self._make("d_ocp_qp", self._bytes("d_ocp_qp_memsize", dim), dim)
        self.sol = self._make("d_ocp_qp_sol", self._bytes("d_ocp_qp_sol_memsize", dim), dim)
        self.arg = self._make("d_ocp_qp_ipm_arg", self._bytes("d_ocp_qp_ipm_arg_memsize", dim), dim)
        self.lib.d_ocp_qp_ipm_arg_set_default(1, self.arg)  # SPEED
        size = self._bytes("d_ocp_qp_ipm_ws_memsize", dim, self.arg)
        ws = self._block("d_ocp_qp_ipm_ws")
        self.lib.d_ocp_qp_ipm_ws_create(dim, self.arg, ws, self._memory(size))
        self.ws = ws
        x0, F, f, C, c, _ = data
        A = [F[t, :, :n] for t in range(T)]
        b = [f[0] + A[0] @ x0, *f[1:]]
        r = [c[0, n:] + C[0, n:, :n] @ x0, *c[1:T, n:]]
        lists = [A, [F[t, :, n:] for t in range(T)], b, [C[t, :n, :n] for t in range(T + 1)],
                 [C[t, n:, :n] for t in range(T)], [C[t, n:, n:] for t in range(T)], [c[t, :n] for t in range(T + 1)],
                 r]
        self.pointers = [self._pointers(arrays, T + 1) for arrays in lists] + [self._pointers([], T + 1)] * 17
        self.fresh()

    def _bytes(self, name: str, *arguments: Any) -> int:
        function = getattr(self.lib, name)
        function.restype = ctypes.c_size_t
        return int(function(*arguments))

    def _memory(self, size: int) -> Any:
        block = ctypes.create_string_buffer(size + 64)
        self.keep.append(block)
        return ctypes.c_void_p(-(-ctypes.addressof(block) // 64) * 64)

    def _block(self, name: str) -> Any:
        return self._memory(self._bytes(f"{name}_strsize"))

    def _make(self, name: str, size: int, argument: Any, first: bool = False) -> Any:
        block = self._block(name)
        getattr(self.lib, f"{name}_create")(argument, block, self._memory(size))
        return block

    def _pointers(self, arrays: list[Array], number: int) -> Any:
        columns = [np.asfortranarray(a, float) if a.ndim == 2 else np.array(a, float) for a in arrays]
        self.keep.append(columns)
        return (ctypes.c_void_p * number)(*[a.ctypes.data for a in columns])

    def load(self) -> None:
        """New matrices, columns first, which is what it wants."""
        self.lib.d_ocp_qp_set_all(*self.pointers, self.qp)

    def iterate(self) -> None:
        """Factorisation and solution."""
        self.lib.d_ocp_qp_ipm_solve(self.qp, self.sol, self.arg, self.ws)

    def fresh(self) -> None:
        """Both."""
        self.load()
        self.iterate()

    def efforts(self) -> Array:
        """u (T, m)."""
        u = np.zeros(self.shape)
        for t in range(len(u)):
            self.lib.d_ocp_qp_sol_get_u(t, self.sol, ctypes.c_void_p(u[t].ctypes.data))
        return u
