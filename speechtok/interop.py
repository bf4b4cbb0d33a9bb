"""Published SpeechTokenizer checkpoints (Zhang et al. 2023, arXiv 2308.16692): tables of keys, and the conversion."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from speechtok.config import SEANetConfig
from speechtok.errors import CheckpointError, ConfigError, quoted
from speechtok.nn.seanet import Conv, ResidualBlock, TransposedConv
from speechtok.seanet import SEANetTokenizer

PUBLISHED_WEIGHTS_NAME = "SpeechTokenizer.pt"

CONFIG_KEYS = {
    "sample_rate": "sample_rate",
    "strides": "strides",
    "n_filters": "filters",
    "n_residual_layers": "residual_layers",
    "residual_kernel_size": "residual_kernel_size",
    "dilation_base": "dilation_base",
    "lstm_layers": "lstm_layers",
    "bidirectional": "bidirectional",
    "dimension": "latent_dim",
    "n_q": "num_codebooks",
    "codebook_size": "codebook_size",
}
"""Fields of the published ``config.json``, and ours."""

ACTIVATIONS = {"ELU": "elu", "Snake": "snake"}
"""Values of the published field ``activation``, and ours."""

BLOCK_KEYS = {
    "enter": "block.0",
    "narrow": "block.1",
    "between": "block.2",
    "widen": "block.3",
    "shortcut": "shortcut",
}
"""Parts of a residual block, and their published names."""

LAYER_KEYS: dict[type[nn.Module], str] = {Conv: ".conv.conv", TransposedConv: ".convtr.convtr"}
"""Layers that the published model wraps, and the published names of what is inside."""

CODEBOOK_KEY = "quantizer.vq.layers.{}._codebook.embed"
"""Published name of the vectors of a codebook."""

TRAINING_ONLY_KEYS = re.compile(
    r"transform\.(weight|bias)|quantizer\.vq\.layers\.\d+\._codebook\.(inited|cluster_size|embed_avg)"
)
"""Published tensors that only training needs: averages of the codebooks, the projection to the teacher's width."""


def convert_config(values: Mapping[str, Any]) -> SEANetConfig:
    """Convert a published ``config.json``; fields that only training needs are ignored.

    Raises:
        ConfigError: a field is missing or does not describe a tokenizer.
    """
    for name in (*CONFIG_KEYS, "activation"):
        if name not in values:
            raise ConfigError(f"the published config lacks the field {name!r}; fetch it again")
    kind = values["activation"]
    if not isinstance(kind, str) or kind not in ACTIVATIONS:
        raise ConfigError(f"activation is {quoted(kind)}; expected 'ELU' or 'Snake'")
    return SEANetConfig(activation=ACTIVATIONS[kind], **{ours: values[theirs] for theirs, ours in CONFIG_KEYS.items()})


def convert_weights(weights: Mapping[str, Any], model: SEANetTokenizer, source: object) -> dict[str, Tensor]:
    """Convert published weights; weight norm (Salimans and Kingma 2016, arXiv 1602.07868) is folded in.

    Args:
        weights: the published state dict.
        model: a tokenizer of the converted config; only its names and shapes are used.
        source: file of the weights, for error messages.

    Returns:
        Tensors by our names.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape than the config asks for.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.named_tensors().items()}
    left = {name if isinstance(name, str) else quoted(name): tensor for name, tensor in weights.items()}

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in left:
            raise CheckpointError(f"{source} lacks {name}, which its config asks for; fetch both again")
        tensor = left.pop(name)
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_meta:
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise CheckpointError(f"{source}: {name} is of type {kind}; expected a dense tensor of floats")
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, and its config asks for {shape}; fetch both again"
            )
        return tensor.float()

    taken = {}
    for ours, theirs in published_names(model).items():
        shape = expected[ours]
        if ours.endswith(".weight"):
            length = take(f"{theirs}_g", (shape[0], 1, 1))
            taken[ours] = torch._weight_norm(take(f"{theirs}_v", shape), length, 0)
        elif ours.endswith(".alpha"):
            taken[ours] = take(theirs, (1, *shape, 1)).flatten()
        else:
            taken[ours] = take(theirs, shape)
    num_codebooks, *codebook = expected["quantizer.codebooks"]
    codebooks = [take(CODEBOOK_KEY.format(q), tuple(codebook)) for q in range(num_codebooks)]
    taken["quantizer.codebooks"] = torch.stack(codebooks)
    unknown = [name for name in left if not TRAINING_ONLY_KEYS.fullmatch(name)]
    if unknown:
        raise CheckpointError(f"{source} holds {quoted(unknown[0])}, which its config does not know; fetch both again")
    return taken


def published_names(model: SEANetTokenizer) -> dict[str, str]:
    """Our names of the parameters of encoder and decoder, and the published ones."""
    names = {}
    for half in ("encoder", "decoder"):
        for index, layer in enumerate(_layers(getattr(model, half))):
            there = f"{half}.model.{index}"
            parts = {there: layer}
            if isinstance(layer, ResidualBlock):
                parts = {f"{there}.{theirs}": getattr(layer, ours) for ours, theirs in BLOCK_KEYS.items()}
            for path, part in parts.items():
                for name, parameter in part.named_parameters():
                    names[id(parameter)] = f"{path}{LAYER_KEYS.get(type(part), '')}.{name}"
    return {name: names[id(p)] for name, p in model.named_parameters()}


def _layers(half: nn.Module) -> Iterator[nn.Module]:
    """The layers of an encoder or decoder in the order of the published ``nn.Sequential``."""
    for part in half.children():
        for layer in part if isinstance(part, nn.Sequential) else [part]:
            if not isinstance(layer, nn.Identity):
                yield layer
