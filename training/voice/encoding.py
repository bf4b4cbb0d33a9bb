"""Codes of the utterances at several speeds, made once and kept on the disk, piece by piece."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechtok import Tokenizer
from speechtok.files import make_folder, replacing
from training.dataset import Corpus

_PIECE = 250
"""Utterances of a file."""
_BATCH = 16
"""Utterances that are encoded together."""
_STATISTICS = 100_000
"""Frames from which mean and deviation of the latents are computed."""


@dataclass(frozen=True)
class EncodedVoices:
    """Utterances, each at some speed.

    Attributes:
        codes: of all, one after the other, int16 ``(Q, T)``.
        offsets: first frame of each, and the end of the last one.
        utterances: index of the utterance in the corpus.
        speeds: index of its speed.
    """

    codes: np.ndarray
    offsets: np.ndarray
    utterances: np.ndarray
    speeds: np.ndarray

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> np.ndarray:
        """Codes of an utterance, int16 ``(Q, T)``."""
        return self.codes[:, self.offsets[index] : self.offsets[index + 1]]

    def some_frames(self) -> np.ndarray:
        """Codes of frames from everywhere, int64 ``(Q, T)``, enough for statistics."""
        return self.codes[:, :: max(1, self.codes.shape[1] // _STATISTICS)].astype(np.int64)


def encode_voices(
    tokenizer: Tokenizer, corpus: Corpus, speeds: Sequence[float], directory: Path, name: str
) -> EncodedVoices:
    """Encode a corpus at each speed, or read what was encoded before.

    A recording that is played faster has a higher voice, of a shorter speaker: new voices at the price of encoding.

    Args:
        tokenizer: encodes.
        corpus: utterances at the sample rate of the tokenizer.
        speeds: factors of the speed.
        directory: folder of the files.
        name: title of the progress bar.

    Raises:
        OutputError: a file cannot be written.
    """
    identity = [len(corpus), corpus.size, *corpus.samples[:: max(1, corpus.size // 64)].tolist()]
    make_folder(directory)
    codes: list[np.ndarray] = []
    lengths: list[int] = []
    utterances: list[int] = []
    numbers: list[int] = []
    pieces = [(s, first) for s in range(len(speeds)) for first in range(0, len(corpus), _PIECE)]
    for speed, first in tqdm(pieces, desc=name, unit="piece", disable=len(pieces) < 4):
        key = hashlib.sha256(json.dumps([tokenizer.fingerprint, identity, speeds[speed]]).encode()).hexdigest()[:16]
        path = directory / f"{key}-{first:06}.npz"
        indices = range(first, min(first + _PIECE, len(corpus)))
        if not path.exists():
            with replacing(path) as file:
                np.savez(file, **_encode(tokenizer, corpus, indices, speeds[speed]))
        with np.load(path) as piece:
            codes.append(piece["codes"])
            lengths += piece["lengths"].tolist()
        utterances += indices
        numbers += [speed] * len(indices)
    return EncodedVoices(
        np.concatenate(codes, axis=1), np.cumsum([0, *lengths]), np.array(utterances), np.array(numbers)
    )


def _encode(tokenizer: Tokenizer, corpus: Corpus, indices: range, speed: float) -> dict[str, np.ndarray]:
    waveforms = [_at_speed(corpus[index], speed) for index in indices]
    order = sorted(range(len(waveforms)), key=lambda i: len(waveforms[i]))  # little padding
    codes: list[np.ndarray] = [np.empty(0)] * len(waveforms)
    for first in range(0, len(order), _BATCH):
        batch = [waveforms[i] for i in order[first : first + _BATCH]]
        rows = nn.utils.rnn.pad_sequence(batch, batch_first=True)
        tokens = tokenizer.encode(rows, tokenizer.sample_rate, [len(waveform) for waveform in batch])
        frames = tokens.lengths.tolist()
        for i, row, count in zip(order[first:], tokens.codes.to(torch.int16).numpy(), frames, strict=False):
            codes[i] = row[:, :count]
    return {"codes": np.concatenate(codes, axis=1), "lengths": np.array([c.shape[1] for c in codes])}


def _at_speed(waveform: Tensor, speed: float) -> Tensor:
    if speed == 1:
        return waveform
    return torch.from_numpy(soxr.resample(waveform.numpy(), round(48_000 * speed), 48_000, quality="HQ"))
