"""Checks of a codec's files before transformers makes a model: its config may ask for any amount of memory and time."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch

from speechtok.checkpoint import CONFIG_NAME, read_json
from speechtok.errors import CheckpointError, quoted
from speechtok.limits import MAX_CODEBOOK_SIZE, MAX_CODEBOOKS, MAX_HOP_LENGTH, MAX_SAMPLE_RATE
from speechtok.nn.skip_init import SkipInit

_COUNTS = (
    "num_hidden_layers",
    "num_lstm_layers",
    "num_quantizers",
    "num_residual_layers",
    "num_semantic_quantizers",
    "n_codebooks",
)
"""Fields of configs that count modules."""

_MAX_NUMBER = 2**24
_MAX_LIST = 64

_NOT_OURS = ("_attn_implementation", "_commit_hash", "attn_implementation", "auto_map", "quantization_config")
"""Fields that make transformers load more than weights, such as code for attention from the hub."""


def read_codec_config(directory: Path, model_class: Any) -> Any:
    """Read the config of a codec, and check that its weights can be what it asks for.

    Args:
        directory: folder with ``config.json`` and weights.
        model_class: class of transformers.

    Returns:
        The config, an instance of ``model_class.config_class``.

    Raises:
        CheckpointError: the config is damaged, out of bounds, or asks for many more weights than the files hold.
    """
    values = {name: value for name, value in read_json(directory).items() if name not in _NOT_OURS}
    path = directory / CONFIG_NAME
    sizes = [size for file in sorted(directory.glob("model*.safetensors")) for size in _tensor_sizes(file)]
    for name, value in _numbers(values):
        maximum = MAX_CODEBOOKS if name in _COUNTS else _MAX_NUMBER
        if not abs(value) <= maximum:  # NaN is not
            raise CheckpointError(f"{path}: {name} is {quoted(value)}; expected at most {maximum}")
        if name in _COUNTS and value > len(sizes):
            raise CheckpointError(
                f"{path}: {name} is {value}, and the weights have {len(sizes)} tensors: some are missing; fetch or "
                "save both again"
            )
    try:
        config = model_class.config_class.from_dict(values)
        with torch.device("meta"), SkipInit():
            model = model_class(config)
        needed = sum(tensor.numel() for tensor in model.state_dict().values())
    except Exception as error:  # transformers does not check what a config holds
        raise CheckpointError(
            f"{path} does not describe a codec ({quoted(first_line(error))}); fetch or save it again"
        ) from error
    # names and sizes differ between versions of transformers, but not by much
    if needed > 2 * sum(sizes) + 2**20:
        raise CheckpointError(
            f"{directory} lacks weights, which its config asks for: {needed:,} numbers, and its files hold "
            f"{sum(sizes):,}; fetch or save both again"
        )
    return config


def check_sizes(directory: Path, sample_rate: Any, hop_length: Any, num_codebooks: Any, codebook_size: Any) -> None:
    """Check the four numbers that the interface of tokenizers needs.

    Raises:
        CheckpointError: one is not a whole number within its bounds.
    """
    for name, value, maximum in (
        ("sample rate", sample_rate, MAX_SAMPLE_RATE),
        ("hop length", hop_length, MAX_HOP_LENGTH),
        ("number of codebooks", num_codebooks, MAX_CODEBOOKS),
        ("codebook size", codebook_size, MAX_CODEBOOK_SIZE),
    ):
        if type(value) is not int or not 1 <= value <= maximum:
            raise CheckpointError(
                f"{directory / CONFIG_NAME}: the {name} is {quoted(value)}; expected a whole number from 1 to {maximum}"
            )


def _tensor_sizes(path: Path) -> Iterator[int]:
    """Number of elements of each tensor of a safetensors file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, not a dict
                yield math.prod(file.get_slice(name).get_shape())
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); fetch or save it again") from error


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Numbers of a config, by the names of their fields."""
    waiting: list[tuple[str, Any]] = list(values.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            if len(value) > _MAX_LIST:
                raise CheckpointError(
                    f"{CONFIG_NAME}: {quoted(name)} has {len(value)} values; expected at most {_MAX_LIST}"
                )
            waiting += ((name, item) for item in value)
        elif isinstance(value, (int, float)):
            yield name, value


def first_line(error: BaseException) -> str:
    """First line of the message of an error of transformers."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
