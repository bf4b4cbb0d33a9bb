"""Augmented crops: batches with random speed, noise and masks."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.augmentation import coloured_noise
from training.dataset import Corpus
from training.teachers.pretrain.config import IterationConfig, PretrainingConfig
from training.teachers.pretrain.frame_labels import FrameLabels


class Batch(NamedTuple):
    """Input and targets of a step.

    Attributes:
        waveform: float32 ``(B, S)``.
        valid: bool ``(B, T)``, false in padding.
        masked: bool ``(B, T)``, true where a frame is masked.
        bands: float32 ``(B, bands)``, 0 where a mel band is masked and 1 elsewhere.
        clusters: int64 ``(B, T)``, -1 without a label.
        phones: int64 ``(B, T)``, -1 without a label.
    """

    waveform: Tensor
    valid: Tensor
    masked: Tensor
    bands: Tensor
    clusters: Tensor
    phones: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Copy to ``device``."""
        return Batch(*(tensor.to(device) for tensor in self))


class CropSampler:
    """Samples batches of augmented crops. A batch depends on the seed and the step alone.

    Utterances are drawn by duration, so every second of audio is equally likely, except for ``phone_share``.

    Args:
        config: durations and augmentation.
        corpus: the audio.
        clusters: targets of masked prediction.
        phones: targets of the phone classifier.
        iteration: has the probability of masks, and the share of crops with phones.
        seed: seed of the sampler, combined with the step.
    """

    def __init__(
        self,
        config: PretrainingConfig,
        corpus: Corpus,
        clusters: FrameLabels,
        phones: FrameLabels,
        iteration: IterationConfig,
        seed: tuple[int, int],
    ) -> None:
        self.config, self.corpus, self.clusters, self.phones, self.seed = config, corpus, clusters, phones, seed
        self.mask_start = iteration.mask_start
        weights = np.diff(corpus.offsets).astype(np.float64)
        if iteration.phone_weight:
            labelled = phones.labelled_utterances
            if labelled.any() and not labelled.all():
                weights[labelled] *= iteration.phone_share / weights[labelled].sum()
                weights[~labelled] *= (1 - iteration.phone_share) / weights[~labelled].sum()
        self.cumulative = np.cumsum(weights) / weights.sum()

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        c = self.config
        hop, frames, rows = c.model.hop_length, c.crop_frames, c.batch_size
        samples = frames * hop
        rng = np.random.default_rng((*self.seed, step))
        waveform = np.zeros((rows, samples), np.float32)
        valid, masked = np.zeros((rows, frames), bool), np.zeros((rows, frames), bool)
        bands = np.ones((rows, c.model.bands), np.float32)
        clusters, phones = np.full((rows, frames), -1), np.full((rows, frames), -1)
        for row in range(rows):
            index = min(int(np.searchsorted(self.cumulative, rng.random(), side="right")), len(self.corpus) - 1)
            first, end = self.corpus.offsets[index], self.corpus.offsets[index + 1]
            speed = rng.uniform(c.speed_low, c.speed_high)
            start = int(rng.integers(0, max(1, end - first - int(samples * speed) + 1)))
            piece = self.corpus.samples[first + start : min(first + start + int(samples * speed) + 2, end)]
            length = min(samples, int(len(piece) / speed))
            positions = np.arange(length) * speed
            speech = np.interp(positions, np.arange(len(piece)), piece / np.float32(32_768)).astype(np.float32)
            rms = float(np.sqrt(np.mean(speech**2) + 1e-9))
            level = 10 ** (rng.uniform(c.noise_low_db, c.noise_high_db) / 20) * rms
            waveform[row, :length] = speech + level * coloured_noise(rng, length)
            centres = np.arange(frames) * hop + hop // 2
            valid[row] = centres < length
            valid[row, 0] = True
            source = start + centres * speed
            clusters[row] = np.where(valid[row], self.clusters.at(index, source), -1)
            phones[row] = np.where(valid[row], self.phones.at(index, source), -1)
            for begin in np.flatnonzero(rng.random(frames) < self.mask_start):
                masked[row, begin : begin + c.mask_length] = True
            for _ in range(c.band_masks):
                width = int(rng.integers(0, c.band_mask_width + 1))
                low = int(rng.integers(0, c.model.bands - width + 1))
                bands[row, low : low + width] = 0
        arrays = (waveform, valid, masked & valid, bands, clusters, phones)
        return Batch(*(torch.from_numpy(array) for array in arrays))
