"""A warning for Python started in a clone of the repository, after ``pip install .``.

The current directory comes first on ``sys.path``, so ``import speechtok`` takes the source tree, which has no compiled
code, and not the installed copy, which has it. The codes are the same, but streaming is several times slower.
"""

import importlib.machinery
import sys
import warnings
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def find_compiled_copy() -> Path | None:
    """Another copy of the package on ``sys.path`` that has the compiled code."""
    for folder in sys.path:
        package = Path(folder, "speechtok")
        compiled = (package / "nn" / f"_native{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES)
        if package.resolve() != PACKAGE and any(path.is_file() for path in compiled):
            return package
    return None


def warn_if_shadowing() -> None:
    """Warn if this copy of the package hides one that has the compiled code."""
    copy = find_compiled_copy()
    if copy is not None:
        warnings.warn(
            f"speechtok was imported from {PACKAGE}, which has no usable compiled code and hides the installed copy "
            f"in {copy}; streaming is several times slower. Start Python in another directory, or compile the "
            "source tree: pip install -e .",
            RuntimeWarning,
            stacklevel=2,
        )
