"""Writing files so that a reader never meets half of one."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from speechtok.errors import OutputError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside ``path``, and rename it to ``path`` if the block succeeds.

    The temporary name ends like ``path``, so writers that choose a format by suffix choose the right one.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full; what stood at ``path`` is untouched.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        if path.exists() and not path.is_file():  # renaming onto /dev/null or a pipe would destroy it
            raise FileExistsError(f"{path} is a device or a pipe")
        handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask)
        os.replace(temporary, path)
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; choose a writable place with room for it") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
