"""Folders on the Hugging Face hub (the ``lm`` extra): one down, one up."""

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechtok.errors import InputError, MissingFileError, OutputError, printable, quoted
from speechtok.extras import install_hint

HUB_PREFIX = "hf://"
"""Before a name that is sought on the hub only."""

_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?P<folder>(/[\w.-]+)*)")

_FILE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json", ".yaml", ".yml", ".tokens")
"""Ends of names that are files here, not repositories."""


def locate(name: str | os.PathLike[str], revision: str | None, patterns: Sequence[str]) -> Path:
    """Find the directory that a name stands for: a local one, or a downloaded copy of a repository.

    A name that can be a mistyped path does not reach the hub: one whose first part is a folder here, one that ends like
    a file, and every :class:`~pathlib.Path`. ``hf://org/name`` is always on the hub.

    Args:
        name: a local directory; or ``org/name`` on the hub, with ``/folder`` behind it for a folder of the repository.
        revision: a branch, a tag or a commit of the repository; its main branch by default.
        patterns: names of the files to download, with ``*`` for any characters.

    Raises:
        MissingFileError: there is no such directory or repository, or the hub cannot be reached.
        InputError: the name fits neither, or huggingface_hub is missing.
    """
    shown = printable(os.fsdecode(name))
    if os.path.isdir(name):
        if revision is not None:
            raise InputError(f"revision is {quoted(revision)}, and {shown} is a local directory; leave revision out")
        return Path(name)
    on_hub = isinstance(name, str) and name.startswith(HUB_PREFIX)
    name = name.removeprefix(HUB_PREFIX) if isinstance(name, str) else name
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None or ".." in match[0]:
        raise MissingFileError(f"{shown} does not exist; expected a directory, or org/name on the Hugging Face hub")
    folder_here, _, _ = match[0].partition("/")
    if not on_hub and os.path.isdir(folder_here):
        raise MissingFileError(
            f"{shown} does not exist, but its folder {folder_here} does; check the path, or pass "
            f"{HUB_PREFIX}{match[0]} for a repository on the Hugging Face hub"
        )
    if not on_hub and match[0].lower().endswith(_FILE_SUFFIXES):
        raise MissingFileError(f"there is no file {shown}; check the path")
    folder = match["folder"].strip("/")
    files = [f"{folder}/{pattern}" if folder else pattern for pattern in patterns]
    hub = _huggingface_hub(f"{name} is not a local directory, and to look on the hub")
    # by the names of huggingface_hub's exceptions, the more specific ones first
    advice = {
        "GatedRepoError": "asks for consent: accept its terms on its page, then log in with huggingface-cli login",
        "RepositoryNotFoundError": "is neither a local directory nor a repository that you can see on the hub: check "
        "the name, and log in with huggingface-cli login if it is private",
        "RevisionNotFoundError": f"has no revision {quoted(revision)}: check the branch, tag or commit on its page",
        "LocalEntryNotFoundError": "is not in the cache, and the hub cannot be reached: connect once, or pass a "
        "directory that has its files",
        "OfflineModeIsEnabled": "is not in the cache, and HF_HUB_OFFLINE is set: unset it once, or pass a directory",
        "HfHubHTTPError": "cannot be fetched: try again later",
        "HFValidationError": "is not a name on the hub: expected org/name",
    }
    try:
        copy = Path(hub.snapshot_download(match["repo"], revision=revision, allow_patterns=files))
    except Exception as error:  # as the cause may be one of any HTTP library
        kinds = [kind.__name__ for kind in type(error).__mro__]
        known = next((text for kind, text in advice.items() if kind in kinds), None)
        if known is None and not isinstance(error, OSError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise MissingFileError(
            f"{name} {known or 'cannot be fetched: check the connection and the disk'} ({reason})"
        ) from error
    if not (copy / folder / "config.json").is_file():
        raise MissingFileError(
            f"{name} has no file config.json on the hub; expected the repository of a tokenizer, with its folder "
            "behind the name if it has several"
        )
    return copy / folder


def upload_folder(
    directory: str | os.PathLike[str], name: str, message: str, revision: str | None = None, private: bool = False
) -> str:
    """Commit the files of a folder to a repository on the hub.

    Args:
        directory: the folder.
        name: of the repository, ``org/name``; it is created if it does not exist.
        message: of the commit.
        revision: branch to write to, created if it does not exist; the main branch by default.
        private: whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        InputError: the name is not one of a repository.
        OutputError: not logged in, not allowed, or the hub cannot be reached.
    """
    check_repository_name(name)
    hub = _huggingface_hub(f"to write {name}")
    try:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=os.fspath(directory), revision=revision, commit_message=message
        )
    except OSError as error:  # every error of HTTP is one
        reason = str(error).strip().partition("\n")[0]
        raise OutputError(
            f"{name} cannot be written on the hub ({reason}); log in with huggingface-cli login, and check that "
            "you may write there"
        ) from error
    return str(getattr(commit, "commit_url", commit))


def check_repository_name(name: str) -> None:
    """Raise :class:`~speechtok.errors.InputError` unless ``name`` is ``org/name``."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None or match["folder"]:
        raise InputError(f"the name is {quoted(name)}; expected org/name")


def _huggingface_hub(purpose: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingFileError(f"{purpose} needs huggingface_hub: {install_hint('lm')}") from error
