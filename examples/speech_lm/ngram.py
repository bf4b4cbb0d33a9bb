"""What a language model is measured against: n-grams with interpolated modified Kneser-Ney smoothing."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

BEFORE = -1
"""What stands before the first symbol of a sequence."""


class KneserNey:
    """Probabilities of symbols after others (Chen and Goodman 1998), counted in sequences.

    Args:
        sequences: each to its end mark.
        symbols: how many there are; what was never seen has a share of what is left.
        order: 3 for trigrams.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], symbols: int, order: int = 3) -> None:
        self._order, self._symbols = order, symbols
        # by the length of the context: how often, or below the highest order after how many different symbols
        counts: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
        for sequence in sequences:
            padded = [BEFORE] * (order - 1) + list(sequence)
            for i in range(order - 1, len(padded)):
                counts[-1][tuple(padded[i - order + 1 : i])][padded[i]] += 1
        for n in reversed(range(order - 1)):
            for context, row in counts[n + 1].items():
                for symbol in row:
                    counts[n][context[1:]][symbol] += 1
        self._counts = counts
        self._discounts = [_discounts(table.values()) for table in counts]
        # of each context: its count, and the share that the shorter context has
        self._rest = [
            {
                context: (sum(row.values()), sum(d[min(c, 3)] for c in row.values()) / sum(row.values()))
                for context, row in table.items()
            }
            for table, d in zip(counts, self._discounts, strict=True)
        ]

    def probability(self, context: Sequence[int], symbol: int) -> float:
        """Of ``symbol`` after ``context``, of which the last ``order - 1`` count."""
        value = 1 / self._symbols
        for n in range(self._order):
            last = tuple(context[len(context) - n :])
            if last not in self._rest[n]:
                break
            total, rest = self._rest[n][last]
            count = self._counts[n][last].get(symbol, 0)
            value = max(0.0, count - self._discounts[n][min(count, 3)]) / total + rest * value
        return value

    def nll(self, sequence: Sequence[int]) -> float:
        """Minus the log probability of a sequence, in nats."""
        padded = [BEFORE] * (self._order - 1) + list(sequence)
        return -sum(
            math.log(self.probability(padded[i - self._order + 1 : i], padded[i]))
            for i in range(self._order - 1, len(padded))
        )


def _discounts(rows: Iterable[Counter[int]]) -> tuple[float, float, float, float]:
    """What is taken from counts of 0, 1, 2, and 3 or more."""
    n = Counter(count for row in rows for count in row.values() if count <= 4)
    if not all(n[i] for i in (1, 2, 3, 4)):  # too few to estimate them
        return 0.0, 0.5, 0.75, 0.9
    y = n[1] / (n[1] + 2 * n[2])
    found = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
    return 0.0, *(min(max(d, 0.05), i - 0.05) for i, d in zip((1, 2, 3), found, strict=True))  # type: ignore[return-value]
