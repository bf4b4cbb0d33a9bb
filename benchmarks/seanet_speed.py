"""Speed of the published SpeechTokenizer architecture: this package against plain PyTorch modules.

``python -m benchmarks.seanet_speed`` prints a Markdown table. The weights are random, which does not change the speed,
except that an LSTM is faster if it forgets sooner. Wall time and processor time are measured, as other processes may
take part of the machine. The two implementations take turns, and the best round of each counts.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import speechtok
from benchmarks.arguments import integer_from, one_line_errors, positive
from benchmarks.seanet_reference import BASE, Reference, write_published


def best_of(calls: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, float]]:
    """Time several calls in turn.

    Args:
        calls: the calls to time.
        rounds: number of timed rounds, after one round of warm-up.

    Returns:
        The shortest wall time and the shortest processor time of each call, in seconds.
    """
    best = [(math.inf, math.inf)] * len(calls)
    for count in range(rounds + 1):
        for index, call in enumerate(calls):
            wall, processor = time.perf_counter(), time.process_time()
            call()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            if count:
                best[index] = min(best[index][0], wall), min(best[index][1], processor)
    return best


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=positive, default=10.0, help="duration of the audio (10)")
    parser.add_argument("--rounds", type=integer_from(1), default=3, help="timed rounds (3)")
    parser.add_argument("--threads", type=integer_from(1), nargs="+", default=[1, 2], help="PyTorch threads (1 2)")
    arguments = parser.parse_args(argv)
    torch.manual_seed(0)
    reference = Reference(BASE)
    with tempfile.TemporaryDirectory() as directory:
        write_published(reference, BASE, Path(directory))
        tok = speechtok.load(directory)
    waveform = 0.1 * torch.randn(1, int(arguments.seconds * tok.sample_rate))
    print("| threads | | PyTorch, × real time | speechtok, × real time | speed-up | speed-up, processor time |")
    print("|---|---|---|---|---|---|")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            codes = tok.encode(waveform, tok.sample_rate)
            calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "encode": (lambda: reference.encode(waveform), lambda: tok.encode(waveform, tok.sample_rate)),
                "decode": (lambda: reference.decode(codes.codes), lambda: tok.decode(codes)),  # noqa: B023
            }
            for name, pair in calls.items():
                (plain, plain_cpu), (ours, ours_cpu) = best_of(pair, arguments.rounds)
                rates = f"{arguments.seconds / plain:.2f} | {arguments.seconds / ours:.2f}"
                print(f"| {threads} | {name} | {rates} | {plain / ours:.2f} | {plain_cpu / ours_cpu:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
