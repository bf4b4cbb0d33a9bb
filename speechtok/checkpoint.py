"""Tokenizers on disk: ``config.json`` beside ``model.safetensors``, read without running any code of theirs."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from speechtok.codecs import CODECS, load_codec
from speechtok.config import ModelConfig, SEANetConfig, model_config
from speechtok.errors import CheckpointError, InputError, MissingFileError, OutputError, SpeechtokError
from speechtok.files import as_path, replacing
from speechtok.hub import locate
from speechtok.nn.skip_init import SkipInit
from speechtok.seanet import PUBLISHED_WEIGHTS_NAME, SEANetTokenizer, from_published, published_config
from speechtok.tokenizer import ConvNeXtTokenizer, Tokenizer
from speechtok.version import version

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load(
    name: str | os.PathLike[str] | None = None, device: torch.device | str = "cpu", revision: str | None = None
) -> Tokenizer:
    """Load a tokenizer, ready to encode and decode.

    Args:
        name: one of

            - a directory that :meth:`ConvNeXtTokenizer.save` wrote, or a ``checkpoint.pt`` of ``training/train.py``;
            - a directory of a published SpeechTokenizer: ``config.json`` beside ``SpeechTokenizer.pt``;
            - ``org/name`` on the Hugging Face hub, with ``/folder`` behind it for a folder of the repository;
            - ``"encodec:…"``, ``"dac:…"`` or ``"mimi:…"`` for a codec of transformers: a directory or ``org/name``.

            The default tokenizer, which is part of the package, if not given.
        device: where it computes.
        revision: branch, tag or commit on the hub; a commit pins the very files.

    Raises:
        MissingFileError: there is no such directory or repository, one of its files is missing, or the hub cannot be
            reached.
        ConfigError: the config does not describe a tokenizer.
        CheckpointError: the weights are damaged, do not belong to the config, or are not safe to read.
        InputError: there is no such codec or device, or the name is no name.
    """
    _check_device(device)
    if name is not None and not isinstance(name, (str, os.PathLike)):
        raise InputError(f"name is {name!r}; expected a directory, org/name on the hub, or nothing for the default")
    if name is None:
        if revision is not None:
            raise InputError(f"revision is {revision!r} without a name; expected a name on the hub with it")
        with resources.as_file(resources.files("speechtok") / "assets") as directory:
            return _load_directory(directory, device)
    if os.path.exists(name) and not os.path.isdir(name):
        return _load_training_checkpoint(Path(name), device)
    codec, colon, where = name.partition(":") if isinstance(name, str) else ("", "", "")
    if colon and not os.path.exists(name):
        return load_codec(codec, where, device, revision)
    files = CONFIG_NAME, WEIGHTS_NAME, PUBLISHED_WEIGHTS_NAME, "model-*.safetensors", "model.safetensors.index.json"
    return _load_directory(locate(name, revision, files), device)


def _check_device(device: torch.device | str) -> None:
    reason = "which holds no values"
    try:
        if torch.device(device).type != "meta":
            torch.empty(0, device=device)
            return
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:  # backends that are not installed
        said = str(error).partition("\n")[0]
        reason = f"which cannot be used here ({said})"
    raise InputError(f"device is {device!r}, {reason}; expected one of PyTorch's that is here, such as 'cpu'")


def save(tokenizer: Tokenizer, directory: str | os.PathLike[str]) -> None:
    """See :meth:`Tokenizer.save`."""
    directory = as_path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a name that no folder can have
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"cannot make the folder {directory}: {reason}; choose a writable place") from error
    tensors = {name: _compact(tensor.cpu()) for name, tensor in tokenizer.state_dict().items()}
    description = {
        "speechtok": version(),
        "fingerprint": tokenizer.fingerprint,
        "config": tokenizer.config.to_dict(),
    }
    # both are whole before either takes its name: a full disk leaves the tokenizer that stood there as it was
    with replacing(directory / WEIGHTS_NAME) as weights:
        weights.write_bytes(safetensors.torch.save(tensors))
        with replacing(directory / CONFIG_NAME) as config:
            config.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in float16 where it holds them exactly, else in float32."""
    half = tensor.half().contiguous()
    return half if torch.equal(half.float(), tensor.float()) else tensor.float().contiguous()


def _load_directory(directory: Path, device: torch.device | str) -> Tokenizer:
    config_path, weights_path = directory / CONFIG_NAME, directory / WEIGHTS_NAME
    _check_file(config_path)
    try:
        description: Any = json.loads(config_path.read_text(encoding="utf-8"))
        if "n_filters" in description and "config" not in description:
            return _load_published(directory, description, device)
        if description.get("model_type") in CODECS:
            return load_codec(description["model_type"], directory, device)
        config, fingerprint = description["config"], description["fingerprint"]
    except SpeechtokError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{config_path} is no tokenizer's description ({error!r}); save it again") from error
    _check_file(weights_path)
    try:
        weights = safetensors.torch.load_file(weights_path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{weights_path} is damaged ({error}); fetch or save it again") from error
    tokenizer = _assemble(model_config(config), weights, weights_path, device)
    if tokenizer.fingerprint != fingerprint:
        raise CheckpointError(
            f"{weights_path} and {config_path} hash to {tokenizer.fingerprint}, and {CONFIG_NAME} says {fingerprint}: "
            "one of them was changed; fetch or save both again"
        )
    return tokenizer


def _check_file(path: Path, also: str = WEIGHTS_NAME) -> None:
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; a tokenizer needs {CONFIG_NAME} and {also}")


def _load_published(directory: Path, description: dict[str, Any], device: torch.device | str) -> Tokenizer:
    path = directory / PUBLISHED_WEIGHTS_NAME
    _check_file(path, PUBLISHED_WEIGHTS_NAME)
    config = published_config(description)
    weights = _unpickle(path, "the weights of a published SpeechTokenizer: fetch it again")
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} holds a {type(weights).__name__}; expected a state dict: fetch it again")
    return _assemble(config, from_published(weights, config, path), path, device)


def _unpickle(path: Path, expected: str) -> Any:
    """Read tensors and plain values, and nothing that would run."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes fail anywhere in the reader: IndexError, KeyError, AssertionError, …
        cause = error.__context__ or error  # torch wraps the reason in advice on how to run the code after all
        reason = (str(cause) or type(cause).__name__).splitlines()[0].split(". Please")[0]
        raise CheckpointError(
            f"{path} is damaged, or would run code when read ({reason}); expected {expected}"
        ) from error


def _load_training_checkpoint(path: Path, device: torch.device | str) -> Tokenizer:
    checkpoint = _unpickle(
        path, f"a directory with {CONFIG_NAME} and {WEIGHTS_NAME}, or a checkpoint of training/train.py"
    )
    try:
        parts = dict(checkpoint)
        config, weights = parts["config"]["model"], dict(parts["tokenizer"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path} is no checkpoint of training/train.py; expected one, or a directory") from error
    return _assemble(model_config(config), weights, path, device)


def _assemble(
    config: ModelConfig, weights: dict[str, torch.Tensor], source: Path, device: torch.device | str
) -> Tokenizer:
    with torch.device("meta"), SkipInit():
        tokenizer = build(config)
    expected = {name: tensor.shape for name, tensor in tokenizer.state_dict().items()}
    for name in sorted(expected.keys() | weights.keys(), key=str):
        if name not in weights:
            raise CheckpointError(f"{source} lacks {name}, which its config asks for; save both again")
        if name not in expected:
            raise CheckpointError(f"{source} holds {name}, which its config does not know; save both again")
        weight = weights[name]
        if not isinstance(weight, torch.Tensor) or weight.dtype not in _DTYPES:
            kind = weight.dtype if isinstance(weight, torch.Tensor) else type(weight).__name__
            raise CheckpointError(f"{source}: {name} is of type {kind}; expected floating-point numbers")
        if weight.layout is not torch.strided or weight.is_meta:
            raise CheckpointError(f"{source}: {name} is sparse or holds no values; expected a dense tensor")
        if weight.shape != expected[name]:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(weight.shape)}, and its config asks for "
                f"{tuple(expected[name])}; save both again"
            )
        if not bool(torch.isfinite(weight).all()):
            raise CheckpointError(f"{source}: {name} holds values that are not finite numbers; fetch or save it again")
    # copies, in float32: a file may change, and what tensors are made of by default is the program's own affair
    own = {name: weight.to(device, torch.float32, copy=True) for name, weight in weights.items()}
    tokenizer.load_state_dict(own, assign=True)
    if any(tensor.is_meta for tensor in tokenizer.state_dict().values()):
        raise CheckpointError(
            f"{source} was read where weights are kept from being made, as by accelerate.init_empty_weights; load it "
            "outside of that"
        )
    return tokenizer


def build(config: ModelConfig) -> ConvNeXtTokenizer | SEANetTokenizer:
    """A tokenizer of this config, with random weights."""
    return SEANetTokenizer(config) if isinstance(config, SEANetConfig) else ConvNeXtTokenizer(config)
