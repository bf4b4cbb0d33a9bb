"""Character error rate."""

from collections.abc import Sequence


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Insertions, deletions and substitutions, divided by the number of characters of the references."""
    return sum(map(edit_distance, references, hypotheses)) / max(1, sum(map(len, references)))


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
