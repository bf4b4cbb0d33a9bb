"""Files that appear complete or not at all.

A new file is written under a temporary name in the folder of its target, ``.speechtok-….tmp``, and renamed when it is
complete. The temporary file is opened once, with an error if the name exists, so that a link that someone else plants
cannot redirect what is written. Its writer holds a lock on it, which ends with the process: a temporary file without a
lock is what a killed process left, and :func:`remove_orphans` removes it.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from speechtok.errors import InputError, OutputError, quoted

try:
    import fcntl
except ImportError:  # Windows, which does not remove files that are open
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.speechtok-[0-9a-f]{16}-[0-9a-f]+\.tmp")

_FLAGS = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

_SLOTS = 4
"""Temporary names of a target before random ones: more files than that are rarely written to one path at a time."""

_SYNC_THREADS = 16
"""Threads that write files of a batch to the disk: file systems merge what several threads ask for into one commit."""

_BLOCK = 1 << 20

_OLD = 86_400.0
"""Seconds after which a temporary file is an orphan where the file system has no locks."""


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a :class:`~pathlib.Path`.

    Raises:
        InputError: it is not a path, or is empty: that would mean the current folder.
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not name or not isinstance(name, str):  # an entry of a folder may be named in bytes
        raise InputError(f"path is {quoted(path)}; expected the name of a file or folder")
    return Path(name)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and those above it, unless they exist, and return its path.

    Raises:
        OutputError: it cannot be made.
    """
    path = as_path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"cannot make the folder {path}: {reason}; choose a writable place") from error
    return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file, and rename it to ``path`` if the block succeeds.

    The file is on the disk when the block ends, and survives a loss of power. Its mode follows the umask, and is never
    wider than that of the file that it replaces. A link at ``path`` is replaced; what it points to stays as it is.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full. The file at ``path`` is then unchanged.
    """
    with replacing_all([path]) as (file,):
        yield file


@contextlib.contextmanager
def replacing_all(paths: Sequence[str | os.PathLike[str]]) -> Iterator[tuple[BinaryIO, ...]]:
    """Open several files as :func:`replacing` does. All of them are on the disk before the first gets its name.

    Raises:
        OutputError: one of the files cannot be written. None of the paths is changed then.
    """
    with contextlib.ExitStack() as stack:
        temporaries = []
        for path in paths:
            temporaries.append(_Temporary(as_path(path)))
            stack.callback(temporaries[-1].close)
        with _writing(temporaries) as files:
            yield files
        for temporary, error in zip(temporaries, _sync_all(temporaries), strict=True):
            with _output_errors(temporary.target):
                if error is not None:
                    raise error
        _publish_all(temporaries)
        for target in _by_folder(temporaries):
            _sync_folder(target)


class Batch:
    """Files that are written to the disk together, which is many times faster than one after the other.

    Each file is complete when it appears, as with :func:`replacing`. It appears when the batch is flushed::

        with Batch() as batch:
            for path, data in results:
                with batch.replacing(path) as file:
                    file.write(data)
                if len(batch) == 64:
                    for path, error in batch.flush().items():
                        print(error)

    A killed process loses the files that were not flushed, and no others. One thread uses a batch. Each file that waits
    takes one of the file handles of the process, which are often limited to 256.
    """

    def __init__(self) -> None:
        self._waiting: list[_Temporary] = []

    def __len__(self) -> int:
        """Files that wait to appear."""
        return len(self._waiting)

    @contextlib.contextmanager
    def replacing(self, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
        """Open a temporary file, which becomes ``path`` in the next flush if the block succeeds.

        Raises:
            OutputError: the folder is missing or not writable, or the disk is full.
        """
        temporary = _Temporary(as_path(path))
        try:
            with _writing([temporary]) as (file,):
                yield file
        except BaseException:
            temporary.close()
            raise
        self._waiting.append(temporary)

    def flush(self) -> dict[Path, OutputError]:
        """Write all waiting files to the disk, then give each its name, in the order in which they were written.

        Returns:
            An error for each file that could not be written; the others appeared.
        """
        waiting, self._waiting = self._waiting, []
        failures: dict[Path, OutputError] = {}
        try:
            for temporary, error in zip(waiting, _sync_all(waiting), strict=True):
                try:
                    with _output_errors(temporary.target):
                        if error is not None:
                            raise error
                        temporary.publish()
                except OutputError as failure:
                    failures[temporary.target] = failure
            for target in _by_folder([temporary for temporary in waiting if temporary.target not in failures]):
                try:
                    _sync_folder(target)
                except OutputError as failure:
                    failures[target] = failure
        finally:
            for temporary in waiting:
                temporary.close()
        return failures

    def __enter__(self) -> "Batch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Flush. Raises the first error that the flush found, unless the block ended with another."""
        failures = self.flush()
        if failures and error is None:
            raise next(iter(failures.values()))


@contextlib.contextmanager
def reserving(folder: str | os.PathLike[str], size: int) -> Iterator[Callable[[], None]]:
    """Keep ``size`` bytes of the disk of ``folder`` in a temporary file. Yields a function that frees them.

    They are freed when the block ends, at the latest.

    Raises:
        OutputError: there is no room, or the folder cannot be written.
    """
    temporary = _Temporary(as_path(folder) / "reserved")

    def release() -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: released before
            os.ftruncate(temporary.file.fileno(), 0)  # a forked process may keep the file open
        temporary.close()

    try:
        with _output_errors(temporary.target):
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(temporary.file.fileno(), 0, size)
            else:
                for start in range(0, size, _BLOCK):
                    temporary.file.write(bytes(min(_BLOCK, size - start)))
                temporary.sync()
        yield release
    finally:
        release()


def remove_orphans(folder: str | os.PathLike[str]) -> int:
    """Remove the temporary files that killed processes left in ``folder``, and return how many there were.

    Files that a living process writes stay, and so do those of other users. A folder that cannot be read has none.
    """
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                removed += _remove_orphan(Path(entry.path))
    return removed


class _RawFile(io.FileIO):
    """A file that remembers the first error of a write."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            raise


class _Temporary:
    """A file that is written under a temporary name.

    Attributes:
        target: the name that it gets in the end.
        file: opened for writing.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        with _output_errors(target):
            if "\0" in str(target):
                raise FileNotFoundError("a name cannot contain a NUL")
            if target.is_dir():
                raise IsADirectoryError(f"{target} is a folder")
            if target.exists() and not target.is_file():  # renaming onto /dev/null or a pipe would destroy it
                raise FileExistsError(f"{target} is a device or a pipe")
            self._path, descriptor = _create(target)
        self._raw = _RawFile(descriptor, "wb")
        self.file: BinaryIO = io.BufferedWriter(self._raw)
        self._named = True

    @property
    def error(self) -> OSError | None:
        """The first error of a write."""
        return self._raw.error

    def sync(self) -> None:
        """Write the contents to the disk."""
        os.fsync(self.file.fileno())

    def publish(self) -> None:
        """Rename the file to its target."""
        if os.name == "nt":  # which cannot rename an open file; elsewhere it stays locked until it is renamed
            self.file.close()
        os.replace(self._path, self.target)
        self._named = False

    def close(self) -> None:
        """Close the file, and remove it if it was not published."""
        if self._named and os.name != "nt":
            self._unlink()
        with contextlib.suppress(OSError):  # a full disk has been reported
            self.file.close()
        if self._named and os.name == "nt":
            self._unlink()
        self._named = False

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


@contextlib.contextmanager
def _writing(temporaries: Sequence[_Temporary]) -> Iterator[tuple[BinaryIO, ...]]:
    """Yield the files. Errors of the system in the block raise :class:`~speechtok.errors.OutputError`."""

    def raise_write_errors() -> None:
        for temporary in temporaries:
            with _output_errors(temporary.target):
                if temporary.error is not None:
                    raise temporary.error

    with _output_errors(temporaries[-1].target):
        try:
            yield tuple(temporary.file for temporary in temporaries)
            for temporary in temporaries:
                temporary.file.flush()
        except Exception:
            raise_write_errors()  # libraries report a full disk in their own way: torch.save as a RuntimeError
            raise
        raise_write_errors()  # and some do not report it


def _by_folder(temporaries: Sequence[_Temporary]) -> list[Path]:
    """One target in each folder."""
    return list({temporary.target.parent: temporary.target for temporary in temporaries}.values())


def _sync_all(files: Sequence[_Temporary]) -> list[OSError | None]:
    """Write files to the disk. Returns the error of each."""

    def sync(file: _Temporary) -> OSError | None:
        try:
            file.sync()
        except OSError as error:
            return error
        return None

    if len(files) == 1:
        return [sync(files[0])]
    try:
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:
            return list(pool.map(sync, files))
    except RuntimeError:  # the interpreter is shutting down, and starts no threads
        return [sync(file) for file in files]


def _publish_all(temporaries: Sequence[_Temporary]) -> None:
    """Give each file its name. If one cannot get it, the files that had the names before get them back."""
    second_names = {}
    try:
        for temporary in temporaries:
            if len(temporaries) > 1:
                second_names[temporary.target] = _link(temporary.target)
            with _output_errors(temporary.target):
                temporary.publish()
    except BaseException:
        for target, name in second_names.items():
            with contextlib.suppress(OSError):
                if isinstance(name, Path):
                    os.replace(name, target)
                elif name is None:
                    target.unlink()
        raise
    finally:
        for name in second_names.values():
            if isinstance(name, Path):
                with contextlib.suppress(OSError):
                    name.unlink()


def _link(path: Path) -> Path | bool | None:
    """Give a file a second, temporary name. ``None`` if there is no file, ``False`` where files have one name only."""
    if not os.path.lexists(path):
        return None
    name = path.with_name(f".speechtok-{secrets.token_hex(8)}-0.tmp")
    try:
        os.link(path, name, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return False
    return name


def _create(target: Path) -> tuple[Path, int]:
    """Create and lock a temporary file beside ``target``. Returns its path and a descriptor."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    mode = 0o666  # the system subtracts the umask
    with contextlib.suppress(FileNotFoundError):
        old = os.lstat(target).st_mode
        if stat.S_ISREG(old):
            mode = stat.S_IMODE(old) & 0o666 | 0o600
    for slot in itertools.count():
        # the first names are the same each time, so that a file written again and again leaves one orphan at most
        path = target.with_name(f".speechtok-{digest}-{slot if slot < _SLOTS else secrets.token_hex(8)}.tmp")
        _remove_orphan(path)
        try:
            descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        try:
            # another process may take a file without a lock for an orphan, and remove it
            if _lock(descriptor) is not False and os.fstat(descriptor).st_nlink > 0:
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)
    raise AssertionError("the loop ends with a return")


def _remove_orphan(path: Path) -> bool:
    """Remove a temporary file that no living process writes. Returns whether there was one."""
    try:
        if fcntl is None:
            path.unlink()
            return True
        descriptor = os.open(path, _FLAGS | os.O_NONBLOCK)  # a named pipe must not block
    except OSError:  # most often there is none
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return False
        locked = _lock(descriptor)
        orphan = time.time() - found.st_mtime > _OLD if locked is None else locked
        # before the lock, another process may have removed it, and a third created a file of this name
        if orphan and os.path.samestat(found, os.lstat(path)):
            path.unlink()
            return True
        return False
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file. Returns whether it succeeded, and ``None`` where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def _output_errors(target: Path) -> Iterator[None]:
    """Turn errors of the system into one that names the target."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {target}: {reason}; choose a writable place with room for it") from error


def _sync_folder(target: Path) -> None:
    """Write the name of ``target`` to the disk, so that it survives a loss of power."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # folders may be writable without being readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # file systems that cannot sync a folder
            raise OutputError(
                f"{target} is written, but may be lost if the power fails: {error.strerror}; check the disk"
            ) from error
    finally:
        os.close(descriptor)
