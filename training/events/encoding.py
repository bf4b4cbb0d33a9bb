"""Codes and labels of the scenes, made once and kept on the disk, block by block, so that a killed run goes on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from speechtok import Tokenizer
from speechtok.files import make_folder, replacing
from training.events.scenes import Labels

_BLOCK = 50
"""Scenes of a file."""
_BATCH = 10
"""Scenes that are encoded together."""

Scene = tuple[np.ndarray, Labels]


@dataclass(frozen=True)
class EncodedScenes:
    """Scenes of equal length.

    Attributes:
        codes: int16 ``(N, Q, T)``.
        labels: int8 ``(N, 3, T)``: speech, end of turn, overlap.
    """

    codes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)


def encode_scenes(
    tokenizer: Tokenizer, sample: Callable[[int], Scene], count: int, description: Any, directory: Path, name: str
) -> EncodedScenes:
    """Encode scenes 0 to ``count - 1``, or read those that were encoded before.

    Args:
        tokenizer: encodes them.
        sample: makes a scene from its number.
        count: number of scenes.
        description: plain values that decide what the scenes are.
        directory: folder of the files.
        name: title of the progress bar.

    Raises:
        OutputError: a file cannot be written.
    """
    text = json.dumps([tokenizer.fingerprint, description], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    make_folder(directory)
    codes, labels = [], []
    for first in tqdm(range(0, count, _BLOCK), desc=name, unit="block", disable=count <= _BLOCK):
        path = directory / f"{key}-{first:06}.npz"
        if not path.exists():
            numbers = range(first, first + _BLOCK)
            with replacing(path) as file:
                np.savez(file, **_encode(tokenizer, sample, numbers))
        with np.load(path) as block:
            codes.append(block["codes"])
            labels.append(block["labels"])
    return EncodedScenes(np.concatenate(codes)[:count], np.concatenate(labels)[:count])


def _encode(tokenizer: Tokenizer, sample: Callable[[int], Scene], numbers: range) -> dict[str, np.ndarray]:
    codes, labels = [], []
    for first in range(0, len(numbers), _BATCH):
        scenes = [sample(number) for number in numbers[first : first + _BATCH]]
        waveform = torch.from_numpy(np.stack([waveform for waveform, _ in scenes]))
        codes.append(tokenizer.encode(waveform, tokenizer.sample_rate).codes.to(torch.int16).numpy())
        labels += [np.stack(found) for _, found in scenes]
    return {"codes": np.concatenate(codes), "labels": np.stack(labels)}
