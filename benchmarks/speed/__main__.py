"""Speed, latency and memory of the tokenizer, offline and streaming, with peers for comparison.

``python -m benchmarks.speed --peers`` prints Markdown tables; ``--plot FILE`` draws them. The peers are EnCodec, Mimi
and DAC as implemented by transformers (the ``lm`` extra), with random weights, which do not change the speed. Run the
command on an otherwise idle machine.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import speechtok
from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.speed.latency import ChunkLatency, chunk_latency
from benchmarks.speed.memory import import_seconds, in_new_process
from benchmarks.speed.plot import plot
from benchmarks.speed.throughput import OfflineSpeed, offline, ours, peers

CHUNK_MS = (20, 40, 80)
"""Chunk lengths of the streaming measurements, in milliseconds."""


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    parser.add_argument("--peers", action="store_true", help="also measure EnCodec, Mimi and DAC")
    parser.add_argument("--chunks", type=integer_from(1), default=1000, help="chunks per streaming measurement (1000)")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    arguments = parser.parse_args(argv)
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
    encode_mb, decode_mb = in_new_process(arguments.model, "whole")
    print(f"one hour in one call: {encode_mb:.0f} MB to encode, {decode_mb:.0f} MB to encode and decode")
    held, grown = in_new_process(arguments.model, "streamed")
    print(f"one hour in a stream: {held:.2f} MB of state; the process grows by {grown:.1f} MB after the first minute")
    if arguments.plot:
        plot(rows, latencies, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
