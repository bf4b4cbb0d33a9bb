"""Loading: from a name to a tokenizer, of whichever family it is."""

import os
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from speechtok.checkpoint import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    check_number_of_tensors,
    check_weights,
    parse_description,
    read_json,
    read_weights,
    require_file,
    unpickle,
)
from speechtok.codecs import CODECS, load_codec
from speechtok.config import ModelConfig, SEANetConfig, model_config
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.device import check_device
from speechtok.errors import CheckpointError, InputError, quoted
from speechtok.fingerprints import DEFAULT_TOKENIZER, NAMED_TOKENIZERS
from speechtok.hub import HUB_PREFIX, locate
from speechtok.interop import PUBLISHED_WEIGHTS_NAME, convert_config, convert_weights
from speechtok.nn.skip_init import SkipInit
from speechtok.seanet import SEANetTokenizer
from speechtok.tokenizer import Tokenizer

_HUB_FILES = CONFIG_NAME, WEIGHTS_NAME, PUBLISHED_WEIGHTS_NAME, "model-*.safetensors", "model.safetensors.index.json"


def load(
    name: str | os.PathLike[str] | None = None, device: torch.device | str = "cpu", revision: str | None = None
) -> Tokenizer:
    """Load a tokenizer, ready to encode and decode.

    Args:
        name: one of

            - nothing: the default, the newest tokenizer embedded in the package;
            - ``"speechtok-v1"`` or ``"speechtok-v2"``: an embedded tokenizer, whose codes no later version changes;
            - a directory written by :meth:`Tokenizer.save`, or a ``checkpoint.pt`` written by ``training.train``;
            - a directory of a published SpeechTokenizer: ``config.json`` beside ``SpeechTokenizer.pt``;
            - ``"org/name"`` on the Hugging Face hub, or ``"org/name/folder"`` for a folder of the repository. If there
              is a folder ``org`` here, it is taken for a mistyped path: pass ``"hf://org/name"`` then;
            - ``"encodec:…"``, ``"dac:…"`` or ``"mimi:…"`` for a codec of transformers: a directory or ``org/name``.
        device: where to compute.
        revision: branch, tag or commit on the hub; a commit pins the files.

    Raises:
        MissingFileError: the directory, the repository or one of its files does not exist, or the hub cannot be
            reached.
        ConfigError: the config does not describe a tokenizer.
        CheckpointError: the weights are damaged, do not fit the config, or are not safe to read.
        InputError: the name, the codec or the device cannot be used.
    """
    device = check_device(device)
    if name is not None and not isinstance(name, (str, os.PathLike)):
        raise InputError(f"name is {quoted(name)}; expected a directory, org/name on the hub, or None for the default")
    embedded = DEFAULT_TOKENIZER if name is None else name
    if isinstance(embedded, str) and embedded in NAMED_TOKENIZERS and not os.path.exists(embedded):
        if revision is not None:
            raise InputError(f"revision is {quoted(revision)} with an embedded tokenizer; expected a name on the hub")
        with resources.as_file(resources.files("speechtok") / "assets" / embedded) as directory:
            return _load_directory(directory, device)
    assert name is not None  # an embedded name otherwise
    if os.path.exists(name) and not os.path.isdir(name):
        return _load_training_checkpoint(Path(name), device)
    codec, colon, where = name.partition(":") if isinstance(name, str) else ("", "", "")
    if colon and not os.path.exists(name) and not str(name).startswith(HUB_PREFIX):
        return load_codec(codec, where, device, revision)
    return _load_directory(locate(name, revision, _HUB_FILES), device)


def build(config: ModelConfig) -> ConvNeXtTokenizer | SEANetTokenizer:
    """Make a tokenizer of the ``convnext`` or ``seanet`` family with random weights."""
    return SEANetTokenizer(config) if isinstance(config, SEANetConfig) else ConvNeXtTokenizer(config)


def _load_directory(directory: Path, device: torch.device) -> Tokenizer:
    values = read_json(directory)
    if "n_filters" in values and "config" not in values:
        return _load_published(directory, values, device)
    codec = values.get("model_type")
    if isinstance(codec, str) and codec in CODECS and "config" not in values:
        return load_codec(codec, directory, device)
    description = parse_description(values, directory)
    config = model_config(description.config)
    weights_path = directory / WEIGHTS_NAME
    tokenizer = _assemble(config, read_weights(directory), weights_path, device)
    if description.decoder_fingerprint is None:
        hashed, aliases = tokenizer.version_1_fingerprint, (*description.aliases, description.fingerprint)
        stated: tuple[str | None, ...] = (description.fingerprint,)
        found: tuple[str, ...] = (hashed,)
    else:
        aliases = description.aliases
        stated = description.fingerprint, description.decoder_fingerprint
        found = tokenizer.fingerprint, tokenizer.decoder_fingerprint
    if found != stated:
        raise CheckpointError(
            f"{weights_path} and {directory / CONFIG_NAME} hash to {' and '.join(found)}, and {CONFIG_NAME} says "
            f"{' and '.join(map(str, stated))}: one of them was changed; fetch or save both again"
        )
    tokenizer.add_aliases(aliases)
    return tokenizer


def _load_published(directory: Path, values: dict[str, Any], device: torch.device) -> Tokenizer:
    path = directory / PUBLISHED_WEIGHTS_NAME
    require_file(path, PUBLISHED_WEIGHTS_NAME)
    config = convert_config(values)
    weights = unpickle(path, "the weights of a published SpeechTokenizer: fetch it again")
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} holds a {type(weights).__name__}; expected a state dict: fetch it again")
    check_number_of_tensors(config, weights, path)
    with torch.device("meta"), SkipInit():
        model = SEANetTokenizer(config)
    return _assemble(config, convert_weights(weights, model, path), path, device)


def _load_training_checkpoint(path: Path, device: torch.device) -> Tokenizer:
    checkpoint = unpickle(path, f"a directory with {CONFIG_NAME} and {WEIGHTS_NAME}, or a checkpoint of training.train")
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    config, weights = parts.get("config"), parts.get("tokenizer")
    # other containers are not converted: tuples in tuples can take for ever to hash
    if not isinstance(config, dict) or "model" not in config or not isinstance(weights, dict):
        raise CheckpointError(f"{path} is not a checkpoint of training.train; expected one, or a directory")
    return _assemble(model_config(config["model"]), weights, path, device)


def _assemble(config: ModelConfig, weights: dict[str, torch.Tensor], source: Path, device: torch.device) -> Tokenizer:
    check_number_of_tensors(config, weights, source)
    with torch.device("meta"), SkipInit():
        tokenizer = build(config)
    expected = {name: tensor.shape for name, tensor in tokenizer.named_tensors().items()}
    tokenizer.load_named_tensors(check_weights(expected, weights, source, device))
    if any(tensor.is_meta for tensor in tokenizer.state_dict().values()):
        raise CheckpointError(
            f"{source} was read inside a context that keeps weights from being made, such as "
            "accelerate.init_empty_weights; load it outside of that context"
        )
    return tokenizer
