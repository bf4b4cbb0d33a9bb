"""The published SpeechTokenizer in plain PyTorch, module by module, as a reference for speed and tests."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.interop import PUBLISHED_WEIGHTS_NAME

BASE: dict[str, Any] = {
    "n_filters": 64,
    "strides": [8, 5, 4, 2],
    "dimension": 1024,
    "semantic_dimension": 768,
    "bidirectional": True,
    "dilation_base": 2,
    "residual_kernel_size": 3,
    "n_residual_layers": 1,
    "lstm_layers": 2,
    "activation": "ELU",
    "codebook_size": 1024,
    "n_q": 8,
    "sample_rate": 16_000,
}
"""The fields of the published config that a tokenizer needs."""


class Activation(nn.Module):
    """ELU, or Snake with one learned frequency per channel."""

    def __init__(self, kind: str, dim: int) -> None:
        super().__init__()
        if kind == "Snake":
            self.alpha = nn.Parameter(0.5 + torch.rand(1, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)``."""
        if hasattr(self, "alpha"):
            return x + torch.sin(self.alpha * x) ** 2 / (self.alpha + 1e-9)
        return F.elu(x)


def _normed(conv: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the published names are those of this older function
        normed: nn.Module = nn.utils.weight_norm(conv)
    normed.weight_g.data *= 1.5 + torch.rand_like(normed.weight_g)  # keeps signals from fading
    normed.bias.data *= 0.1
    return normed


class Convolution(nn.Module):
    """Weight-normalised convolution with reflection padding."""

    def __init__(self, i: int, o: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Module()
        self.conv.conv = _normed(nn.Conv1d(i, o, kernel_size, stride, dilation=dilation))
        self.total, self.stride = (kernel_size - 1) * dilation - (stride - 1), stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)``."""
        missing = math.ceil(x.shape[2] / self.stride) * self.stride - x.shape[2]
        right = self.total // 2 + missing
        left = self.total - self.total // 2
        zeros = max(0, max(left, right) - x.shape[2] + 1)
        x = F.pad(F.pad(x, (0, zeros)), (left, right), mode="reflect")
        return self.conv.conv(x[:, :, : x.shape[2] - zeros])


class Upsampling(nn.Module):
    """Weight-normalised transposed convolution, trimmed at both ends."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.convtr = nn.Module()
        self.convtr.convtr = _normed(nn.ConvTranspose1d(i, o, 2 * stride, stride))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)``."""
        y = self.convtr.convtr(x)
        right = self.stride // 2
        return y[:, :, self.stride - right : y.shape[2] - right]


class Residual(nn.Module):
    """Residual block: a bottleneck plus a convolution of kernel size 1."""

    def __init__(self, dim: int, kernel_size: int, dilation: int, kind: str) -> None:
        super().__init__()
        half = dim // 2
        self.block = nn.Sequential(
            Activation(kind, dim), Convolution(dim, half, kernel_size, dilation=dilation),
            Activation(kind, half), Convolution(half, dim, 1),
        )  # fmt: skip
        self.shortcut = Convolution(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)``."""
        return self.shortcut(x) + self.block(x)


class Recurrence(nn.Module):
    """LSTM with a skip connection."""

    def __init__(self, dim: int, layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, layers, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, T)``."""
        y, _ = self.lstm(x.permute(2, 0, 1))
        return y.permute(1, 2, 0) + x.repeat(1, y.shape[2] // x.shape[1], 1)


class Reference(nn.Module):
    """Encoder, quantizer and decoder, with the published names of the weights."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        c = config
        kind, dim, layers = c["activation"], c["n_filters"], c["n_residual_layers"]

        def blocks(width: int) -> list[nn.Module]:
            return [Residual(width, c["residual_kernel_size"], c["dilation_base"] ** i, kind) for i in range(layers)]

        down: list[nn.Module] = [Convolution(1, dim, 7)]
        for stride in reversed(c["strides"]):
            down += [*blocks(dim), Activation(kind, dim), Convolution(dim, 2 * dim, 2 * stride, stride)]
            dim *= 2
        up: list[nn.Module] = [Convolution(c["dimension"], dim, 7), Recurrence(dim, c["lstm_layers"], False)]
        wide = dim * (1 + c["bidirectional"])
        down += [Recurrence(dim, c["lstm_layers"], c["bidirectional"]), Activation(kind, wide)]
        down += [Convolution(wide, c["dimension"], 7)]
        for stride in c["strides"]:
            up += [Activation(kind, dim), Upsampling(dim, dim // 2, stride), *blocks(dim // 2)]
            dim //= 2
        up += [Activation(kind, dim), Convolution(dim, 1, 7)]
        self.encoder, self.decoder, self.quantizer = nn.Module(), nn.Module(), nn.Module()
        self.encoder.model, self.decoder.model = nn.Sequential(*down), nn.Sequential(*up)
        self.quantizer.vq = nn.Module()
        self.quantizer.vq.layers = nn.ModuleList(nn.Module() for _ in range(c["n_q"]))
        for layer in self.quantizer.vq.layers:
            layer._codebook = nn.Module()
            embed = 0.1 * torch.randn(c["codebook_size"], c["dimension"])
            sizes = {"inited": torch.ones(1), "cluster_size": torch.ones(len(embed))}
            for name, tensor in {**sizes, "embed": embed, "embed_avg": embed.clone()}.items():
                layer._codebook.register_buffer(name, tensor)
        self.transform = nn.Linear(c["dimension"], c["semantic_dimension"])
        self.eval().requires_grad_(False)

    @property
    def codebooks(self) -> list[Tensor]:
        """``(N, D)`` each."""
        return [layer._codebook.embed for layer in self.quantizer.vq.layers]

    def latent(self, waveform: Tensor) -> Tensor:
        """``(B, S)`` to ``(B, D, T)``."""
        return self.encoder.model(waveform[:, None])

    def encode(self, waveform: Tensor) -> Tensor:
        """``(B, S)`` to codes ``(B, Q, T)``."""
        residual, codes = self.latent(waveform).transpose(1, 2), []
        for vectors in self.codebooks:
            squares = residual.pow(2).sum(2, keepdim=True) - 2 * residual @ vectors.T + vectors.pow(2).sum(1)
            codes.append(squares.argmin(2))
            residual = residual - vectors[codes[-1]]
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q, T)`` to ``(B, S)``."""
        latent = torch.stack([vectors[c] for vectors, c in zip(self.codebooks, codes.unbind(1), strict=True)]).sum(0)
        return self.decoder.model(latent.transpose(1, 2))[:, 0]


def write_published(reference: Reference, config: dict[str, Any], directory: Path) -> None:
    """Write a reference in the format of the published checkpoints."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    torch.save(reference.state_dict(), directory / PUBLISHED_WEIGHTS_NAME)
