"""Which speechtok this is."""

from importlib import metadata


def version() -> str:
    """Of the installed package; of a source tree that is not installed, ``"uninstalled"``."""
    try:
        return metadata.version("speechtok")
    except metadata.PackageNotFoundError:
        return "uninstalled"
