"""The utterances that trainings and benchmarks read: manifests, and folders of audio."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechtok.audio import AUDIO_SUFFIXES, find_audio
from speechtok.errors import AudioError, MissingFileError
from speechtok.manifest import SILENCE as SILENCE
from speechtok.manifest import Phone as Phone
from speechtok.manifest import Utterance as Utterance
from speechtok.manifest import read_manifest as read_manifest
from speechtok.media.folders import describe_left_out

HOLD_OUT_EVERY = 50
"""Without a dev manifest, every 50th utterance is held out for validation."""


def find_utterances(data: str | os.PathLike[str]) -> tuple[list[Utterance], list[Utterance]]:
    """Find the utterances to train on and the utterances to validate on.

    Without a dev manifest, every :data:`HOLD_OUT_EVERY`-th utterance is held out for validation.

    Args:
        data: a manifest, a folder with ``train.jsonl`` and optionally ``dev.jsonl``, or any folder of audio files
            (searched recursively, hidden files excluded, sorted by path).

    Raises:
        MissingFileError: ``data`` does not exist.
        AudioError: a manifest cannot be read, or there is no audio.
    """
    path = Path(data)
    name = repr(str(path))
    if "\0" in str(path) or not os.path.exists(path):
        raise MissingFileError(f"data is {name}, which does not exist; pass data=DIR or data=MANIFEST.jsonl")
    dev: list[Utterance] = []
    if path.is_file():
        train = read_manifest(path)
    elif (path / "train.jsonl").is_file():
        train = read_manifest(path / "train.jsonl")
        dev = read_manifest(path / "dev.jsonl") if (path / "dev.jsonl").is_file() else []
    else:
        files, left_out = find_audio(path)
        if files and left_out:
            print(describe_left_out(left_out), file=sys.stderr)
        train = [Utterance(file, file.relative_to(path).as_posix()) for file in files]
    if not dev:
        dev, train = train[::HOLD_OUT_EVERY], [u for i, u in enumerate(train) if i % HOLD_OUT_EVERY] or train
    if not train:
        raise AudioError(f"data is {name}, which lists no audio; expected files ending in {', '.join(AUDIO_SUFFIXES)}")
    return train, dev


def phones_at(phones: Sequence[Phone] | None, times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Phone at each time.

    Args:
        phones: forced alignment, in any order; may be ``None``.
        times: in seconds, ``(T,)``.
        names: known phones.

    Returns:
        Indices into ``names``, int64 ``(T,)``; -1 outside all phones and for unknown phones.
    """
    if not phones:
        return np.full(len(times), -1)
    ordered = sorted(phones, key=lambda phone: phone.start)
    starts = np.array([phone.start for phone in ordered])
    ends = np.array([phone.end for phone in ordered])
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index.get(phone.name, -1) for phone in ordered])
    row = np.searchsorted(starts, times, side="right") - 1
    inside = (row >= 0) & (times < ends[row.clip(0)])
    return np.where(inside, labels[row.clip(0)], -1)
