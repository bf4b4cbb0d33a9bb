"""A phone classifier on the features of a teacher, and the labels that it gives to a whole corpus.

``python -m training.teachers.phone_probe --features DIR --data DIR --out DIR`` fits the classifier on the aligned
training utterances of a store of features, and writes its phone logits for every utterance, aligned or not, into a
store of labels for ``distillation.labels``.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from speechtok.errors import InputError, SpeechtokError
from training.autocast import autocast
from training.checkpoints import make_folder
from training.manifest import Utterance, find_utterances, phones_at
from training.optimizers import learning_rate_factor
from training.teachers.extraction import hash_weights, mix_phones
from training.teachers.store import (
    data_root,
    describe,
    read_description,
    read_shards,
    utterance_name,
    write_shard,
)
from training.teachers.teacher import PHONES

CONTEXT = 3
"""Frames that the classifier sees on each side of its own."""

HIDDEN = 512
DROPOUT = 0.2
BATCH_FRAMES = 1024
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 50

MAX_FRAMES = 2_000_000
"""Frames that are held in memory to fit the classifier; more aligned audio is left out."""


class PhoneProbe(nn.Module):
    """Classifier of the phone half a frame before the centre of a feature: a tokenizer's frames lie between features.

    Args:
        mean: of each feature, ``(D,)``.
        std: standard deviation of each feature, ``(D,)``.
        phones: number of phones ``P``.
    """

    def __init__(self, mean: Tensor, std: Tensor, phones: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        width = (2 * CONTEXT + 1) * len(mean)
        self.layers = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, phones)
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Logits ``(B, P)`` for windows of features, ``(B, 2 * CONTEXT + 1, D)``."""
        with autocast(windows.device, True):
            return self.layers(((windows - self.mean) / self.std).flatten(1)).float()

    @torch.no_grad()
    def label(self, features: np.ndarray) -> Tensor:
        """Logits of every frame of an utterance, ``(T, D)`` to ``(T, P)``."""
        frames = np.arange(len(features))
        return torch.cat(
            [
                self(torch.from_numpy(features[window_indices(some, 0, len(features))].astype(np.float32)))
                for some in np.array_split(frames, max(1, len(frames) // BATCH_FRAMES))
            ]
        )


def window_indices(frames: np.ndarray, first: np.ndarray | int, end: np.ndarray | int) -> np.ndarray:
    """Indices of the features around each frame, ``(B, 2 * CONTEXT + 1)``; at the edges, the last one is repeated.

    Args:
        frames: ``(B,)``.
        first: first frame of the utterance, or of the utterance of each frame.
        end: frame after the last one.
    """
    around = frames[:, None] + np.arange(-CONTEXT, CONTEXT + 1)
    return np.clip(around, np.reshape(first, (-1, 1)), np.reshape(end, (-1, 1)) - 1)


def fit_probe(features: Sequence[np.ndarray], labels: Sequence[np.ndarray], phones: int, epochs: float) -> PhoneProbe:
    """Fit a classifier.

    Args:
        features: of each utterance, ``(T, D)``.
        labels: index of the phone in each frame, ``(T,)`` for each utterance; negative for unknown.
        phones: number of phones.
        epochs: passes over the frames with a label.

    Raises:
        InputError: no frame has a label.
    """
    ends = np.cumsum([len(x) for x in features])
    joined, target = np.concatenate(features), np.concatenate(labels)
    known = np.flatnonzero(target >= 0)
    if not len(known):
        raise InputError("no frame has a phone; expected a manifest with phones that overlap with the audio")
    sample = torch.from_numpy(joined[:: max(1, len(joined) // 20_000)].astype(np.float32))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        probe = PhoneProbe(sample.mean(0), sample.std(0).clamp_min(1e-4), phones)
        optimizer = torch.optim.AdamW(probe.parameters(), LEARNING_RATE, weight_decay=0.01)
        rng = np.random.default_rng(0)
        steps = max(1, round(epochs * len(known) / BATCH_FRAMES))
        for step in tqdm(range(steps), desc="phone probe", unit="step"):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * learning_rate_factor(step, steps, WARM_UP_STEPS, 1.0)
            frames = np.sort(rng.choice(known, BATCH_FRAMES))
            utterances = np.searchsorted(ends, frames, side="right")
            end = ends[utterances]
            first = end - np.array([len(features[u]) for u in utterances])
            windows = torch.from_numpy(joined[window_indices(frames, first, end)].astype(np.float32))
            F.cross_entropy(probe(windows), torch.from_numpy(target[frames])).backward()
            optimizer.step()
            optimizer.zero_grad()
    return probe.eval().requires_grad_(False)


def accuracy(probe: PhoneProbe, features: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """Share of the frames with a label that the classifier gets right; NaN if there are none."""
    right = [
        (probe.label(x).argmax(1).numpy() == y)[y >= 0] for x, y in zip(features, labels, strict=True)
    ] or [np.zeros(0)]  # fmt: skip
    joined = np.concatenate(right)
    return float(joined.mean()) if len(joined) else float("nan")


def write_labels(features: Path, data: str, out: Path, aligned: float, epochs: float) -> float:
    """Fit a classifier to a store of features, and write its logits into a store of labels.

    Args:
        features: folder that ``python -m training.teachers`` wrote for ``data``.
        data: manifest or folder with phones.
        out: folder of the store of labels.
        aligned: share of the manifest's phones in the probabilities of aligned training utterances.
        epochs: passes over the aligned frames.

    Returns:
        Accuracy on the aligned utterances that are held out for validation, NaN without any.

    Raises:
        InputError: ``aligned`` or ``epochs`` is out of range, or no training utterance has phones.
        CheckpointError: the features are damaged, or ``out`` has other labels.
    """
    if not 0 <= aligned <= 1 or not epochs > 0:
        raise InputError(f"aligned is {aligned} and epochs {epochs}; expected 0 to 1, and above 0")
    source = read_description(features)
    train, dev = find_utterances(data)
    names = tuple(sorted({phone.name for u in train for phone in u.phones or ()}))
    if not names:
        raise InputError(f"data is {data!r}, where no training utterance has phones; expected a manifest with phones")
    offset = source.offset - 0.5 / source.frame_rate
    root = data_root(data)

    def labels(utterance: Utterance, frames: int) -> np.ndarray:
        return phones_at(utterance.phones, offset + np.arange(frames) / source.frame_rate, names)

    by_name = {utterance_name(u.audio, root): u for u in (*train, *dev) if u.phones}
    held_out = {utterance_name(u.audio, root) for u in dev}
    splits: dict[bool, tuple[list[np.ndarray], list[np.ndarray]]] = {False: ([], []), True: ([], [])}
    for _, name, stored in read_features(features):
        if name in by_name:
            pieces, targets = splits[name in held_out]
            if sum(map(len, pieces)) < MAX_FRAMES:
                pieces.append(np.array(stored))
                targets.append(labels(by_name[name], len(stored)))
    if not splits[False][0]:
        raise InputError(f"{features} has none of the aligned utterances of {data!r}; extract their features first")
    probe = fit_probe(*splits[False], len(names), epochs)
    make_folder(out)
    description = dataclasses.replace(
        source, layer=PHONES, dim=len(names), offset=offset, phones=list(names), aligned=aligned,
        weights=hash_weights(probe),
    )  # fmt: skip
    describe(out, description)
    for number, (array, index) in enumerate(read_shards(features)):
        stored, logits = np.load(array, mmap_mode="r"), []
        for name, entry in index["utterances"].items():
            found = probe.label(stored[entry["first"] : entry["first"] + entry["frames"]])
            if aligned and name in by_name and name not in held_out:
                found = mix_phones(found, labels(by_name[name], len(found)), aligned)
            logits.append(found.half().numpy())
        empty = np.zeros((0, len(names)), np.float16)
        write_shard(out, number, np.concatenate([*logits, empty]), index["utterances"], index["skipped"])
    return accuracy(probe, *splits[True])


def read_features(directory: Path) -> Iterator[tuple[int, str, np.ndarray]]:
    """Number of the shard, name and memory-mapped features ``(T, D)`` of each utterance of a store."""
    for number, (array, index) in enumerate(read_shards(directory)):
        stored = np.load(array, mmap_mode="r")
        for name, entry in index["utterances"].items():
            yield number, name, stored[entry["first"] : entry["first"] + entry["frames"]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.teachers.phone_probe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--features", required=True, type=Path, help="store of features of --data")
    parser.add_argument("--data", required=True, help="manifest with phones, or folder with train.jsonl")
    parser.add_argument("--out", required=True, type=Path, help="folder for the labels")
    parser.add_argument("--aligned", type=float, default=0.5, metavar="SHARE", help="of the manifest's phones (0.5)")
    parser.add_argument("--epochs", type=float, default=3.0, help="passes over the aligned audio (3)")
    arguments = parser.parse_args(argv)
    try:
        right = write_labels(arguments.features, arguments.data, arguments.out, arguments.aligned, arguments.epochs)
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{arguments.out} has labels; accuracy on held-out frames {right:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
