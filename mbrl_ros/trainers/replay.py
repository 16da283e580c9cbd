"""Transitions that a learner draws from: one ring of tensors on its device, the oldest of which are overwritten.

A batch of two kinds, real and imagined, is two draws. What is kept as `end` is that a state was a true end, never
that time was over: nothing is worth anything after an end, while after a time limit it goes on.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions."""

    x: Tensor  # (B, n)
    a: Tensor  # (B, m)
    reward: Tensor  # (B,)
    x_next: Tensor  # (B, n)
    end: Tensor  # (B,), 1 where x_next is one, else 0

    def joined(self, other: Batch) -> Batch:
        """Both, one after the other."""
        return Batch(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


class Replay:
    """At most `capacity` transitions, of states (n,) and actions (m,), in float32."""

    def __init__(self, n: int, m: int, capacity: int, device: str = "cpu"):
        self._widths, self._capacity = (n, m, 1, n, 1), capacity
        self._rows = torch.zeros(capacity, sum(self._widths), device=device)
        self._added = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without the room that is still empty."""
        return {**vars(self), "_rows": self._rows[: len(self)].clone()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        kept = self._rows
        self._rows = kept.new_zeros(self._capacity, kept.shape[1])
        self._rows[: len(kept)] = kept

    def __len__(self) -> int:
        return min(self._added, self._capacity)

    def add(self, batch: Batch) -> None:
        """Keep these, on from the newest; of more than there is room for, the last."""
        of = [part.to(self._rows).reshape(len(batch.x), -1) for part in batch]
        rows = torch.cat(of, -1)
        skipped = max(0, len(rows) - self._capacity)
        places = torch.arange(self._added + skipped, self._added + len(rows), device=self._rows.device)
        self._rows[places % self._capacity] = rows[skipped:]
        self._added += len(rows)

    def states(self) -> Tensor:
        """All x (N, n) that are kept."""
        return self._rows[: len(self), : self._widths[0]]

    def clear(self) -> None:
        """Forget all."""
        self._added = 0

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """So many, each as likely, with repetition. Raises ValueError where there is none."""
        if len(self) == 0:
            raise ValueError("replay: expected transitions before the first draw")
        index = torch.randint(len(self), (count,), generator=generator, device=self._rows.device)
        x, a, reward, x_next, end = self._rows[index].split(self._widths, -1)
        return Batch(x, a, reward.squeeze(-1), x_next, end.squeeze(-1))
