"""What the agent says: a queue of codes, played on the clock of the conversation, and cut to the frame."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import StreamError

HISTORY_SECONDS = 10.0
"""How far back an interruption may reach: audio that was given out and did not reach a loudspeaker."""


class Utterance:
    """Something that the agent says. Codes are put in while a model writes them; any thread may do so.

    Args:
        num_codebooks: codebooks ``Q``.
        changed: called after codes were put in.
        keep: whether codes are kept after they were played; without, an utterance may go on for days.
    """

    def __init__(self, num_codebooks: int, changed: Callable[[], object] = lambda: None, keep: bool = True) -> None:
        self.num_codebooks = num_codebooks
        self._changed, self._keep = changed, keep
        self._condition = threading.Condition()
        self._codes: list[Tensor] = []  # (Q, T) each
        self._texts: list[tuple[int, str]] = []
        self._frames = self._taken = self._texts_heard = 0
        self._ended = self._cancelled = False
        self.samples_played = 0
        """Samples that went out, at the tokenizer's rate."""

    @property
    def num_frames(self) -> int:
        """Frames put in so far."""
        return self._frames

    @property
    def ended(self) -> bool:
        """Whether no more codes will come."""
        return self._ended

    @property
    def cancelled(self) -> bool:
        """Whether it was interrupted: further codes are refused."""
        return self._cancelled

    @property
    def waiting(self) -> int:
        """Frames that were put in and not yet decoded."""
        return self._frames - self._taken

    @property
    def codes(self) -> Tensor:
        """All codes put in so far, or those that are kept, int64 ``(Q, T)``."""
        with self._condition:
            return torch.cat(self._codes, 1) if self._codes else torch.zeros(self.num_codebooks, 0, dtype=torch.int64)

    def text(self, frames: int | None = None) -> str:
        """The text that was put in before frame ``frames``; all by default."""
        return "".join(text for place, text in self._texts if frames is None or place < frames)

    def take_text(self, frames: int) -> str:
        """The text that was put in before frame ``frames``, without what was taken before."""
        begin = self._texts_heard
        while self._texts_heard < len(self._texts) and self._texts[self._texts_heard][0] < frames:
            self._texts_heard += 1
        return "".join(text for _, text in self._texts[begin : self._texts_heard])

    def put(self, codes: Tensor, timeout: float | None = None, limit: int | None = None) -> bool:
        """Add codes ``(Q, T)``.

        Args:
            codes: the next frames.
            timeout: longest wait for room, in seconds.
            limit: frames that may wait; more make the call wait until some were played.

        Returns:
            Whether the codes will be played: false after an interruption.

        Raises:
            StreamError: the utterance was ended.
        """
        with self._condition:
            if self._ended and not self._cancelled:
                raise StreamError("put after the end of an utterance; start the next one with speak()")
            if limit is not None:
                self._condition.wait_for(lambda: self._cancelled or self.waiting < limit, timeout)
            if self._cancelled:
                return False
            self._codes.append(codes)
            self._frames += codes.shape[1]
        self._changed()
        return True

    def put_text(self, text: str) -> None:
        """Add text that goes with the codes that come next."""
        with self._condition:
            self._texts.append((self._frames, text))

    def end(self) -> None:
        """Say that no more codes will come."""
        with self._condition:
            self._ended = True
        self._changed()

    def cancel(self) -> None:
        """Refuse further codes, and wake up who waits for room."""
        with self._condition:
            self._cancelled = self._ended = True
            self._condition.notify_all()

    def take(self, frames: int) -> Tensor:
        """The next codes, at most ``frames`` of them: ``(Q, T)``."""
        with self._condition:
            begin, stop = self._taken, min(self._taken + frames, self._frames)
            self._taken = stop
            self._condition.notify_all()
            parts, place = [], 0
            for part in reversed(self._codes):  # the newest are near the end
                start = self._frames - place - part.shape[1]
                place += part.shape[1]
                if start < stop and start + part.shape[1] > begin:
                    parts.append(part[:, max(0, begin - start) : stop - start])
                if start <= begin:
                    break
            if not self._keep:
                first = self._frames - sum(part.shape[1] for part in self._codes)
                while self._codes and first + self._codes[0].shape[1] <= stop:
                    first += self._codes.pop(0).shape[1]
            return torch.cat(parts[::-1], 1) if parts else torch.zeros(self.num_codebooks, 0, dtype=torch.int64)


@dataclass(frozen=True)
class Heard:
    """What the user heard of an utterance that was cut.

    Attributes:
        utterance: that was cut.
        samples: that were played.
        frames: that were played to their end: ``tokens.crop(0, frames)`` is what was heard.
        codes: of these frames, int64 ``(Q, frames)``.
        text: that was put in before the end of these frames.
    """

    utterance: Utterance
    samples: int
    frames: int
    codes: Tensor
    text: str


@dataclass(frozen=True)
class Interruption:
    """Result of an interruption.

    Attributes:
        sample: of the clock at which the agent fell silent.
        heard: for each utterance that was not heard to its end, what was heard, in order; nothing if the agent was
            silent.
    """

    sample: int
    heard: list[Heard] = field(default_factory=list)


@dataclass
class DecoderInput:
    """What a decoder has to do next for one row.

    Attributes:
        codes: to decode, ``(Q, T)``.
        ends: whether the utterance ends with them: the decoder is drained and reset then.
    """

    codes: Tensor
    ends: bool


class Playback:
    """The agent's row. Its clock counts samples that went out, silence included.

    The caller moves codes to a decoder, and audio back: :meth:`wanted`, :meth:`give`, :meth:`play`. So any number of
    rows can be decoded in one batch.

    Args:
        hop_length: samples per frame.
        sample_rate: in hertz.
    """

    def __init__(self, hop_length: int, sample_rate: int) -> None:
        self._hop = hop_length
        self._queue: deque[Utterance] = deque()
        self._ready: deque[tuple[Utterance, np.ndarray]] = deque()  # decoded, not yet played
        self._num_ready = 0
        self._runs: deque[tuple[Utterance | None, int]] = deque()  # what went out lately
        self._history = round(HISTORY_SECONDS * sample_rate)
        self._num_runs = 0
        self._decoding = False  # whether the decoder's state holds a frame
        self._text = ""
        self.clock = 0
        """Samples that went out since the start."""

    @property
    def num_ready(self) -> int:
        """Samples that are decoded and were not played."""
        return self._num_ready

    @property
    def speaking(self) -> bool:
        """Whether there is something to play, or to wait for."""
        return bool(self._queue or self._ready)

    def add(self, utterance: Utterance) -> None:
        """Put an utterance at the end of the queue."""
        self._queue.append(utterance)

    def wanted(self, samples: int) -> DecoderInput | None:
        """Codes that must be decoded before ``samples`` samples can be played; ``None`` if none are, or none came."""
        missing = samples - self._num_ready
        while self._queue and missing > 0:
            utterance = self._queue[0]
            frames = -(-missing // self._hop) + (not self._decoding)  # the decoder is late by a frame
            codes = utterance.take(frames)
            ends = utterance.ended and not utterance.waiting
            if ends and not self._decoding and not codes.shape[1]:
                self._queue.popleft()  # an empty utterance
                continue
            return DecoderInput(codes, ends) if codes.shape[1] or ends else None
        return None

    def give(self, request: DecoderInput, audio: np.ndarray) -> None:
        """Take the audio ``(S,)`` of what :meth:`wanted` asked for."""
        utterance = self._queue[0]
        if len(audio):
            self._ready.append((utterance, audio))
            self._num_ready += len(audio)
        self._decoding = not request.ends and (self._decoding or request.codes.shape[1] > 0)
        if request.ends:
            self._queue.popleft()

    def play(self, samples: int) -> tuple[np.ndarray, int]:
        """Take the next samples out: float32 ``(samples,)`` with silence at the end, and how many are not silence."""
        audio, place = np.zeros(samples, np.float32), 0
        while self._ready and place < samples:
            utterance, part = self._ready[0]
            n = min(len(part), samples - place)
            audio[place : place + n] = part[:n]
            if n == len(part):
                self._ready.popleft()
            else:
                self._ready[0] = utterance, part[n:]
            utterance.samples_played += n
            self._text += utterance.take_text(-(-utterance.samples_played // self._hop))
            self._remember(utterance, n)
            place += n
        self._num_ready -= place
        self._remember(None, samples - place)
        self.clock += samples
        return audio, place

    def take_text(self) -> str:
        """The text of what went out since the last call."""
        text, self._text = self._text, ""
        return text

    def peek(self, samples: int) -> np.ndarray:
        """The next samples that are ready, without taking them out; at most ``samples``."""
        parts = [part for _, part in self._ready]
        return np.concatenate(parts)[:samples] if parts else np.zeros(0, np.float32)

    def interrupt(self, unplayed: int = 0) -> Interruption:
        """Stop at once, and forget what is queued.

        Args:
            unplayed: samples that went out and will not be heard, as they wait in a buffer that is emptied now.

        Returns:
            What was heard of everything that was cut. The decoder's row is to be reset.
        """
        cut = {id(utterance): utterance for utterance in self._take_back(unplayed)}
        for utterance in (*(utterance for utterance, _ in self._ready), *self._queue):
            cut.setdefault(id(utterance), utterance)
        self._queue.clear()
        self._ready.clear()
        self._num_ready, self._decoding = 0, False
        for utterance in cut.values():
            utterance.cancel()
        return Interruption(max(0, self.clock - unplayed), [self._heard(utterance) for utterance in cut.values()])

    def _take_back(self, samples: int) -> list[Utterance]:
        """Uncount the last samples that went out; returns their utterances, the oldest first."""
        utterances: list[Utterance] = []
        while samples > 0 and self._runs:
            utterance, n = self._runs.pop()
            taken = min(n, samples)
            if taken < n:
                self._runs.append((utterance, n - taken))
            self._num_runs -= taken
            samples -= taken
            if utterance is not None:
                utterance.samples_played -= taken
                utterances.insert(0, utterance)
        return utterances

    def _heard(self, utterance: Utterance) -> Heard:
        frames = utterance.samples_played // self._hop
        return Heard(utterance, utterance.samples_played, frames, utterance.codes[:, :frames], utterance.text(frames))

    def _remember(self, utterance: Utterance | None, samples: int) -> None:
        if not samples:
            return
        if self._runs and self._runs[-1][0] is utterance:
            self._runs[-1] = utterance, self._runs[-1][1] + samples
        else:
            self._runs.append((utterance, samples))
        self._num_runs += samples
        while self._num_runs - self._runs[0][1] > self._history:
            self._num_runs -= self._runs.popleft()[1]
