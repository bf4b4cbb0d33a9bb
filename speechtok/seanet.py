"""The published SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692) and its files."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from speechtok.config import SEANetConfig
from speechtok.errors import CheckpointError, ConfigError
from speechtok.nn.quantizer import FloatQuantizer
from speechtok.nn.seanet import PIECE_FRAMES, Conv, ResidualBlock, SEANetDecoder, SEANetEncoder, TransposedConv
from speechtok.nn.skip_init import SkipInit
from speechtok.utterances import UtteranceTokenizer

PUBLISHED_WEIGHTS_NAME = "SpeechTokenizer.pt"


class SEANetTokenizer(UtteranceTokenizer):
    """A tokenizer of the ``seanet`` family, in float32; its LSTM is parallel over time instead of over utterances.

    Args:
        config: its architecture.
    """

    config: SEANetConfig

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__()
        c = config
        self.config = config
        blocks = c.residual_layers, c.residual_kernel_size, c.dilation_base, c.activation, c.causal
        self.encoder = SEANetEncoder(c.filters, c.strides, c.latent_dim, *blocks, c.lstm_layers, c.bidirectional)
        self.quantizer = FloatQuantizer(c.num_codebooks, c.codebook_size, c.latent_dim)
        self.decoder = SEANetDecoder(c.filters, c.strides, c.latent_dim, *blocks, c.lstm_layers)
        self.why_no_stream = (
            "it is causal, but a float32 model, whose codes in pieces may be others than those of the whole"
            if c.causal
            else "it is not causal, a frame depends on audio that comes later"
        )
        self.eval().requires_grad_(False)

    def encode_one(self, x: Tensor, num_codebooks: int) -> Tensor:  # noqa: D102, see UtteranceTokenizer
        with torch.inference_mode():
            return torch.cat([self.quantizer.encode(piece, num_codebooks) for piece in self.encoder.pieces(x)], 2)

    def decode_one(self, codes: Tensor) -> Tensor:  # noqa: D102
        with torch.inference_mode():
            latent = (self.quantizer.decode(piece) for piece in torch.split(codes, PIECE_FRAMES, 2))
            waveform = torch.empty(1, codes.shape[2] * self.hop_length, dtype=torch.float32, device=codes.device)
            start = 0
            for piece in self.decoder.pieces(latent):
                waveform[:, start : start + piece.shape[1]] = piece
                start += piece.shape[1]
            return waveform

    def _embed(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)


def published_config(values: Mapping[str, Any]) -> SEANetConfig:
    """Read the ``config.json`` of a published SpeechTokenizer; what only its training needs is passed over.

    Raises:
        ConfigError: a field is missing or does not describe a tokenizer.
    """
    names = {
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
    for name in (*names, "activation"):
        if name not in values:
            raise ConfigError(f"the published config lacks the field {name!r}; fetch it again")
    kinds = {"ELU": "elu", "Snake": "snake"}
    kind = values["activation"]
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"activation is {kind!r}; expected 'ELU' or 'Snake'")
    return SEANetConfig(activation=kinds[kind], **{ours: values[theirs] for theirs, ours in names.items()})


def from_published(weights: Mapping[str, Any], config: SEANetConfig, source: object) -> dict[str, Tensor]:
    """Weights of a published SpeechTokenizer as those of a :class:`SEANetTokenizer`.

    Weight norm (Salimans and Kingma 2016, arXiv 1602.07868) is folded into the weights. What only training needs is
    dropped: the averages of the codebooks, and the projection of codebook 0 to its teacher's width.

    Args:
        weights: the published state dict.
        config: what they should fit.
        source: where they are from, for errors.

    Raises:
        CheckpointError: a weight is missing, is of another shape than the config asks for, or is unknown.
    """
    with torch.device("meta"), SkipInit():
        model = SEANetTokenizer(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    left = {str(name): tensor for name, tensor in weights.items()}

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in left:
            raise CheckpointError(f"{source} lacks {name}, which its config asks for; fetch both again")
        tensor = left.pop(name)
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.layout is not torch.strided:
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise CheckpointError(f"{source}: {name} is of type {kind}; expected a dense tensor of floats")
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, and its config asks for {shape}; fetch both again"
            )
        return tensor.float()

    taken = {}
    for ours, theirs in _published_names(model).items():
        shape = expected[ours]
        if ours.endswith(".weight"):
            length = take(f"{theirs}_g", (shape[0], 1, 1))
            taken[ours] = torch._weight_norm(take(f"{theirs}_v", shape), length, 0)
        elif ours.endswith(".alpha"):
            taken[ours] = take(theirs, (1, *shape, 1)).flatten()
        else:
            taken[ours] = take(theirs, shape)
    books = [
        take(f"quantizer.vq.layers.{q}._codebook.embed", expected["quantizer.codebooks"][1:])
        for q in range(config.num_codebooks)
    ]
    taken["quantizer.codebooks"] = torch.stack(books)
    kept_from = [name for name in left if not _TRAINING_ONLY.fullmatch(name)]
    if kept_from:
        raise CheckpointError(f"{source} holds {kept_from[0]}, which its config does not know; fetch both again")
    return taken


_TRAINING_ONLY = re.compile(
    r"transform\.(weight|bias)|quantizer\.vq\.layers\.\d+\._codebook\.(inited|cluster_size|embed_avg)"
)


def _published_names(model: SEANetTokenizer) -> dict[str, str]:
    """Our names of the weights of encoder and decoder, and the published ones."""
    names = {}
    for half, parts in (("encoder", model.encoder.children()), ("decoder", model.decoder.children())):
        layers = []
        for part in parts:
            layers += list(part) if isinstance(part, torch.nn.Sequential) else [part]
        layers = [layer for layer in layers if not isinstance(layer, torch.nn.Identity)]
        for place, layer in enumerate(layers):
            there = f"{half}.model.{place}"
            parts_of = {"": (layer, there)}
            if isinstance(layer, ResidualBlock):
                inner = ("enter", "block.0"), ("narrow", "block.1"), ("between", "block.2"), ("widen", "block.3")
                parts_of = {a: (getattr(layer, a), f"{there}.{b}") for a, b in (*inner, ("shortcut", "shortcut"))}
            for part, path in parts_of.values():
                suffix = (
                    ".conv.conv"
                    if isinstance(part, Conv)
                    else ".convtr.convtr"
                    if isinstance(part, TransposedConv)
                    else ""
                )
                for name, parameter in part.named_parameters():
                    names[id(parameter)] = f"{path}{suffix}.{name}"
    return {name: names[id(p)] for name, p in model.named_parameters()}
