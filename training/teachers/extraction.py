"""Extraction of features: run a teacher over every utterance of a corpus, and write its features to a store."""

import contextlib
import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechtok.audio import read_audio
from speechtok.device import check_device
from speechtok.errors import AudioError, InputError
from speechtok.hashing import hash_tensors
from speechtok.resampling import resample, resampled_length
from training.checkpoints import make_folder
from training.dataset import in_threads
from training.manifest import Phone, find_utterances, phones_at
from training.teachers.loaders import load_teacher
from training.teachers.store import (
    Entry,
    StoreDescription,
    data_root,
    describe,
    read_shards,
    utterance_name,
    write_shard,
)
from training.teachers.teacher import PHONES, Layer, Teacher

SHARD_UTTERANCES = 256


def extract(
    teacher: Teacher, spec: str, data: str, out: Path, device: str = "cpu", aligned: float = 0.0, workers: int = 0
) -> tuple[int, list[str]]:
    """Write the features of all utterances of a corpus, held-out ones included, to a store.

    An interrupted extraction continues after its last complete shard. Files that changed or could not be read before
    are extracted again, into new shards.

    Args:
        teacher: the model.
        spec: spec of the teacher; see :func:`training.teachers.loaders.load_teacher`.
        data: manifest or folder; see :func:`training.manifest.find_utterances`.
        out: folder of the store.
        device: device on which the teacher computes.
        aligned: for phone logits, share of the manifest's phones in the probabilities of aligned training utterances,
            as PAST (arXiv 2505.14470) learns from them. The teacher has the rest.
        workers: processes, each with its own teacher; 0 for this process.

    Returns:
        Number of utterances in the store, and names of the files that could not be read.

    Raises:
        CheckpointError: ``out`` has features of another teacher, or of the same teacher with other weights.
        InputError: ``aligned`` or ``workers`` is out of range, or the device cannot be used.
        OutputError: ``out`` cannot be written.
    """
    if not 0 <= aligned <= 1 or (aligned and teacher.layer != PHONES):
        raise InputError(f"aligned is {aligned} with layer {teacher.layer!r}; expected 0 to 1, and layer 'phones'")
    if workers < 0:
        raise InputError(f"workers is {workers}; expected 0 or more")
    check_device(device)
    train, dev = find_utterances(data)
    alignments = {u.audio: u.phones for u in train if u.phones} if aligned else {}
    make_folder(out)
    _describe(out, teacher, spec, aligned)
    root = data_root(data)
    indices = [index for _, index in read_shards(out)]
    stored = {name: entry for index in indices for name, entry in index["utterances"].items()}
    unread_before = {name for index in indices for name in index["skipped"]}
    new: list[Path] = []
    again: list[Path] = []
    for utterance in (*train, *dev):
        file, name = utterance.audio, utterance_name(utterance.audio, root)
        if name not in stored:
            (again if name in unread_before else new).append(file)
        elif not _is_unchanged(file, stored[name], teacher.sample_rate):
            again.append(file)
    waiting = new + again  # new files first: an interrupted extraction then ends with the same shards
    tasks = [
        _Task(root, tuple(waiting[start : start + SHARD_UTTERANCES]), alignments, aligned, device)
        for start in range(0, len(waiting), SHARD_UTTERANCES)
    ]
    skipped: list[str] = []
    number, total = len(indices), len(train) + len(dev)
    with (
        tqdm(total=total, initial=total - len(waiting), desc="features", unit="utterance") as bar,
        contextlib.closing(_compute_shards(teacher, spec, tasks, workers)) as shards,
    ):
        for task, shard in zip(tasks, shards, strict=True):
            bar.update(len(task.files))
            skipped += shard.unread
            unread = [name for name in shard.unread if name not in unread_before]
            if shard.utterances or unread:
                write_shard(out, number, shard.features, shard.utterances, unread)
                stored.update(shard.utterances)
                number += 1
    return len(stored.keys() - set(skipped)), skipped


def hash_weights(teacher: nn.Module) -> str:
    """Hash of a teacher's weights in the description of a store."""
    return hash_tensors({}, teacher.state_dict())


def _describe(out: Path, teacher: Teacher, spec: str, aligned: float) -> None:
    """Write the description of the store, or check that it fits the teacher."""
    description = StoreDescription(
        spec,
        teacher.layer,
        teacher.sample_rate,
        teacher.dim,
        teacher.frame_rate,
        teacher.offset,
        list(teacher.phones) if teacher.layer == PHONES else [],
        aligned,
        hash_weights(teacher),
    )
    describe(out, description, {"", _early_hash(teacher)})


def _early_hash(teacher: nn.Module) -> str:
    """Hash of the weights in stores of early versions."""
    digest = hashlib.sha256()
    for name, tensor in sorted(teacher.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _is_unchanged(file: Path, entry: Entry, sample_rate: int) -> bool:
    """Whether a file has the size that it had when it was extracted, or the duration in stores without sizes."""
    with contextlib.suppress(OSError, soundfile.SoundFileError):
        if "bytes" in entry:
            return os.path.getsize(file) == entry["bytes"]
        header = soundfile.info(file)
        return resampled_length(header.frames, header.samplerate, sample_rate) == entry["samples"]
    return False


class _Task(NamedTuple):
    """Files of one shard, named relative to ``root``; the other fields are arguments of :func:`extract`."""

    root: Path
    files: tuple[Path, ...]
    alignments: Mapping[Path, tuple[Phone, ...]]
    aligned: float
    device: str


class _Shard(NamedTuple):
    """Features of some utterances.

    Attributes:
        features: features of all utterances, one after the other, float16 ``(T, D)``.
        utterances: position and length of each utterance in ``features``, by name.
        unread: names of files that could not be read.
    """

    features: np.ndarray
    utterances: dict[str, Entry]
    unread: list[str]


def _compute_shards(teacher: Teacher, spec: str, tasks: Sequence[_Task], workers: int) -> Iterator[_Shard]:
    """The shards of the tasks, in order."""
    if not workers or not tasks:
        for task in tasks:
            yield _compute_shard(teacher.to(task.device), task)
        return
    context = multiprocessing.get_context("spawn")  # CUDA does not work in a forked process
    with context.Pool(min(workers, len(tasks)), _start_worker, (spec, teacher.layer, workers)) as pool:
        yield from pool.imap(_compute_shard_in_worker, tasks)


@torch.no_grad()
def _compute_shard(teacher: Teacher, task: _Task) -> _Shard:
    pieces, utterances, unread = [], {}, []
    waiting: deque[tuple[Path, int, int]] = deque()  # file, bytes and samples of waveforms without features

    def waveforms() -> Iterator[Tensor]:
        for file, size, waveform in _read_ahead(task.files, teacher.sample_rate):
            if waveform is None:
                unread.append(utterance_name(file, task.root))
            else:
                waiting.append((file, size, len(waveform)))
                yield waveform.to(task.device)

    first = 0
    for computed in teacher.extract_features(waveforms()):
        file, size, samples = waiting.popleft()
        features = computed.cpu()
        if file in task.alignments:
            centres = teacher.offset + np.arange(len(features)) / teacher.frame_rate
            phones = phones_at(task.alignments[file], centres, teacher.phones)
            features = mix_phones(features, phones, task.aligned)
        name = utterance_name(file, task.root)
        utterances[name] = Entry(first=first, frames=len(features), samples=samples, bytes=size)
        first += len(features)
        pieces.append(features.half().numpy())
    features = np.concatenate(pieces) if pieces else np.zeros((0, teacher.dim), np.float16)
    return _Shard(features, utterances, unread)


_worker_teacher: Teacher


def _start_worker(spec: str, layer: Layer, workers: int) -> None:
    global _worker_teacher
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    _worker_teacher = load_teacher(spec, layer)


def _compute_shard_in_worker(task: _Task) -> _Shard:
    return _compute_shard(_worker_teacher.to(task.device), task)


def mix_phones(logits: Tensor, phones: np.ndarray, share: float) -> Tensor:
    """Mix one-hot probabilities of the aligned phones into those of a teacher.

    Args:
        logits: of the teacher, ``(T, P)``.
        phones: index of the aligned phone of each frame, ``(T,)``; negative for unknown.
        share: of the aligned phones. Frames without a known phone keep their logits.

    Returns:
        Logarithms of the mixture, ``(T, P)``.
    """
    aligned = torch.from_numpy(phones)
    known = (aligned >= 0)[:, None]
    one_hot = nn.functional.one_hot(aligned.clamp_min(0), logits.shape[1])
    mixture = (1 - share) * logits.float().softmax(-1) + share * one_hot
    return torch.where(known, mixture.clamp_min(1e-4).log(), logits)


def _read_ahead(files: Sequence[Path], sample_rate: int) -> Iterator[tuple[Path, int, Tensor | None]]:
    return in_threads(lambda file: (file, *_read(file, sample_rate)), files, min(8, os.cpu_count() or 1))


def _read(file: Path, sample_rate: int) -> tuple[int, Tensor | None]:
    """Size of a file in bytes, and its waveform, ``None`` if it cannot be read."""
    with contextlib.suppress(AudioError, OSError):
        size = os.path.getsize(file)  # before reading: a file that changes meanwhile is then extracted again
        waveform, rate = read_audio(file)
        return size, resample(waveform[None], rate, sample_rate)[0]
    return -1, None
