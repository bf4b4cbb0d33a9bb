"""A text with utterances in it."""

from collections.abc import Sequence

from speechtok.tokens import SpeechTokens


class TextAndSpeech(str):
    """Text of a sequence with a placeholder ``<|speech|>`` for each utterance, and the utterances.

    Attributes:
        speech: the utterances in order, each a batch of one.
    """

    speech: list[SpeechTokens]

    def __new__(cls, text: str, speech: Sequence[SpeechTokens] = ()) -> "TextAndSpeech":
        """Text with its utterances."""
        said = super().__new__(cls, text)
        said.speech = list(speech)
        return said

    @property
    def text(self) -> str:
        """The text alone, without special tokens of the text tokenizer."""
        return str(self)
