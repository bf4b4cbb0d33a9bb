"""How fast and how large: encode and decode against real time, the cost of importing, memory for an hour of audio.

``python -m benchmarks.speed`` prints a Markdown table. Run it on a machine that does nothing else.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

import speechtok


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Median duration of ``work``, after one run that does not count."""
    work()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))


def real_time_factors(model: str | None, threads: int, batch: int, seconds: float) -> tuple[float, float]:
    """Seconds of audio encoded, and decoded, in a second."""
    torch.set_num_threads(threads)
    tokenizer = speechtok.load(model)
    generator = torch.Generator().manual_seed(0)
    waveform = torch.randn(batch, int(seconds * tokenizer.sample_rate), generator=generator) * 0.05
    tokens = tokenizer.encode(waveform, tokenizer.sample_rate)
    audio = batch * seconds
    encode = seconds_of(lambda: tokenizer.encode(waveform, tokenizer.sample_rate), 15)
    decode = seconds_of(lambda: tokenizer.decode(tokens), 15)
    return audio / encode, audio / decode


def import_seconds(module: str, repeats: int = 7) -> float:
    """Median time to import ``module`` in a fresh process."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(repeats)
    ]
    return float(np.median([float(run.stdout) for run in runs]))


def hour_megabytes(model: str | None) -> tuple[float, float]:
    """Peak resident memory in megabytes that encoding, then decoding one hour in one call adds to a loaded model."""
    tokenizer = speechtok.load(model)
    tokenizer.decode(tokenizer.encode(np.zeros(16_000, np.float32), tokenizer.sample_rate))
    samples = 3600 * tokenizer.sample_rate
    waveform = (np.random.default_rng(0).standard_normal(samples, np.float32) * 0.05).clip(-1, 1)
    peaks = [_peak_megabytes()]
    tokens = tokenizer.encode(waveform, tokenizer.sample_rate)
    peaks.append(_peak_megabytes())
    tokenizer.decode(tokens)
    peaks.append(_peak_megabytes())
    return peaks[1] - peaks[0], peaks[2] - peaks[0]


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a tokenizer's directory (the default tokenizer if not given)")
    parser.add_argument("--hour", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.hour:
        print(*hour_megabytes(arguments.model))
        return 0
    print("| threads | batch | encode, × real time | decode, × real time |\n|---|---|---|---|")
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        for batch in (1, 16):
            encode, decode = real_time_factors(arguments.model, threads, batch, 10.0)
            print(f"| {threads} | {batch} | {encode:.0f} | {decode:.0f} |", flush=True)
    bare, ours = import_seconds("torch"), import_seconds("speechtok")
    print(f"\nimport speechtok: {ours:.2f} s, of which import torch {bare:.2f} s")
    command = [sys.executable, "-m", "benchmarks.speed", "--hour"]
    if arguments.model:
        command += ["--model", arguments.model]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    encode_mb, decode_mb = (float(value) for value in run.stdout.split())
    print(f"one hour in one call: {encode_mb:.0f} MB over the model to encode, {decode_mb:.0f} MB to encode and decode")
    return 0


if __name__ == "__main__":
    sys.exit(main())
