"""Exceptions that speechtok raises on purpose. Each message states the value, what was expected, and the way out."""

from typing import Any

_MAX_QUOTED = 80
"""Characters of a value that a message quotes."""

_MAX_PARTS = 200
"""Parts of a nested value that are looked at for a message."""


class SpeechtokError(Exception):
    """Base class of all exceptions that speechtok raises on purpose.

    The text of a message has no control characters: names of files and reasons of libraries may hold some, and a
    terminal would obey them.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(SpeechtokError, ValueError):
    """A value passed by the caller cannot be used."""


class AudioError(InputError):
    """A waveform, a sample rate or an audio file cannot be used.

    Attributes:
        reason: the kind of error in one word, to count by: ``"empty"``, ``"truncated"``, ``"damaged"``, ``"too_long"``,
            ``"not_audio"``, or ``"unusable"`` for everything else.
    """

    def __init__(self, message: str, reason: str = "unusable") -> None:
        super().__init__(message)
        self.reason = reason


class TokensError(InputError):
    """Codes or a tokens file cannot be used."""


class FingerprintError(TokensError):
    """The tokens were made by another tokenizer than the one that was asked to decode them."""


class VocabularyError(InputError):
    """Ids, a pattern, a text tokenizer or a language model do not fit an audio vocabulary."""


class StreamError(InputError):
    """A stream was used after its end, or a row of it after the end of its utterance."""


class ConfigError(InputError):
    """A configuration does not describe a tokenizer or a training."""


class CheckpointError(InputError):
    """A saved tokenizer is damaged, inconsistent or unsafe to read."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder does not exist."""


class ExactnessError(SpeechtokError):
    """A program computes other codes or other audio than it must."""


class OutputError(SpeechtokError, OSError):
    """A result could not be written. The file that stood in its place is unchanged."""


def quoted(value: Any) -> str:
    """``repr(value)`` for a message; of long text, the beginning and the end in 80 characters.

    Only a part of a long or deeply nested value is looked at, so that no value takes long to quote.
    """
    try:
        text = printable(repr(_shortened(value, [_MAX_PARTS])))
    except Exception:  # a repr of another library, or one of a class that refers to itself
        text = f"a {type(value).__name__} that cannot be printed"
    half = _MAX_QUOTED // 2
    return text if len(text) <= _MAX_QUOTED else f"{text[: half - 1]}…{text[-half:]}"


def printable(text: str) -> str:
    """``text`` with an escape for each character that does not print, such as those that move the cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _Text:
    """A value whose ``repr`` is a given text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shortened(value: Any, parts_left: list[int]) -> Any:
    """``value`` with the middle of long parts left out. ``parts_left`` is a number that all calls count down."""
    parts_left[0] -= 1
    kind = type(value)
    if kind in (str, bytes) and len(value) > 4 * _MAX_QUOTED:
        return value[: 2 * _MAX_QUOTED] + value[-2 * _MAX_QUOTED :]
    if kind is int and value.bit_length() > 14_000:  # Python refuses to print more than 4300 digits
        return _Text("an integer too long to print")
    if kind not in (list, tuple, dict, set, frozenset) or not value:
        return value
    if parts_left[0] <= 0:
        return _Text("…")
    parts = list(value)
    if len(parts) > _MAX_QUOTED:
        parts = parts[: _MAX_QUOTED // 2] + parts[-_MAX_QUOTED // 2 :]
    short = [_shortened(part, parts_left) for part in parts]
    if kind is dict:
        texts = (f"{key!r}: {_shortened(value[part], parts_left)!r}" for key, part in zip(short, parts, strict=True))
        return _Text("{" + ", ".join(texts) + "}")
    return _Text("{" + ", ".join(map(repr, short)) + "}") if kind in (set, frozenset) else kind(short)
