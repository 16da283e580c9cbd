"""Values and a model of counts over finitely many states and actions, compiled, and without Python's lock.

The outcomes of a pair (s, a) are a list that begins at first[s, a] (-1: never tried): in `links` [the next one or -1,
the state it led to, whether that was an end], in `sums` [how often, rewards in all]. `sizes` counts outcomes, pairs
that were tried (listed in `pairs` as s A + a) and states in which something was (in `states`).
"""
from __future__ import annotations

import numba
import numpy as np

from mbrl_ros.kernels.compiled import Array, compile_for, jit

SOURCES = BUFFER, POLICY, RANDOM = (0, 1, 2)

_values, _whole, _row = numba.float64[:, ::1], numba.int64[:, ::1], numba.int64[::1]
_int, _float, _bool = numba.int64, numba.float64, numba.boolean


@jit
def _chosen(Q: Array, s: int, epsilon: float, explore: float, pick: float) -> int:
    A = Q.shape[1]
    if explore < epsilon:
        return int(pick * A)
    best, ties = Q[s].max(), 0
    for a in range(A):
        ties += Q[s, a] == best
    place = int(pick * ties)
    for a in range(A):
        if Q[s, a] == best:
            if place == 0:
                return a
            place -= 1
    return 0  # of a row that is not a number


@jit
def _towards(Q: Array, s: int, a: int, target: float, alpha: float) -> None:
    Q[s, a] += alpha * (target - Q[s, a])


@compile_for(_int(_values, _int, _float, _float, _float), nogil=True)
def choose(Q: Array, s: int, epsilon: float, explore: float, pick: float) -> int:
    """The best action at s, one of several at random, or with probability epsilon any; by two numbers from [0, 1)."""
    return _chosen(Q, s, epsilon, explore, pick)


@compile_for(numba.void(_values, _int, _int, _float, _int, _bool, _float, _float), nogil=True)
def real_step(Q: Array, s: int, a: int, r: float, after: int, end: bool, alpha: float, gamma: float) -> None:
    """One step of Q-learning."""
    _towards(Q, s, a, r if end else r + gamma * Q[after].max(), alpha)


@compile_for(numba.void(_whole, _whole, _values, _row, _row, _row, _int, _int, _float, _int, _bool), nogil=True)
def remember(first: Array, links: Array, sums: Array, pairs: Array, states: Array, sizes: Array, s: int, a: int,
             r: float, after: int, end: bool) -> None:
    """Count a transition; `links` and `sums` have room for one outcome more."""
    o = first[s, a]
    while o >= 0 and (links[o, 1] != after or links[o, 2] != end):
        o = links[o, 0]
    if o < 0:
        if first[s].max() < 0:
            states[sizes[2]] = s
            sizes[2] += 1
        if first[s, a] < 0:
            pairs[sizes[1]] = s * first.shape[1] + a
            sizes[1] += 1
        o = sizes[0]
        links[o, 0], links[o, 1], links[o, 2] = first[s, a], after, end
        sums[o, 0] = sums[o, 1] = 0.0
        first[s, a] = o
        sizes[0] += 1
    sums[o, 0] += 1.0
    sums[o, 1] += r


@compile_for(_int(_values, _whole, _whole, _values, _row, _row, _row, _values, _int, _bool, _float, _float, _float),
             nogil=True)
def backups(Q: Array, first: Array, links: Array, sums: Array, pairs: Array, states: Array, sizes: Array, draws: Array,
            source: int, expectation: bool, alpha: float, gamma: float, epsilon: float) -> int:
    """As many as `draws` (n, 3), from [0, 1), has rows; how many were at pairs that the model knows, which the others
    leave undone."""
    done, A = 0, Q.shape[1]
    if sizes[1] == 0:
        return 0
    for i in range(len(draws)):
        where, what, which = draws[i]
        if source == BUFFER:
            pair = pairs[int(where * sizes[1])]
            s, a = pair // A, pair % A
        elif source == POLICY:
            place = where * sizes[2]
            s = states[int(place)]
            a = _chosen(Q, s, epsilon, place - np.floor(place), what)
        else:
            s, a = int(where * len(Q)), int(what * A)
        o = first[s, a]
        if o < 0:
            continue
        times = 0.0
        while o >= 0:
            times += sums[o, 0]
            o = links[o, 0]
        target, left, o = 0.0, which * times, first[s, a]
        while o >= 0:
            value = sums[o, 1] / sums[o, 0] + (0.0 if links[o, 2] else gamma * Q[links[o, 1]].max())
            if expectation:
                target += sums[o, 0] / times * value
            elif left < sums[o, 0] or links[o, 0] < 0:
                target = value
                break
            left -= sums[o, 0]
            o = links[o, 0]
        _towards(Q, s, a, target, alpha)
        done += 1
    return done
