"""Tar archives of WebDataset: files with one name up to the first dot are one sample."""

import tarfile
from collections.abc import Iterator
from typing import Any

from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.corpus.sources.rates import seconds_of_bytes
from speechtok.errors import InputError, quoted
from speechtok.media.folders import AUDIO_SUFFIXES
from speechtok.parsing import ParseError, parse_json

_MAX_TEXT = 2**20
"""Longer texts of a sample are not read."""


def read(name: str) -> Iterator[Item]:
    """The samples of an archive: an audio or tokens file, with ``.json`` and ``.txt`` beside it.

    The fields ``id``, ``text``, ``speaker``, ``lang`` of the JSON describe the sample. Audio stays in the archive; only
    the headers of its members are read, so that a remote archive is not fetched twice.
    """
    return members(name)


def members(name: str) -> Iterator[Item]:
    """See :func:`read`."""
    with storage.open_bytes(name) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                yield from _samples(archive, name)
        except (tarfile.TarError, OSError, EOFError) as error:
            fault = ("damaged", f"{quoted(name)} cannot be read to its end as a tar archive ({error!s:.80})")
            yield Item(f"{name}:end", name, fault=fault)


def arrays(name: str) -> Iterator[Item]:
    """Arrays of NumPy in an archive, by the names that they have before the suffix."""
    with storage.open_bytes(name) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".npy"):
                key = member.name.removesuffix(".npy")
                yield Item(key, name, member=(member.offset_data, member.size), is_tokens=True)


def _samples(archive: tarfile.TarFile, name: str) -> Iterator[Item]:
    key: str | None = None
    files: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        if not member.isfile():
            continue
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        this = f"{folder}/{stem}" if folder else stem
        if this != key:
            if key is not None:
                yield from _sample(archive, name, key, files)
            key, files = this, {}
        files["." + suffix.lower()] = member
    if key is not None:
        yield from _sample(archive, name, key, files)


def _sample(archive: tarfile.TarFile, name: str, key: str, files: dict[str, tarfile.TarInfo]) -> Iterator[Item]:
    suffix = next((s for s in files if s == ".tokens"), None)
    suffix = suffix or next((s for s in files if "." + s.rpartition(".")[2] in AUDIO_SUFFIXES), None)
    if suffix is None:
        return  # a member that is not a sample, such as a list of contents
    facts: Any = {}
    if ".json" in files:
        try:
            facts = parse_json(_read(archive, files[".json"]))
        except (ParseError, InputError) as error:
            yield Item(f"{name}#{key}", name, fault=("bad_line", f"its JSON cannot be read ({error!s:.200})"))
            return
        facts = facts if isinstance(facts, dict) else {}
    if ".txt" in files and not isinstance(facts.get("text"), str):
        facts["text"] = _read(archive, files[".txt"]).decode("utf-8", "replace").strip()
    member = files[suffix]
    described: dict[str, Any] = {field: _text(facts, field) for field in ("text", "speaker", "lang")}
    phones = facts.get("phones")
    yield Item(
        _text(facts, "id") or _text(facts, "_id") or key,
        name,
        hint=_seconds(facts) or seconds_of_bytes("." + suffix.rpartition(".")[2], member.size),
        member=(member.offset_data, member.size),
        is_tokens=suffix == ".tokens",
        phones=tuple((str(p), float(s), float(e)) for p, s, e in phones) if isinstance(phones, list) else None,
        **described,
    )


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MAX_TEXT:
        raise InputError(f"{quoted(member.name)} has {member.size} bytes; expected at most {_MAX_TEXT}")
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def _text(facts: dict[str, Any], field: str) -> str | None:
    value = facts.get(field)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _seconds(facts: dict[str, Any]) -> float | None:
    value = facts.get("seconds", facts.get("duration"))
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e9 else None
