"""ABX phone discrimination (Schatz et al. 2013) on discrete units, their vectors, or any features."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from benchmarks.unit_metrics import Segment


def abx(
    found: Sequence[Segment],
    across: bool,
    vectors: np.ndarray | None = None,
    per_phone: int = 8,
    seed: int = 0,
) -> float:
    """ABX error rate over phones in any context.

    A and X are segments of one phone, B is a segment of another. The error rate is the share of triples in which X is
    closer to B than to A; ties count half. Segments are compared by dynamic time warping. The distance of two frames is
    the angle between their vectors. Without vectors, it is 1 if the units differ: then most triples are ties, because
    two renditions of one phone rarely share a unit.

    Args:
        found: segments of spoken phones.
        across: take X from another speaker than A and B; from the same speaker otherwise.
        vectors: of the units, ``(N, D)``.
        per_phone: largest number of segments drawn for each phone and speaker.
        seed: of the drawing.

    Returns:
        0 to 1, 0.5 by chance: the mean over pairs of phones of the mean over speakers. NaN if no speaker has the
        segments that are needed.
    """
    rng = np.random.default_rng(seed)
    by_speaker: dict[str, dict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for index in rng.permutation(len(found)):
        segment = found[index]
        drawn = by_speaker[segment.speaker][segment.phone]
        if len(drawn) < per_phone:
            drawn.append(segment.units)
    speakers = sorted(by_speaker)
    if across and len(speakers) < 2:
        return math.nan
    errors: dict[tuple[int, int], list[float]] = defaultdict(list)
    for index, speaker in enumerate(speakers):
        own = by_speaker[speaker]
        others = by_speaker[speakers[(index + 1) % len(speakers)]] if across else own
        own_units, own_phones = _flatten(own)
        other_units, other_phones = _flatten(others)
        distances = dtw(own_units, other_units, vectors)  # rows: A and B; columns: X
        if not across:
            np.fill_diagonal(distances, np.nan)  # X must differ from A
        for a in sorted(set(own) & set(others)):
            from_a = distances[np.ix_(own_phones == a, other_phones == a)]
            if np.isnan(from_a).all():
                continue
            for b in sorted(own):
                if b == a:
                    continue
                from_b = distances[np.ix_(own_phones == b, other_phones == a)]
                gap = from_a[:, None, :] - from_b[None, :, :]
                gap = gap[~np.isnan(gap)]
                errors[a, b].append(float(np.mean((gap > 0) + 0.5 * (gap == 0))))
    return float(np.mean([np.mean(values) for values in errors.values()])) if errors else math.nan


def _flatten(drawn: dict[int, list[np.ndarray]]) -> tuple[list[np.ndarray], np.ndarray]:
    pairs = [(phone, units) for phone in sorted(drawn) for units in drawn[phone]]
    return [units for _, units in pairs], np.array([phone for phone, _ in pairs])


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles between vectors ``(N, D)`` and ``(M, D)``, as shares of 180 degrees, float32 ``(N, M)``."""
    first, second = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9) for x in (a.astype(np.float32), b))
    found: np.ndarray = np.arccos((first @ second.astype(np.float32).T).clip(-1, 1)) / np.pi
    return found


def dtw(a: Sequence[np.ndarray], b: Sequence[np.ndarray], vectors: np.ndarray | None = None) -> np.ndarray:
    """Dynamic time warping distances (Sakoe and Chiba 1978) between all pairs of unit sequences.

    Args:
        a: sequences ``(T,)``.
        b: sequences ``(T,)``.
        vectors: of the units, ``(N, D)``, whose angles are the distances of two frames; by default, the distance is 1
            if the units differ.

    Returns:
        Mean distance of the frames along the best alignment, 0 to 1, ``(len(a), len(b))``.
    """
    table = None
    if vectors is not None:  # only of the units that occur: features have one of their own for each frame
        units, others = (np.unique(np.concatenate(part)) for part in (a, b))
        table = angles(vectors[units], vectors[others])
        a, b = [np.searchsorted(units, x) for x in a], [np.searchsorted(others, x) for x in b]
    lengths = [np.array([len(x) for x in part]) for part in (a, b)]
    padded = [np.full((len(part), longest.max()), -1) for part, longest in zip((a, b), lengths, strict=True)]
    for rows, part in zip(padded, (a, b), strict=True):
        for row, x in zip(rows, part, strict=True):
            row[: len(x)] = x
    x, y = padded[0][:, None, :], padded[1][None, :, :]
    shape = (len(a), len(b))
    # one row of the table: cost and length of the best path to each cell, for all pairs at once
    previous: list[tuple[np.ndarray, np.ndarray]] = []
    result = np.full(shape, np.nan)
    for i in range(x.shape[2]):
        current: list[tuple[np.ndarray, np.ndarray]] = []
        for j in range(y.shape[2]):
            before = [*previous[max(0, j - 1) : j + 1], *current[-1:]]  # the diagonal comes first and wins ties
            if j == 0 or i == 0:
                before = previous[:1] if j == 0 else current[-1:]
            rows, columns = x[:, :, i], y[:, :, j]  # behind the end of a sequence: -1, whose costs are not used
            cost = (rows != columns).astype(np.float32) if table is None else table[rows, columns]
            length = np.ones(shape, np.float32)
            if before:
                best, steps = before[0]
                for other, other_steps in before[1:]:
                    better = other < best
                    best, steps = np.where(better, other, best), np.where(better, other_steps, steps)
                cost, length = cost + best, length + steps
            current.append((cost, length))
            ends = (lengths[0][:, None] == i + 1) & (lengths[1][None, :] == j + 1)
            result[ends] = (cost / length)[ends]
        previous = current
    return result
