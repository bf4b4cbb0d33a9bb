"""Patterns: in which order, and in which shape, a language model reads and writes the grid of codes.

A pattern knows nothing of ids, marks or models: it says where in a sequence the code of each frame and codebook stands
(:class:`Line`), or by how many steps each codebook is late (:class:`Grid`). Of that alone the vocabulary makes ids, the
inverse, the valid continuations and the streaming. A pattern of one's own is a frozen dataclass with one method:

>>> @dataclass(frozen=True)
... class FinestNext(Line):  # codebook 0 of a frame, then the others from the last one back
...     name: ClassVar[str] = "finest_next"
...     def places(self, frames, num_codebooks):
...         frame, codebook = cells(frames, num_codebooks)
...         return frame * num_codebooks + (-codebook) % num_codebooks
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from speechtok.errors import VocabularyError


@dataclass(frozen=True)
class Pattern(ABC):
    """What the codes of an utterance look like to a language model: a :class:`Line` of ids, or a :class:`Grid`."""

    name: ClassVar[str]
    """What configurations call it."""

    most_codebooks: ClassVar[int | None] = None
    """Codebooks that it carries, from the first; all that the vocabulary has by default."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"name": self.name, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Line(Pattern):
    """One id after another, for models with one head.

    Codebook 0 is what tells the length: the orders of ``T`` and of ``T + 1`` frames must agree up to where the latter
    has codebook 0 of its last frame. So a reader knows what may follow any prefix, without being told the length.
    """

    @property
    def most_in_run(self) -> int:
        """Frames that a code and the id of a run after it may stand for; above 1 only with one codebook."""
        return 1

    @abstractmethod
    def places(self, frames: int, num_codebooks: int) -> Tensor:
        """Where each code stands, int64 ``(Q, T)``: the numbers 0 to ``Q * T - 1``, rising along every row."""

    def kept(self, counts: list[int]) -> tuple[int, int]:
        """Codebooks and frames of the rectangle that an interrupted sequence speaks.

        Args:
            counts: codes that came of each codebook, ``Q`` of them.
        """
        return len(counts), min(counts)


@dataclass(frozen=True)
class Flatten(Line):
    """Frame by frame, within a frame codebook by codebook: all of a frame before the next."""

    name: ClassVar[str] = "flatten"

    def places(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`Line.places`."""
        frame, codebook = cells(frames, num_codebooks)
        return frame * num_codebooks + codebook


@dataclass(frozen=True)
class Semantic(Line):
    """Codebook 0 only, as AnyGPT's and SpeechGPT's semantic tokens.

    Args:
        longest_run: frames of one code in a row that are written as the code and one id for their number; longer runs
            are split. With 1, every frame is a code.
    """

    name: ClassVar[str] = "semantic"
    most_codebooks: ClassVar[int | None] = 1
    longest_run: int = 1

    def __post_init__(self) -> None:
        if type(self.longest_run) is not int or not 1 <= self.longest_run <= 32_768:
            raise VocabularyError(f"longest_run is {self.longest_run!r}; expected a whole number from 1 to 32768")

    @property
    def most_in_run(self) -> int:
        """See :meth:`Line.most_in_run`."""
        return self.longest_run

    def places(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`Line.places`."""
        return cells(frames, num_codebooks)[0]


@dataclass(frozen=True)
class CoarseFirst(Line):
    """Codebook by codebook, within a codebook frame by frame: what is said before how it sounds (AudioLM)."""

    name: ClassVar[str] = "coarse_first"

    def places(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`Line.places`."""
        frame, codebook = cells(frames, num_codebooks)
        return codebook * frames + frame

    def kept(self, counts: list[int]) -> tuple[int, int]:
        """All frames, with the codebooks that are whole: rather a coarse utterance than its fine first moment."""
        return sum(count == counts[0] for count in counts), counts[0]


@dataclass(frozen=True)
class Delay(Line):
    """Step by step, where codebook ``q`` is ``delays[q]`` frames late (MusicGen, Moshi): a frame's codebooks know more.

    The steps are written one after another without holes. For a model that has a head for each codebook, and takes a
    step at a time, see :class:`Parallel`.

    Args:
        delays: frames that each codebook is late, 0 for the first; ``q`` for codebook ``q`` by default.
    """

    name: ClassVar[str] = "delay"
    delays: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "delays", _as_delays(self.delays))

    def places(self, frames: int, num_codebooks: int) -> Tensor:
        """See :meth:`Line.places`."""
        delays = _delays(self.delays, num_codebooks)
        # how many codes come before: of codebook r, those of the frames up to delays[q] - delays[r] on
        ahead = torch.tensor(
            [[d - e + (r < q) for r, e in enumerate(delays)] for q, d in enumerate(delays)], device="cpu"
        )
        places = torch.arange(frames, device="cpu") * num_codebooks + ahead.sum(1, keepdim=True)
        edge = min(frames, int(ahead.abs().max()))
        for some in (
            torch.arange(edge, device="cpu"),
            torch.arange(frames - edge, frames, device="cpu"),
        ):  # where there are no frames so far off
            places[:, some] = (some + ahead[..., None]).clamp(0, frames).sum(1)
        return places


@dataclass(frozen=True)
class Grid(Pattern):
    """A step at a time with a code of each codebook, ``(T, Q)``, for models with a head for each."""

    @abstractmethod
    def steps_late(self, num_codebooks: int) -> tuple[int, ...]:
        """Steps that each codebook is late, ``Q`` of them; 0 for the first."""


@dataclass(frozen=True)
class Parallel(Grid):
    """All codebooks of a frame in one step; or, with ``delays``, the grid of MusicGen and Moshi.

    Args:
        delays: steps that each codebook is late, 0 for the first; all 0 by default.
    """

    name: ClassVar[str] = "parallel"
    delays: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "delays", _as_delays(self.delays))

    def steps_late(self, num_codebooks: int) -> tuple[int, ...]:
        """See :meth:`Grid.steps_late`."""
        return (0,) * num_codebooks if self.delays is None else _delays(self.delays, num_codebooks)


PATTERNS: dict[str, type[Pattern]] = {
    pattern.name: pattern for pattern in (Flatten, Semantic, CoarseFirst, Delay, Parallel)
}
"""Patterns by name. One of your own that is put here can be named, saved and loaded as these."""


def as_pattern(pattern: "str | Pattern | Mapping[str, Any]") -> Pattern:
    """A pattern from its name, from what :meth:`Pattern.to_dict` gave, or as it is.

    Raises:
        VocabularyError: there is no such pattern, or its arguments do not fit it.
    """
    if isinstance(pattern, Pattern):
        return pattern
    arguments = dict(pattern) if isinstance(pattern, Mapping) else {"name": pattern}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in PATTERNS:
        raise VocabularyError(
            f"pattern is {pattern!r}; expected one of {', '.join(PATTERNS)}, or a Pattern: one of your own is passed "
            "itself, or put into speechtok.lm.PATTERNS"
        )
    try:
        return PATTERNS[name](**arguments)
    except TypeError as error:
        raise VocabularyError(f"pattern {name!r} has the arguments {arguments!r}, which do not fit: {error}") from error


def check_pattern(pattern: Pattern, num_codebooks: int) -> None:
    """Try a pattern on the first few lengths.

    Raises:
        VocabularyError: it breaks what :class:`Line` or :class:`Grid` ask for.
    """
    if isinstance(pattern, Grid):
        late = pattern.steps_late(num_codebooks)
        if len(late) != num_codebooks or late[0] != 0 or min(late) < 0:
            raise VocabularyError(
                f"pattern {pattern.name!r} has codebooks late by {late}; expected {num_codebooks} numbers from 0 on, "
                "0 first"
            )
        return
    if not isinstance(pattern, Line):
        raise VocabularyError(f"pattern is a {type(pattern).__name__}; expected a subclass of Line or Grid")
    if pattern.most_in_run > 1 and num_codebooks > 1:
        raise VocabularyError(
            f"pattern {pattern.name!r} counts runs of {num_codebooks} codebooks; expected 1: set most_codebooks"
        )
    before: list[int] = []
    for frames in range(1, 6):
        places = pattern.places(frames, num_codebooks)
        flat = places.flatten().tolist()
        if places.shape != (num_codebooks, frames) or sorted(flat) != list(range(len(flat))):
            raise VocabularyError(
                f"pattern {pattern.name!r} gives {frames} frames the places {places.tolist()}; expected the numbers 0 "
                f"to {num_codebooks * frames - 1}, in the shape ({num_codebooks}, {frames})"
            )
        if bool((places.diff(dim=1) <= 0).any()):
            raise VocabularyError(
                f"pattern {pattern.name!r} gives {frames} frames the places {places.tolist()}; expected rising rows: "
                "the codes of a codebook come in the order of time"
            )
        order = [0] * len(flat)
        for codebook, row in enumerate(places.tolist()):
            for place in row:
                order[place] = codebook
        new = int(places[0, -1])
        if order[:new] != before[:new]:
            raise VocabularyError(
                f"pattern {pattern.name!r} orders the codebooks of {frames - 1} frames as {before} and of {frames} as "
                f"{order}; expected no difference before codebook 0 of the last frame, at place {new}: nothing else "
                "tells a reader that there are more frames"
            )
        before = order


def cells(frames: int, num_codebooks: int) -> tuple[Tensor, Tensor]:
    """Frame ``(1, T)`` and codebook ``(Q, 1)``, to compute places of."""
    return torch.arange(frames, device="cpu")[None], torch.arange(num_codebooks, device="cpu")[:, None]


def _as_delays(delays: Any) -> tuple[int, ...] | None:
    if delays is None:
        return None
    numbers: tuple[int, ...] = tuple(delays)
    if not numbers or any(type(number) is not int or number < 0 for number in numbers) or numbers[0] != 0:
        raise VocabularyError(f"delays is {numbers!r}; expected whole numbers from 0 on, 0 for the first codebook")
    return numbers


def _delays(delays: tuple[int, ...] | None, num_codebooks: int) -> tuple[int, ...]:
    if delays is None:
        return tuple(range(num_codebooks))
    if len(delays) != num_codebooks:
        raise VocabularyError(f"delays has {len(delays)} numbers; expected {num_codebooks}, one for each codebook")
    return delays
