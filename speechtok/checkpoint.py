"""The checkpoint format: ``config.json`` beside ``model.safetensors``, read without running any code.

This module knows files, JSON and tensors. Which class a configuration belongs to is the affair of
:mod:`speechtok.loaders`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from speechtok.auto_classes import MODEL_TYPE
from speechtok.errors import CheckpointError, MissingFileError, quoted
from speechtok.files import make_folder, replacing_all
from speechtok.limits import MAX_FINGERPRINT
from speechtok.parsing import ParseError, parse_json
from speechtok.torch_file import read_torch_file
from speechtok.version import __version__

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"

FORMAT = "speechtok-tokenizer-2"
"""Value of ``format`` in ``config.json``. Files without it are of version 1, whose fingerprint covers the decoder."""

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Description:
    """Contents of ``config.json``.

    Attributes:
        config: architecture, as plain values.
        fingerprint: of encoder and codebooks; in version 1, of the whole tokenizer.
        decoder_fingerprint: of the decoder; ``None`` in version 1.
        aliases: other fingerprints of the same codes.
    """

    config: Any
    fingerprint: str
    decoder_fingerprint: str | None = None
    aliases: tuple[str, ...] = ()


def write_checkpoint(
    directory: str | os.PathLike[str], description: Description, tensors: Mapping[str, Tensor]
) -> None:
    """Write ``config.json`` and ``model.safetensors``.

    Both files are complete before either takes its name: a full disk leaves the files that stood there unchanged.

    Raises:
        OutputError: the folder or a file cannot be written.
        CheckpointError: a weight is not finite.
    """
    directory = make_folder(directory)
    values = {
        "format": FORMAT,
        "model_type": MODEL_TYPE,
        "speechtok": __version__,
        "fingerprint": description.fingerprint,
        "decoder_fingerprint": description.decoder_fingerprint,
        "aliases": list(description.aliases),
        "config": description.config,
    }
    check_finite(tensors, f"the tokenizer for {directory}")
    compact = {name: _compact(tensor.cpu()) for name, tensor in tensors.items()}
    with replacing_all([directory / WEIGHTS_NAME, directory / CONFIG_NAME]) as (weights, config):
        weights.write(safetensors.torch.save(compact))
        config.write((json.dumps(values, indent=2) + "\n").encode())


def _compact(tensor: Tensor) -> Tensor:
    """The same values in float16 if it holds them exactly, else in float32."""
    half = tensor.half().contiguous()
    return half if torch.equal(half.float(), tensor.float()) else tensor.float().contiguous()


def read_json(directory: Path) -> dict[str, Any]:
    """Read ``config.json`` of any kind of model.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is not a JSON object.
    """
    path = directory / CONFIG_NAME
    require_file(path)
    try:
        values = parse_json(path.read_bytes())
    except (ParseError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); fetch or save it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}; expected a JSON object: fetch or save it again")
    return values


def parse_description(values: Mapping[str, Any], directory: Path) -> Description:
    """Turn the contents of ``config.json`` into a :class:`Description`.

    Raises:
        CheckpointError: a field is missing or of the wrong type, or the format is of a later version.
    """
    path = directory / CONFIG_NAME
    kind = values.get("format")
    if kind is not None and kind != FORMAT:
        raise CheckpointError(f"{path} has the format {quoted(kind)}; expected {FORMAT!r}: upgrade speechtok")
    decoder_fingerprint, aliases = values.get("decoder_fingerprint"), values.get("aliases", [])
    texts = [values.get("fingerprint"), *(aliases if isinstance(aliases, list) else [aliases])]
    if kind is not None:
        texts.append(decoder_fingerprint)
    if "config" not in values or not all(isinstance(text, str) and len(text) <= MAX_FINGERPRINT for text in texts):
        raise CheckpointError(f"{path} does not describe a tokenizer: it lacks config or fingerprint; save it again")
    return Description(values["config"], values["fingerprint"], decoder_fingerprint, tuple(aliases))


def read_weights(directory: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors``.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is damaged.
    """
    path = directory / WEIGHTS_NAME
    require_file(path)
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: 0 by 2**62
        raise CheckpointError(f"{path} is damaged ({error}); fetch or save it again") from error


def require_file(path: Path, weights_name: str = WEIGHTS_NAME) -> None:
    """Raise :class:`~speechtok.errors.MissingFileError` if ``path`` is not a file."""
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; a tokenizer needs {CONFIG_NAME} and {weights_name}")


def unpickle(path: Path, expected: str) -> Any:
    """Read tensors and plain values of a ``.pt`` file, and nothing that would run code.

    Args:
        path: the file.
        expected: what the file should be, for the error message.

    Raises:
        CheckpointError: the file is damaged, or holds anything else.
    """
    if path.exists() and not path.is_file():  # opening a named pipe would wait for a writer
        raise CheckpointError(f"{path} is not a file; expected {expected}")
    try:
        return read_torch_file(path)
    except (ParseError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged, or would run code when read ({error!s:.200}); expected {expected}"
        ) from error


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Raise :class:`~speechtok.errors.CheckpointError` if a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{source}: {name} holds values that are not finite; fetch or save it again")


def check_number_of_tensors(config: Any, weights: Mapping[str, Any], source: object) -> None:
    """Check that a file can hold the weights of a config, before thousands of layers are made for a small file.

    Raises:
        CheckpointError: it has too few tensors.
    """
    if len(weights) < config.min_tensors:
        raise CheckpointError(
            f"{source} holds {len(weights)} tensors and lacks others, as its config asks for at least "
            f"{config.min_tensors}; save both again"
        )


def check_weights(
    expected: Mapping[str, torch.Size], weights: Mapping[str, Any], source: Path, device: torch.device | str
) -> dict[str, Tensor]:
    """Check weights against the shapes that a configuration asks for, and copy them.

    Args:
        expected: shapes by name.
        weights: tensors by name, from a file.
        source: the file, for error messages.
        device: of the copies.

    Returns:
        Copies in float32: the file may change later.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape, not a dense tensor of floats, or not finite.
    """
    for name in sorted(expected.keys() | weights.keys(), key=str):
        if name not in weights:
            raise CheckpointError(f"{source} lacks {name}, which its config asks for; save both again")
        if name not in expected:
            raise CheckpointError(f"{source} holds {quoted(name)}, which its config does not know; save both again")
        weight = weights[name]
        if not isinstance(weight, Tensor) or weight.dtype not in _DTYPES:
            kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
            raise CheckpointError(f"{source}: {name} is of type {kind}; expected floating-point numbers")
        if weight.layout is not torch.strided or weight.is_meta or weight.is_nested:
            raise CheckpointError(f"{source}: {name} is sparse, nested or holds no values; expected a dense tensor")
        if weight.shape != expected[name]:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(weight.shape)}, and its config asks for "
                f"{tuple(expected[name])}; save both again"
            )
        check_finite({name: weight}, source)
    return {name: weight.to(device, torch.float32, copy=True) for name, weight in weights.items()}
