"""Reading the ids of one utterance as they come, each in constant time over a whole utterance."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from speechtok.errors import VocabularyError
from speechtok.lm.patterns import Grid, Line


class Reader(ABC):
    """What came of the body of an utterance, between its marks, and what of it was not given on yet.

    Args:
        num_codebooks: ``Q``.
    """

    def __init__(self, num_codebooks: int) -> None:
        self._coming: list[deque[int]] = [deque() for _ in range(num_codebooks)]
        self._given = 0

    @abstractmethod
    def take(self, symbols: Sequence[int]) -> Tensor:
        """Take the next step.

        Args:
            symbols: one for a line, ``Q`` for a grid, counted from where the vocabulary has its first code.

        Returns:
            The codes of the frames that are now complete, int64 ``(Q, T)``.

        Raises:
            VocabularyError: it cannot follow what came before; the reader is as it was.
        """

    @abstractmethod
    def finish(self) -> Tensor:
        """What the utterance still speaks though it was interrupted, ``(Q, T)``: maybe with fewer codebooks."""

    def _give(self, num_codebooks: int, frames: int) -> Tensor:
        """The next ``frames``, with the first ``num_codebooks``."""
        codes = [[codebook.popleft() for _ in range(frames)] for codebook in self._coming[:num_codebooks]]
        self._given += frames
        return torch.tensor(codes, dtype=torch.int64, device="cpu").view(num_codebooks, frames)


class LineReader(Reader):
    """Reads a :class:`~speechtok.lm.patterns.Line`.

    Args:
        pattern: the order of the codes.
        num_codebooks: ``Q``.
        codebook_size: ``N``.
    """

    def __init__(self, pattern: Line, num_codebooks: int, codebook_size: int) -> None:
        super().__init__(num_codebooks)
        self._pattern = pattern
        self._size = codebook_size
        self._length = 0
        self._frames = 0  # that codebook 0 has
        self._last_code: int | None = None  # what a run would repeat
        self._capacity = 0
        self._order: list[int] = []
        self._beginnings: list[int] = []
        self._tail: list[int] | None = None  # the order of the whole, once it is known how long that is

    def take(self, symbols: Sequence[int]) -> Tensor:
        """See :meth:`Reader.take`."""
        (symbol,) = symbols
        q, code = divmod(symbol, self._size)
        if q >= len(self._coming):
            return self._take_run(symbol - len(self._coming) * self._size + 2)
        self._advance(q)
        self._length += 1
        self._frames += q == 0
        self._last_code = code
        self._coming[q].append(code)
        return self._give(len(self._coming), min(map(len, self._coming)))

    def finish(self) -> Tensor:
        """See :meth:`Reader.finish`."""
        codebooks, frames = self._pattern.kept([self._given + len(codebook) for codebook in self._coming])
        return self._give(codebooks, max(0, frames - self._given))

    def _take_run(self, frames: int) -> Tensor:
        if self._last_code is None:
            raise VocabularyError(f"a run of {frames} frames follows no code; expected a code before it")
        self._coming[0].extend([self._last_code] * (frames - 1))
        self._last_code = None
        return self._give(1, frames - 1)

    def _advance(self, q: int) -> None:
        """Check that codebook ``q`` may come next."""
        if len(self._coming) == 1:
            return
        if self._tail is None:
            if self._capacity <= self._frames:
                self._capacity = max(16, 2 * self._capacity)
                self._order, self._beginnings = self._ordered(self._capacity)
            expected = self._order[self._length]
            if q == expected:
                return
            if self._length != self._beginnings[self._frames]:
                raise VocabularyError(f"a code of codebook {q} comes; expected one of codebook {expected}")
            # no further frame begins where one could: so this is all of them
            tail, _ = self._ordered(self._frames)
        else:
            tail = self._tail
        if self._length >= len(tail) or tail[self._length] != q:
            expected = tail[self._length] if self._length < len(tail) else 0
            raise VocabularyError(f"a code of codebook {q} comes; expected one of codebook {expected}")
        self._tail = tail

    def _ordered(self, frames: int) -> tuple[list[int], list[int]]:
        """Codebooks in their order, and the places of codebook 0."""
        places = self._pattern.places(frames, len(self._coming))
        order = torch.empty(places.numel(), dtype=torch.int64, device="cpu")
        order[places] = torch.arange(len(self._coming), device="cpu")[:, None].expand_as(places)
        return order.tolist(), places[0].tolist()


class GridReader(Reader):
    """Reads a :class:`~speechtok.lm.patterns.Grid`.

    Args:
        pattern: which codebook is how late.
        num_codebooks: ``Q``.
        codebook_size: ``N``; ``N + 1`` ends a codebook, ``N + 2`` stands before the first code of a late one.
    """

    def __init__(self, pattern: Grid, num_codebooks: int, codebook_size: int) -> None:
        super().__init__(num_codebooks)
        self._late = pattern.steps_late(num_codebooks)
        self._size = codebook_size
        self._step = 0
        self._frames: int | None = None

    def take(self, symbols: Sequence[int]) -> Tensor:
        """See :meth:`Reader.take`."""
        frames = self._frames
        if frames is None and symbols[0] == self._size + 1:
            frames = self._step
        new: list[tuple[int, int]] = []
        for q, (symbol, late) in enumerate(zip(symbols, self._late, strict=True)):
            if self._step < late:
                fits = symbol == self._size + 2
            elif frames is None or self._step < late + frames:
                fits = symbol < self._size
                new.append((q, symbol))
            else:  # the end is told by codebook 0: the heads of a step do not know of each other
                fits = symbol == self._size + 1 or (late == 0 and self._step == frames)
            if not fits:
                raise VocabularyError(f"codebook {q} has {symbol} in step {self._step}; expected what belongs there")
        self._frames = frames
        self._step += 1
        for q, code in new:
            self._coming[q].append(code)
        return self._give(len(self._coming), min(map(len, self._coming)))

    def finish(self) -> Tensor:
        """See :meth:`Reader.finish`."""
        return self._give(len(self._coming), 0)
