"""Turn events from codes: the turn detector as a source of probabilities for a conversation."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from speechtok.errors import StreamError, quoted
from speechtok.live.turns import FrameProbabilities
from speechtok.nn.inference import inference
from speechtok.rows import alike, take
from speechtok.streaming import NO_CODE
from speechtok.turn_detector import TurnDetector as TurnDetector
from speechtok.turn_detector import TurnProbabilities as TurnProbabilities
from speechtok.turn_rows import TurnRows


class TurnStream:
    """Detects turns in codes as they arrive, without their audio: of a caller that sends codes, or of a model.

    :meth:`speechtok.Stream.encode` with ``events=True`` gives the same probabilities beside the codes that it makes.
    Codes may come in pieces of any sizes.

    Args:
        detector: :meth:`speechtok.ConvNeXtTokenizer.turn_detector`.
        batch_size: rows ``B``.
    """

    def __init__(self, detector: TurnDetector, batch_size: int = 1) -> None:
        self._rows, self._batch_size = TurnRows(detector, batch_size), batch_size

    @inference
    def push(self, codes: Tensor) -> TurnProbabilities:
        """Take the next codes.

        Args:
            codes: int64 ``(B, Q, T)``. A row with fewer frames than another ends in frames of
                :data:`~speechtok.NO_CODE`.

        Returns:
            The probabilities of these frames, ``(B, T)`` each; 0 where a row has no frame.

        Raises:
            StreamError: the number of rows is another one.
            TokensError: a code is out of range, or there are too many codebooks.
        """
        if codes.ndim != 3 or len(codes) != self._batch_size:
            raise StreamError(f"codes has shape {quoted(tuple(codes.shape))}; expected ({self._batch_size}, Q, T)")
        frames: list[int] = (codes[:, 0] != NO_CODE).sum(1).tolist()
        parts = [(rows, take(codes, rows)[:, :, :n] if n else None) for (n,), rows in alike(frames)]
        heard = self._rows.hear(parts)
        self._rows.keep(heard)
        return heard.found

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Start new utterances in some rows, or in all."""
        self._rows.reset(range(self._batch_size) if rows is None else rows)


class CodesDetector:
    """A :class:`~speechtok.live.turns.FrameDetector` that listens to one speaker's codes.

    Args:
        tokenizer: of the codes, such as ``speechtok.load()``.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._stream = TurnStream(tokenizer.turn_detector())

    def push(self, codes: Tensor, audio: Any = None) -> FrameProbabilities:
        """Probabilities of the frames of ``codes``, ``(1, Q, T)``; the audio is not needed."""
        found = self._stream.push(codes.to(torch.int64))
        return FrameProbabilities(*(row[0].cpu().numpy() for row in found))

    def reset(self) -> None:
        """Start anew."""
        self._stream.reset()
