"""Patterns, vocabularies and tokens that several tests use."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from hypothesis import strategies as st

import speechtok
from speechtok.lm import (
    CoarseFirst,
    Delay,
    Flatten,
    InterleavedPattern,
    Parallel,
    Semantic,
    TokenizerInfo,
    grid_indices,
)


@dataclass(frozen=True)
class ReversedFine(InterleavedPattern):
    """A pattern of a user: codebook 0 of a frame, then the others from the last one back."""

    name: ClassVar[str] = "reversed_fine"

    def positions(self, frames, num_codebooks):
        frame, codebook = grid_indices(frames, num_codebooks)
        return frame * num_codebooks + (-codebook) % num_codebooks


INTERLEAVED_PATTERNS = [Flatten(), Semantic(), Semantic(4), CoarseFirst(), Delay(), Delay((0, 2, 2, 2)), ReversedFine()]
PARALLEL_PATTERNS = [Parallel(), Parallel((0, 1, 2, 3)), Parallel((0, 2, 0, 1))]
PATTERNS = [*INTERLEAVED_PATTERNS, *PARALLEL_PATTERNS]
INFO = TokenizerInfo(16_000, 320, 32, 4, "0123456789abcdef")


def tokens_of(codes, lengths=None, fingerprint=INFO.fingerprint):
    lengths = torch.full((len(codes),), codes.shape[2]) if lengths is None else torch.tensor(lengths)
    codes = codes.masked_fill(torch.arange(codes.shape[2]) >= lengths[:, None, None], 0)
    return speechtok.SpeechTokens(codes, lengths, lengths * 320, 16_000, 320, 32, fingerprint)


@st.composite
def vocabularies(draw, patterns=tuple(PATTERNS)):
    pattern = draw(st.sampled_from(patterns))
    if getattr(pattern, "delays", None) is not None:
        num_codebooks = 4
    else:
        num_codebooks = draw(st.integers(1, pattern.max_codebooks or 4))
    offset = 0 if isinstance(pattern, Parallel) else draw(st.sampled_from([0, 1, 1000]))
    return speechtok.AudioVocabulary(INFO, pattern, num_codebooks, offset)


@st.composite
def utterances(draw, patterns=tuple(PATTERNS)):
    """A vocabulary and tokens for it, with runs."""
    vocab = draw(vocabularies(patterns))
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=3))
    seed, values = draw(st.integers(0, 2**31)), draw(st.sampled_from([1, 3, 32]))
    codes = torch.randint(values, (len(lengths), 4, max(lengths)), generator=torch.Generator().manual_seed(seed))
    return vocab, tokens_of(codes, lengths)
