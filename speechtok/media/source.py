"""The bytes of an audio file, wherever they come from, and views of them with other headers or cut ends."""

import contextlib
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from speechtok.errors import AudioError, MissingFileError, printable, quoted
from speechtok.files import as_path

_SPOOLED = 64 * 2**20
"""Bytes of a pipe that are kept in memory; more go to a temporary file."""

_WINDOW = 2**18
"""Bytes that :meth:`Source.at` reads at once: walks over a file ask for a few bytes at a time."""

_ID3V1 = 128
"""Bytes of the tag at the end of an MP3."""

Piece = bytes | tuple[int, int]
"""Bytes that stand in a view, or a range of the source: start and end."""


class Source:
    """Random access to the bytes of one audio file.

    Attributes:
        name: of the file, for messages.
        size: in bytes.
        descriptor: of an ordinary file, for libraries that read it themselves.
    """

    def __init__(self, name: str, file: IO[bytes], descriptor: int | None = None) -> None:
        self.name = name
        self.descriptor = descriptor
        self._file = file
        self._base = file.tell()
        self.size = max(file.seek(0, os.SEEK_END) - self._base, 0)
        self._window = b""
        self._window_start = 0

    def read(self, start: int, count: int) -> bytes:
        """Read ``count`` bytes at ``start``, fewer at the end of the file."""
        count = min(count, self.size - start)
        if count <= 0:
            return b""
        self._file.seek(self._base + start)
        parts = []
        while count and (part := self._file.read(count)):
            parts.append(part)
            count -= len(part)
        if count:
            raise OSError("it became shorter while it was read")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def at(self, start: int, count: int) -> bytes:
        """Like :meth:`read`, for many small reads close to each other."""
        offset = start - self._window_start
        if not 0 <= offset <= len(self._window) - count:
            self._window = self.read(start, max(_WINDOW, count))
            self._window_start = start
            offset = 0
        return self._window[offset : offset + count]

    def find(self, pattern: bytes, start: int, end: int | None = None) -> int:
        """Offset of ``pattern`` from ``start`` on, or -1."""
        end = self.size if end is None else min(end, self.size)
        while start < end:
            block = self.read(start, min(2**20, end - start))
            if (found := block.find(pattern)) >= 0:
                return start + found
            if len(block) < len(pattern):
                break
            start += len(block) - len(pattern) + 1
        return -1

    def rewind(self) -> int | None:
        """Return the descriptor, at the start of the file; ``None`` if a library has to read through a view."""
        if self.descriptor is not None:
            os.lseek(self.descriptor, 0, os.SEEK_SET)
        return self.descriptor


class View(io.RawIOBase):
    """Pieces of a source, and bytes in place of others, as one file.

    Args:
        source: the bytes.
        pieces: in order; the whole source if ``None``.
        announced_size: what seeking to the end says. A decoder that estimates the length of an MP3 from the size of the
            file then asks for more than there is, and reads to the end.
    """

    def __init__(self, source: Source, pieces: Sequence[Piece] | None = None, announced_size: int = 0) -> None:
        super().__init__()
        self._source = source
        self._pieces = [(0, source.size)] if pieces is None else list(pieces)
        self._starts = []
        self._size = 0
        for piece in self._pieces:
            self._starts.append(self._size)
            self._size += len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
        self._announced = max(self._size, announced_size)
        self._at = 0
        self._piece = 0
        self.failure: OSError | None = None

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:  # noqa: D102
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._announced}.get(whence, 0)
        self._at = max(base + offset, 0)
        self._piece = 0
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes. A demultiplexer asks for as much as a header announces: allocate what is there."""
        left = max(self._announced - self._at, 0)
        buffer = bytearray(left if size < 0 else min(size, left))
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``. An error of the disk is kept: C libraries that call this cannot pass it on."""
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target) and self._at < self._size:
            while self._piece + 1 < len(self._pieces) and self._starts[self._piece + 1] <= self._at:
                self._piece += 1
            piece = self._pieces[self._piece]
            within, wanted = self._at - self._starts[self._piece], len(target) - done
            if isinstance(piece, bytes):
                part = piece[within : within + wanted]
            else:
                try:
                    part = self._source.read(piece[0] + within, min(wanted, piece[1] - piece[0] - within))
                except (OSError, ValueError) as error:
                    self.failure = error if isinstance(error, OSError) else OSError(str(error))
                    return done
            if not part:
                break
            target[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        if self._size < self._announced and self._at >= self._announced - _ID3V1:
            # mpg123 looks for a tag at the announced end, and gives up if there is nothing
            count = min(len(target) - done, self._announced - self._at)
            target[done : done + count] = bytes(count)
            self._at += count
            done += count
        return done


@contextlib.contextmanager
def open_source(source: Any) -> Iterator[Source]:
    """Open what :func:`speechtok.read_audio` was given.

    Raises:
        MissingFileError: the file does not exist.
        AudioError: the source cannot be read, is a folder or a device, or is empty.
        InputError: it is neither a path nor a file nor bytes.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            opened = Source(f"audio of {len(data)} bytes", io.BytesIO(data))
        elif hasattr(source, "read") and not isinstance(source, os.PathLike):
            opened = _open_file_object(stack, source)
        elif isinstance(source, str) and source == "-":
            opened = _open_file_object(stack, getattr(sys.stdin, "buffer", sys.stdin), "standard input")
        else:
            opened = _open_path(stack, as_path(source))
        if opened.size == 0:
            raise AudioError(f"{opened.name} is empty; expected an audio file: fetch or write it again", "empty")
        yield opened


def shown(path: Path) -> str:
    """A path as messages name it: control characters and bytes that are not UTF-8 are escaped."""
    name = str(path)
    return printable(name) if len(name) <= 255 else quoted(name)


def _open_path(stack: contextlib.ExitStack, path: Path) -> Source:
    name = shown(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL, or a lone surrogate
        if isinstance(error, PermissionError):
            raise AudioError(f"{name} cannot be read ({error.strerror}); expected a readable file") from error
        raise MissingFileError(f"{name} does not exist; check the path") from error
    if stat.S_ISDIR(mode):
        raise AudioError(f"{name} is a folder; expected an audio file")
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise AudioError(f"{name} is a device or a socket; expected an audio file or a pipe")
    try:
        # unbuffered: libsndfile moves the position of the same descriptor
        file = stack.enter_context(open(path, "rb", buffering=0))  # noqa: SIM115
    except OSError as error:
        raise AudioError(f"{name} cannot be read ({error.strerror}); expected a readable file") from error
    if not stat.S_ISREG(mode):
        return Source(name, _spool(stack, file, name))
    # on Windows, a library may have another table of descriptors than Python
    return Source(name, file, file.fileno() if os.name == "posix" else None)


def _open_file_object(stack: contextlib.ExitStack, file: Any, name: str | None = None) -> Source:
    title = getattr(file, "name", None)
    name = name or (quoted(title) if isinstance(title, str) else f"the {type(file).__name__}")
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError, AttributeError, TypeError):
        mode = 0
    if stat.S_ISCHR(mode) and os.isatty(file.fileno()):
        raise AudioError(f"{name} is a terminal; expected audio from a file or a pipe")
    try:
        if file.seekable():
            start = file.tell()
            if isinstance(file.read(0), bytes):
                file.seek(start)
                return Source(name, file)
    except (OSError, ValueError, AttributeError):
        pass
    return Source(name, _spool(stack, file, name))


def _spool(stack: contextlib.ExitStack, file: Any, name: str) -> IO[bytes]:
    """Copy what cannot be read twice."""
    spooled = cast("IO[bytes]", stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED)))  # noqa: SIM115
    try:
        while block := file.read(2**20):
            if not isinstance(block, (bytes, bytearray)):
                raise AudioError(f"{name} gives {type(block).__name__}; expected bytes: open it in binary mode")
            spooled.write(block)
    except (OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name} cannot be read ({error}); expected an open binary file") from error
    spooled.seek(0)
    return spooled
