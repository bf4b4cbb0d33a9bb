"""The audio vocabulary: codes to the ids of a language model and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import FingerprintError, TokensError, VocabularyError
from speechtok.lm.patterns import Grid, Line, Pattern, as_pattern, check_pattern
from speechtok.lm.reader import GridReader, LineReader, Reader
from speechtok.tokens import SpeechTokens, check_codes

if TYPE_CHECKING:
    from speechtok.tokenizer import Tokenizer

BEGIN, END, PAD, SLOT = "<|speech_begin|>", "<|speech_end|>", "<|speech_pad|>", "<|speech|>"
"""Marks: of begin and end of an utterance, of nothing, and of the place in a text where an utterance belongs."""

_LINE_MARKS = (BEGIN, END, PAD, SLOT)
_GRID_MARKS = (BEGIN, END, PAD)


@dataclass(frozen=True)
class TokenizerFacts:
    """What a vocabulary knows of its tokenizer; see :class:`speechtok.ConvNeXtTokenizer` for what they mean."""

    sample_rate: int
    hop_length: int
    codebook_size: int
    num_codebooks: int
    fingerprint: str


class _Body(NamedTuple):
    """What stands between the marks of an utterance.

    Attributes:
        codes: ``(Q, T)`` of what is complete.
        valid: ids (steps of a grid) that are valid, from the first.
        complete: whether the utterance may end after them.
        frames: that have begun, or of all the utterance if a grid has told its end.
        ended: whether a grid has told its end.
    """

    codes: Tensor
    valid: int
    complete: bool
    frames: int
    ended: bool = False


class AudioVocabulary:
    """Codes as ids of a language model: exact inverses, and no id that a text has.

    For a :class:`~speechtok.lm.patterns.Line`, an utterance is ``begin id … id end``, with a distinct id for each code
    of each codebook, from ``offset`` on: marks, then codebook 0, 1, …, then the runs of 2, 3, … frames if the pattern
    has them. For a :class:`~speechtok.lm.patterns.Grid`, it is a step of ``begin``, the steps, and a step of ``end``,
    where each head has a table of its own: the codes, then the marks; a late codebook has ``pad`` until its first code,
    and ``end`` after its last.

    Args:
        tokenizer: whose codes these are.
        pattern: ``"flatten"``, ``"semantic"``, ``"coarse_first"``, ``"delay"``, ``"parallel"``; or a
            :class:`~speechtok.lm.patterns.Pattern`.
        num_codebooks: to keep, from the first; as many as the pattern carries by default.
        offset: the first id: as many as the text has. :func:`speechtok.lm.extend_tokenizer` finds it.

    Raises:
        VocabularyError: pattern, ``num_codebooks`` or ``offset`` cannot be used.
    """

    def __init__(
        self,
        tokenizer: "Tokenizer | TokenizerFacts",
        pattern: str | Pattern | Mapping[str, Any] = "flatten",
        num_codebooks: int | None = None,
        offset: int = 0,
    ) -> None:
        t = tokenizer
        try:
            self.facts = TokenizerFacts(t.sample_rate, t.hop_length, t.codebook_size, t.num_codebooks, t.fingerprint)
        except AttributeError as error:
            raise VocabularyError(f"tokenizer is a {type(t).__name__}; expected what speechtok.load gives") from error
        self.pattern = as_pattern(pattern)
        most = min(t.num_codebooks, self.pattern.most_codebooks or t.num_codebooks)
        if num_codebooks is None:
            num_codebooks = most
        if isinstance(num_codebooks, np.integer):
            num_codebooks = int(num_codebooks)
        if type(num_codebooks) is not int or not 1 <= num_codebooks <= most:
            raise VocabularyError(
                f"num_codebooks is {num_codebooks!r}; expected 1 to {most} for the pattern {self.pattern.name!r}"
            )
        check_pattern(self.pattern, num_codebooks)
        self.num_codebooks = num_codebooks
        self.codebook_size: int = t.codebook_size
        if isinstance(offset, np.integer):
            offset = int(offset)
        if type(offset) is not int or not 0 <= offset < 2**48:
            raise VocabularyError(f"offset is {offset!r}; expected the number of ids that the text has")
        if offset and isinstance(self.pattern, Grid):
            raise VocabularyError(f"offset is {offset}; expected 0 for a grid: its heads have tables of their own")
        self.offset = offset

    @property
    def is_grid(self) -> bool:
        """Whether a step has an id of each codebook."""
        return isinstance(self.pattern, Grid)

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer whose codes these are."""
        return self.facts.fingerprint

    @property
    def size(self) -> int:
        """Ids, marks included; of a grid, ids of each head."""
        if isinstance(self.pattern, Grid):
            return self.codebook_size + len(_GRID_MARKS)
        return len(_LINE_MARKS) + self._num_symbols

    @property
    def end(self) -> int:
        """The first id after it: a model needs at least so many."""
        return self.offset + self.size

    @property
    def begin_id(self) -> int:
        """The id before an utterance."""
        return self._mark(BEGIN)

    @property
    def end_id(self) -> int:
        """The id after an utterance."""
        return self._mark(END)

    @property
    def pad_id(self) -> int:
        """The id of nothing: after the shorter utterances of a batch, and before the late codebooks of a grid."""
        return self._mark(PAD)

    @property
    def slot_id(self) -> int:
        """The id that marks in a text where an utterance belongs; a model never sees it.

        Raises:
            VocabularyError: for a grid, which no text is mixed with.
        """
        if self.is_grid:
            raise VocabularyError("a grid has no slots in a text; expected a vocabulary with a pattern of one line")
        return self._mark(SLOT)

    @property
    def steps_per_second(self) -> float:
        """Ids (steps, for a grid) that a second of speech takes; with runs, at most."""
        frame_rate = self.facts.sample_rate / self.facts.hop_length
        return frame_rate if self.is_grid else frame_rate * self.num_codebooks

    @property
    def tokens(self) -> list[str]:
        """What a text tokenizer calls the ids, ``size`` of them.

        Raises:
            VocabularyError: for a grid, which no text tokenizer has.
        """
        if not isinstance(self.pattern, Line):
            raise VocabularyError("a grid is no part of a text's ids; expected a vocabulary with a pattern of one line")
        codes = [f"<|speech_{q}_{n}|>" for q in range(self.num_codebooks) for n in range(self.codebook_size)]
        return [*_LINE_MARKS, *codes, *(f"<|speech_run_{n}|>" for n in range(2, self.pattern.most_in_run + 1))]

    def at(self, offset: int) -> "AudioVocabulary":
        """The same vocabulary from another first id on."""
        return AudioVocabulary(self.facts, self.pattern, self.num_codebooks, offset)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with the facts of the tokenizer."""
        return {
            "pattern": self.pattern.to_dict(),
            "num_codebooks": self.num_codebooks,
            "offset": self.offset,
            "tokenizer": asdict(self.facts),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], pattern: Pattern | None = None) -> "AudioVocabulary":
        """Inverse of :meth:`to_dict`.

        Args:
            values: what it gave.
            pattern: the pattern, if it is one of your own that :data:`~speechtok.lm.PATTERNS` does not have.

        Raises:
            VocabularyError: the values describe no vocabulary, or another pattern than the one given.
        """
        try:
            described = dict(values["pattern"])
            facts = TokenizerFacts(**values["tokenizer"])
            num_codebooks, offset = values["num_codebooks"], values["offset"]
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{values!r} describes no vocabulary ({error!r}); expected what to_dict gave"
            raise VocabularyError(reason) from error
        for name in ("sample_rate", "hop_length", "codebook_size", "num_codebooks"):
            if type(getattr(facts, name)) is not int or getattr(facts, name) < 1:
                raise VocabularyError(f"{name} is {getattr(facts, name)!r}; expected a whole number above 0")
        if described.get("delays") is not None:
            described["delays"] = tuple(described["delays"])
        if pattern is not None and pattern.to_dict() != described:
            raise VocabularyError(f"pattern is {pattern.to_dict()}; expected the one that was saved, {described}")
        return cls(facts, described if pattern is None else pattern, num_codebooks, offset)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AudioVocabulary) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.pattern, self.num_codebooks, self.offset, self.facts))

    def __repr__(self) -> str:
        return (
            f"AudioVocabulary({self.pattern!r}, num_codebooks={self.num_codebooks}, ids {self.offset} to "
            f"{self.end - 1}, of tokenizer {self.fingerprint})"
        )

    def to_ids(self, tokens: SpeechTokens | Tensor) -> Tensor:
        """Codes to ids, with the marks.

        Args:
            tokens: of the tokenizer; or bare codes, int64 ``(B, Q, T)``. Codebooks beyond the vocabulary's are
                left out.

        Returns:
            int64 ``(B, L)``, or ``(B, L, Q)`` for a grid; shorter utterances are filled up with :attr:`pad_id`.

        Raises:
            FingerprintError: another tokenizer made the tokens.
            TokensError: the codes are out of range, of wrong dtype or shape, or have too few codebooks.
        """
        if isinstance(tokens, SpeechTokens):
            self._check_fingerprint(tokens)
            codes, lengths = tokens.codes, tokens.lengths.tolist()
        else:
            check_codes(tokens, self.codebook_size)
            codes, lengths = tokens, [tokens.shape[2]] * len(tokens)
        if codes.shape[1] < self.num_codebooks:
            raise TokensError(
                f"the tokens have {codes.shape[1]} codebooks; expected {self.num_codebooks} or more: make the "
                f"vocabulary with num_codebooks={codes.shape[1]}"
            )
        device, codes = codes.device, codes[:, : self.num_codebooks].cpu()
        rows = [self._row_to_ids(row[:, :length]) for row, length in zip(codes, lengths, strict=True)]
        if not rows:
            return torch.zeros((0, 0, self.num_codebooks) if self.is_grid else (0, 0), dtype=torch.int64, device=device)
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id).to(device)

    def to_codes(self, ids: Any, strict: bool = True) -> SpeechTokens:
        """Ids to codes.

        An utterance may be cut off anywhere: what is complete of it is returned. That is whole frames; for
        ``coarse_first``, all frames with the codebooks that are whole (of a batch: that all rows with frames have).

        Args:
            ids: tensor, array or list, ``(L,)`` or ``(B, L)``; for a grid ``(L, Q)`` or ``(B, L, Q)``; or a list of
                such rows of different lengths.
            strict: with ``False``, for what a model generated, nothing is an error: an utterance ends before the first
                id that cannot be there, and may lack its ``begin`` mark.

        Returns:
            Tokens ``(B, Q, T)``, of whole frames: ``num_samples`` is ``lengths * hop_length``.

        Raises:
            VocabularyError: ids of another vocabulary or out of order, marks missing or nested; and in any case if
                ``ids`` is nothing to be read as ids.
        """
        rows = [self._row_to_codes(row, index, strict) for index, row in enumerate(self._as_rows(ids))]
        codebooks = min((len(row) for row in rows if row.shape[1]), default=self.num_codebooks)
        lengths = torch.tensor([row.shape[1] for row in rows], dtype=torch.int64, device="cpu")
        if len(rows) == 1:
            codes = rows[0][None]
        else:
            codes = torch.zeros(len(rows), codebooks, max(lengths.tolist(), default=0), dtype=torch.int64, device="cpu")
            for given, row in zip(codes, rows, strict=True):
                if row.shape[1]:
                    given[:, : row.shape[1]] = row[:codebooks]
        f = self.facts
        return SpeechTokens(
            codes, lengths, lengths * f.hop_length, f.sample_rate, f.hop_length, f.codebook_size, f.fingerprint
        )

    def spans(self, ids: Any) -> list[slice]:
        """Where in a mixed sequence ``(L,)`` the utterances are, marks included; the last one may lack its end.

        An utterance ends with its mark, or before anything that none holds: a text, or the next begin.

        Raises:
            VocabularyError: for a grid, and if ``ids`` is no sequence of ids.
        """
        if self.is_grid:
            raise VocabularyError("a grid is not mixed with text; expected a vocabulary with a pattern of one line")
        (row,) = self._as_rows(ids, one=True)
        inside = (row >= self.offset + len(_LINE_MARKS)) & (row < self.end)
        spans = []
        starts = (row == self.begin_id).nonzero().flatten().tolist()
        others = (~inside).nonzero().flatten().tolist()
        after = iter(others)
        following = next(after, None)
        for start in starts:
            while following is not None and following <= start:
                following = next(after, None)
            stop = len(row) if following is None else following
            if stop < len(row) and int(row[stop]) == self.end_id:
                stop += 1
            spans.append(slice(start, stop))
        return spans

    def continuations(self, ids: Any) -> Tensor:
        """What may follow a sequence.

        Args:
            ids: ``(L,)``, text and speech; or ``(L, Q)`` for a grid.

        Returns:
            bool ``(end,)``, or ``(Q, end)`` for a grid: for each id below :attr:`end`, whether it may be next.
            Outside of utterances that is any text and ``begin``. After something that cannot be in an utterance, it is
            ``end``.

        Raises:
            VocabularyError: if ``ids`` is no sequence of ids.
        """
        (row,) = self._as_rows(ids, one=True)
        heads = self.num_codebooks if self.is_grid else 1
        allowed = torch.zeros(heads, self.end, dtype=torch.bool, device="cpu")
        first = row[:, 0] if self.is_grid else row
        begins = (first == self.begin_id).nonzero()
        start = int(begins[-1]) + 1 if len(begins) else len(row)
        ended = _first(first[start:] == self.end_id) < len(row) - start
        if not len(begins) or (ended and not self.is_grid):
            allowed[:, : self.offset] = True
            allowed[:, self.begin_id] = True
            return allowed if self.is_grid else allowed[0]
        symbols = row[start:] - self.first_code
        body = self._read(symbols)
        if body.valid < len(symbols):
            allowed[:, self.end_id] = True
        else:
            for head, ranges in zip(allowed, self._following(body, symbols), strict=True):
                for symbol in ranges:
                    head[symbol.start + self.first_code : symbol.stop + self.first_code] = True
            if body.complete:
                allowed[:, self.end_id] = True
        return allowed if self.is_grid else allowed[0]

    def reader(self) -> Reader:
        """Reads the body of one utterance as it comes: symbols counted from :attr:`first_code`."""
        if isinstance(self.pattern, Grid):
            return GridReader(self.pattern, self.num_codebooks, self.codebook_size)
        assert isinstance(self.pattern, Line)
        return LineReader(self.pattern, self.num_codebooks, self.codebook_size)

    @property
    def first_code(self) -> int:
        """The id of code 0 of codebook 0."""
        return 0 if self.is_grid else self.offset + len(_LINE_MARKS)

    @property
    def _num_symbols(self) -> int:
        """Ids of a line that are no marks."""
        assert isinstance(self.pattern, Line)
        return self.num_codebooks * self.codebook_size + self.pattern.most_in_run - 1

    def _mark(self, mark: str) -> int:
        if self.is_grid:
            return self.codebook_size + _GRID_MARKS.index(mark)
        return self.offset + _LINE_MARKS.index(mark)

    def _check_fingerprint(self, tokens: SpeechTokens) -> None:
        if tokens.fingerprint != self.fingerprint:
            raise FingerprintError(
                f"the tokens were made by tokenizer {tokens.fingerprint}, and the vocabulary is that of "
                f"{self.fingerprint}; make them with that one, or a vocabulary for theirs"
            )

    def _row_to_ids(self, codes: Tensor) -> Tensor:
        """``codes``: ``(Q, T)``. ``(L,)`` or ``(L, Q)``, with marks."""
        num_codebooks, frames = codes.shape
        if isinstance(self.pattern, Grid):
            late = self.pattern.steps_late(num_codebooks)
            ids = torch.full((frames + max(late) + 2, num_codebooks), self.end_id, device="cpu")
            ids[0] = self.begin_id
            for q, delay in enumerate(late):
                ids[1 : 1 + delay, q] = self.pad_id
                ids[1 + delay : 1 + delay + frames, q] = codes[q]
            return ids
        assert isinstance(self.pattern, Line)
        first = self.first_code + self.codebook_size * torch.arange(num_codebooks, device="cpu")[:, None]
        if self.pattern.most_in_run > 1:
            body = self._with_runs(codes[0], self.pattern.most_in_run) + self.first_code
        else:
            body = torch.empty(codes.numel(), dtype=torch.int64, device="cpu")
            body.scatter_(0, self.pattern.places(frames, num_codebooks).flatten(), (codes + first).flatten())
        return torch.cat([torch.tensor([self.begin_id], device="cpu"), body, torch.tensor([self.end_id], device="cpu")])

    def _with_runs(self, codes: Tensor, most: int) -> Tensor:
        """``codes``: ``(T,)``. Each run as its code and, from two frames on, their number; long ones in parts."""
        values, counts = torch.unique_consecutive(codes, return_counts=True)
        parts = -(-counts // most)
        ends = parts.cumsum(0) - 1
        lengths = torch.full((int(parts.sum()),), most, device="cpu")
        lengths[ends] = counts - (parts - 1) * most
        values = values.repeat_interleave(parts)
        pairs = torch.stack([values, self.codebook_size + lengths - 2], 1)
        written = torch.stack([torch.ones_like(lengths, dtype=torch.bool), lengths > 1], 1)
        return pairs[written]

    def _row_to_codes(self, row: Tensor, index: int, strict: bool) -> Tensor:
        """One row of ids to ``(Q, T)``."""
        first = row[:, 0] if self.is_grid else row
        # a batch may be filled up on either side; within an utterance there are no such ids
        lead, stop = 0, len(row)
        if stop and self.pad_id in (int(first[0]), int(first[-1])):
            real = ~((row == self.pad_id).all(1) if self.is_grid else row == self.pad_id)
            lead, stop = _first(real), stop - _first(real.flip(0))
        if lead >= stop:
            return torch.zeros(self.num_codebooks, 0, dtype=torch.int64, device="cpu")
        begun = int(first[lead]) == self.begin_id
        if strict and (not begun or (self.is_grid and not bool((row[lead] == self.begin_id).all()))):
            raise VocabularyError(
                f"row {index} begins with {self._describe(row[lead])}; expected {BEGIN} ({self.begin_id}): put it "
                "before ids that were cut from a sequence, or pass strict=False"
            )
        symbols = row[lead + int(begun) : stop] - self.first_code
        if self.is_grid:
            body = self._read(symbols)
            if strict and body.valid < len(symbols):
                where = lead + int(begun) + body.valid
                raise VocabularyError(
                    f"row {index} has {row[where].tolist()} in step {where}; expected what the pattern "
                    f"{self.pattern.name!r} has there, codebook by codebook, or pass strict=False"
                )
            return body.codes
        ends = _first(symbols == self.end_id - self.first_code)
        body = self._read(symbols[:ends])
        if strict:
            self._check(row[lead + 1 : stop], ends, body, index, lead + 1)
        return body.codes

    def _check(self, ids: Tensor, ends: int, body: _Body, index: int, start: int) -> None:
        """Say what is wrong with a line after its ``begin``, if anything is."""
        if body.valid == ends == len(ids) - 1 and body.complete:
            return
        following = self._following(body, ids[: body.valid] - self.first_code)[0]
        expected = [self._describe(torch.tensor(some.start + self.first_code, device="cpu")) for some in following]
        if body.valid < min(ends, len(ids)):
            expected += [f"the mark {END}"] * body.complete
            what = int(ids[body.valid])
            problem = "utterances cannot be nested" if what == self.begin_id else f"expected {' or '.join(expected)}"
            raise VocabularyError(
                f"row {index} has {self._describe(ids[body.valid])} at place {start + body.valid}; {problem}. Pass "
                "strict=False for what comes before it"
            )
        if ends < len(ids) and not body.complete:
            raise VocabularyError(
                f"row {index} has the mark {END} at place {start + ends}, within a frame; expected "
                f"{' or '.join(expected)}. Pass strict=False for the frames before it"
            )
        if ends + 1 < len(ids):
            raise VocabularyError(
                f"row {index} has {self._describe(ids[ends + 1])} at place {start + ends + 1}, after the end of its "
                "utterance; expected one utterance: cut a mixed sequence with spans(), or pass strict=False"
            )

    def _describe(self, ids: Tensor) -> str:
        if ids.ndim:
            return f"the step {ids.tolist()}"
        value = int(ids)
        symbol = value - self.first_code
        if 0 <= symbol < self.num_codebooks * self.codebook_size:
            return f"a code of codebook {symbol // self.codebook_size} ({value})"
        if 0 <= symbol < self._num_symbols:
            return f"a run ({value})"
        if self.offset <= value < self.first_code:
            return f"the mark {_LINE_MARKS[value - self.offset]} ({value})"
        return f"the id {value}, which is none of {self.offset} to {self.end - 1}"

    def _read(self, symbols: Tensor) -> _Body:
        """``symbols``: ``(L,)`` or ``(L, Q)``, between the marks."""
        if isinstance(self.pattern, Grid):
            return self._read_grid(symbols, self.pattern)
        assert isinstance(self.pattern, Line)
        if self.num_codebooks == 1:
            return self._read_runs(symbols)
        num_codebooks, size, pattern = self.num_codebooks, self.codebook_size, self.pattern
        first = size * torch.arange(num_codebooks, device="cpu")[:, None]
        frames, rest = divmod(len(symbols), num_codebooks)
        if frames and not rest:  # whole, as most are: nothing to look for
            codes = self._at(symbols, pattern.places(frames, num_codebooks)) - first
            if self._are_codes(codes):
                return _Body(codes, len(symbols), True, frames)
        symbols = symbols[: _first((symbols < 0) | (symbols >= self._num_symbols))]
        frames = int((symbols < size).sum())
        places, valid = self._match(symbols, frames, pattern)
        if valid < len(symbols):  # what follows may have begun more frames: these are the ones before
            frames = int((symbols[:valid] < size).sum())
            places, valid = self._match(symbols, frames, pattern)
        codebooks, kept = pattern.kept((places < valid).sum(1).tolist())
        # places rise along a row, so what is kept has come
        codes = self._at(symbols, places[:codebooks, :kept]) - first[:codebooks]
        return _Body(codes, valid, valid == places.numel(), frames)

    def _match(self, symbols: Tensor, frames: int, pattern: Line) -> tuple[Tensor, int]:
        """The places of ``frames``, and how many symbols stand as they ask."""
        places = pattern.places(frames, self.num_codebooks)
        total = places.numel()
        if len(symbols) < total:
            symbols = torch.nn.functional.pad(symbols, (0, total - len(symbols)), value=-1)
        given = self._at(symbols, places) // self.codebook_size
        wrong = places[given != torch.arange(self.num_codebooks, device="cpu")[:, None]]
        return places, min(int(wrong.min()) if len(wrong) else total, len(symbols))

    def _read_runs(self, symbols: Tensor) -> _Body:
        """A line of codebook 0 alone, where runs may follow codes."""
        if len(symbols) and self._are_codes(symbols):
            return _Body(symbols[None], len(symbols), True, len(symbols))
        size = self.codebook_size
        symbols = symbols[: _first((symbols < 0) | (symbols >= self._num_symbols))]
        is_run = symbols >= size
        valid = _first(is_run & torch.nn.functional.pad(is_run, (1, 0), value=True)[:-1])
        symbols, is_run = symbols[:valid], is_run[:valid]
        frames = torch.ones_like(symbols)
        where = is_run.nonzero().flatten()
        frames[where - 1] = symbols[where] - size + 2
        codes = symbols[~is_run].repeat_interleave(frames[~is_run])[None]
        return _Body(codes, valid, True, codes.shape[1])

    def _read_grid(self, steps: Tensor, pattern: Grid) -> _Body:
        late = torch.tensor(pattern.steps_late(self.num_codebooks), device="cpu")
        most, heads = int(late.max()), torch.arange(self.num_codebooks, device="cpu")[:, None]
        is_code = (steps >= 0) & (steps < self.codebook_size)
        frames = _first(~is_code[:, 0])
        ended = frames < len(steps) and int(steps[frames, 0]) == self.end_id
        # codebook by codebook: until its first code, its codes, and after its last one
        fits = is_code
        for q, delay in enumerate(late.tolist()):
            fits[:delay, q] = steps[:delay, q] == self.pad_id
            fits[delay + frames :, q] = steps[delay + frames :, q] == self.end_id
        if frames < len(steps):  # the end is told by codebook 0: the heads of a step do not know of each other
            fits[frames] = (fits[frames] | (late == 0)) & ended
        valid = _first(~fits.all(1))
        complete = max(0, min(frames, valid - most))
        where = (torch.arange(complete, device="cpu") + late[:, None]) * self.num_codebooks + heads
        return _Body(self._at(steps.flatten(), where), valid, False, frames, ended and frames < valid)

    def _following(self, body: _Body, symbols: Tensor) -> list[list[range]]:
        """What symbols may follow the valid ones; for each codebook of a grid."""
        size = self.codebook_size
        if isinstance(self.pattern, Grid):
            codes, end, pad = range(size), range(size + 1, size + 2), range(size + 2, size + 3)
            following = []
            for q, delay in enumerate(self.pattern.steps_late(self.num_codebooks)):
                if body.valid < delay:
                    following.append([pad])
                elif body.ended and body.valid >= delay + body.frames:
                    following.append([end])
                else:
                    following.append([codes, end] if q == 0 else [codes])
            return following
        assert isinstance(self.pattern, Line)
        if self.num_codebooks == 1:
            after_code = body.valid > 0 and int(symbols[body.valid - 1]) < size
            return [[range(size), *[range(size, self._num_symbols)] * (after_code and self._num_symbols > size)]]
        codebooks = (self.pattern.places(body.frames, self.num_codebooks) == body.valid).nonzero()[:, 0].tolist()
        if int(self.pattern.places(body.frames + 1, self.num_codebooks)[0, body.frames]) == body.valid:
            codebooks.append(0)
        return [[range(q * size, (q + 1) * size) for q in sorted(codebooks)]]

    def _are_codes(self, codes: Tensor) -> bool:
        least, most = codes.aminmax()
        return int(least) >= 0 and int(most) < self.codebook_size

    @staticmethod
    def _at(symbols: Tensor, places: Tensor) -> Tensor:
        return symbols.index_select(0, places.flatten()).view(places.shape)

    def _as_rows(self, ids: Any, one: bool = False) -> list[Tensor]:
        """Rows ``(L,)`` or ``(L, Q)`` of int64, on the CPU."""
        depth = 2 if self.is_grid else 1
        shape = "(L, Q)" if self.is_grid else "(L,)"
        try:
            if isinstance(ids, Sequence) and ids and not isinstance(ids[0], (int, np.integer, str)):
                rows = [_tensor(row) for row in ids]
                if rows[0].ndim < depth:  # a grid as a list of steps
                    rows = [torch.stack(rows)]
            else:
                whole = _tensor(ids)
                rows = list(whole) if whole.ndim == depth + 1 else [whole]
        except (TypeError, ValueError, RuntimeError) as error:
            reason = f"ids cannot be read ({error}); expected whole numbers, a row of shape {shape}"
            raise VocabularyError(reason) from error
        if one and len(rows) != 1:
            raise VocabularyError(f"ids has {len(rows)} rows; expected one of shape {shape}")
        for index, row in enumerate(rows):
            if row.layout is not torch.strided or row.is_meta:
                raise VocabularyError(
                    f"row {index} of ids is sparse or without values ({row.layout}, {row.device}); expected a dense "
                    f"tensor, {shape}"
                )
            if not row.numel() and row.ndim <= depth:  # an empty list is of no dtype, and has no codebooks
                rows[index] = row = torch.zeros(
                    (0, self.num_codebooks) if self.is_grid else 0, dtype=torch.int64, device="cpu"
                )
            if row.ndim != depth or (self.is_grid and row.shape[1] != self.num_codebooks):
                raise VocabularyError(
                    f"row {index} of ids has shape {tuple(row.shape)}; expected {shape}"
                    + (f" with {self.num_codebooks} codebooks" if self.is_grid else "")
                )
            if row.is_floating_point() or row.is_complex() or row.dtype == torch.bool:
                raise VocabularyError(f"ids has dtype {row.dtype}; expected whole numbers, such as torch.int64")
        return [row.detach().to("cpu", torch.int64) for row in rows]


def _first(where: Tensor) -> int:
    """The first ``True`` of ``(L,)``; ``L`` if there is none."""
    values = where.numpy()  # its search stops where it found one
    place = int(values.argmax()) if len(values) else 0
    return place if len(values) and values[place] else len(values)


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.as_tensor(values, device="cpu")
