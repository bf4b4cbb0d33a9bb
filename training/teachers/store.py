"""Features of a corpus on disk.

A store is a folder with ``features.json``, which describes the teacher, and numbered shards. A shard is ``NUMBER.npy``,
the features of some utterances end to end, float16 ``(T, D)``, and ``NUMBER.json``, its index::

    {"utterances": {"a.flac": {"first": 0, "frames": 103, "samples": 33012, "bytes": 40988}}, "skipped": ["b.flac"]}

``first`` and ``frames`` are rows of the array, ``samples`` counts samples at the teacher's sample rate, and ``bytes``
is the size of the audio file when it was read. Names are paths relative to the folder of the manifest, or absolute
paths. The index is written last, so a shard with an index is complete. If several shards have the same utterance, the
last one counts.
"""

import dataclasses
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import CheckpointError, MissingFileError
from speechtok.files import replacing
from training.dataset import Corpus
from training.teachers.frames import frame_centres, interpolate
from training.teachers.teacher import Layer

DESCRIPTION_NAME = "features.json"

MAX_OPEN_SHARDS = 200
"""Memory-mapped shards of a store that are open at the same time; operating systems limit open files."""

EXTRACT_AGAIN = "extract the features again with python -m training.teachers"


@dataclass(frozen=True)
class StoreDescription:
    """Content of ``features.json``.

    Attributes:
        teacher: spec of the teacher.
        layer: layer of the features.
        sample_rate: sample rate of the teacher, in hertz.
        dim: width ``D``.
        frame_rate: in hertz.
        offset: centre of the first frame, in seconds.
        phones: names of the columns, if the features are phone logits.
        aligned: share of the manifest's phones in the probabilities; see :func:`training.teachers.extraction.extract`.
        weights: hash of the teacher's weights; empty in stores of early versions.
    """

    teacher: str
    layer: Layer
    sample_rate: int
    dim: int
    frame_rate: float
    offset: float
    phones: list[str]
    aligned: float = 0.0
    weights: str = ""


class Entry(TypedDict, total=False):
    """An utterance in the index of a shard; ``bytes`` is missing in stores of early versions."""

    first: int
    frames: int
    samples: int
    bytes: int


class ShardIndex(TypedDict):
    """Content of ``NUMBER.json``: utterances by name, and names of files that could not be read."""

    utterances: dict[str, Entry]
    skipped: list[str]


def read_description(directory: Path) -> StoreDescription:
    """Read ``features.json``.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = directory / DESCRIPTION_NAME
    try:
        return StoreDescription(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete the folder and extract again") from error


def write_description(directory: Path, description: StoreDescription) -> None:
    """Write ``features.json``."""
    with replacing(directory / DESCRIPTION_NAME) as file:
        file.write((json.dumps(dataclasses.asdict(description), indent=2) + "\n").encode())


def describe(directory: Path, description: StoreDescription, known_weights: Container[str] = ()) -> None:
    """Write the description of a store, or check that it has the one that is there.

    Args:
        directory: folder of the store.
        description: of the features that are about to be written.
        known_weights: other hashes of the same weights.

    Raises:
        CheckpointError: the store has other features.
    """
    if not (directory / DESCRIPTION_NAME).exists():
        write_description(directory, description)
        return
    found = read_description(directory)
    if found.weights in known_weights:
        found = dataclasses.replace(found, weights=description.weights)
    for field in dataclasses.fields(StoreDescription):
        old, new = getattr(found, field.name), getattr(description, field.name)
        if old != new:
            which = "of a teacher with other weights" if field.name == "weights" else f"with {field.name} {old!r}"
            raise CheckpointError(
                f"{directory} has features {which}, and {description.teacher} has {field.name} {new!r}; choose another "
                "folder, or delete this one"
            )


def read_shards(directory: Path) -> Iterator[tuple[Path, ShardIndex]]:
    """Paths of the feature arrays of the complete shards, and their indices, in order."""
    for path in sorted(directory.glob("[0-9]*.json")):
        yield path.with_suffix(".npy"), json.loads(path.read_text())


def write_shard(
    directory: Path, number: int, features: np.ndarray, utterances: Mapping[str, Entry], skipped: Sequence[str]
) -> None:
    """Write a shard: features, float16 ``(T, D)``, then the index."""
    with replacing(directory / f"{number:06d}.npy") as file:
        np.save(file, features)
    with replacing(directory / f"{number:06d}.json") as file:
        file.write(json.dumps({"utterances": utterances, "skipped": skipped}).encode())


def data_root(data: str) -> Path:
    """The folder that names in a store are relative to: ``data``, or the folder of a manifest."""
    path = Path(data)
    return path if path.is_dir() else path.parent


def utterance_name(file: Path, root: Path) -> str:
    """Name of an audio file in a store: its path relative to ``root``, or its full path if it is elsewhere."""
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


class FeatureStore:
    """Features of a packed corpus, read on demand.

    Args:
        directory: folder that :func:`training.teachers.extraction.extract` wrote.
        data: the manifest or folder of the corpus.
        files: audio files of the corpus in order, unreadable ones included.
        corpus: the packed audio; utterance ``i`` of the store belongs to utterance ``i`` of the corpus.
        sample_rate: sample rate of the corpus, in hertz.

    Raises:
        MissingFileError: the folder is not a store, or lacks an utterance.
        CheckpointError: the store does not fit the corpus: an utterance has another duration.
    """

    def __init__(self, directory: Path, data: str, files: Sequence[Path], corpus: Corpus, sample_rate: int) -> None:
        if not (directory / DESCRIPTION_NAME).is_file():
            raise MissingFileError(f"{directory / DESCRIPTION_NAME} does not exist; {EXTRACT_AGAIN}")
        self.description = read_description(directory)
        self.sample_rate = sample_rate
        self._arrays: list[Path] = []
        entries: dict[str, tuple[int, Entry]] = {}
        for array, index in read_shards(directory):
            for name, entry in index["utterances"].items():
                entries[name] = len(self._arrays), entry
            self._arrays.append(array)
        root, skipped = data_root(data), set(corpus.skipped)
        names = [utterance_name(file, root) for file in files if str(file) not in skipped]
        if len(names) != len(corpus):
            raise CheckpointError(
                f"{len(names)} readable files for the {len(corpus)} utterances of the corpus; expected the files that "
                "the corpus was packed from"
            )
        tolerance = 1 / sample_rate + 1 / self.description.sample_rate  # both lengths are rounded up to a sample
        self._rows: list[tuple[int, int, int]] = []  # shard, first row, frames
        self._opened: dict[int, np.ndarray] = {}
        for name, samples in zip(names, np.diff(corpus.offsets), strict=True):
            if name not in entries:
                raise MissingFileError(f"{directory} has no features of {name}, which is in {data}; {EXTRACT_AGAIN}")
            shard, entry = entries[name]
            seconds, stored = samples / sample_rate, entry["samples"] / self.description.sample_rate
            if abs(seconds - stored) > tolerance:
                raise CheckpointError(
                    f"{directory} has features of {stored:.4f} s of {name}, which now has {seconds:.4f} s; "
                    f"{EXTRACT_AGAIN}"
                )
            self._rows.append((shard, entry["first"], entry["frames"]))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Width ``D``."""
        return self.description.dim

    def __getitem__(self, index: int) -> np.ndarray:
        """All features of an utterance, float16 ``(T, D)``, memory-mapped."""
        shard, first, frames = self._rows[index]
        if shard not in self._opened:
            while len(self._opened) >= MAX_OPEN_SHARDS:
                del self._opened[next(iter(self._opened))]
            self._opened[shard] = np.load(self._arrays[shard], mmap_mode="r")
        return self._opened[shard][first : first + frames]

    def crop(self, index: int, start: int, frames: int, hop_length: float, delay: int = 0) -> Tensor:
        """Features at the centres of the tokenizer frames of a crop, or of the frames before them.

        Args:
            index: utterance of the corpus.
            start: first sample of the crop in the utterance.
            frames: number of tokenizer frames ``T``. Frames after the end of the utterance get its last features.
            hop_length: samples per tokenizer frame, at the sample rate of the corpus.
            delay: frames by which the features precede the tokenizer frames. Frames before the start of the utterance
                get its first features.

        Returns:
            Float32 ``(T, D)``.
        """
        stored = self[index]
        rate, offset = self.description.frame_rate, self.description.offset
        times = frame_centres(frames, hop_length, self.sample_rate, start - delay * hop_length)
        bounds = ((times[[0, -1]] - offset) * rate).clamp(0, len(stored) - 1)
        low, high = int(bounds[0]), int(bounds[1]) + 2
        piece = torch.from_numpy(np.asarray(stored[low:high], np.float32))
        return interpolate(piece[None], rate, offset + low / rate, times)[0]
