"""Many callers on one model: their frames are encoded and decoded in batches, in one thread."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.convnext import ConvNeXtTokenizer
from speechtok.errors import SpeechtokError
from speechtok.live.agents import Agent
from speechtok.live.conversation import Conversation, Turn
from speechtok.live.events import TurnStream
from speechtok.live.playback import DecoderInput, Interruption
from speechtok.live.turns import FrameProbabilities, TurnEvent
from speechtok.resampling import Resampler
from speechtok.streaming import NO_CODE, Stream
from speechtok.tokenizer import Tokenizer

MAX_FRAMES = 4
"""Most frames of a caller in one batch: one who sends much at a time does not keep the others waiting."""

WINDOW_PER_CALLER, MAX_WINDOW = 1e-4, 5e-3
"""How long a batch waits for the frames of others, in seconds: it depends on the number of callers."""


@dataclass
class Output:
    """What became of a caller's frames.

    Attributes:
        codes: of the user's new frames, int64 ``(Q, T)``.
        first_frame: index of the first of them in the utterance.
        speech: probabilities of speech, end of turn and overlap of these frames, if the caller has a conversation.
        events: of both.
        turns: that ended.
        interruptions: by the user or by a command.
        audio: of the agent, float32 ``(S,)``.
        spoken: codes of the agent's audio, before it is decoded; ``None`` where an utterance ends.
        text: of the agent, with its audio.
        ended: whether the user's utterance ended with these codes.
        received: when the samples that completed the newest of the frames came.
        failures: exceptions of models.
    """

    codes: np.ndarray
    first_frame: int = 0
    speech: list[FrameProbabilities] = field(default_factory=list)
    events: list[TurnEvent] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    audio: list[np.ndarray] = field(default_factory=list)
    spoken: list[Tensor | None] = field(default_factory=list)
    text: str = ""
    ended: bool = False
    received: float = 0.0
    failures: list[Exception] = field(default_factory=list)


class Row:
    """A caller's place in the batches.

    Args:
        index: of the row.
        engine: that it belongs to.
        sample_rate: of what the caller sends, in hertz.
        num_codebooks: of the codes that go back.
        deliver: called in the engine's thread with each output.
    """

    def __init__(
        self, index: int, engine: "Engine", sample_rate: int, num_codebooks: int, deliver: Callable[[Output], object]
    ) -> None:
        self.index, self._engine = index, engine
        self.sample_rate, self.num_codebooks = sample_rate, num_codebooks
        self.deliver = deliver
        self.conversation: Conversation | None = None
        self.agent: Agent | None = None
        self.lead = 0
        self.gapless = False  # whether the agent's silence is delivered, too
        self.inbox: deque[tuple[str, Any, float, int]] = deque()
        self._sent = self.taken = 0  # frames of what went into the inbox, and out of it: a thread writes each
        self.resampler = Resampler(sample_rate, engine.tokenizer.sample_rate)
        self.samples: deque[np.ndarray] = deque()  # at the tokenizer's rate
        self.num_samples = 0
        self.codes: deque[Tensor] = deque()  # frames (Q, 1) of callers who send codes
        self.ending = False
        self.frame = 0
        self.received = 0.0
        self.leaving = self.closed = False

    @property
    def backlog(self) -> int:
        """Frames that wait. A message without any counts as one."""
        return self._sent - self.taken + self.num_samples // self._engine.hop + len(self.codes)

    def send(self, kind: str, value: Any = None) -> None:
        """Hand something to the engine's thread: ``audio``, ``codes``, ``end`` or ``call`` with a function."""
        frames = 1
        if kind == "codes":
            frames = max(1, value.shape[1])
        elif kind == "audio":
            tokenizer = self._engine.tokenizer
            frames = max(1, round(len(value) * tokenizer.frame_rate / self.sample_rate))
        self._sent += frames
        self.inbox.append((kind, value, time.perf_counter(), frames))
        self._engine.wake(self)

    def wake(self) -> None:
        """Have the engine look whether the agent has something new to play."""
        self._engine.wake(self)

    def close(self) -> None:
        """Leave at once, whatever waits; the row is free for another caller."""
        self.leaving = True
        self._engine.wake(self)


class Engine:
    """Computes for all callers.

    Args:
        tokenizer: that can stream.
        rows: most callers at a time.
        on_batch: called with rows and seconds of each batch that was encoded.
        on_error: called with an exception that ended the engine's thread.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        rows: int,
        on_batch: Callable[[int, float], object] = lambda rows, seconds: None,
        on_error: Callable[[Exception], object] = lambda error: None,
    ) -> None:
        self.tokenizer, self.hop = tokenizer, tokenizer.hop_length
        self._encoder: Stream = tokenizer.stream(batch_size=rows)
        self._decoder: Stream = tokenizer.stream(batch_size=rows)
        self._turns: TurnStream | None = None
        with contextlib.suppress(SpeechtokError):  # without a detector, conversations listen to loudness
            if isinstance(tokenizer, ConvNeXtTokenizer):
                self._turns = TurnStream(tokenizer.turn_detector(), rows)
        self._on_batch, self._on_error = on_batch, on_error
        self._free = list(range(rows))[::-1]
        self._rows: dict[int, Row] = {}
        self._woken: dict[int, Row] = {}
        self._condition = threading.Condition()
        self._stopping = False
        self.alive = True
        self._thread = threading.Thread(target=self._run, name="speechtok-engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the batch that it computes."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()
        self._encoder.close()
        self._decoder.close()

    def open(self, sample_rate: int, num_codebooks: int, deliver: Callable[[Output], object]) -> Row | None:
        """A row for a new caller, or ``None`` if all are taken."""
        with self._condition:
            if not self._free or not self.alive:
                return None
            row = Row(self._free.pop(), self, sample_rate, num_codebooks, deliver)
            self._rows[row.index] = row
        return row

    @property
    def num_callers(self) -> int:
        """Rows in use."""
        return len(self._rows)

    def wake(self, row: Row) -> None:
        """Have the thread look at a row."""
        with self._condition:
            if not self._woken:
                self._condition.notify()
            self._woken[row.index] = row

    def _run(self) -> None:
        try:
            while True:
                with self._condition:
                    while not self._woken and not self._stopping:
                        self._condition.wait()
                    if self._stopping:
                        return
                    window = min(MAX_WINDOW, WINDOW_PER_CALLER * (len(self._rows) - 1))
                if window > 2e-4:
                    time.sleep(window)
                with self._condition:
                    woken, self._woken = list(self._woken.values()), {}
                self._step([row for row in woken if not row.closed])
        except Exception as error:  # every caller would wait forever
            self.alive = False
            self._on_error(error)

    def _step(self, rows: list[Row]) -> None:
        """Do what waits for some rows."""
        outputs: dict[int, Output] = {}
        for row in rows:
            outputs[row.index] = Output(np.zeros((row.num_codebooks, 0), np.int64))
            self._read(row, outputs[row.index])
        rows = [row for row in rows if not row.closed]
        self._encode(rows, outputs)
        self._speak([row for row in rows if row.conversation is not None], outputs)
        for row in rows:
            row.deliver(outputs[row.index])
            if row.inbox or row.num_samples >= self.hop or row.codes or row.ending:
                self.wake(row)

    def _read(self, row: Row, output: Output) -> None:
        """Take messages until there is enough for a batch."""
        if row.leaving:
            self._close(row)
            return
        while row.inbox and row.num_samples < MAX_FRAMES * self.hop and len(row.codes) < MAX_FRAMES and not row.ending:
            kind, value, row.received, frames = row.inbox.popleft()
            row.taken += frames
            if kind == "audio":
                self._append(row, row.resampler.push(torch.from_numpy(value)[None])[0].numpy())
            elif kind == "codes":
                row.codes += value.split(1, 1)
            elif kind == "end":
                self._append(row, row.resampler.flush()[0].numpy())
                self._append(row, np.zeros(-row.num_samples % self.hop, np.float32))
                row.ending = True
            else:
                value(output)

    def _append(self, row: Row, samples: np.ndarray) -> None:
        if len(samples):
            row.samples.append(samples)
            row.num_samples += len(samples)

    def _close(self, row: Row) -> None:
        row.closed = True
        if row.conversation is not None:
            row.conversation.interrupt()
            row.conversation.on_change(lambda: None)
        # free at once: the collector of cycles counts objects, and does not see how large the arrays are
        row.conversation = row.agent = None
        row.deliver = lambda output: None
        self._encoder.reset(rows=[row.index])
        self._decoder.reset(rows=[row.index])
        if self._turns is not None:
            self._turns.reset([row.index])
        with self._condition:
            del self._rows[row.index]
            self._woken.pop(row.index, None)
            self._free.append(row.index)

    def _encode(self, rows: list[Row], outputs: dict[int, Output]) -> None:
        """Encode whole frames, so that all rows with new frames are alike."""
        counts = {row.index: min(row.num_samples // self.hop, MAX_FRAMES) for row in rows}
        longest = max(counts.values(), default=0)
        audio = {}
        if longest:
            began = time.perf_counter()
            chunk = np.zeros((self._encoder.batch_size, longest * self.hop), np.float32)
            lengths = [0] * self._encoder.batch_size
            for row in rows:
                lengths[row.index] = n = counts[row.index] * self.hop
                if n:
                    audio[row.index] = chunk[row.index, :n] = _take(row, n)
            codes = self._encoder.encode(chunk, lengths=lengths)
            self._on_batch(sum(map(bool, counts.values())), time.perf_counter() - began)
        new = {row.index: codes[row.index, :, : counts[row.index]] for row in rows if counts[row.index]}
        for row in rows:
            if row.codes:
                count = min(len(row.codes), MAX_FRAMES)
                new[row.index] = torch.cat([row.codes.popleft() for _ in range(count)], 1)
        found = self._detect({row.index: new[row.index] for row in rows if row.conversation and row.index in new})
        for row in rows:
            output = outputs[row.index]
            if row.index in new:
                self._hear(row, new[row.index], audio.get(row.index), found.get(row.index), output)
            if row.ending and row.num_samples < self.hop:
                self._end(row, output)

    def _detect(self, new: dict[int, Tensor]) -> dict[int, list[FrameProbabilities]]:
        """Detect turns in the new frames of the rows that have a conversation; nothing without a detector."""
        found: dict[int, list[FrameProbabilities]] = {}
        if self._turns is None:
            return found
        for count in sorted({len(part) for part in new.values()}):
            some = {index: part for index, part in new.items() if len(part) == count}
            longest = max(part.shape[1] for part in some.values())
            codes = torch.full((self._encoder.batch_size, count, longest), NO_CODE)
            for index, part in some.items():
                codes[index, :, : part.shape[1]] = part
            columns = [column.numpy() for column in self._turns.push(codes)]
            for index, part in some.items():
                found[index] = [
                    FrameProbabilities(*(column[index, frame : frame + 1] for column in columns))
                    for frame in range(part.shape[1])
                ]
        return found

    def _hear(
        self,
        row: Row,
        codes: Tensor,
        audio: np.ndarray | None,
        found: list[FrameProbabilities] | None,
        output: Output,
    ) -> None:
        output.codes, output.first_frame, output.received = codes[: row.num_codebooks].numpy(), row.frame, row.received
        row.frame += codes.shape[1]
        conversation = row.conversation
        if conversation is None:
            return
        if audio is None:
            audio = np.zeros(codes.shape[1] * self.hop, np.float32)
        for index in range(codes.shape[1]):
            frame = codes[:, index : index + 1]
            given = None if found is None else found[index]
            events = conversation.hear(frame, audio[index * self.hop : (index + 1) * self.hop], given)
            if any(event.type == "agent_interrupted" for event in events):
                self._decoder.reset(rows=[row.index])
            output.events += events
            output.speech.append(conversation.probabilities)
            if row.agent is not None:
                row.agent.hear(frame)
        self._answer(row, output)

    def _end(self, row: Row, output: Output) -> None:
        row.ending, output.ended = False, True
        row.frame = 0
        row.resampler.reset()
        self._encoder.reset(rows=[row.index])
        if self._turns is not None:
            self._turns.reset([row.index])
        if row.conversation is not None:
            row.conversation.end_turn()
            self._answer(row, output)

    def _answer(self, row: Row, output: Output) -> None:
        assert row.conversation is not None
        output.interruptions += row.conversation.take_interruptions()
        turns = row.conversation.take_turns()
        output.turns += turns
        if row.agent is not None:
            for turn in turns:
                row.agent.answer(turn)

    def interrupt(self, row: Row, output: Output) -> None:
        """Stop a caller's agent; to be called in the engine's thread."""
        if row.conversation is not None:
            output.interruptions.append(row.conversation.interrupt())
            self._decoder.reset(rows=[row.index])

    def _speak(self, rows: list[Row], outputs: dict[int, Output]) -> None:
        """Decode what the agents say next, up to where their clocks may be, and play it."""
        room = {}
        for row in rows:
            conversation = row.conversation
            assert conversation is not None
            outputs[row.index].failures += conversation.take_failures()
            room[row.index] = conversation.frame * self.hop + row.lead - conversation.playback.clock
        pending = rows
        while pending:
            requests = {row.index: _request(row, room[row.index]) for row in pending}
            pending = [row for row in pending if requests[row.index] is not None]
            for count in sorted({r.codes.shape[0] for r in requests.values() if r is not None}):
                some = [row for row in pending if _codebooks(requests[row.index]) == count]
                self._decode(some, requests, outputs)
        for row in rows:
            conversation, output = row.conversation, outputs[row.index]
            assert conversation is not None
            ready = min(room[row.index], conversation.playback.num_ready)
            if ready > 0:
                audio, _, events = conversation.play(ready)
                output.audio.append(audio)
                output.events += events
            behind = conversation.frame * self.hop - conversation.playback.clock
            if behind > 0:
                audio, _, events = conversation.play(behind)
                output.events += events
                if row.gapless:
                    output.audio.append(audio)
            output.text += conversation.playback.take_text()

    def _decode(
        self, rows: Sequence[Row], requests: dict[int, DecoderInput | None], outputs: dict[int, Output]
    ) -> None:
        """Decode codes of as many codebooks for some rows."""
        given = [(row, request) for row in rows if (request := requests[row.index]) is not None]
        if not given:
            return
        longest = max(request.codes.shape[1] for _, request in given)
        parts: dict[int, list[np.ndarray]] = {row.index: [] for row, _ in given}
        if longest:
            size = self._decoder.batch_size, given[0][1].codes.shape[0], longest
            codes = torch.full(size, NO_CODE)
            for row, request in given:
                codes[row.index, :, : request.codes.shape[1]] = request.codes
                if request.codes.shape[1]:
                    outputs[row.index].spoken.append(request.codes)
            audio = self._decoder.decode(codes)
            lengths = self._decoder.audio_lengths.tolist()
            for row, _ in given:
                parts[row.index].append(audio[row.index, : lengths[row.index]].numpy())
        ending = [row.index for row, request in given if request.ends]
        if ending:
            audio = self._decoder.drain(rows=ending)
            lengths = self._decoder.audio_lengths.tolist()
            for index in ending:
                parts[index].append(audio[index, : lengths[index]].numpy())
            self._decoder.reset(rows=ending)
        for row, request in given:
            assert row.conversation is not None
            if request.ends:
                outputs[row.index].spoken.append(None)
            row.conversation.playback.give(request, np.concatenate([np.zeros(0, np.float32), *parts[row.index]]))


def _take(row: Row, count: int) -> np.ndarray:
    """The next samples of a row."""
    row.num_samples -= count
    parts: list[np.ndarray] = []
    while count:
        part = row.samples.popleft()
        if len(part) > count:
            row.samples.appendleft(part[count:])
            part = part[:count]
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _request(row: Row, room: int) -> DecoderInput | None:
    assert row.conversation is not None
    return row.conversation.playback.wanted(room) if room > 0 else None


def _codebooks(request: DecoderInput | None) -> int:
    return 0 if request is None else int(request.codes.shape[0])
