"""N-gram language models with interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998)."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from speechtok.errors import InputError

START = -1
"""Symbol of the positions before the first symbol of a sequence."""


class KneserNey:
    """N-gram model of integer sequences.

    Args:
        sequences: sequences to count n-grams in. End-of-sequence symbols are up to the caller.
        num_symbols: size of the alphabet; symbols that never occur share the probability mass set aside for them.
        order: length of the n-grams, 3 for trigrams.

    Raises:
        InputError: the sequences are empty.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], num_symbols: int, order: int = 3) -> None:
        self._order, self._num_symbols = order, num_symbols
        # by context length: occurrences in the highest order, distinct preceding symbols in lower orders
        counts: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
        for sequence in sequences:
            padded = self._padded(sequence)
            for i in range(order - 1, len(padded)):
                counts[-1][tuple(padded[i - order + 1 : i])][padded[i]] += 1
        if not counts[-1]:
            raise InputError("the sequences for the n-gram model have no symbols; expected at least one")
        for n in reversed(range(order - 1)):
            for context, row in counts[n + 1].items():
                for symbol in row:
                    counts[n][context[1:]][symbol] += 1
        self._counts = counts
        self._discounts = [_discounts(table.values()) for table in counts]
        # for each context: total count, and probability mass of the shorter context
        self._backoff = [
            {
                context: (sum(row.values()), sum(d[min(c, 3)] for c in row.values()) / sum(row.values()))
                for context, row in table.items()
            }
            for table, d in zip(counts, self._discounts, strict=True)
        ]

    def probability(self, context: Sequence[int], symbol: int) -> float:
        """Probability of ``symbol`` after ``context``, of which the last ``order - 1`` symbols are used."""
        value = 1 / self._num_symbols
        for n in range(self._order):
            last = tuple(context[len(context) - n :])
            if last not in self._backoff[n]:
                break
            total, rest = self._backoff[n][last]
            count = self._counts[n][last].get(symbol, 0)
            value = max(0.0, count - self._discounts[n][min(count, 3)]) / total + rest * value
        return value

    def nll(self, sequence: Sequence[int]) -> float:
        """Negative log-likelihood of a sequence, in nats."""
        padded = self._padded(sequence)
        return -sum(
            math.log(self.probability(padded[i - self._order + 1 : i], padded[i]))
            for i in range(self._order - 1, len(padded))
        )

    def _padded(self, sequence: Sequence[int]) -> list[int]:
        return [START] * (self._order - 1) + list(sequence)


def _discounts(rows: Iterable[Counter[int]]) -> tuple[float, float, float, float]:
    """Discounts of counts 0, 1, 2, and 3 or more."""
    n = Counter(count for row in rows for count in row.values() if count <= 4)
    if not all(n[i] for i in (1, 2, 3, 4)):  # too few counts to estimate them
        return 0.0, 0.5, 0.75, 0.9
    y = n[1] / (n[1] + 2 * n[2])
    found = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
    return 0.0, *(min(max(d, 0.05), i - 0.05) for i, d in zip((1, 2, 3), found, strict=True))  # type: ignore[return-value]
