"""Sources of labels: the codes of a tokenizer, and k-means on the features of a teacher."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import speechtok
from benchmarks.semantics.labelling import AlignedUtterances, Labeller
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


def code_delay(tokenizer: Tokenizer) -> int:
    """Frames by which the codes of a tokenizer lag behind the phones: the lookahead of its decoder."""
    return int(getattr(tokenizer, "lookahead", 0)) // tokenizer.hop_length


def kmeans_labeller(
    name: str,
    teacher: Teacher,
    aligned: AlignedUtterances,
    train: Sequence[Utterance],
    clusters: int,
    seed: int = 0,
) -> Labeller:
    """Fit k-means to the features of a teacher, and label frames with the clusters.

    Args:
        name: for the progress bar.
        teacher: the model.
        aligned: provides the frame grid, at whose centres features are taken.
        train: utterances to fit k-means to; as many as :data:`FIT_FRAMES` need.
        clusters: number of clusters.
        seed: of the order of the utterances and of k-means.
    """

    @torch.no_grad()
    def features(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        return teacher.interpolate(teacher(resample(waveform[None], rate, teacher.sample_rate)), centres)[0]

    pieces = list(training_labels(features, aligned, train, f"{name}: fitting", seed))
    centroids = fit_kmeans(torch.cat(pieces).numpy(), clusters, seed)
    return lambda *frame: assign_clusters(features(*frame), centroids)[None]


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
