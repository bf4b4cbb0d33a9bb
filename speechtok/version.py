"""The version of speechtok: the one place that states it. ``setup.cfg`` reads it from here."""

__version__ = "0.2.0"


def version() -> str:
    """Return the version."""
    return __version__
