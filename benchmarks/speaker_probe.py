"""A linear probe for the speaker: how much speaker information discrete units carry."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FOLDS = 5
"""Folds of the cross-validation; a speaker needs as many utterances to be counted."""


@dataclass(frozen=True)
class SpeakerProbe:
    """Result of a speaker probe.

    Attributes:
        accuracy: share of the utterances classified correctly by a probe that was trained on others.
        chance: share of the most frequent speaker.
        speakers: number of speakers.
    """

    accuracy: float
    chance: float
    speakers: int


def probe_speakers(units: Sequence[np.ndarray], speakers: Sequence[str | None], num_units: int) -> SpeakerProbe | None:
    """Classify speakers by logistic regression on the unit frequencies of an utterance, with cross-validation.

    Args:
        units: of each utterance, ``(Q, T)``.
        speakers: of each utterance, if known.
        num_units: number of distinct units in a row.

    Returns:
        ``None`` if there are fewer than two speakers with :data:`FOLDS` utterances.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    counts = Counter(speaker for speaker in speakers if speaker is not None)
    kept = [i for i, speaker in enumerate(speakers) if speaker is not None and counts[speaker] >= FOLDS]
    names = sorted({str(speakers[i]) for i in kept})
    if len(names) < 2:
        return None
    shares = [[np.bincount(row, minlength=num_units) / len(row) for row in units[i]] for i in kept]
    features = np.sqrt(np.array(shares)).reshape(len(kept), -1)  # Hellinger: the root gives rare units weight
    labels = np.array([names.index(str(speakers[i])) for i in kept])
    probe = LogisticRegression(C=100.0, max_iter=500)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    accuracy = float(np.mean(cross_val_score(probe, features, labels, cv=folds)))
    return SpeakerProbe(accuracy, float(np.bincount(labels).max() / len(labels)), len(names))
