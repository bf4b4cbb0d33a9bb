"""Cuts of Lhotse, as JSON lines or in its Shar format. They are read without Lhotse."""

import glob
import os
import re
from collections.abc import Iterator
from typing import Any

from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.corpus.sources import tar
from speechtok.errors import InputError, quoted
from speechtok.parsing import ParseError, parse_json


def is_cuts(name: str) -> bool:
    """Whether the first line of a file is a cut."""
    for _, line in storage.lines(name):
        try:
            row = parse_json(line)
        except ParseError:
            return False
        return isinstance(row, dict) and ("recording" in row or row.get("type") in ("MonoCut", "MultiCut", "MixedCut"))
    return False


def read(name: str) -> Iterator[Item]:
    """The cuts of a file, or of all files ``cuts.*.jsonl.gz`` of a folder in the Shar format.

    Of a shard with a field ``codes``, as the exporter writes it, the codes are taken as they are; of one with
    ``recording``, that audio.
    """
    if storage.is_url(name) or not os.path.isdir(name):
        yield from _read_file(name)
        return
    for cuts in sorted(glob.glob(os.path.join(glob.escape(name), "cuts.*.jsonl*"))):
        number = re.sub(r"^cuts\.|\.jsonl(\.gz)?$", "", os.path.basename(cuts))
        codes, recordings = (os.path.join(name, f"{field}.{number}.tar") for field in ("codes", "recording"))
        if os.path.exists(codes):
            members = {item.id: item for item in tar.arrays(codes)}
        elif os.path.exists(recordings):
            members = {item.id: item for item in tar.members(recordings)}
        else:
            yield from _read_file(cuts)
            continue
        for number_of_line, line in storage.lines(cuts):
            yield _item(line, cuts, number_of_line, members)


def _read_file(name: str) -> Iterator[Item]:
    for number, line in storage.lines(name):
        yield _item(line, name, number, None)


def _item(line: str, name: str, number: int, members: dict[str, Item] | None) -> Item:
    where = f"{name}:{number}"
    try:
        cut = parse_json(line)
        if not isinstance(cut, dict):
            raise InputError("expected a JSON object")
        key = str(cut.get("id") or where)
        kind = cut.get("type", "MonoCut")
        if kind != "MonoCut":
            return Item(key, where, fault=("unsupported", f"the cut is a {quoted(kind)}; expected a MonoCut"))
        start, seconds = float(cut.get("start") or 0.0), float(cut["duration"])
        if not (0 <= start < 1e9 and 0 <= seconds < 1e9):
            raise InputError("expected start and duration in seconds")
        supervisions: list[dict[str, Any]] = cut.get("supervisions") or [{}]
        texts = [one["text"] for one in supervisions if one.get("text")]
        first, custom = supervisions[0], cut.get("custom") or {}
        described: dict[str, Any] = {
            "text": " ".join(texts) or None,
            "speaker": _name(first.get("speaker")),
            "lang": _name(first.get("language")),
        }
        if members is not None:
            member = members.get(key)
            if member is None:
                return Item(
                    key, where, fault=("missing", "the archive of the shard does not hold the cut"), **described
                )
            facts = dict(custom.get("speechtok") or {})
            columns = facts.pop("columns", {})
            phones = columns.get("phones")
            return Item(
                str(columns.get("id") or key),
                member.audio,
                hint=seconds,
                member=member.member,
                is_tokens=member.is_tokens,
                facts=facts if member.is_tokens else None,
                phones=tuple((str(p), float(s), float(e)) for p, s, e in phones) if phones else None,
                **described,
            )
        recording = cut.get("recording") or {}
        sources = recording.get("sources") or [{}]
        source = sources[0]
        if source.get("type") not in ("file", "url") or not isinstance(source.get("source"), str):
            fault = ("unsupported", f"its recording has the source {quoted(source.get('type'))}; expected file or url")
            return Item(key, where, fault=fault, **described)
        whole = start == 0 and abs(float(recording.get("duration") or seconds) - seconds) < 1e-3
        return Item(
            key,
            _locate(source["source"], name),
            start=None if whole else start,
            seconds=None if whole else seconds,
            hint=seconds,
            **described,
        )
    except (ParseError, InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        return Item(where, name, fault=("bad_line", f"line {number} is {quoted(line)} ({error!s:.200})"))


def _locate(audio: str, name: str) -> str:
    """Lhotse's paths are relative to the working folder; one relative to the file is understood too."""
    if storage.is_url(audio) or os.path.isabs(audio) or os.path.exists(audio):
        return audio
    return storage.join(storage.parent(name), audio)


def _name(value: Any) -> str | None:
    return None if value is None else str(value)
