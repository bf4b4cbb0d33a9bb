"""Training audio: utterances of a manifest or a folder, packed once, and crops that only seed and step decide."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from speechtok.audio import AUDIO_SUFFIXES, read_audio, resample
from speechtok.errors import AudioError, MissingFileError
from speechtok.files import replacing

Made = TypeVar("Made")

HOLD_OUT_EVERY = 50


def find_utterances(data: str) -> tuple[list[Path], list[Path]]:
    """Audio files to train on and to validate on.

    Args:
        data: a manifest (JSON lines with ``audio``, a path below the manifest's folder), a folder with ``train.jsonl``
            and perhaps ``dev.jsonl``, or any folder of audio.

    Raises:
        MissingFileError: ``data`` does not exist.
        AudioError: it lists no audio.
    """
    path = Path(data)
    if not path.exists():
        raise MissingFileError(f"data is {data!r}, which does not exist; pass data=DIR or data=MANIFEST.jsonl")
    dev: list[Path] = []
    if path.is_file():
        train = _read_manifest(path)
    elif (path / "train.jsonl").is_file():
        train = _read_manifest(path / "train.jsonl")
        dev = _read_manifest(path / "dev.jsonl") if (path / "dev.jsonl").is_file() else []
    else:
        found = (p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
        # hidden files, which other systems leave beside every file, are no audio
        train = sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts))
    if not dev:
        dev, train = train[::HOLD_OUT_EVERY], [p for i, p in enumerate(train) if i % HOLD_OUT_EVERY] or train
    if not train:
        raise AudioError(
            f"data is {data!r}, which lists no audio; expected files ending in {', '.join(AUDIO_SUFFIXES)}"
        )
    return train, dev


def manifest_lines(path: Path) -> list[str]:
    """Lines of a manifest.

    Raises:
        AudioError: it is no text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise AudioError(
            f"{path} is no text in UTF-8 ({error}); expected a manifest of JSON lines, or a folder"
        ) from error


def _read_manifest(path: Path) -> list[Path]:
    files = []
    for number, line in enumerate(manifest_lines(path), 1):
        if line.strip():
            try:
                files.append(path.parent / json.loads(line)["audio"])
            except (ValueError, KeyError, TypeError) as error:
                raise AudioError(
                    f"{path}, line {number} is {line[:80]!r}; expected JSON with an 'audio' path"
                ) from error
    return files


@dataclass(frozen=True)
class Crop:
    """A stretch of an utterance.

    Attributes:
        utterance: its number in the corpus.
        start: first sample, counted from the utterance's own first.
        samples: of the utterance that it takes; as many as are read, or more or fewer, which are then played faster or
            slower.
        gain: factor of loudness.
    """

    utterance: int
    start: int
    samples: int
    gain: float


@dataclass(frozen=True)
class Corpus:
    """Utterances end to end in one memory-mapped file.

    Attributes:
        samples: int16, all utterances.
        offsets: where each utterance begins, and the end of the last.
        skipped: files that could not be read.
    """

    samples: np.ndarray
    offsets: np.ndarray
    skipped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        """One utterance, float32 ``(S,)``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        pcm = self.samples[self.offsets[index] : self.offsets[index + 1]]
        return torch.from_numpy(pcm.astype(np.float32) / 32_768)

    @property
    def size(self) -> int:
        """Samples of all utterances."""
        return int(self.offsets[-1])

    def draw(
        self,
        seed: int,
        step: int,
        batch_size: int,
        samples: int,
        gain_db: tuple[float, float],
        speed: float,
        rows: slice = slice(None),
    ) -> list[Crop]:
        """The batch of step ``step``, or ``rows`` of it, for crops of ``samples``: a function of the arguments alone.

        Utterances are drawn by their length, so every second of audio is as likely. Each is played up to ``speed``
        times as fast or as slow, and so higher or lower (Ko et al. 2015, Audio augmentation for speech recognition).
        """
        rng = np.random.default_rng((seed, step))
        speeds = speed ** np.random.default_rng((seed, step, 3)).uniform(-1, 1, batch_size)
        places = np.searchsorted(self.offsets, rng.integers(0, self.size, batch_size), side="right") - 1
        crops = []
        # every row is drawn, so that a row does not depend on which others are wanted
        for index, faster in zip(places, speeds, strict=True):
            length = self.offsets[index + 1] - self.offsets[index]
            taken = max(1, round(samples * faster))
            start = rng.integers(0, max(1, length - taken + 1))
            crops.append(Crop(int(index), int(start), taken, 10 ** (rng.uniform(*gain_db) / 20)))
        return crops[rows]

    def read(self, crops: Sequence[Crop], samples: int) -> Tensor:
        """The audio of crops, float32 ``(B, samples)``: within full scale, and silent past the end of an utterance."""
        batch = np.zeros((len(crops), samples), np.float32)
        for row, crop in zip(batch, crops, strict=True):
            start = self.offsets[crop.utterance] + crop.start
            piece = self.samples[start : min(start + crop.samples, self.offsets[crop.utterance + 1])]
            piece = piece.astype(np.float32) / 32_768
            if crop.samples != samples:
                piece = soxr.resample(piece, crop.samples, samples, quality="MQ")[:samples]
            row[: len(piece)] = piece * min(crop.gain, 1 / max(float(np.abs(piece).max()), 1e-4))
        return torch.from_numpy(batch)


def pack(files: list[Path], sample_rate: int, directory: Path, workers: int | None = None) -> Corpus:
    """Decode ``files`` once into ``directory``, or find them there from before.

    Unreadable files are left out and named in :attr:`Corpus.skipped`.

    Raises:
        AudioError: no file could be read.
    """
    listing = "\n".join(f"{p}\t{_file_size(p)}" for p in files)
    key = hashlib.sha256(f"{sample_rate}\n{listing}".encode()).hexdigest()[:16]
    audio_path, index_path = directory / f"{key}.int16", directory / f"{key}.json"
    if not index_path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        ends, skipped = [0], []
        with replacing(audio_path) as temporary, open(temporary, "wb") as out:
            read = in_threads(lambda file: _read_pcm(file, sample_rate), files, workers or os.cpu_count() or 1)
            bar = tqdm(files, desc="packing", unit="file", disable=len(files) < 256)
            for file, pcm in zip(bar, read, strict=True):
                if pcm is None:
                    skipped.append(str(file))
                    continue
                out.write(pcm.tobytes())
                ends.append(ends[-1] + len(pcm))
        if len(ends) == 1:
            audio_path.unlink()
            raise AudioError(f"none of {len(files)} files could be read, such as {files[0]}; expected audio")
        with replacing(index_path) as temporary:
            temporary.write_text(json.dumps({"offsets": ends, "skipped": skipped}))
    index = json.loads(index_path.read_text())
    offsets = np.asarray(index["offsets"], np.int64)
    samples = np.memmap(audio_path, np.int16, mode="r", shape=(int(offsets[-1]),))
    return Corpus(samples, offsets, tuple(index["skipped"]))


def in_threads(function: Callable[[Path], Made], files: Sequence[Path], workers: int) -> Iterator[Made]:
    """What ``function`` makes of each file, in order, by threads that are never far ahead: recordings may be hours."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Made]] = deque()
        for file in files:
            waiting.append(pool.submit(function, file))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _read_pcm(path: Path, sample_rate: int) -> np.ndarray | None:
    try:
        waveform, rate = read_audio(path)
    except (AudioError, MissingFileError):
        return None
    waveform = resample(waveform[None], rate, sample_rate)[0]
    return (waveform.numpy() * 32_767).round().astype("<i2")
