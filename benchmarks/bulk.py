"""Time of ``speechtok encode`` for a folder of short clips, against the encoder alone and another version.

``python -m benchmarks.bulk`` makes 2 000 clips of 2 s, encodes them, checks that the codes are those of the encoder
alone, and prints a Markdown table. ``--other DIR`` adds another version of the package, whose source tree is ``DIR``.

- The encoder alone: batches of clips in memory, on all cores, in one process; with loading the tokenizer.
- Reading: all files by one thread, divided by the number of cores. The command reads beside encoding.
- The command: without the imports, and with loading the tokenizer, finding the files and writing the tokens.

The rows take turns, in separate processes, and the best round of each counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch

import speechtok
from benchmarks.arguments import integer_from, one_line_errors
from speechtok import SpeechTokens, read_audio
from speechtok.cli.batch import count_cores
from speechtok.errors import SpeechtokError

ROOT = Path(__file__).parents[1]
RATE = 16_000
BATCH = 16
"""Clips of a batch of the encoder alone."""

COMMAND = """
import json, sys, time
import torch, speechtok.cli
start = time.perf_counter()
status = speechtok.cli.main(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps({"status": status, "seconds": time.perf_counter() - start}))
"""
"""Program that times a command, in any version of the package."""


def make_clips(folder: Path, count: int, seconds: float) -> None:
    """Write clips of the package's recording, no two of them alike, as WAV."""
    speech, rate = read_audio(ROOT / "speechtok" / "assets" / "sample.flac")
    assert rate == RATE
    samples = round(seconds * RATE)
    speech = speech.repeat(2 + samples // len(speech))
    for index in range(count):
        start = index * 7919 % (len(speech) - samples)
        clip = speech[start : start + samples] * (0.3 + 0.7 * index / count)
        soundfile.write(folder / f"{index:05}.wav", clip.numpy(), RATE)


def time_encoder(folder: Path, codes: Path) -> dict[str, float]:
    """Encode all clips in batches, in this process, and save their codes. Returns seconds of reading and encoding."""
    torch.set_num_threads(count_cores())
    start = time.perf_counter()
    clips = [read_audio(path)[0] for path in sorted(folder.glob("*.wav"))]
    reading = time.perf_counter() - start
    start = time.perf_counter()
    tokenizer = speechtok.load()
    batches = [torch.stack(clips[i : i + BATCH]) for i in range(0, len(clips), BATCH)]
    done = [tokenizer.encode(batch, RATE).codes for batch in batches]
    encoding = time.perf_counter() - start
    torch.save(torch.cat(done).to(torch.int16), codes)
    return {"reading": reading, "encoding": encoding}


def time_command(version: Path, folder: Path, out: Path, options: Sequence[str] = ()) -> float:
    """Encode a folder with the command of some version of the package. Returns seconds, without the imports."""
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory, "result.json")
        words = ["encode", str(folder), "-o", str(out), *options]
        subprocess.run(
            [sys.executable, "-c", COMMAND, str(result), *words],
            env={**os.environ, "PYTHONPATH": str(version)},
            cwd=directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        measured = json.loads(result.read_text())
    if measured["status"] != 0:
        raise SpeechtokError(f"'speechtok encode' of {version} ended with status {measured['status']}; run it by hand")
    return float(measured["seconds"])


def count_differences(codes: Path, out: Path) -> int:
    """Clips whose tokens file does not hold the expected codes."""
    expected = torch.load(codes, weights_only=True)
    found = [SpeechTokens.load(out / f"{index:05}.tokens").codes for index in range(len(expected))]
    return sum(not torch.equal(a[0], b.to(torch.int64)) for a, b in zip(found, expected, strict=True))


def measure(clips: int, seconds: float, rounds: int, other: Path | None) -> dict[str, float]:
    """Measure all rows. Returns the best seconds of each, by name.

    Raises:
        SpeechtokError: the codes of a row are not those of the encoder alone.
    """
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as directory:
        root = Path(directory)
        (root / "clips").mkdir()
        make_clips(root / "clips", clips, seconds)
        versions: dict[str, tuple[Path, list[str]]] = {"command": (ROOT, [])}
        if other is not None:
            versions["other"] = (other.resolve(), [])
        for number in range(rounds):
            alone = [sys.executable, "-m", "benchmarks.bulk", "--encoder", str(root)]
            printed = subprocess.run(alone, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
            measured = json.loads(printed.splitlines()[-1])
            for name, (version, options) in versions.items():
                out = root / f"{name}-{number}"
                measured[name] = time_command(version, root / "clips", out, options)
                different = count_differences(root / "codes.pt", out)
                if different:
                    raise SpeechtokError(f"{different} of {clips} clips have other codes in the row {name!r}")
            best = {name: min(value, best.get(name, value)) for name, value in measured.items()}
    return best


def table(best: dict[str, float], clips: int, seconds: float) -> str:
    """The rows as Markdown."""
    audio, cores = clips * seconds, count_cores()
    encoding, reading = best["encoding"], best["reading"] / cores
    names = {
        "encoder alone": encoding,
        "encoder and reading": encoding + reading,
        "`speechtok encode`": best["command"],
        **({"`speechtok encode` of the other version": best["other"]} if "other" in best else {}),
    }
    lines = [
        "| | seconds | x real time | speed of the encoder alone | of encoder and reading |",
        "|---|---|---|---|---|",
    ]
    for name, value in names.items():
        shares = f"{encoding / value:.0%} | {(encoding + reading) / value:.0%}"
        lines.append(f"| {name} | {value:.2f} | {audio / value:.0f} | {shares} |")
    lines.append("")
    lines.append(
        f"{clips} clips of {seconds:g} s, {cores} cores, PyTorch {torch.__version__}; equal codes in all rows."
    )
    if "other" in best:
        lines.append(f"The command is {best['other'] / best['command']:.1f} times as fast as the other version's.")
    return "\n".join(lines)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=integer_from(1), default=2000, help="number of clips (default: 2000)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a clip (default: 2)")
    parser.add_argument("--rounds", type=integer_from(1), default=3, help="rounds (default: 3)")
    parser.add_argument("--other", type=Path, metavar="DIR", help="source tree of another version of the package")
    parser.add_argument("--encoder", type=Path, metavar="DIR", help=argparse.SUPPRESS)  # one row, in this process
    args = parser.parse_args(argv)
    if args.encoder:
        print(json.dumps(time_encoder(args.encoder / "clips", args.encoder / "codes.pt")))
        return 0
    best = measure(args.clips, args.seconds, args.rounds, args.other)
    print(table(best, args.clips, args.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
