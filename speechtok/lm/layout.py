"""Layouts of the ids of one utterance: a line with one id per step, or a grid with one id per codebook and step.

Rows have the shape ``(L, H)`` here: ``L`` steps of ``H`` ids. ``H`` is 1 for a line and ``Q`` for a grid. A *symbol* is
an id minus :attr:`Format.first_code`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from speechtok.errors import VocabularyError, quoted
from speechtok.lm.parser import GridParser, LineParser, Parser
from speechtok.lm.patterns import InterleavedPattern, ParallelPattern, Pattern, grid_indices

BOS_TOKEN = "<|speech_begin|>"
"""Start of an utterance."""
EOS_TOKEN = "<|speech_end|>"
"""End of an utterance."""
PAD_TOKEN = "<|speech_pad|>"
"""Padding, after the shorter utterances of a batch and before the delayed codebooks of a grid."""
PLACEHOLDER_TOKEN = "<|speech|>"
"""Position of an utterance in a text; replaced by its ids before a model sees the text."""


def make_format(pattern: Pattern, num_codebooks: int, codebook_size: int, offset: int) -> "LineFormat | GridFormat":
    """Layout that belongs to a pattern.

    Raises:
        VocabularyError: the pattern has another base class, or is a grid and ``offset`` is not 0.
    """
    if isinstance(pattern, InterleavedPattern):
        return LineFormat(pattern, num_codebooks, codebook_size, offset)
    if not isinstance(pattern, ParallelPattern):
        raise VocabularyError(
            f"pattern is a {type(pattern).__name__}; expected a subclass of InterleavedPattern or ParallelPattern"
        )
    if offset:
        raise VocabularyError(
            f"offset is {offset}; expected 0 for the pattern {pattern.name!r}: each head has an embedding table of its "
            "own, without text"
        )
    return GridFormat(pattern, num_codebooks, codebook_size)


class Format(ABC):
    """Ids of one utterance, and the rules by which they follow each other.

    Args:
        num_codebooks: number of codebooks ``Q``.
        codebook_size: entries ``N`` of each codebook.
        num_heads: ids per step ``H``.
        size: number of ids; of each head, for a grid.
        offset: first id.
        first_special: id of the first special token.
        first_code: id of code 0 of codebook 0.
    """

    is_grid: ClassVar[bool]
    special_tokens: ClassVar[tuple[str, ...]]
    """Names of the special tokens, in the order of their ids."""

    def __init__(
        self,
        num_codebooks: int,
        codebook_size: int,
        num_heads: int,
        size: int,
        offset: int,
        first_special: int,
        first_code: int,
    ) -> None:
        self.num_codebooks, self.codebook_size, self.num_heads = num_codebooks, codebook_size, num_heads
        self.size, self.offset, self.stop_id = size, offset, offset + size
        self.first_code = first_code
        self.bos_id, self.eos_id, self.pad_id = range(first_special, first_special + 3)

    @property
    @abstractmethod
    def placeholder_id(self) -> int:
        """Id of the placeholder token."""

    @property
    @abstractmethod
    def tokens(self) -> list[str]:
        """Name of each id."""

    @abstractmethod
    def spans(self, row: Tensor) -> list[slice]:
        """Utterances in a mixed sequence ``(L, 1)``."""

    @abstractmethod
    def parser(self) -> Parser:
        """New incremental parser for one utterance."""

    @abstractmethod
    def to_ids(self, codes: Tensor) -> Tensor:
        """Codes ``(Q, T)`` to ids ``(L, H)``, with start and end tokens."""

    @abstractmethod
    def _body_to_codes(self, ids: Tensor, error: Callable[[int, str], VocabularyError] | None) -> Tensor:
        """Valid codes ``(Q, T)`` of the ids ``(L, H)`` after a start token.

        ``error`` makes the exception for an invalid id from its position in ``ids`` and a reason; ``None`` ignores it.
        """

    @abstractmethod
    def _next_ids(self, ids: Tensor) -> list[list[range]]:
        """Ids that may follow ``ids`` ``(L, H)``, which come after a start token; for each head."""

    @abstractmethod
    def describe(self, step: Tensor) -> str:
        """Describe the ids ``(H,)`` of one step in an error message."""

    def to_codes(self, row: Tensor, index: int, strict: bool) -> Tensor:
        """Ids ``(L, H)`` to codes ``(Q, T)``; see :meth:`AudioVocabulary.to_codes`.

        Args:
            row: the ids, with padding on either side.
            index: number of the row in its batch, for messages.
            strict: whether invalid ids are an error.
        """
        start, stop = 0, len(row)
        if stop and self.pad_id in (int(row[0, 0]), int(row[-1, 0])):
            is_used = (row != self.pad_id).any(1)
            start, stop = first_true(is_used), stop - first_true(is_used.flip(0))
        if start >= stop:
            return torch.zeros(self.num_codebooks, 0, dtype=torch.int64, device="cpu")
        if strict and not bool((row[start] == self.bos_id).all()):
            raise VocabularyError(
                f"row {index} starts with {self.describe(row[start])}; expected {BOS_TOKEN} ({self.bos_id}): put it "
                "before ids that were cut from a sequence, or pass strict=False"
            )
        start += int(row[start, 0]) == self.bos_id

        def error(position: int, reason: str) -> VocabularyError:
            found = self.describe(row[start + position])
            return VocabularyError(f"row {index} has {found} at position {start + position}{reason}")

        return self._body_to_codes(row[start:stop], error if strict else None)

    def continuations(self, row: Tensor) -> Tensor:
        """Whether each id may follow ``row`` ``(L, H)``: bool ``(H, stop_id)``."""
        starts = (row[:, 0] == self.bos_id).nonzero()
        allowed = torch.zeros(self.num_heads, self.stop_id, dtype=torch.bool, device="cpu")
        following = self._next_ids(row[int(starts[-1]) + 1 :]) if len(starts) else self._outside()
        for head, ranges in zip(allowed, following, strict=True):
            for ids in ranges:
                head[ids.start : ids.stop] = True
        return allowed

    def _outside(self) -> list[list[range]]:
        """Ids that may follow outside of utterances."""
        return [[range(self.offset), _only(self.bos_id)]] * self.num_heads


class _LineBody(NamedTuple):
    """Result of parsing the symbols of a line.

    Attributes:
        codes: codes ``(Q, T)`` of the complete frames.
        num_valid: number of valid symbols, from the first.
        is_complete: whether the end token may follow them.
        frames: number of frames that they start.
    """

    codes: Tensor
    num_valid: int
    is_complete: bool
    frames: int


class LineFormat(Format):
    """One id per step: ``bos id … id eos``.

    The ids, from ``offset`` on: four special tokens, ``N`` codes of each codebook, and the run lengths 2, 3, … of the
    pattern.

    Args:
        pattern: order of the codes.
        num_codebooks: number of codebooks ``Q``.
        codebook_size: entries ``N`` of each codebook.
        offset: first id.
    """

    is_grid = False
    special_tokens = (BOS_TOKEN, EOS_TOKEN, PAD_TOKEN, PLACEHOLDER_TOKEN)

    def __init__(self, pattern: InterleavedPattern, num_codebooks: int, codebook_size: int, offset: int) -> None:
        self._pattern = pattern
        units = pattern.units(codebook_size)
        self._units = [torch.tensor(unit, dtype=torch.int64, device="cpu") for unit in units]
        self._num_symbols = num_codebooks * codebook_size + pattern.max_run_length - 1 + len(units)
        first_code = offset + len(self.special_tokens)
        super().__init__(
            num_codebooks,
            codebook_size,
            num_heads=1,
            size=len(self.special_tokens) + self._num_symbols,
            offset=offset,
            first_special=offset,
            first_code=first_code,
        )
        # symbol of code 0 of each codebook, (Q, 1)
        self._first_symbols = codebook_size * torch.arange(num_codebooks, device="cpu")[:, None]

    @property
    def placeholder_id(self) -> int:
        """See :attr:`Format.placeholder_id`."""
        return self.offset + self.special_tokens.index(PLACEHOLDER_TOKEN)

    @property
    def tokens(self) -> list[str]:
        """See :attr:`Format.tokens`."""
        codes = [f"<|speech_{q}_{n}|>" for q in range(self.num_codebooks) for n in range(self.codebook_size)]
        run_lengths = [f"<|speech_run_{n}|>" for n in range(2, self._pattern.max_run_length + 1)]
        units = [f"<|speech_unit_{n}|>" for n in range(len(self._units))]
        return [*self.special_tokens, *codes, *run_lengths, *units]

    def parser(self) -> LineParser:
        """See :meth:`Format.parser`."""
        return LineParser(self._pattern, self.num_codebooks, self.codebook_size)

    def to_ids(self, codes: Tensor) -> Tensor:
        """See :meth:`Format.to_ids`."""
        if self._units:
            symbols = self._pattern.merge(codes[0].tolist(), self.codebook_size)
            ids = torch.tensor(symbols, dtype=torch.int64, device="cpu") + self.first_code
        elif self._pattern.max_run_length > 1:
            ids = self._write_runs(codes[0]) + self.first_code
        else:
            ids = torch.empty(codes.numel(), dtype=torch.int64, device="cpu")
            positions = self._pattern.positions(codes.shape[1], self.num_codebooks)
            ids.scatter_(0, positions.flatten(), (codes + (self._first_symbols + self.first_code)).flatten())
        ends = torch.tensor([self.bos_id, self.eos_id], device="cpu")
        return torch.cat([ends[:1], ids, ends[1:]])[:, None]

    def spans(self, row: Tensor) -> list[slice]:
        """See :meth:`Format.spans`."""
        ids = row[:, 0]
        starts = (ids == self.bos_id).nonzero().flatten().tolist()
        others = iter(((ids < self.first_code) | (ids >= self.stop_id)).nonzero().flatten().tolist())
        following, spans = next(others, None), []
        for start in starts:
            while following is not None and following <= start:
                following = next(others, None)
            stop = len(ids) if following is None else following
            if stop < len(ids) and int(ids[stop]) == self.eos_id:
                stop += 1
            spans.append(slice(start, stop))
        return spans

    def describe(self, step: Tensor) -> str:
        """See :meth:`Format.describe`."""
        id_ = int(step)
        symbol = id_ - self.first_code
        if 0 <= symbol < self.num_codebooks * self.codebook_size:
            return f"a code of codebook {symbol // self.codebook_size} (id {id_})"
        if 0 <= symbol < self._num_symbols:
            return f"a {'unit of codes' if self._units else 'run length'} (id {id_})"
        if self.offset <= id_ < self.first_code:
            return f"the token {self.special_tokens[id_ - self.offset]} (id {id_})"
        return f"the id {id_}, which is not one of {self.offset} to {self.stop_id - 1}"

    def _body_to_codes(self, ids: Tensor, error: Callable[[int, str], VocabularyError] | None) -> Tensor:
        symbols = ids[:, 0] - self.first_code
        body = self._parse(symbols)
        n = body.num_valid
        if error is None or n == len(ids):  # an utterance may be cut off anywhere
            return body.codes
        is_end = int(ids[n]) == self.eos_id
        if is_end and body.is_complete:
            if n + 1 < len(ids):
                reason = "after the end of the utterance; expected one utterance: cut a mixed sequence with spans()"
                raise error(n + 1, f", {reason}, or pass strict=False")
            return body.codes
        if int(ids[n]) == self.bos_id:
            raise error(n, "; utterances cannot be nested. Pass strict=False for the frames before it")
        following = self._next_codes(body, symbols) + [_only(self.eos_id)] * body.is_complete
        expected = " or ".join(self.describe(torch.tensor(ids.start, device="cpu")) for ids in following)
        where = ", within a frame" if is_end else ""
        raise error(n, f"{where}; expected {expected}. Pass strict=False for the frames before it")

    def _next_ids(self, ids: Tensor) -> list[list[range]]:
        if bool((ids == self.eos_id).any()):
            return self._outside()
        symbols = ids[:, 0] - self.first_code
        body = self._parse(symbols)
        if body.num_valid < len(symbols):
            return [[_only(self.eos_id)]]
        return [self._next_codes(body, symbols) + [_only(self.eos_id)] * body.is_complete]

    def _next_codes(self, body: _LineBody, symbols: Tensor) -> list[range]:
        """Ids of codes and run lengths that may follow the valid symbols."""
        n, size = body.num_valid, self.codebook_size
        if self.num_codebooks == 1:
            if self._units:
                return [range(self.first_code, self.stop_id)]
            codes = [range(self.first_code, self.first_code + size)]
            follows_code = n > 0 and int(symbols[n - 1]) < size
            run_lengths = range(self.first_code + size, self.stop_id)
            return codes + [run_lengths] * (follows_code and len(run_lengths) > 0)
        positions = self._pattern.positions(body.frames, self.num_codebooks)
        codebooks = (positions == n).nonzero()[:, 0].tolist()
        if int(self._pattern.positions(body.frames + 1, self.num_codebooks)[0, body.frames]) == n:
            codebooks.append(0)
        first = [self.first_code + q * size for q in sorted(codebooks)]
        return [range(start, start + size) for start in first]

    def _parse(self, symbols: Tensor) -> _LineBody:
        """Parse ``(L,)`` up to the end token or the first invalid symbol."""
        symbols = symbols[: first_true(symbols == self.eos_id - self.first_code)]
        if self.num_codebooks == 1:
            return self._parse_runs(symbols)
        num_codebooks, size = self.num_codebooks, self.codebook_size
        frames, rest = divmod(len(symbols), num_codebooks)
        if frames and not rest:  # most utterances are complete: try that first
            codes = _take(symbols, self._pattern.positions(frames, num_codebooks)) - self._first_symbols
            if self._are_codes(codes):
                return _LineBody(codes, len(symbols), True, frames)
        symbols = symbols[: first_true((symbols < 0) | (symbols >= self._num_symbols))]
        frames = int((symbols < size).sum())
        positions, valid = self._match(symbols, frames)
        if valid < len(symbols):  # frames that start after the invalid symbol do not count
            frames = int((symbols[:valid] < size).sum())
            positions, valid = self._match(symbols, frames)
        codebooks, kept = self._pattern.decodable((positions < valid).sum(1).tolist())
        # positions increase along each row, so the codes kept are among the valid symbols
        codes = _take(symbols, positions[:codebooks, :kept]) - self._first_symbols[:codebooks]
        return _LineBody(codes, valid, valid == positions.numel(), frames)

    def _match(self, symbols: Tensor, frames: int) -> tuple[Tensor, int]:
        """Positions for ``frames`` frames, and how many symbols have the codebook of their position."""
        positions = self._pattern.positions(frames, self.num_codebooks)
        total = positions.numel()
        if len(symbols) < total:
            symbols = torch.nn.functional.pad(symbols, (0, total - len(symbols)), value=-1)
        codebooks = _take(symbols, positions) // self.codebook_size
        wrong = positions[codebooks != torch.arange(self.num_codebooks, device="cpu")[:, None]]
        return positions, min(int(wrong.min()) if len(wrong) else total, len(symbols))

    def _parse_runs(self, symbols: Tensor) -> _LineBody:
        """Parse codes of one codebook, with run lengths or units."""
        if len(symbols) and self._are_codes(symbols):
            return _LineBody(symbols[None], len(symbols), True, len(symbols))
        size = self.codebook_size
        symbols = symbols[: first_true((symbols < 0) | (symbols >= self._num_symbols))]
        if self._units:
            codes = torch.cat([symbols[:0], *(self._unit(symbol) for symbol in symbols.tolist())])[None]
            return _LineBody(codes, len(symbols), True, codes.shape[1])
        is_run = symbols >= size
        valid = first_true(is_run & torch.nn.functional.pad(is_run, (1, 0), value=True)[:-1])
        symbols, is_run = symbols[:valid], is_run[:valid]
        lengths = torch.ones_like(symbols)
        where = is_run.nonzero().flatten()
        lengths[where - 1] = symbols[where] - size + 2
        codes = symbols[~is_run].repeat_interleave(lengths[~is_run])[None]
        return _LineBody(codes, valid, True, codes.shape[1])

    def _unit(self, symbol: int) -> Tensor:
        """Codes of one symbol, ``(T,)``."""
        size = self.codebook_size
        return self._units[symbol - size] if symbol >= size else torch.tensor([symbol], device="cpu")

    def _write_runs(self, codes: Tensor) -> Tensor:
        """Codes ``(T,)`` to symbols: the code of each run, and its length if that is above 1; long runs are split."""
        longest = self._pattern.max_run_length
        codes, counts = torch.unique_consecutive(codes, return_counts=True)
        num_parts = -(-counts // longest)
        last_parts = num_parts.cumsum(0) - 1
        lengths = torch.full((int(num_parts.sum()),), longest, device="cpu")
        lengths[last_parts] = counts - (num_parts - 1) * longest
        pairs = torch.stack([codes.repeat_interleave(num_parts), self.codebook_size + lengths - 2], 1)
        return pairs[torch.stack([torch.ones_like(lengths, dtype=torch.bool), lengths > 1], 1)]

    def _are_codes(self, codes: Tensor) -> bool:
        low, high = codes.aminmax()
        return int(low) >= 0 and int(high) < self.codebook_size


class _GridBody(NamedTuple):
    """Result of parsing the steps of a grid.

    Attributes:
        codes: codes ``(Q, T)`` of the complete frames.
        num_valid: number of valid steps, from the first.
        frames: number of frames that they start.
        has_ended: whether codebook 0 has ended.
        invalid_codebook: first codebook with an invalid id in the step after the valid ones; ``None`` without such a
            step.
    """

    codes: Tensor
    num_valid: int
    frames: int
    has_ended: bool
    invalid_codebook: int | None


class GridFormat(Format):
    """One id of each codebook per step: a step of ``bos``, the codes with their delays, and a step of ``eos``.

    A delayed codebook has ``pad`` before its first code and ``eos`` after its last one. Each head has ``N + 3`` ids:
    the codes, then three special tokens.

    Args:
        pattern: delays of the codebooks.
        num_codebooks: number of codebooks ``Q``.
        codebook_size: entries ``N`` of each codebook.
    """

    is_grid = True
    special_tokens = (BOS_TOKEN, EOS_TOKEN, PAD_TOKEN)

    def __init__(self, pattern: ParallelPattern, num_codebooks: int, codebook_size: int) -> None:
        self._pattern = pattern
        self._delays = pattern.codebook_delays(num_codebooks)
        super().__init__(
            num_codebooks,
            codebook_size,
            num_heads=num_codebooks,
            size=codebook_size + len(self.special_tokens),
            offset=0,
            first_special=codebook_size,
            first_code=0,
        )

    @property
    def placeholder_id(self) -> int:
        """Raises :class:`VocabularyError`."""
        raise self._no_text()

    @property
    def tokens(self) -> list[str]:
        """Raises :class:`VocabularyError`."""
        raise self._no_text()

    def spans(self, row: Tensor) -> list[slice]:
        """Raises :class:`VocabularyError`."""
        raise self._no_text()

    def _no_text(self) -> VocabularyError:
        return VocabularyError(
            f"the pattern {self._pattern.name!r} gives grids of ids, which cannot be mixed with text; expected an "
            "interleaved pattern, such as 'flatten' or 'delay'"
        )

    def parser(self) -> GridParser:
        """See :meth:`Format.parser`."""
        return GridParser(self._pattern, self.num_codebooks, self.codebook_size)

    def to_ids(self, codes: Tensor) -> Tensor:
        """See :meth:`Format.to_ids`."""
        frames = codes.shape[1]
        ids = torch.full((frames + max(self._delays) + 2, self.num_codebooks), self.eos_id, device="cpu")
        ids[0] = self.bos_id
        for q, delay in enumerate(self._delays):
            ids[1 : 1 + delay, q] = self.pad_id
            ids[1 + delay : 1 + delay + frames, q] = codes[q]
        return ids

    def describe(self, step: Tensor) -> str:
        """See :meth:`Format.describe`."""
        return f"the step {quoted(step.tolist())}"

    def _body_to_codes(self, ids: Tensor, error: Callable[[int, str], VocabularyError] | None) -> Tensor:
        body = self._parse(ids)
        q = body.invalid_codebook
        if error is not None and q is not None:
            names = {self.eos_id: f"{EOS_TOKEN} ({self.eos_id})", self.pad_id: f"{PAD_TOKEN} ({self.pad_id})"}
            following = [
                names.get(r.start, f"a code (0 to {self.codebook_size - 1})") for r in self._next_steps(body)[q]
            ]
            reason = f"expected {' or '.join(following)} for codebook {q}"
            raise error(body.num_valid, f"; {reason}. Pass strict=False for the frames before it")
        return body.codes

    def _next_ids(self, ids: Tensor) -> list[list[range]]:
        body = self._parse(ids)
        if body.num_valid < len(ids):
            return [[_only(self.eos_id)]] * self.num_heads
        return self._next_steps(body)

    def _next_steps(self, body: _GridBody) -> list[list[range]]:
        """Ids that may follow the valid steps; for each codebook."""
        codes, eos, pad = range(self.codebook_size), _only(self.eos_id), _only(self.pad_id)
        following = []
        for q, delay in enumerate(self._delays):
            if body.num_valid < delay:
                following.append([pad])
            elif body.has_ended and body.num_valid >= delay + body.frames:
                following.append([eos])
            else:
                following.append([codes, eos] if q == 0 else [codes])
        return following

    def _parse(self, steps: Tensor) -> _GridBody:
        """Parse ``(L, Q)`` up to the first invalid step."""
        delays = torch.tensor(self._delays, device="cpu")
        is_valid = (steps >= 0) & (steps < self.codebook_size)
        frames = first_true(~is_valid[:, 0])
        has_ended = frames < len(steps) and int(steps[frames, 0]) == self.eos_id
        for q, delay in enumerate(self._delays):
            is_valid[:delay, q] = steps[:delay, q] == self.pad_id
            is_valid[delay + frames :, q] = steps[delay + frames :, q] == self.eos_id
        if frames < len(steps):
            # heads of one step do not see each other: another one may write a code where codebook 0 ends
            is_valid[frames] = (is_valid[frames] | (delays == 0)) & has_ended
        valid = first_true(~is_valid.all(1))
        complete = max(0, min(frames, valid - max(self._delays)))
        frame, codebook = grid_indices(complete, self.num_codebooks)
        codes = _take(steps.flatten(), (frame + delays[:, None]) * self.num_codebooks + codebook)
        invalid_codebook = first_true(~is_valid[valid]) if valid < len(steps) else None
        return _GridBody(codes, valid, frames, has_ended and frames < valid, invalid_codebook)


def first_true(mask: Tensor) -> int:
    """Index of the first ``True`` of ``(L,)``; ``L`` if there is none."""
    values = mask.numpy()  # argmax of NumPy stops at the first
    index = int(values.argmax()) if len(values) else 0
    return index if len(values) and values[index] else len(values)


def _only(id_: int) -> range:
    return range(id_, id_ + 1)


def _take(symbols: Tensor, positions: Tensor) -> Tensor:
    return symbols.index_select(0, positions.flatten()).view(positions.shape)
