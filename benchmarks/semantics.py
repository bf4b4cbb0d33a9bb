"""How much of what is said the codes carry: phone-normalised mutual information (PNMI) of every codebook, and what
codebook 0 is like as a language.

``python -m benchmarks.semantics --data DIR/test.jsonl`` prints two Markdown tables; needs the ``bench`` extra, and
phones in the manifest. With ``--out``, they are also in ``semantics.md`` and ``semantics.json`` of that folder, and in
the report that ``benchmarks.reconstruction`` makes there afterwards.

Each frame has the phone that is spoken in its middle, and a code speaks of the frame that is played once the decoder
has it: of the one before, if the decoder needs a frame of lookahead. ``--delay 0`` holds codes to their own frame; the
row "without delay" does so for codebook 0. Silence is a phone, and fillers of the aligner (``+NOISE+``, …) are silence;
a second column leaves all of it out. Frames outside every row of an alignment do not count.

The references are k-means with as many clusters as a codebook has entries, fitted on ``train.jsonl`` beside the
manifest: of 39 MFCCs and deltas, and of a teacher's features if ``--teacher`` is given. Chance is codebook 0 with its
frames in random order: the fewer frames, the higher the PNMI that as many labels get by coincidence.

The second table: the ABX error rate of phones within and across speakers, tokens a phone (runs of one label), how well
a linear probe tells the speaker from an utterance's labels (codebook 0 against all codebooks: what leaks), and a
trigram model's perplexity of a label that is not a repeat, with the bits a second of speech that it needs; the model
learns from ``train.jsonl``. Each is defined in :mod:`benchmarks.unit_metrics`.
"""

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import speechtok
from benchmarks.evaluate import read_items
from benchmarks.metrics import version
from benchmarks.report import SEMANTICS, put
from benchmarks.unit_metrics import Trigrams, abx, segments, speaker_leakage, tokens_per_phone, without_repeats
from speechtok.audio import resample
from speechtok.errors import InputError, SpeechtokError
from speechtok.metrics import PhoneScore, phone_score
from training.clusters import assign, fit_clusters
from training.features import frame_centres
from training.phones import SILENCE, Phone, phones_at, read_alignments
from training.teachers import AVERAGE, Layer, Teacher, load_teacher

FIT_FRAMES = 200_000
"""Frames that k-means and the trigram model are fitted on; more change PNMI by less than a point."""

Labeller = Callable[[Tensor, int, Tensor], Tensor]
"""Waveform ``(S,)``, its sample rate, and the frames' centres in seconds ``(T,)``, to labels ``(Q, T)``."""


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

    def centres(self, waveform: Tensor, rate: int) -> Tensor:
        """Of the frames of ``(S,)`` at a rate, in seconds, ``(T,)``."""
        samples = -(-len(waveform) * self.sample_rate // rate)
        return frame_centres(-(-samples // self.hop_length), self.hop_length, self.sample_rate)

    def phones(self, path: Path, centres: Tensor, delay: int) -> np.ndarray:
        """Spoken ``delay`` frames before each of a file's frames, ``(T,)``."""
        return phones_at(
            self.alignments[path], centres.numpy() - delay * self.hop_length / self.sample_rate, self.names
        )

    def label_each(self, labels: Labeller, name: str, delay: int = 0) -> "Labelled":
        """Label every frame of every file; those that fail are left out.

        Args:
            labels: the labels of a file.
            name: for the progress bar.
            delay: frames that labels come after what they speak of.
        """
        paths, found, phones, undelayed, seconds = [], [], [], [], 0.0
        for path in tqdm(self.alignments, desc=name, unit="file"):
            try:
                waveform, rate = speechtok.read_audio(path)
                centres = self.centres(waveform, rate)
                grid = labels(waveform, rate, centres)
            except (SpeechtokError, RuntimeError) as error:
                self.failures[path] = str(error)
                continue
            paths.append(path)
            found.append(grid.numpy())
            phones.append(self.phones(path, centres, delay))
            undelayed.append(self.phones(path, centres, 0))
            seconds += len(waveform) / rate
        if not found:
            raise InputError(f"none of {len(self.alignments)} files could be labelled: {self.failures}")
        return Labelled(paths, found, phones, undelayed, seconds)

    def label(self, labels: Labeller, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels ``(Q, T)`` of all files end to end, and phones ``(T,)``: see :meth:`label_each`."""
        return self.label_each(labels, name).joined


@dataclass(frozen=True)
class Labelled:
    """Files with labels and phones.

    Attributes:
        paths: of the files.
        grids: labels of each, ``(Q, T)``.
        phones: that the labels of each speak of, ``(T,)``.
        undelayed: phones in the frames of each, ``(T,)``.
        seconds: of all.
    """

    paths: list[Path]
    grids: list[np.ndarray]
    phones: list[np.ndarray]
    undelayed: list[np.ndarray]
    seconds: float

    @property
    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels ``(Q, T)`` of all files end to end, and phones ``(T,)``."""
        return np.concatenate(self.grids, 1), np.concatenate(self.phones)


@dataclass(frozen=True)
class Language:
    """One row of the second table; NaN where the manifest has not what it takes.

    Attributes:
        name: of the labels.
        abx_within: error rate.
        abx_across: error rate.
        tokens: a phone.
        speaker: accuracy of the probe on these labels.
        perplexity: of a label that is not a repeat.
        bits: a second.
    """

    name: str
    abx_within: float
    abx_across: float
    tokens: float
    speaker: float
    perplexity: float
    bits: float


def language(
    name: str,
    labelled: Labelled,
    speakers: dict[Path, str | None],
    silence: int,
    train: Sequence[np.ndarray],
    size: int,
) -> Language:
    """Measure the first row of the labels.

    Args:
        name: of the row.
        labelled: what is measured.
        speakers: of the files; those without one count for tokens and perplexity only.
        silence: the phone that is left out of ABX and tokens a phone.
        train: labels ``(T,)`` that the language model learns from.
        size: number of labels.
    """
    rows = [grid[0] for grid in labelled.grids]
    who = [speakers.get(path) for path in labelled.paths]
    files = list(zip(rows, labelled.phones, who, strict=True))
    spoken = [s for row, phones, speaker in files for s in segments(row, phones, speaker or "", [silence])]
    known = [segment for segment in spoken if segment.speaker]
    probe = speaker_leakage([row[None] for row in rows], who, size)
    short = [without_repeats(row) for row in rows]
    bits = Trigrams([without_repeats(row) for row in train], size).bits(short)
    return Language(
        name,
        abx(known, across=False),
        abx(known, across=True),
        tokens_per_phone(spoken),
        probe.accuracy if probe else math.nan,
        2 ** (bits / sum(map(len, short))),
        bits / labelled.seconds,
    )


def codebook_scores(tokenizer: speechtok.ConvNeXtTokenizer, aligned: Aligned, delay: int = 0) -> list[Score]:
    """Score of every codebook, the semantic one first, of that one without the delay, and of chance."""
    return _scores(aligned.label_each(codes_of(tokenizer), "codes", delay), aligned.silence, delay)


def delay_of(tokenizer: speechtok.Tokenizer) -> int:
    """Frames of the decoder's lookahead."""
    return tokenizer.lookahead // tokenizer.hop_length if isinstance(tokenizer, speechtok.ConvNeXtTokenizer) else 0


def codes_of(tokenizer: speechtok.ConvNeXtTokenizer) -> Labeller:
    """Labels that are the codes, codebook 0 first."""

    def labels(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        tokens = tokenizer.encode(waveform, rate)
        return torch.cat([tokens.semantic[:, None], tokens.acoustic], 1)[0, :, : len(centres)]

    return labels


def _scores(labelled: Labelled, silence: int, delay: int) -> list[Score]:
    codes, phones = labelled.joined
    rows = [score(f"codebook {stage}", row, phones, silence) for stage, row in enumerate(codes)]
    if delay:
        rows.insert(1, score("codebook 0, without delay", codes[0], np.concatenate(labelled.undelayed), silence))
    counted = phones >= 0
    shuffled = np.random.default_rng(0).permutation(codes[0][counted])
    return [*rows, score("chance", shuffled, phones[counted], silence)]


def clusters_of(
    name: str, teacher: Teacher, aligned: Aligned, train: Sequence[Path], clusters: int, seed: int = 0
) -> Labeller:
    """Labels by k-means on the features of a teacher at the tokenizer's frame centres, fitted on other audio.

    Args:
        name: for the progress bar.
        teacher: the model.
        aligned: has the frame grid.
        train: files that k-means is fitted on, or as many of them as have enough frames.
        clusters: of k-means.
        seed: of the order of the files, and of k-means.
    """

    @torch.no_grad()
    def features(waveform: Tensor, rate: int, centres: Tensor) -> Tensor:
        return teacher.at(teacher(resample(waveform[None], rate, teacher.sample_rate)), centres)[0]

    pieces = list(each_for_fit(features, aligned, train, f"{name}: fitting", seed))
    centroids = fit_clusters(torch.cat(pieces).numpy(), clusters, seed)
    return lambda *frame: assign(features(*frame), centroids)[None]


def each_for_fit(
    labels: Labeller, aligned: Aligned, train: Sequence[Path], name: str, seed: int = 0
) -> Iterator[Tensor]:
    """What ``labels`` gives of files in a random order, until there are :data:`FIT_FRAMES` frames."""
    count = 0
    with tqdm(total=FIT_FRAMES, desc=name, unit="frame") as bar:
        for index in np.random.default_rng(seed).permutation(len(train)):
            waveform, rate = speechtok.read_audio(train[index])
            centres = aligned.centres(waveform, rate)
            yield labels(waveform, rate, centres)
            count += len(centres)
            bar.update(len(centres))
            if count >= FIT_FRAMES:
                break


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


def language_table(rows: Sequence[Language], all_codebooks: float, chance: float) -> str:
    """Second table, as Markdown.

    Args:
        rows: of the labels.
        all_codebooks: accuracy of the speaker probe on all codebooks.
        chance: share of the most frequent speaker.
    """
    lines = [
        "| labels | ABX within, % | ABX across, % | tokens a phone | speaker probe, % | perplexity | bit/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = (100 * row.abx_within, 100 * row.abx_across, row.tokens, 100 * row.speaker, row.perplexity, row.bits)
        cells = [_cell(value, digits) for value, digits in zip(values, (1, 1, 2, 1, 1, 0), strict=True)]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    lines.append(f"| all codebooks | | | | {_cell(100 * all_codebooks, 1)} | | |")
    lines.append(f"| chance | 50.0 | 50.0 | | {_cell(100 * chance, 1)} | | |")
    return "\n".join(lines)


def _cell(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _plain(found: Any) -> Any:
    """For JSON, which has no NaN."""
    if isinstance(found, dict):
        return {name: _plain(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_plain(value) for value in found]
    return None if isinstance(found, float) and math.isnan(found) else found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest with phones; train.jsonl beside it fits the references")
    parser.add_argument("--model", help="a tokenizer's directory (the default tokenizer if not given)")
    parser.add_argument("--teacher", metavar="SPEC", help="also cluster its features; see training/teachers.py")
    parser.add_argument("--layer", default=AVERAGE, help="of the teacher: counted from 1, average (default), or phones")
    parser.add_argument("--delay", type=int, help="frames that codes are late (the decoder's lookahead if not given)")
    parser.add_argument("--out", type=Path, help="folder for semantics.md and semantics.json")
    arguments = parser.parse_args(argv)
    layer: Layer = int(arguments.layer) if arguments.layer.isdecimal() else arguments.layer
    try:
        manifest = Path(arguments.data)
        manifest = manifest / "test.jsonl" if manifest.is_dir() else manifest
        alignments = read_alignments(manifest)
        if not alignments:
            raise InputError(f"--data is {arguments.data!r}, whose utterances have no 'phones'; expected alignments")
        train = [item.path for item in read_items(str(manifest.parent / "train.jsonl"))]
        speakers = {item.path: item.speaker for item in read_items(str(manifest))}
        tokenizer = speechtok.load(arguments.model)
        teachers = {"MFCC": load_teacher("mfcc")}
        if arguments.teacher:
            teachers[f"{arguments.teacher}, layer {layer}"] = load_teacher(arguments.teacher, layer)
        aligned = Aligned(alignments, tokenizer.config.hop_length, tokenizer.sample_rate)
        size, labeller = tokenizer.codebook_size, codes_of(tokenizer)
        delay = delay_of(tokenizer) if arguments.delay is None else arguments.delay
        codes = aligned.label_each(labeller, "codes", delay)
        scores = _scores(codes, aligned.silence, delay)
        learned = [grid[0].numpy() for grid in each_for_fit(labeller, aligned, train, "codes to learn from")]
        languages = [language("codebook 0", codes, speakers, aligned.silence, learned, size)]
        leakage = speaker_leakage(codes.grids, [speakers.get(path) for path in codes.paths], size)
        for teacher_name, teacher in teachers.items():
            name = f"k-means ({size}) on {teacher_name}"
            labeller = clusters_of(name, teacher, aligned, train, size)
            labelled = aligned.label_each(labeller, name)
            labels, phones = labelled.joined
            scores.append(score(name, labels[0], phones, aligned.silence))
            learned = [grid[0].numpy() for grid in each_for_fit(labeller, aligned, train, f"{name}: to learn from")]
            languages.append(language(name, labelled, speakers, aligned.silence, learned, size))
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, reason in aligned.failures.items():
        print(f"failed: {path}: {reason}", file=sys.stderr)
    probe = (
        f"The probe tells {leakage.speakers} speakers apart."
        if leakage
        else "No speaker probe: the manifest has not two speakers with 5 utterances each."
    )
    text = (
        f"Tokenizer {tokenizer.fingerprint}, {len(alignments) - len(aligned.failures)} utterances, "
        f"{scores[0].all.frames} aligned frames, {scores[0].spoken.frames} of them not silent; codes speak of the "
        f"frame {delay} before.\n\n{table(scores)}\n\n"
        f"{language_table(languages, *((leakage.accuracy, leakage.chance) if leakage else (math.nan, math.nan)))}\n\n"
        f"{probe}\n"
    )
    print(text)
    if arguments.out:
        command = shlex.join(["python", "-m", "benchmarks.semantics", *(sys.argv[1:] if argv is None else argv)])
        found = {
            "command": command,
            "fingerprint": tokenizer.fingerprint,
            "delay": delay,
            "versions": {"torch": torch.__version__, "speechtok": version("speechtok")},
            "failures": {str(path): reason for path, reason in aligned.failures.items()},
            "labels": [asdict(row) for row in scores],
            "languages": [asdict(row) for row in languages],
            "probe": asdict(leakage) if leakage else None,
        }
        arguments.out.mkdir(parents=True, exist_ok=True)
        put(arguments.out / "semantics.json", json.dumps(_plain(found), indent=1, allow_nan=False).encode())
        put(arguments.out / SEMANTICS, f"{text}\n`{command}`\n".encode())
    return 1 if aligned.failures else 0


if __name__ == "__main__":
    sys.exit(main())
