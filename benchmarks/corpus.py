"""Processor time of ``speechtok corpus build`` for short clips, against the encoder alone.

``python -m benchmarks.corpus`` makes clips of 2 s, encodes them alone (read, and encoded in batches, in one process
with one thread) and builds a corpus of them with each engine. It prints processor and wall time as a Markdown table.
Processor time can be compared also on a machine that does other work; wall time needs free cores. The engine ray counts
its driver alone, and its wall time has the start of the cluster.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.arguments import integer_from
from benchmarks.bulk import ROOT, make_clips

ALONE = """
import sys, time
from pathlib import Path
import torch, speechtok
torch.set_num_threads(1)
files = sorted(Path(sys.argv[1]).glob("*.wav"))
tokenizer = speechtok.load()
start = time.process_time()
clips = [speechtok.read_audio(path)[0] for path in files]
reading = time.process_time() - start
for i in range(0, len(clips), 16):
    tokenizer.encode(torch.nn.utils.rnn.pad_sequence(clips[i : i + 16], batch_first=True), 16_000)
print(reading, time.process_time() - start - reading)
"""


def timed(words: list[str]) -> tuple[str, float, float]:
    """Run a command. Returns what it printed, its processor time and its wall time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    printed = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return printed, used, time.perf_counter() - start


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=integer_from(10), default=10_000, help="number of clips (default: 10000)")
    parser.add_argument("--jobs", type=integer_from(1), default=2, help="processes of the engine local (default: 2)")
    parser.add_argument("--engine", choices=("local", "ray"), action="append", help="engine, repeatable")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "clips").mkdir()
        make_clips(root / "clips", args.clips, 2.0)
        command = [sys.executable, "-m", "speechtok", "corpus", "build"]
        reading, encoding = map(float, timed([sys.executable, "-c", ALONE, str(root / "clips")])[0].split())
        print("| | processor seconds | encoder alone | encoder and reading | wall seconds |\n|---|---|---|---|---|")
        print(f"| encoder alone | {encoding:.2f} | 100% | | |")
        print(f"| encoder and reading | {encoding + reading:.2f} | {encoding / (encoding + reading):.0%} | 100% | |")
        for engine in args.engine or ["local"]:
            options = ["-o", str(root / engine), "--engine", engine, "-j", str(args.jobs)]
            _, used, wall = timed([*command, str(root / "clips"), *options])
            shares = f"{encoding / used:.0%} | {(encoding + reading) / used:.0%}"
            print(f"| engine {engine}, with start-up | {used:.2f} | {shares} | {wall:.1f} |")


if __name__ == "__main__":
    main()
