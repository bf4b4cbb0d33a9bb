"""A label for every frame of a corpus: k-means clusters of features, and phones of the manifest."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechtok.files import replacing
from training.dataset import Corpus
from training.manifest import SILENCE, Utterance, phones_at
from training.teachers.frames import frame_centres
from training.teachers.kmeans import assign_clusters, fit_kmeans

KMEANS_FRAMES = 200_000
"""Frames that k-means is fitted on, drawn from the whole corpus."""


@dataclass(frozen=True)
class FrameLabels:
    """Labels of the frames of a corpus.

    Attributes:
        values: int16, the frames of all utterances end to end; -1 for frames without a label.
        offsets: first frame of each utterance, and the end of the last one.
        hop_length: samples per frame.
    """

    values: np.ndarray
    offsets: np.ndarray
    hop_length: int

    def at(self, utterance: int, samples: np.ndarray) -> np.ndarray:
        """Labels of the frames that contain ``samples`` of an utterance, int64; -1 after its end."""
        first, end = self.offsets[utterance], self.offsets[utterance + 1]
        frames = first + (samples // self.hop_length).astype(np.int64)
        labels = self.values[frames.clip(first, end - 1)].astype(np.int64)
        return np.where(frames < end, labels, -1)

    @property
    def labelled_utterances(self) -> np.ndarray:
        """Whether each utterance has a label at all, bool ``(utterances,)``."""
        starts = self.offsets[:-1]
        return np.maximum.reduceat(self.values, starts) >= 0 if len(starts) else np.zeros(0, bool)


def phone_names(utterances: Iterable[Utterance]) -> tuple[str, ...]:
    """Names of all phones of the utterances, silence first; empty if no utterance is aligned."""
    names = {phone.name for utterance in utterances for phone in utterance.phones or ()}
    return (SILENCE, *sorted(names - {SILENCE})) if names else ()


def label_phones(
    utterances: Sequence[Utterance], corpus: Corpus, names: Sequence[str], hop_length: int, sample_rate: int
) -> FrameLabels:
    """Label each frame with the phone at its centre.

    Args:
        utterances: the utterances of the corpus.
        corpus: the audio.
        names: phones; a label is an index into them.
        hop_length: samples per frame.
        sample_rate: in hertz.
    """
    counts = -(-np.diff(corpus.offsets) // hop_length)
    values = [
        phones_at(utterance.phones, frame_centres(int(n), hop_length, sample_rate).numpy(), names)
        for utterance, n in zip(utterances, counts, strict=True)
    ]
    return FrameLabels(np.concatenate(values).astype(np.int16), _frame_offsets(corpus, hop_length), hop_length)


def label_clusters(
    compute: Callable[[Tensor], Tensor],
    corpus: Corpus,
    hop_length: int,
    clusters: int,
    seed: int,
    path: Path,
    features: str,
) -> FrameLabels:
    """Fit k-means on features of a corpus and label each frame with its cluster. Labels on disk are reused.

    Args:
        compute: computes features, ``(1, S)`` to ``(1, T, D)`` with ``T = ceil(S / hop_length)``.
        corpus: the audio.
        hop_length: samples per frame.
        clusters: number of clusters.
        seed: seed of k-means and of the frames that it is fitted on.
        path: ``.npy`` file of the labels. A hash of everything that the labels depend on is added to its name.
        features: name of the features, different for every ``compute``.
    """
    offsets = _frame_offsets(corpus, hop_length)
    # the audio is hashed by its lengths and some of its samples, so that its place on disk does not matter
    digest = hashlib.sha256(f"{hop_length} {clusters} {seed} {KMEANS_FRAMES} {features}\n".encode())
    digest.update(corpus.offsets.astype(np.int64).tobytes())
    digest.update(corpus.samples[:: max(1, corpus.size // 4096)].tobytes())
    path = path.with_stem(f"{path.stem}-{digest.hexdigest()[:16]}")
    if not path.exists():
        rng = np.random.default_rng(seed)
        share = min(1.0, KMEANS_FRAMES / offsets[-1])
        computed, drawn = [], []
        for index in tqdm(range(len(corpus)), desc="features to cluster", unit="utterance"):
            frames = compute(corpus[index][None])[0].float().cpu()
            computed.append(frames.half())
            drawn.append(frames[torch.from_numpy(rng.random(len(frames)) < share)])
        centroids = fit_kmeans(torch.cat(drawn).numpy(), clusters, seed)
        labels = [assign_clusters(frames.float(), centroids) for frames in computed]
        with replacing(path) as file:
            np.save(file, torch.cat(labels).numpy().astype(np.int16))
    return FrameLabels(np.load(path), offsets, hop_length)


def _frame_offsets(corpus: Corpus, hop_length: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(-(-np.diff(corpus.offsets) // hop_length))])
