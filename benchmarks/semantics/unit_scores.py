"""Labels as a sequence of discrete units: ABX, units per phone, speaker probe, and perplexity of an n-gram model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.abx import abx
from benchmarks.ngram import KneserNey
from benchmarks.semantics.labelling import LabelledUtterances
from benchmarks.speaker_probe import SpeakerProbe, probe_speakers
from benchmarks.unit_metrics import deduplicate, segments, units_per_phone


@dataclass(frozen=True)
class UnitScores:
    """One row of the table. A value is NaN if the manifest lacks the speakers or phones that it needs.

    Attributes:
        name: of the labels.
        abx_within: ABX error rate within speakers.
        abx_across: ABX error rate across speakers.
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
    name: str, labelled: LabelledUtterances, silence: int, train: Sequence[np.ndarray], num_units: int
) -> UnitScores:
    """Measure the first row of the labels.

    Args:
        name: of the labels.
        labelled: the utterances to measure. Those without a speaker only count for units per phone and perplexity.
        silence: the phone that is excluded from ABX and units per phone.
        train: units ``(T,)`` to train the n-gram model on.
        num_units: number of distinct units.
    """
    rows = [grid[0] for grid in labelled.labels]
    triples = zip(rows, labelled.phones, labelled.speakers, strict=True)
    spoken = [s for row, phones, speaker in triples for s in segments(row, phones, speaker or "", [silence])]
    known = [segment for segment in spoken if segment.speaker]
    probe = probe_speakers([row[None] for row in rows], labelled.speakers, num_units)
    short = [deduplicate(row).tolist() for row in rows]
    nats = sum(map(KneserNey([deduplicate(row).tolist() for row in train], num_units).nll, short))
    return UnitScores(
        name,
        abx(known, across=False),
        abx(known, across=True),
        units_per_phone(spoken),
        probe.accuracy if probe else math.nan,
        math.exp(nats / sum(map(len, short))),
        nats / math.log(2) / labelled.seconds,
    )


def unit_table(rows: Sequence[UnitScores], all_codebooks: SpeakerProbe | None) -> str:
    """Scores as Markdown.

    Args:
        rows: scores.
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
    accuracy, chance = (all_codebooks.accuracy, all_codebooks.chance) if all_codebooks else (math.nan, math.nan)
    lines.append(f"| all codebooks | | | | {_cell(100 * accuracy, 1)} | | |")
    lines.append(f"| chance | 50.0 | 50.0 | | {_cell(100 * chance, 1)} | | |")
    return "\n".join(lines)


def _cell(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
