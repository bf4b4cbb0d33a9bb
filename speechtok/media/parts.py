"""What a planner hands to a decoder."""

from collections.abc import Sequence
from dataclasses import dataclass

from speechtok.errors import AudioError
from speechtok.media.source import Piece


@dataclass(frozen=True)
class Part:
    """Bytes that one decoder turns into samples, and how many samples those must be.

    Attributes:
        decoder: ``"libsndfile"``, or the name of a demultiplexer of FFmpeg.
        pieces: of the file; ``None`` for the whole file as it is.
        samples: that it must give; ``None`` if only the decoder knows.
        at_least: fewer samples are an error, where ``samples`` is not known.
        tolerance: by how many samples they may differ.
        multiple: whether twice as many may come: spectral band replication doubles the rate of AAC.
        unplanned: whether nothing walked the file.
        otherwise: the same for FFmpeg, if libsndfile does not take it.
        announced_size: see :class:`~speechtok.media.source.View`.
    """

    decoder: str
    pieces: Sequence[Piece] | None = None
    samples: int | None = None
    at_least: int = 0
    tolerance: int = 0
    multiple: bool = False
    unplanned: bool = False
    otherwise: "Part | None" = None
    announced_size: int = 0


def truncated(name: str, reason: str) -> AudioError:
    """The error of a file whose end is missing."""
    return AudioError(f"{name} is truncated: {reason}; fetch it again", "truncated")


def damaged(name: str, reason: str) -> AudioError:
    """The error of a file whose structure is broken."""
    return AudioError(f"{name} cannot be read as audio ({reason}); expected an undamaged audio file", "damaged")
