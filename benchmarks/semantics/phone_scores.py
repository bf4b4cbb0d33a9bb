"""Agreement of labels with phones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.semantics.labelling import LabelledUtterances
from speechtok.metrics import PhoneScore, phone_score


@dataclass(frozen=True)
class PhoneScores:
    """One row of the table.

    Attributes:
        name: of the labels.
        all: over all aligned frames.
        spoken: over the aligned frames that are not silent.
    """

    name: str
    all: PhoneScore
    spoken: PhoneScore


def score(name: str, labels: np.ndarray, phones: np.ndarray, silence: int) -> PhoneScores:
    """Compare labels ``(T,)`` with phones ``(T,)``, one of which is silence."""
    spoken = np.where(phones == silence, -1, phones)
    return PhoneScores(name, phone_score(labels, phones), phone_score(labels, spoken))


def codebook_scores(codes: LabelledUtterances, silence: int, delay: int) -> list[PhoneScores]:
    """Scores of every codebook, of codebook 0 without the delay if there is one, and of chance.

    Chance is codebook 0 with its frames shuffled.
    """
    grid, phones = codes.joined
    rows = [score(f"codebook {index}", row, phones, silence) for index, row in enumerate(grid)]
    if delay:
        rows.insert(1, score("codebook 0, without delay", grid[0], np.concatenate(codes.undelayed), silence))
    counted = phones >= 0
    shuffled = np.random.default_rng(0).permutation(grid[0][counted])
    return [*rows, score("chance", shuffled, phones[counted], silence)]


def phone_table(rows: Sequence[PhoneScores]) -> str:
    """Scores as Markdown."""
    lines = ["| labels | PNMI | PNMI without silence | phone purity | cluster purity |", "|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.all.pnmi:.3f} | {row.spoken.pnmi:.3f} | {row.all.phone_purity:.3f} "
            f"| {row.all.cluster_purity:.3f} |"
        )
    return "\n".join(lines)
