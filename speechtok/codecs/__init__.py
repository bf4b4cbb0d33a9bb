"""Codecs of others behind the same API, as transformers implements them (the ``lm`` extra)."""

import difflib
import importlib
import os

import torch

from speechtok.codecs.wrapper import WrappedCodec
from speechtok.errors import InputError
from speechtok.extras import install_hint
from speechtok.hub import locate

CODECS = {"encodec": "EncodecTokenizer", "dac": "DacTokenizer", "mimi": "MimiTokenizer"}
"""The name of each, which is that of its module here and its ``model_type`` in transformers, and its class."""


def load_codec(
    codec: str, where: str | os.PathLike[str], device: torch.device | str = "cpu", revision: str | None = None
) -> WrappedCodec:
    """Load a codec in transformers' format; what :func:`speechtok.load` does for ``"codec:where"``.

    Args:
        codec: one of :data:`CODECS`.
        where: a directory, or ``org/name`` on the Hugging Face hub.
        device: where it computes.
        revision: of the repository on the hub.

    Raises:
        InputError: there is no such codec, it is of a kind that fits no grid of codes, or transformers is missing.
        MissingFileError: there is nothing at this place, or the hub cannot be reached.
        CheckpointError: its files are damaged, or do not belong to each other.
    """
    if codec not in CODECS:
        near = difflib.get_close_matches(codec.lower(), CODECS, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known ones: {', '.join(CODECS)}"
        raise InputError(f"there is no codec {codec!r}; {hint}")
    try:
        importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(f"the codec {codec!r} needs transformers: {install_hint('lm')}") from error
    kind: type[WrappedCodec] = getattr(importlib.import_module(f"speechtok.codecs.{codec}"), CODECS[codec])
    if not os.fspath(where):
        raise InputError(f"{codec}: lacks a place; expected a directory or a name on the hub, as {kind.EXAMPLE}")
    wrapped = kind.from_directory(locate(where, revision, ("config.json", "model*.safetensors*")))
    wrapped.to(device)
    return wrapped
