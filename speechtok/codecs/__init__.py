"""Codecs of the transformers library behind the interface of :class:`speechtok.Tokenizer` (the ``lm`` extra)."""

import difflib
import importlib
import os

import torch

from speechtok.codecs.wrapper import WrappedCodec
from speechtok.errors import InputError, quoted
from speechtok.extras import install_hint
from speechtok.hub import locate

CODECS = {"encodec": "EncodecTokenizer", "dac": "DacTokenizer", "mimi": "MimiTokenizer"}
"""Classes by name; the name is that of the module here, and the ``model_type`` in transformers."""


def load_codec(
    codec: str, where: str | os.PathLike[str], device: torch.device | str = "cpu", revision: str | None = None
) -> WrappedCodec:
    """Load a codec from files of transformers, as :func:`speechtok.load` does for ``"codec:where"``.

    Args:
        codec: one of :data:`CODECS`.
        where: a directory, or ``org/name`` on the Hugging Face hub.
        device: where to compute.
        revision: branch, tag or commit of the repository.

    Raises:
        InputError: the codec is unknown or of a kind that cannot be used, or transformers is not installed.
        MissingFileError: the directory or repository does not exist, or the hub cannot be reached.
        CheckpointError: the files are damaged, or do not fit each other.
    """
    if codec not in CODECS:
        near = difflib.get_close_matches(codec.lower(), CODECS, n=2, cutoff=0.4)
        expected = f"did you mean {' or '.join(map(repr, near))}?" if near else f"expected {', '.join(CODECS)}"
        raise InputError(f"codec is {quoted(codec)}; {expected}")
    try:
        importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(f"the codec {codec!r} needs transformers: {install_hint('lm')}") from error
    kind: type[WrappedCodec] = getattr(importlib.import_module(f"speechtok.codecs.{codec}"), CODECS[codec])
    if not os.fspath(where):
        raise InputError(f"{codec}: names no model; expected a directory or a repository, as in {kind.EXAMPLE}")
    wrapped = kind.from_directory(locate(where, revision, ("config.json", "model*.safetensors*")))
    wrapped.to(device)
    return wrapped
