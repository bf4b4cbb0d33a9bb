"""Codes and prosody of the utterances at several speeds, made once and kept on the disk, piece by piece."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechtok import Tokenizer
from speechtok.files import make_folder, replacing
from speechtok.voice.prosody import Prosody
from speechtok.voice.style import QUANTITIES, measured_values
from training.dataset import Corpus

_PIECE = 250
"""Utterances of a file."""
_BATCH = 16
"""Utterances that are encoded together."""
_STATISTICS = 100_000
"""Frames from which mean and deviation of the latents are computed."""
_CROSSOVERS = {"energy": 1_000.0, "brightness": 3_000.0}
"""Above which frequency, in hertz, a change of the balance raises or lowers everything."""
_CHANGED = tuple(QUANTITIES.index(name) for name in _CROSSOVERS)
_SLOPE = 0.5
"""Octaves about a crossover within which most of a change happens."""


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
        changed: index of the quantity of the style that was changed, -1 for none.
    """

    codes: np.ndarray
    offsets: np.ndarray
    pitch: np.ndarray
    prosody: np.ndarray
    utterances: np.ndarray
    speeds: np.ndarray
    changed: np.ndarray

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> np.ndarray:
        """Codes of an utterance, int16 ``(Q, T)``."""
        return self.codes[:, self.offsets[index] : self.offsets[index + 1]]

    def some_frames(self) -> np.ndarray:
        """Codes of frames from everywhere, int64 ``(Q, T)``, enough for statistics."""
        return self.codes[:, :: max(1, self.codes.shape[1] // _STATISTICS)].astype(np.int64)


class _Version(NamedTuple):
    """How utterances are heard.

    Attributes:
        speed: index of the speed.
        factor: of the speed.
        balance: highest change of the balance, in decibels; 0 for none.
    """

    speed: int
    factor: float
    balance: float = 0.0

    @property
    def identity(self) -> float | list[float]:
        """What the codes depend on."""
        return [self.factor, self.balance] if self.balance else self.factor


def encode_voices(
    tokenizer: Tokenizer, corpus: Corpus, speeds: Sequence[float], balance: float, directory: Path, name: str
) -> EncodedVoices:
    """Encode a corpus at each speed, and once more with another balance, or read what was encoded before.

    A recording that is played faster has a higher voice, of a shorter speaker: new voices at the price of encoding.
    One whose balance is changed has another energy or brightness, one of them in turn, and is otherwise the same.

    Args:
        tokenizer: encodes.
        corpus: utterances at the sample rate of the tokenizer.
        speeds: factors of the speed.
        balance: by how many decibels energy or brightness are changed at most; 0 leaves this version out.
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
    changed: list[int] = []
    versions = [_Version(number, speed) for number, speed in enumerate(speeds)]
    if balance:
        versions.append(_Version(0, speeds[0], balance))
    pieces = [(version, first) for version in versions for first in range(0, len(corpus), _PIECE)]
    for version, first in tqdm(pieces, desc=name, unit="piece", disable=len(pieces) < 4):
        key = hashlib.sha256(json.dumps([tokenizer.fingerprint, identity, version.identity]).encode()).hexdigest()[:16]
        path = directory / f"{key}-{first:06}.npz"
        indices = range(first, min(first + _PIECE, len(corpus)))
        if not path.exists():
            with replacing(path) as file:
                np.savez(file, **_encode(tokenizer, corpus, indices, version))
        with np.load(path) as piece:
            for name, arrays in parts.items():
                arrays.append(piece[name])
        utterances += indices
        numbers += [version.speed] * len(indices)
        changed += [_CHANGED[index % 2] if version.balance else -1 for index in indices]
    codes = np.concatenate(parts.pop("codes"), axis=1)
    lengths, pitch, prosody = (np.concatenate(arrays) for arrays in parts.values())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return EncodedVoices(codes, offsets, pitch, prosody, np.array(utterances), np.array(numbers), np.array(changed))


def _encode(tokenizer: Tokenizer, corpus: Corpus, indices: range, version: _Version) -> dict[str, np.ndarray]:
    waveforms = [_change(corpus[index], index, version, tokenizer.sample_rate) for index in indices]
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


def _change(waveform: Tensor, index: int, version: _Version, sample_rate: int) -> Tensor:
    """An utterance of the corpus as the version has it."""
    samples = waveform.numpy()
    if version.factor != 1:
        samples = soxr.resample(samples, round(48_000 * version.factor), 48_000, quality="HQ")
    if version.balance:
        decibels = float(np.random.default_rng(index).uniform(-version.balance, version.balance))
        samples = _rebalance(samples, sample_rate, list(_CROSSOVERS.values())[index % 2], decibels)
    return torch.from_numpy(samples)


def _rebalance(samples: np.ndarray, sample_rate: int, crossover: float, decibels: float) -> np.ndarray:
    """Raise everything above a frequency. The power stays."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / sample_rate)
    with np.errstate(divide="ignore"):
        share = 1 / (1 + np.exp2(np.log2(crossover / frequencies) * (2 / _SLOPE)))
    result = np.fft.irfft(np.fft.rfft(samples) * 10 ** (share * decibels / 20), len(samples))
    power = np.square(result).mean()
    factor = math.sqrt(np.square(samples, dtype=np.float64).mean() / power) if power else 1.0
    return np.clip(result * factor, -1, 1).astype(np.float32)
