"""How much of speech comes back: PESQ-WB and STOI of decoded audio, and how the codebooks are used.

``python -m benchmarks.reconstruction --data DIR/test.jsonl`` prints a Markdown table; needs the ``bench`` extra.
"""

import argparse
import json
import math
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import speechtok
from speechtok.audio import resample
from speechtok.errors import InputError, SpeechtokError
from speechtok.quality import pesq_wb, stoi


@dataclass(frozen=True)
class Score:
    """One utterance at one number of codebooks.

    Attributes:
        pesq: PESQ-WB, 1.0 to 4.64; NaN where PESQ finds no speech.
        stoi: short-time objective intelligibility, 0 to 1; NaN where there is too little speech.
        bits: of the codes.
        seconds: of the utterance.
    """

    pesq: float
    stoi: float
    bits: float
    seconds: float


@dataclass(frozen=True)
class Utterance:
    """Everything measured on one file: scores by number of codebooks, codes ``(Q, T)``, or why it failed."""

    path: Path
    scores: dict[int, Score]
    codes: np.ndarray
    failure: str | None = None


class Reconstruction:
    """Encodes, decodes and scores one file after another; every worker process has its own.

    Args:
        model: a tokenizer's directory, or None for the default.
        num_codebooks: numbers of codebooks to decode with.
    """

    def __init__(self, model: str | None, num_codebooks: Sequence[int]) -> None:
        torch.set_num_threads(1)
        self.tokenizer = speechtok.load(model)
        self.num_codebooks = num_codebooks

    def __call__(self, path: Path) -> Utterance:
        """Measure one file; a file that cannot be measured says why."""
        try:
            waveform, sample_rate = speechtok.read_audio(path)
            tokens = self.tokenizer.encode(waveform, sample_rate)
            rate = self.tokenizer.sample_rate
            original = resample(waveform[None], sample_rate, rate)[0]
            scores = {}
            for count in self.num_codebooks:
                decoded = self.tokenizer.decode(tokens, num_codebooks=count)[0]
                frames, samples = int(tokens.lengths[0]), len(original)
                bits = frames * count * math.log2(self.tokenizer.codebook_size)
                scores[count] = Score(
                    pesq_wb(original, decoded, rate), stoi(original, decoded, rate), bits, samples / rate
                )
            return Utterance(path, scores, tokens.codes[0].numpy().astype(np.int32))
        except (SpeechtokError, ValueError, RuntimeError) as error:
            return Utterance(path, {}, np.empty((0, 0), np.int32), str(error))


_reconstruction: Reconstruction


def _start_worker(model: str | None, num_codebooks: Sequence[int]) -> None:
    global _reconstruction
    _reconstruction = Reconstruction(model, num_codebooks)


def _measure(path: Path) -> Utterance:
    return _reconstruction(path)


def measure(paths: Sequence[Path], model: str | None, num_codebooks: Sequence[int], workers: int) -> list[Utterance]:
    """Measure every file, in the order of ``paths`` whatever the number of workers."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with context.Pool(workers, _start_worker, (model, num_codebooks)) as pool:
        return list(tqdm(pool.imap(_measure, paths), total=len(paths), desc="measuring", unit="file"))


def table(utterances: Sequence[Utterance], num_codebooks: Sequence[int]) -> str:
    """Means over utterances, as Markdown."""
    lines = ["| codebooks | kbit/s | PESQ-WB | STOI |", "|---|---|---|---|"]
    for count in num_codebooks:
        scores = [u.scores[count] for u in utterances if u.scores]
        rate = sum(s.bits for s in scores) / sum(s.seconds for s in scores) / 1000
        quality = np.nanmean([s.pesq for s in scores])
        lines.append(f"| {count} | {rate:.2f} | {quality:.3f} | {np.nanmean([s.stoi for s in scores]):.4f} |")
    return "\n".join(lines)


def perplexities(utterances: Sequence[Utterance], codebook_size: int) -> list[float]:
    """``exp`` of the entropy of the use of each codebook over all frames; at most ``codebook_size``."""
    values = []
    for row in np.concatenate([u.codes for u in utterances if u.scores], axis=1):
        share = np.bincount(row, minlength=codebook_size) / len(row)
        values.append(float(np.exp(-np.sum(share[share > 0] * np.log(share[share > 0])))))
    return values


def read_manifest(data: str) -> list[Path]:
    """Audio files of a manifest, or of ``test.jsonl`` in a folder."""
    path = Path(data)
    path = path / "test.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"--data is {data!r}; expected a manifest, or a folder with test.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [path.parent / json.loads(line)["audio"] for line in lines if line.strip()]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest, or folder with test.jsonl")
    parser.add_argument("--model", help="a tokenizer's directory (the default tokenizer if not given)")
    parser.add_argument("--num-codebooks", type=int, nargs="+", default=[8, 4, 2, 1])
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    arguments = parser.parse_args(argv)
    try:
        paths = read_manifest(arguments.data)
        tokenizer = speechtok.load(arguments.model)
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    utterances = measure(paths, arguments.model, arguments.num_codebooks, arguments.workers)
    failed = [u for u in utterances if u.failure]
    for utterance in failed:
        print(f"failed: {utterance.path}: {utterance.failure}", file=sys.stderr)
    if len(failed) == len(utterances):
        return 1
    seconds = sum(next(iter(u.scores.values())).seconds for u in utterances if u.scores)
    print(
        f"tokenizer {tokenizer.fingerprint}, {len(utterances) - len(failed)} utterances, {seconds / 60:.1f} minutes\n"
    )
    print(table(utterances, arguments.num_codebooks))
    used = ", ".join(f"{value:.0f}" for value in perplexities(utterances, tokenizer.codebook_size))
    print(f"\nperplexity of the codebooks (of {tokenizer.codebook_size}): {used}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
