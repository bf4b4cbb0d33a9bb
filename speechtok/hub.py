"""Tokenizers on the Hugging Face hub (the ``lm`` extra)."""

import importlib
import os
import re
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtok.errors import InputError, MissingFileError, OutputError

if TYPE_CHECKING:
    from speechtok.tokenizer import Tokenizer

_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<folder>(/[\w.-]+)*)")


def locate(name: str | os.PathLike[str], revision: str | None, patterns: Sequence[str]) -> Path:
    """The directory that a name means: one here, or a copy of what is on the hub.

    Args:
        name: a directory; or ``org/name`` on the hub, with ``/folder`` behind it for a folder of the repository.
        revision: a branch, a tag or a commit of the repository; its main branch by default.
        patterns: names of the files that are needed, of those that there are.

    Raises:
        MissingFileError: there is no such directory or repository, or the hub cannot be reached.
        InputError: the name fits neither, or huggingface_hub is missing.
    """
    if os.path.isdir(name):
        if revision is not None:
            raise InputError(f"revision is {revision!r}, and {os.fspath(name)} is a directory here; leave it out")
        return Path(name)
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None or ".." in match[0]:
        raise MissingFileError(
            f"{os.fspath(name)} does not exist; expected a directory, or org/name on the Hugging Face hub"
        )
    folder = match["folder"].strip("/")
    files = [f"{folder}/{pattern}" if folder else pattern for pattern in patterns]
    hub = _huggingface_hub(f"{name} is no directory here, and to look on the hub")
    # their names are those of the errors that huggingface_hub raises, the more special ones first
    advice = {
        "GatedRepoError": "asks for consent: accept its terms on its page, then log in with huggingface-cli login",
        "RepositoryNotFoundError": "is neither a directory here nor a repository that you can see on the hub: check "
        "the name, and log in with huggingface-cli login if it is private",
        "RevisionNotFoundError": f"has no revision {revision!r}: check the branch, tag or commit on its page",
        "LocalEntryNotFoundError": "is not in the cache, and the hub cannot be reached: connect once, or pass a "
        "directory that has its files",
        "OfflineModeIsEnabled": "is not in the cache, and HF_HUB_OFFLINE is set: unset it once, or pass a directory",
        "HfHubHTTPError": "cannot be fetched: try again later",
        "HFValidationError": "is no name on the hub: expected org/name",
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


def push(tokenizer: "Tokenizer", name: str, revision: str | None = None, private: bool = False) -> str:
    """See :meth:`speechtok.tokenizer.Tokenizer.push_to_hub`."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None or match["folder"]:
        raise InputError(f"the name is {name!r}; expected org/name")
    hub = _huggingface_hub(f"to write {name}")
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(directory)
        (Path(directory) / "README.md").write_text(model_card(tokenizer, name), encoding="utf-8")
        try:
            api = hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(name, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name,
                folder_path=directory,
                revision=revision,
                commit_message=f"speechtok {tokenizer.fingerprint}",
            )
        except OSError as error:  # every error of HTTP is one
            reason = str(error).strip().partition("\n")[0]
            raise OutputError(
                f"{name} cannot be written on the hub ({reason}); log in with huggingface-cli login, and check that "
                "you may write there"
            ) from error
    return str(getattr(commit, "commit_url", commit))


def model_card(tokenizer: "Tokenizer", name: str) -> str:
    """The card of a tokenizer: what it is, and how to use it."""
    template = resources.files("speechtok").joinpath("assets/HUB_CARD.md").read_text(encoding="utf-8")
    t = tokenizer
    facts = {
        "name": name,
        "family": t.config.family,
        "fingerprint": t.fingerprint,
        "sample_rate": t.sample_rate,
        "frame_rate": f"{t.frame_rate:g}",
        "num_codebooks": t.num_codebooks,
        "codebook_size": t.codebook_size,
        "kbits": f"{t.bitrate / 1000:.2f}",
        "parameters": f"{sum(p.numel() for p in t.parameters()):,}",
    }
    return re.sub(r"\{(\w+)\}", lambda field: str(facts[field[1]]), template)


def _huggingface_hub(purpose: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingFileError(f"{purpose} needs huggingface_hub: pip install speechtok[lm]") from error
