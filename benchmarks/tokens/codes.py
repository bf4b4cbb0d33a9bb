"""Codes of many utterances, kept on disk, so that an interrupted run continues where it stopped."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import speechtok
from benchmarks.codecs.interface import Codec, encode
from benchmarks.evaluation.conditions import CLEAN, apply_condition
from speechtok.errors import InputError, SpeechtokError
from speechtok.files import replacing
from speechtok.resampling import resample
from training.manifest import Utterance


@dataclass(frozen=True)
class Coded:
    """Codes of some utterances.

    Attributes:
        grids: codes of each utterance, ``(Q, T)``.
        seconds: total duration.
        failures: error messages by id; these utterances have no grid.
    """

    grids: list[np.ndarray]
    seconds: float
    failures: dict[str, str]


def encode_all(
    codec: Codec, utterances: Sequence[Utterance], name: str, folder: Path | None, condition: str = CLEAN
) -> Coded:
    """Encode utterances.

    Args:
        codec: a codec with codebooks.
        utterances: what to encode. Those that fail are left out.
        name: for the progress bar.
        folder: where codes are kept; ``None`` to keep nothing.
        condition: what is done to every utterance first.

    Raises:
        InputError: all utterances failed.
    """
    path = None if folder is None else folder / f"{_key(codec, utterances, condition)}.npz"
    if path is not None and path.is_file():
        return _read(path)
    grids, failures, seconds = [], {}, 0.0
    for utterance in tqdm(utterances, desc=f"{name}, {condition}", unit="file"):
        try:
            waveform, rate = speechtok.read_audio(utterance.audio)
            waveform, rate = apply_condition(condition, waveform, rate, utterance.id)
            with torch.inference_mode():
                grids.append(encode(codec, resample(waveform[None], rate, codec.sample_rate)[0]))
        except (SpeechtokError, OSError, RuntimeError) as error:
            failures[utterance.id] = str(error)
            continue
        seconds += len(waveform) / rate
    if not grids:
        reason = next(iter(failures.values()), "there are none")
        raise InputError(f"none of {len(utterances)} utterances could be encoded: {reason}")
    coded = Coded(grids, seconds, failures)
    if path is not None:
        _write(path, coded)
    return coded


def _key(codec: Codec, utterances: Sequence[Utterance], condition: str) -> str:
    facts: list[object] = [codec.identity, condition]
    for utterance in utterances:
        status = utterance.audio.stat() if utterance.audio.is_file() else None
        facts.append([utterance.id, str(utterance.audio), status and [status.st_size, status.st_mtime_ns]])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _write(path: Path, coded: Coded) -> None:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        codes=np.concatenate(coded.grids, 1).astype(np.int32),
        lengths=np.array([grid.shape[1] for grid in coded.grids]),
        seconds=coded.seconds,
        failures=np.array(json.dumps(coded.failures)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content.getvalue())


def _read(path: Path) -> Coded:
    with np.load(path, allow_pickle=False) as found:
        edges = np.cumsum(found["lengths"])[:-1]
        grids = np.split(found["codes"], edges, axis=1)
        return Coded(grids, float(found["seconds"]), json.loads(str(found["failures"])))
