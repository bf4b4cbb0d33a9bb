"""Answers of two kinds of agents. Both take a turn of the user, and yield codes while they make them."""

import functools
import io
import json
import os
import shlex
import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import speechtok
from speechtok.errors import InputError, quoted
from speechtok.live.conversation import Turn

GREETING = "Hello! What can I do for you?"
SYSTEM = "You talk to a person by voice. Answer in one or two short sentences, in plain words."
SENTENCE_ENDS = ".!?"
MAX_HISTORY = 20

Recogniser = Callable[[np.ndarray], str]
"""Samples at 16 kHz to words."""


@dataclass
class TextAgent:
    """A text model between a recogniser and a synthesiser. It speaks a sentence while the model writes the next one.

    Args:
        tokenizer: of the conversation.
        url: of an OpenAI-compatible server, up to and with ``/v1``.
        model: name of the model.
        recognise: samples to words.
        synthesiser: command that reads a text from its input and writes an audio file to its output.
        key: of the server.
    """

    tokenizer: speechtok.Tokenizer
    url: str
    model: str
    recognise: Recogniser
    synthesiser: str
    key: str = ""
    history: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, turn: Turn | None) -> Iterator[Any]:
        """Yield the text of each sentence, and its codes."""
        if turn is None:
            yield from self._say(GREETING)
            return
        words = self.recognise(self.tokenizer.decode(turn.tokens)[0].numpy())
        if not words.strip():
            return
        self.history = [*self.history[-MAX_HISTORY:], {"role": "user", "content": words}]
        said = ""
        try:
            for sentence in sentences(self._write()):
                said += sentence  # a sentence that is interrupted is not written to the history as a whole
                yield from self._say(sentence)
        finally:
            self.history.append({"role": "assistant", "content": said})

    def _say(self, text: str) -> Iterator[Any]:
        audio = subprocess.run(shlex.split(self.synthesiser), input=text.encode(), stdout=subprocess.PIPE, check=True)
        yield text
        yield self.tokenizer.encode(*speechtok.read_audio(io.BytesIO(audio.stdout))).codes[0]

    def _write(self) -> Iterator[str]:
        """The answer of the model, piece by piece."""
        messages = [{"role": "system", "content": SYSTEM}, *self.history]
        body = json.dumps({"model": self.model, "messages": messages, "stream": True}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            for line in response:
                data = line.decode().strip()
                if data.startswith("data: ") and data != "data: [DONE]":
                    choices = json.loads(data[6:])["choices"]
                    yield (choices[0]["delta"].get("content") or "") if choices else ""


def sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Join pieces of text to sentences, each as soon as it is complete."""
    text = ""
    for piece in pieces:
        text += piece
        while (end := next((i for i, c in enumerate(text[:-1]) if c in SENTENCE_ENDS and text[i + 1] == " "), -1)) >= 0:
            yield text[: end + 2]
            text = text[end + 2 :]
    if text.strip():
        yield text


@dataclass
class SpeechAgent:
    """The example language model of speech: it says what it has understood, or goes on with what the user said.

    Args:
        directory: folder of a model of ``examples.speech_lm``.
        continues: whether it continues the user's speech, which models without transcripts can do too.
    """

    directory: str
    continues: bool = False

    @functools.cached_property
    def talker(self) -> Any:
        """The model, loaded at the first answer."""
        from examples.speech_lm.talker import Talker

        return Talker(self.directory)

    def __call__(self, turn: Turn | None) -> Iterator[Any]:
        """Yield codes of codebook 0."""
        if turn is None:
            return
        tokens = turn.tokens
        if self.continues:
            yield self.talker.continue_speech(tokens, seconds=3.0)[None]
            return
        words, _ = self.talker.transcribe(tokens)
        if words:
            yield words
            yield self.talker.say(words).tokens.codes[0]


def load_recogniser(name: str) -> Recogniser:
    """``pocketsphinx``, or ``whisper:SOURCE``, of the extra ``bench``."""
    from benchmarks.metrics.recognisers import load_recogniser as load

    recognise = load(name)
    return lambda samples: recognise(samples, "en")


def from_environment(tokenizer: speechtok.Tokenizer) -> Callable[[Turn | None], Iterable[Any]]:
    """The agent that the variables ``VOICE_AGENT_…`` describe.

    Raises:
        InputError: a variable is missing.
    """
    settings = {name: os.environ.get(f"VOICE_AGENT_{name}", "") for name in ("SPEECH_LM", "URL", "MODEL", "KEY")}
    if settings["SPEECH_LM"]:
        return SpeechAgent(settings["SPEECH_LM"], continues=os.environ.get("VOICE_AGENT_CONTINUES") == "1")
    if not settings["URL"] or not settings["MODEL"]:
        raise InputError(
            f"VOICE_AGENT_URL is {quoted(settings['URL'])} and VOICE_AGENT_MODEL {quoted(settings['MODEL'])}; expected "
            "an OpenAI-compatible server, or a folder in VOICE_AGENT_SPEECH_LM"
        )
    return TextAgent(
        tokenizer,
        settings["URL"],
        settings["MODEL"],
        load_recogniser(os.environ.get("VOICE_AGENT_RECOGNISER", "pocketsphinx")),
        os.environ.get("VOICE_AGENT_SYNTHESISER", "espeak-ng --stdin --stdout"),
        settings["KEY"],
    )


@functools.cache
def _agent() -> Callable[[Turn | None], Iterable[Any]]:
    torch.set_num_threads(1)
    return from_environment(speechtok.load())


def answer(turn: Turn | None) -> Iterable[Any]:
    """The agent of ``speechtok serve --agent examples.voice_agent:answer``; all callers share its history."""
    return _agent()(turn)
