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

OGG_BYTES_PER_SECOND = 100_000
"""Messages of Ogg count as at least so much audio, as their pages may hold none. Opus has at most 64 000 bytes a
second."""

MOSHI_OPTIONS = frozenset(
    (
        *("audio_seed", "audio_temperature", "audio_topk", "email", "pad_mult", "repetition_penalty"),
        *("repetition_penalty_context", "text_seed", "text_temperature", "text_topk", "worker_auth_id"),
    )
)
"""What Moshi's clients ask for: settings of its model."""


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
        events: whether it gets events.
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
    events: bool = True
    echo: bool = True

    @classmethod
    def parse(
        cls, query: Mapping[str, str], agents: Agents, sample_rate: int, num_codebooks: int, moshi: bool = False
    ) -> "CallOptions":
        """Read the query of an address.

        Args:
            query: of the address.
            agents: who may answer.
            sample_rate: of the tokenizer.
            num_codebooks: of the tokenizer.
            moshi: whether those who ask for nothing else get what Moshi's clients understand.

        Raises:
            InputError: an option is unknown or out of range.
        """
        given: dict[str, Any] = {"sample_rate": sample_rate, "codebooks": num_codebooks, "agent": agents.default}
        if moshi:
            given |= {"audio": "ogg", "out": "ogg", "codes": False, "events": False}
        for name, text in query.items():
            if moshi and name in MOSHI_OPTIONS:
                continue
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
        if given.get("audio") == "ogg" and given.get("sequenced"):
            raise InputError("audio is 'ogg' and sequenced is 1; expected sequenced=0: pages of Ogg are in order")
        options = cls(**given)
        check_sample_rate(options.sample_rate)
        if not 1 <= options.codebooks <= num_codebooks:
            raise InputError(f"codebooks is {options.codebooks}; expected 1 to {num_codebooks}")
        return options


@dataclass
class Played:
    """What a client has said about its loudspeaker, in samples.

    Attributes:
        sent: to the client; counted in the engine's thread.
        cleared: of these, in the client's buffer when it was emptied: they will never be played.
        told: what the client says that it has played; ``None`` until it says so.
        waiting: interruptions, and what was sent before them.
    """

    sent: int = 0
    cleared: int = 0
    told: int | None = None
    waiting: deque[tuple[Interruption, int]] = field(default_factory=deque)

    def unheard(self, sent: int) -> int:
        """How much of what was sent by then was not played; 0 if the client never tells."""
        return 0 if self.told is None else max(0, sent - self.cleared - self.told)


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
        self._spoken_codebooks = tok.num_codebooks

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
        for message in self._metadata(self._description()):
            self._send(message)
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
            # codes have no sound from which the echo could be taken away
            cancel_echo=options.echo and not loops and options.agent != "none" and self._reader is not None,
            interrupt_after=None if loops else 0.04,
            lead=lead,
            fade=False,
        )
        conversation.on_change(row.wake)
        row.lead, row.gapless = lead, options.out == "ogg"
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
        least = len(payload) / OGG_BYTES_PER_SECOND if self._options.audio == "ogg" else 0.0
        self._budget -= least
        media = self._packing.unpack(payload) if self._reader is None else self._reader.read(payload)
        if not media.shape[-1]:
            return
        seconds = media.shape[-1] / (self._tokenizer.frame_rate if self._reader is None else self._reader.sample_rate)
        self._budget -= max(0.0, seconds - least)
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
            self._played.told = _whole(fields, "samples", 0, self._played.sent - self._played.cleared)
        elif kind == "output_audio_buffer.cleared":
            self._played.told = _whole(fields, "samples", 0, self._played.sent - self._played.cleared)
            if self._played.waiting:
                interruption, sent = self._played.waiting.popleft()
                unheard = self._played.unheard(sent)
                self._truncate(interruption, unheard)
                self._played.cleared += unheard
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
                messages += self._metadata(fields)
                self._probability_frame += len(self._probabilities)
                self._probabilities = []
        after = [event for event in output.events if event.type == "agent_stopped"]  # the last of its audio
        for event in output.events:
            messages += self._metadata(_event_fields(event)) if event not in after else []
        for interruption in output.interruptions:  # of what was sent before; what follows is new
            messages += self._metadata({"type": "output_audio_buffer.cleared"})
            self._played.waiting.append((interruption, self._played.sent))
        if output.text:
            messages.append(wire.pack(MessageType.TEXT, output.text.encode()))
        if options.out == "codes":
            messages += self._spoken_messages(output.spoken)
        if self._writer is not None:
            for audio in output.audio:
                messages += [wire.pack(MessageType.AUDIO, payload) for payload in self._writer.write(audio)]
        for event in after:
            messages += self._metadata(_event_fields(event))
        self._played.sent += sum(map(len, output.audio))
        if output.ended:
            messages += self._metadata({"type": "input_audio_buffer.ended"})
        return messages

    def _spoken_messages(self, spoken: list[torch.Tensor | None]) -> list[bytes]:
        """Messages of the agent's codes, of the number of codebooks where it changes, and of ends of utterances."""
        messages: list[bytes] = []
        for codes in spoken:
            if codes is None:
                messages += self._metadata({"type": "response.output_audio.done"})
                continue
            if len(codes) != self._spoken_codebooks:
                self._spoken_codebooks = len(codes)
                messages += self._metadata({"type": "output_audio_buffer.codebooks", "codebooks": len(codes)})
            full = np.zeros((self._tokenizer.num_codebooks, codes.shape[1]), np.int64)
            full[: len(codes)] = codes.numpy()
            messages.append(wire.pack(MessageType.CODES, self._all_codebooks.pack(full)))
        return messages

    def _metadata(self, fields: dict[str, Any]) -> list[bytes]:
        """A message, for a client that understands it."""
        return [wire.pack_metadata(fields)] if self._options.events else []

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
        for interruption in output.interruptions:
            # clients that told what they play will tell how much of it they played; others never answer
            self._loop.call_later(0.5 if self._played.told is None else 5.0, self._settle, interruption)
        self._drained.set()

    def _settle(self, interruption: Interruption) -> None:
        """Say what was heard of what was interrupted, if the client has not told it by now."""
        for place, (waiting, sent) in enumerate(list(self._played.waiting)):
            if waiting is interruption:
                del self._played.waiting[place]  # the engine's thread only appends
                self._truncate(interruption, self._played.unheard(sent))
                return

    def _truncate(self, interruption: Interruption, unheard: int) -> None:
        """Say what was heard of what was interrupted."""
        for heard in interruption.heard[:1]:
            samples = max(0, heard.samples - unheard)
            fields = {
                "type": "conversation.item.truncated",
                "frames": samples // self._tokenizer.hop_length,
                "samples": samples,
                "audio_end_ms": round(1000 * samples / self._rate),
                "text": heard.utterance.text(samples // self._tokenizer.hop_length),
            }
            for message in self._metadata(fields):
                self._send(message)

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
