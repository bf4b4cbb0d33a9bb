"""JSON lines: manifests of NeMo, of Moshi's fine-tuning, and of this project."""

from collections.abc import Iterator
from typing import Any

from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.errors import InputError, quoted
from speechtok.manifest import SILENCE
from speechtok.parsing import ParseError, parse_json

_AUDIO = ("audio", "audio_filepath", "path")
"""Fields with the path of the audio: of this project, of NeMo, of Moshi."""
_SECONDS = ("seconds", "duration")
_STARTS = ("offset", "start")
_SPEAKERS = ("speaker", "speaker_id")
_LANGS = ("lang", "language")
_TEXTS = ("text", "transcript")

_MAX_SECONDS = 1e9


def read(name: str) -> Iterator[Item]:
    """The utterances of a file of JSON lines, also compressed by gzip.

    A path is relative to the folder of the file. ``offset`` and a duration cut a part out of a recording; a duration
    alone does not. A line that cannot be used gives an item with a fault.
    """
    folder = storage.parent(name)
    for number, line in storage.lines(name):
        where = f"{name}:{number}"
        try:
            yield _item(parse_json(line, finite=True), folder, where)
        except (ParseError, InputError) as error:
            yield Item(where, name, fault=("bad_line", f"line {number} is {quoted(line)} ({error!s:.200})"))


def _item(row: Any, folder: str, where: str) -> Item:
    if not isinstance(row, dict):
        raise InputError("expected a JSON object")
    audio = _first(row, _AUDIO)
    if isinstance(audio, dict):  # {"path": …}, as datasets write it
        audio = audio.get("path")
    if not isinstance(audio, str) or not audio.strip() or "\0" in audio:
        raise InputError(f"expected the path of an audio file in one of the fields {', '.join(_AUDIO)}")
    seconds, start = _number(row, _SECONDS), _number(row, _STARTS)
    name = _text(row, ("id", "utt_id", "key"))
    if name is None:
        name = audio if start is None else f"{audio}@{start:g}"
    return Item(
        name,
        storage.join(folder, audio),
        start=start,
        seconds=seconds if start is not None else None,
        hint=seconds,
        is_tokens=audio.lower().endswith(".tokens"),
        text=_text(row, _TEXTS),
        speaker=_text(row, _SPEAKERS),
        lang=_text(row, _LANGS),
        phones=_phones(row.get("phones")),
    )


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _text(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    value = _first(row, names)
    if type(value) is int:
        return str(value)
    if value is not None and not isinstance(value, str):
        raise InputError(f"expected {names[0]!r} to be a text")
    return value


def _number(row: dict[str, Any], names: tuple[str, ...]) -> float | None:
    value = _first(row, names)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= _MAX_SECONDS:
        raise InputError(f"expected {names[0]!r} in seconds, a number from 0 to {_MAX_SECONDS:g}")
    return float(value)


def _phones(rows: Any) -> tuple[tuple[str, float, float], ...] | None:
    if not isinstance(rows, list):
        return None
    try:
        named = [(SILENCE if str(name).startswith("+") else str(name), start, end) for name, start, end in rows]
        return tuple((name, float(start), float(end)) for name, start, end in named) or None
    except (TypeError, ValueError) as error:
        raise InputError("expected 'phones' to be rows [phone, start in seconds, end in seconds]") from error
