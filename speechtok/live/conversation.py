"""A conversation of two rows, user and agent, on one clock; without a codec, so that many share one batch."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import InputError, SpeechtokError, quoted
from speechtok.live.echo import EchoCanceller
from speechtok.live.events import CodesDetector
from speechtok.live.playback import Interruption, Playback, Utterance
from speechtok.live.speaking import MAX_WAITING_SECONDS, Speaker
from speechtok.live.turns import EnergyDetector, FrameDetector, FrameProbabilities, TurnEvent, TurnEvents, TurnPolicy
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens

NEAR_END_DB = 6.0
"""Level above what echo may be left from which the user is as likely to speak as not."""

MAX_TURN_SECONDS = 60.0
"""Length of the user's turn that is kept."""

LEAD_IN_SECONDS = 0.3
"""Audio before the start of speech that belongs to a turn."""

FADE_SECONDS = 0.005
"""An interruption lets the sound of the agent end so softly that it does not click."""


@dataclass(frozen=True)
class Turn:
    """A turn of the user that has ended.

    Attributes:
        tokens: of the turn, with a short time before its first speech and the silence after it.
        first_frame: of these tokens.
        event: the end of the turn.
    """

    tokens: SpeechTokens
    first_frame: int
    event: TurnEvent


def default_detector(tokenizer: Tokenizer) -> FrameDetector:
    """The detector that listens to the codes of a tokenizer, or to loudness if the package has none for it."""
    try:
        return CodesDetector(tokenizer)
    except (SpeechtokError, AttributeError):
        return EnergyDetector(tokenizer.hop_length)


class Conversation:
    """Hears the user, plays the agent, and decides who has the turn. :class:`DuplexSession` adds the codec.

    Args:
        tokenizer: of both rows.
        speaker: turns what a model yields into codes.
        policy: thresholds and times of turn events.
        detector: of the user's speech; the tokenizer's turn detector by default, or loudness if it has none.
        cancel_echo: whether the agent can be heard in the user's microphone.
        interrupt_after: seconds of the user's speech, after its start was detected, that stop the agent; ``None``
            leaves it to the caller.
        lead: samples that the agent's clock may be ahead of the user's.
        fade: whether an interruption fades the last samples out, or leaves it to whoever plays them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        speaker: Speaker,
        policy: TurnPolicy | None = None,
        detector: FrameDetector | None = None,
        cancel_echo: bool = True,
        interrupt_after: float | None = 0.04,
        lead: int = 0,
        fade: bool = True,
    ) -> None:
        self._tokenizer, self._speaker = tokenizer, speaker
        self._hop, self._rate = tokenizer.hop_length, tokenizer.sample_rate
        self.turns = TurnEvents(tokenizer.frame_rate, policy)
        self._detector = detector or default_detector(tokenizer)
        self._canceller = EchoCanceller(self._hop, self._rate) if cancel_echo else None
        self._patience = None if interrupt_after is None else max(1, round(interrupt_after * tokenizer.frame_rate))
        self._lead, self._fade = lead, fade
        self._changed: Callable[[], object] = lambda: None
        self._lead_in = round(LEAD_IN_SECONDS * tokenizer.frame_rate)
        self._max_turn = round(MAX_TURN_SECONDS * tokenizer.frame_rate)
        self._failures: deque[Exception] = deque()  # of models, in other threads
        self.reset()

    def reset(self) -> None:
        """Start a new conversation: clocks, turns, and the room."""
        self.playback = Playback(self._hop, self._rate)
        self.turns.reset()
        self._detector.reset()
        if self._canceller is not None:
            self._canceller.reset()
        # a frame of the user is compared with what was played one frame earlier: no sound comes back before that
        self._reference = np.zeros(0, np.float32)
        self._reference_start = self._hop - self._lead
        self._fading = np.zeros(0, np.float32)
        self._impatience = 0
        self._audible = False
        self._heard: deque[np.ndarray] = deque()  # (Q,) each
        self._turn_start: int | None = None
        self._ended_turns: list[Turn] = []
        self._interruptions: list[Interruption] = []
        self.probabilities = FrameProbabilities(*(np.zeros(1),) * 3)
        """Of the user's last frame; speech and overlap without the echo of the agent."""

    @property
    def frame(self) -> int:
        """The next frame of the user."""
        return self.turns.frame

    @property
    def may_interrupt(self) -> bool:
        """Whether the user's speech stops the agent."""
        return self._patience is not None

    def hear(self, codes: Tensor, audio: np.ndarray, given: FrameProbabilities | None = None) -> list[TurnEvent]:
        """Take one frame of the user.

        Args:
            codes: ``(Q, 1)``.
            audio: of the frame, float32 ``(hop_length,)``.
            given: probabilities of the frame, if they were computed with those of other rows.
        """
        near = 1.0
        if self._canceller is not None:
            echo = self._canceller.push(audio, self._take_reference())
            audio = echo.audio
            if echo.active:
                near = 1 / (1 + math.exp(min(50.0, (NEAR_END_DB - echo.near_end_db) / 1.5)))
        found = self._detector.push(codes[None], audio) if given is None else given
        self.probabilities = FrameProbabilities(found.speech * near, found.end_of_turn, found.overlap * near)
        # a copy: the tensor is a part of those of all callers, and would keep them in memory
        self._heard.append(codes[:, 0].cpu().numpy().astype(np.int32))
        if len(self._heard) > self._max_turn:
            self._heard.popleft()
        events = self.turns.push(self.probabilities)
        for event in events:
            if event.type == "speech_started" and self._turn_start is None:
                self._turn_start = max(0, event.frame - self._lead_in)
            elif event.type == "end_of_turn":
                self._ended_turns.append(self._end_turn(event))
        if self._patience is None or not (self.playback.speaking and self.turns.speaking):
            self._impatience = 0
        else:
            self._impatience += 1
            if self._impatience >= self._patience:
                events.append(self._event("agent_interrupted", self.playback.clock))
                self._interruptions.append(self.interrupt())
        return events

    def play(self, samples: int) -> tuple[np.ndarray, int, list[TurnEvent]]:
        """Take the agent's next samples out.

        Returns:
            float32 ``(samples,)``, how many of them are not silence, and the events.
        """
        begin = self.playback.clock
        audio, sounding = self.playback.play(samples)
        if len(self._fading):
            n = min(samples, len(self._fading))
            audio[:n] += self._fading[:n]
            self._fading = self._fading[n:]
        if self._canceller is not None:
            self._reference = np.append(self._reference, audio)
        events = []
        if sounding and not self._audible:
            self._audible = True
            events.append(self._event("agent_started", begin))
        if self._audible and not self.playback.speaking:
            self._audible = False
            events.append(self._event("agent_stopped", begin + sounding))
        return audio, sounding, events

    def interrupt(self, unplayed: int = 0) -> Interruption:
        """See :meth:`DuplexSession.interrupt`."""
        if self._fade:
            tail = self.playback.peek(round(FADE_SECONDS * self._rate))
            self._fading = tail * np.linspace(1, 0, len(tail), dtype=np.float32)
        self._audible = False
        self._impatience = 0
        return self.playback.interrupt(unplayed)

    def speak(self, source: Any = None, wait: bool = False) -> Utterance:
        """See :meth:`DuplexSession.speak`."""
        if source is not None and not isinstance(source, str | SpeechTokens | Tensor | Iterable):
            raise InputError(
                f"the source is {quoted(source)}; expected codes, text, or an iterable of codes, text, ids"
            )
        if source is None or isinstance(source, SpeechTokens | Tensor):
            codes = None if source is None else self._speaker.as_codes(source)
            utterance = Utterance(self._speaker.num_codebooks if codes is None else len(codes), self._changed)
            if codes is not None:
                utterance.put(codes)
                utterance.end()
            self.playback.add(utterance)
            return utterance
        utterance = Utterance(self._speaker.num_codebooks, self._changed)
        self.playback.add(utterance)
        if wait:
            self._speaker.fill(source, utterance)
            utterance.end()
        else:
            ahead = round(MAX_WAITING_SECONDS * self._rate / self._hop)
            self._speaker.start(source, utterance, ahead, self._fail)
        return utterance

    def on_change(self, changed: Callable[[], object]) -> None:
        """Have ``changed`` called, in any thread, when the agent has something new to play."""
        self._changed = changed

    def take_turns(self) -> list[Turn]:
        """Turns of the user that ended since the last call."""
        turns, self._ended_turns = self._ended_turns, []
        return turns

    def take_interruptions(self) -> list[Interruption]:
        """Interruptions by the user since the last call."""
        interruptions, self._interruptions = self._interruptions, []
        return interruptions

    def take_failures(self) -> list[Exception]:
        """Exceptions of models since the last call."""
        return [self._failures.popleft() for _ in range(len(self._failures))]

    def end_turn(self) -> None:
        """End the turn of the user now, as the release of a button does; without speech there is no turn to end."""
        if self._turn_start is not None and self._heard:
            self._ended_turns.append(self._end_turn(self._event("end_of_turn", self.frame * self._hop)))
        self.turns.end_turn()

    def _fail(self, error: Exception) -> None:
        self._failures.append(error)
        self._changed()

    def _take_reference(self) -> np.ndarray:
        """What was played while the microphone heard the next frame; silence where that is not known."""
        begin, reference = self.frame * self._hop, np.zeros(self._hop, np.float32)
        over = min(max(0, begin - self._reference_start), len(self._reference))
        self._reference = self._reference[over:]
        self._reference_start += over
        place = self._reference_start - begin
        if len(self._reference) and place < self._hop:
            part = self._reference[: self._hop - place]
            reference[place : place + len(part)] = part
        return reference

    def _end_turn(self, event: TurnEvent) -> Turn:
        first_kept = self.frame - len(self._heard)  # TurnEvents has counted the frame that was heard last
        start = max(first_kept, self._turn_start or 0)
        self._turn_start = None
        heard = list(itertools.islice(self._heard, start - first_kept, None))
        codes = torch.from_numpy(np.stack(heard, 1).astype(np.int64))[None]
        frames = torch.tensor([codes.shape[2]])
        t = self._tokenizer
        tokens = SpeechTokens(
            codes, frames, frames * t.hop_length, t.sample_rate, t.hop_length, t.codebook_size, t.fingerprint
        )
        return Turn(tokens, start, event)

    def _event(self, kind: str, sample: int) -> TurnEvent:
        return TurnEvent(kind, sample // self._hop, max(0, self.frame - 1), sample / self._rate, 1.0)
