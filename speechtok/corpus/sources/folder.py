"""Folders of audio files, tar archives or Parquet files."""

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.corpus.sources import parquet_audio, tar
from speechtok.corpus.sources.rates import seconds_of_bytes
from speechtok.media.folders import AUDIO_SUFFIXES, find_files

_TOKENS = ".tokens"


def read(folder: str) -> Iterator[Item]:
    """The files of a folder and those below it, sorted by path; of tokens files too, and of what containers hold."""
    if storage.is_url(folder):
        files = storage.list_files(folder)
    else:
        found, _ = find_files(folder, (*AUDIO_SUFFIXES, _TOKENS, ".tar", ".parquet"))
        files = ((str(path), os.stat(path).st_size) for path in found)
    root = folder.rstrip("/") + "/"
    for name, size in files:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix == ".tar":
            yield from tar.read(name)
        elif suffix == ".parquet":
            yield from parquet_audio.read(name)
        elif suffix in AUDIO_SUFFIXES or suffix == _TOKENS:
            relative = name[len(root) :] if name.startswith(root) else os.path.relpath(name, folder)
            tokens = suffix == _TOKENS
            yield Item(relative.replace(os.sep, "/"), name, hint=seconds_of_bytes(suffix, size), is_tokens=tokens)
