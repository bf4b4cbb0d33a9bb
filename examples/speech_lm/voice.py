"""The voice of generated speech: a voice model generates the codebooks that the language model does not write."""

import argparse
from dataclasses import dataclass

import speechtok
from speechtok.errors import InputError, quoted
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens
from speechtok.voice import VoiceModel, VoiceStream


@dataclass(frozen=True)
class Voice:
    """A voice that speaks codes of codebook 0.

    Attributes:
        model: generates the other codebooks.
        prompt: some seconds of the voice, with all codebooks.
        style: such as ``"a high, lively, soft voice"``; empty if open.
        seed: another seed sounds different.
    """

    model: VoiceModel
    prompt: SpeechTokens
    style: str = ""
    seed: int = 0

    def complete(self, semantic: SpeechTokens) -> SpeechTokens:
        """Tokens with all codebooks, for tokens with codebook 0."""
        return self.model.complete(semantic, self.prompt, self.style, self.seed)

    def stream(self) -> VoiceStream:
        """Open a stream, which gives the codes of :meth:`complete` while those of codebook 0 arrive."""
        return self.model.stream(self.prompt, self.style, self.seed)


def add_voice_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a voice."""
    parser.add_argument("--voice", metavar="PROMPT", help="audio file with about 3 s of the voice")
    parser.add_argument("--voice-model", metavar="FILE", help="voice model (default: the one of the package)")


def load_voice(
    tokenizer: Tokenizer,
    prompt: str | SpeechTokens | None,
    model: str | None = None,
    style: str = "",
    seed: int = 0,
) -> Voice | None:
    """Load the voice that a command line asks for. ``None`` if it asks for none: there is neither prompt nor model.

    Args:
        tokenizer: the speech tokenizer.
        prompt: audio file with some seconds of the voice, or its tokens.
        model: file of a voice model; the one of the package by default.
        style: of the voice.
        seed: of the voice.

    Raises:
        InputError: there is a model or a style, and no prompt; or the style cannot be used.
        SpeechtokError: the voice model cannot be loaded, or the prompt cannot be used.
    """
    if prompt is None:
        for name, value in (("voice-model", model), ("style", style)):
            if value:
                raise InputError(f"{name} is {quoted(value)} without a voice; expected --voice PROMPT too")
        return None
    if isinstance(prompt, str):
        prompt = tokenizer.encode(*speechtok.read_audio(prompt))
    voice = Voice(VoiceModel(tokenizer, model), prompt, style, seed)
    voice.stream()  # refuses a prompt or a style before anything is generated
    return voice
