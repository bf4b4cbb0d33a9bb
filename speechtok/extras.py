"""Optional dependencies, which ``setup.cfg`` groups as extras."""


def install_hint(extra: str) -> str:
    """The command that installs ``extra``, to end an error message about a missing library."""
    return f'run pip install -e ".[{extra}]" in a clone of speechtok'
