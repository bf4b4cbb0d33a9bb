"""Speed, latency and memory of the tokenizer, offline and streaming, with peers for comparison.

``python -m benchmarks.speed --peers`` prints Markdown tables; ``--plot FILE`` draws them. The peers are EnCodec, Mimi
and DAC as implemented by transformers (the ``lm`` extra), with random weights, which do not change the speed. Run the
command on an otherwise idle machine.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import speechtok
from benchmarks.arguments import integer_from, one_line_errors

CHUNK_MS = (20, 40, 80)
"""Chunk lengths of the streaming measurements, in milliseconds."""

WARM_UP_CHUNKS = 20


@dataclass(frozen=True)
class Codec:
    """A codec to time.

    Attributes:
        name: for the table.
        sample_rate: in hertz.
        encode: encodes ``(B, S)``.
        decode: decodes the output of ``encode``.
    """

    name: str
    sample_rate: int
    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], Any]


@dataclass(frozen=True)
class OfflineSpeed:
    """Throughput in seconds of audio per second.

    Attributes:
        codec: name of the codec.
        threads: PyTorch threads.
        batch: batch size ``B``.
        encode: encoding, as a multiple of real time.
        decode: decoding, as a multiple of real time.
    """

    codec: str
    threads: int
    batch: int
    encode: float
    decode: float


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


def ours(model: str | None) -> Codec:
    """A tokenizer of this package, with all codebooks."""
    tok = speechtok.load(model)
    return Codec("speechtok", tok.sample_rate, lambda x: tok.encode(x, tok.sample_rate), tok.decode)


def peers() -> list[Codec]:
    """EnCodec, Mimi and DAC of transformers, at 6, 1.1 and 6 kbit/s.

    They are called directly. The wrappers of :mod:`speechtok.codecs` encode the rows of a batch one by one, as these
    models do not mask padding, which would make batches slower than necessary.
    """
    from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

    encodec = EncodecModel(EncodecConfig()).eval()
    mimi = MimiModel(MimiConfig()).eval()
    dac = DacModel(DacConfig(sampling_rate=16_000, n_codebooks=12, downsampling_ratios=[2, 4, 5, 8])).eval()
    return [
        Codec(
            "EnCodec",
            24_000,
            lambda x: encodec.encode(x[:, None], bandwidth=6.0),
            lambda e: encodec.decode(e.audio_codes, e.audio_scales),
        ),
        Codec(
            "Mimi",
            24_000,
            lambda x: mimi.encode(x[:, None], num_quantizers=8),
            lambda e: mimi.decode(e.audio_codes),
        ),
        Codec(
            "DAC",
            16_000,
            lambda x: dac.encode(x[:, None]),
            lambda e: dac.decode(e.quantized_representation),
        ),
    ]


def median_seconds(call: Callable[[], object], min_runs: int = 3, min_seconds: float = 1.0) -> float:
    """Median duration of a call, after one run of warm-up.

    Args:
        call: the call to time.
        min_runs: smallest number of timed runs; one is enough for calls of more than 10 s.
        min_seconds: smallest total duration of the timed runs.
    """
    start = time.perf_counter()
    call()
    if time.perf_counter() - start > 10:
        min_runs = 1
    durations: list[float] = []
    while len(durations) < min_runs or sum(durations) < min_seconds:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))


@torch.no_grad()
def offline(codec: Codec, threads: int, batch: int, seconds: float) -> OfflineSpeed:
    """Measure the throughput of whole utterances of ``seconds``."""
    torch.set_num_threads(threads)
    waveform = noise(batch, int(seconds * codec.sample_rate))
    encoded = codec.encode(waveform)
    encode = median_seconds(lambda: codec.encode(waveform))
    decode = median_seconds(lambda: codec.decode(encoded))
    return OfflineSpeed(codec.name, threads, batch, batch * seconds / encode, batch * seconds / decode)


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


def noise(batch: int, samples: int) -> Tensor:
    """Low-level noise, ``(B, S)``."""
    return (torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)) * 0.05).clamp(-1, 1)


def import_seconds(module: str, repeats: int = 7) -> float:
    """Median time to import ``module``, each time in a new process."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(repeats)
    ]
    return float(np.median([float(run.stdout) for run in runs]))


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


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    parser.add_argument("--peers", action="store_true", help="also measure EnCodec, Mimi and DAC")
    parser.add_argument("--chunks", type=integer_from(1), default=1000, help="chunks per streaming measurement (1000)")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    parser.add_argument("--hour", choices=["whole", "streamed"], help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.hour:
        measure = hour_megabytes if arguments.hour == "whole" else streamed_hour_megabytes
        print(*measure(arguments.model))
        return 0
    threads = sorted({1, min(2, os.cpu_count() or 1)})
    tok = speechtok.load(arguments.model)
    latencies: list[ChunkLatency] = []
    print("| threads | batch | chunk, ms | encode + decode, ms: median | p99 | maximum |\n|---|---|---|---|---|---|")
    for count in threads:
        for batch in (1, 16):
            for chunk_ms in CHUNK_MS:
                latency = chunk_latency(tok, count, batch, chunk_ms, arguments.chunks)
                latencies.append(latency)
                values = " | ".join(f"{latency.percentile(share):.2f}" for share in (50, 99, 100))
                print(f"| {count} | {batch} | {chunk_ms} | {values} |", flush=True)
    codecs = [ours(arguments.model), *(peers() if arguments.peers else [])]
    rows: list[OfflineSpeed] = []
    print("\n| threads | audio | codec | encode, × real time | decode, × real time | speechtok is faster by |")
    print("|---|---|---|---|---|---|")
    for count in threads:
        # peers would take minutes for 16 × 10 s
        for batch, seconds in ((1, 10.0), (16, 2.0)):
            for codec in codecs:
                row = offline(codec, count, batch, seconds)
                rows.append(row)
                own = rows[-1 - codecs.index(codec)]
                faster = "" if own is row else f"{own.encode / row.encode:.0f} ×, {own.decode / row.decode:.0f} ×"
                audio = f"{batch} × {seconds:.0f} s"
                print(
                    f"| {count} | {audio} | {codec.name} | {row.encode:.3g} | {row.decode:.3g} | {faster} |", flush=True
                )
    delay = 1000 * (tok.hop_length + tok.lookahead) / tok.sample_rate
    print(f"\nalgorithmic latency, frame and lookahead: {delay:.0f} ms")
    bare, whole = import_seconds("torch"), import_seconds("speechtok")
    print(f"import speechtok: {whole:.2f} s, of which import torch {bare:.2f} s")
    encode_mb, decode_mb = _in_fresh_process(arguments.model, "whole")
    print(f"one hour in one call: {encode_mb:.0f} MB to encode, {decode_mb:.0f} MB to encode and decode")
    held, grown = _in_fresh_process(arguments.model, "streamed")
    print(f"one hour in a stream: {held:.2f} MB of state; the process grows by {grown:.1f} MB after the first minute")
    if arguments.plot:
        plot(rows, latencies, arguments.plot)
    return 0


def _in_fresh_process(model: str | None, hour: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.speed", "--hour", hour]
    run = subprocess.run(command + (["--model", model] if model else []), capture_output=True, text=True, check=True)
    first, second = (float(value) for value in run.stdout.split())
    return first, second


if __name__ == "__main__":
    sys.exit(main())
