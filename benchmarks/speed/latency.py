"""Latency of streaming."""

import time
from dataclasses import dataclass

import numpy as np
import torch

import speechtok
from benchmarks.speed.noise import noise

WARM_UP_CHUNKS = 20


@dataclass(frozen=True)
class ChunkLatency:
    """Time to encode a chunk and to decode the resulting codes.

    Attributes:
        threads: PyTorch threads.
        batch: batch size of the stream.
        chunk_ms: length of a chunk, in milliseconds.
        milliseconds: time of each chunk, in order.
    """

    threads: int
    batch: int
    chunk_ms: int
    milliseconds: np.ndarray

    def percentile(self, share: float) -> float:
        """Latency that ``share`` percent of the chunks do not exceed."""
        return float(np.percentile(self.milliseconds, share))


def chunk_latency(
    tok: speechtok.ConvNeXtTokenizer, threads: int, batch: int, chunk_ms: int, chunks: int
) -> ChunkLatency:
    """Encode and decode ``chunks`` chunks in one stream, after :data:`WARM_UP_CHUNKS` more."""
    torch.set_num_threads(threads)
    length = tok.sample_rate * chunk_ms // 1000
    waveform = noise(batch, length * (chunks + WARM_UP_CHUNKS))
    durations = []
    with tok.stream(batch) as stream:
        for chunk in waveform.split(length, 1):
            start = time.perf_counter()
            stream.decode(stream.encode(chunk))
            durations.append(time.perf_counter() - start)
    return ChunkLatency(threads, batch, chunk_ms, np.array(durations[WARM_UP_CHUNKS:]) * 1000)
