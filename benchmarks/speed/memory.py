"""Memory of one hour of audio, measured in new processes, and time to import the package.

``python -m benchmarks.speed.memory whole`` and ``streamed`` are what such a process runs.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import speechtok
from benchmarks.speed.noise import noise


def hour_megabytes(model: str | None) -> tuple[float, float]:
    """Memory for one hour of audio in one call.

    Returns:
        Growth of the peak resident memory of a loaded model, in megabytes: after encoding, and after decoding too.
    """
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


def streamed_hour_megabytes(model: str | None, seconds: int = 3600) -> tuple[float, float]:
    """Memory for one hour of audio in one stream.

    Returns:
        Size of the state of the stream, and growth of the peak resident memory after the first minute, in megabytes.
    """
    torch.set_num_threads(1)
    tok = speechtok.load(model)
    minute = noise(1, 60 * tok.sample_rate)
    with tok.stream() as stream:
        first = 0.0
        for _ in range(seconds // 60):
            for chunk in minute.split(tok.sample_rate // 25, 1):
                stream.decode(stream.encode(chunk))
            first = first or _peak_megabytes()
        return stream.num_bytes / 1e6, _peak_megabytes() - first


def _peak_megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage includes the peak of the parent process
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_new_process(model: str | None, hour: str) -> tuple[float, float]:
    """Run one of the measurements in a new process.

    Args:
        model: tokenizer; the default tokenizer if ``None``.
        hour: ``"whole"`` for :func:`hour_megabytes`, ``"streamed"`` for :func:`streamed_hour_megabytes`.
    """
    command = [sys.executable, "-m", "benchmarks.speed.memory", hour]
    run = subprocess.run(command + (["--model", model] if model else []), capture_output=True, text=True, check=True)
    first, second = (float(value) for value in run.stdout.split())
    return first, second


def import_seconds(module: str, repeats: int = 7) -> float:
    """Median time to import ``module``, each time in a new process."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(repeats)
    ]
    return float(np.median([float(run.stdout) for run in runs]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hour", choices=["whole", "streamed"], help="one call, or one stream")
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    arguments = parser.parse_args(argv)
    measure = hour_megabytes if arguments.hour == "whole" else streamed_hour_megabytes
    print(*measure(arguments.model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
