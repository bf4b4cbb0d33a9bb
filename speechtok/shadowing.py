"""A warning for Python started in a clone of the repository, after ``pip install .``.

The current directory comes first on ``sys.path``, so ``import speechtok`` takes the source tree, which has no compiled
library, and not the installed copy, which has one. The codes are the same, but streaming is several times slower.
"""

import importlib.machinery
import sys
import warnings
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def find_compiled_copy(library: str) -> Path | None:
    """Find another copy of the package on ``sys.path`` that has the compiled library.

    Args:
        library: name of the library as a module, for example ``"speechtok.nn._native"``.
    """
    for folder in sys.path:
        stem = Path(folder, *library.split("."))
        compiled = (stem.with_name(stem.name + suffix) for suffix in importlib.machinery.EXTENSION_SUFFIXES)
        package = Path(folder, PACKAGE.name).resolve()
        if package != PACKAGE and any(path.is_file() for path in compiled):
            return package
    return None


def warn_if_shadowing(library: str) -> None:
    """Warn if this copy of the package, which lacks the compiled ``library``, hides a copy that has it."""
    copy = find_compiled_copy(library)
    if copy is not None:
        warnings.warn(
            f"speechtok was imported from {PACKAGE}, which has no usable compiled library and hides the installed copy "
            f"in {copy}; streaming is several times slower. Start Python in another directory, or compile the source "
            "tree: pip install -e .",
            RuntimeWarning,
            stacklevel=2,
        )
