"""Metrics of discrete units: codes of a tokenizer or cluster labels of features, one per frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segment:
    """The units of one spoken phone.

    Attributes:
        phone: index of the phone.
        speaker: name of the speaker.
        units: ``(T,)``.
    """

    phone: int
    speaker: str
    units: np.ndarray


def segments(units: np.ndarray, phones: np.ndarray, speaker: str, excluded: Sequence[int] = ()) -> list[Segment]:
    """Cut an utterance into its phones.

    Args:
        units: ``(T,)``.
        phones: index of the phone of each frame, ``(T,)``; negative outside the alignment.
        speaker: name of the speaker.
        excluded: phones to leave out.
    """
    edges = np.flatnonzero(np.diff(phones)) + 1
    pieces = zip(np.split(units, edges), np.split(phones, edges), strict=True)
    return [
        Segment(int(phone[0]), speaker, part)
        for part, phone in pieces
        if len(part) and phone[0] >= 0 and int(phone[0]) not in excluded
    ]


def deduplicate(units: np.ndarray) -> np.ndarray:
    """Collapse every run of one unit in ``(T,)`` to a single unit."""
    return units[np.flatnonzero(np.diff(units, prepend=units[:1] - 1))]


def units_per_phone(found: Sequence[Segment]) -> float:
    """Mean number of runs of one unit in a phone; 1 if units are phones, NaN without segments."""
    return float(np.mean([len(deduplicate(segment.units)) for segment in found])) if found else math.nan


def perplexity(codes: np.ndarray) -> float:
    """Perplexity of one codebook, of codes ``(T,)``: the number of equally frequent codes with the same entropy."""
    share = np.bincount(codes) / len(codes)
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))
