"""One connection: messages to the engine, and outputs to messages."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from starlette.websockets import WebSocket, WebSocketDisconnect

from speechtok.audio import check_sample_rate
from speechtok.errors import InputError, SpeechtokError, quoted
from speechtok.live import wire
from speechtok.live.agents import Agents
from speechtok.live.config import ServerConfig
from speechtok.live.conversation import Conversation
from speechtok.live.engine import Engine, Output, Row
from speechtok.live.formats import FORMATS, make_reader, make_writer
from speechtok.live.metrics import ServerMetrics
from speechtok.live.packets import Concealment, PacketCounts, PacketOrder
from speechtok.live.playback import Interruption
from speechtok.live.speaking import Speaker
from speechtok.live.turns import TurnEvent
from speechtok.live.wire import Control, MessageError, MessageType

PROBABILITIES_EVERY = 5
"""Frames of one message with probabilities."""


class CallEndedError(Exception):
    """The server ends a connection.

    Args:
        reason: for the metrics.
        code: of the WebSocket protocol.
        text: for the client.
    """

    def __init__(self, reason: str, code: int, text: str) -> None:
        super().__init__(text)
        self.reason, self.code, self.text = reason, code, text


@dataclass(frozen=True)
class CallOptions:
    """What a client asks for in the query of the address.

    Attributes:
        audio: format of the audio that it sends.
        sample_rate: of that audio, in hertz.
        out: format of the audio that it gets; "none" for no audio.
        codes: whether it gets the codes of its audio.
        codebooks: of these codes.
        agent: who answers.
        sequenced: whether its audio and codes have timestamps.
        probabilities: whether it gets the probabilities of frames.
        echo: whether its microphone may hear the agent.
    """

    audio: str = "pcm"
    sample_rate: int = 16_000
    out: str = "pcm"
    codes: bool = True
    codebooks: int = 8
    agent: str = "none"
    sequenced: bool = False
    probabilities: bool = False
    echo: bool = True

    @classmethod
    def parse(cls, query: Mapping[str, str], agents: Agents, sample_rate: int, num_codebooks: int) -> "CallOptions":
        """Read the query of an address.

        Raises:
            InputError: an option is unknown or out of range.
        """
        given: dict[str, Any] = {"sample_rate": sample_rate, "codebooks": num_codebooks, "agent": agents.default}
        for name, text in query.items():
            if name not in cls.__dataclass_fields__:
                raise InputError(f"option {quoted(name)} is unknown; expected {', '.join(cls.__dataclass_fields__)}")
            if name in ("audio", "out", "agent"):
                choices = {"audio": FORMATS, "out": (*FORMATS, "none"), "agent": agents.names}[name]
                if text not in choices:
                    raise InputError(f"{name} is {quoted(text)}; expected {', '.join(choices)}")
                given[name] = text
            elif name in ("sample_rate", "codebooks"):
                if not (text.isascii() and text.isdigit() and len(text) <= 6):
                    raise InputError(f"{name} is {quoted(text)}; expected a whole number")
                given[name] = int(text)
            elif text not in ("0", "1"):
                raise InputError(f"{name} is {quoted(text)}; expected 0 or 1")
            else:
                given[name] = text == "1"
        # one type of messages cannot have both the user's codes and the agent's
        if given.get("out") == "codes" and given.setdefault("codes", False):
            raise InputError("out is 'codes' and codes is 1; expected codes=0: the codes are those of the agent")
        options = cls(**given)
        check_sample_rate(options.sample_rate)
        if not 1 <= options.codebooks <= num_codebooks:
            raise InputError(f"codebooks is {options.codebooks}; expected 1 to {num_codebooks}")
        return options


@dataclass
class Played:
    """What a client has said about its loudspeaker."""

    sent: int = 0
    told: int = 0
    waiting: list[tuple[Interruption, int]] = field(default_factory=list)


class Caller:
    """Serves one connection that was accepted.

    Args:
        websocket: the connection.
        options: that the client asked for.
        engine: that computes.
        agents: who may answer.
        config: of the server.
        metrics: of the server.
    """

    def __init__(
        self,
        websocket: WebSocket,
        options: CallOptions,
        engine: Engine,
        agents: Agents,
        config: ServerConfig,
        metrics: ServerMetrics,
    ) -> None:
        self._websocket, self._options, self._engine = websocket, options, engine
        self._agents, self._config, self._metrics = agents, config, metrics
        self._loop = asyncio.get_running_loop()
        self._tokenizer = tok = engine.tokenizer
        self._rate = tok.sample_rate
        is_codes = options.audio == "codes"
        self._reader = None if is_codes else make_reader(options.audio, options.sample_rate)
        self._writer = None if options.out in ("codes", "none") else make_writer(options.out, tok.sample_rate)
        self._packing = wire.CodePacking(options.codebooks, tok.codebook_size)
        self._all_codebooks = wire.CodePacking(tok.num_codebooks, tok.codebook_size)
        rate = tok.frame_rate if self._reader is None else self._reader.sample_rate
        self._order = PacketOrder(rate) if options.sequenced else None
        self._concealment = Concealment(round(rate)) if options.sequenced and self._reader is not None else None
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._has_output = asyncio.Event()
        self._drained = asyncio.Event()
        self._errors = 0
        self._budget = config.burst
        self._budget_time = self.last_heard = time.monotonic()
        self._ended: CallEndedError | None = None
        self._played = Played()
        self._probabilities: list[list[float]] = []
        self._probability_frame = 0
        self._last: np.ndarray | None = None  # codes, for those that are lost

    @property
    def counts(self) -> PacketCounts | None:
        """Of a sequenced connection."""
        return None if self._order is None else self._order.counts

    async def run(self) -> str:
        """Serve the connection to its end, and return the reason of the end."""
        row = self._engine.open(self._engine_rate, self._options.codebooks, self._deliver)
        if row is None:
            raise CallEndedError("full", 1013, "all lines are busy; try again later")
        self._send(wire.pack_handshake(0))
        self._send(wire.pack_metadata(self._description()))
        self._converse(row)
        tasks = [asyncio.create_task(self._receive(row)), asyncio.create_task(self._transmit())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return "client"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            tasks.clear()  # their exceptions refer to this frame, and this frame to them
            row.close()
            self._count_packets()

    def end(self, ended: CallEndedError) -> None:
        """End the connection, from outside."""
        if self._ended is None:
            self._ended = ended
            self._has_output.set()
            self._drained.set()

    @property
    def _engine_rate(self) -> int:
        return self._rate if self._reader is None else self._reader.sample_rate

    def _description(self) -> dict[str, Any]:
        tok, options = self._tokenizer, self._options
        return {
            "type": "session.created",
            "fingerprint": tok.fingerprint,
            "sample_rate": tok.sample_rate,
            "hop_length": tok.hop_length,
            "num_codebooks": tok.num_codebooks,
            "codebook_size": tok.codebook_size,
            "codebooks": options.codebooks,
            "audio": options.audio,
            "input_sample_rate": self._engine_rate,
            "out": options.out,
            "agent": options.agent,
            "agents": [name for name in self._agents.names if name != "none"],
        }

    def _converse(self, row: Row) -> None:
        """Give a caller with an agent a conversation."""
        options, tok = self._options, self._tokenizer
        if options.agent == "none" and not options.probabilities:
            return
        loops = options.agent == "loopback"
        speaker = Speaker(tok.num_codebooks, tok.codebook_size, tok.made)
        lead = round(self._config.lead * tok.sample_rate) if options.agent != "none" else 0
        conversation = Conversation(
            tok,
            speaker,
            self._config.policy,
            cancel_echo=options.echo and not loops and options.agent != "none",
            interrupt_after=None if loops else 0.04,
            lead=lead,
            fade=False,
        )
        conversation.on_change(row.wake)
        row.lead = lead
        row.agent = None if options.agent == "none" else self._agents.make(options.agent, conversation)
        row.conversation = conversation

    # --- from the client

    async def _receive(self, row: Row) -> None:
        """Read messages, no faster than they can be used."""
        while True:
            message = await self._websocket.receive()
            if self._ended is not None:
                raise self._ended
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            self.last_heard = time.monotonic()
            data = message.get("bytes")
            try:
                if data is None:
                    raise MessageError("a text message came; expected binary messages of a type byte and a payload")
                self._take(row, data)
            except SpeechtokError as error:
                self._refuse(error)
            await self._wait_for_room(row)

    def _take(self, row: Row, data: bytes) -> None:
        kind, payload = wire.unpack(data)
        if kind is None:
            self._metrics.unknown.inc()
            return
        _count(self._metrics, "in", kind, len(data))
        if kind is MessageType.AUDIO or kind is MessageType.CODES:
            self._take_media(row, kind, payload)
        elif kind is MessageType.CONTROL:
            self._take_control(row, wire.unpack_control(payload))
        elif kind is MessageType.METADATA:
            self._take_metadata(row, wire.unpack_metadata(payload))
        elif kind is MessageType.PING:
            self._send(data)

    def _take_media(self, row: Row, kind: MessageType, payload: memoryview) -> None:
        expected = MessageType.CODES if self._reader is None else MessageType.AUDIO
        if kind is not expected:
            raise MessageError(
                f"a message of type {kind.name} came; expected {expected.name}, as the connection was opened with "
                f"audio={self._options.audio}"
            )
        timestamp = 0
        if self._order is not None:
            timestamp, payload = wire.split_timestamp(payload)
        media = self._packing.unpack(payload) if self._reader is None else self._reader.read(payload)
        if not media.shape[-1]:
            return
        self._budget -= media.shape[-1] / (
            self._tokenizer.frame_rate if self._reader is None else self._reader.sample_rate
        )
        if self._order is None:
            self._forward(row, media)
            return
        for gap, part in self._order.push(timestamp, media):
            self._conceal(row, gap)
            if self._concealment is not None:
                self._concealment.heard(part)
            self._forward(row, part)
            self._last = part

    def _conceal(self, row: Row, gap: int) -> None:
        """Fill what was lost: audio by its last period, codes by the last frame."""
        if gap and self._concealment is not None:
            self._forward(row, self._concealment.fill(gap))
        elif gap and self._last is not None:
            self._forward(row, np.repeat(self._last[:, -1:], gap, 1))

    def _forward(self, row: Row, media: np.ndarray) -> None:
        if self._reader is None:
            row.send("codes", torch.from_numpy(np.ascontiguousarray(media)))
        else:
            row.send("audio", media)

    def _take_control(self, row: Row, control: Control) -> None:
        if control in (Control.END_TURN, Control.RESTART):
            self._flush_packets(row)
            row.send("end")
        if control is Control.RESTART:
            row.send("call", lambda output: self._engine.interrupt(row, output))

    def _flush_packets(self, row: Row) -> None:
        if self._order is not None:
            for gap, part in self._order.flush():
                self._conceal(row, gap)
                self._forward(row, part)

    def _take_metadata(self, row: Row, fields: dict[str, Any]) -> None:
        kind = fields.get("type")
        if kind == "response.create":
            row.send("call", lambda output: None if row.agent is None else row.agent.answer(None))
        elif kind == "response.cancel":
            row.send("call", lambda output: self._engine.interrupt(row, output))
        elif kind == "session.update":
            count = _whole(fields, "codebooks", 1, self._tokenizer.num_codebooks)
            row.send("call", lambda output: None if row.agent is None else row.agent.set_codebooks(count))
        elif kind == "output_audio_buffer.played":
            self._played.told = _whole(fields, "samples", 0, self._played.sent)
        elif kind == "output_audio_buffer.cleared":
            self._played.told = _whole(fields, "samples", 0, self._played.sent)
            self._settle()
        else:
            raise MessageError(f"metadata has type {quoted(kind)}; expected session.update, response.create, …")

    def _refuse(self, error: Exception) -> None:
        self._metrics.malformed.inc()
        self._errors += 1
        self._send(wire.pack(MessageType.ERROR, str(error).encode()))
        if self._errors > self._config.max_errors:
            raise CallEndedError("malformed", 1008, "too many messages that cannot be used") from error

    async def _wait_for_room(self, row: Row) -> None:
        """Back pressure: nothing is read while much waits, or while a caller is far ahead of real time."""
        now = time.monotonic()
        config = self._config
        self._budget = min(config.burst, self._budget + (now - self._budget_time) * config.max_speed)
        self._budget_time = now
        if self._budget < 0:
            delay = -self._budget / config.max_speed
            self._metrics.throttled.inc(delay)
            self.last_heard = now + delay  # it is the server that waits
            await asyncio.sleep(delay)
        while row.backlog > config.max_backlog and self._ended is None:
            self._drained.clear()
            self.last_heard = time.monotonic()
            await self._drained.wait()
        if self._ended is not None:
            raise self._ended

    # --- to the client

    def _deliver(self, output: Output) -> None:
        """Take an output in the engine's thread."""
        messages = self._messages(output)
        try:
            self._loop.call_soon_threadsafe(self._collect, output, messages)
        except RuntimeError:  # the loop was closed
            return

    def _messages(self, output: Output) -> list[bytes]:
        messages: list[bytes] = []
        options = self._options
        if output.codes.shape[1] and options.codes:
            stamp = wire.pack_timestamp(output.first_frame) if options.sequenced else b""
            messages.append(wire.pack(MessageType.CODES, stamp + self._packing.pack(output.codes)))
        for probabilities in output.speech if options.probabilities else ():
            self._probabilities.append([round(float(column[0]), 3) for column in probabilities])
            if len(self._probabilities) >= PROBABILITIES_EVERY:
                fields = {
                    "type": "vad.inference_done",
                    "frame": self._probability_frame,
                    "probabilities": self._probabilities,
                }
                messages.append(wire.pack_metadata(fields))
                self._probability_frame += len(self._probabilities)
                self._probabilities = []
        after = [event for event in output.events if event.type == "agent_stopped"]  # the last of its audio
        messages += [wire.pack_metadata(_event_fields(event)) for event in output.events if event not in after]
        if options.out == "codes":
            for codes in output.spoken:
                full = np.zeros((self._tokenizer.num_codebooks, codes.shape[1]), np.int64)
                full[: len(codes)] = codes.numpy()
                messages.append(wire.pack(MessageType.CODES, self._all_codebooks.pack(full)))
        if self._writer is not None:
            for audio in output.audio:
                messages += [wire.pack(MessageType.AUDIO, payload) for payload in self._writer.write(audio)]
        messages += [wire.pack_metadata(_event_fields(event)) for event in after]
        self._played.sent += sum(map(len, output.audio))
        for interruption in output.interruptions:
            messages.append(wire.pack_metadata({"type": "output_audio_buffer.cleared"}))
            self._played.waiting.append((interruption, self._played.sent))
        if output.ended:
            messages.append(wire.pack_metadata({"type": "input_audio_buffer.ended"}))
        return messages

    def _collect(self, output: Output, messages: list[bytes]) -> None:
        metrics = self._metrics
        if output.codes.shape[1]:
            metrics.frames.inc(output.codes.shape[1])
            metrics.latency.observe(time.perf_counter() - output.received)
        for event in output.events:
            metrics.events.labels(event.type).inc()
        for error in output.failures:
            metrics.failures.inc()
            self._send(wire.pack(MessageType.ERROR, f"the agent failed: {type(error).__name__}".encode()))
        for message in messages:
            self._send(message)
        if output.interruptions:
            # clients that told what they play will tell how much of it they played; others never answer
            self._loop.call_later(5.0 if self._played.told else 0.5, self._settle)
        self._drained.set()

    def _settle(self) -> None:
        """Say what was heard of what was interrupted, as far as the client has told it."""
        waiting, self._played.waiting = self._played.waiting, []
        for interruption, sent in waiting:
            unheard = max(0, sent - self._played.told) if self._played.told else 0
            for heard in interruption.heard[:1]:
                samples = max(0, heard.samples - unheard)
                self._send(
                    wire.pack_metadata(
                        {
                            "type": "conversation.item.truncated",
                            "frames": samples // self._tokenizer.hop_length,
                            "samples": samples,
                            "audio_end_ms": round(1000 * samples / self._rate),
                            "text": heard.utterance.text(samples // self._tokenizer.hop_length),
                        }
                    )
                )

    def _send(self, message: bytes) -> None:
        self._outbox.append(message)
        self._outbox_bytes += len(message)
        if self._outbox_bytes > self._config.max_outbox:
            self.end(CallEndedError("slow", 1008, "the client does not read"))
        self._has_output.set()

    async def _transmit(self) -> None:
        while True:
            while not self._outbox:
                if self._ended is not None:
                    raise self._ended
                self._has_output.clear()
                await self._has_output.wait()
            if self._ended is not None:
                raise self._ended
            message = self._outbox.popleft()
            try:
                await self._websocket.send({"type": "websocket.send", "bytes": message})
            except RuntimeError as error:  # the protocol has closed the connection meanwhile
                raise WebSocketDisconnect(1006) from error
            self._outbox_bytes -= len(message)
            _count(self._metrics, "out", MessageType(message[0]), len(message))

    def _count_packets(self) -> None:
        if self._order is not None:
            counts = self._order.counts
            for fate in ("received", "gaps", "late", "reordered", "duplicate", "jumps"):
                self._metrics.packets.labels(fate).inc(getattr(counts, fate))


_NAMES = {
    "speech_started": "input_audio_buffer.speech_started",
    "speech_stopped": "input_audio_buffer.speech_stopped",
    "end_of_turn": "input_audio_buffer.committed",
    "overlap_started": "overlap.started",
    "overlap_stopped": "overlap.stopped",
    "agent_started": "output_audio_buffer.started",
    "agent_stopped": "output_audio_buffer.stopped",
    "agent_interrupted": "response.interrupted",
}
"""Names of turn events in messages: those of OpenAI's Realtime API where it has one."""


def _event_fields(event: TurnEvent) -> dict[str, Any]:
    return {
        "type": _NAMES[event.type],
        "frame": event.frame,
        "detected": event.detected,
        "time_ms": round(1000 * event.time),
        "probability": round(float(event.probability), 3),
    }


def _whole(fields: dict[str, Any], name: str, low: int, high: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MessageError(f"{name} is {quoted(value)}; expected a whole number from {low} to {high}")
    return value


def _count(metrics: ServerMetrics, direction: str, kind: MessageType, size: int) -> None:
    metrics.messages.labels(direction, kind.name.lower()).inc()
    metrics.bytes.labels(direction).inc(size)
