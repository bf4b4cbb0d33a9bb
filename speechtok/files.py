"""Writing files so that a reader never meets half of one."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from speechtok.errors import InputError, OutputError


def as_path(path: str | os.PathLike[str]) -> Path:
    """``path``, if it is one.

    Raises:
        InputError: it is not, or is empty: that would mean the current folder.
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not name or not isinstance(name, str):  # an entry of a folder may be named in bytes
        raise InputError(f"path is {path!r}; expected the name of a file or folder")
    return Path(name)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside ``path``, and rename it to ``path`` if the block succeeds.

    The temporary name ends like ``path``, so writers that choose a format by suffix choose the right one.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full; what stood at ``path`` is untouched.
    """
    path = as_path(path)
    temporary: Path | None = None
    try:
        if "\0" in str(path):
            raise FileNotFoundError("no name has a NUL in it")
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        if path.exists() and not path.is_file():  # renaming onto /dev/null or a pipe would destroy it
            raise FileExistsError(f"{path} is a device or a pipe")
        name = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
        # the system takes the umask from it; what replaces a private file is never open to others
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
