"""Means over utterances with confidence intervals, and significance of differences."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 2000
"""Number of bootstrap samples."""

PERMUTATIONS = 9999
"""Number of random permutations in a permutation test."""


@dataclass(frozen=True)
class Estimate:
    """A weighted mean over utterances with its 95 % confidence interval (percentile bootstrap; Efron 1979).

    Attributes:
        mean: NaN if no utterance has a value.
        low: lower end of the interval; NaN for fewer than two utterances.
        high: upper end of the interval; NaN for fewer than two utterances.
        count: number of utterances with a value.
    """

    mean: float
    low: float
    high: float
    count: int


def estimate(values: np.ndarray, weights: np.ndarray, seed: int = 0) -> Estimate:
    """Weighted mean and confidence interval.

    Args:
        values: ``(N,)``, one for each utterance; NaN values are left out.
        weights: ``(N,)``.
        seed: of the bootstrap.
    """
    valid = ~np.isnan(values)
    values, weights = values[valid], weights[valid]
    if not len(values) or weights.sum() <= 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float((values * weights).sum() / weights.sum())
    if len(values) == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    low, high = np.quantile(_bootstrap_means(values * weights, weights, seed), [0.025, 0.975])
    return Estimate(mean, float(low), float(high), len(values))


def _bootstrap_means(products: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """Weighted means of resampled utterances, ``(RESAMPLES,)``."""
    counts = _resample(len(products), seed)
    return (counts @ products) / np.maximum(counts @ weights, 1e-12)


@lru_cache(maxsize=16)
def _resample(count: int, seed: int) -> np.ndarray:
    """How often each sample draws each utterance, ``(RESAMPLES, count)``. Cached, as drawing dominates the time."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    drawn.setflags(write=False)
    return drawn


@dataclass(frozen=True)
class Difference:
    """Difference between B and A over the utterances that have a value of both.

    Attributes:
        a: mean of A.
        b: mean of B.
        difference: mean of B minus mean of A.
        low: lower end of the 95 % confidence interval of the difference (paired percentile bootstrap).
        high: upper end.
        p: two-sided p value of a paired permutation test (Fisher 1935).
        count: number of utterances.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    count: int


def compare(a: np.ndarray, b: np.ndarray, weights: np.ndarray, seed: int = 0) -> Difference | None:
    """Compare two sets of values of the same utterances.

    Args:
        a: ``(N,)``; an utterance with NaN in ``a`` or ``b`` is left out.
        b: ``(N,)``.
        weights: ``(N,)``.
        seed: of the bootstrap and the permutation test.

    Returns:
        ``None`` if fewer than two utterances have both values.
    """
    valid = ~(np.isnan(a) | np.isnan(b))
    a, b, weights = a[valid], b[valid], weights[valid]
    if len(a) < 2 or weights.sum() <= 0:
        return None
    products = (b - a) * weights
    total = weights.sum()
    low, high = np.quantile(_bootstrap_means(products, weights, seed), [0.025, 0.975])
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (PERMUTATIONS, len(products)))
    as_extreme = np.abs(signs @ products) >= abs(products.sum()) - 1e-9 * np.abs(products).sum()
    return Difference(
        float((a * weights).sum() / total),
        float((b * weights).sum() / total),
        float(products.sum() / total),
        float(low),
        float(high),
        float((1 + as_extreme.sum()) / (1 + PERMUTATIONS)),
        len(a),
    )


def holm(p: list[float]) -> list[float]:
    """Correct p values for multiple comparisons (Holm 1979), keeping their order."""
    order = np.argsort(p)
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected
