"""How much codes change under noise, reverberation, another level or a shift (as in StableToken, arXiv 2509.22220)."""

from collections.abc import Sequence

import numpy as np

CONDITIONS = ("noise:20", "noise:10", "noise:0", "reverb", "gain:-20", "gain:6", "shift:5", "telephone")
"""Conditions under which codes are compared with those of the unchanged audio; see
:mod:`benchmarks.evaluation.conditions`."""


def unit_edit_distance(before: np.ndarray, after: np.ndarray) -> float:
    """Levenshtein distance between codes ``(T,)`` and ``(T',)``, relative to ``T``."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(before.tolist(), after.tolist()) / max(len(before), 1)


def mean_edit_distances(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> np.ndarray:
    """Unit edit distance of each codebook, ``(Q,)``: the mean over utterances, weighted by their frames.

    Args:
        before: codes of each utterance, ``(Q, T)``.
        after: codes of the same utterances under a condition.
    """
    frames = np.array([grid.shape[1] for grid in before])
    pairs = zip(before, after, strict=True)
    distances = [[unit_edit_distance(a, b) for a, b in zip(x, y, strict=True)] for x, y in pairs]
    return np.average(distances, axis=0, weights=np.maximum(frames, 1e-9))
