from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from speechtok.errors import VocabularyError
from speechtok.lm import CoarseFirst, Delay, Flatten, Grid, Line, Parallel, Semantic, cells
from speechtok.lm.patterns import as_pattern, check_pattern


def order(pattern, frames, num_codebooks):
    places = pattern.places(frames, num_codebooks)
    result = torch.empty(places.numel(), dtype=torch.int64)
    result[places] = torch.arange(num_codebooks)[:, None].expand_as(places)
    return result.tolist()


def test_orders_are_those_of_the_papers():
    assert order(Flatten(), 2, 3) == [0, 1, 2, 0, 1, 2]
    assert order(CoarseFirst(), 2, 3) == [0, 0, 1, 1, 2, 2]
    assert order(Delay(), 3, 3) == [0, 0, 1, 0, 1, 2, 1, 2, 2]
    assert order(Delay((0, 1, 1)), 2, 3) == [0, 0, 1, 2, 1, 2]


@pytest.mark.parametrize("delays", [(0, 1, 2, 3), (0, 2, 2, 2), (0, 0, 5, 1), (0, 7, 0, 3)])
@pytest.mark.parametrize("frames", [0, 1, 2, 5, 40])
def test_delayed_codes_are_sorted_by_step_then_codebook(delays, frames):
    cells_in_order = sorted((t + delay, q, t) for q, delay in enumerate(delays) for t in range(frames))
    places = Delay(delays).places(frames, 4)
    assert [int(places[q, t]) for _, q, t in cells_in_order] == list(range(4 * frames))


@dataclass(frozen=True)
class Backwards(Line):
    name: ClassVar[str] = "backwards"

    def places(self, frames, num_codebooks):
        return Flatten().places(frames, num_codebooks).flip(1)


@dataclass(frozen=True)
class Doubled(Line):
    name: ClassVar[str] = "doubled"

    def places(self, frames, num_codebooks):
        return cells(frames, num_codebooks)[0].expand(num_codebooks, frames)


@dataclass(frozen=True)
class LengthFromElsewhere(Line):
    """Codebook 1 first: nothing tells how many frames there are."""

    name: ClassVar[str] = "length_from_elsewhere"

    def places(self, frames, num_codebooks):
        return CoarseFirst().places(frames, num_codebooks).flip(0)


@dataclass(frozen=True)
class Early(Grid):
    name: ClassVar[str] = "early"

    def steps_late(self, num_codebooks):
        return tuple(range(1, num_codebooks + 1))


@pytest.mark.parametrize("pattern", [Backwards(), Doubled(), LengthFromElsewhere(), Early(), Parallel((0, 1))])
def test_patterns_that_cannot_be_read_are_refused(pattern):
    with pytest.raises(VocabularyError, match="expected"):
        check_pattern(pattern, 3)


@pytest.mark.parametrize("frames", [Semantic(), Semantic(5), Delay((0, 3)), Parallel((0, 1)), CoarseFirst(), Flatten()])
def test_patterns_come_back_from_plain_values(frames):
    assert as_pattern(frames.to_dict()) == frames


@pytest.mark.parametrize(
    "pattern", ["flat", {}, {"name": "delay", "delay": 1}, {"name": 3}, None, {"name": "semantic", "x": 1}]
)
def test_unknown_patterns_and_arguments_are_named(pattern):
    with pytest.raises(VocabularyError, match="pattern"):
        as_pattern(pattern)


@pytest.mark.parametrize(
    "make", [lambda: Delay((1, 2)), lambda: Delay((0, -1)), lambda: Delay(()), lambda: Semantic(0)]
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(VocabularyError, match=r"expected (a )?whole number"):
        make()
