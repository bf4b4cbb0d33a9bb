"""A small HuBERT (Hsu et al. 2021, arXiv 2106.07447) on log-mel spectra, with a phone classifier on top."""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from speechtok.config import from_mapping
from speechtok.errors import CheckpointError, ConfigError, MissingFileError
from speechtok.files import replacing
from training.features import LogMel

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"


@dataclass(frozen=True)
class HubertConfig:
    """The network, complete but for its weights.

    Attributes:
        sample_rate: in hertz.
        hop_length: samples a frame; two log-mel spectra are stacked in one.
        bands: of the log-mel spectra.
        dim: width ``D``.
        depth: blocks.
        heads: of the attention; divides ``dim``.
        kernel_size: frames that the convolution of a block sees, odd.
        expansion: hidden width of a block, in multiples of ``dim``.
        dropout: of every branch.
    """

    sample_rate: int = 16_000
    hop_length: int = 320
    bands: int = 80
    dim: int = 256
    depth: int = 5
    heads: int = 4
    kernel_size: int = 15
    expansion: int = 3
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop_length", "bands", "dim", "depth", "heads", "kernel_size", "expansion"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.hop_length % 4:
            raise ConfigError(f"hop_length is {self.hop_length}; expected a multiple of 4")
        if self.dim % self.heads:
            raise ConfigError(f"dim is {self.dim}; expected a multiple of heads ({self.heads})")
        if not self.kernel_size % 2:
            raise ConfigError(f"kernel_size is {self.kernel_size}; expected an odd number of frames")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; expected 0 to below 1")

    @property
    def frame_rate(self) -> float:
        """Frames a second, in hertz."""
        return self.sample_rate / self.hop_length


class Block(nn.Module):
    """Attention over all frames, then a depthwise convolution and a feed-forward network, each around a residual."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        dim, self.heads = config.dim, config.heads
        self.attention_norm = nn.LayerNorm(dim)
        self.attention_in = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.convolution = nn.Conv1d(dim, dim, config.kernel_size, padding="same", groups=dim)
        self.forward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, config.expansion * dim)
        self.contract = nn.Linear(config.expansion * dim, dim)
        self.dropout = nn.Dropout(config.dropout)
        with torch.no_grad():  # the sum of the branches starts as loud as the input
            for linear in (self.attention_out, self.contract):
                linear.weight.mul_((2 * config.depth) ** -0.5)
                linear.bias.zero_()

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``; ``valid``: bool ``(B, T)``, false where a row is padding."""
        batch, frames, dim = x.shape
        qkv = self.attention_in(self.attention_norm(x)).view(batch, frames, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        heard = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None, :])
        x = x + self.dropout(self.attention_out(heard.transpose(1, 2).reshape(batch, frames, dim)))
        mixed = self.convolution((x * valid[..., None]).transpose(1, 2)).transpose(1, 2)
        hidden = nn.functional.gelu(self.expand(self.forward_norm(mixed)))
        return x + self.dropout(self.contract(hidden))


class Hubert(nn.Module):
    """Log-mel front end, bidirectional blocks, phone classifier.

    Args:
        config: its sizes.
        phones: names of the phones that the classifier tells apart; may be empty.
    """

    def __init__(self, config: HubertConfig, phones: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.config, self.phones = config, phones
        self.log_mel = LogMel(config.sample_rate, config.hop_length // 2, config.bands)
        self.embed = nn.Linear(2 * config.bands, config.dim)
        self.mask_vector = nn.Parameter(torch.randn(config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.phone_head = nn.Linear(config.dim, len(phones))

    def spectra(self, waveform: Tensor, valid: Tensor | None = None) -> Tensor:
        """Log-mel spectra of ``(B, S)``, two a frame, each band with mean 0 and variance 1 over its row.

        Args:
            waveform: ``(B, S)``.
            valid: bool ``(B, T)``, false where a row is padding, which the mean and variance leave out.

        Returns:
            ``(B, T, 2 * bands)``, float32.
        """
        frames = -(-waveform.shape[1] // self.config.hop_length)
        waveform = nn.functional.pad(waveform, (0, frames * self.config.hop_length - waveform.shape[1]))
        mel = self.log_mel(waveform)
        counted = mel.new_ones(mel.shape[:2]) if valid is None else valid.repeat_interleave(2, 1).float()
        share = (counted / counted.sum(1, keepdim=True).clamp_min(1))[..., None]
        mean = (mel * share).sum(1, keepdim=True)
        deviation = ((mel - mean).square() * share).sum(1, keepdim=True).sqrt()
        mel = (mel - mean) / (deviation + 0.1)
        return mel.reshape(len(mel), frames, 2 * self.config.bands)

    def forward(self, spectra: Tensor, valid: Tensor, masked: Tensor | None = None) -> list[Tensor]:
        """Output of every block, ``(B, T, D)`` each, the last one normalised.

        Args:
            spectra: of :meth:`spectra`, ``(B, T, 2 * bands)``.
            valid: bool ``(B, T)``, false where a row is padding.
            masked: bool ``(B, T)``, true where the frame is hidden from the network.
        """
        x = self.embed(spectra)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_vector.to(x.dtype), x)
        layers = []
        for block in self.blocks:
            x = block(x, valid)
            layers.append(x)
        layers[-1] = self.norm(x)
        return layers

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        description = {"teacher": dataclasses.asdict(self.config), "phones": self.phones}
        tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with replacing(directory / WEIGHTS_NAME) as weights:
            weights.write_bytes(safetensors.torch.save(tensors))
            with replacing(directory / CONFIG_NAME) as config:
                config.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def hash_weights(module: nn.Module) -> str:
    """Short hash of the names and values of a module's weights, the same on every device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def load_hubert(directory: str | os.PathLike[str]) -> Hubert:
    """Load what :meth:`Hubert.save` wrote, in evaluation mode.

    Raises:
        MissingFileError: the directory or one of its files is missing.
        ConfigError: the config does not describe such a network.
        CheckpointError: the description or the weights are damaged, or do not belong together.
    """
    config_path, weights_path = Path(directory) / CONFIG_NAME, Path(directory) / WEIGHTS_NAME
    for path in (config_path, weights_path):
        if not path.is_file():
            raise MissingFileError(
                f"there is no file {path}; a teacher needs {CONFIG_NAME} and {WEIGHTS_NAME}: "
                "make one with training/pretrain_teacher.py"
            )
    try:
        description: Any = json.loads(config_path.read_text(encoding="utf-8"))
        values, phones = description["teacher"], tuple(map(str, description["phones"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config_path} is no teacher's description ({error!r}); export it again") from error
    network = Hubert(from_mapping(HubertConfig, values, "teacher"), phones)
    try:
        network.load_state_dict(safetensors.torch.load_file(weights_path))
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{weights_path} does not fit {config_path} ({error}); export both again") from error
    return network.eval().requires_grad_(False)
