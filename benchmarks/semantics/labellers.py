"""Sources of labels: the codes of a tokenizer, and k-means on the features of a teacher."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import speechtok
from benchmarks.semantics.labelling import AlignedUtterances, LabelledUtterances, Labeller
from speechtok.resampling import resample
from speechtok.tokenizer import Tokenizer
from training.manifest import Utterance
from training.teachers import Teacher
from training.teachers.kmeans import assign_clusters, fit_kmeans

FIT_FRAMES = 200_000
"""Frames that k-means and the n-gram model are fitted on; more change PNMI by less than a point."""


def code_labeller(tokenizer: Tokenizer) -> Labeller:
    """Label frames with the codes of a tokenizer."""

    def labels(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        return tokenizer.encode(waveform, rate).codes[0, :, : len(centres)]

    return labels


def code_vectors(tokenizer: Tokenizer) -> np.ndarray:
    """Vectors of codebook 0, ``(N, D)``."""
    codes = torch.arange(tokenizer.codebook_size)[None, None]
    found: np.ndarray = tokenizer.embed(codes, num_codebooks=1)[0].float().numpy()
    return found


class FrameFeatures:
    """Labels every frame with a number of its own, and keeps the features of the frame under this number.

    Args:
        features: computes features ``(T, D)`` from a waveform, its sample rate and the frame centres.
    """

    def __init__(self, features: Callable[[Tensor, int, Tensor], Tensor]) -> None:
        self._features, self._pieces, self._count = features, list[np.ndarray](), 0

    def __call__(self, waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        """Numbers ``(1, T)``."""
        piece = self._features(waveform, rate, centres).float().numpy()
        self._pieces.append(piece)
        self._count += len(piece)
        return torch.arange(self._count - len(piece), self._count)[None]

    @property
    def vectors(self) -> np.ndarray:
        """Features of all frames so far, ``(N, D)``."""
        return np.concatenate(self._pieces)


def latent_features(tokenizer: Tokenizer) -> FrameFeatures:
    """The sum of the vectors of all codebooks, as features of a frame."""

    def features(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        return tokenizer.embed(tokenizer.encode(waveform, rate))[0, : len(centres)]

    return FrameFeatures(features)


def teacher_features(teacher: Teacher) -> FrameFeatures:
    """Features of a teacher at the centres of the frames."""
    return FrameFeatures(_interpolated(teacher))


def _interpolated(teacher: Teacher) -> Callable[[Tensor, int, Tensor], Tensor]:
    @torch.no_grad()
    def features(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        return teacher.interpolate(teacher(resample(waveform[None], rate, teacher.sample_rate)), centres)[0]

    return features


def code_delay(tokenizer: Tokenizer) -> int:
    """Frames by which the codes of a tokenizer lag behind the phones: the lookahead of its decoder."""
    return int(getattr(tokenizer, "lookahead", 0)) // tokenizer.hop_length


def fit_clusters(
    name: str,
    teacher: Teacher,
    aligned: AlignedUtterances,
    train: Sequence[Utterance],
    clusters: int,
    seed: int = 0,
) -> tuple[Tensor, list[np.ndarray]]:
    """Fit k-means to the features of a teacher.

    Args:
        name: for the progress bar.
        teacher: the model.
        aligned: provides the frame grid, at whose centres features are taken.
        train: utterances to fit k-means to; as many as :data:`FIT_FRAMES` need.
        clusters: number of clusters.
        seed: of the order of the utterances and of k-means.

    Returns:
        Centroids ``(N, D)``, and the labels ``(T,)`` of the utterances that they were fitted to.
    """
    pieces = list(training_labels(_interpolated(teacher), aligned, train, f"{name}: fitting", seed))
    centroids = fit_kmeans(torch.cat(pieces).numpy(), clusters, seed)
    return centroids, [assign_clusters(piece, centroids).numpy() for piece in pieces]


def label_clusters(frames: LabelledUtterances, vectors: np.ndarray, centroids: Tensor) -> LabelledUtterances:
    """Replace the numbers of frames, whose features are ``vectors`` ``(T, D)``, by those of the nearest centroids."""
    nearest = assign_clusters(torch.from_numpy(vectors), centroids).numpy()
    return dataclasses.replace(frames, labels=[nearest[grid] for grid in frames.labels])


def training_labels(
    labeller: Labeller, aligned: AlignedUtterances, train: Sequence[Utterance], name: str, seed: int = 0
) -> Iterator[Tensor]:
    """Label utterances in random order until there are :data:`FIT_FRAMES` frames."""
    count = 0
    with tqdm(total=FIT_FRAMES, desc=name, unit="frame") as bar:
        for index in np.random.default_rng(seed).permutation(len(train)):
            waveform, rate = speechtok.read_audio(train[index].audio)
            centres = aligned.frame_centres(waveform, rate)
            yield labeller(waveform, rate, centres)
            count += len(centres)
            bar.update(len(centres))
            if count >= FIT_FRAMES:
                break
