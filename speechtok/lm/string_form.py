"""Speech as a string of codes between two marks, as AnyGPT and SpeechGPT write it in their data sets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from speechtok.errors import VocabularyError, quoted
from speechtok.limits import MAX_CODEBOOK_SIZE
from speechtok.lm.layout import PLACEHOLDER_TOKEN
from speechtok.lm.text_and_speech import TextAndSpeech
from speechtok.lm.vocabulary import TokenizerInfo
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens

_VARIATION_SELECTOR = "\ufe0f"
"""Makes the character before it an emoji; some programs drop it."""

_MAX_DIGITS = len(str(MAX_CODEBOOK_SIZE))


@dataclass(frozen=True)
class StringForm:
    """Writes codebook 0 of utterances into texts, and reads it back.

    Attributes:
        start: mark before the codes of an utterance.
        code: one code, with ``{}`` for its number.
        end: mark after the codes.

    Raises:
        VocabularyError: a mark is empty, or ``code`` does not have ``{}`` once.
    """

    start: str
    code: str
    end: str

    def __post_init__(self) -> None:
        if not self.start or not self.end or self.code.count("{}") != 1 or self.code.strip("{}") == "":
            raise VocabularyError(
                f"start is {quoted(self.start)}, code {quoted(self.code)}, end {quoted(self.end)}; expected marks, and "
                "a code with {} for its number, such as '<{}>'"
            )

    def write(self, text: str, speech: Sequence[SpeechTokens] | None = None) -> str:
        """Replace the placeholders ``<|speech|>`` in a text by strings of codes.

        Args:
            text: the text, such as the result of ``processor.decode``.
            speech: the utterances for the placeholders, each a batch of one; by default, those of ``text``. The codes
                of codebook 0 are written, others are dropped.

        Raises:
            VocabularyError: the numbers of placeholders and utterances differ.
        """
        utterances = list(text.speech if speech is None and isinstance(text, TextAndSpeech) else speech or ())
        rows = [tokens[row] for tokens in utterances for row in range(len(tokens))]
        parts = str(text).split(PLACEHOLDER_TOKEN)
        if len(parts) - 1 != len(rows):
            raise VocabularyError(
                f"the text has {len(parts) - 1} placeholders {PLACEHOLDER_TOKEN} for {len(rows)} utterances; expected "
                "equal numbers"
            )
        strings = [
            self.start + "".join(self.code.replace("{}", str(code)) for code in row.codes[0, 0].tolist()) + self.end
            for row in rows
        ]
        return "".join(one for pair in zip(parts, [*strings, ""], strict=True) for one in pair)

    def read(self, text: str, tokenizer: Tokenizer | TokenizerInfo) -> TextAndSpeech:
        """Replace strings of codes in a text by placeholders ``<|speech|>``.

        Args:
            text: a text. Codes outside of the marks stay as they are.
            tokenizer: speech tokenizer that made the codes. A string does not say which one did.

        Returns:
            The text and its utterances of one codebook, for a :class:`SpeechProcessor`.

        Raises:
            VocabularyError: a code is out of range, or a start mark has no codes and end mark after it.
        """
        info = TokenizerInfo.of(tokenizer)
        before, after = (_pattern(part) for part in self.code.split("{}"))
        one_code = re.compile(rf"\s*{before}(\d{{1,{_MAX_DIGITS}}}){after}\s*")
        end = re.compile(_pattern(self.end))
        parts, speech, position = [], [], 0
        for start in re.finditer(_pattern(self.start), text):
            if start.start() < position:
                continue
            parts.append(text[position : start.start()])
            codes, position = [], start.end()
            while found := one_code.match(text, position):
                codes.append(int(found[1]))
                position = found.end()
            stop = end.match(text, position)
            if stop is None:
                found_text = quoted(text[position : position + 40])
                raise VocabularyError(
                    f"the string has {found_text} at position {position}, after {self.start} and {len(codes)} codes; "
                    f"expected {self.code.replace('{}', '0')} or {self.end}"
                )
            position = stop.end()
            wrong = next((code for code in codes if code >= info.codebook_size), None)
            if wrong is not None:
                raise VocabularyError(
                    f"the string has the code {wrong}; expected 0 to {info.codebook_size - 1}: read it with the "
                    "tokenizer that made the codes"
                )
            speech.append(_tokens(codes, info))
        return TextAndSpeech(PLACEHOLDER_TOKEN.join([*parts, text[position:]]), speech)


ANYGPT = StringForm("<sosp>", "<\U0001f5e3\ufe0f{}>", "<eosp>")
"""``<sosp><🗣️12><🗣️7><eosp>``: AnyGPT, arXiv 2402.12226."""

SPEECHGPT = StringForm("<sosp>", "<{}>", "<eosp>")
"""``<sosp><12><7><eosp>``: SpeechGPT, arXiv 2305.11000, which writes repeated codes once."""


def _pattern(mark: str) -> str:
    """Regular expression of a mark, with or without variation selectors."""
    return re.escape(mark).replace(re.escape(_VARIATION_SELECTOR), f"{_VARIATION_SELECTOR}?")


def _tokens(codes: list[int], info: TokenizerInfo) -> SpeechTokens:
    lengths = torch.tensor([len(codes)], dtype=torch.int64, device="cpu")
    grid = torch.tensor([[codes]], dtype=torch.int64, device="cpu")
    return SpeechTokens(
        grid,
        lengths,
        lengths * info.hop_length,
        info.sample_rate,
        info.hop_length,
        info.codebook_size,
        info.fingerprint,
    )
