"""The interface that every codec of the benchmarks has."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from speechtok.errors import InputError


@dataclass(frozen=True)
class Reconstruction:
    """One waveform after encoding and decoding.

    Attributes:
        waveform: decoded, ``(S,)`` at the sample rate of the codec.
        bits: number of bits passed to the decoder, without container or file headers.
        codes: ``(Q, T)``; ``None`` for codecs without codebooks.
    """

    waveform: Tensor
    bits: float
    codes: np.ndarray | None = None


class Codec(Protocol):
    """Encodes and decodes a waveform ``(S,)`` at :attr:`sample_rate`.

    Attributes:
        sample_rate: in hertz.
        identity: text that changes whenever the codec changes; results of an earlier codec are then measured again.
        codebook_size: entries ``N`` of a codebook; 0 for codecs without codebooks.
    """

    sample_rate: int
    identity: str
    codebook_size: int

    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``."""
        ...


def encode(codec: Codec, waveform: Tensor) -> np.ndarray:
    """Codes ``(Q, T)`` of ``(S,)``; without decoding them, if the codec has a method ``encode``.

    Raises:
        InputError: the codec has no codebooks.
    """
    method = getattr(codec, "encode", None)
    codes: np.ndarray | None = method(waveform) if method else codec(waveform).codes
    if codes is None:
        raise InputError(f"codec {codec.identity!r} has no codebooks; expected one with codes")
    return codes
