"""A server in a process of its own, and callers that send audio in real time."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import speechtok
from speechtok.errors import InputError
from speechtok.live import wire
from speechtok.live.wire import CodePacking, Control, MessageType

PACKET_SECONDS = 0.02
SAMPLE = Path(speechtok.__file__).parent / "assets" / "sample.flac"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass
class ServerProcess:
    """A running ``speechtok serve``."""

    process: subprocess.Popen[bytes]
    port: int

    def url(self, **options: Any) -> str:
        """Address of a call."""
        return f"ws://127.0.0.1:{self.port}/api/chat?" + "&".join(f"{name}={value}" for name, value in options.items())

    def metrics(self) -> dict[str, float]:
        """All metrics by name and labels, as they are written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def megabytes(self) -> float:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@contextlib.contextmanager
def running_server(
    arguments: Sequence[str] = (), core: int | None = None, log: Path | None = None
) -> Iterator[ServerProcess]:
    """Start a server, and end it afterwards.

    Args:
        arguments: of ``speechtok serve``.
        core: processor core that it may use; all by default.
        log: file for what it writes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "speechtok", "serve", "--port", str(port), *arguments]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            server = ServerProcess(process, port)
            deadline = time.monotonic() + 120
            while True:
                try:
                    server.metrics()
                    break
                except OSError as error:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise InputError(f"the server did not start: {' '.join(command)}") from error
                    time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def speech_samples(seconds: float, sample_rate: int = 16_000) -> np.ndarray:
    """The sample of the package, over and over, as 16-bit PCM."""
    waveform, rate = speechtok.read_audio(SAMPLE)
    assert rate == sample_rate
    pcm = (waveform.numpy() * 32_767).astype("<i2")
    return np.resize(pcm, round(seconds * sample_rate))


@dataclass
class CallResult:
    """What a caller has got.

    Attributes:
        latencies: from the time that a packet went out to the time that its codes were there, in seconds.
        codes: of the first codebooks, ``(Q, T)``.
        sent: samples that went out.
    """

    latencies: list[float] = field(default_factory=list)
    codes: np.ndarray = field(default_factory=lambda: np.zeros((8, 0), np.int64))
    sent: int = 0

    def agrees(self, tok: Any, samples: np.ndarray) -> bool:
        """Whether the codes are those of the whole."""
        expected = tok.encode(samples[: self.sent].astype(np.float32) / 32_768, 16_000).codes[0].numpy()
        return np.array_equal(self.codes, expected)


async def call(url: str, samples: np.ndarray, start: float = 0.0, size: int = 320) -> CallResult:
    """Send samples in real time, a frame in each packet, and take the codes of each."""
    from websockets.asyncio.client import connect

    result, sent_at, parts = CallResult(), [], []
    packing = CodePacking(8, 1_024)
    async with connect(url, max_size=2**24, proxy=None, compression=None, ping_interval=None) as client:

        async def listen() -> None:
            frames = 0
            async for message in client:
                now = time.perf_counter()
                if message[0] == MessageType.CODES:
                    codes = packing.unpack(memoryview(message)[1:])
                    parts.append(codes)
                    for frame in range(frames, frames + codes.shape[1]):
                        if frame < len(sent_at):
                            result.latencies.append(now - sent_at[frame])
                    frames += codes.shape[1]
                elif message[0] == MessageType.METADATA and b"input_audio_buffer.ended" in message:
                    return

        listening = asyncio.create_task(listen())
        await asyncio.sleep(start)
        began = time.perf_counter()
        for place in range(0, len(samples), size):
            due = began + place / 16_000
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            sent_at.append(time.perf_counter())
            await client.send(wire.pack(MessageType.AUDIO, samples[place : place + size].tobytes()))
            result.sent = min(place + size, len(samples))
        await client.send(wire.pack(MessageType.CONTROL, bytes([Control.END_TURN])))
        await asyncio.wait_for(listening, 120)
    result.codes = np.concatenate(parts, 1) if parts else result.codes
    return result
