"""Phones of a manifest's forced alignments: what is spoken when, for sharpening a teacher and for scoring tokens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechtok.errors import AudioError, MissingFileError
from training.dataset import manifest_lines

SILENCE = "SIL"
"""Silence; fillers of the aligner (``+NOISE+``, ``+BREATH+``, …) count as silence too."""


@dataclass(frozen=True)
class Phone:
    """One row of an alignment; ``start`` and ``end`` in seconds."""

    name: str
    start: float
    end: float


def read_alignments(manifest: Path) -> dict[Path, tuple[Phone, ...]]:
    """Alignment of each audio file of a manifest that has one.

    Raises:
        MissingFileError: there is no such manifest.
        AudioError: a line is no JSON with an ``audio`` path, or its ``phones`` are no ``[phone, start_s, end_s]`` rows.
    """
    if not manifest.is_file():
        raise MissingFileError(f"{manifest} does not exist; expected a manifest of JSON lines")
    alignments = {}
    for number, line in enumerate(manifest_lines(manifest), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            phones = tuple(
                Phone(SILENCE if name.startswith("+") else name, float(start), float(end))
                for name, start, end in row.get("phones") or ()
            )
            audio = manifest.parent / row["audio"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AudioError(
                f"{manifest}, line {number} is {line[:80]!r}; expected JSON with an 'audio' path, and 'phones' as rows "
                "[phone, start in seconds, end in seconds] if it has any"
            ) from error
        if phones:
            alignments[audio] = phones
    return alignments


def phones_at(phones: Sequence[Phone], times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Index into ``names`` of the phone at each of ``times`` (seconds, ``(T,)``), int64; -1 outside all rows of known
    phones.
    """
    if not phones:
        return np.full(len(times), -1)
    ordered = sorted(phones, key=lambda phone: phone.start)
    starts = np.array([phone.start for phone in ordered])
    ends = np.array([phone.end for phone in ordered])
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index.get(phone.name, -1) for phone in ordered])
    row = np.searchsorted(starts, times, side="right") - 1
    inside = (row >= 0) & (times < ends[row.clip(0)])
    return np.where(inside, labels[row.clip(0)], -1)
