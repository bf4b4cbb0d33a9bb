"""What turn detection costs, in percent of encoding, measured in turns with it in one process."""

import time
from collections.abc import Callable

import numpy as np
import torch

from speechtok import ConvNeXtTokenizer

ROUNDS = 15


def measure_prices(tokenizer: ConvNeXtTokenizer, seconds: float = 10.0) -> dict[str, float]:
    """CPU time of encoding with events, in percent more than without: medians of interleaved rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    waveform = torch.from_numpy(0.05 * rng.standard_normal(round(seconds * tokenizer.sample_rate)).astype(np.float32))
    detector = tokenizer.turn_detector()

    def whole(events: bool) -> Callable[[], object]:
        def encode() -> object:
            tokens = tokenizer.encode(waveform, tokenizer.sample_rate)
            return detector.detect(tokens) if events else tokens

        return encode

    def streamed(rows: int, frames: int, events: bool) -> Callable[[], object]:
        stream = tokenizer.stream(batch_size=rows)
        chunk = waveform[: frames * tokenizer.hop_length].expand(rows, -1).contiguous()
        return lambda: [stream.encode(chunk, events=events) for _ in range(20)]

    cases = {
        f"whole, {seconds:g} s": whole,
        "stream, 1 row, 20 ms": lambda events: streamed(1, 1, events),
        "stream, 1 row, 80 ms": lambda events: streamed(1, 4, events),
        "stream, 16 rows, 20 ms": lambda events: streamed(16, 1, events),
    }
    try:
        return {name: _percent(make(False), make(True)) for name, make in cases.items()}
    finally:
        torch.set_num_threads(threads)


def _percent(without: Callable[[], object], with_events: Callable[[], object]) -> float:
    without(), with_events()
    ratios = []
    for _ in range(ROUNDS):
        first = _cpu_seconds(without)
        ratios.append(_cpu_seconds(with_events) / first)
    return 100 * (float(np.median(ratios)) - 1)


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
