"""Files that appear complete or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from speechtok.errors import InputError, OutputError, quoted


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a :class:`~pathlib.Path`.

    Raises:
        InputError: it is not a path, or is empty: that would mean the current folder.
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not name or not isinstance(name, str):  # an entry of a folder may be named in bytes
        raise InputError(f"path is {quoted(path)}; expected the name of a file or folder")
    return Path(name)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, and rename it to ``path`` if the block succeeds.

    The temporary name has the suffix of ``path``, for writers that choose a format by suffix.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full. The file at ``path`` is then unchanged.
    """
    path = as_path(path)
    temporary: Path | None = None
    try:
        if "\0" in str(path):
            raise FileNotFoundError("a name cannot contain a NUL")
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        if path.exists() and not path.is_file():  # renaming onto /dev/null or a pipe would destroy it
            raise FileExistsError(f"{path} is a device or a pipe")
        name = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
        # the system subtracts the umask; the replacement of a private file is private from the start
        mode = path.stat().st_mode & 0o777 | 0o600 if path.exists() else 0o666
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        temporary = name
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; choose a writable place with room for it") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
