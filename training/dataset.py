"""Training audio: utterances decoded once into one memory-mapped file, and crops drawn from seed and step alone."""

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

from speechtok.audio import read_audio
from speechtok.errors import AudioError, MissingFileError
from speechtok.files import make_folder, replacing
from speechtok.resampling import resample

Made = TypeVar("Made")


@dataclass(frozen=True)
class Crop:
    """A part of an utterance.

    Attributes:
        utterance: index of the utterance in the corpus.
        start: first sample, counted from the start of the utterance.
        samples: samples taken from the utterance. If :meth:`Corpus.read` is asked for another number of samples, the
            crop is sped up or slowed down.
        gain: factor on the waveform.
    """

    utterance: int
    start: int
    samples: int
    gain: float


@dataclass(frozen=True)
class Corpus:
    """Utterances in one memory-mapped file.

    Attributes:
        samples: int16 samples of all utterances, one after the other.
        offsets: index of the first sample of each utterance, and the end of the last one.
        skipped: files that could not be read.
    """

    samples: np.ndarray
    offsets: np.ndarray
    skipped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        """The waveform of an utterance, float32 ``(S,)``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        pcm = self.samples[self.offsets[index] : self.offsets[index + 1]]
        return torch.from_numpy(pcm.astype(np.float32) / 32_768)

    @property
    def size(self) -> int:
        """Number of samples of all utterances."""
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
        """Draw the crops of a batch. They depend on the arguments alone.

        Utterances are drawn in proportion to their length, so that every second of audio is equally likely.

        Args:
            seed: seed of the training.
            step: number of the step.
            batch_size: crops in the batch.
            samples: samples that :meth:`read` will be asked for.
            gain_db: lowest and highest gain, in dB.
            speed: largest factor of speeding up or slowing down; the pitch follows (Ko et al. 2015, Audio augmentation
                for speech recognition).
            rows: rows of the batch to return.
        """
        rng = np.random.default_rng((seed, step))
        speeds = speed ** np.random.default_rng((seed, step, 3)).uniform(-1, 1, batch_size)
        places = np.searchsorted(self.offsets, rng.integers(0, self.size, batch_size), side="right") - 1
        crops = []
        # all rows are drawn, so that a row does not depend on which rows are returned
        for index, faster in zip(places, speeds, strict=True):
            length = self.offsets[index + 1] - self.offsets[index]
            taken = max(1, round(samples * faster))
            start = rng.integers(0, max(1, length - taken + 1))
            crops.append(Crop(int(index), int(start), taken, 10 ** (rng.uniform(*gain_db) / 20)))
        return crops[rows]

    def read(self, crops: Sequence[Crop], samples: int) -> Tensor:
        """Read crops as float32 ``(B, samples)``, within [-1, 1], padded with silence at the end of an utterance."""
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
    """Decode audio files into one file of ``directory``, or reuse that file if the same audio was packed before.

    Files that cannot be read are left out, and listed in :attr:`Corpus.skipped`.

    Args:
        files: audio files.
        sample_rate: sample rate of the corpus, in hertz.
        directory: folder of the packed file.
        workers: threads that decode; one per processor if not given.

    Raises:
        AudioError: no file can be read.
        OutputError: the packed file cannot be written.
    """
    listing = "\n".join(f"{p}\t{_file_size(p)}" for p in files)
    key = hashlib.sha256(f"{sample_rate}\n{listing}".encode()).hexdigest()[:16]
    audio_path, index_path = directory / f"{key}.int16", directory / f"{key}.json"
    if not index_path.exists():
        make_folder(directory)
        ends, skipped = [0], []
        with replacing(audio_path) as out:
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
            raise AudioError(f"none of {len(files)} files can be read, such as {files[0]}; expected audio")
        with replacing(index_path) as file:
            file.write(json.dumps({"offsets": ends, "skipped": skipped}).encode())
    index = json.loads(index_path.read_text())
    offsets = np.asarray(index["offsets"], np.int64)
    samples = np.memmap(audio_path, np.int16, mode="r", shape=(int(offsets[-1]),))
    return Corpus(samples, offsets, tuple(index["skipped"]))


def in_threads(function: Callable[[Path], Made], files: Sequence[Path], workers: int) -> Iterator[Made]:
    """Apply ``function`` to each file in threads and yield the results in order.

    At most two files per thread are read ahead, since a recording may be hours long.
    """
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
