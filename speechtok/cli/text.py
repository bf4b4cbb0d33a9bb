"""Quantities, names and tables as text."""

from pathlib import Path

from speechtok.errors import printable
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens

Rows = list[tuple[str, str]]
"""Label and value of each line of a table."""


def path_text(path: Path) -> str:
    """The name of a file, without characters that a terminal would obey."""
    return printable(str(path))


def seconds(tokens: SpeechTokens) -> float:
    """Duration of all utterances together."""
    return int(tokens.num_samples.sum()) / tokens.sample_rate


def duration(tokens: SpeechTokens) -> str:
    """Duration of all utterances together, for example ``1.25 s``."""
    return f"{seconds(tokens):.2f} s"


def shape(tokens: SpeechTokens) -> str:
    """Shape of the codes, ``(B, Q, T)``."""
    return str(tuple(tokens.codes.shape))


def bitrate(source: SpeechTokens | Tokenizer) -> str:
    """Bitrate, for example ``4.00 kbit/s``."""
    return f"{source.bitrate / 1000:.2f} kbit/s"


def table(rows: Rows) -> str:
    """One line a row, with the values in one column."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {printable(value)}" for label, value in rows)
