import math

import numpy as np
import pytest

from benchmarks.abx import abx, angles, dtw
from benchmarks.unit_metrics import Segment


def spoken(units, speakers: str = "abc", phones: int = 5, each: int = 4) -> list[Segment]:
    """Segments with ``units(phone, speaker, frames)``, some for every phone and speaker."""
    rng = np.random.default_rng(0)
    return [
        Segment(phone, speaker, units(phone, speaker, int(rng.integers(2, 9))))
        for speaker in speakers
        for phone in range(phones)
        for _ in range(each)
    ]


def slow_dtw(a: np.ndarray, b: np.ndarray, distance=lambda x, y: float(x != y)) -> float:
    """The definition: least cost over all paths, divided by the length of that path."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i in range(len(a)):
        for j in range(len(b)):
            before = [best[p] for p in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if p in best]
            cost, steps = min(before, key=lambda found: found[0]) if before else (0.0, 0)
            best[i, j] = cost + distance(a[i], b[j]), steps + 1
    cost, steps = best[len(a) - 1, len(b) - 1]
    return cost / steps


def test_distances_equal_the_definition():
    rng = np.random.default_rng(0)
    a = [rng.integers(0, 3, n) for n in (1, 4, 7, 9)]
    b = [rng.integers(0, 3, n) for n in (3, 1, 8)]
    assert dtw(a, b) == pytest.approx(np.array([[slow_dtw(x, y) for y in b] for x in a]), abs=1e-6)
    assert dtw([np.array([1, 2, 3])], [np.array([1, 1, 1, 2, 3])])[0, 0] == 0


@pytest.mark.parametrize("across", [False, True])
def test_the_error_is_0_for_phones_and_half_for_random_or_constant_units(across):
    rng = np.random.default_rng(0)
    assert abx(spoken(lambda phone, speaker, frames: np.full(frames, phone)), across) == 0
    assert abx(spoken(lambda phone, speaker, frames: np.zeros(frames, int)), across) == 0.5
    chance = abx(spoken(lambda phone, speaker, frames: rng.integers(0, 50, frames), each=8), across)
    assert chance == pytest.approx(0.5, abs=0.06)


def test_units_that_depend_on_the_speaker_fail_across_speakers_only():
    found = spoken(lambda phone, speaker, frames: np.full(frames, 10 * ord(speaker) + phone))
    assert abx(found, across=False) == 0
    assert abx(found, across=True) == 0.5
    assert math.isnan(abx([s for s in found if s.speaker == "a"], across=True))
    assert math.isnan(abx([], across=False))


def test_distances_of_vectors_equal_the_definition():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((20, 3))
    a = [rng.integers(0, 20, n) for n in (1, 4, 7)]
    b = [rng.integers(0, 20, n) for n in (3, 1, 8)]

    def angle(x: int, y: int) -> float:
        u, v = vectors[x], vectors[y]
        return float(np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1)) / np.pi)

    expected = np.array([[slow_dtw(x, y, angle) for y in b] for x in a])
    assert dtw(a, b, vectors) == pytest.approx(expected, abs=1e-3)
    assert angles(np.eye(2), np.array([[0.0, 2.0], [-1.0, 0.0]])) == pytest.approx(np.array([[0.5, 1.0], [0, 0.5]]))


@pytest.mark.parametrize("across", [False, True])
def test_vectors_tell_phones_apart_whose_units_never_repeat(across):
    """Each frame has a unit of its own, close to those of the same phone: unit identity sees only ties."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5, 1, 16)) + 0.2 * rng.standard_normal((5, 1_000, 16))
    fresh = iter(rng.permutation(1_000))
    found = spoken(lambda phone, speaker, frames: np.array([1_000 * phone + next(fresh) for _ in range(frames)]))
    assert abx(found, across) == 0.5
    assert abx(found, across, vectors.reshape(-1, 16)) == 0
