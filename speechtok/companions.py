"""Companions: files of further networks that belong to one tokenizer, such as a turn detector, beside its weights."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from speechtok.checkpoint import check_weights
from speechtok.errors import CheckpointError, ConfigError, FingerprintError, MissingFileError, quoted
from speechtok.files import replacing
from speechtok.fingerprints import NAMED_TOKENIZERS
from speechtok.limits import MAX_FINGERPRINT
from speechtok.mapping import from_mapping, to_mapping
from speechtok.nn.exact import weight_levels
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.parsing import ParseError, parse_json
from speechtok.version import __version__

_SCALE = ".scale"
"""Ends the name of the scales of a matrix of levels."""


class TokenizerIdentity(Protocol):
    """What of a tokenizer decides whether a companion belongs to it."""

    @property
    def fingerprint(self) -> str:
        """See :attr:`speechtok.Tokenizer.fingerprint`."""

    def made(self, fingerprint: str) -> bool:
        """See :meth:`speechtok.Tokenizer.made`."""


@dataclass(frozen=True)
class Kind:
    """A kind of companions.

    Attributes:
        name: for messages, such as ``"turn detector"``.
        file_name: beside the weights of a tokenizer.
        format: value of ``format`` in the file's metadata.
        train: how to make one, for messages.
    """

    name: str
    file_name: str
    format: str
    train: str


@dataclass(frozen=True)
class Companion:
    """A file that was read, and whose config and weights were not looked at.

    Attributes:
        path: of the file.
        fingerprint: of its tokenizer.
        description: config of the network, as plain values.
        tensors: by name.
        kind: what it is.
    """

    path: Path
    fingerprint: str
    description: Any
    tensors: dict[str, Tensor]
    kind: Kind

    def config(self, config_type: type[Any]) -> Any:
        """The config of the network.

        Raises:
            CheckpointError: it is not one.
        """
        try:
            return from_mapping(config_type, self.description)
        except ConfigError as error:
            raise CheckpointError(
                f"{self.path} does not describe a {self.kind.name} ({error}); fetch or train it again"
            ) from error

    def check_number(self, minimum: int) -> None:
        """Check that there are enough tensors before layers are made for a small file.

        Raises:
            CheckpointError: there are fewer.
        """
        if len(self.tensors) < minimum:
            raise CheckpointError(
                f"{self.path} holds {len(self.tensors)} tensors, and its config asks for {minimum} or more; fetch or "
                "train it again"
            )

    def load_into(self, network: nn.Module) -> None:
        """Give a network, which may be without memory yet, the weights of the file.

        Raises:
            CheckpointError: they do not fit.
        """
        expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
        weights = dict(self.tensors)
        for name in [name for name, tensor in weights.items() if tensor.dtype is torch.int8]:
            shape, levels, scale = expected.get(name, ()), weights[name], weights.pop(name + _SCALE, None)
            if len(shape) != 2 or scale is None or scale.shape != shape[:1] or not scale.is_floating_point():
                raise CheckpointError(f"{self.path}: {name} has no scale for each of its rows; fetch or train it again")
            weights[name] = levels.float() * scale.float()[:, None] if levels.shape == shape else levels.float()
        network.load_state_dict(check_weights(expected, weights, self.path, "cpu"), assign=True)


def write_companion(
    path: str | os.PathLike[str],
    kind: Kind,
    config: Any,
    tensors: Mapping[str, Tensor],
    fingerprint: str,
    levels: Collection[str] = (),
) -> None:
    """Write a companion of the tokenizer with a fingerprint.

    Args:
        path: of the file.
        kind: of the companion.
        config: of the network.
        tensors: weights by name; written as float16.
        fingerprint: of the tokenizer.
        levels: names of matrices ``(N, K)`` that the network rounds to levels (:mod:`speechtok.nn.exact`) in any case;
            written as levels and the scale of each row, which takes half the room.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {
        "format": kind.format,
        "speechtok": __version__,
        "tokenizer": fingerprint,
        "config": json.dumps(to_mapping(config)),
    }
    written: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        values = tensor.detach().cpu()
        if name in levels:
            rounded, written[name + _SCALE] = weight_levels(values.float())
            written[name] = rounded.to(torch.int8)
        else:
            written[name] = values.half()
    with replacing(path) as file:
        file.write(safetensors.torch.save({name: tensor.contiguous() for name, tensor in written.items()}, metadata))


def read_companion(path: str | os.PathLike[str], kind: Kind) -> Companion:
    """Read a file of :func:`write_companion`.

    Raises:
        MissingFileError: the file does not exist.
        CheckpointError: the file is damaged, or of a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; expected a {kind.name}, {kind.file_name}: {kind.train}")
    try:
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata: Mapping[str, Any] = header.get("__metadata__") or {}
    except (safetensors.SafetensorError, ParseError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged ({error!s:.200}); fetch or train it again") from error
    if metadata.get("format") != kind.format:
        raise CheckpointError(
            f"{path} has the format {quoted(metadata.get('format'))}; expected {kind.format!r}, a {kind.name}: upgrade "
            "speechtok, or pass the right file"
        )
    fingerprint = metadata.get("tokenizer")
    if not isinstance(fingerprint, str) or len(fingerprint) > MAX_FINGERPRINT:
        raise CheckpointError(f"{path} does not say which tokenizer it belongs to; fetch or train it again")
    try:
        description = parse_json(str(metadata.get("config")).encode())
    except ParseError as error:
        raise CheckpointError(f"{path} does not describe a {kind.name} ({error}); fetch or train it again") from error
    return Companion(path, fingerprint, description, tensors, kind)


def find_companion(tokenizer: TokenizerIdentity, kind: Kind, path: str | os.PathLike[str] | None) -> Companion:
    """Read the companion of a tokenizer.

    Args:
        tokenizer: to which it must belong.
        kind: of the companion.
        path: of the file; the one that the package has for the tokenizer by default.

    Raises:
        FingerprintError: it belongs to another tokenizer, or the package has none for this one.
        MissingFileError: the file does not exist.
        CheckpointError: the file is damaged.
    """
    if path is not None:
        companion = read_companion(path, kind)
        if not tokenizer.made(companion.fingerprint):
            raise FingerprintError(
                f"{path} is a {kind.name} for the codes of tokenizer {companion.fingerprint:.80}, and this is "
                f"{tokenizer.fingerprint}; load the tokenizer that it was trained for, or {kind.train}"
            )
        return companion
    if not isinstance(getattr(tokenizer, "quantizer", None), ResidualQuantizer):
        raise FingerprintError(
            f"{type(tokenizer).__name__} has no {kind.name}; expected speechtok's own tokenizer, speechtok.load()"
        )
    names = []
    for name in reversed(NAMED_TOKENIZERS):
        with _asset(name, kind) as file:
            if file.is_file():
                companion = read_companion(file, kind)
                if tokenizer.made(companion.fingerprint):
                    return companion
                names.append(f"{name} ({companion.fingerprint})")
    raise FingerprintError(
        f"there is no {kind.name} for tokenizer {tokenizer.fingerprint}; expected {' or '.join(names) or 'none'}: "
        f"{kind.train}"
    )


@contextmanager
def _asset(tokenizer: str, kind: Kind) -> Iterator[Path]:
    with resources.as_file(resources.files("speechtok") / "assets" / tokenizer / kind.file_name) as file:
        yield file
