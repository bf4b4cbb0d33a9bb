"""Many callers in real time on one core: how late their codes are, and how much of the core they take.

``python -m benchmarks.latency.load --callers 50 --seconds 30`` starts a server on one core and callers on another. Each
caller sends 20 ms of PCM in each message. The codes of each caller are compared with those of the whole. Run it on an
otherwise idle machine: the latencies of a busy one say nothing, while the share of the core stays right.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import speechtok
from benchmarks.arguments import integer_from, one_line_errors, positive
from benchmarks.latency.client import CallResult, ServerProcess, call, running_server, speech_samples


@dataclass
class LoadResult:
    """Outcome of a load.

    Attributes:
        callers: at a time.
        core: share of a core that the server needs to keep up: its processor time by the time of the audio.
        latencies: of all codes after their packet was sent, in seconds.
        server: latencies that the server counted from receipt to the codes on their way: upper bound and count.
        different: callers whose codes differ from those of the whole.
    """

    callers: int
    core: float
    latencies: np.ndarray
    server: list[tuple[float, float]]
    different: int

    def server_percentile(self, share: float) -> float:
        """Upper bound of the server's latency that ``share`` percent do not exceed, in seconds."""
        total = self.server[-1][1]
        return next(bound for bound, count in self.server if count >= share / 100 * total)

    def __str__(self) -> str:
        values = [1e3 * float(np.percentile(self.latencies, share)) for share in (50, 99, 99.9)]
        own = [f"≤ {1e3 * self.server_percentile(share):.1f}" for share in (50, 99, 99.9)]
        return "\n".join(
            [
                "| callers | share of a core | measured | median, ms | 99 %, ms | 99.9 %, ms | with other codes |",
                "|---|---|---|---|---|---|---|",
                f"| {self.callers} | {self.core:.2f} | by the server, from receipt | {' | '.join(own)} | |",
                f"| | | by the callers, from sending | {' | '.join(f'{v:.1f}' for v in values)} | {self.different} |",
            ]
        )


async def _run(server: ServerProcess, callers: int, seconds: float) -> tuple[list[CallResult], float]:
    samples = speech_samples(seconds)
    tasks = [
        asyncio.create_task(call(server.url(), samples, start=1.0 + 0.02 * (index / callers) + 0.2 * (index % 7)))
        for index in range(callers)
    ]
    used = server.cpu_seconds()
    results = await asyncio.gather(*tasks)
    return results, (server.cpu_seconds() - used) / seconds


def load(callers: int, seconds: float, core: int | None = None, agent: str = "none") -> LoadResult:
    """Run callers against a new server."""
    tok = speechtok.load()
    with running_server(["--max-callers", str(callers), "--agent", agent], core) as server:
        results, share = asyncio.run(_run(server, callers, seconds))
        metrics = server.metrics()
    buckets = [
        (float(name.partition('le="')[2].partition('"')[0]), value)
        for name, value in metrics.items()
        if name.startswith("speechtok_latency_seconds_bucket")
    ]
    samples = speech_samples(seconds)
    different = sum(not result.agrees(tok, samples) for result in results[:: max(1, callers // 8)])
    latencies = np.concatenate([result.latencies for result in results])
    return LoadResult(callers, share, latencies, sorted(buckets), different)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--callers", type=integer_from(1), default=50, help="callers at a time (50)")
    parser.add_argument("--seconds", type=positive, default=30.0, help="audio of each caller (30)")
    parser.add_argument("--server-core", type=integer_from(0), help="core of the server (default: all)")
    parser.add_argument("--client-core", type=integer_from(0), help="core of the callers (default: all)")
    arguments = parser.parse_args(argv)
    if arguments.client_core is not None:
        os.sched_setaffinity(0, {arguments.client_core})
    result = load(arguments.callers, arguments.seconds, arguments.server_core)
    print(result)
    return int(result.different > 0)


if __name__ == "__main__":
    sys.exit(main())
