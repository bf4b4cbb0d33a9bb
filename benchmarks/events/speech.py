"""Scores of speech and overlap on mixtures whose labels are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_auc_score

from training.dataset import Corpus
from training.events.scenes import Labels, Turn, active_rms, draw_noise, frame_labels


@dataclass(frozen=True)
class Mixture:
    """A waveform ``(S,)`` and the labels of its frames."""

    waveform: np.ndarray
    labels: Labels


def mix_noise(
    recorded: Turn, noise: Corpus | None, snr_db: float | None, hop_length: int, sample_rate: int, seed: int
) -> Mixture:
    """An utterance as it was recorded, with noise at a ratio to the level of its speech; without, if it is ``None``."""
    samples = len(recorded.waveform) // hop_length * hop_length
    waveform, spans = recorded.waveform[:samples], recorded.spans
    if snr_db is not None:
        rng = np.random.default_rng((seed, 11))
        level = active_rms(waveform, spans) * 10 ** (-snr_db / 20)
        waveform = waveform + np.float32(level) * draw_noise(noise, samples, rng, 0.0 if noise is not None else 1.0)
        waveform = waveform / max(1.0, float(np.abs(waveform).max()))
    return Mixture(waveform.astype(np.float32), frame_labels([[spans]], samples, hop_length, sample_rate))


@dataclass(frozen=True)
class Score:
    """Scores of a detector on the frames of many mixtures.

    Attributes:
        auc: area under the ROC curve.
        f1: F1 of speech at the threshold of the detector's makers, 0.5.
        f1_chosen: F1 at a threshold that was chosen on development data.
        threshold: that threshold.
    """

    auc: float
    f1: float
    f1_chosen: float
    threshold: float


def score(
    labels: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    threshold: float,
) -> Score:
    """Score all frames that have a label, ``(T,)`` for each mixture."""
    truth, values = np.concatenate(labels), np.concatenate(found)
    known = truth >= 0
    truth, values = truth[known] > 0, values[known]
    auc = float(roc_auc_score(truth, values)) if 0 < truth.sum() < len(truth) else float("nan")
    return Score(auc, f1(truth, values >= 0.5), f1(truth, values >= threshold), threshold)


def f1(truth: np.ndarray, found: np.ndarray) -> float:
    """F1 of boolean decisions."""
    hits = float((truth & found).sum())
    return 2 * hits / max(1.0, float(truth.sum() + found.sum()))


def best_threshold(labels: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The threshold of the largest F1; to be called on development data."""
    truth, values = np.concatenate(labels), np.concatenate(found)
    known = truth >= 0
    precision, recall, thresholds = precision_recall_curve(truth[known] > 0, values[known])
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    return float(thresholds[int(f[:-1].argmax())])
