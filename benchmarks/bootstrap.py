"""Means over utterances, how sure they are, and how sure a difference is."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 2000
"""Of the bootstrap."""

FLIPS = 9999
"""Of the permutation test."""


@dataclass(frozen=True)
class Estimate:
    """A weighted mean over utterances.

    Attributes:
        mean: NaN if no utterance has a value.
        low: lower end of the interval that holds 95 of 100 bootstrap means (percentile bootstrap; Efron 1979); NaN for
            fewer than two utterances.
        high: upper end.
        count: utterances that have a value.
    """

    mean: float
    low: float
    high: float
    count: int


def estimate(values: np.ndarray, weights: np.ndarray, seed: int = 0) -> Estimate:
    """Mean and interval of ``(N,)`` values with weights; NaN values do not count."""
    has = ~np.isnan(values)
    values, weights = values[has], weights[has]
    if not len(values) or weights.sum() <= 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float((values * weights).sum() / weights.sum())
    if len(values) == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    low, high = np.quantile(_bootstrap(values * weights, weights, seed), [0.025, 0.975])
    return Estimate(mean, float(low), float(high), len(values))


def _bootstrap(sums: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """Ratios of the sums of resampled utterances, ``(RESAMPLES,)``."""
    counts = _resample(len(sums), seed)
    return (counts @ sums) / np.maximum(counts @ weights, 1e-12)


@lru_cache(maxsize=16)
def _resample(count: int, seed: int) -> np.ndarray:
    """How often each utterance is drawn, float64 ``(RESAMPLES, count)``: drawing takes far longer than the rest."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    drawn.setflags(write=False)
    return drawn


@dataclass(frozen=True)
class Difference:
    """B less A over the utterances that both have.

    Attributes:
        a: mean of A.
        b: mean of B.
        difference: of the means.
        low: lower end of its 95 % interval (paired percentile bootstrap).
        high: upper end.
        p: two-sided, of a paired permutation test that swaps A and B of utterances at random (Fisher 1935).
        count: utterances.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    count: int


def compare(a: np.ndarray, b: np.ndarray, weights: np.ndarray, seed: int = 0) -> Difference | None:
    """Compare ``(N,)`` values of the same utterances; None if no two utterances have both."""
    has = ~(np.isnan(a) | np.isnan(b))
    a, b, weights = a[has], b[has], weights[has]
    if len(a) < 2 or weights.sum() <= 0:
        return None
    sums = (b - a) * weights
    total = weights.sum()
    low, high = np.quantile(_bootstrap(sums, weights, seed), [0.025, 0.975])
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (FLIPS, len(sums)))
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    return Difference(
        float((a * weights).sum() / total),
        float((b * weights).sum() / total),
        float(sums.sum() / total),
        float(low),
        float(high),
        float((1 + as_far.sum()) / (1 + FLIPS)),
        len(a),
    )


def holm(p: list[float]) -> list[float]:
    """The p values, made to allow for their number (Holm 1979), in the same order."""
    order = np.argsort(p)
    adjusted, most = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = most
    return adjusted


def perplexity(codes: np.ndarray) -> float:
    """``exp`` of the entropy of the use of one codebook, of codes ``(T,)``: how many codes used evenly would tell as
    much.
    """
    share = np.bincount(codes) / len(codes)
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))
