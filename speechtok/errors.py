"""Exceptions that speechtok raises on purpose. Each message states the value, what was expected, and the way out."""

from typing import Any

_MAX_QUOTED = 80
"""Characters of a value that a message quotes."""


class SpeechtokError(Exception):
    """Base class of all exceptions that speechtok raises on purpose."""


class InputError(SpeechtokError, ValueError):
    """A value passed by the caller cannot be used."""


class AudioError(InputError):
    """A waveform, a sample rate or an audio file cannot be used."""


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


class OutputError(SpeechtokError, OSError):
    """A result could not be written. The file that stood in its place is unchanged."""


def quoted(value: Any) -> str:
    """``repr(value)`` for a message; of long text, the beginning and the end in 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        text = "an integer too long to print"
    half = _MAX_QUOTED // 2
    return text if len(text) <= _MAX_QUOTED else f"{text[: half - 1]}…{text[-half:]}"
