"""Skipped steps: optimizer steps without a finite loss and gradient, which leave the weights as they are."""

from collections.abc import Mapping

import torch
from torch import Tensor

from speechtok.errors import SpeechtokError

MAX_SKIPPED_IN_A_ROW = 50
"""Skipped steps in a row after which a training is unlikely to recover."""


def all_finite(terms: Mapping[str, Tensor]) -> bool:
    """Whether all losses and gradient norms of a step are finite; ``terms`` are scalars by name."""
    return bool(torch.isfinite(torch.stack(list(terms.values()))).all())


class SkippedSteps:
    """Counts skipped steps, and ends a training that no longer learns.

    Attributes:
        total: skipped steps so far.
        in_a_row: skipped steps since the last step that was not skipped.
    """

    def __init__(self, total: int = 0, in_a_row: int = 0) -> None:
        self.total, self.in_a_row = total, in_a_row

    def reset(self) -> None:
        """Count a step that was not skipped."""
        self.in_a_row = 0

    def add(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Count a skipped step.

        Args:
            step: its number.
            terms: its losses and gradient norms, which the error message shows.

        Raises:
            SpeechtokError: :data:`MAX_SKIPPED_IN_A_ROW` steps in a row were skipped.
        """
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row == MAX_SKIPPED_IN_A_ROW:
            values = {name: float(value) for name, value in terms.items()}
            raise SpeechtokError(
                f"{MAX_SKIPPED_IN_A_ROW} steps in a row, up to step {step}, were not finite ({values}); "
                "lower the learning rates, and run again to resume from the last checkpoint"
            )
