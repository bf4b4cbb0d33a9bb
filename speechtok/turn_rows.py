"""Turn detection for the rows of a stream, which may have different numbers of frames."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from speechtok.nn.turns import OUTPUTS
from speechtok.rows import merge, take
from speechtok.turn_detector import TurnDetector, TurnProbabilities


class _Heard(NamedTuple):
    """A result that is not yet part of the state."""

    found: TurnProbabilities
    states: list[tuple[list[int] | None, Tensor]]


class TurnRows:
    """The state of a turn detector for each row.

    Args:
        detector: of turns.
        batch_size: rows ``B``.

    Attributes:
        state: of all rows, ``(B, n)``.
        missed: rows whose detector missed a part of the utterance.
        found: probabilities of the frames heard last.
    """

    def __init__(self, detector: TurnDetector, batch_size: int) -> None:
        self._detector, self._batch_size = detector, batch_size
        with torch.inference_mode(False):  # the state may be used in any mode later
            self.state = detector.initial_state(batch_size)
        self.missed: set[int] = set()
        self.found = TurnProbabilities(*torch.zeros(OUTPUTS, batch_size, 0))

    def miss(self, samples: Sequence[int]) -> None:
        """Note the rows that got samples which were not heard."""
        self.missed.update(row for row, n in enumerate(samples) if n)

    def reset(self, rows: Iterable[int]) -> None:
        """Start new utterances."""
        chosen = list(rows)
        self.state[chosen] = 0.0
        self.missed.difference_update(chosen)

    def hear(self, parts: Sequence[tuple[list[int] | None, Tensor | None]]) -> _Heard:
        """Detect turns in codes ``(B, Q, T)``, each of some rows; ``None`` stands for all rows, or for no codes.

        The state does not change before :meth:`keep`.
        """
        found, states = [], []
        for rows, codes in parts:
            if codes is not None:
                some, state = self._detector.advance(codes, take(self.state, rows))
                found.append((rows, some))
                states.append((rows, state))
        if len(found) == 1 and found[0][0] is None:
            return _Heard(TurnProbabilities(*found[0][1].unbind(1)), states)
        frames = max((some.shape[2] for _, some in found), default=0)
        filled = torch.zeros(self._batch_size, OUTPUTS, frames, device=self.state.device)
        for rows, some in found:
            filled[slice(None) if rows is None else rows, :, : some.shape[2]] = some
        return _Heard(TurnProbabilities(*filled.unbind(1)), states)

    def keep(self, heard: _Heard) -> None:
        """Make a result part of the state."""
        for rows, state in heard.states:
            (self.state,) = merge((self.state,), rows, (state,))
        self.found = heard.found
