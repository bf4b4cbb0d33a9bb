"""Codebook patterns: the order in which a language model reads and writes the codes ``(Q, T)`` of an utterance.

An :class:`InterleavedPattern` flattens the codes into one sequence, for models with one output head. A
:class:`ParallelPattern` keeps one code of each codebook per step, for models with one output head per codebook.

The drawings in this file have three codebooks ``a``, ``b``, ``c`` and four frames; ``b2`` is the code of codebook 1 in
frame 2::

    a0 a1 a2 a3
    b0 b1 b2 b3
    c0 c1 c2 c3

A pattern contains no ids. The vocabulary derives ids, the inverse, valid continuations and streaming from it. To write
your own pattern, subclass :class:`InterleavedPattern` as a frozen dataclass and define ``positions``:

>>> @dataclass(frozen=True)
... class ReversedFine(InterleavedPattern):  # a0 c0 b0 a1 c1 b1 …
...     name: ClassVar[str] = "reversed_fine"
...     def positions(self, frames, num_codebooks):
...         frame, codebook = grid_indices(frames, num_codebooks)
...         return frame * num_codebooks + (-codebook) % num_codebooks
"""

import base64
import dataclasses
import functools
import heapq
import itertools
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from speechtok.errors import VocabularyError, quoted
from speechtok.limits import MAX_CODEBOOK_SIZE
from speechtok.lm.deprecation import Renamed, adopt_renamed_members, renamed_in_module

MAX_DELAY = 65_536
"""Longest delay of a codebook, in frames."""

MAX_RUN_LENGTH = 32_768
"""Longest run that :class:`Semantic` can write, in frames."""


MAX_UNIT_CODES = 2**22
"""Most codes of all units of :class:`SemanticBPE` together: damaged merges must not exhaust memory."""


@dataclass(frozen=True)
class Pattern(ABC):
    """Base class of :class:`InterleavedPattern` and :class:`ParallelPattern`."""

    name: ClassVar[str]
    """Name of the pattern in configs and saved vocabularies."""

    max_codebooks: ClassVar[int | None] = None
    """Number of codebooks that the pattern can hold; ``None`` for any number."""

    most_codebooks = Renamed("max_codebooks")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        adopt_renamed_members(cls)

    def to_dict(self) -> dict[str, Any]:
        """Name and arguments as plain values, ready for JSON."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @abstractmethod
    def validate(self, num_codebooks: int) -> None:
        """Check that the pattern can hold ``num_codebooks`` codebooks.

        Raises:
            VocabularyError: it cannot, or it breaks a rule of its base class.
        """


@dataclass(frozen=True)
class InterleavedPattern(Pattern):
    """One sequence of codes, ``(Q * T,)``, for models with one output head.

    Codebook 0 determines the length: the sequences for ``T`` and ``T + 1`` frames must have the same codebooks in the
    same order, up to the position of the last code of codebook 0 in the longer one. With this rule, a parser knows what
    may follow any prefix without knowing the length.
    """

    most_in_run = Renamed("max_run_length")
    places = Renamed("positions")
    kept = Renamed("decodable")

    @property
    def max_run_length(self) -> int:
        """Longest run, in frames, that a code and a run-length id after it can stand for; 1 for no run lengths."""
        return 1

    def units(self, codebook_size: int) -> tuple[tuple[int, ...], ...]:
        """Sequences of codes that have an id of their own, with one codebook of ``codebook_size`` entries.

        Raises:
            VocabularyError: the pattern is for codebooks of another size.
        """
        return ()

    def merge(self, codes: list[int], codebook_size: int) -> list[int]:
        """Symbols of a sequence of codes: a code as it is, unit ``n`` as ``codebook_size + n``."""
        return codes

    @abstractmethod
    def positions(self, frames: int, num_codebooks: int) -> Tensor:
        """Position of each code in the sequence.

        Returns:
            int64 ``(Q, T)``: a permutation of 0 to ``Q * T - 1``, increasing along each row.
        """

    def decodable(self, counts: list[int]) -> tuple[int, int]:
        """Part of an incomplete sequence that can be decoded.

        Args:
            counts: number of codes received of each codebook, ``Q`` values.

        Returns:
            Number of codebooks and number of frames, counted from the first.
        """
        return len(counts), min(counts)

    def validate(self, num_codebooks: int) -> None:
        """See :meth:`Pattern.validate`. Tries lengths of 1 to 5 frames."""
        if self.max_run_length > 1 and num_codebooks > 1:
            raise VocabularyError(
                f"pattern {self.name!r} writes run lengths with {num_codebooks} codebooks; expected 1 codebook: set "
                "max_codebooks = 1 in the pattern"
            )
        previous: list[int] = []
        for frames in range(1, 6):
            positions = self.positions(frames, num_codebooks)
            order = self._order(positions, frames, num_codebooks)
            start = int(positions[0, -1])
            if frames == 1 and start > 0:
                raise VocabularyError(
                    f"pattern {self.name!r} begins with codebook {order[0]}; expected codebook 0, which determines "
                    "the length"
                )
            if order[:start] != previous[:start]:
                raise VocabularyError(
                    f"pattern {self.name!r} orders the codebooks of {frames - 1} frames as {quoted(previous)} and of "
                    f"{frames} frames as {quoted(order)}; expected no difference before position {start}, the last "
                    "code of codebook 0: the length must be known from codebook 0"
                )
            previous = order

    def _order(self, positions: Tensor, frames: int, num_codebooks: int) -> list[int]:
        """Codebook at each position. Raises unless ``positions`` is a permutation with increasing rows."""
        shape, count = (num_codebooks, frames), num_codebooks * frames
        if getattr(positions, "shape", None) != shape or sorted(positions.flatten().tolist()) != list(range(count)):
            problem = f"a tensor of the numbers 0 to {count - 1} in the shape {shape}"
        elif bool((positions.diff(dim=1) <= 0).any()):
            problem = "increasing rows: the codes of each codebook in the order of time"
        else:
            codebooks = torch.arange(num_codebooks, device="cpu").repeat_interleave(frames)
            return codebooks[positions.flatten().argsort()].tolist()
        raise VocabularyError(
            f"pattern {self.name!r} has the positions {quoted(positions)} for {frames} frames; expected {problem}"
        )


@dataclass(frozen=True)
class Flatten(InterleavedPattern):
    """Frame by frame, and codebook by codebook within a frame.

    ::

        a0 b0 c0 a1 b1 c1 a2 b2 c2 a3 b3 c3
    """

    name: ClassVar[str] = "flatten"

    def positions(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`InterleavedPattern.positions`."""
        frame, codebook = grid_indices(frames, num_codebooks)
        return frame * num_codebooks + codebook


@dataclass(frozen=True)
class Semantic(InterleavedPattern):
    """Codebook 0 only: semantic tokens, as in SpeechGPT and AnyGPT.

    ::

        a0 a1 a2 a3

    Args:
        longest_run: longest run of equal codes, in frames, that is written as the code and one run-length id; longer
            runs are split. With 1, each frame is written as a code. With 4, the codes ``5 5 5 9`` are written as
            ``5 ×3 9``.
    """

    name: ClassVar[str] = "semantic"
    max_codebooks: ClassVar[int | None] = 1
    longest_run: int = 1

    def __post_init__(self) -> None:
        if type(self.longest_run) is not int or not 1 <= self.longest_run <= MAX_RUN_LENGTH:
            raise VocabularyError(
                f"longest_run is {quoted(self.longest_run)}; expected a whole number from 1 to {MAX_RUN_LENGTH}"
            )

    @property
    def max_run_length(self) -> int:
        """:attr:`longest_run`: the longest run that a code and one run-length id stand for, in frames."""
        return self.longest_run

    def positions(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`InterleavedPattern.positions`."""
        return grid_indices(frames, num_codebooks)[0]


@dataclass(frozen=True)
class SemanticBPE(InterleavedPattern):
    """Codebook 0 in units of several codes, by byte pair encoding (Sennrich et al. 2016).

    ::

        a0a1 a2 a3

    ``speechtok corpus bpe`` trains one; see :meth:`from_pairs` to make one from pairs. The pairs are merged in their
    order, the leftmost place first, so that equal codes have equal ids; every sequence of ids can be decoded.

    Args:
        codebook_size: entries ``N`` of codebook 0.
        merges: pairs of symbols as base64 of 32-bit integers, little-endian. Pair ``n`` makes the symbol ``N + n``.
    """

    name: ClassVar[str] = "semantic_bpe"
    max_codebooks: ClassVar[int | None] = 1
    codebook_size: int
    merges: str

    def __post_init__(self) -> None:
        if type(self.codebook_size) is not int or not 1 <= self.codebook_size <= MAX_CODEBOOK_SIZE:
            raise VocabularyError(
                f"codebook_size is {quoted(self.codebook_size)}; expected a whole number from 1 to {MAX_CODEBOOK_SIZE}"
            )
        object.__setattr__(self, "_units", _make_units(self.codebook_size, self._pairs()))

    @classmethod
    def from_pairs(cls, codebook_size: int, pairs: Sequence[tuple[int, int]]) -> "SemanticBPE":
        """Pattern from the pairs of symbols that are merged, in their order."""
        data = struct.pack(f"<{2 * len(pairs)}i", *(symbol for pair in pairs for symbol in pair))
        return cls(codebook_size, base64.b64encode(data).decode())

    def units(self, codebook_size: int) -> tuple[tuple[int, ...], ...]:
        """See :meth:`InterleavedPattern.units`."""
        if codebook_size != self.codebook_size:
            raise VocabularyError(
                f"the pattern {self.name!r} is for a codebook of {self.codebook_size} entries; expected "
                f"{codebook_size}: train one for this tokenizer"
            )
        units: tuple[tuple[int, ...], ...] = self._units  # type: ignore[attr-defined]
        return units

    def merge(self, codes: list[int], codebook_size: int) -> list[int]:
        """See :meth:`InterleavedPattern.merge`."""
        return merge_pairs(codes, self._ranks, codebook_size)

    def positions(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`InterleavedPattern.positions`."""
        return grid_indices(frames, num_codebooks)[0]

    @functools.cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        return {pair: rank for rank, pair in enumerate(self._pairs())}

    def _pairs(self) -> list[tuple[int, int]]:
        try:
            data = base64.b64decode(self.merges, validate=True)
            return list(struct.iter_unpack("<ii", data))
        except (TypeError, ValueError, struct.error) as error:
            raise VocabularyError(
                f"merges is {quoted(self.merges)} ({error!s:.60}); expected the output of 'speechtok corpus bpe'"
            ) from error


def merge_pairs(codes: Sequence[int], ranks: Mapping[tuple[int, int], int], codebook_size: int) -> list[int]:
    """Merge pairs of symbols: the pair of the lowest rank first, and of equal ranks the leftmost."""
    symbols = list(codes)
    end = len(symbols)
    before, after = list(range(-1, end - 1)), list(range(1, end + 1))
    alive = [True] * end
    waiting = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(symbols)) if pair in ranks]
    heapq.heapify(waiting)
    while waiting:
        rank, left = heapq.heappop(waiting)
        right = after[left]
        if not alive[left] or right >= end or ranks.get((symbols[left], symbols[right])) != rank:
            continue  # one of the two has been merged since
        symbols[left] = codebook_size + rank
        alive[right] = False
        after[left] = after[right]
        if after[right] < end:
            before[after[right]] = left
        for first in (before[left], left):
            if first >= 0 and after[first] < end:
                found = ranks.get((symbols[first], symbols[after[first]]))
                if found is not None:
                    heapq.heappush(waiting, (found, first))
    return [symbol for symbol, lives in zip(symbols, alive, strict=True) if lives]


def _make_units(codebook_size: int, pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Codes of each merged symbol."""
    units: list[tuple[int, ...]] = [(code,) for code in range(codebook_size)]
    total = 0
    for index, (left, right) in enumerate(pairs):
        if not (0 <= left < len(units) and 0 <= right < len(units)):
            raise VocabularyError(
                f"pair {index} of the merges is {(left, right)}; expected symbols that come before it, 0 to "
                f"{len(units) - 1}"
            )
        total += len(units[left]) + len(units[right])
        if total > MAX_UNIT_CODES:
            raise VocabularyError(f"the merges make units of more than {MAX_UNIT_CODES} codes together; expected fewer")
        units.append(units[left] + units[right])
    if len(set(pairs)) != len(pairs):
        raise VocabularyError("the merges have a pair twice; expected the output of 'speechtok corpus bpe'")
    return tuple(units[codebook_size:])


@dataclass(frozen=True)
class CoarseFirst(InterleavedPattern):
    """Codebook by codebook, and frame by frame within a codebook: coarse to fine, as in AudioLM.

    ::

        a0 a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3
    """

    name: ClassVar[str] = "coarse_first"

    def positions(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`InterleavedPattern.positions`."""
        frame, codebook = grid_indices(frames, num_codebooks)
        return codebook * frames + frame

    def decodable(self, counts: list[int]) -> tuple[int, int]:
        """All frames, with the codebooks that are complete; see :meth:`InterleavedPattern.decodable`."""
        return sum(count == counts[0] for count in counts), counts[0]


@dataclass(frozen=True)
class Delay(InterleavedPattern):
    """The delay pattern of MusicGen and Moshi, step by step in one sequence, without padding.

    Codebook ``q`` is delayed by ``delays[q]`` frames; by ``q`` frames in the drawing::

        a0 a1 b0 a2 b1 c0 a3 b2 c1 b3 c2 c3

    For a model with one head per codebook, use :class:`Parallel` with ``delays``.

    Args:
        delays: delay of each codebook in frames, 0 for the first; 0, 1, 2, … by default.
    """

    name: ClassVar[str] = "delay"
    delays: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "delays", _check_delays(self.delays))

    def positions(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`InterleavedPattern.positions`."""
        delays = torch.tensor(_delays(self.delays, num_codebooks) or range(num_codebooks), device="cpu")
        codebook = torch.arange(num_codebooks, device="cpu")
        # a code of codebook q in frame t follows the codes of codebook r in the frames before t + ahead[q, r]
        ahead = delays[:, None] - delays + (codebook < codebook[:, None])
        positions = torch.arange(frames, device="cpu") * num_codebooks + ahead.sum(1, keepdim=True)
        edge = min(frames, int(ahead.abs().max()))
        for some in (torch.arange(edge, device="cpu"), torch.arange(frames - edge, frames, device="cpu")):
            positions[:, some] = (some + ahead[..., None]).clamp(0, frames).sum(1)
        return positions


@dataclass(frozen=True)
class ParallelPattern(Pattern):
    """One step of ``Q`` codes after another, ``(T, Q)``, for models with one output head per codebook."""

    steps_late = Renamed("codebook_delays")

    @abstractmethod
    def codebook_delays(self, num_codebooks: int) -> tuple[int, ...]:
        """Delay of each codebook in steps, ``Q`` values; 0 for the first codebook."""

    def validate(self, num_codebooks: int) -> None:
        """See :meth:`Pattern.validate`."""
        delays = self.codebook_delays(num_codebooks)
        if len(delays) != num_codebooks or delays[0] != 0 or not 0 <= min(delays) <= max(delays) <= MAX_DELAY:
            raise VocabularyError(
                f"pattern {self.name!r} has the delays {quoted(delays)}; expected {num_codebooks} numbers from 0 to "
                f"{MAX_DELAY}, 0 for the first codebook"
            )


@dataclass(frozen=True)
class Parallel(ParallelPattern):
    """All codebooks of a frame in one step; or, with ``delays``, the delay pattern of MusicGen and Moshi.

    In the drawings, rows are codebooks and columns are steps; ``S`` and ``E`` are the start and end tokens::

        S a0 a1 a2 a3  E
        S b0 b1 b2 b3  E
        S c0 c1 c2 c3  E

    With ``delays=(0, 1, 2)``, where ``P`` is padding::

        S a0 a1 a2 a3  E  E  E
        S  P b0 b1 b2 b3  E  E
        S  P  P c0 c1 c2 c3  E

    Args:
        delays: delay of each codebook in steps, 0 for the first; all 0 by default.
    """

    name: ClassVar[str] = "parallel"
    delays: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "delays", _check_delays(self.delays))

    def codebook_delays(self, num_codebooks: int) -> tuple[int, ...]:
        """See :meth:`ParallelPattern.codebook_delays`."""
        return _delays(self.delays, num_codebooks) or (0,) * num_codebooks


PATTERNS: dict[str, type[Pattern]] = {
    pattern.name: pattern for pattern in (Flatten, Semantic, SemanticBPE, CoarseFirst, Delay, Parallel)
}
"""Patterns by name. Add your own pattern here to use it by name and to load vocabularies that have it."""


def as_pattern(pattern: "str | Pattern | Mapping[str, Any]") -> Pattern:
    """Pattern from its name, from the output of :meth:`Pattern.to_dict`, or unchanged.

    Raises:
        VocabularyError: the name is unknown, or the arguments do not fit the pattern.
    """
    if isinstance(pattern, Pattern):
        return pattern
    arguments = dict(pattern) if isinstance(pattern, Mapping) else {"name": pattern}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in PATTERNS:
        raise VocabularyError(
            f"pattern is {quoted(pattern)}; expected one of {', '.join(PATTERNS)}, or a Pattern: pass your own pattern "
            "itself, or add its class to speechtok.lm.PATTERNS"
        )
    try:
        return PATTERNS[name](**arguments)
    except TypeError as error:
        raise VocabularyError(
            f"pattern {name!r} has the arguments {quoted(arguments)} ({error!s:.80}); expected those of "
            f"speechtok.lm.{PATTERNS[name].__name__}"
        ) from error


def grid_indices(frames: int, num_codebooks: int) -> tuple[Tensor, Tensor]:
    """Index of the frame, ``(1, T)``, and of the codebook, ``(Q, 1)``; both int64, to compute ``positions`` from."""
    return torch.arange(frames, device="cpu")[None], torch.arange(num_codebooks, device="cpu")[:, None]


def _check_delays(delays: Any) -> tuple[int, ...] | None:
    """``delays`` as a tuple; JSON has a list."""
    if delays is None:
        return None
    try:
        values = tuple(delays)
    except TypeError:
        values = ()
    if not values or any(type(n) is not int or not 0 <= n <= MAX_DELAY for n in values) or values[0] != 0:
        raise VocabularyError(
            f"delays is {quoted(delays)}; expected a list of whole numbers from 0 to {MAX_DELAY}, 0 for the first "
            "codebook"
        )
    return values


def _delays(delays: tuple[int, ...] | None, num_codebooks: int) -> tuple[int, ...] | None:
    if delays is not None and len(delays) != num_codebooks:
        raise VocabularyError(
            f"delays has {len(delays)} values; expected {num_codebooks}, one for each codebook of the vocabulary"
        )
    return delays


__getattr__ = renamed_in_module(
    __name__, {"Line": "InterleavedPattern", "Grid": "ParallelPattern", "cells": "grid_indices"}
)
