"""Bits that remain when codes are entropy coded: the ideal code lengths of adaptive models, without an actual coder.

The models start from ``warm_up`` and go on learning, so nothing else has to be transmitted. Order 0 knows how frequent
each code of a codebook is. The context model mixes three predictions: from the frequencies, from the previous code of
the codebook, and from the code of the codebook before in the same frame. Their weights follow their success
(Bayesian mixture with a fixed share; Herbster and Warmuth 1998), and each prediction falls back to the frequencies as
far as its context is new (Witten and Bell 1991).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SHARE = 0.002  # of the weights is distributed again at each symbol, so that no model is ruled out for ever


@dataclass(frozen=True)
class CodeLengths:
    """Bits of all utterances, by codebook.

    Attributes:
        order_0: ``(Q,)``.
        contexts: ``(Q,)``.
    """

    order_0: np.ndarray
    contexts: np.ndarray


def code_lengths(grids: Sequence[np.ndarray], codebook_size: int, warm_up: Sequence[np.ndarray] = ()) -> CodeLengths:
    """Ideal code lengths.

    Args:
        grids: codes of each utterance, ``(Q, T)``.
        codebook_size: entries ``N``.
        warm_up: codes that the models have seen before.
    """
    num_codebooks = len(grids[0])
    totals = np.zeros((2, num_codebooks))
    for q in range(num_codebooks):
        model = _Mixture(codebook_size)
        for counted, part in ((False, warm_up), (True, grids)):
            for grid in part:
                below = grid[q - 1].tolist() if q else [0] * grid.shape[1]
                previous = -1
                for code, lower in zip(grid[q].tolist(), below, strict=True):
                    simple, mixed = model.learn(code, previous, lower)
                    if counted:
                        totals[0, q] -= math.log2(simple)
                        totals[1, q] -= math.log2(mixed)
                    previous = code
    return CodeLengths(*totals)


class _Mixture:
    """The models of one codebook."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.counts = [0] * size
        self.total = 0
        # per context and code, per context: how often, and how many different codes
        self.pairs: tuple[dict[int, int], ...] = (defaultdict(int), defaultdict(int))
        self.sums: tuple[dict[int, int], ...] = (defaultdict(int), defaultdict(int))
        self.kinds: tuple[dict[int, int], ...] = (defaultdict(int), defaultdict(int))
        self.weights = [1 / 3] * 3

    def learn(self, code: int, previous: int, lower: int) -> tuple[float, float]:
        """Probabilities that order 0 and the mixture gave to a code, which they then learn."""
        simple = (self.counts[code] + 0.5) / (self.total + 0.5 * self.size)
        self.counts[code] += 1
        self.total += 1
        found = [simple]
        for pairs, sums, kinds, context in zip(self.pairs, self.sums, self.kinds, (previous, lower), strict=True):
            key = context * self.size + code
            count, new = pairs[key], kinds[context] + 1
            found.append((count + new * simple) / (sums[context] + new))
            pairs[key] = count + 1
            sums[context] += 1
            if not count:
                kinds[context] += 1
        mixed = sum(w * p for w, p in zip(self.weights, found, strict=True))
        self.weights = [(1 - _SHARE) * w * p / mixed + _SHARE / 3 for w, p in zip(self.weights, found, strict=True)]
        return simple, mixed
