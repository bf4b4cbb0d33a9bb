"""Questions to a server whose agent is a stub of known speed."""

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

import speechtok
from benchmarks.latency.client import PACKET_SECONDS, speech_samples
from benchmarks.latency.waterfall import Part, Waterfall
from speechtok.live import wire
from speechtok.live.agents import Agents
from speechtok.live.config import ServerConfig
from speechtok.live.conversation import Turn
from speechtok.live.server import LiveServer
from speechtok.live.serving import make_server
from speechtok.live.wire import CodePacking, MessageType

FORMATS = "pcm", "codes", "opus"
QUESTION_SECONDS = 2.0
SILENCE_SECONDS = 3.0


@dataclass(frozen=True)
class Stub:
    """A model that writes random codes at a given speed.

    Attributes:
        prefill: seconds to the first frame.
        frame: seconds for each further frame.
        completion: seconds to complete the acoustic codes of a frame.
    """

    prefill: float
    frame: float
    completion: float

    def answer(self, calls: list[list[float]], num_codebooks: int) -> Any:
        """An answer that notes when it was called, and when it gave the second frame, as the decoder needs two."""

        def write(turn: Turn | None) -> Iterator[Tensor]:
            stamps = [time.perf_counter()]
            calls.append(stamps)
            for index in range(25):
                time.sleep((self.frame if index else self.prefill) + self.completion)
                if index < 2:
                    stamps.append(time.perf_counter())
                yield torch.randint(1_024, (num_codebooks, 1))

        return write


def measure(format_: str, questions: int, stub: Stub) -> Waterfall:
    """Ask questions one after the other, over one connection each, and take the parts of the time to the answers."""
    tok = speechtok.load()
    calls: list[list[float]] = []
    live = LiveServer(tok, ServerConfig())
    live.agents = _StubAgents(tok, stub.answer(calls, tok.num_codebooks))
    server = make_server(live, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    samples = speech_samples(QUESTION_SECONDS)
    rows = []
    context = multiprocessing.get_context("spawn")
    try:
        for _ in range(questions):
            here, there = context.Pipe()
            caller = context.Process(target=_ask, args=(port, format_, samples, there), daemon=True)
            caller.start()
            rows.append(here.recv())
            caller.join()
    finally:
        server.should_exit = True
        thread.join()
    parts: dict[str, list[float]] = {}
    for (asked, decided, heard, round_trip), stamps in zip(rows, calls, strict=True):
        called, first, second = stamps
        up, down = called - decided, heard - second
        values = {
            "end-of-turn wait": decided - asked,
            "transport, both ways": min(round_trip, up + down),
            "server: encode, detect, decode": max(0.0, up + down - round_trip),
            "model: first frame": first - called - stub.completion,
            "completion of two frames": 2 * stub.completion,
            "codec: second frame, for the decoder": second - first - stub.completion,
        }
        for name, value in values.items():
            parts.setdefault(name, []).append(value)
    added = "transport, both ways", "server: encode, detect, decode"
    return Waterfall(f"speechtok, {format_}", [Part(name, seconds, name in added) for name, seconds in parts.items()])


class _StubAgents(Agents):
    """Agents of which one is the stub."""

    def __init__(self, tokenizer: Any, answer: Any) -> None:
        super().__init__(tokenizer)
        self._answers["stub"] = answer
        self.names = (*self.names, "stub")


def _ask(port: int, format_: str, samples: np.ndarray, result: Connection) -> None:
    """One question, in a process of its own; the clock is that of the machine."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    url = (
        f"ws://127.0.0.1:{port}/api/chat?agent=stub&echo=0&audio={format_}&out={'pcm' if format_ == 'pcm' else format_}"
    )
    silence = np.zeros(round(SILENCE_SECONDS * 16_000), "<i2")
    payloads, kind = _payloads(format_, np.concatenate([samples, silence]))
    with connect(url, proxy=None, compression=None, max_size=2**24) as client:
        client.recv(), client.recv()
        round_trips = []
        for _ in range(10):
            began = time.perf_counter()
            client.send(wire.pack(MessageType.PING, bytes(640)))
            client.recv()
            round_trips.append(time.perf_counter() - began)
        sent: list[float] = []

        def send() -> None:
            began = time.perf_counter()
            for index, payload in enumerate(payloads):
                time.sleep(max(0.0, began + index * PACKET_SECONDS - time.perf_counter()))
                sent.append(time.perf_counter())
                with contextlib.suppress(ConnectionClosed):  # the answer has come
                    client.send(wire.pack(kind, payload))

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        decided, heard, frames = None, 0.0, 0
        while True:
            message = client.recv(timeout=30)
            now = time.perf_counter()
            if message[0] == MessageType.METADATA and b"input_audio_buffer.committed" in message:
                decided = wire.unpack_metadata(memoryview(message)[1:])["detected"]
            if decided is not None and message[0] == MessageType.AUDIO:
                heard = now
                break
            # with out=codes, all codes are the agent's; a decoder has audio once it has two frames
            if decided is not None and message[0] == MessageType.CODES and format_ == "codes":
                frames += (len(message) - 1) // CodePacking(8, 1_024).frame_bytes
                if frames >= 2:
                    heard = now
                    break
        last = len(samples) // 320 - 1
        result.send((sent[last], sent[decided], heard, float(np.median(round_trips))))
        client.close()


def _payloads(format_: str, samples: np.ndarray) -> tuple[list[bytes], MessageType]:
    if format_ == "pcm":
        return [samples[place : place + 320].tobytes() for place in range(0, len(samples), 320)], MessageType.AUDIO
    if format_ == "opus":
        from speechtok.live.formats import OpusWriter

        return OpusWriter(16_000).write(samples.astype(np.float32) / 32_768), MessageType.AUDIO
    codes = speechtok.load().encode(samples, 16_000).codes[0].numpy()
    packing = CodePacking(len(codes), 1_024)
    return [packing.pack(codes[:, frame : frame + 1]) for frame in range(codes.shape[1])], MessageType.CODES
