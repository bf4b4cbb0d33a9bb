"""Bytes of sources, on a disk or, with fsspec, in an object store."""

import os
from collections.abc import Iterator
from typing import IO, Any

from speechtok.errors import AudioError, InputError, MissingFileError, quoted


def is_url(name: str) -> bool:
    """Whether ``name`` is a URL, such as ``s3://bucket/key``, rather than a path."""
    scheme, separator, _ = name.partition("://")
    return bool(separator) and scheme.isidentifier()


def join(folder: str, name: str) -> str:
    """``name`` relative to ``folder``, either of which may be a URL or an absolute path."""
    if is_url(name) or os.path.isabs(name):
        return name
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, name)


def parent(name: str) -> str:
    """The folder of a file."""
    return name.rpartition("/")[0] if is_url(name) else os.path.dirname(name) or "."


def file_system(url: str) -> tuple[Any, str]:
    """File system of a URL, and the path in it.

    Raises:
        InputError: fsspec, or its package for this kind of URL, is not installed.
    """
    try:
        import fsspec

        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        return found
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{quoted(url)} needs fsspec with its package for this kind of URL ({error}); install it, for example s3fs "
            "for s3://"
        ) from error


def open_bytes(name: str) -> IO[bytes]:
    """Open a file or URL for reading.

    Raises:
        MissingFileError: it does not exist.
        AudioError: it cannot be read.
    """
    try:
        if not is_url(name):
            return open(name, "rb")
        system, path = file_system(name)
        opened: IO[bytes] = system.open(path, "rb")
        return opened
    except FileNotFoundError as error:
        raise MissingFileError(f"{quoted(name)} does not exist; check the path") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise AudioError(f"{quoted(name)} cannot be read ({error!s:.80}); expected a readable file") from error


def read_range(name: str, start: int, size: int) -> bytes:
    """Bytes ``start`` to ``start + size`` of a file or URL.

    Raises:
        MissingFileError, AudioError: as :func:`open_bytes`, or the file is shorter.
    """
    with open_bytes(name) as file:
        try:
            file.seek(start)
            data = file.read(size)
        except OSError as error:
            raise AudioError(f"{quoted(name)} cannot be read ({error!s:.80}); expected a readable file") from error
    if len(data) < size:
        raise AudioError(f"{quoted(name)} ends within a member of {size} bytes; fetch it again", "truncated")
    return data


def lines(name: str) -> Iterator[tuple[int, str]]:
    r"""Numbered lines of a UTF-8 text, also one that gzip compressed, as they are read; blank lines are left out.

    Lines end at ``"\n"`` alone. A line that is not UTF-8 has replacement characters.
    """
    import gzip

    with open_bytes(name) as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.open(raw) if compressed else raw as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").rstrip("\n").rstrip("\r")
                if text.strip():
                    yield number, text


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """Names of all files below the URL of a folder, sorted, with their sizes; hidden files are left out."""
    system, path = file_system(folder)
    protocol = folder.partition("://")[0]
    found = system.find(path, detail=True)
    for name in sorted(found):
        if not any(part.startswith(".") for part in name.split("/")[path.rstrip("/").count("/") + 1 :]):
            yield f"{protocol}://{name}" if protocol != "file" else name, int(found[name].get("size") or 0)


def file_size(name: str) -> int:
    """Size of a file or URL in bytes; 0 if it cannot be told."""
    try:
        if not is_url(name):
            return os.stat(name).st_size
        system, path = file_system(name)
        return int(system.size(path) or 0)
    except (OSError, ValueError):
        return 0
