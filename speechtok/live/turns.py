"""Turn events: from probabilities of each frame to the moments when somebody starts, stops, or hands over the turn."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from speechtok.errors import InputError, quoted


class FrameProbabilities(NamedTuple):
    """Probabilities of some frames, float ``(T,)`` each.

    Attributes:
        speech: that somebody speaks in the frame.
        end_of_turn: that what was said so far ends a turn.
        overlap: that two people speak in the frame.
    """

    speech: np.ndarray
    end_of_turn: np.ndarray
    overlap: np.ndarray


class FrameDetector(Protocol):
    """The source of the probabilities, with a state of its own; one for each speaker."""

    def push(self, codes: Tensor, audio: np.ndarray) -> FrameProbabilities:
        """Take the next frames.

        Args:
            codes: of the frames, int64 ``(1, Q, T)``.
            audio: of the same frames, float32 ``(T * hop_length,)``, without the echo of the other speaker.
        """

    def reset(self) -> None:
        """Start anew, with another speaker."""


class EnergyDetector:
    """A turn detector without a model: loudness against the noise floor, which it follows.

    It takes no side in the question of the end of a turn: with it, the end is decided by the length of the silence.

    Args:
        hop_length: samples per frame.
        threshold_db: loudness above the noise floor at which speech is as likely as not.
        floor_db: lowest noise floor, relative to full scale.
    """

    def __init__(self, hop_length: int, threshold_db: float = 12.0, floor_db: float = -65.0) -> None:
        self._hop, self._threshold, self._lowest = hop_length, threshold_db, floor_db
        self.reset()

    def reset(self) -> None:  # noqa: D102
        self._floor: float | None = None
        self._smooth = 0.0

    def push(self, codes: Tensor, audio: np.ndarray) -> FrameProbabilities:  # noqa: D102
        frames = audio.astype(np.float64).reshape(-1, self._hop)
        speech = np.empty(len(frames))
        for index, level in enumerate(10 * np.log10(np.square(frames).mean(1) + 1e-10)):
            if self._floor is None:
                self._floor = max(self._lowest, min(level, -40.0))  # an utterance may begin with the first sample
            # down at once, up by 3 dB a second: pauses of speech are shorter than what lifts the floor to speech
            rise = 0.06 if level > self._floor else max(-2.0, level - self._floor)
            self._floor = max(self._lowest, min(self._floor + rise, -20.0))
            p = 1 / (1 + np.exp(-(level - self._floor - self._threshold) / 2))
            self._smooth += (0.6 if p > self._smooth else 0.3) * (p - self._smooth)
            speech[index] = self._smooth
        return FrameProbabilities(speech, np.zeros(len(frames)), np.zeros(len(frames)))


@dataclass(frozen=True)
class TurnPolicy:
    """When a probability becomes an event.

    Attributes:
        start: probability from which a frame is speech.
        stop: probability below which it is not; between the two, it is what the frame before was.
        min_speech: seconds of speech before it counts as started.
        min_silence: seconds of silence before speech counts as stopped.
        end_of_turn: probability from which a turn ends after ``min_delay``.
        min_delay: shortest silence at the end of a turn, in seconds.
        max_delay: silence after which a turn ends whatever the probability, in seconds.
        min_overlap: seconds of overlap before it counts as started.
    """

    start: float = 0.6
    stop: float = 0.4
    min_speech: float = 0.06
    min_silence: float = 0.2
    end_of_turn: float = 0.5
    min_delay: float = 0.3
    max_delay: float = 0.8
    min_overlap: float = 0.1

    def __post_init__(self) -> None:
        """Raise :class:`~speechtok.errors.InputError` if the fields do not fit each other."""
        if not 0 <= self.stop <= self.start <= 1:
            raise InputError(
                f"stop is {quoted(self.stop)} and start {quoted(self.start)}; expected 0 <= stop <= start <= 1"
            )
        for name in ("min_speech", "min_silence", "min_delay", "max_delay", "min_overlap"):
            if not 0 <= getattr(self, name) <= 60:
                raise InputError(f"{name} is {quoted(getattr(self, name))}; expected 0 to 60 seconds")
        if not self.min_silence <= self.min_delay <= self.max_delay:
            raise InputError(
                f"min_silence is {self.min_silence}, min_delay {self.min_delay} and max_delay {self.max_delay}; "
                "expected them in ascending order"
            )


@dataclass(frozen=True)
class TurnEvent:
    """Something that happened in a conversation.

    Attributes:
        type: ``speech_started``, ``speech_stopped``, ``end_of_turn``, ``overlap_started``, ``overlap_stopped``; and, of
            the agent, ``agent_started``, ``agent_stopped``, ``agent_interrupted``.
        frame: when it happened: the first frame of speech, of silence, or of overlap.
        detected: the frame with which it became known.
        time: of the start of ``frame``, in seconds.
        probability: that decided it.
    """

    type: str
    frame: int
    detected: int
    time: float
    probability: float


class TurnEvents:
    """Turn events of one speaker, with hysteresis: a flickering probability gives no events.

    Args:
        frame_rate: frames per second.
        policy: thresholds and times.
    """

    def __init__(self, frame_rate: float, policy: TurnPolicy | None = None) -> None:
        self.frame_rate, self.policy = frame_rate, policy or TurnPolicy()
        frames = {name: max(1, round(getattr(self.policy, name) * frame_rate)) for name in _TIMES}
        self._min_speech, self._min_silence, self._min_delay, self._max_delay, self._min_overlap = frames.values()
        self.reset()

    def reset(self) -> None:
        """Start anew at frame 0."""
        self.frame = 0
        self.speaking = False
        """Whether speech has started and not stopped."""
        self.in_turn = False
        """Whether there was speech since the last end of a turn."""
        self.overlapping = False
        self._is_speech = self._is_overlap = False
        self._speech_run = self._silence_run = self._overlap_run = self._clear_run = 0

    def end_turn(self) -> None:
        """End the turn whatever the probabilities; frames are counted on."""
        frame = self.frame
        self.reset()
        self.frame = frame

    def push(self, probabilities: FrameProbabilities) -> list[TurnEvent]:
        """Take the probabilities of the next frames, and return the events that they decide."""
        events: list[TurnEvent] = []
        columns = (np.asarray(column, np.float64).tolist() for column in probabilities)
        for speech, end, overlap in zip(*columns, strict=True):
            self._step(speech, end, overlap, events)
            self.frame += 1
        return events

    def _step(self, speech: float, end: float, overlap: float, events: list[TurnEvent]) -> None:
        policy = self.policy
        self._is_speech = speech >= (policy.stop if self._is_speech else policy.start)
        self._speech_run = self._speech_run + 1 if self._is_speech else 0
        self._silence_run = 0 if self._is_speech else self._silence_run + 1
        if not self.speaking and self._speech_run >= self._min_speech:
            self.speaking = self.in_turn = True
            events.append(self._event("speech_started", self._speech_run, speech))
        elif self.speaking and self._silence_run >= self._min_silence:
            self.speaking = False
            events.append(self._event("speech_stopped", self._silence_run, 1 - speech))
        if self.in_turn and not self.speaking and not self._is_speech:
            likely = end >= policy.end_of_turn and self._silence_run >= self._min_delay
            if likely or self._silence_run >= self._max_delay:
                self.in_turn = False
                events.append(self._event("end_of_turn", self._silence_run, end))
        self._is_overlap = overlap >= (policy.stop if self._is_overlap else policy.start)
        self._overlap_run = self._overlap_run + 1 if self._is_overlap else 0
        self._clear_run = 0 if self._is_overlap else self._clear_run + 1
        if not self.overlapping and self._overlap_run >= self._min_overlap:
            self.overlapping = True
            events.append(self._event("overlap_started", self._overlap_run, overlap))
        elif self.overlapping and self._clear_run >= self._min_overlap:
            self.overlapping = False
            events.append(self._event("overlap_stopped", self._clear_run, 1 - overlap))

    def _event(self, kind: str, run: int, probability: float) -> TurnEvent:
        frame = self.frame - run + 1
        return TurnEvent(kind, frame, self.frame, frame / self.frame_rate, probability)


_TIMES = "min_speech", "min_silence", "min_delay", "max_delay", "min_overlap"
