"""Manifests: the list of utterances that corpora, training, benchmarks and examples read.

A manifest is a UTF-8 file with one JSON object a line::

    {"audio": "a.flac", "id": "a", "seconds": 2.1, "text": "good morning", "speaker": "s1", "lang": "en",
     "phones": [["SIL", 0, 0.12], ["G", 0.12, 0.2]]}

Only ``audio`` is required. It is a path relative to the folder of the manifest, or an absolute path. Other fields are
ignored.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechtok.errors import AudioError, InputError, MissingFileError, quoted
from speechtok.parsing import ParseError, parse_json

SILENCE = "SIL"
"""Phone name of silence. Aligner fillers (``+NOISE+``, ``+BREATH+``, …) are read as silence too."""

_MAX_SECONDS = 1e9
"""Longest duration, and latest time of a phone."""

EXPECTED = "expected a JSON object with an 'audio' path"


@dataclass(frozen=True)
class Phone:
    """One row of a forced alignment.

    Attributes:
        name: the phone, such as ``"AH"``, or :data:`SILENCE`.
        start: in seconds.
        end: in seconds, not before ``start``.
    """

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest, or one audio file of a folder.

    Attributes:
        audio: path of the audio file.
        id: name of the utterance; the value of ``audio`` if the manifest gives none.
        seconds: duration, if known.
        text: transcript, if known.
        phones: forced alignment, at least one row; ``None`` if the utterance is not aligned.
        speaker: name of the speaker, if known.
        lang: language tag such as ``"en"``, if known.
        gender: of the speaker, if known.
    """

    audio: Path
    id: str
    seconds: float | None = None
    text: str | None = None
    phones: tuple[Phone, ...] | None = None
    speaker: str | None = None
    lang: str | None = None
    gender: str | None = None


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    r"""Read the utterances of a manifest, in order.

    Lines end at ``"\n"``; other line separators inside a text, such as U+2028, are kept. A byte order mark at the start
    and blank lines are ignored. Audio files are not opened.

    Raises:
        MissingFileError: ``path`` does not exist.
        AudioError: ``path`` is not a UTF-8 text file, or a line is not a valid utterance. The message names the line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist; expected a manifest of JSON lines") from error
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        raise AudioError(
            f"{str(path)!r} cannot be read as UTF-8 text ({error}); expected a manifest of JSON lines, or a folder"
        ) from error
    utterances = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            utterances.append(parse_utterance(parse_json(line, finite=True), path.parent))
        except ParseError as error:
            raise AudioError(f"{path}, line {number} is {quoted(line.strip())}; {EXPECTED} ({error})") from error
        except FieldError as error:
            raise AudioError(f"{path}, line {number} is {quoted(line.strip())}; {error}") from error
    return utterances


class FieldError(InputError):
    """The value of a field cannot be used; the message says what was expected."""


def parse_utterance(row: Any, folder: Path) -> Utterance:
    """Read the fields of one line of a manifest in ``folder``.

    Raises:
        FieldError: the line lacks an audio path, or a field cannot be used.
    """
    if not isinstance(row, dict) or "audio" not in row:
        raise FieldError(EXPECTED)
    audio = row["audio"]
    if not isinstance(audio, str) or not audio.strip() or "\0" in audio or not _encodable(audio):
        raise FieldError("expected 'audio' to be the path of a file")
    return Utterance(
        folder / audio,
        _text(row, "id") or audio,
        None if row.get("seconds") is None else _seconds(row["seconds"], "'seconds' to be the duration"),
        _text(row, "text"),
        _phones(row.get("phones")),
        _text(row, "speaker"),
        _text(row, "lang"),
        _text(row, "gender"),
    )


def _encodable(text: str) -> bool:
    """Whether ``text`` can name a file: JSON can hold lone surrogates, a file name cannot."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _text(row: dict[str, Any], field: str) -> str | None:
    value = row.get(field)
    if field != "text" and type(value) is int:  # speakers and ids are often numbered
        return str(value)
    if value is not None and not isinstance(value, str):
        raise FieldError(f"expected {field!r} to be a string")
    return value


def _seconds(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_SECONDS:
        raise FieldError(f"expected {what} in seconds, a number from 0 to {_MAX_SECONDS:g}")
    return float(value)


def _phones(rows: Any) -> tuple[Phone, ...] | None:
    if rows is None:
        return None
    if not isinstance(rows, list):
        raise FieldError("expected 'phones' to be rows [phone, start in seconds, end in seconds]")
    phones = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not isinstance(row[0], str):
            raise FieldError(f"phone {quoted(row)} is not a row [phone, start in seconds, end in seconds]")
        name, start, end = row[0], _seconds(row[1], "phone times"), _seconds(row[2], "phone times")
        if end < start:
            raise FieldError(f"phone {quoted(row)} ends before it starts; expected [phone, start, end]")
        phones.append(Phone(SILENCE if name.startswith("+") else name, start, end))
    return tuple(phones) or None
