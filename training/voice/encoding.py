"""Codes and prosody of the utterances at several speeds, made once and kept on the disk, piece by piece."""

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
from speechtok.voice.prosody import Prosody
from speechtok.voice.style import measured_values
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
        pitch: of all frames in hertz, 0 where there is no voice, float16 ``(T,)``.
        prosody: what a style measures of each, NaN where it cannot, float32 ``(N, 4)``.
        utterances: index of the utterance in the corpus.
        speeds: index of its speed.
    """

    codes: np.ndarray
    offsets: np.ndarray
    pitch: np.ndarray
    prosody: np.ndarray
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
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("codes", "lengths", "pitch", "prosody")}
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
            for name, arrays in parts.items():
                arrays.append(piece[name])
        utterances += indices
        numbers += [speed] * len(indices)
    codes = np.concatenate(parts.pop("codes"), axis=1)
    lengths, pitch, prosody = (np.concatenate(arrays) for arrays in parts.values())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return EncodedVoices(codes, offsets, pitch, prosody, np.array(utterances), np.array(numbers))


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
    measured = [Prosody.of(waveform, tokenizer.sample_rate, tokenizer) for waveform in waveforms]
    return {
        "codes": np.concatenate(codes, axis=1),
        "lengths": np.array([c.shape[1] for c in codes]),
        "pitch": np.concatenate([prosody.pitch.numpy().astype(np.float16) for prosody in measured]),
        "prosody": np.array([list(measured_values(prosody).values()) for prosody in measured], np.float32),
    }


def _at_speed(waveform: Tensor, speed: float) -> Tensor:
    if speed == 1:
        return waveform
    return torch.from_numpy(soxr.resample(waveform.numpy(), round(48_000 * speed), 48_000, quality="HQ"))
