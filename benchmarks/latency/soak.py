"""Soak test of the server: callers who talk, and callers who vanish, send garbage, flood, stall or never finish.

``python -m benchmarks.latency.soak --minutes 30`` starts a server. Good callers come and go, and the codes of each are
compared with those of the whole. Bad callers do one of six mischiefs, over and over. Memory of the server is sampled.
The exit status is 1 if the codes of a good caller differ, if the server dies or writes a traceback, or if it keeps
connections or rows at the end.
"""

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

import speechtok
from benchmarks.arguments import integer_from, one_line_errors, positive
from benchmarks.latency.client import CallResult, ServerProcess, call, running_server, speech_samples
from speechtok.live import wire
from speechtok.live.wire import MessageType

WARM_UP = 0.2
"""Share of the time before memory is compared."""
AGENTS = "none", "none", "loopback", "repeat", "scripted"


@dataclass
class SoakResult:
    """Outcome of a soak.

    Attributes:
        good: calls of good callers.
        different: of these, with codes that differ from those of the whole.
        broken: of these, that ended with an error.
        mischiefs: what bad callers did, how often.
        memory: seconds since the start, and resident megabytes of the server.
        latencies: of good callers, in seconds.
        metrics: of the server at the end.
        tracebacks: in what the server wrote.
    """

    good: int = 0
    different: int = 0
    broken: int = 0
    mischiefs: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    tracebacks: int = 0

    @property
    def failed(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.different or self.broken or self.tracebacks or self.metrics.get("speechtok_callers", 1.0))

    def growth(self) -> tuple[float, float]:
        """Growth of memory after the warm-up, in megabytes an hour by a fitted line; and its range."""
        end = self.memory[-1][0]
        times, sizes = np.array([m for m in self.memory if m[0] >= WARM_UP * end]).T
        slope = float(np.polyfit(times, sizes, 1)[0]) * 3600 if len(times) > 1 else 0.0
        return slope, float(np.ptp(sizes))

    def __str__(self) -> str:
        slope, spread = self.growth()
        memory = f"{self.memory[-1][1]:.1f} MB, {slope:+.2f} MB an hour, range {spread:.1f} MB after the warm-up"
        shares = [1e3 * float(np.percentile(self.latencies or [0.0], share)) for share in (50, 99)]
        counted = {
            name: value
            for name, value in sorted(self.metrics.items())
            if value and name.startswith(("speechtok_refused_total", "speechtok_closed_total", "speechtok_malformed"))
        }
        return "\n".join(
            [
                f"{self.good} calls of good callers: {self.different} with other codes, {self.broken} broken",
                f"mischiefs: {', '.join(f'{name} {n}' for name, n in sorted(self.mischiefs.items()))}",
                f"memory: {memory}",
                f"codes after sending: median {shares[0]:.1f} ms, 99 % {shares[1]:.1f} ms",
                f"tracebacks: {self.tracebacks}; callers left: {self.metrics.get('speechtok_callers', -1):g}",
                *(f"  {name} {value:g}" for name, value in counted.items()),
            ]
        )


async def vanish(server: ServerProcess, rng: random.Random) -> None:
    """Cut the connection in the middle, without a word."""
    async with connect(server.url(agent=rng.choice(AGENTS)), proxy=None, compression=None) as client:
        for _ in range(rng.randrange(100)):
            await client.send(wire.pack(MessageType.AUDIO, rng.randbytes(640)))
            await asyncio.sleep(0.02)
        client.transport.abort()


async def garbage(server: ServerProcess, rng: random.Random) -> None:
    """Send messages without meaning, until the server has enough."""
    formats = rng.choice(("pcm", "float", "opus", "ogg", "codes"))
    async with connect(server.url(audio=formats, sequenced=rng.randrange(2)), proxy=None, compression=None) as client:
        for _ in range(200):
            kind = rng.choice((b"", *(bytes([n]) for n in range(9))))
            await client.send(kind + rng.randbytes(rng.choice((0, 1, 3, 40, 641, 5_000))))
            await asyncio.sleep(0.005)


async def flood(server: ServerProcess, rng: random.Random) -> None:
    """Send as fast as the server reads."""
    async with connect(server.url(agent=rng.choice(AGENTS)), proxy=None, compression=None) as client:
        end = time.monotonic() + rng.uniform(1, 6)
        reading = asyncio.create_task(_read(client))
        while time.monotonic() < end:
            await client.send(wire.pack(MessageType.AUDIO, rng.randbytes(rng.choice((640, 32_000)))))
        reading.cancel()


async def oversize(server: ServerProcess, rng: random.Random) -> None:
    """Send a message that is too long."""
    async with connect(server.url(), proxy=None, compression=None) as client:
        await client.send(b"\x01" + bytes(rng.randrange(70_000, 5_000_000)))
        await client.recv()
        await client.recv()
        await client.recv()


async def stall(server: ServerProcess, rng: random.Random) -> None:
    """Ask for much, and read nothing; or say nothing at all."""
    options = {"agent": "loopback", "out": "float"}
    async with connect(server.url(**options), proxy=None, compression=None, ping_interval=None) as client:
        client.transport.pause_reading()
        for _ in range(rng.randrange(400)):
            await asyncio.wait_for(client.send(wire.pack(MessageType.AUDIO, rng.randbytes(640))), 5)
            await asyncio.sleep(0.02)
        await asyncio.sleep(rng.uniform(0, 10))
        client.transport.abort()


async def slow_loris(server: ServerProcess, rng: random.Random) -> None:
    """Send a request byte by byte, and never its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with contextlib.suppress(OSError):
        for byte in b"GET /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.2)
            if reader.at_eof():
                break
    writer.close()


async def _read(client: ClientConnection) -> None:
    with contextlib.suppress(OSError, WebSocketException):
        async for _ in client:
            pass


MISCHIEFS: tuple[Callable[[ServerProcess, random.Random], Awaitable[None]], ...] = (
    vanish,
    garbage,
    flood,
    oversize,
    stall,
    slow_loris,
)


async def _load(server: ServerProcess) -> None:
    """Have the server load what it loads once, so that it does not look like a leak: FFmpeg, and the agents' speech."""
    for agent in sorted({*AGENTS} - {"none"}):
        async with connect(server.url(audio="opus", out="opus", agent=agent), proxy=None, compression=None) as client:
            await client.recv()


async def soak(server: ServerProcess, seconds: float, good: int, bad: int, seed: int) -> SoakResult:
    """Let callers talk and misbehave for some time."""
    result, end, began = SoakResult(), time.monotonic() + seconds, time.monotonic()
    tok = speechtok.load()
    samples = speech_samples(8.0)
    await _load(server)

    async def talk(index: int) -> None:
        rng = random.Random(seed * 1_000 + index)
        while time.monotonic() < end:
            place = rng.randrange(len(samples) // 2)
            part = samples[place : place + rng.randrange(8_000, 64_000)]
            outcome: CallResult
            try:
                outcome = await call(
                    server.url(agent=rng.choice(AGENTS)), part, rng.random(), rng.choice((320, 320, 200))
                )
            except (OSError, WebSocketException, TimeoutError) as error:
                result.broken += 1
                print(f"a good caller: {error!r}", file=sys.stderr)
                continue
            result.good += 1
            result.different += not outcome.agrees(tok, part)
            result.latencies = [*result.latencies[-200_000:], *outcome.latencies]

    async def misbehave(index: int) -> None:
        rng = random.Random(seed * 1_000 + 500 + index)
        while time.monotonic() < end:
            mischief = MISCHIEFS[(index + result.mischiefs.total()) % len(MISCHIEFS)]
            result.mischiefs[mischief.__name__] += 1
            with contextlib.suppress(OSError, WebSocketException, TimeoutError, asyncio.TimeoutError, EOFError):
                await asyncio.wait_for(mischief(server, rng), 60)
            await asyncio.sleep(rng.random())

    async def watch() -> None:
        while time.monotonic() < end:
            result.memory.append((time.monotonic() - began, server.megabytes()))
            await asyncio.sleep(max(0.5, seconds / 500))

    await asyncio.gather(watch(), *map(talk, range(good)), *map(misbehave, range(bad)))
    deadline = time.monotonic() + 90  # who vanished is noticed after two pings
    while (await asyncio.to_thread(server.metrics))["speechtok_callers"] and time.monotonic() < deadline:
        await asyncio.sleep(1)
    result.memory.append((time.monotonic() - began, server.megabytes()))
    result.metrics = await asyncio.to_thread(server.metrics)
    return result


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=positive, default=30.0, help="duration (30)")
    parser.add_argument("--good", type=integer_from(1), default=8, help="good callers at a time (8)")
    parser.add_argument("--bad", type=integer_from(0), default=6, help="bad callers at a time (6)")
    parser.add_argument("--server-core", type=integer_from(0), help="core of the server (default: all)")
    parser.add_argument("--client-core", type=integer_from(0), help="core of the callers (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if arguments.client_core is not None:
        os.sched_setaffinity(0, {arguments.client_core})
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with running_server([], arguments.server_core, log) as server:
            result = asyncio.run(soak(server, 60 * arguments.minutes, arguments.good, arguments.bad, arguments.seed))
        text = log.read_text(errors="replace")
        result.tracebacks = text.count("Traceback")
        if result.tracebacks:
            print(text[-5_000:], file=sys.stderr)
    print(f"{arguments.good} good and {arguments.bad} bad callers, {arguments.minutes:g} minutes\n\n{result}")
    return int(result.failed)


if __name__ == "__main__":
    sys.exit(main())
