"""The kind of a source, and its utterances."""

import glob
import os
from collections.abc import Callable, Iterator

from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.corpus.sources import folder, json_lines, kaldi, lhotse_cuts, parquet_audio, tar
from speechtok.errors import InputError, MissingFileError, quoted

Reader = Callable[[str], Iterator[Item]]

KINDS: dict[str, Reader] = {
    "folder": folder.read,
    "jsonl": json_lines.read,
    "kaldi": kaldi.read,
    "lhotse": lhotse_cuts.read,
    "parquet": parquet_audio.read,
    "webdataset": tar.read,
}
"""Readers by the name of the kind of source. Add your own to use it with ``--format``."""


def find_items(source: str, kind: str | None = None) -> Iterator[Item]:
    """The utterances of a source, in its order.

    Args:
        source: folder, file, pattern such as ``'shards/*.tar'``, or URL.
        kind: one of :data:`KINDS`; found out if not given.

    Raises:
        MissingFileError: the source does not exist.
        InputError: its kind is unknown.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"format is {quoted(kind)}; expected one of {', '.join(KINDS)}")
    names = [source]
    if glob.has_magic(source) and not os.path.exists(source):
        if storage.is_url(source):
            system, path = storage.file_system(source)
            protocol = source.partition("://")[0]
            names = [name if protocol == "file" else f"{protocol}://{name}" for name in sorted(system.glob(path))]
        else:
            names = sorted(glob.glob(source, recursive=True))
        if not names:
            raise MissingFileError(f"no file matches {quoted(source)}; check the pattern")
    for name in names:
        if not storage.is_url(name) and not os.path.exists(name):
            raise MissingFileError(f"{quoted(name)} does not exist; expected a folder, a file, a pattern or a URL")
        yield from KINDS[kind or guess_kind(name)](name)


def guess_kind(name: str) -> str:
    """Kind of a source, from its name and, of a folder, its contents."""
    if _is_folder(name):
        if not storage.is_url(name):
            found = set(os.listdir(name))
            if "wav.scp" in found:
                return "kaldi"
            if any(entry.startswith("cuts.") and ".jsonl" in entry for entry in found):
                return "lhotse"
        return "folder"
    lower = os.path.basename(name).lower()
    if lower.endswith((".scp",)):
        return "kaldi"
    if lower.endswith(".tar"):
        return "webdataset"
    if lower.endswith(".parquet"):
        return "parquet"
    if lower.endswith((".jsonl", ".json", ".jsonl.gz", ".json.gz")):
        return "lhotse" if lhotse_cuts.is_cuts(name) else "jsonl"
    raise InputError(
        f"the kind of {quoted(name)} is unknown; expected a folder, .jsonl, .scp, .tar or .parquet: name it with "
        f"--format, one of {', '.join(KINDS)}"
    )


def _is_folder(name: str) -> bool:
    if not storage.is_url(name):
        return os.path.isdir(name)
    system, path = storage.file_system(name)
    return bool(system.isdir(path))
