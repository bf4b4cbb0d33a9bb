"""Manifests: the list of utterances that training, benchmarks and examples read.

A manifest is a UTF-8 file with one JSON object a line::

    {"audio": "a.flac", "id": "a", "seconds": 2.1, "text": "good morning", "speaker": "s1", "lang": "en",
     "phones": [["SIL", 0, 0.12], ["G", 0.12, 0.2]]}

Only ``audio`` is required. It is a path relative to the folder of the manifest, or an absolute path. Other fields are
ignored. A folder of audio needs no manifest; see :func:`find_utterances`.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechtok.audio import AUDIO_SUFFIXES, find_audio
from speechtok.errors import AudioError, MissingFileError, quoted
from speechtok.media.folders import describe_left_out
from speechtok.parsing import ParseError, parse_json

SILENCE = "SIL"
"""Phone name of silence. Aligner fillers (``+NOISE+``, ``+BREATH+``, …) are read as silence too."""

HOLD_OUT_EVERY = 50
"""Without a dev manifest, every 50th utterance is held out for validation."""

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
    """

    audio: Path
    id: str
    seconds: float | None = None
    text: str | None = None
    phones: tuple[Phone, ...] | None = None
    speaker: str | None = None
    lang: str | None = None


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
            utterances.append(_utterance(parse_json(line, finite=True), path.parent))
        except ParseError as error:
            raise AudioError(f"{path}, line {number} is {quoted(line.strip())}; {EXPECTED} ({error})") from error
        except _FieldError as error:
            raise AudioError(f"{path}, line {number} is {quoted(line.strip())}; {error}") from error
    return utterances


def find_utterances(data: str | os.PathLike[str]) -> tuple[list[Utterance], list[Utterance]]:
    """Find the utterances to train on and the utterances to validate on.

    Without a dev manifest, every :data:`HOLD_OUT_EVERY`-th utterance is held out for validation.

    Args:
        data: a manifest, a folder with ``train.jsonl`` and optionally ``dev.jsonl``, or any folder of audio files
            (searched recursively, hidden files excluded, sorted by path).

    Raises:
        MissingFileError: ``data`` does not exist.
        AudioError: a manifest cannot be read, or there is no audio.
    """
    path = Path(data)
    name = repr(str(path))
    if "\0" in str(path) or not os.path.exists(path):
        raise MissingFileError(f"data is {name}, which does not exist; pass data=DIR or data=MANIFEST.jsonl")
    dev: list[Utterance] = []
    if path.is_file():
        train = read_manifest(path)
    elif (path / "train.jsonl").is_file():
        train = read_manifest(path / "train.jsonl")
        dev = read_manifest(path / "dev.jsonl") if (path / "dev.jsonl").is_file() else []
    else:
        files, left_out = find_audio(path)
        if files and left_out:
            print(describe_left_out(left_out), file=sys.stderr)
        train = [Utterance(file, file.relative_to(path).as_posix()) for file in files]
    if not dev:
        dev, train = train[::HOLD_OUT_EVERY], [u for i, u in enumerate(train) if i % HOLD_OUT_EVERY] or train
    if not train:
        raise AudioError(f"data is {name}, which lists no audio; expected files ending in {', '.join(AUDIO_SUFFIXES)}")
    return train, dev


def phones_at(phones: Sequence[Phone] | None, times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Phone at each time.

    Args:
        phones: forced alignment, in any order; may be ``None``.
        times: in seconds, ``(T,)``.
        names: known phones.

    Returns:
        Indices into ``names``, int64 ``(T,)``; -1 outside all phones and for unknown phones.
    """
    if not phones:
        return np.full(len(times), -1)
    ordered = sorted(phones, key=lambda phone: phone.start)
    starts = np.array([phone.start for phone in ordered])
    ends = np.array([phone.end for phone in ordered])
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index.get(phone.name, -1) for phone in ordered])
    row = np.searchsorted(starts, times, side="right") - 1
    inside = (row >= 0) & (times < ends[row.clip(0)])
    return np.where(inside, labels[row.clip(0)], -1)


class _FieldError(ValueError):
    """The value of a field cannot be used; the message says what was expected."""


def _utterance(row: Any, folder: Path) -> Utterance:
    if not isinstance(row, dict) or "audio" not in row:
        raise _FieldError(EXPECTED)
    audio = row["audio"]
    if not isinstance(audio, str) or not audio.strip() or "\0" in audio or not _encodable(audio):
        raise _FieldError("expected 'audio' to be the path of a file")
    return Utterance(
        folder / audio,
        _text(row, "id") or audio,
        None if row.get("seconds") is None else _seconds(row["seconds"], "'seconds' to be the duration"),
        _text(row, "text"),
        _phones(row.get("phones")),
        _text(row, "speaker"),
        _text(row, "lang"),
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
        raise _FieldError(f"expected {field!r} to be a string")
    return value


def _seconds(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_SECONDS:
        raise _FieldError(f"expected {what} in seconds, a number from 0 to {_MAX_SECONDS:g}")
    return float(value)


def _phones(rows: Any) -> tuple[Phone, ...] | None:
    if rows is None:
        return None
    if not isinstance(rows, list):
        raise _FieldError("expected 'phones' to be rows [phone, start in seconds, end in seconds]")
    phones = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not isinstance(row[0], str):
            raise _FieldError(f"phone {quoted(row)} is not a row [phone, start in seconds, end in seconds]")
        name, start, end = row[0], _seconds(row[1], "phone times"), _seconds(row[2], "phone times")
        if end < start:
            raise _FieldError(f"phone {quoted(row)} ends before it starts; expected [phone, start, end]")
        phones.append(Phone(SILENCE if name.startswith("+") else name, start, end))
    return tuple(phones) or None
