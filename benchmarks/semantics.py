"""How much of what is said the codes carry: phone-normalised mutual information (PNMI) of every codebook.

``python -m benchmarks.semantics --data DIR/test.jsonl`` prints a Markdown table; needs the ``bench`` extra, and phones
in the manifest. Each frame has the phone that is spoken in its middle. Silence is a phone, and fillers of the aligner
(``+NOISE+``, …) are silence; a second column leaves all of it out. Frames outside every row of an alignment do not
count.

The references are k-means with as many clusters as a codebook has entries, fitted on ``train.jsonl`` beside the
manifest: of 39 MFCCs and deltas, and of a teacher's features if ``--teacher`` is given. Chance is codebook 0 with its
frames in random order: the fewer frames, the higher the PNMI that as many labels get by coincidence.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import speechtok
from benchmarks.reconstruction import read_manifest
from speechtok.audio import resample
from speechtok.errors import InputError, SpeechtokError
from speechtok.quality import PhoneScore, phone_score
from training.clusters import assign, fit_clusters
from training.features import frame_centres
from training.phones import SILENCE, Phone, phones_at, read_alignments
from training.teachers import AVERAGE, Layer, Teacher, load_teacher

FIT_FRAMES = 200_000
"""Frames that k-means is fitted on; more change PNMI by less than a point."""


@dataclass(frozen=True)
class Score:
    """One row of the table.

    Attributes:
        name: of the labels.
        all: over all aligned frames.
        spoken: over those that are not silent.
    """

    name: str
    all: PhoneScore
    spoken: PhoneScore


def score(name: str, labels: np.ndarray, phones: np.ndarray, silence: int) -> Score:
    """Compare ``(T,)`` labels with ``(T,)`` phones, one of which is silence."""
    return Score(name, phone_score(labels, phones), phone_score(labels, np.where(phones == silence, -1, phones)))


class Aligned:
    """Audio files with an alignment, and the frame grid of a tokenizer.

    Args:
        alignments: of each file.
        hop_length: of the tokenizer, in samples.
        sample_rate: of the tokenizer, in hertz.
    """

    def __init__(self, alignments: dict[Path, tuple[Phone, ...]], hop_length: int, sample_rate: int) -> None:
        self.alignments, self.hop_length, self.sample_rate = alignments, hop_length, sample_rate
        self.names = sorted({phone.name for phones in alignments.values() for phone in phones} | {SILENCE})
        self.failures: dict[Path, str] = {}

    @property
    def silence(self) -> int:
        """Index of silence among the phones."""
        return self.names.index(SILENCE)

    def label(self, labels: Callable[[Tensor, int, Tensor], Tensor], name: str) -> tuple[np.ndarray, np.ndarray]:
        """Label every frame of every file.

        Args:
            labels: waveform ``(S,)``, its sample rate, and the frames' centres in seconds ``(T,)``, to ``(Q, T)``.
            name: for the progress bar.

        Returns:
            Labels ``(Q, T)`` of all files end to end, and phones ``(T,)``; files that fail are left out.
        """
        found, phones = [], []
        for path, alignment in tqdm(self.alignments.items(), desc=name, unit="file"):
            try:
                waveform, rate = speechtok.read_audio(path)
                samples = -(-len(waveform) * self.sample_rate // rate)
                centres = frame_centres(-(-samples // self.hop_length), self.hop_length, self.sample_rate)
                grid = labels(waveform, rate, centres)
            except (SpeechtokError, RuntimeError) as error:
                self.failures[path] = str(error)
                continue
            found.append(grid.numpy())
            phones.append(phones_at(alignment, centres.numpy(), self.names))
        if not found:
            raise InputError(f"none of {len(self.alignments)} files could be labelled: {self.failures}")
        return np.concatenate(found, 1), np.concatenate(phones)


def codebook_scores(tokenizer: speechtok.SpeechTokenizer, aligned: Aligned) -> list[Score]:
    """Score of every codebook, the semantic one first, and of chance."""

    def labels(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        tokens = tokenizer.encode(waveform, rate)
        return torch.cat([tokens.semantic[:, None], tokens.acoustic], 1)[0, :, : len(centres)]

    codes, phones = aligned.label(labels, "codes")
    rows = [score(f"codebook {stage}", row, phones, aligned.silence) for stage, row in enumerate(codes)]
    counted = phones >= 0
    shuffled = np.random.default_rng(0).permutation(codes[0][counted])
    return [*rows, score("chance", shuffled, phones[counted], aligned.silence)]


def cluster_score(
    name: str, teacher: Teacher, aligned: Aligned, train: Sequence[Path], clusters: int, seed: int = 0
) -> Score:
    """Score of k-means on the features of a teacher at the tokenizer's frame centres, fitted on other audio.

    Args:
        name: of the row.
        teacher: the model.
        aligned: what is scored.
        train: files that k-means is fitted on, or as many of them as have enough frames.
        clusters: of k-means.
        seed: of the order of the files, and of k-means.
    """

    @torch.no_grad()
    def features(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        return teacher.at(teacher(resample(waveform[None], rate, teacher.sample_rate)), centres)[0]

    order = np.random.default_rng(seed).permutation(len(train))
    pieces, count = [], 0
    with tqdm(total=FIT_FRAMES, desc=f"{name}: fitting", unit="frame") as bar:
        for index in order:
            waveform, rate = speechtok.read_audio(train[index])
            samples = -(-len(waveform) * aligned.sample_rate // rate)
            frames = -(-samples // aligned.hop_length)
            pieces.append(features(waveform, rate, frame_centres(frames, aligned.hop_length, aligned.sample_rate)))
            count += frames
            bar.update(frames)
            if count >= FIT_FRAMES:
                break
    centroids = fit_clusters(torch.cat(pieces).numpy(), clusters, seed)
    labels, phones = aligned.label(lambda *frame: assign(features(*frame), centroids)[None], name)
    return score(name, labels[0], phones, aligned.silence)


def table(scores: Sequence[Score]) -> str:
    """Scores, as Markdown."""
    lines = [
        "| labels | PNMI | PNMI without silence | phone purity | cluster purity |",
        "|---|---|---|---|---|",
    ]
    for row in scores:
        lines.append(
            f"| {row.name} | {row.all.pnmi:.3f} | {row.spoken.pnmi:.3f} | {row.all.phone_purity:.3f} "
            f"| {row.all.cluster_purity:.3f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest with phones; train.jsonl beside it fits the references")
    parser.add_argument("--model", help="a tokenizer's directory (the default tokenizer if not given)")
    parser.add_argument("--teacher", metavar="SPEC", help="also cluster its features; see training/teachers.py")
    parser.add_argument("--layer", default=AVERAGE, help="of the teacher: counted from 1, average (default), or phones")
    arguments = parser.parse_args(argv)
    layer: Layer = int(arguments.layer) if arguments.layer.isdecimal() else arguments.layer
    try:
        manifest = Path(arguments.data)
        manifest = manifest / "test.jsonl" if manifest.is_dir() else manifest
        alignments = read_alignments(manifest)
        if not alignments:
            raise InputError(f"--data is {arguments.data!r}, whose utterances have no 'phones'; expected alignments")
        train = read_manifest(str(manifest.parent / "train.jsonl"))
        tokenizer = speechtok.load(arguments.model)
        teachers = {"MFCC": load_teacher("mfcc")}
        if arguments.teacher:
            teachers[f"{arguments.teacher}, layer {layer}"] = load_teacher(arguments.teacher, layer)
        aligned = Aligned(alignments, tokenizer.config.hop_length, tokenizer.sample_rate)
        scores = codebook_scores(tokenizer, aligned)
        clusters = tokenizer.codebook_size
        for name, teacher in teachers.items():
            scores.append(cluster_score(f"k-means ({clusters}) on {name}", teacher, aligned, train, clusters))
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, reason in aligned.failures.items():
        print(f"failed: {path}: {reason}", file=sys.stderr)
    print(
        f"tokenizer {tokenizer.fingerprint}, {len(alignments) - len(aligned.failures)} utterances, "
        f"{scores[0].all.frames} aligned frames, {scores[0].spoken.frames} of them not silent\n"
    )
    print(table(scores))
    return 1 if aligned.failures else 0


if __name__ == "__main__":
    sys.exit(main())
