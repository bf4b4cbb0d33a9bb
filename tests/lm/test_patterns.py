import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import speechtok
from speechtok.errors import VocabularyError
from speechtok.lm import (
    CoarseFirst,
    Delay,
    Flatten,
    InterleavedPattern,
    Parallel,
    ParallelPattern,
    Semantic,
    TokenizerInfo,
    grid_indices,
)
from speechtok.lm.patterns import MAX_DELAY, as_pattern

from .cases import PATTERNS


def drawings(pattern):
    """Rows of each drawing in a docstring, as lists of words."""
    blocks = re.findall(r"::\n\n((?:        .*\n)+)", pattern.__doc__)
    return [[line.split() for line in block.strip().splitlines()] for block in blocks]


def order(pattern, frames, num_codebooks):
    """Codebook at each position."""
    positions = pattern.positions(frames, num_codebooks)
    result = torch.empty(positions.numel(), dtype=torch.int64)
    result[positions] = torch.arange(num_codebooks)[:, None].expand_as(positions)
    return result.tolist()


@pytest.mark.parametrize("pattern", [Flatten(), Semantic(), CoarseFirst(), Delay()], ids=str)
def test_sequences_are_as_drawn(pattern):
    num_codebooks = pattern.max_codebooks or 3
    positions = pattern.positions(4, num_codebooks)
    sequence = [""] * positions.numel()
    for q, row in enumerate(positions.tolist()):
        for t, position in enumerate(row):
            sequence[position] = f"{'abc'[q]}{t}"
    assert drawings(pattern) == [[sequence]]


def test_grids_are_as_drawn():
    codes = torch.arange(12).view(1, 3, 4)
    names = {n: f"{'abc'[n // 4]}{n % 4}" for n in range(12)}
    for pattern, drawing in zip([Parallel(), Parallel((0, 1, 2))], drawings(Parallel), strict=True):
        vocab = speechtok.AudioVocabulary(TokenizerInfo(16_000, 320, 12, 3, ""), pattern)
        names |= {vocab.bos_id: "S", vocab.eos_id: "E", vocab.pad_id: "P"}
        assert [[names[id_] for id_ in row] for row in vocab.to_ids(codes)[0].T.tolist()] == drawing


def test_custom_delays_order_codes_by_step_then_codebook():
    assert order(Delay((0, 1, 1)), 2, 3) == [0, 0, 1, 2, 1, 2]


@given(st.lists(st.integers(0, 9), max_size=4).map(lambda rest: (0, *rest)), st.integers(0, 40))
def test_delayed_codes_are_sorted_by_step_then_codebook(delays, frames):
    num_codebooks = len(delays)
    codes = sorted((t + delay, q, t) for q, delay in enumerate(delays) for t in range(frames))
    positions = Delay(delays).positions(frames, num_codebooks)
    assert [int(positions[q, t]) for _, q, t in codes] == list(range(num_codebooks * frames))


@dataclass(frozen=True)
class Backwards(InterleavedPattern):
    name: ClassVar[str] = "backwards"

    def positions(self, frames, num_codebooks):
        return Flatten().positions(frames, num_codebooks).flip(1)


@dataclass(frozen=True)
class Overlapping(InterleavedPattern):
    name: ClassVar[str] = "overlapping"

    def positions(self, frames, num_codebooks):
        return grid_indices(frames, num_codebooks)[0].expand(num_codebooks, frames)


@dataclass(frozen=True)
class NotATensor(InterleavedPattern):
    name: ClassVar[str] = "not_a_tensor"

    def positions(self, frames, num_codebooks):
        return list(range(frames * num_codebooks))


@dataclass(frozen=True)
class FineFirst(InterleavedPattern):
    """The length is not known from codebook 0."""

    name: ClassVar[str] = "fine_first"

    def positions(self, frames, num_codebooks):
        return CoarseFirst().positions(frames, num_codebooks).flip(0)


@dataclass(frozen=True)
class RunsOfAll(Flatten):
    """Run lengths with several codebooks."""

    name: ClassVar[str] = "runs_of_all"
    max_run_length = 4


@dataclass(frozen=True)
class AllDelayed(ParallelPattern):
    name: ClassVar[str] = "all_delayed"

    def codebook_delays(self, num_codebooks):
        return tuple(range(1, num_codebooks + 1))


@pytest.mark.parametrize(
    "pattern",
    [Backwards(), Overlapping(), NotATensor(), FineFirst(), RunsOfAll(), AllDelayed(), Parallel((0, 1)), Delay((0, 1))],
    ids=str,
)
def test_patterns_that_cannot_be_parsed_are_refused(pattern):
    with pytest.raises(VocabularyError, match="expected") as error:
        pattern.validate(3)
    assert len(str(error.value)) < 300


def test_a_pattern_that_begins_with_another_codebook_is_told_so():
    with pytest.raises(VocabularyError, match="'fine_first' begins with codebook 2; expected codebook 0"):
        FineFirst().validate(3)


@pytest.mark.parametrize("pattern", [*PATTERNS[:6], *PATTERNS[7:]], ids=str)
def test_patterns_are_restored_from_plain_values(pattern):
    assert as_pattern(pattern.to_dict()) == pattern


@pytest.mark.parametrize(
    "pattern",
    ["flat", {}, {"name": "delay", "delay": 1}, {"name": 3}, None, {"name": "semantic", "x": 1}, "x" * 500, {3: 4}],
)
def test_unknown_patterns_and_arguments_are_named(pattern):
    with pytest.raises(VocabularyError, match=r"pattern .*; expected|pattern .*\); expected") as error:
        as_pattern(pattern)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: Delay((1, 2)), lambda: Delay((0, -1)), lambda: Delay(()), lambda: Delay(5), lambda: Delay("01")),
        *(lambda: Delay((0, MAX_DELAY + 1)), lambda: Parallel((0, 10**30)), lambda: Parallel((0, True))),
        *(lambda: Semantic(0), lambda: Semantic(10**30), lambda: Semantic(2.0)),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(VocabularyError, match=r"expected a (list of )?whole number"):
        make()
