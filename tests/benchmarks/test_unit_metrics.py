import math

import numpy as np
import pytest

from benchmarks.unit_metrics import (
    Segment,
    Trigrams,
    abx,
    dtw,
    segments,
    speaker_leakage,
    tokens_per_phone,
    without_repeats,
)
from speechtok.errors import InputError


def spoken(label, speakers: str = "abc", phones: int = 5, each: int = 4) -> list[Segment]:
    """``label(phone, speaker, frames)`` to labels, for some tokens of every phone and speaker."""
    rng = np.random.default_rng(0)
    return [
        Segment(phone, speaker, label(phone, speaker, int(rng.integers(2, 9))))
        for speaker in speakers
        for phone in range(phones)
        for _ in range(each)
    ]


def slow_dtw(a: np.ndarray, b: np.ndarray) -> float:
    """By its definition: the least cost over all paths, and the length of that path."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i in range(len(a)):
        for j in range(len(b)):
            before = [best[p] for p in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if p in best]
            cost, steps = min(before, key=lambda found: found[0]) if before else (0.0, 0)
            best[i, j] = cost + float(a[i] != b[j]), steps + 1
    cost, steps = best[len(a) - 1, len(b) - 1]
    return cost / steps


def test_distances_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    a = [rng.integers(0, 3, n) for n in (1, 4, 7, 9)]
    b = [rng.integers(0, 3, n) for n in (3, 1, 8)]
    assert dtw(a, b) == pytest.approx(np.array([[slow_dtw(x, y) for y in b] for x in a]), abs=1e-6)
    assert dtw([np.array([1, 2, 3])], [np.array([1, 1, 1, 2, 3])])[0, 0] == 0


def test_labels_that_are_phones_make_no_abx_error_and_random_or_constant_ones_half():
    rng = np.random.default_rng(0)
    for across in (False, True):
        assert abx(spoken(lambda phone, speaker, frames: np.full(frames, phone)), across) == 0
        assert abx(spoken(lambda phone, speaker, frames: np.zeros(frames, int)), across) == 0.5
        chance = abx(spoken(lambda phone, speaker, frames: rng.integers(0, 50, frames), each=8), across)
        assert chance == pytest.approx(0.5, abs=0.06)


def test_labels_that_name_the_speaker_too_fail_across_speakers_only():
    found = spoken(lambda phone, speaker, frames: np.full(frames, 10 * ord(speaker) + phone))
    assert abx(found, across=False) == 0
    assert abx(found, across=True) == 0.5
    assert math.isnan(abx([s for s in found if s.speaker == "a"], across=True))
    assert math.isnan(abx([], across=False))


def test_segments_are_runs_of_a_phone_without_what_is_left_out():
    labels, phones = np.array([5, 5, 6, 7, 8, 8, 9]), np.array([1, 1, 1, 0, 2, 2, -1])
    found = segments(labels, phones, "a", left_out=[0])
    assert [(s.phone, s.labels.tolist()) for s in found] == [(1, [5, 5, 6]), (2, [8, 8])]
    assert tokens_per_phone(found) == 1.5
    assert math.isnan(tokens_per_phone([]))


def test_repeats_are_cut():
    assert without_repeats(np.array([3, 3, 1, 1, 3])).tolist() == [3, 1, 3]
    assert without_repeats(np.array([], int)).tolist() == []


def test_a_probe_tells_speakers_where_labels_do():
    rng = np.random.default_rng(0)
    speakers = [*("ab" * 15), None, "c"]
    blind = [rng.integers(0, 8, (1, 40)) for _ in speakers]
    leaking = [
        np.concatenate([row, np.full((1, 40), "ab".find(s or "-") % 8)]) for row, s in zip(blind, speakers, strict=True)
    ]
    told = speaker_leakage(leaking, speakers, 8)
    assert told is not None
    assert (told.accuracy, told.chance, told.speakers) == (1.0, 0.5, 2)
    nothing = speaker_leakage(blind, speakers, 8)
    assert nothing is not None
    assert 0.15 < nothing.accuracy < 0.85
    assert speaker_leakage(blind, [None] * len(blind), 8) is None


def test_probabilities_of_the_language_model_add_up_and_it_learns():
    sequences = [np.array([0, 1, 2] * 30), np.array([], int)]
    model = Trigrams(sequences, 5)
    for history in ((), (0,), (0, 1), (4, 4), (-1, -1)):
        assert sum(model.probability(label, history) for label in range(5)) == pytest.approx(1)
    assert 2 ** (model.bits(sequences) / 90) < 1.1
    noise = [np.random.default_rng(seed).integers(0, 5, 2000) for seed in range(2)]
    perplexity = 2 ** (Trigrams(noise[:1], 5).bits(noise[1:]) / 2000)
    assert 4.9 < perplexity < 6
    with pytest.raises(InputError, match="no label"):
        Trigrams([np.array([], int)], 5)
