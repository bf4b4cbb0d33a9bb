"""A conversation at one microphone and one loudspeaker."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.audio import as_waveform
from speechtok.live.conversation import Conversation, Turn
from speechtok.live.playback import Interruption, Utterance
from speechtok.live.speaking import Speaker, Synthesise
from speechtok.live.turns import FrameDetector, FrameProbabilities, TurnEvent, TurnPolicy
from speechtok.lm import AudioVocabulary
from speechtok.resampling import Resampler
from speechtok.tokenizer import Tokenizer


@dataclass(frozen=True)
class Step:
    """Result of :meth:`DuplexSession.push`.

    Attributes:
        codes: of the user's frames that are now complete, int64 ``(1, Q, T)``.
        audio: of the agent, to be played now, float32 ``(S,)`` at the tokenizer's rate: as long as what was pushed.
        events: of both, in order.
        turns: turns of the user that ended.
        interruptions: what was heard of the agent's utterances that the user's speech stopped.
        probabilities: of the user's frames.
    """

    codes: Tensor
    audio: np.ndarray
    events: list[TurnEvent]
    turns: list[Turn] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    probabilities: FrameProbabilities = field(default_factory=lambda: FrameProbabilities(*(np.zeros(0),) * 3))


class DuplexSession:
    """A conversation between a user and an agent, both of whom may speak at any time.

    The session has one clock, which counts the samples of the user: for each sample that comes from the microphone, one
    goes to the loudspeaker. There is no model inside. An agent is any program that calls :meth:`speak`, typically when
    a turn of the user has ended. Every method may be called from one thread; models run in threads of their own.

    Args:
        tokenizer: of both rows; it must be able to stream.
        sample_rate: of the microphone, in hertz; that of the tokenizer by default.
        num_codebooks: codebooks to encode the user with.
        policy: thresholds and times of turn events.
        detector: of the user's speech; the tokenizer's turn detector by default, or loudness if it has none.
        cancel_echo: whether the agent can be heard in the user's microphone. With headphones, it cannot.
        interrupt_after: seconds of the user's speech, after its start was detected, that stop the agent; ``None``
            leaves it to the caller of :meth:`interrupt`.
        vocabulary: of ids that a model yields.
        synthesise: turns text that a model yields into codes; without it, text goes along with the codes after it.

    Raises:
        StreamError: the tokenizer cannot stream.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        sample_rate: int | None = None,
        num_codebooks: int | None = None,
        policy: TurnPolicy | None = None,
        detector: FrameDetector | None = None,
        cancel_echo: bool = True,
        interrupt_after: float | None = 0.04,
        vocabulary: AudioVocabulary | None = None,
        synthesise: Synthesise | None = None,
    ) -> None:
        if vocabulary is not None:
            vocabulary.check_tokenizer(tokenizer)
        speaker = Speaker(tokenizer.num_codebooks, tokenizer.codebook_size, tokenizer.made, vocabulary, synthesise)
        self._conversation = Conversation(tokenizer, speaker, policy, detector, cancel_echo, interrupt_after)
        self._encoder = tokenizer.stream(num_codebooks=num_codebooks)
        self._decoder = tokenizer.stream()
        self.sample_rate = tokenizer.sample_rate if sample_rate is None else sample_rate
        self._resampler = Resampler(self.sample_rate, tokenizer.sample_rate)
        self._hop, self._rate = tokenizer.hop_length, tokenizer.sample_rate
        self._waiting = np.zeros(0, np.float32)  # samples of the user's frame that is not complete
        self._taken = 0

    @property
    def clock(self) -> int:
        """Samples of the agent, at the tokenizer's rate, that went out since the start."""
        return self._conversation.playback.clock

    @property
    def frame(self) -> int:
        """Frames of the user that were encoded."""
        return self._conversation.frame

    @property
    def agent_speaking(self) -> bool:
        """Whether the agent has something to say, or a model may still write it."""
        return self._conversation.playback.speaking

    @property
    def user_speaking(self) -> bool:
        """Whether the user's speech has started and not stopped."""
        return self._conversation.turns.speaking

    def push(self, user_audio: Any) -> Step:
        """Take the next samples of the microphone.

        Args:
            user_audio: ``(S,)`` or ``(1, S)`` with any ``S``, as :meth:`speechtok.Stream.encode` takes.

        Raises:
            AudioError: the samples cannot be used.
        """
        x = as_waveform(user_audio, 1)
        audio = self._resampler.push(x)[0].numpy()
        self._taken += x.shape[1]
        codes = self._encoder.encode(audio)
        self._waiting = np.concatenate([self._waiting, audio])
        target = -(-self._taken * self._rate // self.sample_rate)
        events: list[TurnEvent] = []
        played: list[np.ndarray] = []
        found: list[FrameProbabilities] = []
        for index in range(codes.shape[2]):
            self._play(min(target, self.frame * self._hop), played, events)
            frame, self._waiting = self._waiting[: self._hop], self._waiting[self._hop :]
            new = self._conversation.hear(codes[0, :, index : index + 1], frame)
            if any(event.type == "agent_interrupted" for event in new):
                self._decoder.reset()
            events += new
            found.append(self._conversation.probabilities)
        self._play(target, played, events)
        columns = zip(*found, strict=True) if found else [(np.zeros(0),)] * 3
        return Step(
            codes,
            np.concatenate(played) if played else np.zeros(0, np.float32),
            events,
            self._conversation.take_turns(),
            self._conversation.take_interruptions(),
            FrameProbabilities(*map(np.concatenate, columns)),
        )

    def speak(self, source: Any = None, wait: bool = False) -> Utterance:
        """Let the agent say something, after what it says already.

        Args:
            source: codes ``(Q, T)``, ``(1, Q, T)`` or :class:`~speechtok.SpeechTokens`; text, if the session has
                ``synthesise``; or an iterable that yields codes, text or ids while a model writes them. It is read in a
                thread of its own, at most ten seconds ahead, and closed when it is interrupted. Without a source, the
                caller calls :meth:`~speechtok.live.Utterance.put` and :meth:`~speechtok.live.Utterance.end`.
            wait: read the source in this thread, to its end, before the call returns.

        Returns:
            The utterance.

        Raises:
            TokensError: the codes are not codes of the tokenizer.
            InputError: the source cannot be read. From another thread, the next :meth:`check` raises it.
        """
        return self._conversation.speak(source, wait)

    def interrupt(self, unplayed: int = 0) -> Interruption:
        """Stop the agent at once, and forget what is queued.

        Args:
            unplayed: samples that :meth:`push` returned and that will not be heard, as they wait in the buffer of a
                device that is emptied now.

        Returns:
            What the user heard, to the frame, of each utterance that was cut.
        """
        result = self._conversation.interrupt(unplayed)
        self._decoder.reset()
        return result

    def check(self) -> None:
        """Raise the first exception of a source that :meth:`speak` reads in another thread, if there was one."""
        for error in self._conversation.take_failures():
            raise error

    def close(self) -> None:
        """End the conversation: models that wait for room are let go."""
        self._conversation.interrupt()
        self._encoder.close()
        self._decoder.close()

    def __enter__(self) -> "DuplexSession":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _play(self, until: int, played: list[np.ndarray], events: list[TurnEvent]) -> None:
        """Play up to a place of the clock."""
        samples = until - self.clock
        if samples <= 0:
            return
        playback = self._conversation.playback
        while (request := playback.wanted(samples)) is not None:
            parts = [self._decoder.decode(request.codes[None])]
            if request.ends:
                parts.append(self._decoder.drain())
                self._decoder.reset()
            playback.give(request, torch.cat(parts, 1)[0].numpy())
        audio, _, new = self._conversation.play(samples)
        played.append(audio)
        events += new
