"""Whether the model predicts as well as it says: from its one-step errors, one number between 1 and 0.

The squared Mahalanobis error of a prediction over its dimension is 1 on average where the model is calibrated. Its
running mean stays below 8 in every scenario of config/scenarios.yaml, payloads of 4 kg and five-fold noise included
(tuning seeds); a model that is plainly wrong is at hundreds within a tenth of a second. The learner keeps it, and
begins anew with every global model that it takes up; the controller is told of it with every local one.
"""
from __future__ import annotations

MEMORY = 0.4  # [s] of the running mean
MOST = 400.0  # that one error counts for: a single outlier is no reason to stop
DOUBTED, LOST = 15.0, 100.0  # running means where trust begins to fall, and is gone


class Trust:
    """`value` follows the errors that `update` is given."""

    def __init__(self) -> None:
        self.error = 1.0  # running mean

    @property
    def value(self) -> float:
        """1: as good as it says, 0: not to be used."""
        return min(1.0, max(0.0, (LOST - self.error) / (LOST - DOUBTED)))

    def update(self, error: float, elapsed: float) -> bool:
        """One more squared error over its dimension, `elapsed` [s] after the last; what is not a number counts as the
        most. True where that was the one with which the last trust went."""
        before = self.value
        self.error += min(1.0, elapsed / MEMORY) * ((error if error < MOST else MOST) - self.error)
        return before > 0.0 and self.value == 0.0
