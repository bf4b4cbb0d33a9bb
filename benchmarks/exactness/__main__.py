"""Count codes that differ when the same speech is encoded in other ways.

``python -m benchmarks.exactness --data DIR/test.jsonl`` encodes every utterance alone, on one thread. It compares the
codes with those of:

- other numbers of threads,
- padded batches,
- streams with chunks of random lengths, also many streams in turn,
- the command line,
- new processes with other instruction sets: compiled code, and PyTorch with int8 or float32 products,
- other interpreters, with other versions of PyTorch (``--python``).

It prints a Markdown table. Paths that also decode list the number of utterances whose audio differs in any bit. The
exit status is 1 if anything differs.
"""

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import speechtok
from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.data import read_utterances
from benchmarks.exactness.paths import (
    Codes,
    Result,
    alone,
    batched,
    by_command_line,
    decoded_streamed,
    interleaved,
    streamed,
)
from benchmarks.exactness.processes import implementations, run_elsewhere, save_waveforms, torch_version
from speechtok.errors import InputError
from speechtok.resampling import resample


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exactness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="manifest, folder with test.jsonl, or folder of audio")
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    parser.add_argument("--limit", type=integer_from(1), help="number of utterances, from the first (all)")
    parser.add_argument("--python", action="append", default=[], help="another interpreter to compare")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only paths whose name contains TEXT (all)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    tok = speechtok.load(arguments.model)
    files = [utterance.audio for utterance in read_utterances(arguments.data)[: arguments.limit]]
    waveforms = []
    for file in files:
        waveform, rate = speechtok.read_audio(file)
        waveforms.append(resample(waveform[None], rate, tok.sample_rate)[0])
    codes, audio = alone(tok, waveforms)
    hours = sum(map(len, waveforms)) / tok.sample_rate / 3600
    print(
        f"{len(files)} utterances, {hours:.2f} hours, {sum(grid.numel() for grid in codes)} codes; reference: each "
        f"alone, 1 thread, PyTorch {torch_version()}\n"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = folder / "waveforms.npz"
        save_waveforms(waveforms, saved)
        paths: dict[str, Callable[[], Result]] = {
            "alone, 2 threads": lambda: alone(tok, waveforms, 2),
            "alone, 4 threads": lambda: alone(tok, waveforms, 4),
            "in padded batches of 1 to 64": lambda: batched(tok, waveforms),
            "streamed in chunks of 1 sample to 2 s": lambda: (
                streamed(tok, waveforms),
                decoded_streamed(tok, codes, waveforms),
            ),
            "by 100 interleaved streams": lambda: (interleaved(tok, waveforms), None),
            "speechtok encode": lambda: (by_command_line(arguments.model, files, folder / "tokens"), None),
        }
        for python in (sys.executable, *arguments.python):
            version = "" if python == sys.executable else f"PyTorch {torch_version(python)}, "
            for title, (implementation, environment) in implementations().items():
                paths[version + title] = functools.partial(
                    run_elsewhere, python, environment, implementation, arguments.model, saved, folder
                )
        return int(_compare(_select(paths, arguments.only), codes, audio) > 0)


def _select(paths: dict[str, Callable[[], Result]], texts: Sequence[str] | None) -> dict[str, Callable[[], Result]]:
    if not texts:
        return paths
    chosen = {path: encode for path, encode in paths.items() if any(text in path for text in texts)}
    if not chosen:
        raise InputError(f"--only is {texts}, which no path contains; expected parts of {', '.join(paths)}")
    return chosen


def _compare(paths: dict[str, Callable[[], Result]], codes: Codes, audio: list[str] | None) -> int:
    """Print the table. Returns the number of codes and utterances that differ."""
    total = 0
    print("| path | codes | differing | utterances with differing audio |\n|---|---|---|---|", flush=True)
    for path, encode in paths.items():
        start = time.perf_counter()
        again, audio_again = encode()
        differing = sum(
            int((a != b).sum()) if a.shape == b.shape else a.numel() for a, b in zip(codes, again, strict=True)
        )
        total += differing
        decoded = ""
        if audio_again is not None and audio is not None:
            count = sum(a != b for a, b in zip(audio, audio_again, strict=True))
            total += count
            decoded = str(count)
        print(f"| {path} | {sum(c.numel() for c in again)} | {differing} | {decoded} |", flush=True)
        print(f"{path}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return total


if __name__ == "__main__":
    sys.exit(main())
