"""Agents of the server: what answers the user."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechtok.audio import read_audio
from speechtok.errors import InputError, quoted
from speechtok.live.conversation import Conversation, Turn
from speechtok.live.playback import Utterance
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens
from speechtok.voice.model import VoiceModel

Answer = Callable[[Turn | None], Iterable[Any] | None]
"""A turn of the user to codes, text or ids, while a model writes them; ``None`` asks to speak without a turn."""

SAMPLE = Path(__file__).parents[1] / "assets" / "sample.flac"

_PIECE = 10
"""Frames that a voice model generates at a time."""


class Agent:
    """Takes part in one conversation. The server calls it from one thread.

    Args:
        conversation: to take part in.
        answer: of a model; it runs in a thread of its own.
    """

    def __init__(self, conversation: Conversation, answer: Answer) -> None:
        self.conversation, self._answer = conversation, answer

    def hear(self, codes: Tensor) -> None:
        """Take one frame of the user, ``(Q, 1)``."""

    def answer(self, turn: Turn | None) -> None:
        """Start to answer a turn, or to speak without one."""
        self.conversation.speak(_call(self._answer, turn))

    def set_codebooks(self, count: int) -> None:
        """Take note of the codebooks that the user wants to hear."""


class Loopback(Agent):
    """Lets the user hear himself at once, through some of the codebooks."""

    def __init__(self, conversation: Conversation, tokenizer: Tokenizer) -> None:
        super().__init__(conversation, lambda turn: None)
        self._count = tokenizer.num_codebooks
        self._utterance: Utterance | None = None

    def hear(self, codes: Tensor) -> None:  # noqa: D102
        if self._utterance is None or self._utterance.cancelled:
            self._utterance = Utterance(self._count, keep=False)
            self.conversation.playback.add(self._utterance)
        self._utterance.put(codes[: self._count])

    def answer(self, turn: Turn | None) -> None:  # noqa: D102
        pass

    def set_codebooks(self, count: int) -> None:  # noqa: D102
        if count != self._count:
            self._count = count
            if self._utterance is not None:
                self._utterance.end()
                self._utterance = None


def repeat(turn: Turn | None) -> Iterable[Any]:
    """Say what the user said."""
    return [] if turn is None else [turn.tokens]


def scripted(tokenizer: Tokenizer, seconds: float = 20.0) -> Answer:
    """An answer that is long enough to be interrupted: the sample of the package, over and over."""
    codes = tokenizer.encode(*read_audio(SAMPLE)).codes[0]
    frames = round(seconds * tokenizer.frame_rate)
    codes = codes.repeat(1, -(-frames // codes.shape[1]))[:, :frames]

    def answer(turn: Turn | None) -> Iterator[Any]:
        for second, part in enumerate(torch.split(codes, round(tokenizer.frame_rate), 1)):
            yield f"{second + 1} "
            yield part

    return answer


class OtherVoice:
    """An answer that says a turn in the voice of the turn before it. The first turn only gives its voice.

    Args:
        voice: model that generates the acoustic codes.
    """

    def __init__(self, voice: VoiceModel) -> None:
        self._voice = voice
        self._prompt: SpeechTokens | None = None

    def __call__(self, turn: Turn | None) -> Iterator[Any]:  # noqa: D102
        if turn is None:
            return
        prompt, self._prompt = self._prompt, turn.tokens
        if prompt is not None:
            stream = self._voice.stream(prompt)
            for semantic in torch.split(turn.tokens.codes[:, 0], _PIECE, 1):
                yield stream.push(semantic)
            yield stream.flush()


BUILT_IN = "none", "loopback", "repeat", "convert-voice", "scripted"


class Agents:
    """Makes an agent for each conversation.

    Args:
        tokenizer: of the server.
        default: agent of callers who ask for none: one of :data:`BUILT_IN`, or ``module:function``, which is an
            :data:`Answer`.
        voice: model for ``convert-voice``, which is there only with one.

    Raises:
        InputError: the default agent cannot be imported, or needs a voice model.
    """

    def __init__(self, tokenizer: Tokenizer, default: str = "none", voice: VoiceModel | None = None) -> None:
        self._tokenizer, self._voice = tokenizer, voice
        self.default = default
        built_in = tuple(name for name in BUILT_IN if voice is not None or name != "convert-voice")
        self._answers: dict[str, Answer] = {"repeat": repeat}
        if default not in BUILT_IN:
            self._answers[default] = load_answer(default)
        elif default not in built_in:
            raise InputError(
                f"agent is {quoted(default)}, which needs a voice model, and the package has none for this tokenizer; "
                "pass one (--voice-model FILE)"
            )
        self.names = tuple(dict.fromkeys((*built_in, default)))

    def make(self, name: str, conversation: Conversation) -> Agent:
        """An agent of :attr:`names` other than ``none``."""
        if name == "loopback":
            return Loopback(conversation, self._tokenizer)
        if name == "convert-voice" and self._voice is not None:
            return Agent(conversation, OtherVoice(self._voice))
        if name == "scripted" and name not in self._answers:
            self._answers[name] = scripted(self._tokenizer)
        return Agent(conversation, self._answers[name])


def load_answer(name: str) -> Answer:
    """Import ``module:function``.

    Raises:
        InputError: there is no such function.
    """
    module, colon, function = name.partition(":")
    if not colon:
        raise InputError(f"agent is {quoted(name)}; expected one of {', '.join(BUILT_IN)}, or module:function")
    try:
        answer: Answer = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"agent {quoted(name)} cannot be imported ({error}); expected module:function") from error
    if not callable(answer):
        raise InputError(f"agent {quoted(name)} is a {type(answer).__name__}; expected a function")
    return answer


def _call(answer: Answer, turn: Turn | None) -> Iterator[Any]:
    """Call a model when its first codes are read, which is in the thread that reads them."""
    result = answer(turn)
    if result is not None:
        yield from result
