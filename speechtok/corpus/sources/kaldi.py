"""Data folders of Kaldi: ``wav.scp``, with ``segments``, ``text``, ``utt2spk`` and ``utt2lang`` if they exist."""

import os
from collections.abc import Iterator

from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.errors import quoted


def read(name: str) -> Iterator[Item]:
    """The utterances of a folder or of its ``wav.scp``. Commands (``sox … |``) are faults: nothing is run."""
    if not name.endswith(".scp"):
        name = storage.join(name, "wav.scp")
    folder = storage.parent(name)
    texts, speakers, langs = (_table(storage.join(folder, table)) for table in ("text", "utt2spk", "utt2lang"))
    segments = storage.join(folder, "segments")
    if not _exists(segments):
        for number, line in storage.lines(name):
            key, _, value = line.strip().partition(" ")
            yield _item(key, value.strip(), None, f"{name}:{number}", folder, texts, speakers, langs)
        return
    files = {key: value.strip() for _, line in storage.lines(name) for key, _, value in [line.strip().partition(" ")]}
    for number, line in storage.lines(segments):
        where = f"{segments}:{number}"
        fields = line.split()
        try:
            key, recording, start, end = fields[0], fields[1], float(fields[2]), float(fields[3])
            times = (start, end - start) if 0 <= start < end < 1e9 else None
        except (IndexError, ValueError):
            times = None
        if times is None:
            fault = ("bad_line", f"line {number} is {quoted(line)}; expected 'utterance recording start end'")
            yield Item(where, segments, fault=fault)
        elif recording not in files:
            fault = ("missing", f"recording {quoted(recording)} is not in wav.scp")
            yield Item(key, segments, fault=fault)
        else:
            yield _item(key, files[recording], times, where, folder, texts, speakers, langs)


def _item(
    key: str,
    audio: str,
    times: tuple[float, float] | None,
    where: str,
    folder: str,
    texts: dict[str, str],
    speakers: dict[str, str],
    langs: dict[str, str],
) -> Item:
    if not audio:
        return Item(key or where, where, fault=("bad_line", f"{where} has no path; expected 'utterance path'"))
    if audio.endswith("|"):
        fault = ("command", f"{quoted(audio)} is a command, which is not run; write its output to a file")
        return Item(key, where, fault=fault)
    start, seconds = times or (None, None)
    return Item(
        key,
        storage.join(folder, audio) if not os.path.exists(audio) else audio,
        start=start,
        seconds=seconds,
        hint=seconds,
        text=texts.get(key),
        speaker=speakers.get(key),
        lang=langs.get(key),
    )


def _exists(name: str) -> bool:
    if not storage.is_url(name):
        return os.path.exists(name)
    system, path = storage.file_system(name)
    return bool(system.exists(path))


def _table(name: str) -> dict[str, str]:
    if not _exists(name):
        return {}
    return {key: value.strip() for _, line in storage.lines(name) for key, _, value in [line.strip().partition(" ")]}
