"""The maze of Sutton & Barto (Reinforcement Learning, section 8.2): a reward of 1 at the goal, none anywhere else.

States are cells, row by row; actions go up, down, left and right, and stay where a wall or the rim is in the way. With
`slip` an action is any of the four now and then.
"""
from __future__ import annotations

import numpy as np

DYNA = (".......#G",
        "..#....#.",
        "S.#....#.",
        "..#......",
        ".....#...",
        ".........")
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


class Maze:
    """Tabular: `states` cells, of which those of walls are never seen, and `actions`."""

    def __init__(self, layout: tuple[str, ...] = DYNA, slip: float = 0.0):
        self._rows, self._columns, self._slip = len(layout), len(layout[0]), slip
        self._cells = "".join(layout)
        self.states, self.actions = len(self._cells), len(MOVES)

    def reset(self, seed: int) -> int:
        """At the start S."""
        self._rng = np.random.default_rng(seed)
        self._at = self._cells.index("S")
        return self._at

    def step(self, a: int) -> tuple[int, float, bool]:
        """The cell after an action, the reward, and whether it is the goal G."""
        if self._slip > 0 and self._rng.random() < self._slip:
            a = int(self._rng.integers(self.actions))
        row, column = self._at // self._columns + MOVES[a][0], self._at % self._columns + MOVES[a][1]
        if 0 <= row < self._rows and 0 <= column < self._columns:
            to = row * self._columns + column
            if self._cells[to] != "#":
                self._at = to
        end = self._cells[self._at] == "G"
        return self._at, float(end), end
