"""Incremental parsers: the ids of one utterance to codes, id by id, in amortised constant time per id."""

import copy
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from speechtok.errors import VocabularyError, quoted
from speechtok.lm.deprecation import Renamed
from speechtok.lm.patterns import InterleavedPattern, ParallelPattern

Parsing = TypeVar("Parsing", bound="Parser")


class Parser(ABC):
    """Parses the ids between the start and the end token of an utterance.

    Args:
        num_codebooks: number of codebooks ``Q``.
    """

    take = Renamed("feed")

    def __init__(self, num_codebooks: int) -> None:
        self._pending: list[deque[int]] = [deque() for _ in range(num_codebooks)]  # codes of incomplete frames
        self._num_emitted = 0  # frames

    @abstractmethod
    def feed(self, symbols: Sequence[int]) -> Tensor:
        """Parse the next step.

        Args:
            symbols: one id for a line, ``Q`` for a grid; minus :attr:`AudioVocabulary.first_code`.

        Returns:
            Codes of the frames that this step completes, int64 ``(Q, T)``.

        Raises:
            VocabularyError: the step cannot follow; the state of the parser does not change.
        """

    @abstractmethod
    def finish(self) -> Tensor:
        """Remaining codes of an utterance that ends here, ``(Q, T)``; possibly with fewer codebooks."""

    def copy(self: Parsing) -> Parsing:
        """An independent parser in the same state."""
        other = copy.copy(self)
        other._pending = [codebook.copy() for codebook in self._pending]
        return other

    @staticmethod
    def _checked(symbols: Sequence[int], count: int) -> Sequence[int]:
        if len(symbols) != count:
            raise VocabularyError(f"the step has {len(symbols)} symbols; expected {count}")
        return symbols

    def _emit(self, num_codebooks: int, frames: int) -> Tensor:
        """Remove the next frames from the pending codes and return their first ``num_codebooks`` codebooks."""
        codes = [[codebook.popleft() for _ in range(frames)] for codebook in self._pending[:num_codebooks]]
        self._num_emitted += frames
        return torch.tensor(codes, dtype=torch.int64, device="cpu").view(num_codebooks, frames)


class LineParser(Parser):
    """Parser for an :class:`~speechtok.lm.InterleavedPattern`.

    Args:
        pattern: order of the codes.
        num_codebooks: number of codebooks ``Q``.
        codebook_size: entries ``N`` of each codebook.
    """

    def __init__(self, pattern: InterleavedPattern, num_codebooks: int, codebook_size: int) -> None:
        super().__init__(num_codebooks)
        self._pattern = pattern
        self._codebook_size = codebook_size
        self._units = pattern.units(codebook_size)
        self._num_symbols = num_codebooks * codebook_size + pattern.max_run_length - 1 + len(self._units)
        self._length = 0
        self._frames = 0  # codes of codebook 0
        self._last_code: int | None = None  # code that a run length may follow
        self._capacity = 0  # frames that _order covers
        self._order: list[int] = []
        self._frame_starts: list[int] = []
        self._final_order: list[int] | None = None  # once the number of frames is known

    def feed(self, symbols: Sequence[int]) -> Tensor:
        """See :meth:`Parser.feed`."""
        (symbol,) = self._checked(symbols, 1)
        if not 0 <= symbol < self._num_symbols:
            raise VocabularyError(f"the symbol {quoted(symbol)} follows; expected one of 0 to {self._num_symbols - 1}")
        q, code = divmod(symbol, self._codebook_size)
        if self._units and symbol >= self._codebook_size:
            unit = self._units[symbol - self._codebook_size]
            self._pending[0].extend(unit)
            self._length += 1
            self._frames += len(unit)
            return self._emit(1, len(unit))
        if q >= len(self._pending):
            return self._feed_run_length(symbol - len(self._pending) * self._codebook_size + 2)
        self._advance(q)
        self._length += 1
        self._frames += q == 0
        self._last_code = code
        self._pending[q].append(code)
        return self._emit(len(self._pending), min(map(len, self._pending)))

    def following(self) -> list[range]:
        """Symbols of codes, run lengths and units that :meth:`feed` accepts next."""
        size = self._codebook_size
        if self._units:
            return [range(self._num_symbols)]
        if len(self._pending) == 1:
            run_lengths = range(size, size if self._last_code is None else self._num_symbols)
            return [range(size), run_lengths] if len(run_lengths) else [range(size)]
        return [range(q * size, (q + 1) * size) for q in sorted({*self._next_codebooks()})]

    @property
    def is_complete(self) -> bool:
        """Whether the utterance may end here: all frames have all codebooks."""
        return len(self._pending) == 1 or self._length == self._frames * len(self._pending)

    def finish(self) -> Tensor:
        """See :meth:`Parser.finish`."""
        codebooks, frames = self._pattern.decodable([self._num_emitted + len(codebook) for codebook in self._pending])
        return self._emit(codebooks, max(0, frames - self._num_emitted))

    def _feed_run_length(self, frames: int) -> Tensor:
        if self._last_code is None:
            raise VocabularyError(f"a run length of {frames} frames follows no code; expected a code before it")
        self._pending[0].extend([self._last_code] * (frames - 1))
        self._last_code = None
        return self._emit(1, frames - 1)

    def _advance(self, q: int) -> None:
        """Raise unless a code of codebook ``q`` may come next."""
        if len(self._pending) == 1:
            return
        order = self._final_order
        if order is None:
            self._extend_order()
            if q == self._order[self._length]:
                return
            # where codebook 0 could start a frame and another codebook follows, there are no more frames
            ends = self._length == self._frame_starts[self._frames]
            order = self._order_of(self._frames)[0] if ends else self._order
        expected = order[self._length] if self._length < len(order) else 0
        if q != expected or self._length >= len(order):
            raise VocabularyError(f"a code of codebook {q} follows; expected one of codebook {expected}")
        self._final_order = order

    def _next_codebooks(self) -> list[int]:
        """Codebooks that the next code may have."""
        num_codes = self._frames * len(self._pending)  # where the utterance has no further frame
        if self._final_order is not None:
            return self._final_order[self._length : self._length + 1]
        self._extend_order()
        expected = self._order[self._length]
        if self._length != self._frame_starts[self._frames] or self._length == num_codes:
            return [expected]
        positions = self._pattern.positions(self._frames, len(self._pending))
        return [expected, int((positions == self._length).nonzero()[0, 0])]

    def _extend_order(self) -> None:
        if self._capacity <= self._frames:
            self._capacity = max(16, 2 * self._capacity)
            self._order, self._frame_starts = self._order_of(self._capacity)

    def _order_of(self, frames: int) -> tuple[list[int], list[int]]:
        """Codebook at each position, and positions of codebook 0, for ``frames`` frames."""
        positions = self._pattern.positions(frames, len(self._pending))
        order = torch.empty(positions.numel(), dtype=torch.int64, device="cpu")
        order[positions] = torch.arange(len(self._pending), device="cpu")[:, None].expand_as(positions)
        return order.tolist(), positions[0].tolist()


class GridParser(Parser):
    """Parser for a :class:`~speechtok.lm.ParallelPattern`.

    Args:
        pattern: delays of the codebooks.
        num_codebooks: number of codebooks ``Q``.
        codebook_size: entries ``N`` of each codebook; the symbol ``N + 1`` is the end token, ``N + 2`` is padding.
    """

    def __init__(self, pattern: ParallelPattern, num_codebooks: int, codebook_size: int) -> None:
        super().__init__(num_codebooks)
        self._delays = pattern.codebook_delays(num_codebooks)
        self._codebook_size = codebook_size
        self._step = 0
        self._frames: int | None = None  # once codebook 0 has ended

    def feed(self, symbols: Sequence[int]) -> Tensor:
        """See :meth:`Parser.feed`."""
        symbols = self._checked(symbols, len(self._delays))
        eos, pad = self._codebook_size + 1, self._codebook_size + 2
        frames = self._frames
        if frames is None and symbols[0] == eos:
            frames = self._step
        codes: list[tuple[int, int]] = []
        for q, (symbol, delay) in enumerate(zip(symbols, self._delays, strict=True)):
            if self._step < delay:
                valid = symbol == pad
            elif frames is None or self._step < delay + frames:
                valid = 0 <= symbol < self._codebook_size
                codes.append((q, symbol))
            else:  # heads of one step do not see each other: another one may write a code where codebook 0 ends
                valid = symbol == eos or (delay == 0 and self._step == frames)
            if not valid:
                raise VocabularyError(
                    f"codebook {q} has the symbol {symbol} in step {self._step}; expected the one of its delay"
                )
        self._frames = frames
        self._step += 1
        for q, code in codes:
            self._pending[q].append(code)
        return self._emit(len(self._pending), min(map(len, self._pending)))

    def finish(self) -> Tensor:
        """See :meth:`Parser.finish`."""
        return self._emit(len(self._pending), 0)
