"""Labels as a sequence of discrete units: ABX, units per phone, speaker probe, and perplexity of an n-gram model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.abx import abx
from benchmarks.ngram import KneserNey
from benchmarks.semantics.labelling import LabelledUtterances
from benchmarks.speaker_probe import SpeakerProbe, probe_speakers
from benchmarks.unit_metrics import Segment, deduplicate, segments, units_per_phone


@dataclass(frozen=True)
class UnitScores:
    """One row of the table. A value is NaN if the manifest lacks the speakers or phones that it needs.

    Attributes:
        name: of the labels.
        abx_within: ABX error rate within speakers, on the vectors of the units.
        abx_across: ABX error rate across speakers, on the vectors of the units.
        units_per_phone: mean number of runs of one unit in a phone.
        speaker: accuracy of the speaker probe.
        perplexity: of the n-gram model, per unit without repetitions.
        bits: bits per second of speech that the n-gram model needs.
    """

    name: str
    abx_within: float
    abx_across: float
    units_per_phone: float
    speaker: float
    perplexity: float
    bits: float


def unit_scores(
    name: str,
    labelled: LabelledUtterances,
    silence: int,
    train: Sequence[np.ndarray],
    num_units: int,
    vectors: np.ndarray,
) -> UnitScores:
    """Measure the first row of the labels.

    Args:
        name: of the labels.
        labelled: the utterances to measure. Those without a speaker only count for units per phone and perplexity.
        silence: the phone that is excluded from ABX and units per phone.
        train: units ``(T,)`` to train the n-gram model on.
        num_units: number of distinct units.
        vectors: of the units, ``(N, D)``.
    """
    rows = [grid[0] for grid in labelled.labels]
    spoken = _spoken(labelled, silence)
    within, across = abx_scores(labelled, silence, vectors)
    probe = probe_speakers([row[None] for row in rows], labelled.speakers, num_units)
    short = [deduplicate(row).tolist() for row in rows]
    nats = sum(map(KneserNey([deduplicate(row).tolist() for row in train], num_units).nll, short))
    return UnitScores(
        name,
        within,
        across,
        units_per_phone(spoken),
        probe.accuracy if probe else math.nan,
        math.exp(nats / sum(map(len, short))),
        nats / math.log(2) / labelled.seconds,
    )


def abx_scores(labelled: LabelledUtterances, silence: int, vectors: np.ndarray) -> tuple[float, float]:
    """ABX error rates within and across speakers, on the vectors ``(N, D)`` of the first row of the labels."""
    known = [segment for segment in _spoken(labelled, silence) if segment.speaker]
    return abx(known, False, vectors), abx(known, True, vectors)


def _spoken(labelled: LabelledUtterances, silence: int) -> list[Segment]:
    triples = zip([grid[0] for grid in labelled.labels], labelled.phones, labelled.speakers, strict=True)
    return [s for row, phones, speaker in triples for s in segments(row, phones, speaker or "", [silence])]


def unit_table(
    rows: Sequence[UnitScores], features: Mapping[str, tuple[float, float]], all_codebooks: SpeakerProbe | None
) -> str:
    """Scores as Markdown.

    Args:
        rows: scores.
        features: ABX error rates within and across speakers of continuous features, by name.
        all_codebooks: result of the speaker probe on all codebooks.
    """
    lines = [
        "| labels | ABX within, % | ABX across, % | units per phone | speaker probe, % | perplexity | bit/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = (
            (100 * row.abx_within, 1), (100 * row.abx_across, 1), (row.units_per_phone, 2), (100 * row.speaker, 1),
            (row.perplexity, 1), (row.bits, 0),
        )  # fmt: skip
        lines.append(f"| {row.name} | {' | '.join(_cell(value, digits) for value, digits in values)} |")
    for name, pair in features.items():
        lines.append(f"| {name} | {' | '.join(_cell(100 * value, 1) for value in pair)} | | | | |")
    accuracy, chance = (all_codebooks.accuracy, all_codebooks.chance) if all_codebooks else (math.nan, math.nan)
    lines.append(f"| all codebooks | | | | {_cell(100 * accuracy, 1)} | | |")
    lines.append(f"| chance | 50.0 | 50.0 | | {_cell(100 * chance, 1)} | | |")
    return "\n".join(lines)


def _cell(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
