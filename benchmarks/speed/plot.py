"""Figure of the results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.speed.latency import ChunkLatency
from benchmarks.speed.throughput import OfflineSpeed


def plot(rows: Sequence[OfflineSpeed], latencies: Sequence[ChunkLatency], path: Path) -> None:
    """Draw throughput and chunk latencies, on one thread at batch size 1, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    rows = [row for row in rows if row.threads == 1 and row.batch == 1]
    for offset, part in ((-0.2, "encode"), (0.2, "decode")):
        bars = left.bar(np.arange(len(rows)) + offset, [getattr(row, part) for row in rows], 0.4, label=part)
        left.bar_label(bars, fmt="%.3g")
    left.set_xticks(range(len(rows)), [row.codec for row in rows])
    left.set(yscale="log", ylabel="× real time", title="10 s of audio, one thread, batch 1")
    left.legend()
    for latency in latencies:
        if latency.threads == 1 and latency.batch == 1:
            shares = np.linspace(0, 100, 400)
            right.plot(np.percentile(latency.milliseconds, shares), shares, label=f"{latency.chunk_ms} ms chunks")
    right.set(
        xscale="log", xlabel="encode + decode of a chunk, ms", ylabel="% of the chunks", title="Streaming, one thread"
    )
    right.legend()
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
